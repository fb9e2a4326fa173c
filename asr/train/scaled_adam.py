"""ScaledAdam (Yao et al., "Zipformer", ICLR 2024): Adam whose steps are in proportion to what they change."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors

SMALLEST_SCALE, LARGEST_SCALE = 1e-5, 3.0  # RMS: what a step is in proportion to at least, what is learnt at most


class ScaledAdam(torch.optim.Optimizer):
    """Adam in two coordinates of every parameter tensor θ: its direction, and its scale r = RMS(θ).

    With g the gradient, α the rate of the step and t its number, for every tensor

        direction  m ← β1·m + (1−β1)·g      v ← β2·v + (1−β2)·g²      Δ = −α·r·c·m/(√v + ε)
        scale      h = Σ g·θ                n ← β1·n + (1−β1)·h       w ← β2·w + (1−β2)·h²
                                                                      Δ' = −η·α·θ·c·n/(√w + ε)
        θ ← θ + Δ + Δ'                      c = √(1−β2ᵗ) / (1−β1ᵗ)

    h is the derivative by log r, and Δ' stretches θ as a whole. A tensor c times as large, in a model in which it has
    the effect of the original, has c times its steps: the relative change of a tensor depends on α alone, not on how
    it was initialised, and no weight decay is needed to keep scales in order.

    In Δ the scale counts as at least `SMALLEST_SCALE`, or a tensor of zeros would remain one; Δ' makes none larger
    than `LARGEST_SCALE` or smaller than `SMALLEST_SCALE`. A tensor of one element has no direction apart from
    its scale, and gets Adam's step at the rate η·α.

    lr: α. scale_lr: η. eps: ε, relative to gradients, which the steps do not depend on otherwise.
    """

    def __init__(
        self,
        parameters: Iterable[Any],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.98),
        scale_lr: float = 0.1,
        eps: float = 1e-8,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "betas": betas, "scale_lr": scale_lr, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step for all parameters that have a gradient. There is no closure."""
        assert closure is None
        for group in self.param_groups:
            trained = [parameter for parameter in group["params"] if parameter.grad is not None]
            for parameter in trained:
                begin(parameter, self.state[parameter])
            if trained and trained[0].device.type == "cuda":
                self.advance_together(trained, group)
            else:
                for parameter in trained:
                    self.advance(parameter, parameter.grad, self.state[parameter], group)

    def advance(self, parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        """The step of one tensor."""
        rate, scale_rate = group["lr"], group["scale_lr"] * group["lr"]
        direction = adam_direction(gradient, state, "m", "v", group)
        if parameter.numel() == 1:
            parameter.sub_(scale_rate * direction)
            return
        stretch = -scale_rate * adam_direction((gradient * parameter).sum(), state, "n", "w", group)
        scale = parameter.square().mean().sqrt().clamp(min=SMALLEST_SCALE)
        most = (LARGEST_SCALE / scale - 1).clamp(min=0)
        stretch = stretch.clamp(min=SMALLEST_SCALE / scale - 1).minimum(most)
        parameter.mul_(1 + stretch).sub_(rate * scale * direction)

    @torch.no_grad()
    def advance_together(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """`advance` for many tensors of one device, laid end to end: on a GPU each of its operations is a launch, which
        takes longer than the operation. Sums over a tensor are made in float64.
        """
        states = [self.state[parameter] for parameter in parameters]
        device = parameters[0].device
        sizes_K = torch.tensor([parameter.numel() for parameter in parameters], device=device)
        total = sum(parameter.numel() for parameter in parameters)

        def of_each(values_K: Tensor) -> Tensor:
            return values_K.repeat_interleave(sizes_K, output_size=total)

        def sums(values: Tensor) -> Tensor:
            return torch.segment_reduce(values.double(), "sum", lengths=sizes_K, unsafe=True).to(values.dtype)

        beta1, beta2 = group["betas"]
        rate, scale_rate = group["lr"], group["scale_lr"] * group["lr"]
        theta, gradient = joined(parameters), joined([parameter.grad for parameter in parameters])
        moments = {name: joined([state[name] for state in states]) for name in "mvnw"}
        alone_K = sizes_K == 1
        derivative_K = sums(gradient * theta).masked_fill(alone_K, 0.0)
        for mean, square, value in (("m", "v", gradient), ("n", "w", derivative_K)):
            moments[mean].mul_(beta1).add_(value, alpha=1 - beta1)
            moments[square].mul_(beta2).addcmul_(value, value, value=1 - beta2)
        counts = [state["step"] for state in states]
        correction_K = theta.new_tensor([(1 - beta2**count) ** 0.5 / (1 - beta1**count) for count in counts])
        direction = moments["m"] / (moments["v"].sqrt() + group["eps"])
        scale_K = (sums(theta.square()) / sizes_K).sqrt().clamp(min=SMALLEST_SCALE)
        stretch_K = -scale_rate * correction_K * moments["n"] / (moments["w"].sqrt() + group["eps"])
        most_K = (LARGEST_SCALE / scale_K - 1).clamp(min=0)
        stretch_K = stretch_K.maximum(SMALLEST_SCALE / scale_K - 1).minimum(most_K)
        stretch_K = stretch_K.masked_fill(alone_K, 0.0)
        step_K = correction_K * (rate * scale_K).masked_fill(alone_K, scale_rate)
        theta.mul_(of_each(1 + stretch_K)).sub_(of_each(step_K) * direction)
        write_back(theta, parameters)
        for name, values in moments.items():
            write_back(values, [state[name] for state in states])


def begin(parameter: Tensor, state: dict[str, Any]) -> None:
    """Count a step of a tensor, whose state is empty before the first."""
    if not state:
        state["step"] = 0
        state |= {name: torch.zeros_like(parameter) for name in "mv"}
        state |= {name: parameter.new_zeros(()) for name in "nw"}
    state["step"] += 1


def joined(tensors: Sequence[Tensor | None]) -> Tensor:
    """All entries of some tensors, one after the other."""
    flat: Tensor = _flatten_dense_tensors(tensors)  # type: ignore[no-untyped-call]
    return flat


def write_back(values: Tensor, tensors: list[Tensor]) -> None:
    """The opposite of `joined`: into these tensors."""
    torch._foreach_copy_(tensors, _unflatten_dense_tensors(values, tensors))  # type: ignore[no-untyped-call]


def adam_direction(gradient: Tensor, state: dict[str, Any], mean: str, square: str, group: dict[str, Any]) -> Tensor:
    """Adam's step for a rate of −1, from the moments `mean` and `square`, which take in the gradient."""
    beta1, beta2 = group["betas"]
    state[mean].mul_(beta1).add_(gradient, alpha=1 - beta1)
    state[square].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    correction = (1 - beta2 ** state["step"]) ** 0.5 / (1 - beta1 ** state["step"])
    return correction * state[mean] / (state[square].sqrt() + group["eps"])
