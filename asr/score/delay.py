"""Emission delay: how long after a token was said it is put out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from kaldialign import align
from lhotse.supervision import AlignmentItem

from asr.data.scripts import units_of_text, without_blanks
from asr.data.words import split_evenly, word_places
from asr.frames import FrameTiming
from asr.score.wer import GAP, Utterance

Words = Mapping[str, Sequence[AlignmentItem]]
LINE = re.compile(r"delay: mean (?P<mean>\S+), median (?P<median>\S+), 90 % (?P<late>\S+), last token (?P<last>\S+) s")


@dataclass(frozen=True)
class Delays:
    """Delays of the tokens of correctly recognised words, seconds; negative ones came early.

    A token counts as said where its word's time, split evenly over the word's tokens, has it end; it is put out in the
    middle of the frame that emits it. The last tokens are those of utterances whose last word is correct.
    utterances: how many had times of their words, and of the tokens of their hypothesis.
    """

    tokens: np.ndarray
    last_tokens: np.ndarray
    utterances: int

    def metrics(self) -> dict[str, float]:
        """Means of all and of last tokens; nothing where there are none."""
        pairs = {"delay": self.tokens, "last_delay": self.last_tokens}
        return {name: float(values.mean()) for name, values in pairs.items() if len(values)}

    def line(self) -> str:
        """Everything in one line."""
        if not len(self.tokens):
            return f"delay: none, of {self.utterances} utterances with times of words"
        mean, median, late = self.tokens.mean(), np.median(self.tokens), np.percentile(self.tokens, 90)
        last = f"{self.last_tokens.mean():.3f}" if len(self.last_tokens) else "unknown"
        return (
            f"delay: mean {mean:.3f}, median {median:.3f}, 90 % {late:.3f}, last token {last} s "
            f"[ {len(self.tokens)} tokens, {self.utterances} utterances ]"
        )


def read_delays(path: Path) -> dict[str, float]:
    """Seconds of a line of `Delays` in a file: "mean", "median", "late" (90 % are earlier) and "last" (of last tokens).

    Only those that are known; none where the file is not there.
    """
    told = LINE.search(path.read_text(encoding="utf-8", errors="replace")) if path.is_file() else None
    found: dict[str, float] = {}
    for name, value in told.groupdict().items() if told else ():
        with suppress(ValueError):  # "unknown"
            found[name] = float(value)
    return found


def emission_delays(utterances: Iterable[Utterance], words: Words) -> Delays:
    """Delays of the utterances whose words have times; `words` are those by utterance."""
    timed = [one for one in utterances if words.get(one.id) and words_of(one) is not None]
    pairs = [utterance_delays(one, words[one.id]) for one in timed]
    tokens = [delay for delays, _ in pairs for delay in delays]
    return Delays(np.array(tokens), np.array([delays[-1] for delays, ends in pairs if ends]), len(timed))


def words_of(utterance: Utterance) -> list[list[float]] | None:
    """When the tokens that end in each word of the hypothesis were emitted; None where they are not of this text.

    Of a script without blanks each character is a word; of those that one token spells only the last has times.
    """
    places = word_places(utterance.tokens, utterance.hypothesis)
    return None if places is None else [[utterance.times[place] for place in group] for group in places]


def utterance_delays(utterance: Utterance, words: Sequence[AlignmentItem]) -> tuple[list[float], bool]:
    """Delays of the tokens of an utterance's correct words, and whether the last word is one of them."""
    spoken, heard = [item.symbol for item in words], units_of_text(utterance.hypothesis)
    reference, emitted = iter(words), iter(words_of(utterance) or [])
    delays, ends = [], False
    for said, recognised in align(spoken, heard, GAP):
        item = next(reference) if said != GAP else None
        times = next(emitted) if recognised != GAP else []
        ends = item is not None and said == recognised
        if item is not None and ends:
            delays += [time - end for time, end in zip(times, split_evenly(item, len(times)))]
    return delays, ends


def first_word_latencies(
    utterances: Iterable[Utterance], words: Words, durations: Mapping[str, float], chunk: int, timing: FrameTiming
) -> str:
    """How long after its end the first word of an utterance is known to a search that reads chunks, in one line.

    In scripts without blanks the first character.

    Of utterances whose first word is correct and has a time. chunk: frames, after subsampling; timing: where these lie.
    A word is known once the chunk that emits its last token has been heard. Times of computing are not in it.
    """
    latencies, characters = [], 0
    for utterance in utterances:
        spoken, times = words.get(utterance.id), words_of(utterance)
        if spoken and times and units_of_text(utterance.hypothesis)[0] == spoken[0].symbol:
            emitted = times[0][-1] if times[0] else next(filter(None, times))[0]
            heard = min(heard_seconds(emitted, chunk, timing), durations[utterance.id])
            latencies.append(heard - spoken[0].end)
            characters += without_blanks(spoken[0].symbol)
    if not latencies:
        return without_latency(any(words.values()))
    median, late = np.median(latencies), np.percentile(latencies, 90)
    what = "character" if 2 * characters > len(latencies) else "word"
    return (
        f"first {what}: known {median:.3f} s after its end (median), 90 % {late:.3f} s [ {len(latencies)} utterances ]"
    )


def without_latency(timed: bool) -> str:
    """Why no latency of a first word is known. timed: whether any utterance has times of its words."""
    if timed:
        return "first word: none that is correct and has a time"
    return "first word: unknown, because the cuts have no times of their words; see `asr align` and `asr attach`"


def heard_seconds(emitted: float, chunk: int, timing: FrameTiming) -> float:
    """When the chunk has been heard whose frame is at `emitted`, seconds."""
    frames = (timing.at(emitted) // chunk + 1) * chunk
    return timing.heard(frames - 1)
