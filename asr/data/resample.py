"""Audio of any sampling rate as it comes, at 16 kHz."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import chain

import numpy as np
import torch
from torchaudio.functional import resample

from asr.data.features import SAMPLING_RATE
from asr.data.sound import in_blocks
from asr.errors import InputError

HIGHEST_RATE = 768_000  # Hz
FILTER_PERIODS = 6.0 / 0.99  # of the lower of two rates, that the filter reaches to either side: torchaudio's defaults


def check_rate(rate: object) -> int:
    """A sampling rate. Raises InputError where it is none."""
    if isinstance(rate, (int, np.integer)) and not isinstance(rate, bool) and 0 < rate <= HIGHEST_RATE:
        return int(rate)
    raise InputError(f"sampling_rate={rate!r}: must be a whole number of samples a second, 1 to {HIGHEST_RATE}")


def resampled(blocks: Iterable[np.ndarray], rate: int) -> Iterator[np.ndarray]:
    """Samples at `rate`, in blocks of any length, as seconds at 16 kHz."""
    resampler = Resampler(rate)
    yield from in_blocks(chain(map(resampler.add, blocks), map(Resampler.end, [resampler])), SAMPLING_RATE)


class Resampler:
    """Brings samples that come in blocks from `rate` Hz to 16 kHz: the same as of all samples at once.

    It works in whole periods, after which samples of both rates coincide, and waits for what its filter reaches over.
    """

    def __init__(self, rate: int) -> None:
        common = math.gcd(rate, SAMPLING_RATE)
        self.rate, self.period, self.made = rate, rate // common, SAMPLING_RATE // common
        self.reach = math.ceil(FILTER_PERIODS * rate / min(rate, SAMPLING_RATE))
        self.kept = -(-self.reach // self.period)  # periods that are heard again with the next
        self.waiting = np.zeros(0, dtype=np.float32)
        self.done = 0  # periods of what waits that have been brought to 16 kHz

    def add(self, samples: np.ndarray) -> np.ndarray:
        """The samples at 16 kHz that are complete with these (n,)."""
        self.waiting = np.concatenate((self.waiting, samples))
        ready = (len(self.waiting) - self.reach) // self.period
        if ready <= self.done:
            return np.zeros(0, dtype=np.float32)
        made = self.resample()[self.done * self.made : ready * self.made]
        left = max(ready - self.kept, 0)
        self.waiting, self.done = self.waiting[left * self.period :], ready - left
        return made

    def end(self) -> np.ndarray:
        """The last samples."""
        return self.resample()[self.done * self.made :]

    def resample(self) -> np.ndarray:
        """All that waits, at 16 kHz."""
        if not len(self.waiting):
            return self.waiting
        return resample(torch.from_numpy(self.waiting), self.rate, SAMPLING_RATE).numpy()
