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
        self.laid: dict[int, LaidOut] = {}  # by the first of the parameters

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
        laid = self.laid_out(parameters)
        beta1, beta2 = group["betas"]
        rate, scale_rate = group["lr"], group["scale_lr"] * group["lr"]
        theta, gradient = joined(parameters), joined([parameter.grad for parameter in parameters])
        derivative_K = laid.sums(gradient * theta).masked_fill(laid.alone_K, 0.0)
        for mean, square, value in (("m", "v", gradient), ("n", "w", derivative_K)):
            laid.moments[mean].mul_(beta1).add_(value, alpha=1 - beta1)
            laid.moments[square].mul_(beta2).addcmul_(value, value, value=1 - beta2)
        m, v, n, w = laid.moments.values()
        counts = [self.state[parameter]["step"] for parameter in parameters]
        corrections = [(1 - beta2**count) ** 0.5 / (1 - beta1**count) for count in counts]
        same = len(set(counts)) == 1  # then there is nothing to wait for
        correction: Tensor | float = corrections[0] if same else theta.new_tensor(corrections)
        scale_K = (laid.sums(theta.square()) / laid.sizes_K).sqrt().clamp(min=SMALLEST_SCALE)
        most_K = (LARGEST_SCALE / scale_K - 1).clamp(min=0)
        stretch_K = -scale_rate * correction * n / (w.sqrt() + group["eps"])
        stretch_K = stretch_K.maximum(SMALLEST_SCALE / scale_K - 1).minimum(most_K).masked_fill(laid.alone_K, 0.0)
        step_K = correction * (rate * scale_K).masked_fill(laid.alone_K, scale_rate)
        theta.mul_(laid.of_each(1 + stretch_K)).sub_(laid.of_each(step_K) * m / (v.sqrt() + group["eps"]))
        write_back(theta, parameters)

    def laid_out(self, parameters: list[Tensor]) -> LaidOut:
        """What `advance_together` keeps from step to step, made anew where the state has been loaded, or other
        parameters have a gradient.
        """
        states = [self.state[parameter] for parameter in parameters]
        key = id(parameters[0])
        laid = self.laid.get(key)
        if laid is None or not laid.is_of(states):
            laid = self.laid[key] = LaidOut(parameters, states)
        return laid


class LaidOut:
    """The state of K tensors of `ScaledAdam`, laid end to end; each state holds views of it from now on.

    moments: m, v of all entries, n, w of each tensor. sizes_K: entries of each. alone_K: whether it has one entry.
    """

    def __init__(self, parameters: list[Tensor], states: list[dict[str, Any]]) -> None:
        sizes = [parameter.numel() for parameter in parameters]
        self.total = sum(sizes)
        self.sizes_K = torch.tensor(sizes).to(parameters[0].device)
        self.alone_K = self.sizes_K == 1
        self.moments = {}
        for name in "mvnw":
            parts = [state[name] for state in states]
            self.moments[name] = joined(parts)
            for state, part in zip(states, apart(self.moments[name], parts)):
                state[name] = part
        self.parts = [state["m"] for state in states]

    def is_of(self, states: list[dict[str, Any]]) -> bool:
        """Whether it is these states that hold views of this one."""
        return len(states) == len(self.parts) and all(state["m"] is part for state, part in zip(states, self.parts))

    def of_each(self, values_K: Tensor) -> Tensor:
        """For every entry the value of its tensor."""
        return values_K.repeat_interleave(self.sizes_K, output_size=self.total)

    def sums(self, values: Tensor) -> Tensor:
        """Of the entries of each tensor (K,)."""
        return torch.segment_reduce(values.double(), "sum", lengths=self.sizes_K, unsafe=True).to(values.dtype)


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


def apart(values: Tensor, tensors: list[Tensor]) -> tuple[Tensor, ...]:
    """The opposite of `joined`: views of the shapes of these tensors."""
    parts: tuple[Tensor, ...] = _unflatten_dense_tensors(values, tensors)  # type: ignore[no-untyped-call]
    return parts


def write_back(values: Tensor, tensors: list[Tensor]) -> None:
    """Copy values that are laid end to end into these tensors."""
    torch._foreach_copy_(tensors, apart(values, tensors))


def adam_direction(gradient: Tensor, state: dict[str, Any], mean: str, square: str, group: dict[str, Any]) -> Tensor:
    """Adam's step for a rate of −1, from the moments `mean` and `square`, which take in the gradient."""
    beta1, beta2 = group["betas"]
    state[mean].mul_(beta1).add_(gradient, alpha=1 - beta1)
    state[square].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    correction = (1 - beta2 ** state["step"]) ** 0.5 / (1 - beta1 ** state["step"])
    return correction * state[mean] / (state[square].sqrt() + group["eps"])
