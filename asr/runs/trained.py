"""Trained models from run directories, for every command that needs one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from asr.config import TrainConfig
from asr.config.schema import from_yaml
from asr.data.tokenizer import Tokenizer, load_tokenizer
from asr.errors import InputError
from asr.models.transducer import Transducer
from asr.runs import state
from asr.runs.directory import RunDirectory

EMA = "ema"  # the moving average of the weights, at the last checkpoint


@dataclass
class Trained:
    """A model ready to decode with, its tokenizer, its configuration, and which checkpoint it is."""

    model: Transducer
    tokenizer: Tokenizer
    config: TrainConfig
    checkpoint: str


def load_config(run: RunDirectory) -> TrainConfig:
    """The config of a run. Raises InputError where the directory is none."""
    if not run.config.is_file():
        raise InputError(f"run={run.path}: no config.yaml there, so it is not a run directory of `asr train`")
    config = from_yaml(run.config.read_text(), "train")
    assert isinstance(config, TrainConfig)
    return config


def checkpoint_names(path: str, checkpoint: str) -> list[str]:
    """The names of the checkpoints of a run that `checkpoint` stands for."""
    run = RunDirectory(Path(path))
    names = [chosen.name for chosen in select(run.checkpoints, checkpoint, load_config(run).train.average_last)]
    return [f"ema of {name}" for name in names] if checkpoint == EMA else names


def checkpoint_digest(path: str, checkpoint: str) -> str:
    """Tells the weights of these checkpoints from others of the same names, of a run that was trained again."""
    run = RunDirectory(Path(path))
    chosen = select(run.checkpoints, checkpoint, load_config(run).train.average_last)
    return hashlib.sha256(b"".join((one / state.SUMS).read_bytes() for one in chosen)).hexdigest()


def load_trained(path: str, checkpoint: str, device: torch.device) -> Trained:
    """The model of a run. `checkpoint` is best, last, average (of the last ones), ema (the moving average that was
    made in training) or a checkpoint's name.

    Raises InputError where the directory is no run, or the checkpoint is missing or damaged.
    """
    run = RunDirectory(Path(path))
    config = load_config(run)
    tokenizer = load_tokenizer(run.tokenizer)
    if checkpoint == EMA and not config.train.ema:
        raise InputError(f"checkpoint=ema: {path} was trained without a moving average; train with train.ema=0.999")
    paths = select(run.checkpoints, checkpoint, config.train.average_last)
    weights = [load_weights(chosen, checkpoint) for chosen in paths]
    model = Transducer(config.model, tokenizer.vocab_size, config.loss.arcs.extra_outputs)
    model.load_state_dict(state.average(weights))
    return Trained(model.to(device).eval(), tokenizer, config, " + ".join(checkpoint_names(path, checkpoint)))


def load_weights(path: Path, checkpoint: str) -> dict[str, Tensor]:
    """The model's weights in the checkpoint at `path`, or their moving average."""
    if checkpoint == EMA:
        return state.load(path, ["ema"]).parts["ema"]["weights"]
    return state.load(path, ["model"]).parts["model"]


def select(directory: Path, checkpoint: str, average_last: int) -> list[Path]:
    """The checkpoints that `checkpoint` names; several are to be averaged."""
    found = state.checkpoints(directory) or state.resumable(directory)
    if not found:
        raise InputError(f"{directory}: no checkpoint yet; train longer, or lower train.save_every")
    if checkpoint in ("last", EMA):
        return found[-1:]
    if checkpoint == "average":
        return found[-average_last:]
    if checkpoint == "best":
        return [state.best(directory) or found[-1]]
    if directory / checkpoint in found:
        return [directory / checkpoint]
    raise InputError(
        f"checkpoint={checkpoint}: not in {directory}; choose best, last, average, ema or one of "
        f"{', '.join(p.name for p in found)}"
    )
