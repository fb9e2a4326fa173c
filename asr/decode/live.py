"""Recognising audio while it comes in: samples to words."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from lhotse import Fbank
from torch import Tensor

from asr.data.audio import FbankStream
from asr.data.features import SAMPLING_RATE
from asr.data.scripts import is_complete, units_of_text, without_blanks
from asr.data.tokenizer import Tokenizer
from asr.decode.search import Hypothesis, Search, require_score
from asr.decode.stream import FeatureChunks
from asr.models.conformer import EncoderState
from asr.models.transducer import Transducer

ENDPOINT_SECONDS = 1.5  # without a token, after which what was said is complete


class LiveSearch:
    """Samples in, words out, with memory that does not grow with what was heard before the last pause.

    A word is put out once all hypotheses agree on it and on there being a next one, or at the end of what was said.
    A long pause ends that, and the search begins anew; the encoder goes on.

    Raises InputError for samples whose features are not those of audio, and where hypotheses have no finite score.
    """

    def __init__(self, model: Transducer, search: Search, tokenizer: Tokenizer, fbank: Fbank, chunk: int) -> None:
        self.model, self.search, self.tokenizer = model, search, tokenizer
        self.fbank = FbankStream(fbank)
        self.windows = FeatureChunks(chunk, fbank.config.num_filters, model.timing)
        self.device = model.joiner.output.weight.device
        self.state: EncoderState | None = None
        self.samples, self.started = 0, time.perf_counter()
        self.first_word_seconds: float | None = None
        self.begin()

    def begin(self) -> None:
        """Begin with something new."""
        self.session, self.frames, self.said = self.search.begin(1), 0, 0

    def add(self, samples: np.ndarray) -> Iterator[str]:
        """What the samples (n,), 16 kHz, complete: words, each with a space after it; a line's end after a pause."""
        self.samples += len(samples)
        for window in self.windows.add(self.fbank.add(samples)):
            yield from self.read(window)

    def end(self) -> str:
        """The words that are left."""
        last = [*self.windows.add(self.fbank.end()), *self.windows.end()]
        heard = "".join(text for window in last for text in self.read(window))
        return heard + self.rest(self.best())

    def read(self, window: Tensor) -> Iterator[str]:
        """Read a chunk (1,T,F)."""
        window = window.to(self.device)
        lengths = torch.tensor([window.shape[1]], device=self.device)
        encoded, frames, self.state = self.model.encode_chunk(window, lengths, self.state)
        self.session.read(encoded, frames)
        self.frames += int(frames)
        found = self.best()
        emitted = found[0][0].frames[-1] if found[0][0].frames else -1
        pause = (self.frames - emitted) * self.model.timing.shift > ENDPOINT_SECONDS
        if pause and emitted >= 0:
            yield self.rest(found) + "\n"
        else:
            yield from self.words(agreed(found[0], self.tokenizer))
        if pause:
            self.begin()

    def best(self) -> list[list[Hypothesis]]:
        """The hypotheses as of now. Raises InputError where they have no score."""
        found = self.session.best()
        require_score(found[0])
        return found

    def words(self, agreed: Sequence[str]) -> Iterator[str]:
        """The words that have not been put out."""
        for word in agreed[self.said :]:
            if self.first_word_seconds is None:
                self.first_word_seconds = self.samples / SAMPLING_RATE
            yield word if without_blanks(word[-1]) else f"{word} "
        self.said = max(self.said, len(agreed))

    def rest(self, found: Sequence[Sequence[Hypothesis]]) -> str:
        """The words of the best hypothesis that have not been put out."""
        return "".join(self.words(units_of_text(self.tokenizer.decode(found[0][0].tokens))))

    def line(self) -> str:
        """How soon the first word was known, and how fast all was."""
        seconds = self.samples / SAMPLING_RATE
        first = "no word" if self.first_word_seconds is None else f"first word after {self.first_word_seconds:.2f} s"
        speed = seconds / (time.perf_counter() - self.started)
        return f"{first} of audio; {seconds:.1f} s of audio, {speed:.1f} times faster than real time"


def agreed(hypotheses: Sequence[Hypothesis], tokenizer: Tokenizer) -> list[str]:
    """The first words that all hypotheses have in common, each of them complete: followed by another, or a character
    of a script without blanks to which no mark can be added."""
    common = []
    for words in zip(*(complete(units_of_text(tokenizer.decode(one.tokens))) for one in hypotheses)):
        if len(set(words)) > 1:
            break
        common.append(words[0])
    return common


def complete(units: list[str]) -> list[str]:
    """The units that will not change: all but the last, if more letters or marks may follow in it."""
    return units if units and is_complete(units[-1]) else units[:-1]
