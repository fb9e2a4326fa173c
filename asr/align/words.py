"""When words were said, from when a model emitted their pieces."""

from __future__ import annotations

from collections.abc import Sequence

from lhotse.supervision import AlignmentItem

from asr.data.scripts import without_blanks
from asr.data.words import WORD_START, word_places, words_of_pieces
from asr.score.wer import Utterance

# Where a model emits within a word, against the boundaries of an HMM aligner: medians over AN4's dev set. The last is
# the longest of a few that were tried there which did not make the boundaries worse.
BEFORE_SECONDS = 0.1  # from a word's beginning to its first letter
AFTER_SECONDS = 0.2  # from its last letter to its end
LEAST_SECONDS = 0.02  # of a word
PAUSE_SECONDS = 0.4  # a shorter gap between two words is no pause, but belongs to the first


def word_times(
    words: Sequence[str], pieces: Sequence[str], spans: Sequence[tuple[float, float]], duration: float
) -> list[AlignmentItem]:
    """Times of words from the spans (seconds, first and last) in which their pieces were emitted.

    A model emits a label somewhere inside its sound, so words begin a little before their first letter and end a
    little after their last, as far as their neighbours leave room. A lone mark of a word's start is no letter.
    """
    letters = [[place for place in group if pieces[place] != WORD_START] for group in words_of_pieces(pieces)]
    return times_around(words, [(spans[places[0]][0], spans[places[-1]][1]) for places in letters], duration)


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
    """The words of a hypothesis with their times; each is as sure as the least sure of its pieces.

    In scripts without blanks, pieces for words. duration: of the utterance, seconds. No words where the hypothesis has
    no times of its tokens, or its tokens are not those of its text.
    """
    groups = word_places(utterance.tokens, utterance.hypothesis)
    if groups is None:
        return []
    groups = [unit for group in groups for unit in split_pieces(group, utterance.tokens)]
    texts = ["".join(utterance.tokens[place] for place in group).lstrip(WORD_START) for group in groups]
    letters = [[place for place in group if utterance.tokens[place] != WORD_START] for group in groups]
    spans = [(utterance.times[places[0]], utterance.times[places[-1]]) for places in letters]
    scores = [min((utterance.confidences[place] for place in group), default=None) for group in groups]
    return [item._replace(score=score) for item, score in zip(times_around(texts, spans, duration), scores)]


def split_pieces(group: Sequence[int], pieces: Sequence[str]) -> list[list[int]]:
    """The places of a word's pieces; of a word in a script without blanks, piece by piece as far as it is of that."""
    units: list[list[int]] = []
    for place in group:
        before = pieces[units[-1][-1]] if units else ""
        if before and (before == WORD_START or not (without_blanks(pieces[place]) or without_blanks(before))):
            units[-1].append(place)
        else:
            units.append([place])
    return units
