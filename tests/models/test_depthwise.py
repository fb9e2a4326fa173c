"""A depthwise convolution over time: every way of computing it against its definition."""

import pytest
import torch

from asr.models import depthwise
from asr.models.depthwise import as_image, few_frames, over_time


def by_definition(convolution, x_BSD):
    """The sum over the kernel, in float64; zeros at both ends."""
    weight, bias = convolution.weight[:, 0].double(), convolution.bias.double()
    padded = torch.nn.functional.pad(x_BSD.double(), (0, 0, *2 * convolution.padding))
    windows = padded.unfold(1, weight.shape[1], 1)  # (B,T,D,K)
    return (windows * weight).sum(-1) + bias


@pytest.mark.parametrize(("frames", "padding"), [(5, 0), (9, 0), (1, 2), (4, 2), (9, 2)])
@pytest.mark.parametrize("way", [few_frames, as_image, over_time])
@pytest.mark.parametrize(
    "laid_out", [torch.Tensor.contiguous, lambda x: x.transpose(1, 2).contiguous().transpose(1, 2)]
)
def test_all_ways_sum_over_the_kernel(way, frames, padding, laid_out):
    torch.manual_seed(0)
    convolution, x = torch.nn.Conv1d(8, 8, 5, padding=padding, groups=8), laid_out(torch.randn(2, frames, 8))
    with torch.no_grad():
        found = way(convolution, x)
    assert found.shape == (2, frames + 2 * padding - 4, 8)
    assert found.is_contiguous() or not x.is_contiguous()
    torch.testing.assert_close(found.double(), by_definition(convolution, x), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("frames", "padding"), [(5, 0), (9, 0), (1, 2), (4, 2), (9, 2)])
@pytest.mark.parametrize("learnt", [(True, True, True), (True, False, False), (False, True, False)])
def test_gradients_are_those_of_the_definition(frames, padding, learnt, monkeypatch):
    monkeypatch.setattr(depthwise, "is_kept", lambda: True)
    torch.manual_seed(0)
    convolution, x = torch.nn.Conv1d(8, 8, 5, padding=padding, groups=8), torch.randn(2, frames, 8)
    inputs = x, convolution.weight, convolution.bias
    for one, needed in zip(inputs, learnt):
        one.requires_grad_(needed)
    found, expected = over_time(convolution, x), by_definition(convolution, x)
    assert type(found.grad_fn).__name__ == "ConvolvedBackward"
    grad = torch.randn(found.shape)
    wanted = [one for one in inputs if one.requires_grad]
    gradients = torch.autograd.grad(found, wanted, grad), torch.autograd.grad(expected, wanted, grad.double())
    for one, other in zip(*gradients):
        torch.testing.assert_close(one, other, rtol=0, atol=4e-6)


@pytest.mark.parametrize(
    ("most", "kept", "taken"), [(720, True, "few_frames"), (719, True, "as_image"), (720, False, "as_image")]
)
def test_few_frames_are_convolved_by_a_loop_and_none_where_something_is_learnt(most, kept, taken, monkeypatch):
    ways = []
    monkeypatch.setattr(depthwise, "MOST", most)  # 2·9·8·5 products are 720
    monkeypatch.setattr(depthwise, "is_kept", lambda: kept)
    for name in ("few_frames", "as_image"):
        monkeypatch.setattr(depthwise, name, lambda convolution, x, name=name: ways.append(name))
    convolution, x = torch.nn.Conv1d(8, 8, 5, groups=8), torch.randn(2, 9, 8)
    over_time(convolution, x).sum().backward()
    assert ways == []
    assert convolution.weight.grad is not None
    with torch.no_grad():
        over_time(convolution, x)
        over_time(convolution.double(), x.double())
    assert ways == [taken]
