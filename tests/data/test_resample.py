"""Samples that come in blocks are brought to 16 kHz as all of them at once."""

import numpy as np
import pytest
import torch
from torchaudio.functional import resample

from asr.data.features import SAMPLING_RATE
from asr.data.resample import Resampler, check_rate, resampled
from asr.errors import InputError


@pytest.mark.parametrize("size", [1, 7, 333, 5000])
@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000])
def test_blocks_are_as_the_whole(rate, size):
    samples = np.random.default_rng(0).uniform(-1, 1, 2345 if size < 9 else 2 * rate + 123).astype(np.float32)
    resampler = Resampler(rate)
    made, longest = [], 0
    for begin in range(0, len(samples), size):
        made.append(resampler.add(samples[begin : begin + size]))
        longest = max(longest, len(resampler.waiting))
    made.append(resampler.end())
    expected = resample(torch.from_numpy(samples), rate, SAMPLING_RATE).numpy()
    np.testing.assert_allclose(np.concatenate(made), expected, rtol=0, atol=1e-6)
    assert longest < 2 * size + 2 * resampler.reach + 3 * resampler.period  # it forgets what it no longer needs
    waited = (resampler.reach + resampler.period) / rate
    assert waited < 0.05
    assert len(made[-1]) <= (waited + size / rate) * SAMPLING_RATE + 1


def test_seconds_are_whole_and_of_nothing_comes_nothing():
    seconds = list(resampled([np.zeros(n, np.float32) for n in (100, 44100, 44100, 7)], 44100))
    assert [len(second) for second in seconds] == [16000, 16000, 39]
    assert list(resampled([], 44100)) == []


@pytest.mark.parametrize("rate", [0, -1, 8000.0, "16000", None, True, 10**7])
def test_what_is_no_rate_is_refused(rate):
    with pytest.raises(InputError, match="must be a whole number of samples a second"):
        check_rate(rate)
    assert check_rate(np.int64(8000)) == 8000
