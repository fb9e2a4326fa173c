"""tanh by the sigmoid against torch's own in float64."""

from __future__ import annotations

import pytest
import torch

from asr.models.tanh import FEWEST, tanh


def test_values_and_gradient() -> None:
    x = torch.cat((torch.linspace(-12, 12, 10_001), torch.tensor([0.0, 1e-6, -80.0, 80.0, -1e30, 1e30])))
    x.requires_grad_()
    exact = x.detach().double().requires_grad_()
    y, expected = tanh(x), torch.tanh(exact)
    assert (y - expected).abs().max() <= 2e-7
    (gradient,) = torch.autograd.grad(y.sum(), x)
    (expected_gradient,) = torch.autograd.grad(expected.sum(), exact)
    assert (gradient - expected_gradient).abs().max() <= 1e-6
    assert y[10_001] == 0
    assert y[-2:].tolist() == [-1, 1]


def test_what_is_not_a_number_stays_so_and_infinity_is_one() -> None:
    y = tanh(torch.tensor([float("nan"), float("inf"), -float("inf")] + FEWEST * [0.0]))
    assert y[0].isnan()
    assert y[1:3].tolist() == [1, -1]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes_are_left_to_torch(dtype: torch.dtype) -> None:
    x = torch.linspace(-3, 3, 10_001, dtype=dtype)
    assert torch.equal(tanh(x), torch.tanh(x))


def test_a_few_elements_are_left_to_torch() -> None:
    x = torch.linspace(-3, 3, FEWEST - 1)
    assert torch.equal(tanh(x), torch.tanh(x))


def test_functions_of_functions() -> None:
    x = torch.linspace(-3, 3, FEWEST)
    slope = torch.func.grad(lambda values: tanh(values).sum())(x)
    assert (slope - (1 - torch.tanh(x) ** 2)).abs().max() <= 1e-6
    assert torch.equal(torch.func.vmap(tanh)(x.expand(2, -1)), tanh(x).expand(2, -1))
