"""k2's fast beam search: refused without k2, and where there is k2 the same as our own search of one label a frame."""

import importlib.util
import os

import pytest
import torch
from random_models import random_encoded, random_model

from asr.arcs.standard import standard_arcs
from asr.config import K2BeamOptions
from asr.decode.beam import BeamSearch
from asr.decode.k2_backend import K2FastBeamSearch, with_padding
from asr.decode.search import search_all
from asr.errors import InputError

HAS_K2 = importlib.util.find_spec("k2") is not None


@pytest.mark.skipif(HAS_K2, reason="k2 is installed")
def test_without_k2_it_is_refused_with_the_remedy():
    with pytest.raises(InputError, match="k2 is not installed .* or use decode=beam"):
        K2FastBeamSearch(random_model(0), K2BeamOptions())


def test_contexts_begin_as_those_of_our_predictor():
    contexts = torch.tensor([[0, 0, 0], [0, 0, 5], [0, 4, 5], [3, 4, 5]])
    assert with_padding(contexts).tolist() == [[-1, -1, 0], [-1, 0, 5], [0, 4, 5], [3, 4, 5]]
    for size in (1, 2, 3):
        start = random_model(size - 1).predictor.start(1, torch.device("cpu"))
        assert torch.equal(with_padding(torch.zeros_like(start)), start)


def test_with_k2_the_best_path_is_that_of_a_wide_beam():
    if not HAS_K2:
        missing = "k2 is not installed"
        pytest.fail(missing) if os.environ.get("ASR_REQUIRE_K2") == "1" else pytest.skip(missing)
    for seed in range(20):
        model, (encoded, frames) = random_model(seed).float(), random_encoded(seed)
        search = K2FastBeamSearch(model, K2BeamOptions(beam=1e3, max_states=10_000, max_contexts=10_000))
        for (found,), (best, *_) in zip(
            search_all(search, encoded.float(), frames),
            search_all(BeamSearch(model, 1, standard_arcs("modified")), encoded.float(), frames),
        ):
            assert found.score >= best.score - 1e-3
