"""Recognising audio while it comes in: samples to words."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from lhotse import Fbank
from torch import Tensor

from asr.data.audio import FbankStream, as_array, as_float
from asr.data.features import SAMPLING_RATE, check_samples
from asr.data.resample import Resampler
from asr.data.scripts import is_complete, units_of_text, without_blanks
from asr.data.tokenizer import Tokenizer
from asr.decode.search import Hypothesis, Search, as_utterance, require_score
from asr.decode.stream import FeatureChunks
from asr.decode.transcript import Word, as_word
from asr.decode.words import recognised_words
from asr.errors import InputError
from asr.frames import FRAME_SECONDS
from asr.models.conformer import EncoderState
from asr.models.transducer import Transducer

ENDPOINT_SECONDS = 1.5  # without a token, after which what was said is complete


@dataclass(frozen=True)
class Said:
    """What has become final in a stream.

    text: to be put behind what came before: words, each with a blank after it where its script has blanks, and a line's
    end after a long pause. words: with their times from the beginning of the stream, where the tokens spell them.
    """

    text: str = ""
    words: list[Word] = field(default_factory=list)


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
        self.before = self.frames = 0  # of what is over, and since then
        self.begin()

    def begin(self) -> None:
        """Begin with something new."""
        self.before += self.frames
        self.session, self.frames, self.said = self.search.begin(1), 0, 0

    def add(self, samples: np.ndarray) -> Iterator[Said]:
        """What the samples (n,), 16 kHz, complete: words, and a line's end after a pause."""
        self.samples += len(samples)
        for window in self.windows.add(self.fbank.add(samples)):
            yield from self.read(window)

    def end(self) -> Iterator[Said]:
        """The words that are left."""
        for window in [*self.windows.add(self.fbank.end()), *self.windows.end()]:
            yield from self.read(window)
        yield from self.rest(self.best())

    def read(self, window: Tensor) -> Iterator[Said]:
        """Read a chunk (1,T,F)."""
        window = window.to(self.device)
        lengths = torch.tensor([window.shape[1]], device=self.device)
        encoded, frames, self.state = self.model.encode_chunk(window, lengths, self.state)
        self.session.read(encoded, frames)
        self.frames += int(frames)
        found = self.best()
        emitted = found[0].frames[-1] if found[0].frames else -1
        pause = (self.frames - emitted) * self.model.timing.shift > ENDPOINT_SECONDS
        if pause and emitted >= 0:
            yield from self.rest(found)
            yield Said("\n")
        else:
            yield from self.words(found[0], agreed(found, self.tokenizer))
        if pause:
            self.begin()

    def best(self) -> list[Hypothesis]:
        """The hypotheses as of now. Raises InputError where they have no score."""
        found = self.session.best()[0]
        require_score(found)
        return found

    def words(self, best: Hypothesis, agreed: Sequence[str]) -> Iterator[Said]:
        """The words that have not been put out."""
        left = agreed[self.said :]
        if not left:
            return
        if self.first_word_seconds is None:
            self.first_word_seconds = self.samples / SAMPLING_RATE
        text = "".join(word if without_blanks(word[-1]) else f"{word} " for word in left)
        yield Said(text, self.timed(best)[self.said : len(agreed)])
        self.said = len(agreed)

    def timed(self, best: Hypothesis) -> list[Word]:
        """The words of a hypothesis with their times, as far as its tokens spell them."""
        begin = self.before * self.model.timing.shift
        heard = self.samples / SAMPLING_RATE - begin
        utterance = as_utterance("", "", best, self.tokenizer, self.model.timing)
        return [as_word(item, begin) for item in recognised_words(utterance, heard)]

    def rest(self, found: Sequence[Hypothesis]) -> Iterator[Said]:
        """The words of the best hypothesis that have not been put out."""
        yield from self.words(found[0], units_of_text(self.tokenizer.decode(found[0].tokens)))

    def line(self) -> str:
        """How soon the first word was known, and how fast all was."""
        seconds = self.samples / SAMPLING_RATE
        first = "no word" if self.first_word_seconds is None else f"first word after {self.first_word_seconds:.2f} s"
        speed = seconds / (time.perf_counter() - self.started)
        return f"{first} of audio; {seconds:.1f} s of audio, {speed:.1f} times faster than real time"


class Stream:
    """Recognises one stream of samples: they go in in arrays of any length, and what is final comes out.

        stream = model.stream(sampling_rate=16000)
        for samples in microphone:
            print(stream.add(samples).text, end="", flush=True)
        print(stream.end().text)

    A word is final once nothing that follows can change it; after a pause of 1.5 s the search begins anew.
    """

    def __init__(self, live: LiveSearch, sampling_rate: int) -> None:
        self.live, self.ended = live, False
        self.step = max(round(live.windows.step * FRAME_SECONDS * sampling_rate), 1)  # a chunk
        self.resampler = Resampler(sampling_rate) if sampling_rate != SAMPLING_RATE else None

    def add(self, samples: np.ndarray | Tensor) -> Said:
        """What these samples (n,) complete: floats in [−1, 1], or integers of 16 or 32 bits.

        Raises InputError for others, for such as are no audio, and after the end.
        """
        if self.ended:
            raise InputError("the stream has ended: begin another with model.stream()")
        heard = as_float(as_array(samples))
        heard = check_samples(heard) if len(heard) else heard
        return self.recognise(self.resampler.add(heard) if self.resampler else heard)

    def read(self, blocks: Iterable[np.ndarray | Tensor]) -> Iterator[Said]:
        """What all of these samples complete, as soon as it is known, and then what is left."""
        for block in blocks:
            for begin in range(0, len(block), self.step):
                yield self.add(block[begin : begin + self.step])
        yield self.end()

    def end(self) -> Said:
        """What is left; nothing the second time."""
        if self.ended:
            return Said()
        last = self.recognise(self.resampler.end()) if self.resampler else Said()
        self.ended = True
        with torch.inference_mode():
            return together([last, *self.live.end()])

    def line(self) -> str:
        """How soon the first word was known, and how fast all was."""
        return self.live.line()

    @torch.inference_mode()
    def recognise(self, samples: np.ndarray) -> Said:
        """What samples (n,) at 16 kHz complete."""
        return together(self.live.add(samples))


def together(said: Iterable[Said]) -> Said:
    """What was said, one after the other, as one."""
    said = list(said)
    return Said("".join(one.text for one in said), [word for one in said for word in one.words])


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
