"""Which cuts make a batch: dynamic bucketing by Lhotse, as an endless stream that can be joined anywhere."""

from __future__ import annotations

import signal
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice, pairwise

import torch
from lhotse import CutSet
from lhotse.cut import Cut
from lhotse.dataset import DynamicBucketingSampler
from torch.utils.data import DataLoader, Sampler

from asr.config import DataOptions
from asr.data.augment import draw_speed, keyed_random
from asr.data.batch import Batch, Position
from asr.data.dataset import Draw, SpeechDataset, transcript
from asr.data.features import frame_count
from asr.data.memory import MemoryLimit
from asr.data.tokenizer import Tokenizer
from asr.errors import InputError

CUTS_FOR_BINS = 10000  # utterances, at most, that the limits of the buckets are estimated on


@dataclass
class Admission:
    """Decides which utterances can be trained on, and remembers which cannot.

    encoder_frames: feature frames → frames after subsampling.
    ctc: a CTC loss is trained too, which needs a frame per label and one more between equal labels.
    modified: the lattice needs a frame per label.
    limit: of the memory of a batch.
    """

    tokenizer: Tokenizer
    min_duration: float
    max_duration: float
    encoder_frames: Callable[[int], int]
    ctc: bool
    modified: bool = False
    limit: MemoryLimit | None = None
    refused: dict[str, str] = field(default_factory=dict)

    def __call__(self, cut: Cut) -> bool:
        """Whether to train on this cut; a reason why not is kept in `refused`."""
        reason = self.reason_against(cut)
        if reason:
            self.refused[cut.id] = reason
        return not reason

    def reason_against(self, cut: Cut) -> str:
        """Why this cut cannot be trained on, or ""."""
        if not self.min_duration <= cut.duration <= self.max_duration:
            return f"lasts {cut.duration:.2f} s, outside {self.min_duration:g} to {self.max_duration:g} s"
        try:
            labels = self.tokenizer.encode(transcript(cut))
        except InputError as error:
            return str(error)
        have = self.encoder_frames(frame_count(cut))
        need = frames_needed(labels) if self.ctc else len(labels) if self.modified else 1
        if have < need:
            return f"{len(labels)} labels need {need} frames, the encoder gives {have}"
        if self.limit and not self.limit.fits([cut]):
            needed = self.limit.needed_mb([cut])
            return f"alone it needs {needed:.0f} MB, data.max_memory_mb={self.limit.max_mb:g} is too little"
        return ""


def frames_needed(labels: list[int]) -> int:
    """Fewest frames on which CTC can emit `labels`."""
    return max(len(labels) + sum(a == b for a, b in pairwise(labels)), 1)


def bucketing(cuts: CutSet, options: DataOptions, shuffle: bool, seed: int = 0) -> DynamicBucketingSampler:
    """Batches of similar lengths, of at most `max_seconds` with padding.

    Lhotse closes a batch when one more cut as long as its longest would not fit: the last cut of a batch,
    where it is longer than the others of its bucket, can still exceed the limit.
    """
    few = sum(1 for _ in islice(cuts, options.buckets)) < options.buckets
    warnings.filterwarnings("ignore", message="You are using DynamicBucketingSampler with an eagerly read")
    return DynamicBucketingSampler(
        cuts,
        max_duration=options.max_seconds,
        max_cuts=options.max_utterances,
        num_buckets=options.buckets,
        buffer_size=options.lookahead,
        num_cuts_for_bins_estimate=min(options.lookahead, CUTS_FOR_BINS),
        duration_bins=[float("inf")] if few else None,  # Lhotse wants more cuts than buckets
        shuffle=shuffle,
        seed=seed,
        rank=0,  # not what the environment of `torchrun` says: see `TrainingStream`
        world_size=1,
    )


START = Position()


class TrainingStream(Sampler[Draw]):
    """Endless draws, epoch after epoch, from `start` on; the same for the same seed.

    admits: whether a cut can be trained on, asked again once its speed is known.
    limit: batches that would need more memory are divided.
    rank, world_size: of `world_size` processes that share the stream, each takes every world_size-th draw; so none
    ever has fewer than another, and a position means the same for any number of them.
    """

    def __init__(
        self,
        cuts: CutSet,
        options: DataOptions,
        seed: int,
        start: Position = START,
        admits: Callable[[Cut], bool] = lambda cut: True,
        rank: int = 0,
        world_size: int = 1,
        limit: MemoryLimit | None = None,
    ) -> None:
        self.cuts, self.options, self.seed, self.start, self.admits = cuts, options, seed, start, admits
        self.limit = limit
        self.rank, self.world_size = rank, world_size

    def __iter__(self) -> Iterator[Draw]:
        whole = self.whole()
        while True:
            beside = list(islice(whole, self.world_size))
            yield replace(beside[self.rank], done=beside[-1].position)

    def whole(self) -> Iterator[Draw]:
        """The draws of all processes."""
        epoch, done = self.start
        while True:
            for index, cuts in enumerate(self.batches(epoch)):
                if index >= done:
                    yield Draw(cuts, Position(epoch, index + 1))
            epoch, done = epoch + 1, 0

    def batches(self, epoch: int) -> Iterator[list[Cut]]:
        """The batches of one epoch, none of which needs too much memory."""
        for cuts in self.epoch(epoch):
            yield from self.limit.split(list(cuts)) if self.limit else [list(cuts)]

    def epoch(self, epoch: int) -> DynamicBucketingSampler:
        """The batches of one epoch, as Lhotse makes them. Raises InputError where no utterance is left."""
        if next(iter(self.cuts), None) is None:
            raise InputError("no utterance is left to train on: see the skipped ones above")
        sampler = bucketing(self.at_speed(epoch), self.options, True, self.seed)
        sampler.set_epoch(epoch)
        return sampler

    def at_speed(self, epoch: int) -> CutSet:
        """The cuts with speed perturbation, drawn anew for each epoch."""
        factors = self.options.speed_factors
        if not factors:
            return self.cuts

        def perturb(cut: Cut) -> Cut:
            if cut.has_features:
                raise InputError(
                    f"{cut.id}: data.speed_factors needs audio, but the cut has stored features: "
                    "use `asr features speed_factors=…` and data.speed_factors=[]"
                )
            factor = draw_speed(factors, keyed_random("speed", self.seed, epoch, cut.id))
            return cut if factor == 1 else cut.perturb_speed(factor)

        return self.cuts.map(perturb).filter(self.admits)


class OnePass(Sampler[Draw]):
    """Every cut once, in batches of similar lengths, not shuffled; of `world_size` processes each takes its share."""

    def __init__(self, cuts: CutSet, options: DataOptions, rank: int = 0, world_size: int = 1) -> None:
        self.cuts, self.options, self.rank, self.world_size = cuts, options, rank, world_size

    def __iter__(self) -> Iterator[Draw]:
        batches = bucketing(self.cuts, self.options, shuffle=False)
        for cuts in islice(batches, self.rank, None, self.world_size):
            yield Draw(list(cuts))


def make_loader(dataset: SpeechDataset, sampler: Sampler[Draw], workers: int) -> DataLoader[Batch]:
    """Load draws in `workers` processes, or in this one if 0. Batches do not depend on the number."""
    return DataLoader(
        dataset,
        sampler=sampler,
        batch_size=None,
        num_workers=workers,
        worker_init_fn=_start_worker if workers else None,
    )


def _start_worker(worker: int) -> None:
    # Signals to stop reach the whole process group; the training process decides when its workers end.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    torch.set_num_threads(1)
