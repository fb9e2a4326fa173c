"""k2's fast beam search: refused without k2; with k2, or its stand-in, a search as others are, of one label a frame."""

import importlib.util
import os
import sys

import k2_stand_in
import pytest
import torch
from random_models import random_encoded, random_model

from asr.arcs.standard import standard_arcs
from asr.config import K2BeamOptions
from asr.decode.beam import BeamSearch
from asr.decode.k2_backend import K2FastBeamSearch, with_padding
from asr.decode.search import Hypothesis, search_all
from asr.errors import InputError

WIDE = K2BeamOptions(beam=1e3, max_states=10_000, max_contexts=10_000)


@pytest.fixture
def k2(monkeypatch):
    """k2, or a stand-in where it is not installed; ASR_REQUIRE_K2=1 asks for the real one."""
    if importlib.util.find_spec("k2") is None:
        assert os.environ.get("ASR_REQUIRE_K2") != "1", "ASR_REQUIRE_K2=1, but k2 is not installed"
        monkeypatch.setitem(sys.modules, "k2", k2_stand_in)


def assert_same(found: list[Hypothesis], expected: list[Hypothesis]) -> None:
    (one,), (other,) = found, expected
    assert (one.tokens, one.frames) == (other.tokens, other.frames)
    assert [one.score, *one.confidences] == pytest.approx([other.score, *other.confidences], abs=1e-4)


def test_without_k2_it_is_refused_with_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "k2", None)
    with pytest.raises(InputError, match="k2 is not installed .* or use decode=beam"):
        K2FastBeamSearch(random_model(0), K2BeamOptions())


def test_contexts_begin_as_those_of_our_predictor():
    contexts = torch.tensor([[0, 0, 0], [0, 0, 5], [0, 4, 5], [3, 4, 5]])
    assert with_padding(contexts).tolist() == [[-1, -1, 0], [-1, 0, 5], [0, 4, 5], [3, 4, 5]]
    for size in (1, 2, 3):
        start = random_model(size - 1).predictor.start(1, torch.device("cpu"))
        assert torch.equal(with_padding(torch.zeros_like(start)), start)


def test_the_best_path_is_that_of_a_wide_beam(k2):
    """No worse than what a beam of 1 finds, no better than the sum of all paths of the best labels."""
    for seed in range(3):
        model, (encoded, frames) = random_model(seed).float(), random_encoded(seed, batch=3, longest=4)
        found = search_all(K2FastBeamSearch(model, WIDE), encoded.float(), frames)
        narrow = search_all(BeamSearch(model, 1, standard_arcs("modified")), encoded.float(), frames)
        wide = search_all(BeamSearch(model, 1000, standard_arcs("modified")), encoded.float(), frames)
        for (path,), (least, *_), (most, *_) in zip(found, narrow, wide, strict=True):
            assert least.score - 1e-3 <= path.score <= most.score + 1e-3
            assert len(path.tokens) == len(path.frames) == len(path.confidences)


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("parts", [[5], [2, 2, 1]])
def test_parts_that_are_read_one_after_the_other_are_the_whole(k2, inference, parts):
    """In inference mode throughout, as a validation is, and outside, as a library would use it."""
    model, (encoded, frames) = random_model(2).float(), random_encoded(2, batch=3, longest=5)
    search = K2FastBeamSearch(model, WIDE)
    expected = search_all(search, encoded.float(), frames)
    with torch.inference_mode(inference):
        session, begin = search.begin(len(frames)), 0
        for part in parts:
            session.read(encoded[:, begin : begin + part].float(), (frames - begin).clamp(0, part))
            found, begin = session.best(), begin + part
    for path, wanted in zip(found, expected, strict=True):
        assert_same(path, wanted)


def test_an_utterance_without_frames_beside_others_is_empty_and_its_score_is_finite(k2):
    model, (encoded, frames) = random_model(3).float(), random_encoded(3, batch=3, longest=6)
    search = K2FastBeamSearch(model, WIDE)
    expected = search_all(search, encoded.float(), frames)
    frames[1] = 0
    first, nothing, last = search_all(search, encoded.float(), frames)
    assert nothing == [Hypothesis([], [], 0.0, [])]
    assert_same(first, expected[0])
    assert_same(last, expected[2])
    assert search_all(search, encoded.float(), torch.zeros_like(frames)) == [nothing] * 3
