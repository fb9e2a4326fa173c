"""A model and the objective it is trained on, as one module: batch in, loss out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from asr.data.batch import Batch
from asr.losses.base import LossOutput, NotFiniteError
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


class Share(nn.Module):
    """What one process adds to a step. Whatever its batch is, every parameter gets a gradient: others wait for it."""

    def __init__(self, task: nn.Module) -> None:
        super().__init__()
        self.task = task

    def forward(self, batch: Batch) -> tuple[LossOutput, str]:
        """The loss of the batch, and what is wrong with it; a loss of no utterance where something is.

        A batch of which nothing could be read adds nothing, and is not wrong.
        """
        fault = ""
        if len(batch):
            try:
                return self.task(batch), fault
            except NotFiniteError as error:
                fault = f"{batch.ids[error.utterance]}: {error}"
        return LossOutput(self.nothing()), fault

    def nothing(self) -> Tensor:
        """Losses (0,) that all parameters have a part in."""
        return torch.stack([p.flatten()[:1].sum() for p in self.parameters() if p.requires_grad]).sum().expand(0)
