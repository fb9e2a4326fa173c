"""The search that `conf/decode` describes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from asr.arcs.make import make_arcs
from asr.config import BeamOptions, DecodeOptions, K2BeamOptions, LabelSearchOptions, LossOptions
from asr.data.tokenizer import Tokenizer
from asr.decode.arpa import read_arpa
from asr.decode.beam import BeamSearch
from asr.decode.context import context_scorer, make_phrases, read_phrases
from asr.decode.greedy import greedy_search
from asr.decode.internal_lm import internal_lm_scorer
from asr.decode.k2_backend import K2FastBeamSearch
from asr.decode.ngram import ngram_scorer
from asr.decode.scorer import LabelScorer
from asr.decode.search import Search
from asr.errors import InputError
from asr.models.transducer import Transducer


def make_search(
    options: DecodeOptions, model: Transducer, loss: LossOptions, tokenizer: Tokenizer, phrases: Sequence[str] = ()
) -> Search:
    """The search of `options` for a model trained with `loss`. phrases: to expect, beside those of a file.

    Raises InputError where it lacks something.
    """
    if isinstance(options, K2BeamOptions):
        if loss.arcs.name != "standard":
            raise InputError(
                f"decode.name={options.name}: k2 knows the standard arcs alone, and the model was trained with "
                f"loss.arcs.name={loss.arcs.name}: use decode=greedy or decode=beam"
            )
        return K2FastBeamSearch(model, options)
    assert isinstance(options, LabelSearchOptions)
    arcs = make_arcs(loss.arcs, loss.topology, model.vocab_size)  # type: ignore[arg-type]
    limit = options.max_symbols_per_frame if loss.topology == "regular" else 1
    scorers = make_scorers(options, model, tokenizer, phrases)
    if isinstance(options, BeamOptions):
        return BeamSearch(model, options.beam, arcs, limit, scorers, options.blank_penalty, options.as_icefall)
    return greedy_search(model, limit, arcs, scorers, options.blank_penalty)


def make_scorers(
    options: LabelSearchOptions, model: Transducer, tokenizer: Tokenizer, phrases: Sequence[str] = ()
) -> list[LabelScorer]:
    """What adds to the log-probabilities of labels. Raises InputError for a file that does not suit the tokenizer."""
    device = model.joiner.output.weight.device
    scorers: list[LabelScorer] = []
    if options.lm:
        scorers.append(ngram_scorer(read_arpa(Path(options.lm)), tokenizer.pieces, options.lm_weight, device))
    if options.internal_lm_weight:
        scorers.append(internal_lm_scorer(model, options.internal_lm_weight))
    expected = make_phrases(phrases, tokenizer, options.phrase_boost)
    if options.phrases:
        expected += read_phrases(Path(options.phrases), tokenizer, options.phrase_boost)
    if expected:
        scorers.append(context_scorer(expected, tokenizer.pieces, device))
    return scorers
