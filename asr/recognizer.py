"""The library's face: a trained model as one object that recognises speech.

import asr

model = asr.load("exp/NAME")
print(model.transcribe("talk.mp3").text)
"""

from __future__ import annotations

import copy
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from asr.config.decode import SEARCHES, DecodeOptions, LabelSearchOptions
from asr.data.audio import Audio, AudioArray, AudioFile, Heard, as_array, listen
from asr.data.batch import Skipped
from asr.data.features import SAMPLING_RATE
from asr.data.resample import check_rate
from asr.decode.decoder import Decoder
from asr.decode.live import LiveSearch, Said, Stream
from asr.decode.transcribe import piece_lengths, transcripts
from asr.decode.transcript import Reading, Transcript, Word
from asr.device import choose_device
from asr.errors import InputError
from asr.journal import Journal
from asr.models.ready import make_ready
from asr.options import check_types, check_values, expand_paths, make_options, require_effect
from asr.runs.trained import AUTO, Trained, load_trained
from asr.score.wer import Utterance

__all__ = ["Reading", "Recognizer", "Said", "Skipped", "Stream", "Transcript", "Word", "load"]

Sound = str | os.PathLike[str] | np.ndarray | Tensor  # a file, or samples (n,)


def load(path: str | os.PathLike[str], checkpoint: str = AUTO, device: str | torch.device = "auto") -> Recognizer:
    """The model of a run directory of `asr train`, or of a package of `asr package`.

    checkpoint: best, last, average, ema, the name of one, or auto: what did best in validation. device: auto, cpu or
    cuda.
    Raises InputError where there is neither, or what it needs of it is missing or damaged.
    """
    chosen = choose_device(str(device))
    return Recognizer(load_trained(os.fspath(path), checkpoint, chosen), chosen)


class Recognizer:
    """A trained model that transcribes recordings, and speech as it comes in.

    How to search is said to each method, by the names that follow `decode.` on the command line: `beam=8`,
    `lm="5gram.arpa"`, `blank_penalty=1.0`, …; or as one object, `search=BeamOptions(beam=8)`; or by name,
    `search="k2_fast_beam"`. The default is greedy search, and beam search where `beam` is given. `phrases` may also be
    the phrases themselves, in a list. What was made for the last search, an n-gram that was read say, serves the next
    that is the same.

    A result does not depend on what is transcribed beside it. trained: the model and what belongs to it.
    """

    def __init__(self, trained: Trained, device: torch.device) -> None:
        self.trained, self.device = trained, device
        if device.type == "cpu":
            make_ready(trained.model)
        self._asked: tuple[object, ...] | None = None  # as it was said, so that the next need not be looked at
        self._last: tuple[object, Decoder] | None = None

    @overload
    def transcribe(self, audio: Sound, sampling_rate: int | None = None, **how: Any) -> Transcript: ...

    @overload
    def transcribe(self, audio: Sequence[Sound], sampling_rate: int | None = None, **how: Any) -> list[Transcript]: ...

    def transcribe(
        self, audio: Sound | Sequence[Sound], sampling_rate: int | None = None, **how: Any
    ) -> Transcript | list[Transcript]:
        """What is said in a file, or in samples (n,) of `sampling_rate` Hz; of a list of either, a list of results.

        Samples are floats in [−1, 1], or integers of 16 or 32 bits. how: see `transcribe_each`.
        Raises InputError where something cannot be transcribed; `transcribe_each` gives what comes of the others.
        """
        alone = isinstance(audio, (str, os.PathLike, np.ndarray, Tensor)) or not isinstance(audio, Iterable)
        results = list(self.transcribe_each([audio] if alone else audio, sampling_rate, **how))  # type: ignore
        faults = [result.reason for result in results if isinstance(result, Skipped)]
        if faults:
            others = f"; {len(faults)} of {len(results)} cannot be transcribed: transcribe_each gives the others"
            raise InputError(faults[0] + others * (len(results) > 1))
        found = [result for result in results if isinstance(result, Transcript)]
        return found[0] if alone else found

    def transcribe_each(
        self,
        audio: Iterable[Sound],
        sampling_rate: int | None = None,
        search: str | DecodeOptions = "",
        piece_seconds: float | None = None,
        journal: Journal[list[Utterance]] | None = None,
        show: bool = False,
        **options: Any,
    ) -> Iterator[Transcript | Skipped]:
        """What comes of each file or array, in order, as soon as it is known; or why nothing does.

        search, options: see the class. piece_seconds: longer recordings are read in pieces, cut at pauses; None: what
        most of the training utterances are within. journal: keeps what is done. show: progress, on standard error.
        """
        if piece_seconds is not None and not (isinstance(piece_seconds, (int, float)) and piece_seconds >= 1):
            raise InputError(f"piece_seconds={piece_seconds!r}: must be a number of at least 1, or None")
        decoder = self.decoder(search, **options)
        heard = (hear(name, one, sampling_rate) for name, one in told_apart(audio))
        return transcripts(decoder, heard, piece_lengths(decoder, piece_seconds), journal, show)

    def stream(self, sampling_rate: int = SAMPLING_RATE, *, search: str | DecodeOptions = "", **options: Any) -> Stream:
        """What recognises samples as they come in; see `Stream`.

        Raises InputError where the model was not trained for it: it must be causal, and read in chunks.
        """
        decoder = self.decoder(search, streaming=True, **options)
        fbank, tokenizer = decoder.dataset.fbank, self.trained.tokenizer
        live = LiveSearch(self.trained.model, decoder.search, tokenizer, fbank, decoder.chunk)
        return Stream(live, check_rate(sampling_rate))

    def decoder(self, search: str | DecodeOptions = "", *, streaming: bool = False, **options: Any) -> Decoder:
        """What decodes Lhotse's CutSets, with this search; see the class. Raises InputError for what it lacks."""
        if self._asked == (search, streaming, options) and self._last is not None:
            return self._last[1]
        asked = copy.deepcopy((search, streaming, options))  # the caller's phrases, say, may become others
        in_list = isinstance(options.get("phrases"), (list, tuple))
        phrases = tuple(map(str, options.pop("phrases"))) if in_list else ()
        chosen = search_options(search, options)
        if not in_list:
            require_effect(chosen, options)
        elif isinstance(chosen, LabelSearchOptions):
            require_effect(replace(chosen, phrases="listed"), options)
        elif phrases:
            raise InputError(f"phrases: search={chosen.name} takes none; use greedy or beam")
        wanted = type(chosen), vars(chosen).copy(), phrases, streaming
        if self._last is None or self._last[0] != wanted:
            self._last = wanted, Decoder(self.trained, chosen, self.device, streaming, phrases)
        self._asked = asked
        return self._last[1]


