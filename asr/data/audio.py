"""Audio files of any length, a second at a time."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import soundfile
import torch
from lhotse import Fbank, Recording
from lhotse.cut import Cut
from torch import Tensor
from torchaudio.functional import resample

from asr.data.features import FRAME_SAMPLES, SAMPLING_RATE, check_samples, extract, one_line
from asr.errors import InputError

WINDOW_SAMPLES = 400  # that a feature frame is computed from, centred on the 160 of its own
BLOCK_SECONDS = 0.1  # in which loudness is measured
QUIET_BLOCKS = 3  # over which it is averaged, to find a pause rather than a stop consonant


def read_seconds(path: Path) -> Iterator[np.ndarray]:
    """Samples (n,) float32 in [−1, 1] at 16 kHz, channels averaged: a second at a time, the last one shorter.

    Raises InputError where the file cannot be read, or its samples are not finite, or absurd.
    """
    try:
        with soundfile.SoundFile(path) as file:
            blocks = file.blocks(blocksize=file.samplerate, dtype="float32", always_2d=True)
            mono = (check_samples(block.mean(axis=1)) for block in blocks)
            yield from mono if file.samplerate == SAMPLING_RATE else resampled(mono, file.samplerate)
    except (soundfile.SoundFileError, OSError) as error:
        raise InputError(f"{path}: unreadable audio ({one_line(error)})") from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


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


def cut_at_pauses(recording: Recording, longest: float) -> list[Cut]:
    """A recording as cuts of at most `longest` seconds, each of which ends where it is quiet.

    The whole, if it is no longer than that. Raises InputError for unreadable audio.
    """
    cut = recording.to_cut()
    if cut.duration <= longest:
        return [cut.with_id(recording.id)]
    path = Path(recording.sources[0].source)
    bounds = [0.0, *quiet_times(loudness(path), longest), cut.duration]
    return [
        cut.truncate(offset=begin, duration=end - begin).with_id(f"{recording.id}#{n}")
        for n, (begin, end) in enumerate(pairwise(bounds))
    ]


def loudness(path: Path) -> np.ndarray:
    """Mean square of each 0.1 s of a file, (n,)."""
    size = round(BLOCK_SECONDS * SAMPLING_RATE)
    whole = (second[: len(second) // size * size].reshape(-1, size) for second in read_seconds(path))
    return np.concatenate([(blocks**2).mean(1) for blocks in whole])


def quiet_times(loudness_N: np.ndarray, longest: float) -> list[float]:
    """Times (seconds) to cut at: the quietest of the second half of every piece of at most `longest` seconds."""
    smooth = np.convolve(loudness_N, np.ones(QUIET_BLOCKS) / QUIET_BLOCKS, mode="same")
    most = int(longest / BLOCK_SECONDS)
    times, begin = [], 0
    while len(smooth) - begin > most:
        earliest = begin + most // 2
        begin = earliest + int(smooth[earliest : begin + most].argmin())
        times.append(round((begin + 0.5) * BLOCK_SECONDS, 3))
    return times
