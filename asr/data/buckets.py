"""Batches of similar lengths: Lhotse's buckets, which can be left in the middle of an epoch and gone on with."""

from __future__ import annotations

import random
import warnings
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from types import SimpleNamespace

import numpy as np
from lhotse.cut import Cut
from lhotse.dataset.sampling.dynamic_bucketing import DynamicBucketer, estimate_duration_buckets

from asr.config import DataOptions
from asr.data.batch import SamplerState
from asr.data.numbered import Rows

CUTS_FOR_BINS = 10000  # utterances, at most, that the limits of the buckets are estimated on
CHOICE_SEED = 1234  # of the bucket that a batch comes from: Lhotse's own


def in_order(cuts: Iterable[Cut], options: DataOptions) -> Iterator[list[Cut]]:
    """Batches of similar lengths, not shuffled."""
    bins, cuts = with_bins(cuts, options)
    return batches_of(cuts, bins, options, random.Random(CHOICE_SEED))


def with_bins(cuts: Iterable[Cut], options: DataOptions) -> tuple[list[float], Iterator[Cut]]:
    """Limits of the buckets, seconds, and the cuts, of which the first have been looked at for them."""
    cuts = iter(cuts)
    first = list(islice(cuts, min(options.lookahead, CUTS_FOR_BINS)))
    bins = [float("inf")]
    if len(first) >= options.buckets:  # Lhotse wants more cuts than buckets
        measure = SimpleNamespace(measure_length=lambda cut: cut.duration)
        bins = [float(limit) for limit in estimate_duration_buckets(first, options.buckets, measure)]
    return bins, chain(first, cuts)


def batches_of(
    cuts: Iterable[Cut],
    bins: list[float],
    options: DataOptions,
    choice: random.Random,
    order: random.Random | None = None,
) -> Iterator[list[Cut]]:
    """Batches of at most `max_seconds` with padding. choice: of a bucket. order: within it; None: as they came.

    Lhotse closes a batch when one more cut as long as its longest would not fit: the last cut of a batch,
    where it is longer than the others of its bucket, can still exceed the limit.
    """
    with np.errstate(invalid="ignore"), warnings.catch_warnings():
        # It takes the mean of the limits, of which there are none where one cut is longer than all others together.
        warnings.filterwarnings("ignore", message="Mean of empty slice")
        buckets = DynamicBucketer(
            ((cut,) for cut in cuts),
            bins,
            world_size=1,
            max_duration=options.max_seconds,
            max_cuts=options.max_utterances,
            buffer_size=options.lookahead,
            shuffle=order is not None,
            rng=order,
            bucket_rng=choice,
        )
    return map(list, buckets)


@dataclass
class Shuffled:
    """The shuffled batches of an epoch, once, from its beginning or from a `state` on.

    numbered: the cuts of rows, None for one that is not trained on. seed: of the run and the epoch.

    What decides the batches to come is what waits in the buckets, the rest of the manifests, and two generators. Lhotse
    fills its buckets before each batch; so new ones that are given first what waited, and then the rest, go on with
    the same batches.
    """

    numbered: Callable[[Rows], Iterator[tuple[int, Cut | None]]]
    options: DataOptions
    seed: int
    begun: SamplerState | None = None
    read: int = 0
    waiting: dict[int, int] = field(default_factory=dict)  # rows of the cuts in the buckets, by what Python calls them
    bins: list[float] = field(default_factory=list)

    def __iter__(self) -> Iterator[list[Cut]]:
        self.order, self.choice = random.Random(self.seed), random.Random(CHOICE_SEED)
        if self.begun is None:
            self.bins, cuts = with_bins(self.cuts(Rows()), self.options)
        else:
            self.bins, self.read = self.begun.bins, self.begun.read
            for generator, state in zip((self.order, self.choice), self.begun.generators):
                generator.setstate(state)
            cuts = self.cuts(Rows(frozenset(self.begun.rows), self.read))
        for batch in batches_of(cuts, self.bins, self.options, self.choice, self.order):
            for cut in batch:
                self.waiting.pop(id(cut), None)
            yield batch

    def cuts(self, wanted: Rows) -> Iterator[Cut]:
        """The cuts that are trained on, each noted as waiting."""
        for row, cut in self.numbered(wanted):
            self.read = max(self.read, row + 1)
            if cut is not None:
                self.waiting[id(cut)] = row
                yield cut

    def state(self, done: int) -> SamplerState:
        """What goes on after the last batch. done: batches of the epoch so far, as training counts them."""
        rows = array("q", sorted(self.waiting.values()))
        return SamplerState(done, self.read, rows, self.bins, (self.order.getstate(), self.choice.getstate()))
