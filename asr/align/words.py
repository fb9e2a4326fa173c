"""When words were said, from when a model emitted their pieces."""

from __future__ import annotations

from collections.abc import Sequence

from lhotse.supervision import AlignmentItem

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
    starts = [spans[places[0]][0] - BEFORE_SECONDS for places in letters]
    ends = [spans[places[-1]][1] for places in letters]
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

    duration: of the utterance, seconds. No words where the hypothesis has no times of its tokens, or its tokens are
    not those of its text.
    """
    groups = word_places(utterance.tokens, utterance.hypothesis)
    if groups is None:
        return []
    texts = utterance.hypothesis.split()
    spans = [(time, time) for time in utterance.times]
    scores = [min((utterance.confidences[place] for place in group), default=None) for group in groups]
    return [
        item._replace(score=score) for item, score in zip(word_times(texts, utterance.tokens, spans, duration), scores)
    ]
