"""A model and the objective it is trained on, as one module: batch in, loss out."""

from __future__ import annotations

from torch import nn

from asr.data.batch import Batch
from asr.losses.base import LossOutput
from asr.losses.objective import Objective
from asr.models.transducer import Transducer


class Task(nn.Module):
    """One forward call from batch to loss, which is what a data-parallel wrapper needs."""

    def __init__(self, model: Transducer, objective: Objective) -> None:
        super().__init__()
        self.model = model
        self.objective = objective

    def forward(self, batch: Batch) -> LossOutput:
        """Loss of every utterance of the batch, in nats."""
        encoded, frames, predicted = self.model(batch.features, batch.feature_frames, batch.labels)
        return self.objective(
            self.model.joiner, encoded, frames, predicted, batch.labels, batch.label_lengths, batch.alignment
        )
