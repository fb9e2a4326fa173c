"""Training and validation batches of a configuration."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from functools import cached_property
from itertools import islice

from lhotse.cut import Cut

from asr.config import DataOptions, TrainConfig
from asr.cpus import data_workers
from asr.data.batch import Batch, Position
from asr.data.dataset import Augmentation, Draw, SpeechDataset
from asr.data.loader import Loader, named
from asr.data.manifest import open_cuts
from asr.data.memory import Measure, MemoryLimit, make_limit
from asr.data.pieces import PieceSampler
from asr.data.sampler import Admission, OnePass, TrainingStream
from asr.data.tokenizer import Tokenizer
from asr.data.validation import Part, held_out
from asr.data.waves import make_waves, require_audio
from asr.data.words import aligned_words
from asr.device import choose_device
from asr.errors import InputError, Stopped
from asr.models.normalize import GlobalNormalize
from asr.models.subsampling import frame_timing
from asr.models.transducer import Transducer
from asr.train.distributed import ALONE, Ranks
from asr.train.skips import grouped

ALIGNMENT_UTTERANCES = 1000  # that are looked at for times of words
GRACE_SECONDS = 10.0  # that one of several processes waits for its batch, when all are to stop after a step
NORMALIZE_UTTERANCES = 500  # that the statistics of the features are estimated on
TRAINED, VALIDATED = "data.train_cuts", "data.valid_cuts"  # what the parts are called
REASONS = 3  # that are told where no utterance can be trained on


class HeldOut(SpeechDataset):
    """Utterances to validate on. Text outside the vocabulary has no labels: it can be recognised all the same."""

    def encode(self, text: str) -> list[int]:
        """Token ids of a transcript; none where the vocabulary does not cover it."""
        try:
            return super().encode(text)
        except InputError:
            return []


class TrainingData:
    """Training and validation batches of a configuration.

    Trained on are the utterances that `admission` takes; validated on are all, but the loss is of those that it takes.
    rows_known: as in `open_cuts`, of the rows to train on.
    """

    def __init__(
        self, config: TrainConfig, tokenizer: Tokenizer, ranks: Ranks = ALONE, rows_known: bool = False
    ) -> None:
        self.options, self.seed, self.ranks = config.data, config.train.seed, ranks
        self.workers = workers_of(config)
        self.views, timing = config.views, frame_timing(config.model.subsampling)
        self.measure = Measure(timing, tokenizer, self.views)
        self.limit = make_limit(config.data, self.measure)
        self.admission = make_admission(config, tokenizer, self.limit)
        self.all_train_cuts = open_cuts(config.data.train_cuts, config.data.root, rows_known)
        self.train_cuts = self.all_train_cuts.filter(self.admission)
        self.valid_cuts = open_cuts(config.data.valid_cuts, config.data.root)
        augmentation = Augmentation(config.data.spec_augment, config.train.seed)
        waves = make_waves(config.data, config.train.seed)
        if waves:
            require_audio(self.train_cuts)
        drawn, labelled = config.data.sample_pieces, config.train.frame_weight > 0
        sampler = None
        if drawn is not None:
            sampler = PieceSampler(tokenizer, drawn, config.train.seed, self.admission.frames_for)
        self.train_set = SpeechDataset(
            config.model.mel_bins, timing, tokenizer, augmentation, waves, self.views, labelled, sampler
        )
        self.valid_set = HeldOut(config.model.mel_bins, timing, tokenizer)

    def batches(self, start: Position, stopping: Callable[[], bool] = lambda: False) -> Generator[Batch, None, None]:
        """Endless training batches of this process from `start` on.

        Raises, where a worker's batch is waited for, Stopped while `stopping()`, and InputError after `data.timeout`.
        """
        grace = 0.0 if self.ranks.size == 1 else GRACE_SECONDS

        def waiting(seconds: float, draw: Draw) -> None:
            if stopping() and seconds >= grace:
                raise Stopped
            if seconds >= self.options.timeout:
                raise InputError(
                    f"no batch for {seconds:.0f} s: {named(draw)} cannot be read by the data workers, or not so soon; "
                    "see to their files, or raise data.timeout"
                )

        return iter(Loader(self.train_set, self.stream(start), self.workers, waiting))

    def stream(self, start: Position) -> TrainingStream:
        """What decides which cuts make a batch."""
        options, place = once_for_each_view(self.options, self.views), (self.ranks.rank, self.ranks.size)
        return TrainingStream(self.all_train_cuts, options, self.seed, start, self.admission, *place, self.limit)

    def validation(self, wanted: Callable[[Cut], bool]) -> Iterator[Batch]:
        """This process's share of the batches of the cuts to validate on that are wanted, once.

        Loaded here: workers would take longer to start.
        """
        cuts = self.valid_cuts.filter(wanted)
        if next(iter(cuts), None) is None:
            return iter(())
        return iter(Loader(self.valid_set, OnePass(cuts, self.options, self.ranks.rank, self.ranks.size)))

    def share_of_validation(self, wanted: Callable[[Cut], bool]) -> Iterator[Cut]:
        """This process's share of these cuts themselves."""
        return islice(self.valid_cuts.filter(wanted), self.ranks.rank, None, self.ranks.size)

    @cached_property
    def valid_ids(self) -> list[str]:
        """The ids of all utterances to validate on, in order."""
        return [cut.id for cut in self.valid_cuts]

    @cached_property
    def without_loss(self) -> dict[str, str]:
        """Why utterances to validate on have no loss, by id."""
        reasons = ((cut.id, self.admission.reason_against(cut)) for cut in self.valid_cuts)
        return {cut_id: reason for cut_id, reason in reasons if reason}


