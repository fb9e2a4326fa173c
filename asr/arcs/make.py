"""Sets of arcs by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from asr.arcs.base import ArcSet
from asr.arcs.hat import hat_arcs
from asr.arcs.multi_blank import multi_blank_arcs
from asr.arcs.standard import standard_arcs
from asr.arcs.tdt import tdt_arcs
from asr.config import ARCS, ArcOptions, HatArcOptions, MultiBlankArcOptions, TdtArcOptions
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
