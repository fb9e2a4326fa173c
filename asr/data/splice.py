"""New utterances from the words of others: a speaker's words, cut out by their times and joined in a new order.

Few sentences are soon known by heart; in strings like these neither the first word nor the order tells anything
(aligned data augmentation, Lam et al., Interspeech 2021, with words of one speaker). Of a large vocabulary few words
are said with silence around them, so a word may bring those along that follow it, as they run into each other. All
words are held in memory: 115 MB for each hour of speech.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
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

    samples: (n,) int16, 16 kHz. start, duration: of the word itself, seconds from the first sample. following: the word
    after it in its utterance, whose samples go on where these end.
    """

    text: str
    samples: np.ndarray
    start: float
    duration: float
    following: SpokenWord | None = field(default=None, repr=False, compare=False)


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
    spoken: list[SpokenWord] = []
    for word, (begin, end) in reversed(list(zip(words, pairwise(bounds)))):
        inside = samples[round(begin * SAMPLING_RATE) : round(end * SAMPLING_RATE)]
        following = spoken[-1] if spoken else None
        spoken.append(SpokenWord(word.symbol, inside, word.start - begin, word.duration, following))
    return spoken[::-1]


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
    speakers: Mapping[str, Vocabulary], count: int, shortest: int, longest: int, together: int, seed: int
) -> Iterator[tuple[str, list[SpokenWord]]]:
    """`count` speakers and strings of their words: every speaker, length, and word of a speaker equally likely.

    together: a word that is drawn brings up to `together` − 1 of those that follow it, any number equally likely.
    """
    draw = random.Random(seed)
    names = sorted(speakers)
    for _ in range(count):
        speaker = draw.choice(names)
        words = sorted(speakers[speaker])
        string: list[SpokenWord] = []
        wanted = draw.randint(shortest, longest)
        while len(string) < wanted:
            word = draw.choice(speakers[speaker][draw.choice(words)])
            most = draw.randint(1, together) if together > 1 else 1
            string += run_of(word, min(most, wanted - len(string)))
        yield speaker, string


def run_of(word: SpokenWord, most: int) -> list[SpokenWord]:
    """A word and what follows it in its utterance, `most` words at most."""
    run = [word]
    while len(run) < most and (following := run[-1].following):
        run.append(following)
    return run


def join(words: list[SpokenWord]) -> tuple[np.ndarray, list[AlignmentItem]]:
    """Samples (n,) int16 of words one after the other, and when each of them is said."""
    items, samples = [], 0
    for word in words:
        start = samples / SAMPLING_RATE + word.start
        items.append(AlignmentItem(word.text, round(start, 4), round(word.duration, 4)))
        samples += len(word.samples)
    return np.concatenate([faded(run) for run in runs(words)]), items


def runs(words: list[SpokenWord]) -> Iterator[np.ndarray]:
    """The samples of words that were said one after the other, together."""
    run = [words[0].samples]
    for word, after in pairwise(words):
        if word.following is not after:
            yield np.concatenate(run)
            run = []
        run.append(after.samples)
    yield np.concatenate(run)


def faded(samples: np.ndarray) -> np.ndarray:
    """Samples that begin and end at zero."""
    ramp = np.minimum(np.arange(len(samples)) / FADE_SAMPLES, 1.0)
    return (samples * ramp * ramp[::-1]).astype(np.int16)
