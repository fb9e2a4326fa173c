"""The arcs of HAT, the hybrid autoregressive transducer (Variani et al., ICASSP 2020): blank is a choice of its own."""

from __future__ import annotations

from asr.arcs.base import NEXT_LABEL, Arc, ArcSet, Sigmoid, Softmax
from asr.nodes.base import Topology


def hat_arcs(topology: Topology, vocab_size: int | None = None) -> ArcSet:
    """Those of `standard_arcs`: blank of σ(z_0); label of 1 − σ(z_0) and then a softmax over the labels alone."""
    arcs = Arc(1, 0, (0,)), Arc(int(topology != "regular"), 1, (1, 2))
    return ArcSet("hat", topology, (Sigmoid(0), Softmax((NEXT_LABEL,), 1, vocab_size, given=1)), arcs, vocab_size)
