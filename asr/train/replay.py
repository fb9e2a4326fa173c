"""A batch of which no step could be taken, computed again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from asr.config import TrainConfig
from asr.data.augment import seed_torch
from asr.data.loader import shortened
from asr.data.tokenizer import load_tokenizer
from asr.device import choose_device, reproducible
from asr.errors import InputError
from asr.losses.base import NotFiniteError
from asr.runs.directory import RunDirectory
from asr.train.bad import Kept, read
from asr.train.parts import choose_trained
from asr.train.resume import find_checkpoint
from asr.train.task import Task, make_task


def replay(config: TrainConfig) -> None:
    """Compute the loss and gradient of a kept batch with the weights of the run's newest checkpoint; print what is not
    finite. Raises InputError where there is no such batch or checkpoint."""
    run, kept, device = RunDirectory(Path(config.run)), read(Path(config.replay)), choose_device(config.train.device)
    checkpoint = find_checkpoint(run, [])
    if checkpoint is None:
        raise InputError(f"{run.path}: has no checkpoint to compute {config.replay} with")
    with reproducible(device):  # as in the step that was not taken
        task = make_task(config, load_tokenizer(run.tokenizer).vocab_size).to(device)
        choose_trained(task, config.train)
        for name in ("model", "objective"):
            getattr(task, name).load_state_dict(checkpoint.parts[name])
        batch = kept.batch.to(device)
        print(f"{shortened(batch.ids)}: step {kept.step} was not taken: {kept.fault}")
        print(f"with the weights of step {checkpoint.step}:")
        for line in findings(task.train(), replace(kept, batch=batch), config):
            print(f"  {line}")


def findings(task: Task, kept: Kept, config: TrainConfig) -> Iterator[str]:
    """The loss of each utterance by itself, and the gradient of all of them, or where it is not finite."""
    for row, name in enumerate(kept.batch.ids):
        yield f"{name}: {loss_in_words(task, replace(kept, batch=kept.batch.select([row])), config)}"
    task.zero_grad()
    yield f"all of them: {loss_in_words(task, kept, config)}"
    gradients = {name: value.grad for name, value in task.named_parameters() if value.grad is not None}
    if not gradients:
        return
    bad = [name for name, gradient in gradients.items() if not torch.isfinite(gradient).all()]
    norm = torch.stack([gradient.norm() for gradient in gradients.values()]).norm()
    yield f"gradient not finite in {shortened(bad)}" if bad else f"gradient norm {float(norm):.3f}"


def loss_in_words(task: Task, kept: Kept, config: TrainConfig) -> str:
    """The loss per label of a batch, whose gradient is added; or why there is none."""
    seed_torch("step", config.train.seed, kept.number)
    batch, half = kept.batch, config.train.precision == "bfloat16"
    if not torch.isfinite(batch.features).all():
        return "its features are not finite"
    try:
        with torch.autocast(batch.features.device.type, torch.bfloat16, enabled=half):
            losses = task(batch).per_utterance
    except NotFiniteError as error:
        return str(error)
    loss = losses.sum() / max(int(batch.label_lengths.sum()), 1)
    loss.backward()
    return f"loss {float(loss):.3f} per label"
