"""Which cuts make a batch: an endless stream that can be joined anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from operator import eq

from lhotse import CutSet
from lhotse.cut import Cut
from torch.utils.data import Sampler

from asr.config import DataOptions
from asr.data.augment import draw_speed, keyed_random
from asr.data.batch import Position, Skipped
from asr.data.buckets import Shuffled, in_order
from asr.data.dataset import Draw, check_supervisions, transcript
from asr.data.features import frame_count, require_recording
from asr.data.memory import MemoryLimit
from asr.data.numbered import Rows, numbered
from asr.data.tokenizer import Tokenizer
from asr.errors import InputError
from asr.frames import FrameTiming


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
        have, need = self.timing.length(frame_count(cut)), self.frames_for(labels)
        if have < need:
            return f"{len(labels)} labels need {need} frames, the encoder gives {have}{self.remedy()}"
        if self.limit and not self.limit.fits([cut]):
            needed = self.limit.needed_mb([cut])
            return f"alone it needs {needed:.0f} MB, data.max_memory_mb={self.limit.max_mb:g} is too little"
        return ""

    def frames_for(self, labels: list[int]) -> int:
        """Fewest frames after subsampling on which `labels` can be trained."""
        return frames_needed(labels) if self.ctc else len(labels) if self.modified else 1

    def remedy(self) -> str:
        """What would help where there are too few frames for the labels, to follow the reason."""
        lattice = [f"loss.topology=regular{' and train.ctc_weight=0' * self.ctc}"] if self.modified else []
        ctc = ["train.ctc_weight=0"] if self.ctc and not self.modified else []
        helpful = ["larger units", *lattice, *ctc, "longer utterances"]
        return f": {', '.join(helpful[:-1])} or {helpful[-1]} would help" if lattice or ctc else ""


def frames_needed(labels: list[int]) -> int:
    """Fewest frames on which CTC can emit `labels`."""
    return max(len(labels) + sum(map(eq, labels, labels[1:])), 1)


START = Position()
STATE_EVERY = 20  # batches after which the state is noted, which takes 2 ms for 20,000 utterances that wait


class TrainingStream(Sampler[Draw]):
    """Endless draws, epoch after epoch, from `start` on; the same for the same seed.

    admission: decides what of the cuts is trained on; it is asked again once their speed is known. What it refuses is
    told with the draw that it was met on the way to, once in an epoch.
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
        """The draws of all processes. Raises InputError where no utterance is left."""
        start = self.start
        new: list[Skipped] = []
        while True:
            told, position = 0, None
            self.refused.clear()
            for position, cuts in self.batches(start):
                new, told = [*new, *self.refused_since(told)], len(self.refused)
                if position.batch > start.batch:
                    yield Draw(cuts, position, refused=new)
                new = []
            if position is None and not start.batch:
                examples = "".join(f"; {one.id}: {one.reason}" for one in self.refused_since(0)[:3])
                raise InputError(f"no utterance is left to train on, {len(self.refused)} were refused{examples}")
            new = self.refused_since(told)  # in what was read after the last batch was full
            start = Position(start.epoch + 1)

    def refused_since(self, count: int) -> list[Skipped]:
        """What was refused in this epoch, but for the first `count` utterances."""
        return [Skipped(name, reason) for name, reason in islice(self.refused.items(), count, None)]

    def batches(self, start: Position) -> Iterator[tuple[Position, list[Cut]]]:
        """The batches of an epoch, none of which needs too much memory, and where the stream stands after each.

        Those from the sampler's state at `start` on, which may be some before it; without a state all.
        """
        state = start.sampler
        done = state.batch if state else 0
        epoch = Shuffled(partial(self.of_epoch, start.epoch), self.options, self.seed + start.epoch, state)
        for number, cuts in enumerate(epoch, 1):
            for part in self.limit.split(cuts) if self.limit else [cuts]:
                done += 1
                yield Position(start.epoch, done, state), part
            if number % STATE_EVERY == 0:
                state = epoch.state(done)

    def of_epoch(self, epoch: int, wanted: Rows) -> Iterator[tuple[int, Cut | None]]:
        """The wanted rows, and the cut in each at its speed in an epoch, None for what is refused."""
        return ((row, self.admitted(cut, epoch)) for row, cut in numbered(self.cuts, wanted))

    def admitted(self, cut: Cut, epoch: int) -> Cut | None:
        """The cut at its speed in an epoch; None where it, or that, is refused."""
        if self.admission and not self.admission(cut):
            return None
        perturbed = self.at_speed(cut, epoch) if self.options.speed_factors else cut
        refused = perturbed is not cut and self.admission and not self.admission(perturbed, cut.id)
        return None if refused else perturbed

    def at_speed(self, cut: Cut, epoch: int) -> Cut:
        """The cut at a speed drawn anew for each epoch. Raises InputError where it has no audio to be changed."""
        if cut.has_features:
            raise InputError(
                f"{cut.id}: data.speed_factors needs audio, but the cut has stored features: "
                "use `asr features speed_factors=…` and data.speed_factors=[]"
            )
        factor = draw_speed(self.options.speed_factors, keyed_random("speed", self.seed, epoch, cut.id))
        return cut if factor == 1 else cut.perturb_speed(factor)


class OnePass(Sampler[Draw]):
    """Every cut once, in batches of similar lengths, not shuffled; of `world_size` processes each takes its share."""

    def __init__(self, cuts: CutSet, options: DataOptions, rank: int = 0, world_size: int = 1) -> None:
        self.cuts, self.options, self.rank, self.world_size = cuts, options, rank, world_size

    def __iter__(self) -> Iterator[Draw]:
        for cuts in islice(in_order(self.cuts, self.options), self.rank, None, self.world_size):
            yield Draw(cuts)
