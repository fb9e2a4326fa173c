"""Where a recording is cut: at its pauses, into pieces like the utterances that a model was trained on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from lhotse.cut import Cut

BLOCK_SECONDS = 0.1  # in which loudness is measured
QUIET_BLOCKS = 3  # over which it is averaged, to find a pause rather than a stop consonant

# What is quiet: next to the faintest of 20 s around, and well below their speech. Without such a contrast, as under
# music, nothing is.
LEVEL_BLOCKS = 200
SPEECH_QUANTILE = 0.95  # of the blocks, so that a door that slams is not taken for it
ABOVE_FLOOR = 4.0
BELOW_SPEECH = 0.1
LEAST_FLOOR = 1e-5  # of speech: pauses of recordings that were edited are digital silence

PAUSE_BLOCKS = 5  # at which a recording is cut: utterances seldom have longer ones inside
GAP_BLOCKS = 2  # at which it may be cut where no pause is in reach: the stop of a consonant is shorter
JOINED_BLOCKS = 10  # over which what is too short may be joined to its neighbour
KEPT_SECONDS = 0.2  # of a pause on either side of speech: models take a longer silence for a word or two

Span = tuple[int, int]  # blocks: the first, and the one after the last


@dataclass(frozen=True)
class Lengths:
    """How long pieces are to be, seconds; shorter ones are left where nothing is near."""

    shortest: float
    longest: float

    def within(self, longest: float) -> Lengths:
        """The same, with none longer than this."""
        return Lengths(min(self.shortest, longest / 4), min(self.longest, longest))


ANY = Lengths(1.0, 30.0)  # where nobody knows what a model was trained on


def cut_at_pauses(cut: Cut, loudness_N: np.ndarray, lengths: Lengths) -> list[tuple[float, Cut]]:
    """A cut in pieces, and where in it (seconds) each begins; all of it if it is no longer than the longest may be.

    loudness_N: of each 0.1 s. The pieces bear its id and a number. What lies between them is silence.
    """
    if cut.duration <= lengths.longest:
        return [(0.0, cut)]
    return [
        (begin, cut.truncate(offset=begin, duration=round(end - begin, 3)).with_id(f"{cut.id}#{n}"))
        for n, (begin, end) in enumerate(pieces(loudness_N, cut.duration, lengths))
    ]


def quiet_times(loudness_N: np.ndarray, longest: float) -> list[float]:
    """Times (seconds) to cut at so that no part is longer than this, and nothing is left out."""
    smooth_N = smooth(loudness_N)
    quiet_N = loudness_N < quiet_levels(loudness_N, smooth_N)
    most = int(longest / BLOCK_SECONDS + 1e-6) - 1  # a rest of less than a block may follow
    cuts = divide(smooth_N, quiet_N, 0, len(loudness_N), most // 2, most)
    return [round(cut * BLOCK_SECONDS, 3) for cut in cuts]


def pieces(loudness_N: np.ndarray, duration: float, lengths: Lengths) -> list[tuple[float, float]]:
    """Beginnings and ends (seconds) of stretches of speech with some of the pauses around them, none too long."""
    smooth_N = smooth(loudness_N)
    quiet_N = loudness_N < quiet_levels(loudness_N, smooth_N)
    kept = 2 * KEPT_SECONDS if lengths.longest > 4 * KEPT_SECONDS else 0.0
    most = int((lengths.longest - kept) / BLOCK_SECONDS + 1e-6) - 1  # a rest of less than a block may follow
    least = min(int(lengths.shortest / BLOCK_SECONDS), most // 2)
    found = []
    for begin, end in join_short(speech(quiet_N), least, most):
        bounds = [begin, *divide(smooth_N, quiet_N, begin, end, least, most), end]
        found += [(a * BLOCK_SECONDS, b * BLOCK_SECONDS) for a, b in pairwise(bounds)]
    return widened(found, len(loudness_N) * BLOCK_SECONDS, duration, kept / 2)


def quiet_levels(loudness_N: np.ndarray, smooth_N: np.ndarray) -> np.ndarray:
    """The loudness (N,) under which a block is quiet, from the floor and the speech of what is around; 0 in noise."""
    size = round(1 / BLOCK_SECONDS)  # they are found once a second
    speech_M = np.quantile(around(loudness_N, size), SPEECH_QUANTILE, axis=1)
    floor_M = around(smooth_N, size).min(axis=1)
    levels_M = ABOVE_FLOOR * np.maximum(floor_M, LEAST_FLOOR * speech_M)
    return np.repeat(np.where(levels_M < BELOW_SPEECH * speech_M, levels_M, 0.0), size)[: len(loudness_N)]


def around(loudness_N: np.ndarray, step: int) -> np.ndarray:
    """The blocks (M,200) around every `step`-th of (N,)."""
    padded = np.pad(loudness_N, (LEVEL_BLOCKS // 2, LEVEL_BLOCKS // 2 + step), mode="edge")
    return np.lib.stride_tricks.sliding_window_view(padded, LEVEL_BLOCKS)[::step]


def smooth(loudness_N: np.ndarray) -> np.ndarray:
    """Loudness (N,), averaged over neighbours."""
    return np.convolve(loudness_N, np.ones(QUIET_BLOCKS) / QUIET_BLOCKS, mode="same")


def runs(quiet_N: np.ndarray, least: int) -> list[Span]:
    """Where at least so many blocks in a row are quiet."""
    changes = np.flatnonzero(np.diff(quiet_N.astype(np.int8), prepend=0, append=0))
    return [(begin, end) for begin, end in changes.reshape(-1, 2).tolist() if end - begin >= least]


def speech(quiet_N: np.ndarray) -> list[Span]:
    """What lies between pauses; all of it where that is nothing."""
    edges = [0, *(edge for pause in runs(quiet_N, PAUSE_BLOCKS) for edge in pause), len(quiet_N)]
    spans = [(begin, end) for begin, end in zip(edges[::2], edges[1::2]) if begin < end]
    return spans or [(0, len(quiet_N))]


def join_short(spans: list[Span], least: int, most: int) -> Iterator[Span]:
    """Join those shorter than `least` to a neighbour that is near, where both have no more than `most` blocks."""
    begin, end = spans[0]
    for following, stop in spans[1:]:
        near = following - end < JOINED_BLOCKS and stop - begin <= most
        if near and min(end - begin, stop - following) < least:
            end = stop
        else:
            yield begin, end
            begin, end = following, stop
    yield begin, end


def divide(smooth_N: np.ndarray, quiet_N: np.ndarray, begin: int, end: int, least: int, most: int) -> Iterator[int]:
    """Where to cut what has more than `most` blocks: at the longest gap in reach, or else where it is quietest."""
    while end - begin > most:
        gaps = [(a + begin, b + begin) for a, b in runs(quiet_N[begin : begin + most], GAP_BLOCKS)]
        inside = [(b - a, (a + b) // 2) for a, b in gaps if (a + b) // 2 >= begin + max(least, 1)]
        earliest = begin + max(most // 2, 1)
        begin = max(inside)[1] if inside else earliest + int(smooth_N[earliest : begin + most].argmin())
        yield begin


def widened(spans: list[tuple[float, float]], heard: float, duration: float, kept: float) -> list[tuple[float, float]]:
    """Spans (seconds) with `kept` more on either side, or half of what is between two; the last rest belongs to them.

    heard: up to where loudness is known.
    """
    spans = [(begin, duration if end >= heard - 1e-6 else end) for begin, end in spans]
    before = [0.0, *((end + begin) / 2 for (_, end), (begin, _) in pairwise(spans))]
    after = [*before[1:], duration]
    return [
        (round(max(begin - kept, low), 3), round(min(end + kept, high), 3))
        for (begin, end), low, high in zip(spans, before, after)
    ]
