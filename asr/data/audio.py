"""Audio of any length, of files and arrays, a second at a time."""

from __future__ import annotations

import codecs
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import IO, ClassVar, Protocol

import numpy as np
import soundfile
import torch
from lhotse import Fbank, Recording
from lhotse.audio import AudioSource
from lhotse.utils import compute_num_samples
from torch import Tensor

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
from asr.data.resample import resampled
from asr.data.sound import ALLOWED_SECONDS, Sound
from asr.errors import InputError
from asr.frames import FRAME_SECONDS, WINDOW_SECONDS

LOUDEST = 64.0  # that floats may be: recordings exceed 1 by little, integers in floats by far more
WINDOW_SAMPLES = round(WINDOW_SECONDS * SAMPLING_RATE)  # that a feature frame is computed from
LOOKED_AT_BYTES = 1024  # of a file that is no audio, to say what it is
IN_MEMORY_SECONDS = 60  # of a recording that is not copied to a file


class Audio(Protocol):
    """Something to hear. faults, lost: see `Heard`, once `seconds` has come to its end."""

    def seconds(self) -> Iterator[np.ndarray]:
        """Samples (n,) float32 at 16 kHz, a second at a time, the last one shorter. Raises InputError for others."""

    @property
    def lost(self) -> float | None: ...

    @property
    def faults(self) -> list[str]: ...


@dataclass(frozen=True)
class AudioArray:
    """Samples (n,) at `rate` Hz: floats in [−1, 1], or integers of 16, 32 or unsigned 8 bits."""

    samples: np.ndarray
    rate: int

    def seconds(self) -> Iterator[np.ndarray]:
        """See `Audio`. Raises InputError where there are none, or they are not finite, or absurd."""
        blocks = (self.samples[begin : begin + self.rate] for begin in range(0, len(self.samples), self.rate))
        seconds = (check_samples(as_float(block)) for block in blocks)
        yield from seconds if self.rate == SAMPLING_RATE else resampled(seconds, self.rate)
        if not len(self.samples):
            raise InputError("holds no samples")

    @property
    def lost(self) -> float:
        """Nothing: what is wrong with samples is an error."""
        return 0.0

    @property
    def faults(self) -> list[str]:
        """None."""
        return []


def as_array(samples: object) -> np.ndarray:
    """Samples (n,) in an array of numpy or torch as one of numpy. Raises InputError for anything else."""
    if isinstance(samples, Tensor):
        samples = samples.detach().cpu()
        samples = (samples.float() if samples.is_floating_point() else samples).numpy()
    if not isinstance(samples, np.ndarray):
        raise InputError(f"a {type(samples).__name__}: samples come in an array of numpy or torch")
    if samples.ndim != 1:
        raise InputError(f"samples of shape {samples.shape}: give one channel, of shape (n,), and several in a list")
    return samples


def as_float(samples: np.ndarray) -> np.ndarray:
    """Samples (n,) as float32 in [−1, 1], as libsndfile reads them.

    Raises InputError for another type, and for floats that are integers by their size.
    """
    kind = samples.dtype.kind, samples.dtype.itemsize
    if kind == ("u", 1):
        return (samples.astype(np.float32) - 128) / 128
    if kind in (("i", 2), ("i", 4)):
        return (samples / 2.0 ** (8 * samples.dtype.itemsize - 1)).astype(np.float32)
    if kind[0] != "f":
        raise InputError(f"samples of type {samples.dtype}: give floats in [−1, 1], or integers of type int16 or int32")
    loudest = float(np.abs(samples).max(initial=0))
    if LOUDEST < loudest <= 2.0**31:
        raise InputError(f"floats up to {loudest:.0f}: divide by 32768, so that they lie in [−1, 1], or give integers")
    with np.errstate(over="ignore"):  # what becomes infinite is refused later
        return samples.astype(np.float32, copy=False)


