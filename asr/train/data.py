"""Training and validation batches of a configuration."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from itertools import islice

from asr.config import TrainConfig
from asr.data.batch import Batch, Position
from asr.data.dataset import Augmentation, Draw, SpeechDataset
from asr.data.loader import Loader, named
from asr.data.manifest import open_cuts
from asr.data.memory import Measure, make_limit
from asr.data.sampler import Admission, OnePass, TrainingStream
from asr.data.tokenizer import Tokenizer
from asr.data.waves import make_waves, require_audio
from asr.data.words import aligned_words
from asr.errors import InputError, Stopped
from asr.models.normalize import GlobalNormalize
from asr.models.subsampling import MIN_FRAMES, subsampled_length
from asr.models.transducer import Transducer
from asr.train.distributed import ALONE, Ranks

ALIGNMENT_UTTERANCES = 1000  # that are looked at for times of words
GRACE_SECONDS = 10.0  # that one of several processes waits for its batch, when all are to stop after a step
NORMALIZE_UTTERANCES = 500  # that the statistics of the features are estimated on
SHOWN = 20  # reasons why utterances cannot be trained on that are told at a time
REASONS = 3  # that are told where no utterance can be trained on


def encoder_frames(frames: int) -> int:
    """Frames after subsampling of so many feature frames."""
    return int(subsampled_length(frames))


class TrainingData:
    """Training and validation batches of a configuration."""

    def __init__(self, config: TrainConfig, tokenizer: Tokenizer, ranks: Ranks = ALONE) -> None:
        self.options, self.seed, self.ranks = config.data, config.train.seed, ranks
        self.measure = Measure(encoder_frames, tokenizer)
        self.limit = make_limit(config.data, self.measure)
        self.admission = Admission(
            tokenizer,
            config.data.min_duration,
            config.data.max_duration,
            encoder_frames,
            config.train.ctc_weight > 0,
            config.loss.topology != "regular",
            self.limit,
        )
        self.named = 0  # refused utterances that have been
        self.train_cuts = open_cuts(config.data.train_cuts).filter(self.admission)
        self.valid_cuts = open_cuts(config.data.valid_cuts).filter(self.admission)
        augmentation = Augmentation(config.data.spec_augment, config.train.seed)
        waves = make_waves(config.data, config.train.seed)
        if waves:
            require_audio(self.train_cuts)
        self.train_set = SpeechDataset(config.model.mel_bins, MIN_FRAMES, tokenizer, augmentation, waves)
        self.valid_set = SpeechDataset(config.model.mel_bins, MIN_FRAMES, tokenizer)

    def batches(self, start: Position, stopping: Callable[[], bool] = lambda: False) -> Generator[Batch, None, None]:
        """Endless training batches of this process from `start` on. Utterances that are refused are named in the log
        before the first step that could have had them.

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

        with closing(iter(Loader(self.train_set, self.stream(start), self.options.workers, waiting))) as batches:
            for batch in batches:
                self.name_refused()
                yield batch

    def stream(self, start: Position) -> TrainingStream:
        """What decides which cuts make a batch."""
        place = self.ranks.rank, self.ranks.size
        return TrainingStream(self.train_cuts, self.options, self.seed, start, self.admission, *place, self.limit)

    def validation(self) -> Iterator[Batch]:
        """This process's share of the validation batches, once. Loaded here: workers would take longer to start."""
        share = OnePass(self.valid_cuts, self.options, self.ranks.rank, self.ranks.size)
        return iter(Loader(self.valid_set, share))

    def name_refused(self) -> None:
        """Name the utterances that cannot be trained on and have not been named, for at most SHOWN reasons."""
        refused = dict(islice(self.admission.refused.items(), self.named, None))
        self.named += len(refused)
        faults = list(grouped(refused))
        for fault in faults[:SHOWN]:
            logging.getLogger("asr").warning("skipped %s", fault)
        if len(faults) > SHOWN:
            logging.getLogger("asr").warning("skipped more utterances, for %d more reasons", len(faults) - SHOWN)

    def report_refused(self, warn: Callable[..., None]) -> None:
        """Name those that have not been named, and count them all."""
        self.name_refused()
        if self.named:
            warn("%d utterances could not be trained on, see above", self.named)


def grouped(reasons: Mapping[str, str]) -> Iterator[str]:
    """Reasons by utterance as `u7 and 35 more: REASON`, a reason once."""
    by_reason: dict[str, list[str]] = {}
    for utterance, reason in reasons.items():
        by_reason.setdefault(reason, []).append(utterance)
    for reason, (first, *others) in by_reason.items():
        yield f"{first}{f' and {len(others)} more' if others else ''}: {reason}"


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
            "%d of the first %d training utterances have no times of words and are not restricted: "
            "see `asr align` and `asr attach`",
            sample.count(False),
            len(sample),
        )
