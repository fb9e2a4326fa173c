"""A depthwise convolution over time, by whichever kernel is the fastest where nothing is learnt."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from asr.ops import compiled

MOST = 2**19  # products that take less time here than oneDNN takes to begin


def over_time(convolution: nn.Conv1d, x_BSD: Tensor) -> Tensor:
    """A depthwise convolution over time, (B,S,D) → (B,T,D), T = S + 2 padding − kernel_size + 1."""
    plain = torch.is_grad_enabled() or x_BSD.device.type != "cpu" or x_BSD.dtype != torch.float32
    if plain or torch.compiler.is_compiling():
        return convolution(x_BSD.transpose(1, 2)).transpose(1, 2)
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
    image, weight = x_BSD.transpose(1, 2)[:, :, None], convolution.weight[:, :, None]
    padding = (0, *convolution.padding)
    found = nn.functional.conv2d(image, weight, convolution.bias, padding=padding, groups=convolution.groups)
    return found[:, :, 0].transpose(1, 2)


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
