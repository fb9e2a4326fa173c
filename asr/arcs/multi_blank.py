"""The arcs of multi-blank transducers (Xu et al., ICASSP 2023, arXiv 2211.03541): blanks that skip frames."""

from __future__ import annotations

from collections.abc import Sequence

from asr.arcs.base import NEXT_LABEL, Arc, ArcSet, Softmax
from asr.errors import InputError
from asr.nodes.base import Topology


def multi_blank_arcs(topology: Topology, vocab_size: int, big_blanks: Sequence[int]) -> ArcSet:
    """Those of `standard_arcs`, and big blanks (m,0), all of one softmax over V outputs and one for each big blank.

    big_blanks: m of each, at least 2. Raises InputError where one is less or twice there.
    """
    if min(big_blanks, default=2) < 2 or len(set(big_blanks)) < len(big_blanks):
        raise InputError(
            f"loss.arcs.big_blanks={list(big_blanks)}: give each number of frames once, and none below 2, which "
            "blank has already"
        )
    outputs = vocab_size + len(big_blanks)
    arcs = Arc(1, 0, (0,)), Arc(int(topology != "regular"), 1, (1,))
    big = tuple(Arc(frames, 0, (2 + i,)) for i, frames in enumerate(big_blanks))
    head = Softmax((0, NEXT_LABEL, *range(vocab_size, outputs)), end=outputs)
    return ArcSet("multi_blank", topology, (head,), arcs + big, outputs, (0, *range(vocab_size, outputs)))
