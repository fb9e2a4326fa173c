"""The arcs of token-and-duration transducers (Xu et al., ICML 2023, arXiv 2304.06795): all say how far they lead."""

from __future__ import annotations

from collections.abc import Sequence

from asr.arcs.base import BLANK, LABEL, NEXT_LABEL, Arc, ArcSet, Softmax
from asr.errors import InputError
from asr.nodes.base import Topology


def tdt_arcs(topology: Topology, vocab_size: int, durations: Sequence[int]) -> ArcSet:
    """blank (d,0), d ≥ 1, and label (d,1): a token, by a softmax over V outputs; a duration d, by one over the rest.

    topology: `modified` takes duration 0 from labels, too, so that a frame emits at most one. durations: d of each
    output after the first V. Raises InputError for durations or a topology with which this is not a TDT.
    """
    check_durations(durations)
    if topology == "constrained":
        raise InputError("loss.topology=constrained: a label of arcs=tdt has its own duration; use topology=modified")
    at_least = 0 if topology == "regular" and 0 in durations else 1
    choice_of = {frames: 2 + i for i, frames in enumerate(durations)}
    shortest_first = sorted(durations)
    blanks = [Arc(frames, 0, (BLANK, choice_of[frames])) for frames in shortest_first if frames >= 1]
    labels = [Arc(frames, 1, (LABEL, choice_of[frames])) for frames in shortest_first if frames >= at_least]
    outputs = vocab_size + len(durations)
    heads = Softmax((0, NEXT_LABEL), end=vocab_size), Softmax(tuple(range(len(durations))), vocab_size, outputs)
    arcs = (blanks[0], labels[0], *blanks[1:], *labels[1:])
    return ArcSet("tdt", "modified" if at_least else "regular", heads, arcs, outputs)


def check_durations(durations: Sequence[int]) -> None:
    """Raise InputError where a duration is negative or twice there, or 1 is not: then some T no path adds up to."""
    shown = f"loss.arcs.durations={list(durations)}"
    if min(durations, default=0) < 0 or len(set(durations)) < len(durations):
        raise InputError(f"{shown}: give each number of frames once, and none that is negative")
    if 1 not in durations:
        raise InputError(f"{shown}: 1 must be among them, or there are utterances that no path fits")
