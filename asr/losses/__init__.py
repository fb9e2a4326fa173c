"""Transducer losses by name. Needs torch (and numba on a CPU), but neither Hydra nor Lhotse."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from asr import config
from asr.arcs.make import arc_options
from asr.config.loss import LossOptions, load_installed
from asr.errors import InputError
from asr.losses.ar import ArLoss
from asr.losses.base import LossOutput, LossSizes, TransducerLoss
from asr.losses.full import FullLoss
from asr.losses.optimized import OptimizedLoss
from asr.losses.pruned import make_pruned
from asr.options import check_values, make_options

__all__ = ["LossOptions", "LossOutput", "LossSizes", "TransducerLoss", "make", "register"]

Maker = Callable[[LossSizes, Any], TransducerLoss]
LOSSES: dict[str, Maker] = {"full": FullLoss, "optimized": OptimizedLoss, "ar": ArLoss, "pruned": make_pruned}


def make(
    name: str,
    *,
    vocab_size: int,
    encoder_dim: int | None = None,
    predictor_dim: int | None = None,
    arcs: str | Mapping[str, Any] = "standard",
    **options: Any,
) -> TransducerLoss:
    """The loss called `name`, with the options of `conf/loss/<name>.yaml`.

    vocab_size: V; encoder_dim, predictor_dim: widths of the rows that the joiner is given, which a loss with parameters
    of its own, as `pruned`, must know. arcs: the name of a set of arcs, or its options, as
    {"name": "tdt", "durations": [0, 1, 2]}; see `conf/loss/arcs`.
    Raises InputError for an unknown name or option, a value out of range, or widths that are missing.
    """
    load_installed()
    chosen = make_options("loss", name, config.LOSSES, {**options, "arcs": arc_options(arcs)})
    check_values(chosen, "loss.")
    return LOSSES[name](LossSizes(vocab_size, encoder_dim, predictor_dim), chosen)


def register(name: str, maker: Maker, options: type[LossOptions]) -> None:
    """Make a loss known as `loss=NAME` of every command and as `make(NAME, …)`.

    maker: usually a subclass of `TransducerLoss`. options: a dataclass that extends LossOptions, whose `name` is NAME.
    A package whose losses the commands are to find names the module that calls this as an entry point "asr.losses".
    Raises InputError where the name is another loss's.
    """
    if LOSSES.get(name, maker) is not maker:
        raise InputError(f"there is a loss called {name} already: give yours another name")
    if options().name != name:
        raise InputError(f"options of loss {name}: their name is {options().name!r}; give it {name!r} for a default")
    LOSSES[name], config.LOSSES[name] = maker, options
