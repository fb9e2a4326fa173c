"""Transducer losses by name. Needs torch, but neither Hydra nor Lhotse."""

from __future__ import annotations

from typing import Any

from asr.errors import InputError
from asr.losses.base import LossOutput, TransducerLoss
from asr.losses.full import FullLoss
from asr.losses.optimized import OptimizedLoss

__all__ = ["LossOutput", "TransducerLoss", "make"]

LOSSES: dict[str, type[TransducerLoss]] = {"full": FullLoss, "optimized": OptimizedLoss}


def make(name: str, *, vocab_size: int, encoder_dim: int, predictor_dim: int, **options: Any) -> TransducerLoss:
    """The loss called `name`, with the options of `conf/loss/<name>.yaml`.

    vocab_size: V; encoder_dim, predictor_dim: widths of the rows that the joiner is given.
    Raises InputError for an unknown name or option.
    """
    if name not in LOSSES:
        raise InputError(f"no transducer loss is called {name!r}: choose one of {', '.join(LOSSES)}")
    try:
        return LOSSES[name](vocab_size, encoder_dim, predictor_dim, **options)
    except TypeError as error:
        raise InputError(f"loss {name!r}: {error}") from error
