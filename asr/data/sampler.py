"""Which cuts make a batch: dynamic bucketing by Lhotse, as an endless stream that can be joined anywhere."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice, pairwise

import numpy as np
from lhotse import CutSet
from lhotse.cut import Cut
from lhotse.dataset import DynamicBucketingSampler
from torch.utils.data import Sampler

from asr.config import DataOptions
from asr.data.augment import draw_speed, keyed_random
from asr.data.batch import Position, Skipped
from asr.data.dataset import Draw, check_supervisions, transcript
from asr.data.features import frame_count, require_recording
from asr.data.memory import MemoryLimit
from asr.data.tokenizer import Tokenizer
from asr.errors import InputError
from asr.frames import FrameTiming

CUTS_FOR_BINS = 10000  # utterances, at most, that the limits of the buckets are estimated on


@dataclass
class Admission:
    """Decides which utterances can be trained on, and remembers which cannot.

    timing: of the encoder's frames.
    ctc: a CTC loss is trained too, which needs a frame per label and one more between equal labels.
    modified: the lattice needs a frame per label.
    limit: of the memory of a batch.
    """

    tokenizer: Tokenizer
    min_duration: float
    max_duration: float
    timing: FrameTiming
    ctc: bool
    modified: bool = False
    limit: MemoryLimit | None = None
    refused: dict[str, str] = field(default_factory=dict)

    def __call__(self, cut: Cut, name: str = "") -> bool:
        """Whether to train on this cut; a reason why not is kept in `refused`, under `name` or else the cut's id."""
        reason = self.reason_against(cut)
        if reason:
            self.refused[name or cut.id] = reason
        return not reason

    def reason_against(self, cut: Cut) -> str:
        """Why this cut cannot be trained on, or ""."""
        if not self.min_duration <= cut.duration <= self.max_duration:
            return f"lasts {cut.duration:.2f} s, outside {self.min_duration:g} to {self.max_duration:g} s"
        try:
            if not cut.has_features:
                require_recording(cut)
            check_supervisions(cut)
            labels = self.tokenizer.encode(transcript(cut))
        except InputError as error:
            return str(error)
        have = self.timing.length(frame_count(cut))
        need = frames_needed(labels) if self.ctc else len(labels) if self.modified else 1
        if have < need:
            return f"{len(labels)} labels need {need} frames, the encoder gives {have}{self.remedy()}"
        if self.limit and not self.limit.fits([cut]):
            needed = self.limit.needed_mb([cut])
            return f"alone it needs {needed:.0f} MB, data.max_memory_mb={self.limit.max_mb:g} is too little"
        return ""

    def remedy(self) -> str:
        """What would help where there are too few frames for the labels, to follow the reason."""
        lattice = [f"loss.topology=regular{' and train.ctc_weight=0' * self.ctc}"] if self.modified else []
        ctc = ["train.ctc_weight=0"] if self.ctc and not self.modified else []
        helpful = ["larger units", *lattice, *ctc, "longer utterances"]
        return f": {', '.join(helpful[:-1])} or {helpful[-1]} would help" if lattice or ctc else ""


def frames_needed(labels: list[int]) -> int:
    """Fewest frames on which CTC can emit `labels`."""
    return max(len(labels) + sum(a == b for a, b in pairwise(labels)), 1)


class Bucketing(DynamicBucketingSampler):  # type: ignore[misc]
    """Lhotse's, without a word of numpy's where one utterance is longer than all others together.

    Then it takes the mean of the limits of its buckets, of which there are none, to warn of a small buffer.
    """

    def __iter__(self) -> Bucketing:
        with np.errstate(invalid="ignore"), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Mean of empty slice")
            super().__iter__()
        return self