def search_options(search: str | DecodeOptions, options: dict[str, Any]) -> DecodeOptions:
    """How to search. Raises InputError where there is no such search or option, and for a value that it cannot have."""
    if isinstance(search, DecodeOptions):
        if options:
            raise InputError(f"{', '.join(options)}: say it in the {type(search).__name__} that is given")
        chosen = replace(search)
    else:
        texts = {name: os.fspath(one) if isinstance(one, os.PathLike) else one for name, one in options.items()}
        chosen = make_options("search", search or ("beam" if "beam" in options else "greedy"), SEARCHES, texts)
    check_types(chosen)
    check_values(chosen, "")
    expand_paths(chosen, "")
    return chosen


def told_apart(audio: Iterable[Sound]) -> Iterator[tuple[str, Sound]]:
    """Files and arrays with names of their own: a path, "audio 0" of what is first, "a.wav (2)" the second time."""
    seen: Counter[str] = Counter()
    for number, one in enumerate(audio):
        name = os.fspath(one) if isinstance(one, (str, os.PathLike)) else f"audio {number}"
        seen[name] += 1
        yield name + f" ({seen[name]})" * (seen[name] > 1), one


def hear(name: str, audio: Sound, sampling_rate: int | None) -> Heard | Skipped:
    """A file or an array as it can be heard, or why it cannot."""
    try:
        return listen(name, as_audio(audio, sampling_rate))
    except InputError as error:
        is_file = isinstance(audio, (str, os.PathLike))  # whose errors name it
        return Skipped(name, str(error) if is_file else f"{name}: {error}")


def as_audio(audio: Sound, sampling_rate: int | None) -> Audio:
    """What is heard in a file or an array. Raises InputError where it is neither, or of an array that cannot be."""
    if isinstance(audio, (str, os.PathLike)):
        return AudioFile(Path(audio))
    samples = as_array(audio)
    if sampling_rate is None:
        raise InputError("samples have no sampling rate of their own: give sampling_rate=16000, or whatever it is")
    return AudioArray(samples, check_rate(sampling_rate))
