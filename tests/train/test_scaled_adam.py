"""ScaledAdam against its formulas in plain numbers, and what it is for: no step depends on how large a tensor is."""

import copy
import math

import pytest
import torch
from waits import Mode

from asr.train.scaled_adam import LARGEST_SCALE, SMALLEST_SCALE, ScaledAdam, begin

LR, BETA1, BETA2, ETA, EPS = 0.05, 0.9, 0.98, 0.1, 1e-8
SETTINGS = {"lr": LR, "betas": (BETA1, BETA2), "scale_lr": ETA, "eps": EPS}


class Launches(Mode):
    """Counts the operations that compute or copy, and so are kernels of a GPU."""

    VIEWS = ("detach", "view", "reshape", "alias", "split", "flatten", "slice")

    count = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.count += operation.overloadpacket.__name__ not in self.VIEWS
        return operation(*args, **(kwargs or {}))


def reference(theta, gradient_of, steps):
    """The formulas of the docstring, one number at a time."""
    size = len(theta)
    m, v, n, w = [0.0] * size, [0.0] * size, 0.0, 0.0
    for t in range(1, steps + 1):
        g = gradient_of(theta)
        c = math.sqrt(1 - BETA2**t) / (1 - BETA1**t)
        r = max(math.sqrt(sum(x * x for x in theta) / size), SMALLEST_SCALE)
        h = sum(a * b for a, b in zip(g, theta))
        n, w = BETA1 * n + (1 - BETA1) * h, BETA2 * w + (1 - BETA2) * h * h
        stretch = -ETA * LR * c * n / (math.sqrt(w) + EPS)
        stretch = min(max(stretch, SMALLEST_SCALE / r - 1), max(LARGEST_SCALE / r - 1, 0))
        after = []
        for i in range(size):
            m[i] = BETA1 * m[i] + (1 - BETA1) * g[i]
            v[i] = BETA2 * v[i] + (1 - BETA2) * g[i] ** 2
            after.append(theta[i] - LR * r * c * m[i] / (math.sqrt(v[i]) + EPS) + stretch * theta[i])
        theta = after
    return theta


def optimised(theta, loss, steps, **settings):
    """`theta` after so many steps on `loss`."""
    parameter = torch.nn.Parameter(torch.as_tensor(theta, dtype=torch.float64).clone())
    optimizer = ScaledAdam([parameter], **{**SETTINGS, **settings})
    for _ in range(steps):
        optimizer.zero_grad()
        loss(parameter).backward()
        optimizer.step()
    return parameter.detach()


@pytest.mark.parametrize("start", [[0.3, -1.2, 0.7], [0.0, 0.0, 0.0], [2.9, -3.1, 3.0], [1e-6, 0.0, -1e-6]])
def test_steps_are_those_of_the_formulas(start):
    target = torch.tensor([1.0, 2.0, -40.0], dtype=torch.float64)
    found = optimised(start, lambda x: ((x - target) ** 4).sum(), 30)
    expected = reference(start, lambda x: [4 * (a - b) ** 3 for a, b in zip(x, target.tolist())], 30)
    assert found.tolist() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("factor", [0.01, 7.0])
def test_a_tensor_in_other_units_makes_the_same_steps_in_these_units(factor):
    torch.manual_seed(0)
    start, target = torch.randn(2, 4, 5, dtype=torch.float64) * 0.1

    def loss(x):
        return ((x - target).square() * target.abs()).sum()

    plain = optimised(start, loss, 50, eps=1e-20)
    scaled = optimised(factor * start, lambda x: loss(x / factor), 50, eps=1e-20)
    assert (plain - start).norm() > 0.3 * start.norm()
    torch.testing.assert_close(scaled, factor * plain, rtol=1e-9, atol=0)


def test_the_size_of_the_loss_does_not_matter():
    start = torch.tensor([0.5, -0.2], dtype=torch.float64)
    one, thousand = (optimised(start, lambda x, k=k: k * (x - 1).square().sum(), 20, eps=1e-20) for k in (1, 1000))
    torch.testing.assert_close(one, thousand, rtol=1e-9, atol=0)


def test_zeros_do_not_remain_zeros_and_nothing_grows_beyond_the_largest_scale():
    assert optimised(torch.zeros(8), lambda x: (x - 1).square().sum(), 1000).sub(1).abs().max() < 0.05
    grown = optimised(torch.ones(8), lambda x: -x.sum(), 2000)
    assert float(grown[0]) > LARGEST_SCALE * 0.9


def test_a_tensor_of_one_element_makes_adams_steps():
    found = optimised([0.0], lambda x: (x - 1).square().sum(), 25)
    adam = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = torch.optim.Adam([adam], lr=ETA * LR, betas=(BETA1, BETA2), eps=EPS)
    for _ in range(25):
        optimizer.zero_grad()
        (adam - 1).square().sum().backward()
        optimizer.step()
    torch.testing.assert_close(found, adam.detach(), rtol=1e-6, atol=1e-9)


def test_a_saved_state_goes_on_the_same():
    start = torch.randn(6)

    def make():
        parameter = torch.nn.Parameter(start.clone())
        return parameter, ScaledAdam([parameter], **SETTINGS)

    def run(parameter, optimizer, steps):
        for _ in range(steps):
            optimizer.zero_grad()
            (parameter - 1).pow(4).sum().backward()
            optimizer.step()

    whole, first, second = make(), make(), make()
    run(*whole, 10)
    run(*first, 4)
    second[1].load_state_dict(first[1].state_dict())
    second[0].data.copy_(first[0].data)
    run(*second, 6)
    assert torch.equal(whole[0], second[0])


def test_tensors_that_are_advanced_together_make_the_steps_that_they_make_alone():
    """The way of GPUs, on whatever device: sizes of 1, of 0 gradients, of zeros, and at the largest scale."""
    torch.manual_seed(0)
    starts = [torch.randn(7, 5), torch.zeros(4), torch.tensor([2.0]), torch.full((3, 2, 2), 3.0)]
    starts.append(torch.randn(300) * 0.01)
    targets = [torch.randn_like(start) for start in starts]
    alone, together = ([torch.nn.Parameter(start.double()) for start in starts] for _ in range(2))
    first, second = ScaledAdam(alone, **SETTINGS), ScaledAdam(together, **SETTINGS)
    for step in range(20):
        for parameters in (alone, together):
            for parameter, target in zip(parameters, targets):
                parameter.grad = (parameter.detach() - target.double()) ** 3 if step > 2 or len(target) != 4 else None
        first.step()
        trained = [parameter for parameter in together if parameter.grad is not None]
        for parameter in trained:
            begin(parameter, second.state[parameter])
        second.advance_together(trained, second.param_groups[0])
        if step == 9:
            second.load_state_dict(copy.deepcopy(second.state_dict()))
    assert all((parameter - start).abs().max() > 1e-7 for parameter, start in zip(alone, starts))
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(second.state_dict(), first.state_dict(), rtol=1e-12, atol=1e-15)


def test_together_sixteen_layers_take_few_launches():
    """Of operations, and the three that read or write all tensors take one for every 50 to 128; alone it is 37 each."""
    parameters = [torch.nn.Parameter(torch.randn(3)) for _ in range(560)]
    optimizer = ScaledAdam(parameters, **SETTINGS)
    for parameter in parameters:
        parameter.grad = torch.ones(3)
        begin(parameter, optimizer.state[parameter])
    optimizer.advance_together(parameters, optimizer.param_groups[0])
    with Launches() as launches:
        optimizer.advance_together(parameters, optimizer.param_groups[0])
    assert launches.count <= 60
