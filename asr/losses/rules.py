"""The rules of a loss's arcs, from its options."""

from __future__ import annotations

import math
from dataclasses import replace

from asr.arcs.make import make_arcs
from asr.arcs.rules import ArcRules
from asr.arcs.standard import standard_arcs
from asr.config import LossOptions
from asr.errors import InputError
from asr.nodes.base import Topology


def make_rules(options: LossOptions, vocab_size: int) -> ArcRules:
    """The rules of a loss, as they are outside of training."""
    topology: Topology = options.topology  # type: ignore[assignment]
    arcs = make_arcs(options.arcs, topology, vocab_size)
    edges = math.inf if options.edges is None else options.edges
    backend = getattr(options, "backend", "reference")
    return ArcRules(arcs, options.fastemit, options.delay_penalty, edges=edges, backend=backend)


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
