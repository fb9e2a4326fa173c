"""What is trained on, and what is done to it on the way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

from asr.options import option, path_option


@dataclass
class SpecAugmentOptions:
    """SpecAugment (Park et al., Interspeech 2019) without time warping."""

    time_masks: int = option(2, "time masks per 10 s of speech, at least one if not 0", low=0, high=100)
    time_mask_frames: int = option(30, "longest time mask, frames", low=0, only_with="time_masks")
    time_mask_share: float = option(
        0.2, "longest time mask as a share of the utterance", low=0, high=1, only_with="time_masks"
    )
    frequency_masks: int = option(2, "frequency masks", low=0, high=100)
    frequency_mask_bins: int = option(20, "widest frequency mask, bins", low=0, only_with="frequency_masks")


@dataclass
class NoiseOptions:
    """Noise that is mixed into training utterances."""

    cuts: list[str] = path_option([], "Lhotse manifests of noise, for example MUSAN's; none: no noise")
    probability: float = option(0.5, "share of the utterances that get noise", low=0, high=1, only_with="cuts")
    snr_db: list[float] = option(
        [10.0, 20.0], "lowest and highest ratio of signal to noise, dB", length=2, only_with="cuts"
    )


@dataclass
class RoomOptions:
    """Simulated rooms that training utterances are heard in."""

    probability: float = option(0.0, "share of the utterances that are put into a room", low=0, high=1)
    longest_t60: float = option(
        0.8,
        "longest time in which an echo falls by 60 dB, seconds; the shortest is 0.1",
        low=0.1,
        only_with="probability",
    )


@dataclass
class DataOptions:
    """Where the cuts are and how they become batches."""

    train_cuts: list[str] = path_option(
        [], "Lhotse manifests, or directories of Shar, to train on; `asr manifest` makes them of a corpus", needed=True
    )
    valid_cuts: list[str] = path_option([], "Lhotse manifests, or directories of Shar, to validate on", needed=True)
    root: str = path_option(
        "",
        "directory that no file named by a manifest may lie outside of, neither by `..` nor by a link; none: any may",
    )
    tokenizer: str = path_option("", "directory made by `asr tokenizer`", needed=True)
    sample_pieces: Optional[float] = option(
        None,
        "draw the pieces of training transcripts, anew in each epoch, by their probabilities to this power, as 0.5; "
        "of a tokenizer of kind=unigram; null: the likeliest pieces, as in validations and for max_memory_mb",
        low=0,
        high=100,
    )
    max_seconds: float = option(100.0, "seconds of audio in a batch at most, padding and every view included", low=0.1)
    max_utterances: Optional[int] = option(None, "utterances in a batch at most, every view counted", low=1)
    max_memory_mb: Optional[float] = option(
        None, "a batch that is predicted to need more memory is divided; needs data.memory_weights", low=1
    )
    memory_weights: list[float] = option([], "what predicts it, as `asr preflight` prints them", low=0)
    buckets: int = option(10, "duration buckets of the sampler", low=2, high=10_000)
    lookahead: int = option(
        20000, "utterances that the sampler looks ahead; of Shar it holds the audio, some 0.2 MB each", low=2
    )
    min_duration: float = option(0.1, "shorter utterances are not trained on, seconds", low=0)
    max_duration: float = option(30.0, "longer utterances are not trained on, seconds", low=0)
    workers: Optional[int] = option(
        None,
        "processes that load data; 0 loads in the training process; null: beside a GPU as many as it leaves CPUs, 8 at "
        "most, on CPUs two",
        low=0,
        high=1000,
    )
    timeout: float = option(600.0, "seconds without a batch after which data workers are given up", low=1)
    speed_factors: list[float] = option(
        [], "speed perturbation on the fly: one of these factors is drawn for each utterance and epoch", low=0.5, high=2
    )
    noise: NoiseOptions = field(default_factory=NoiseOptions)
    rooms: RoomOptions = field(default_factory=RoomOptions)
    spec_augment: SpecAugmentOptions = field(default_factory=SpecAugmentOptions)
