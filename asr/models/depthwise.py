"""A depthwise convolution over time, by whichever kernel is the fastest."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from asr.ops import compiled

MOST = 2**19  # products that take less time here than oneDNN takes to begin


def over_time(convolution: nn.Conv1d, x_BSD: Tensor) -> Tensor:
    """A depthwise convolution over time, (B,S,D) → (B,T,D), T = S + 2 padding − kernel_size + 1."""
    plain = x_BSD.device.type != "cpu" or x_BSD.dtype != torch.float32 or convolution.weight.dtype != torch.float32
    if plain or torch.compiler.is_compiling():
        return convolution(x_BSD.transpose(1, 2)).transpose(1, 2)
    if torch.is_grad_enabled():
        return learning(convolution, x_BSD)
    few = x_BSD.numel() * convolution.kernel_size[0] <= MOST
    return few_frames(convolution, x_BSD) if few and is_kept() else as_image(convolution, x_BSD)


def is_kept() -> bool:
    """Whether the next process finds the loop that this one compiles, which takes seconds."""
    from asr.models.depthwise_kernel import convolve  # imports numba, which takes 0.3 s

    return compiled.is_kept(convolve)


def as_image(convolution: nn.Conv1d, x_BSD: Tensor) -> Tensor:
    """By oneDNN, which reads the memory of an image of one row, "channels last", as it is.

    A third to a tenth of the time of a convolution of one dimension.
    """
    return convolved(x_BSD, convolution.weight, convolution.bias, int(convolution.padding[0]))


def convolved(x_BSD: Tensor, weight_D1K: Tensor, bias_D: Tensor | None, padding: int) -> Tensor:
    """See `as_image`."""
    image, weight = x_BSD.transpose(1, 2)[:, :, None], weight_D1K[:, :, None]
    found = nn.functional.conv2d(image, weight, bias_D, padding=(0, padding), groups=len(weight_D1K))
    return found[:, :, 0].transpose(1, 2)


def learning(convolution: nn.Conv1d, x_BSD: Tensor) -> Tensor:
    """`as_image`, with a gradient in a quarter of the time of torch's (in one thread), where a loop is kept."""
    if not is_kept():
        return convolution(x_BSD.transpose(1, 2)).transpose(1, 2)
    padding = int(convolution.padding[0])
    found: Tensor = Convolved.apply(x_BSD, convolution.weight, convolution.bias, padding)  # type: ignore[no-untyped-call]
    return found


class Convolved(torch.autograd.Function):
    """`convolved`, differentiable once. Its gradient by x is a convolution, too, with the kernel turned around."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, x_BSD: Tensor, weight_D1K: Tensor, bias_D: Tensor, padding: int
    ) -> Tensor:
        ctx.save_for_backward(x_BSD, weight_D1K)
        ctx.padding = padding  # type: ignore[attr-defined]
        return convolved(x_BSD, weight_D1K, bias_D, padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x_BSD, weight_D1K = ctx.saved_tensors  # type: ignore[attr-defined]
        padding: int = ctx.padding  # type: ignore[attr-defined]
        by_x, by_weight, by_bias, _ = ctx.needs_input_grad  # type: ignore[attr-defined]
        around = weight_D1K.flip(2), None, weight_D1K.shape[2] - 1 - padding
        return (
            convolved(grads[0], *around) if by_x else None,
            weight_gradient(x_BSD, grads[0], weight_D1K, padding) if by_weight else None,
            grads[0].sum((0, 1)) if by_bias else None,
            None,
        )


def weight_gradient(x_BSD: Tensor, grad_BTD: Tensor, weight_D1K: Tensor, padding: int) -> Tensor:
    """Of `convolved` by its weight (D,1,K), by a loop over time, which reads both as they lie."""
    from asr.models.depthwise_kernel import correlate

    grad_KD = weight_D1K.new_zeros(weight_D1K.shape[2], len(weight_D1K))
    correlate(x_BSD.contiguous().numpy(), grad_BTD.contiguous().numpy(), padding, grad_KD.numpy())
    return grad_KD.t()[:, None].contiguous()


def few_frames(convolution: nn.Conv1d, x_BSD: Tensor) -> Tensor:
    """By a loop, which begins at once: 0.4 of the time of the image for an utterance of 3 s, a quarter for 0.6 s."""
    from asr.models.depthwise_kernel import convolve

    padding = int(convolution.padding[0])
    # Copies: the storage of what numpy has seen can no longer be resized, as it is where weights are divided.
    weight_KD = convolution.weight[:, 0].t().clone(memory_format=torch.contiguous_format)
    bias_D = cast(Tensor, convolution.bias).clone()
    batch, frames, dim = x_BSD.shape
    out_BTD = x_BSD.new_empty(batch, frames + 2 * padding - len(weight_KD) + 1, dim)
    convolve(x_BSD.contiguous().numpy(), weight_KD.numpy(), bias_D.numpy(), padding, out_BTD.numpy())
    return out_BTD
