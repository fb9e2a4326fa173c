"""From the times of words, in seconds, to the frame of each label."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import accumulate, pairwise

from lhotse.cut import Cut, MixedCut
from lhotse.supervision import AlignmentItem, SupervisionSegment

from asr.data.scripts import units_of_text
from asr.frames import UNALIGNED, FrameTiming

WORD_START = "\u2581"  # the piece that begins a word begins with it
VARIANT = re.compile(r"\(\d+\)$")  # "read(2)": a dictionary's second pronunciation
BETWEEN = -2  # in place of a piece where none is said


def token_frames(cut: Cut, pieces: Sequence[str], timing: FrameTiming) -> list[int]:
    """The frame, after subsampling, in which each piece of the cut's transcript ends; UNALIGNED where unknown.

    A word's time is split evenly over its pieces; a word is here and in what follows what `units_of_text` calls a unit.
    The times are the "word" alignment of the cut's supervisions,
    in seconds from the start of the cut, and follow its speed perturbation. All pieces are unknown where an
    utterance has no alignment, or one of another number of words. A word that ends after the utterance has frames
    beyond its last.
    """
    spans = piece_spans(cut, pieces)
    if spans is None:
        return [UNALIGNED] * len(pieces)
    return [max(timing.at(end), 0) for _, end in spans]


def piece_of_frames(cut: Cut, pieces: Sequence[str], timing: FrameTiming, frames: int) -> list[int]:
    """Which of the pieces is said in the middle of each of the first `frames` frames after subsampling.

    Times as in `token_frames`. BETWEEN where none is; UNALIGNED everywhere where they are unknown.
    """
    spans = piece_spans(cut, pieces)
    if spans is None:
        return [UNALIGNED] * frames
    said = [BETWEEN] * frames
    for place, span in enumerate(spans):
        begin, end = (min(max(timing.at(time + timing.shift / 2), 0), frames) for time in span)
        said[begin:end] = [place] * (end - begin)
    return said


def piece_spans(cut: Cut, pieces: Sequence[str]) -> list[tuple[float, float]] | None:
    """Begin and end of each piece of the cut's transcript, seconds; None where they are unknown."""
    words = aligned_words(cut)
    counts = [len(places) for places in words_of_pieces(pieces)]
    if not words or len(words) != len(counts) or sum(counts) != len(pieces):
        return None
    return [span for word, count in zip(words, counts) for span in pairwise([word.start, *split_evenly(word, count)])]


def split_evenly(word: AlignmentItem, count: int) -> list[float]:
    """Where each of the `count` pieces of a word ends, seconds."""
    return [word.start + word.duration * (n + 1) / count for n in range(count)]


def in_units(word: AlignmentItem) -> list[AlignmentItem]:
    """A word as it is; of a script without blanks its characters, each with an equal share of its time."""
    units = units_of_text(str(word.symbol))
    if len(units) < 2:
        return [word]
    duration = word.duration / len(units)
    return [
        word._replace(symbol=unit, start=round(word.start + n * duration, 8), duration=round(duration, 8))
        for n, unit in enumerate(units)
    ]


def aligned_words(cut: Cut) -> list[AlignmentItem]:
    """The word alignments of all supervisions of a cut, in order of time, without silences (items of no symbol).

    Of scripts without blanks each character is a word, also where the alignment has longer ones.

    Lhotse moves a supervision that is padded, joined or mixed, but not the items of its alignment: a track's items
    count from the track's beginning.
    """
    placed = [(supervision, offset) for part, offset in audible_parts(cut) for supervision in part.supervisions]
    return [
        unit.with_offset(offset) if offset else unit
        for supervision, offset in sorted(placed, key=lambda pair: pair[0].start + pair[1])
        for item in (supervision.alignment or {}).get("word", [])
        if item.symbol and not str(item.symbol).isspace()
        for unit in in_units(item)
    ]


def audible_parts(cut: Cut) -> list[tuple[Cut, float]]:
    """The cuts that a cut is made of and where each begins, seconds; as in Lhotse, not muted ones, unless all are."""
    if not isinstance(cut, MixedCut):
        return [(cut, 0.0)]
    return [(track.cut, track.offset) for track in [t for t in cut.tracks if not t.mute] or cut.tracks]


def in_order(cut: Cut) -> list[SupervisionSegment]:
    """The supervisions of a cut in order of time."""
    return sorted(cut.supervisions, key=lambda supervision: supervision.start)


def words_of_pieces(pieces: Sequence[str]) -> list[list[int]]:
    """The places of the pieces that end in each word. A mark of a word's start that no letter follows is no word.

    A piece may spell several characters of a script without blanks: it belongs to the last, the others have none.
    """
    groups: list[list[int]] = []
    for place, piece in enumerate(pieces):
        if piece.startswith(WORD_START) or not groups:
            groups.append([])
        groups[-1].append(place)
    return [unit for group in groups for unit in _by_unit(group, pieces)]


def _by_unit(group: Sequence[int], pieces: Sequence[str]) -> list[list[int]]:
    """The places of the pieces between two blanks, by the units in which these end."""
    ends = list(accumulate(len(pieces[place].lstrip(WORD_START)) for place in group))
    if not ends[-1]:
        return []
    if ends[0] == 0:
        ends[0] = ends[1]  # a lone mark goes with what it marks
    word = "".join(pieces[place] for place in group).lstrip(WORD_START)
    bounds = [0, *accumulate(map(len, units_of_text(word)))]
    return [[place for place, end in zip(group, ends) if first < end <= last] for first, last in pairwise(bounds)]


def word_places(pieces: Sequence[str], text: str) -> list[list[int]] | None:
    """The places of the pieces that end in each word, as `words_of_pieces`; None where they do not spell `text`."""
    spelt = "".join(pieces).replace(WORD_START, " ").split()
    return words_of_pieces(pieces) if spelt == text.split() else None
