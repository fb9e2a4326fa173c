"""Feature normalisation against NumPy's mean and standard deviation."""

import math

import numpy as np
import pytest
import torch

from asr.errors import InputError
from asr.models.normalize import GlobalNormalize, NoNormalize, UtteranceNormalize, make_normalize


def utterances() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(frames, 4, generator=generator) * 3 - 8 for frames in (30, 7, 120)]


def test_global_statistics_are_those_of_all_frames():
    sample = utterances()
    normalize = make_normalize("global", mel_bins=4)
    assert isinstance(normalize, GlobalNormalize)
    normalize.estimate(sample)
    frames = np.concatenate([u.double().numpy() for u in sample])
    np.testing.assert_allclose(normalize.mean.numpy(), frames.mean(0), rtol=1e-6)
    np.testing.assert_allclose(normalize.std.numpy(), frames.std(0, ddof=1), rtol=1e-6)
    out = normalize(torch.cat(sample)[None], torch.tensor([len(frames)]))[0].double()
    torch.testing.assert_close(out.mean(0), torch.zeros(4).double(), rtol=0, atol=1e-5)
    torch.testing.assert_close(out.std(0), torch.ones(4).double(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e38])
def test_global_statistics_that_are_not_finite_are_refused(value):
    sample, normalize = utterances(), GlobalNormalize(4)
    sample[1][3, 2] = value
    sample[2][5, 2] = value
    with pytest.raises(InputError, match="model.normalize=global: mean and deviation of the features are not finite"):
        normalize.estimate([(frames * 100 if value == 1e38 else frames) for frames in sample])
    assert torch.equal(normalize.mean, torch.zeros(4))
    assert torch.equal(normalize.std, torch.ones(4))


def test_global_statistics_are_saved_with_the_model():
    trained, loaded = GlobalNormalize(4), GlobalNormalize(4)
    trained.estimate(utterances())
    loaded.load_state_dict(trained.state_dict())
    assert torch.equal(loaded.mean, trained.mean)
    assert torch.equal(loaded.std, trained.std)
    assert list(trained.parameters()) == []


def test_global_is_the_identity_before_it_is_estimated():
    features = utterances()[0][None]
    assert torch.equal(GlobalNormalize(4)(features, torch.tensor([30])), features)


def test_bin_that_never_changes_stays_finite():
    silent = [torch.full((20, 4), -15.0)]
    normalize = GlobalNormalize(4)
    normalize.estimate(silent)
    assert not normalize(silent[0][None], torch.tensor([20])).any()
    assert not UtteranceNormalize()(silent[0][None], torch.tensor([20])).any()


def test_utterance_statistics_are_those_of_its_valid_frames():
    sample = utterances()
    lengths = torch.tensor([len(u) for u in sample])
    features = torch.full((3, 130, 4), 1e3)
    for row, u in zip(features, sample):
        row[: len(u)] = u
    out = make_normalize("utterance", mel_bins=4)(features, lengths)
    for b, u in enumerate(sample):
        expected = (u - u.mean(0)) / torch.sqrt(u.var(0, correction=0) + 1e-5)
        torch.testing.assert_close(out[b, : len(u)], expected, rtol=0, atol=1e-5)
        assert not out[b, len(u) :].any()


def test_none_is_the_identity():
    normalize = make_normalize("none", mel_bins=4)
    features = utterances()[0][None]
    assert isinstance(normalize, NoNormalize)
    assert normalize(features, torch.tensor([30])) is features
