"""A model and the objective it is trained on, as one module: batch in, loss out."""

from __future__ import annotations

import dataclasses
import os
import shutil
from dataclasses import replace

import torch
from torch import Tensor, nn

from asr.config import TrainConfig
from asr.data.batch import Batch
from asr.errors import InputError
from asr.losses import make as make_loss
from asr.losses.base import LossOutput, NotFiniteError
from asr.losses.objective import Objective
from asr.models.transducer import Transducer
from asr.runs.trained import Trained, load_trained, objective_weights


class Task(nn.Module):
    """One forward call from batch to loss, which is what a data-parallel wrapper needs.

    at_rest: modules that compute in training as they do in decoding.
    """

    def __init__(self, model: Transducer, objective: Objective) -> None:
        super().__init__()
        self.model = model
        self.objective = objective
        self.at_rest: list[nn.Module] = []

    def train(self, mode: bool = True) -> Task:
        """See `nn.Module.train`."""
        super().train(mode)
        for module in self.at_rest:
            module.training = False
        return self

    def forward(self, batch: Batch) -> LossOutput:
        """Loss of every utterance of the batch, in nats."""
        return self.loss(batch, self.outputs(batch))

    def outputs(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """What the model makes of the batch; see `Transducer.forward`."""
        outputs: tuple[Tensor, Tensor, Tensor] = self.model(batch.features, batch.feature_frames, batch.labels)
        return outputs

    def loss(self, batch: Batch, outputs: tuple[Tensor, Tensor, Tensor]) -> LossOutput:
        """Loss of every utterance of the batch from the model's outputs, in nats."""
        targets = batch.labels, batch.label_lengths, batch.alignment, batch.views, batch.frame_labels
        out: LossOutput = self.objective(self.model.joiner, *outputs, *targets)
        return out


class Share(nn.Module):
    """What one process adds to a step. Whatever its batch is, every parameter gets a gradient: others wait for it."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task

    def forward(self, batch: Batch) -> tuple[LossOutput, str]:
        """The loss of the batch, and what is wrong with it; a loss of no utterance where something is.

        A batch of which nothing could be read adds nothing, and is not wrong.
        """
        # Once in any case: where weights are divided, the processes put each layer's together in step.
        outputs = self.task.outputs(batch if len(batch) else stand_in(batch, self.task.model.timing.window))
        fault = ""
        if len(batch):
            try:
                return self.task.loss(batch, outputs), fault
            except NotFiniteError as error:
                fault = f"{batch.ids[error.utterance]}: {error}"
        return LossOutput(self.nothing(outputs)), fault

    def nothing(self, outputs: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Losses (0,) that all parameters have a part in: those of layers through the outputs."""
        from torch.distributed.tensor import DTensor  # here, since it takes a second, and decoding does without

        encoded, _, predicted = outputs
        present = [p for p in self.parameters() if p.requires_grad and not isinstance(p, DTensor)]
        return torch.stack([values.flatten()[:1].sum() for values in (encoded, predicted, *present)]).sum().expand(0)


def stand_in(batch: Batch, frames: int) -> Batch:
    """An utterance of so many feature frames, of silence, in place of the batch, in which there is none."""
    features = batch.features.new_zeros(1, frames, batch.features.shape[2])
    lengths = batch.feature_frames.new_full((1,), frames)
    return replace(batch, features=features, feature_frames=lengths, labels=batch.labels.new_zeros(1, 0))


def make_task(config: TrainConfig, vocab_size: int) -> Task:
    """Model and objective with fresh weights."""
    width = config.model.joiner_dim
    options = dataclasses.asdict(config.loss)
    loss = make_loss(options.pop("name"), vocab_size=vocab_size, encoder_dim=width, predictor_dim=width, **options)
    model = Transducer(config.model, vocab_size, config.loss.arcs.extra_outputs)
    train = config.train
    ctc, frames = (train.ctc_weight, train.ctc_consistency), (train.frame_weight, train.frame_batches)
    objective = Objective(loss, width, vocab_size, *ctc, *frames)
    return Task(model, objective)


def compile_layers(model: Transducer) -> None:
    """Have the encoder's layers compiled when they are first called. Raises InputError without a compiler."""
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        raise InputError(
            f"train.compile=true needs a C++ compiler, and {compiler} is not installed: install it or set CXX"
        )
    model.encoder.packs = False
    for layer in model.encoder.layers:
        layer.compile(dynamic=True)  # of one code for all layers and all lengths


def load_task(path: str, checkpoint: str, device: torch.device) -> tuple[Task, Trained]:
    """Model and objective of a run, and what `load_trained` returns.

    Of several checkpoints the model is averaged, and the objective that of the last.
    """
    trained = load_trained(path, checkpoint, device)
    task = make_task(trained.config, trained.tokenizer.vocab_size)
    task.model = trained.model
    task.objective.load_state_dict(objective_weights(trained))
    return task.to(device).eval(), trained
