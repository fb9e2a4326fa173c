"""When words were said, from when a model emitted their pieces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lhotse.supervision import AlignmentItem

from asr.data.scripts import units_of_text
from asr.data.words import WORD_START, in_units, word_places, words_of_pieces
from asr.score.wer import Utterance

# Where a model emits within a word, against the boundaries of an HMM aligner: medians over AN4's dev set. The last is
# the longest of a few that were tried there which did not make the boundaries worse.
BEFORE_SECONDS = 0.1  # from a word's beginning to its first letter
AFTER_SECONDS = 0.2  # from its last letter to its end
LEAST_SECONDS = 0.02  # of a word
PAUSE_SECONDS = 0.4  # a shorter gap between two words is no pause, but belongs to the first


def word_times(
    words: Sequence[str],
    pieces: Sequence[str],
    spans: Sequence[tuple[float, float]],
    duration: float,
    confidences: Sequence[float] = (),
) -> list[AlignmentItem]:
    """Times of words from the spans (seconds, first and last) in which their pieces were emitted.

    words: as `units_of_text` divides what the pieces spell. Characters that one piece spells share its time evenly. A
    word is as sure as the least sure of its pieces.

    A model emits a label somewhere inside its sound, so words begin a little before their first letter and end a
    little after their last, as far as their neighbours leave room. A lone mark of a word's start is no letter.
    """
    spelt = list(spelt_together(words, words_of_pieces(pieces)))
    letters = [[place for place in group if pieces[place] != WORD_START] for _, group in spelt]
    emitted = [(spans[group[0]][0], spans[group[-1]][1]) for group in letters]
    sure = [min(confidences[place] for place in group) if confidences else None for _, group in spelt]
    items = times_around([text for text, _ in spelt], emitted, duration)
    return [word for item, score in zip(items, sure) for word in in_units(item._replace(score=score))]


def spelt_together(words: Sequence[str], places: Sequence[Sequence[int]]) -> Iterator[tuple[str, Sequence[int]]]:
    """Words with the places of their pieces; those that share a piece as one."""
    text = ""
    for word, group in zip(words, places, strict=True):
        text += word
        if group:
            yield text, group
            text = ""


def times_around(words: Sequence[str], spans: Sequence[tuple[float, float]], duration: float) -> list[AlignmentItem]:
    """Times of words from when (seconds) the first and the last letter of each was emitted."""
    starts = [first - BEFORE_SECONDS for first, _ in spans]
    ends = [last for _, last in spans]
    starts = [max(start, before) for start, before in zip(starts, [0.0, *ends])]
    for n, limit in enumerate([*starts[1:], duration][: len(ends)]):
        ends[n] = limit if limit - ends[n] < AFTER_SECONDS + PAUSE_SECONDS else ends[n] + AFTER_SECONDS
    return [
        AlignmentItem(word, round(start, 3), round(end - start, 3))
        for word, (start, end) in zip(words, apart(starts, ends, duration), strict=True)
    ]


def apart(starts: Sequence[float], ends: Sequence[float], duration: float) -> list[tuple[float, float]]:
    """Times of words, none of which is nothing: several may be emitted in one frame, or in the last."""
    spans: list[tuple[float, float]] = []
    before = 0.0
    for start, end in zip(starts, ends):
        start = max(start, before)
        before = max(end, start + LEAST_SECONDS)
        spans.append((start, before))
    limit = duration
    for n in reversed(range(len(spans))):
        start, end = spans[n]
        end = min(end, limit)
        limit = max(min(start, end - LEAST_SECONDS), 0.0)
        spans[n] = limit, end
    return spans


def recognised_words(utterance: Utterance, duration: float) -> list[AlignmentItem]:
    """The words of a hypothesis, in scripts without blanks its characters, with their times and confidences.

    duration: of the utterance, seconds. No words where the hypothesis has no times of its tokens, or its tokens are not
    those of its text.
    """
    if word_places(utterance.tokens, utterance.hypothesis) is None:
        return []
    spans = [(time, time) for time in utterance.times]
    words = units_of_text(utterance.hypothesis)
    return word_times(words, utterance.tokens, spans, duration, utterance.confidences)
