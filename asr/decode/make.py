"""The search that `conf/decode` describes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from asr.arcs.base import ArcSet, Sigmoid, Softmax
from asr.arcs.make import make_arcs
from asr.config import BeamOptions, DecodeOptions, GreedyOptions, K2BeamOptions, LabelSearchOptions, LossOptions
from asr.data.tokenizer import Tokenizer
from asr.decode.arpa import read_arpa
from asr.decode.beam import BeamSearch
from asr.decode.context import context_scorer, make_phrases, read_phrases
from asr.decode.greedy import GreedySearch
from asr.decode.internal_lm import internal_lm_scorer
from asr.decode.k2_backend import K2FastBeamSearch
from asr.decode.ngram import ngram_scorer
from asr.decode.scorer import LabelScorer, Tabulated
from asr.decode.search import Search
from asr.decode.word_list import read_word_list, word_list_scorer
from asr.decode.word_ngram import read_word_ngrams, word_ngram_scorer
from asr.errors import InputError
from asr.models.predictor import StatelessPredictor
from asr.models.transducer import Transducer
from asr.ops.joint.reference import linear_after_tanh


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
        given = model, options.beam, arcs, limit, scorers, options.blank_penalty
        return beam_search(*given, as_icefall=options.as_icefall)
    assert isinstance(options, GreedyOptions)
    if scorers and options.readings > 1:
        return beam_search(model, options.readings, arcs, limit, scorers, options.blank_penalty, options.margin)
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
    if options.word_lm:
        ngrams = read_word_ngrams(Path(options.word_lm), tokenizer)
        scorers.append(word_ngram_scorer(ngrams, tokenizer.pieces, options.word_lm_weight, device))
    if options.word_list:
        words = read_word_list(Path(options.word_list), tokenizer)
        scorers.append(word_list_scorer(words, tokenizer.pieces, options.oov_penalty, device))
    expected = make_phrases(phrases, tokenizer, options.phrase_boost)
    if options.phrases:
        expected += read_phrases(Path(options.phrases), tokenizer, options.phrase_boost)
    if expected:
        scorers.append(context_scorer(expected, tokenizer.pieces, device))
    return scorers


def greedy_search(
    model: Transducer,
    max_symbols_per_frame: int,
    arcs: ArcSet,
    scorers: Sequence[LabelScorer] = (),
    blank_penalty: float = 0.0,
) -> Search:
    """The search compiled, where it can be and the code is kept; else as it is written."""
    tabulated = known_scorers(model, arcs, scorers)
    if tabulated is not None:
        from asr.decode import greedy_compiled  # imports numba, which takes 0.3 s

        if greedy_compiled.is_kept():
            return greedy_compiled.CompiledGreedySearch(model, max_symbols_per_frame, arcs, tabulated, blank_penalty)
    return GreedySearch(model, max_symbols_per_frame, arcs, scorers, blank_penalty)


def beam_search(
    model: Transducer,
    beam: int,
    arcs: ArcSet,
    max_symbols_per_frame: int,
    scorers: Sequence[LabelScorer] = (),
    blank_penalty: float = 0.0,
    margin: float = math.inf,
    as_icefall: bool = False,
) -> Search:
    """The search compiled, where it can be and the code is kept; else as it is written."""
    tabulated = None if as_icefall else known_scorers(model, arcs, scorers)
    if tabulated is not None:
        from asr.decode import beam_compiled

        if beam_compiled.is_kept():
            given = model, beam, arcs, max_symbols_per_frame, tabulated, blank_penalty, margin
            return beam_compiled.CompiledBeamSearch(*given)
    return BeamSearch(model, beam, arcs, max_symbols_per_frame, scorers, blank_penalty, margin, as_icefall)


def known_scorers(model: Transducer, arcs: ArcSet, scorers: Sequence[LabelScorer]) -> list[Tabulated[Any]] | None:
    """The scorers, where all of them are in tables, and model and arcs are known, too; else None."""
    tabulated = [scorer for scorer in scorers if isinstance(scorer, Tabulated)]
    return tabulated if len(tabulated) == len(scorers) and is_known(model, arcs) else None


def is_known(model: Transducer, arcs: ArcSet) -> bool:
    """Whether predictor, joiner and arcs are those that are compiled, on a CPU, in a type that is."""
    output, projection = linear_after_tanh(model.joiner), model.predictor_projection
    if output is None or type(projection) is not nn.Linear or type(model.predictor) is not StatelessPredictor:
        return False
    of_kind = all(isinstance(head, Sigmoid) or (isinstance(head, Softmax) and not head.has_rest) for head in arcs.heads)
    return of_kind and output.weight.device.type == "cpu" and output.weight.dtype in (torch.float32, torch.float64)