def workers_of(config: TrainConfig) -> int:
    """How many processes load data for this one."""
    if config.data.workers is not None:
        return config.data.workers
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # of torchrun
    return data_workers(choose_device(config.train.device).type == "cuda", processes)


def make_admission(config: TrainConfig, tokenizer: Tokenizer, limit: MemoryLimit | None = None) -> Admission:
    """What decides which utterances a training takes. limit: of the memory of a batch."""
    return Admission(
        tokenizer,
        config.data.min_duration,
        config.data.max_duration,
        frame_timing(config.model.subsampling),
        config.train.ctc_weight > 0,
        bool(config.loss.labels_take_frames),
        limit,
    )


def parts_of(config: TrainConfig, admission: Admission | None, tokenizer: Tokenizer | None) -> list[Part]:
    """The manifests of a training, to be examined; without a tokenizer nothing is held against one."""
    others = held_out(tokenizer)
    training = admission.reason_against if admission else others
    named = {TRAINED: (config.data.train_cuts, training), VALIDATED: (config.data.valid_cuts, others)}
    return [Part(name, paths, reason_against) for name, (paths, reason_against) in named.items() if paths]


def once_for_each_view(options: DataOptions, views: int) -> DataOptions:
    """What limits the utterances of a batch that has each of them several times."""
    utterances = options.max_utterances and max(options.max_utterances // views, 1)
    return replace(options, max_seconds=options.max_seconds / views, max_utterances=utterances)


def estimate_normalization(model: Transducer, data: TrainingData) -> None:
    """Set the statistics of a `global` normalisation from the first training utterances."""
    if not isinstance(model.encoder.normalize, GlobalNormalize):
        return
    sample, unreadable = [], dict[str, str]()
    for cut in data.train_cuts.subset(first=NORMALIZE_UTTERANCES):
        try:
            sample.append(data.valid_set.load(cut, None))
        except InputError as error:  # where others can be read, the training loop will name this one
            unreadable[cut.id] = str(error)
    if not sample:
        reasons = "; ".join(islice(grouped(unreadable | data.admission.refused), REASONS))
        raise InputError(f"no utterance of {', '.join(data.options.train_cuts)} can be trained on: {reasons}")
    model.encoder.normalize.estimate(sample)


def warn_of_unaligned(data: TrainingData) -> None:
    """Say so where the first training utterances have no times of their words."""
    sample = [bool(aligned_words(cut)) for cut in data.train_cuts.subset(first=ALIGNMENT_UTTERANCES)]
    if not all(sample):
        logging.getLogger("asr").warning(
            "%d of the first %d training utterances have no times of words, and make no use of any: "
            "see `asr align` and `asr attach`",
            sample.count(False),
            len(sample),
        )
