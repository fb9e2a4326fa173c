"""Audio of Lhotse's recordings, as `Sound` reads it."""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from lhotse.audio import AudioSource, get_current_audio_backend, set_current_audio_backend
from lhotse.audio.backend import (
    AudioBackend,
    CompositeAudioBackend,
    FfmpegSubprocessOpusBackend,
    Sph2pipeSubprocessBackend,
    get_default_audio_backend,
)
from lhotse.cut import Cut, MixedCut, PaddingCut
from lhotse.utils import compute_num_samples

from asr.data.sound import ALLOWED_SECONDS, Sound, Unreadable, displaced, read_seconds_at
from asr.errors import InputError

IN_A_SHELL = (Sph2pipeSubprocessBackend, FfmpegSubprocessOpusBackend)  # to which the name of a file may be a command


class SoundBackend(CompositeAudioBackend):  # type: ignore[misc]
    """Lhotse's own backends for what `Sound` cannot read (videos, say), and for writing."""

    def __init__(self) -> None:
        super().__init__([one for one in get_default_audio_backend().backends if not isinstance(one, IN_A_SHELL)])

    def read_audio(
        self,
        path_or_fd: Any,
        offset: float = 0.0,
        duration: float | None = None,
        force_opus_sampling_rate: int | None = None,
    ) -> tuple[np.ndarray, int]:
        """Samples (channels,n), float32, and their rate. Raises InputError where what is wanted is damaged."""
        if duration is not None and isinstance(path_or_fd, (str, Path)):
            if fault := displaced(path_or_fd):
                raise InputError(f"{path_or_fd}: where its parts belong is not known: {fault}")
            piece = read_seconds_at(path_or_fd, offset, duration)
            if piece is not None:
                return piece[0].T, piece[1]
        try:
            sound = open_sound(path_or_fd)
        except (Unreadable, NotADirectoryError) as error:  # the latter: a file inside a tar file
            try:
                samples, rate = super().read_audio(path_or_fd, offset, duration, force_opus_sampling_rate)
            except Exception:  # each has its own, and what the others say is no better
                raise error from None
            return samples, rate
        begin = compute_num_samples(offset, sound.rate)
        count = None if duration is None else compute_num_samples(duration, sound.rate)
        samples = sound.read(begin, count)
        if begin == 0 and count is None and sound.fault:
            raise InputError(sound.fault)
        for first, last in sound.gaps:
            if first < begin + len(samples) and last > begin:
                place = f"{first / sound.rate:.2f} to {last / sound.rate:.2f} s"
                raise InputError(f"{place} of {path_or_fd} cannot be read: the file is damaged")
        return samples.T, sound.rate


def open_sound(source: Any) -> Sound:
    """The sound in a file, named or open."""
    return Sound(source.read()) if isinstance(source, io.IOBase) else Sound.open(source)


@dataclass
class Readers:
    """Those who are reading now, in whatever thread: how many, and what Lhotse read with before the first came."""

    count: int = 0
    before: AudioBackend | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


_readers = Readers()


@contextlib.contextmanager
def as_sound() -> Iterator[None]:
    """Within this, Lhotse reads audio in this way; afterwards as whoever uses it, too, has set it.

    It has one backend for all threads, and its own `audio_backend` does not put the former back after an exception, or
    in the right order if threads overlap. Here the last to leave does.
    """
    with _readers.lock:
        if not _readers.count:
            _readers.before = get_current_audio_backend()
            set_current_audio_backend(SoundBackend())
        _readers.count += 1
    try:
        yield
    finally:
        with _readers.lock:
            _readers.count -= 1
            if not _readers.count:
                set_current_audio_backend(_readers.before)


def disagreement(cut: Cut) -> str:
    """What a manifest says of the length of the files of a cut, and the files do not; "" where they agree."""
    parts = [track.cut for track in cut.tracks] if isinstance(cut, MixedCut) else [cut]
    for recording in (part.recording for part in parts if part.has_recording and not isinstance(part, PaddingCut)):
        for source in recording.sources if not recording.transforms else []:
            there = seconds_of(source)
            if there is not None and abs(there - recording.duration) > ALLOWED_SECONDS:
                return f"{source.source} lasts {there:.2f} s, its manifest says {recording.duration:.2f} s"
    return ""


def seconds_of(source: AudioSource) -> float | None:
    """How long the audio is that can be read of a file; None where there is no such file, or none to be read."""
    try:
        sound = Sound.open(source.source) if source.type == "file" else None
    except (InputError, OSError):
        return None
    return sound.frames / sound.rate if sound else None