class AudioFile:
    """An audio file as a stream of one channel at 16 kHz."""

    def __init__(self, path: Path) -> None:
        """Open it. Raises InputError where it is missing or no audio."""
        self.path, self.opposite = path, 0
        try:
            self.sound = Sound.open(path)
        except FileNotFoundError:
            raise InputError(f"{path}: no such file") from None
        except IsADirectoryError:
            raise InputError(f"{path}: is a directory; name a file") from None
        except (InputError, OSError) as error:
            what = kind_of_no_audio(path) or one_line(error)
            raise InputError(f"{path}: not a readable audio file ({what})") from error

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
    def lost(self) -> float | None:
        """Seconds that could not be read, once all else was; None where some could not, and nobody knows how many."""
        if not self.sound.fault:
            return 0.0
        return self.sound.lost if self.sound.lost > ALLOWED_SECONDS else None

    @property
    def faults(self) -> list[str]:
        """What is wrong with it, once all of it was read."""
        opposite = f"its channels are of opposite phase in {self.opposite} s, of which the first channel is taken"
        return [fault for fault in (self.sound.fault, opposite * bool(self.opposite)) if fault]


def kind_of_no_audio(path: Path) -> str:
    """What a file is that cannot be audio: empty, or text; "" where it may be."""
    with path.open("rb") as file:
        begin = file.read(LOOKED_AT_BYTES)
    if not begin:
        return "it is empty: 0 bytes"
    is_text = not any(byte < 32 and byte not in b"\t\n\f\r" for byte in begin)
    try:
        codecs.getincrementaldecoder("utf-8")().decode(begin)
    except UnicodeDecodeError:
        is_text = False
    return "it is text" if is_text else ""


@dataclass(frozen=True)
class Heard:
    """A recording as it was heard.

    recording: a copy of one channel at 16 kHz, in which Lhotse can go to any place. loudness_N: mean square of each
    0.1 s. faults: what is wrong with it, in words. lost: seconds of it that could not be read; None where nobody knows
    how many. copy: the file that a long one is in, which goes with this object.
    """

    recording: Recording
    loudness_N: np.ndarray
    faults: list[str]
    lost: float | None = 0.0
    copy: IO[bytes] | None = None

    @property
    def in_part(self) -> bool:
        """Whether some of it could not be read."""
        return self.lost != 0


@dataclass
class Samples(AudioSource):  # type: ignore[misc]
    """Samples (n,) at 16 kHz, as a source of a recording of Lhotse's: nothing is written or decoded to read them."""

    names_nothing: ClassVar = True  # see `asr.data.held`; no manifest can say this of itself
    samples: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))

    def load_audio(
        self, offset: float = 0.0, duration: float | None = None, force_opus_sampling_rate: int | None = None
    ) -> np.ndarray:
        """Samples (1,m) from `offset` on, seconds; all, or `duration` seconds."""
        begin = compute_num_samples(offset, SAMPLING_RATE)
        end = None if duration is None else begin + compute_num_samples(duration, SAMPLING_RATE)
        return self.samples[None, begin:end]


def listen(name: str, audio: Audio) -> Heard:
    """Keep all that can be read of a recording. Raises InputError where nothing can."""
    seconds = audio.seconds()
    begun = list(islice(seconds, IN_MEMORY_SECONDS))
    if len(begun) == IN_MEMORY_SECONDS:
        return copied(name, audio, chain(begun, seconds))
    samples = np.concatenate([np.zeros(0, np.float32), *begun])
    recording = Recording(name, [Samples("samples", [0], name, samples=samples)], *length(len(samples)))
    return Heard(recording, loudness([samples]), audio.faults, audio.lost)


def copied(name: str, audio: Audio, seconds: Iterable[np.ndarray]) -> Heard:
    """A recording that is kept in a file. seconds: of `audio`."""
    copy = tempfile.NamedTemporaryFile(prefix="asr-", suffix=".w64")  # noqa: SIM115
    with soundfile.SoundFile(copy.name, "w", SAMPLING_RATE, 1, "FLOAT", format="W64") as written:

        def passing() -> Iterator[np.ndarray]:
            for second in seconds:
                written.write(second)
                yield second

        loudness_N = loudness(passing())
        frames = written.frames
    recording = Recording(name, [AudioSource("file", [0], copy.name)], *length(frames))
    return Heard(recording, loudness_N, audio.faults, audio.lost, copy)


def length(samples: int) -> tuple[int, int, float]:
    """Sampling rate, samples and seconds of a recording of so many samples, as Lhotse wants them."""
    return SAMPLING_RATE, samples, samples / SAMPLING_RATE


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
