"""Transducer losses by name. Needs torch (and numba on a CPU), but neither Hydra nor Lhotse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from asr import config
from asr.arcs.make import arc_options
from asr.losses.ar import ArLoss
from asr.losses.base import LossOutput, LossSizes, TransducerLoss
from asr.losses.full import FullLoss
from asr.losses.optimized import OptimizedLoss
from asr.losses.pruned import make_pruned
from asr.options import check_values, make_options

__all__ = ["LossOutput", "TransducerLoss", "make"]

LOSSES: dict[str, Any] = {"full": FullLoss, "optimized": OptimizedLoss, "ar": ArLoss, "pruned": make_pruned}


def make(
    name: str,
    *,
    vocab_size: int,
    encoder_dim: int,
    predictor_dim: int,
    arcs: str | Mapping[str, Any] = "standard",
    **options: Any,
) -> TransducerLoss:
    """The loss called `name`, with the options of `conf/loss/<name>.yaml`.

    vocab_size: V; encoder_dim, predictor_dim: widths of the rows that the joiner is given. arcs: the name of a set of
    arcs, or its options, as {"name": "tdt", "durations": [0, 1, 2]}; see `conf/loss/arcs`.
    Raises InputError for an unknown name or option, or a value out of range.
    """
    chosen = make_options("loss", name, config.LOSSES, {**options, "arcs": arc_options(arcs)})
    check_values(chosen, "loss.")
    loss: TransducerLoss = LOSSES[name](LossSizes(vocab_size, encoder_dim, predictor_dim), chosen)
    return loss
