"""The hyperbolic tangent, by the sigmoid where that is the faster kernel."""

from __future__ import annotations

import torch
from torch import Tensor

FEWEST = 8192  # elements for which several kernel calls pay


def tanh(x: Tensor) -> Tensor:
    """tanh of every element; in float32 on a CPU to 2e-7, by tanh(x) = 2σ(2x) − 1.

    There torch's sigmoid takes a sixth of the time of its tanh, and all of this a quarter to a third.
    """
    if torch.compiler.is_compiling() or x.device.type != "cpu" or x.dtype != torch.float32 or x.numel() < FEWEST:
        return torch.tanh(x)
    y: Tensor = TanhBySigmoid.apply(x)  # type: ignore[no-untyped-call]
    return y


class TanhBySigmoid(torch.autograd.Function):
    """See `tanh`. One node of a graph, as torch's own is: no intermediate result is kept."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return (2 * x).sigmoid_().mul_(2).sub_(1)

    @staticmethod
    def setup_context(ctx: torch.autograd.function.FunctionCtx, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors  # type: ignore[attr-defined]
        grad_x: Tensor = torch.ops.aten.tanh_backward(grads[0], y)
        return grad_x
