"""Trained models from run directories, for every command that needs one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from asr.config import TrainConfig
from asr.config.schema import from_yaml
from asr.data.tokenizer import Tokenizer, load_tokenizer, pieces_digest
from asr.errors import InputError
from asr.models.transducer import Transducer
from asr.runs import state
from asr.runs.directory import RunDirectory

EMA = "ema"  # the moving average of the weights, at the last checkpoint


@dataclass
class Trained:
    """A model ready to decode with, its tokenizer, its configuration, and which checkpoint it is.

    digest: tells its weights from others of the same names; "" where they are of no checkpoint.
    last: the checkpoint, the last one of several.
    """

    model: Transducer
    tokenizer: Tokenizer
    config: TrainConfig
    checkpoint: str
    digest: str = ""
    last: Path = Path()


def load_config(run: RunDirectory) -> TrainConfig:
    """The config of a run. Raises InputError where the directory is none."""
    if not run.config.is_file():
        raise InputError(f"run={run.path}: no config.yaml there, so it is not a run directory of `asr train`")
    config = from_yaml(run.config.read_text(), "train")
    assert isinstance(config, TrainConfig)
    return config


def checkpoint_names(paths: Iterable[Path], checkpoint: str) -> str:
    """What the checkpoints at `paths`, which `checkpoint` stands for, are called in what is printed."""
    return " + ".join(f"ema of {path.name}" if checkpoint == EMA else path.name for path in paths)


def checkpoint_digest(paths: Iterable[Path]) -> str:
    """Tells the weights of these checkpoints from others of the same names, of a run that was trained again."""
    return hashlib.sha256(b"".join((path / state.SUMS).read_bytes() for path in paths)).hexdigest()


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
    weights = [load_weights(chosen, checkpoint, tokenizer) for chosen in paths]
    model = Transducer(config.model, tokenizer.vocab_size)
    model.load_state_dict(state.average(weights))
    names, digest = checkpoint_names(paths, checkpoint), checkpoint_digest(paths)
    return Trained(model.to(device).eval(), tokenizer, config, names, digest, paths[-1])


def load_weights(path: Path, checkpoint: str, tokenizer: Tokenizer) -> dict[str, Tensor]:
    """The model's weights in the checkpoint at `path`, or their moving average.

    Raises InputError where they were trained with another tokenizer.
    """
    part = EMA if checkpoint == EMA else "model"
    loaded = state.load(path, [part])
    weights: dict[str, Tensor] = loaded.parts[part]["weights"] if checkpoint == EMA else loaded.parts[part]
    known = loaded.info.get("tokenizer", pieces_digest(tokenizer))  # older checkpoints do not tell
    size = len(weights["joiner.output.weight"])
    if known != pieces_digest(tokenizer) or size != tokenizer.vocab_size:
        differs = f"{size} pieces, it has {tokenizer.vocab_size}" if size != tokenizer.vocab_size else "other pieces"
        raise InputError(
            f"{path} was trained with another tokenizer than the run's ({differs}): put back the tokenizer directory"
        )
    return weights


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
