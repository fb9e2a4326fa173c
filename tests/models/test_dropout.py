"""Dropout: rate, scale, gradient and reproducibility."""

import math
from fractions import Fraction

import pytest
import torch

from asr.models.dropout import LEVELS, Dropout

COUNT = 200_003  # not a multiple of the eight elements that one draw serves


def dropped(p: float, seed: int = 0, shape: tuple[int, ...] = (COUNT,)) -> torch.Tensor:
    torch.manual_seed(seed)
    return Dropout(p)(torch.ones(shape, dtype=torch.float64))


@pytest.mark.parametrize(("p", "threshold"), [(0.1, 26), (0.5, 128), (0.9, 230)])
def test_rate_is_binomial_in_every_byte_of_a_draw(p, threshold):
    rate = threshold / LEVELS
    assert abs(rate - p) <= 0.5 / LEVELS
    zeros = dropped(p) == 0
    for part in (zeros, *(zeros[lane::8] for lane in range(8))):
        deviation = math.sqrt(len(part) * rate * (1 - rate))
        assert abs(int(part.sum()) - len(part) * rate) < 4 * deviation


@pytest.mark.parametrize(("p", "threshold"), [(0.1, 26), (0.5, 128), (0.9, 230)])
def test_scale_keeps_the_expectation(p, threshold):
    assert set(dropped(p).tolist()) == {0.0, float(Fraction(LEVELS, LEVELS - threshold))}


def test_neighbours_are_independent():
    zeros = dropped(0.5) == 0
    for distance in (1, 2, 7, 8, 9, 64):
        equal = int((zeros[distance:] == zeros[:-distance]).sum())
        assert abs(equal - (COUNT - distance) / 2) < 4 * math.sqrt(COUNT) / 2


def test_gradient_is_the_mask():
    torch.manual_seed(0)
    x = torch.randn(7, 11, dtype=torch.float64, requires_grad=True)
    out = Dropout(0.3)(x)
    out.sum().backward()
    assert (out == 0).any()
    assert torch.equal(x.grad, (out != 0).double() * (LEVELS / (LEVELS - 77)))
    assert torch.equal(out, x * x.grad)


@pytest.mark.parametrize(("p", "training"), [(0.5, False), (0.0, True)])
def test_nothing_is_dropped(p, training):
    x = torch.randn(100)
    state = torch.get_rng_state()
    assert Dropout(p).train(training)(x) is x
    assert torch.equal(torch.get_rng_state(), state)


def test_seed_decides_the_mask():
    assert torch.equal(dropped(0.5), dropped(0.5))
    assert not torch.equal(dropped(0.5), dropped(0.5, seed=1))


@pytest.mark.parametrize("shape", [(), (1,), (0, 3), (3, 5, 7)])
def test_shape_and_precision_are_kept(shape):
    assert dropped(0.5, shape=shape).shape == shape
    assert Dropout(0.5)(torch.ones(shape, dtype=torch.bfloat16)).dtype == torch.bfloat16
