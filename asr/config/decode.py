"""The searches: what they have in common, and what each has of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from asr.options import MISSING, option, path_option

SCORERS = "lm or internal_lm_weight or word_lm or word_list or phrases"  # options that add to labels


@dataclass
class DecodeOptions:
    """What every search has in common; one subclass per file in `conf/decode/`."""

    name: str = MISSING
    max_seconds: float = option(200.0, "seconds of audio in a batch at most", low=0.1)
    batch_size: Optional[int] = option(None, "utterances in a batch at most", low=1)
    max_symbols_per_frame: int = option(
        5, "labels that one frame may emit, where the model was trained with loss.topology=regular", low=1, high=1000
    )
    chunk_seconds: Optional[float] = option(
        None, "chunks that a causal encoder's attention works in, seconds; 0: none; null: as in training", low=0
    )
    precision: str = option(
        "float32",
        "autocast of the encoder, where it hears whole utterances; not of the search",
        choices=("float32", "bfloat16"),
    )


@dataclass
class LabelSearchOptions(DecodeOptions):
    """What greedy and beam search can add to the log-probabilities of labels and take off those of blanks."""

    lm: str = path_option("", "token n-gram for shallow fusion, ARPA, made by `asr lm` or another tool")
    lm_weight: float = option(0.3, "weight of its log-probabilities", low=0, only_with="lm")
    internal_lm_weight: float = option(
        0.0, "weight at which the predictor's own log-probabilities of labels are subtracted", low=0
    )
    word_lm: str = path_option("", "word n-gram for shallow fusion, ARPA, made by `asr lm units=words` or another tool")
    word_lm_weight: float = option(0.3, "weight of its log-probabilities", low=0, only_with="word_lm")
    word_list: str = path_option("", "text file of words to expect, one a line")
    oov_penalty: float = option(
        2.0, "nats taken off the log-probability of each word that is not in it", low=0, only_with="word_list"
    )
    phrases: str = path_option(
        "", "text file of phrases to expect, one a line, with a boost of their own after a tab if any"
    )
    phrase_boost: float = option(
        1.0,
        "nats that each word of such a phrase (character, where a script has no blanks) is made likelier by, spread "
        "over its tokens; 0.5 to 2 is usual",
        low=0,
        only_with="phrases",
    )
    blank_penalty: float = option(
        0.0, "nats taken off the logits of blanks, big ones included, where too many labels are deleted", low=0
    )


@dataclass
class GreedyOptions(LabelSearchOptions):
    """The likeliest arc of every node; where something is added to labels, a few readings while they are in doubt."""

    name: str = option("greedy", "which search", choices=("greedy",))
    readings: int = option(
        4,
        "readings of an utterance that are followed while they are in doubt, where a language model, a list of "
        "words or phrases are given; 1: what is chosen stays chosen",
        low=1,
        high=1000,
        only_with=SCORERS,
    )
    margin: float = option(2.0, "nats below the best at which a reading is given up", low=0, only_with=SCORERS)


@dataclass
class BeamOptions(LabelSearchOptions):
    """The most probable label sequences, each over all of its alignments that are followed."""

    name: str = option("beam", "which search", choices=("beam",))
    beam: int = option(4, "hypotheses that are followed", low=1, high=1000)
    as_icefall: bool = option(
        False,
        "search as icefall and sherpa-onnx do, to compare with them: the best are kept before those of the same labels "
        "are one, and at the end the score per label decides",
    )


@dataclass
class K2BeamOptions(DecodeOptions):
    """k2's fast beam search, where k2 is installed."""

    name: str = option("k2_fast_beam", "which search", choices=("k2_fast_beam",))
    beam: float = option(20.0, "nats below the best at which a path is given up", low=0)
    max_states: int = option(64, "states of a frame at most", low=1)
    max_contexts: int = option(8, "predictor contexts of a frame at most", low=1)


SEARCHES: dict[str, type[DecodeOptions]] = {"greedy": GreedyOptions, "beam": BeamOptions, "k2_fast_beam": K2BeamOptions}
