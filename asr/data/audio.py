"""Audio files of any length, a second at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import soundfile
import torch
from lhotse import Fbank, Recording
from lhotse.audio import AudioSource
from torch import Tensor
from torchaudio.functional import resample

from asr.data.features import (
    FRAME_SAMPLES,
    SAMPLING_RATE,
    cancel_out,
    check_samples,
    extract,
    mono,
    one_line,
)
from asr.data.pauses import BLOCK_SECONDS
from asr.data.sound import Sound
from asr.errors import InputError
from asr.frames import FRAME_SECONDS, WINDOW_SECONDS

WINDOW_SAMPLES = round(WINDOW_SECONDS * SAMPLING_RATE)  # that a feature frame is computed from


class AudioFile:
    """An audio file as a stream of one channel at 16 kHz."""

    def __init__(self, path: Path) -> None:
        """Open it. Raises InputError where it is missing or no audio."""
        self.path, self.opposite = path, 0
        try:
            self.sound = Sound.open(path)
        except FileNotFoundError:
            raise InputError(f"{path}: no such file") from None
        except (InputError, OSError) as error:
            raise InputError(f"{path}: not a readable audio file ({one_line(error)})") from error

    def seconds(self) -> Iterator[np.ndarray]:
        """Samples (n,) float32 in [−1, 1]: a second at a time, the last one shorter.

        Raises InputError where there are none, or they are not finite, or absurd.
        """
        seconds = map(self.as_mono, self.sound.blocks(1.0))
        yield from seconds if self.sound.rate == SAMPLING_RATE else resampled(seconds, self.sound.rate)
        if not self.sound.frames:
            raise InputError(f"{self.path}: holds no samples")

    def as_mono(self, block: np.ndarray) -> np.ndarray:
        """One channel (n,) of (n,channels)."""
        self.opposite += cancel_out(block.T)
        try:
            return check_samples(mono(block.T))
        except InputError as error:
            raise InputError(f"{self.path}: {error}") from error

    @property
    def in_part(self) -> bool:
        """Whether some of it could not be read, once all else was."""
        return bool(self.sound.fault)

    @property
    def faults(self) -> list[str]:
        """What is wrong with it, once all of it was read."""
        opposite = f"its channels are of opposite phase in {self.opposite} s, of which the first channel is taken"
        return [fault for fault in (self.sound.fault, opposite * bool(self.opposite)) if fault]


@dataclass(frozen=True)
class Heard:
    """A file as it was heard.

    recording: a copy of one channel at 16 kHz, in which Lhotse can go to any place. loudness_N: mean square of each
    0.1 s. faults: what is wrong with the file, in words. in_part: whether some of it could not be read.
    """

    recording: Recording
    loudness_N: np.ndarray
    faults: list[str]
    in_part: bool


def listen(name: str, path: Path, copy: Path) -> Heard:
    """Copy all that can be read of a file to `copy`, whose suffix is .w64. Raises InputError where nothing can."""
    file = AudioFile(path)
    with soundfile.SoundFile(copy, "w", SAMPLING_RATE, 1, "FLOAT") as written:

        def passing() -> Iterator[np.ndarray]:
            for second in file.seconds():
                written.write(second)
                yield second

        loudness_N = loudness(passing())
        frames = written.frames
    source = AudioSource("file", [0], str(copy))
    recording = Recording(name, [source], SAMPLING_RATE, frames, frames / SAMPLING_RATE)
    return Heard(recording, loudness_N, file.faults, file.in_part)


def resampled(seconds: Iterator[np.ndarray], rate: int) -> Iterator[np.ndarray]:
    """Whole seconds at `rate` as seconds at 16 kHz. Its neighbours are all that a second's resampling depends on."""
    nothing = np.zeros(0, dtype=np.float32)
    before, here = nothing, next(seconds, nothing)
    for after in chain(seconds, [nothing]):
        waveform = torch.from_numpy(np.concatenate((before, here, after)))
        begin = round(len(before) / rate * SAMPLING_RATE)
        size = -(-len(here) * SAMPLING_RATE // rate)
        yield resample(waveform, rate, SAMPLING_RATE)[begin : begin + size].numpy()
        before, here = here, after


class FbankStream:
    """Filterbank frames of samples that come in blocks: the same as of all samples at once.

    Frame t is computed from samples 160t − 120 to 160t + 280; at both ends of an utterance they are mirrored.
    """

    def __init__(self, fbank: Fbank) -> None:
        self.fbank = fbank
        self.waiting = np.zeros(0, dtype=np.float32)  # from one frame before the next on, where there is one
        self.done = 0

    def add(self, samples: np.ndarray) -> Tensor:
        """The frames (n,F) that are complete with these samples (m,)."""
        self.waiting = np.concatenate((self.waiting, samples))
        before = min(self.done, 1)
        after_window = (WINDOW_SAMPLES + FRAME_SAMPLES) // 2
        count = (len(self.waiting) - after_window) // FRAME_SAMPLES + 1 - before
        if count <= 0:
            return torch.zeros(0, self.fbank.config.num_filters)
        features = self.extract()[before : before + count]
        self.done += count
        self.waiting = self.waiting[(before + count - 1) * FRAME_SAMPLES :]
        return features

    def end(self) -> Tensor:
        """The last frames (n,F)."""
        least = FRAME_SAMPLES // 2 if self.done else FRAME_SAMPLES  # the first frame needs as much as `load_samples`
        enough = len(self.waiting) >= least
        return self.extract()[min(self.done, 1) :] if enough else torch.zeros(0, self.fbank.config.num_filters)

    def extract(self) -> Tensor:
        """The frames of all samples that wait."""
        return torch.from_numpy(extract(self.fbank, self.waiting))


def loudness(seconds: Iterable[np.ndarray]) -> np.ndarray:
    """Mean square (n,) of each 0.1 s of samples, which come in arrays of whole tenths; the last may have a rest."""
    size = round(BLOCK_SECONDS * SAMPLING_RATE)
    blocks = (second[: len(second) // size * size].reshape(-1, size) for second in seconds)
    return np.concatenate([np.zeros(0), *((block**2).mean(1) for block in blocks)])


def loudness_of_features(features_TF: np.ndarray) -> np.ndarray:
    """Mean energy (n,) of each 0.1 s, of log-mel filterbanks."""
    size = round(BLOCK_SECONDS / FRAME_SECONDS)
    energies = np.exp(features_TF).mean(axis=1)
    return energies[: len(energies) // size * size].reshape(-1, size).mean(axis=1)
