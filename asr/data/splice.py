"""New utterances from the words of others: a speaker's words, cut out by their times and joined in a new order.

Few sentences are soon known by heart; in strings like these neither the first word nor the order tells anything
(aligned data augmentation, Lam et al., Interspeech 2021, with words of one speaker). All words are held in memory:
115 MB for each hour of speech.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from lhotse.cut import Cut
from lhotse.supervision import AlignmentItem

from asr.data.batch import Skipped
from asr.data.features import SAMPLING_RATE, as_int16, load_samples
from asr.data.words import aligned_words
from asr.errors import InputError

FADE_SAMPLES = 80  # 5 ms, so that joints do not click

Vocabulary = dict[str, list["SpokenWord"]]


@dataclass(frozen=True)
class SpokenWord:
    """A word with half of the pause to each side.

    samples: (n,) int16, 16 kHz. start, duration: of the word itself, seconds from the first sample.
    """

    text: str
    samples: np.ndarray
    start: float
    duration: float


def cut_words(cut: Cut, edge_seconds: float) -> list[SpokenWord]:
    """The words of an utterance; none without their times. Raises InputError for unreadable audio.

    edge_seconds: of what surrounds them, at most, that the first and the last word keep on the outside.
    """
    words = aligned_words(cut)
    if not words:
        return []
    samples = as_int16(load_samples(cut))
    inner = [(word.end + after.start) / 2 for word, after in pairwise(words)]
    bounds = [max(words[0].start - edge_seconds, 0.0), *inner, min(words[-1].end + edge_seconds, cut.duration)]
    return [
        SpokenWord(
            word.symbol,
            samples[round(begin * SAMPLING_RATE) : round(end * SAMPLING_RATE)],
            word.start - begin,
            word.duration,
        )
        for word, (begin, end) in zip(words, pairwise(bounds))
    ]


def speaker_of(cut: Cut) -> str:
    """Who speaks in a cut. Raises InputError where that is more than one."""
    names = {supervision.speaker or cut.id for supervision in cut.supervisions}
    if len(names) > 1:
        raise InputError(f"has {len(names)} speakers")
    return names.pop()


def by_speaker(cuts: Iterable[Cut], edge_seconds: float, skipped: list[Skipped]) -> dict[str, Vocabulary]:
    """All words of each speaker, by text; cuts that give none are added to `skipped`."""
    speakers: dict[str, Vocabulary] = {}
    for cut in cuts:
        try:
            words = cut_words(cut, edge_seconds)
            if not words:
                raise InputError("no times of words")
            vocabulary = speakers.setdefault(speaker_of(cut), {})
        except InputError as error:
            skipped.append(Skipped(cut.id, str(error)))
            continue
        for word in words:
            vocabulary.setdefault(word.text, []).append(word)
    return speakers


def random_strings(
    speakers: Mapping[str, Vocabulary], count: int, shortest: int, longest: int, seed: int
) -> Iterator[tuple[str, list[SpokenWord]]]:
    """`count` speakers and strings of their words: every speaker, length, and word of a speaker equally likely."""
    draw = random.Random(seed)
    names = sorted(speakers)
    for _ in range(count):
        speaker = draw.choice(names)
        words = sorted(speakers[speaker])
        yield (
            speaker,
            [draw.choice(speakers[speaker][draw.choice(words)]) for _ in range(draw.randint(shortest, longest))],
        )


def join(words: list[SpokenWord]) -> tuple[np.ndarray, list[AlignmentItem]]:
    """Samples (n,) int16 of words one after the other, and when each of them is said."""
    items, samples = [], 0
    for word in words:
        start = samples / SAMPLING_RATE + word.start
        items.append(AlignmentItem(word.text, round(start, 4), round(word.duration, 4)))
        samples += len(word.samples)
    return np.concatenate([faded(word.samples) for word in words]), items


def faded(samples: np.ndarray) -> np.ndarray:
    """Samples that begin and end at zero."""
    ramp = np.minimum(np.arange(len(samples)) / FADE_SAMPLES, 1.0)
    return (samples * ramp * ramp[::-1]).astype(np.int16)
