"""The arcs of a loss, from its options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from asr.arcs.base import ArcSet
from asr.arcs.hat import hat_arcs
from asr.arcs.multi_blank import multi_blank_arcs
from asr.arcs.rules import ArcRules
from asr.arcs.standard import standard_arcs
from asr.arcs.tdt import tdt_arcs
from asr.config import ARCS, ArcOptions, HatArcOptions, LossOptions, MultiBlankArcOptions, TdtArcOptions
from asr.errors import InputError
from asr.nodes.base import Topology
from asr.options import make_options


def arc_options(arcs: str | Mapping[str, Any]) -> ArcOptions:
    """The options of arcs given by name, or by name and options. Raises InputError for unknown ones."""
    given = {"name": arcs} if isinstance(arcs, str) else dict(arcs)
    chosen: ArcOptions = make_options("set of arcs", str(given.get("name")), ARCS, given)
    return chosen


def make_arcs(options: ArcOptions, topology: Topology, vocab_size: int) -> ArcSet:
    """The arcs of `options`. Raises InputError where these contradict each other or the topology."""
    if isinstance(options, TdtArcOptions):
        return tdt_arcs(topology, vocab_size, options.durations)
    if isinstance(options, MultiBlankArcOptions):
        return multi_blank_arcs(topology, vocab_size, options.big_blanks)
    if isinstance(options, HatArcOptions):
        return hat_arcs(topology, vocab_size)
    return standard_arcs(topology, vocab_size)


def make_rules(options: LossOptions, vocab_size: int) -> ArcRules:
    """The rules of a loss, as they are outside of training."""
    topology: Topology = options.topology  # type: ignore[assignment]
    arcs = make_arcs(options.arcs, topology, vocab_size)
    return ArcRules(arcs, options.fastemit, options.delay_penalty, backend=getattr(options, "backend", "reference"))


def plain_rules(rules: ArcRules, topology: str, omega: float) -> ArcRules:
    """Those of plain RNN-T on the tokens of a TDT model, whose durations it leaves alone.

    Raises InputError where a node set that suits the TDT need not have a path of plain RNN-T.
    """
    if rules.topology != topology:
        raise InputError(
            f"loss.arcs.omega={omega}: without duration 0 there may be no node where plain RNN-T emits a label within "
            f"a frame; add 0 to loss.arcs.durations, or use loss.topology={rules.topology}"
        )
    vocab_size = rules.arcs.heads[0].end  # type: ignore[attr-defined]
    plain = replace(standard_arcs(rules.topology, vocab_size), outputs=rules.arcs.outputs)
    return replace(rules, arcs=plain)
