"""Training and validation batches of a configuration."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from asr.config import TrainConfig
from asr.data.batch import Batch, Position
from asr.data.dataset import Augmentation, SpeechDataset
from asr.data.manifest import open_cuts
from asr.data.memory import Measure, make_limit
from asr.data.sampler import Admission, OnePass, TrainingStream, make_loader
from asr.data.tokenizer import Tokenizer
from asr.data.waves import make_waves, require_audio
from asr.data.words import aligned_words
from asr.errors import InputError
from asr.models.normalize import GlobalNormalize
from asr.models.subsampling import MIN_FRAMES, subsampled_length
from asr.models.transducer import Transducer
from asr.train.distributed import ALONE, Ranks

ALIGNMENT_UTTERANCES = 1000  # that are looked at for times of words
NORMALIZE_UTTERANCES = 500  # that the statistics of the features are estimated on


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
            bool(config.loss.labels_take_frames),
            self.limit,
        )
        self.train_cuts = open_cuts(config.data.train_cuts).filter(self.admission)
        self.valid_cuts = open_cuts(config.data.valid_cuts).filter(self.admission)
        augmentation = Augmentation(config.data.spec_augment, config.train.seed)
        waves = make_waves(config.data, config.train.seed)
        if waves:
            require_audio(self.train_cuts)
        self.train_set = SpeechDataset(config.model.mel_bins, MIN_FRAMES, tokenizer, augmentation, waves)
        self.valid_set = SpeechDataset(config.model.mel_bins, MIN_FRAMES, tokenizer)

    def batches(self, start: Position) -> Iterator[Batch]:
        """Endless training batches of this process from `start` on."""
        return iter(make_loader(self.train_set, self.stream(start), self.options.workers))

    def stream(self, start: Position) -> TrainingStream:
        """What decides which cuts make a batch."""
        place = self.ranks.rank, self.ranks.size
        return TrainingStream(self.train_cuts, self.options, self.seed, start, self.admission, *place, self.limit)

    def validation(self) -> Iterator[Batch]:
        """This process's share of the validation batches, once. Loaded here: workers would take longer to start."""
        share = OnePass(self.valid_cuts, self.options, self.ranks.rank, self.ranks.size)
        return iter(make_loader(self.valid_set, share, workers=0))

    def report_refused(self, warn: object) -> None:
        """Name the utterances that could not be trained on, the first 20 of them, and count them all."""
        assert callable(warn)
        refused = self.admission.refused
        for cut_id, reason in list(refused.items())[:20]:
            warn("skipped %s: %s", cut_id, reason)
        if refused:
            warn("%d utterances were skipped in all", len(refused))


def estimate_normalization(model: Transducer, data: TrainingData) -> None:
    """Set the statistics of a `global` normalisation from the first training utterances."""
    if not isinstance(model.encoder.normalize, GlobalNormalize):
        return
    sample = []
    for cut in data.train_cuts.subset(first=NORMALIZE_UTTERANCES):
        try:
            sample.append(data.valid_set.load(cut, None))
        except InputError:  # the training loop will name it
            continue
    if not sample:
        raise InputError(
            f"no utterance of {', '.join(data.options.train_cuts)} can be trained on"
            + "".join(f"; {cut}: {why}" for cut, why in list(data.admission.refused.items())[:1])
        )
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
