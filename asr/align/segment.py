"""Recordings that are not cut: into utterances, at the pauses between words whose times are known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from lhotse.cut import Cut, MonoCut, MultiCut
from lhotse.supervision import AlignmentItem, SupervisionSegment
from lhotse.utils import fastcopy

from asr.data.batch import Skipped
from asr.data.scripts import joined, units_of_text
from asr.data.words import in_order, in_units

EDGE_SECONDS = 0.2  # of what surrounds its words, at most, that an utterance keeps on each side


def segment(cut: Cut, max_seconds: float, min_pause: float) -> Iterator[Cut | Skipped]:
    """The utterances of a cut, in order, each with the times of its words; and the stretches that make none, with why.

    None is longer than `max_seconds`, and none begins or ends but in a pause of at least `min_pause` seconds, or where
    a supervision does.
    """
    if not isinstance(cut, (MonoCut, MultiCut)):
        yield Skipped(cut.id, f"a {type(cut).__name__}; segment before cuts are mixed or joined")
        return
    number = 0
    for supervision in in_order(cut):
        words = [unit for word in (supervision.alignment or {}).get("word", []) for unit in in_units(word)]
        if [word.symbol for word in words] != units_of_text(supervision.text or ""):
            yield Skipped(supervision.id, "no times of its words, or of others: see `asr align` and `asr attach`")
            continue
        for part, (begin, end) in bounded(split(words, max_seconds, min_pause), cut.duration):
            if end - begin > max_seconds:
                what = f"{end - begin:.1f} s without a pause of {min_pause:g} s"
                yield Skipped(f"{supervision.id}, {begin:.1f} to {end:.1f} s", what)
                continue
            number += 1
            yield utterance(cut, supervision, f"{cut.id}-{number:04d}", part, begin, end)


def split(words: Sequence[AlignmentItem], max_seconds: float, min_pause: float) -> Iterator[Sequence[AlignmentItem]]:
    """Words in parts of at most `max_seconds` with their edges, as far as pauses of `min_pause` allow: where a part is
    longer, it is cut in its longest pause."""
    waiting = [words] if words else []
    while waiting:
        part = waiting.pop()
        pauses = [after.start - before.end for before, after in pairwise(part)]
        long = part[-1].end - part[0].start + 2 * EDGE_SECONDS > max_seconds
        if not long or max(pauses, default=0.0) < min_pause:
            yield part
            continue
        at = pauses.index(max(pauses)) + 1
        waiting += [part[at:], part[:at]]


def bounded(
    parts: Iterator[Sequence[AlignmentItem]], duration: float
) -> Iterator[tuple[Sequence[AlignmentItem], tuple[float, float]]]:
    """Parts with their beginning and end, seconds: half of the pause to the neighbour, but no more than an edge."""
    found = list(parts)
    before = [0.0, *((one[-1].end + after[0].start) / 2 for one, after in pairwise(found))]
    after = [*before[1:], duration]
    for part, earliest, latest in zip(found, before, after):
        begin, end = max(part[0].start - EDGE_SECONDS, earliest), min(part[-1].end + EDGE_SECONDS, latest)
        yield part, (round(begin, 3), round(end, 3))


def utterance(
    cut: MonoCut | MultiCut,
    supervision: SupervisionSegment,
    name: str,
    words: Sequence[AlignmentItem],
    begin: float,
    end: float,
) -> Cut:
    """What is said from `begin` to `end` of a cut, under a name of its own."""
    said = fastcopy(
        supervision,
        id=name,
        start=0.0,
        duration=round(end - begin, 8),
        text=joined([word.symbol for word in words]),
        alignment={"word": [word.with_offset(-begin) for word in words]},
    )
    piece = cut.drop_supervisions().drop_alignments().truncate(offset=begin, duration=end - begin)
    return fastcopy(piece.with_id(name), supervisions=[said])
