"""Text to speech with word times: the few calls of libespeak-ng that the digits recipe needs.

The library and its data come with the package ``espeakng_loader``.
"""

import _ctypes
import contextlib
import ctypes
import importlib.metadata
import re
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from asr.errors import InputError

_SYNCHRONOUS = 2
_DO_NOT_EXIT = 0x8000
_PARAMETERS = {"rate": 1, "pitch": 3, "pitch_range": 4, "word_gap": 7}
_POSITION_CHARACTER = 1
_UTF8 = 1
_EVENT_END_OF_LIST, _EVENT_WORD = 0, 1


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    ]


_Samples = ctypes.POINTER(ctypes.c_short)
_Callback = ctypes.CFUNCTYPE(ctypes.c_int, _Samples, ctypes.c_int, ctypes.POINTER(_Event))


@dataclass(frozen=True)
class Prosody:
    """How a text is spoken: ``rate`` in words per minute (80 to 450), ``pitch`` and ``pitch_range`` from
    0 to 99 (50 is the voice's own), ``word_gap`` as extra silence between words in units of 10 ms."""

    rate: int = 175
    pitch: int = 50
    pitch_range: int = 50
    word_gap: int = 0


@dataclass(frozen=True)
class Speech:
    """``samples``: mono int16 of shape (n,) at ``sampling_rate`` Hz; ``word_starts``: a sample per word."""

    samples: np.ndarray
    sampling_rate: int
    word_starts: list[int]


def speak(text: str, voice: str, prosody: Prosody, seed: int) -> Speech:
    """Speak ``text`` with ``voice`` ("en-us+m3": an accent, "+", a variant of the voice).

    The result depends on the arguments alone, not on what the process has spoken before. Raises
    `InputError` where the library does not load, for an unknown voice, or if a word gets no time.
    """
    with _fresh_library(seed) as library:
        recorder = _Recorder()
        callback = _Callback(recorder.receive)
        library.espeak_SetSynthCallback(callback)
        _set_voice(library, voice, prosody)
        _synthesize(library, text)
        rate = library.espeak_ng_GetSampleRate()
    return Speech(np.concatenate(recorder.chunks), rate, _word_starts(text, recorder.words))


def version() -> str:
    """The version of the synthesiser's package. Raises `InputError` where it is not installed."""
    _package()
    return importlib.metadata.version("espeakng-loader")


class _Recorder:
    """Collects what the library hands to its callback: samples, and word starts by place in the text."""

    def __init__(self) -> None:
        self.chunks = [np.zeros(0, dtype=np.int16)]
        self.words: dict[int, int] = {}

    def receive(self, samples: Any, count: int, events: Any) -> int:
        if samples and count > 0:
            self.chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        index = 0
        while events[index].type != _EVENT_END_OF_LIST:
            if events[index].type == _EVENT_WORD:
                self.words[events[index].text_position] = events[index].sample
            index += 1
        return 0


@contextlib.contextmanager
def _fresh_library(seed: int) -> Iterator[ctypes.CDLL]:
    # espeak_Terminate leaves oscillator, echo and flutter states behind in the library's static data;
    # only unloading the library forgets them. Its Klatt voices draw their breath from libc's rand().
    library = _load_library()
    try:
        _initialize(library)
        library.espeak_ng_SetRandSeed(ctypes.c_long(seed))
        ctypes.CDLL(None).srand(ctypes.c_uint(seed))
        yield library
    finally:
        library.espeak_Terminate()
        _ctypes.dlclose(library._handle)


def _package() -> ModuleType:
    try:
        import espeakng_loader
    except ImportError as error:
        raise InputError("espeak-ng is missing: pip install espeakng-loader") from error
    return espeakng_loader


def _load_library() -> ctypes.CDLL:
    path = _package().get_library_path()
    try:
        return ctypes.CDLL(path)
    except OSError as error:
        raise InputError(f"{path}: cannot load espeak-ng ({error}); reinstall espeakng-loader") from error


def _initialize(library: ctypes.CDLL) -> None:
    path = _package().get_data_path()
    if library.espeak_Initialize(_SYNCHRONOUS, 0, path.encode(), _DO_NOT_EXIT) <= 0:
        raise InputError(f"{path}: espeak-ng finds no data there; reinstall espeakng-loader")


def _set_voice(library: ctypes.CDLL, voice: str, prosody: Prosody) -> None:
    if library.espeak_SetVoiceByName(voice.encode()) != 0:
        raise InputError(f"voice {voice!r}: espeak-ng has no such voice; use accent+variant")
    for name, code in _PARAMETERS.items():
        library.espeak_SetParameter(code, getattr(prosody, name), 0)


def _synthesize(library: ctypes.CDLL, text: str) -> None:
    data = text.encode()
    size = ctypes.c_size_t(len(data) + 1)
    if library.espeak_Synth(data, size, 0, _POSITION_CHARACTER, 0, _UTF8, None, None) != 0:
        raise InputError(f"espeak-ng cannot speak {text!r}: use plain words")


def _word_starts(text: str, starts: dict[int, int]) -> list[int]:
    # Events count characters from 1. One is missing where espeak-ng joins two words into one.
    positions = [match.start() + 1 for match in re.finditer(r"\w+", text)]
    if sorted(starts) != positions:
        raise InputError(f"espeak-ng gives no time for some word of {text!r}: use separate plain words")
    return [starts[position] for position in positions]
