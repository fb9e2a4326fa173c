"""The arcs of RNN-T (Graves, 2012): blank, and the next label."""

from __future__ import annotations

from asr.arcs.base import NEXT_LABEL, Arc, ArcSet, Softmax
from asr.nodes.base import Topology


def standard_arcs(topology: Topology = "regular", vocab_size: int | None = None) -> ArcSet:
    """blank (1,0); label (0,1), or (1,1) where a label takes its frame; both of one softmax over the outputs.

    vocab_size: V, the joiner's outputs; None: as many as it has.
    """
    takes_frame = int(topology != "regular")
    arcs = Arc(1, 0, (0,)), Arc(takes_frame, 1, (1,))
    return ArcSet("standard", topology, (Softmax((0, NEXT_LABEL), end=vocab_size),), arcs, vocab_size)
