"""How much memory a batch will need, and batches that need no more than there is.

The peak of a training step is predicted as

    peak_mb = w·(1, B·T, B·T², B·T·(U+1), B·(U+1))

for B utterances padded to T frames after subsampling and U labels: the process and the weights, what the encoder's
layers keep of each frame, attention, the nodes of the lattice, and the rows of the predictor. The weights w ≥ 0 depend
on model, loss and machine; `asr preflight` measures them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from lhotse.cut import Cut

from asr.config import DataOptions
from asr.data.dataset import transcript
from asr.data.features import frame_count
from asr.data.tokenizer import Tokenizer
from asr.errors import InputError
from asr.frames import FrameTiming

TERMS = 5
HEADROOM = 0.9  # share of the memory beyond the process itself that predictions may fill: they are no better
RESERVE_MB = 100  # by which a process grows on a CPU, measured, as it meets hundreds of new lengths


@dataclass(frozen=True)
class BatchSize:
    """utterances: B, each view for itself; frames: T, after subsampling; labels: U; of the longest each."""

    utterances: int
    frames: int
    labels: int

    def terms(self) -> list[float]:
        """What the weights of a prediction are multiplied with."""
        padded, positions = self.utterances * self.frames, self.labels + 1
        return [1.0, padded, padded * self.frames, padded * positions, self.utterances * positions]


def predict_mb(weights: Sequence[float], size: BatchSize) -> float:
    """Peak memory of a training step on a batch of this size, MB."""
    return sum(weight * term for weight, term in zip(weights, size.terms(), strict=True))


def limit_for(weights: Sequence[float], size: BatchSize) -> float:
    """The lowest `max_mb` under which a batch of this size may be made."""
    return weights[0] + RESERVE_MB + (predict_mb(weights, size) - weights[0]) / HEADROOM


def fit_weights(sizes: Sequence[BatchSize], peaks_mb: Sequence[float]) -> list[float]:
    """The weights, none of them negative, with the least squared relative error on measured peaks.

    The best least-squares solution on a subset of the terms is tried for every subset: there are few.
    """
    peaks = np.array(peaks_mb)
    rows = np.array([size.terms() for size in sizes]) / peaks[:, None]
    best, least = np.zeros(TERMS), np.inf
    for chosen in product([False, True], repeat=TERMS):
        weights = np.zeros(TERMS)
        scale = rows[:, chosen].max(0, initial=1e-30)
        weights[list(chosen)] = np.linalg.lstsq(rows[:, chosen] / scale, np.ones(len(peaks)), rcond=None)[0] / scale
        error = float(np.square(rows @ weights - 1).sum())
        if (weights >= 0).all() and error < least:
            best, least = weights, error
    return [float(weight) for weight in best]


@dataclass(frozen=True)
class Measure:
    """The size of a batch of cuts. timing: of the encoder's frames. views: see `Batch`."""

    timing: FrameTiming
    tokenizer: Tokenizer
    views: int = 1

    def __call__(self, cuts: Sequence[Cut]) -> BatchSize:
        """The size that `cuts` are padded to."""
        frames = max(self.timing.length(frame_count(cut)) for cut in cuts)
        labels = max(len(self.tokenizer.encode(transcript(cut))) for cut in cuts)
        return BatchSize(self.views * len(cuts), frames, labels)


@dataclass(frozen=True)
class MemoryLimit:
    """Batches that are predicted to leave some of `max_mb` free: RESERVE_MB, and 1 − HEADROOM of the rest."""

    measure: Callable[[Sequence[Cut]], BatchSize]
    weights: Sequence[float]
    max_mb: float

    def needed_mb(self, cuts: Sequence[Cut]) -> float:
        """What a batch of these cuts is predicted to need."""
        return predict_mb(self.weights, self.measure(cuts))

    def fits(self, cuts: Sequence[Cut]) -> bool:
        """Whether a batch of these cuts may be made."""
        return limit_for(self.weights, self.measure(cuts)) <= self.max_mb

    def split(self, cuts: Sequence[Cut]) -> list[list[Cut]]:
        """The cuts in as many batches as it takes, of similar lengths; a cut that does not fit alone is one by itself.

        In order where all fit together.
        """
        if self.fits(cuts):
            return [list(cuts)]
        batches: list[list[Cut]] = [[]]
        for cut in sorted(cuts, key=lambda cut: (cut.duration, cut.id)):
            if batches[-1] and not self.fits([*batches[-1], cut]):
                batches.append([])
            batches[-1].append(cut)
        return batches


def make_limit(options: DataOptions, measure: Measure) -> MemoryLimit | None:
    """The limit that `options` set, if they do. Raises InputError where its weights are missing."""
    if options.max_memory_mb is None:
        return None
    if len(options.memory_weights) != TERMS:
        raise InputError(
            f"data.max_memory_mb={options.max_memory_mb:g} needs data.memory_weights, {TERMS} numbers: "
            "`asr preflight` prints them when run with the other options of this training"
        )
    return MemoryLimit(measure, options.memory_weights, options.max_memory_mb)