def bucketing(cuts: CutSet, options: DataOptions, shuffle: bool, seed: int = 0) -> Bucketing:
    """Batches of similar lengths, of at most `max_seconds` with padding.

    Lhotse closes a batch when one more cut as long as its longest would not fit: the last cut of a batch,
    where it is longer than the others of its bucket, can still exceed the limit.
    """
    few = sum(1 for _ in islice(cuts, options.buckets)) < options.buckets
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="You are using DynamicBucketingSampler with an eagerly read")
        return Bucketing(
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

    admission: decides what of the cuts is trained on, of which it has been asked for `cuts`; it is asked again once
    their speed is known. What it refuses is told with the draw that it was met on the way to, once in an epoch.
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
        admission: Admission | None = None,
        rank: int = 0,
        world_size: int = 1,
        limit: MemoryLimit | None = None,
    ) -> None:
        self.cuts, self.options, self.seed, self.start = cuts, options, seed, start
        self.admission, self.limit = admission, limit
        self.refused = admission.refused if admission else {}
        self.rank, self.world_size = rank, world_size

    def __iter__(self) -> Iterator[Draw]:
        whole = self.whole()
        while True:
            beside = list(islice(whole, self.world_size))
            yield replace(beside[self.rank], done=beside[-1].position)

    def whole(self) -> Iterator[Draw]:
        """The draws of all processes."""
        epoch, done = self.start
        new: list[Skipped] = []
        while True:
            told = 0
            self.refused.clear()
            for index, cuts in enumerate(self.batches(epoch)):
                new, told = [*new, *self.refused_since(told)], len(self.refused)
                if index >= done:
                    yield Draw(cuts, Position(epoch, index + 1), refused=new)
                new = []
            new = self.refused_since(told)  # in what was read after the last batch was full
            epoch, done = epoch + 1, 0

    def refused_since(self, count: int) -> list[Skipped]:
        """What was refused in this epoch, but for the first `count` utterances."""
        return [Skipped(name, reason) for name, reason in islice(self.refused.items(), count, None)]

    def batches(self, epoch: int) -> Iterator[list[Cut]]:
        """The batches of one epoch, none of which needs too much memory."""
        for cuts in self.epoch(epoch):
            yield from self.limit.split(list(cuts)) if self.limit else [list(cuts)]

    def epoch(self, epoch: int) -> DynamicBucketingSampler:
        """The batches of one epoch, as Lhotse makes them. Raises InputError where no utterance is left."""
        if next(iter(self.cuts), None) is None:
            examples = "".join(f"; {one.id}: {one.reason}" for one in self.refused_since(0)[:3])
            raise InputError(f"no utterance is left to train on, {len(self.refused)} were refused{examples}")
        sampler = bucketing(self.at_speed(epoch), self.options, True, self.seed)
        sampler.set_epoch(epoch)
        return sampler

    def at_speed(self, epoch: int) -> CutSet:
        """The cuts with speed perturbation, drawn anew for each epoch."""
        factors = self.options.speed_factors
        return CutSet(AtSpeed(self.cuts, factors, self.seed, epoch, self.admission)) if factors else self.cuts


@dataclass(frozen=True)
class AtSpeed:
    """Cuts at the speeds of an epoch, but for those that are refused at theirs."""

    cuts: CutSet
    factors: list[float]
    seed: int
    epoch: int
    admission: Admission | None

    def __iter__(self) -> Iterator[Cut]:
        for cut in self.cuts:
            perturbed = self.perturb(cut)
            if self.admission is None or self.admission(perturbed, cut.id):
                yield perturbed

    def perturb(self, cut: Cut) -> Cut:
        """The cut at its speed. Raises InputError where it has no audio to be changed."""
        if cut.has_features:
            raise InputError(
                f"{cut.id}: data.speed_factors needs audio, but the cut has stored features: "
                "use `asr features speed_factors=…` and data.speed_factors=[]"
            )
        factor = draw_speed(self.factors, keyed_random("speed", self.seed, self.epoch, cut.id))
        return cut if factor == 1 else cut.perturb_speed(factor)


class OnePass(Sampler[Draw]):
    """Every cut once, in batches of similar lengths, not shuffled; of `world_size` processes each takes its share."""

    def __init__(self, cuts: CutSet, options: DataOptions, rank: int = 0, world_size: int = 1) -> None:
        self.cuts, self.options, self.rank, self.world_size = cuts, options, rank, world_size

    def __iter__(self) -> Iterator[Draw]:
        batches = bucketing(self.cuts, self.options, shuffle=False)
        for cuts in islice(batches, self.rank, None, self.world_size):
            yield Draw(list(cuts))
