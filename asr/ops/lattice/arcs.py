"""The lattice over a node set, with everything that changes the weight of its arcs, and a choice of backend.

constrained    label(t,u) := label(t,u) + blank(t,u+1) on the `modified` lattice: a label takes the blank of the
               node it passes through (k2's `rnnt_type="constrained"`).
delay penalty  label(t,u) := label(t,u) + λ·((T−1)/2 − t): early labels are better (Kang et al., ICASSP 2023).
FastEmit       the gradient of label arcs is 1 + λ times what it would be (Yu et al., ICASSP 2021, equation 9).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec

import torch
from torch import Tensor

from asr.errors import InputError
from asr.nodes.base import Nodes, Topology
from asr.ops.lattice.reference import IMPOSSIBLE

Occupations = tuple[Tensor, Tensor, Tensor]
ForwardBackward = Callable[[Nodes, Tensor, Tensor, Topology], Occupations]

MODULES = {"reference": "reference", "numba": "cpu", "triton": "gpu", "k2": "k2_backend"}
INSTALLATION = {
    "triton": "pip install triton",
    "k2": "see https://k2-fsa.github.io/k2/installation for the wheel of your torch",
}

TEMPERATURE = 1e-6  # nats; float64 resolves that for log P down to −1e9


@dataclass(frozen=True)
class ArcRules:
    """What arcs there are, what their weights are changed by, and what sums over the paths.

    backend: "auto" (triton on a GPU, numba elsewhere), "reference", "numba", "triton" or "k2".
    """

    topology: Topology = "regular"
    fastemit: float = 0.0
    delay_penalty: float = 0.0
    backend: str = "auto"


def occupations(nodes: Nodes, blank_N: Tensor, label_N: Tensor, rules: ArcRules) -> Occupations:
    """log P (B,), and γ_blank, γ_label (N,): the derivatives of log P by both arcs of every node.

    blank_N, label_N: log-probability of the blank and of the label arc that leave each node; those of arcs
    that are not in the set are not read. With FastEmit γ_label is the raised one.
    """
    forward_backward = find_backend(rules.backend, blank_N.device)
    if rules.delay_penalty:
        label_N = label_N + rules.delay_penalty * earliness(nodes).to(label_N.dtype)
    if rules.topology != "constrained":
        log_p, by_blank, by_label = forward_backward(nodes, blank_N, label_N, rules.topology)
    else:
        above = passed_through(nodes)
        forced = torch.nn.functional.pad(blank_N[1:], (0, 1)).masked_fill(~above, IMPOSSIBLE)
        label_N = torch.where(above, label_N, 0.0) + forced
        log_p, by_blank, by_label = forward_backward(nodes, blank_N, label_N, "modified")
        by_blank[1:] += by_label[:-1]
    return log_p, by_blank, by_label * (1 + rules.fastemit) if rules.fastemit else by_label


def best_alignment(nodes: Nodes, blank_N: Tensor, label_N: Tensor, topology: Topology) -> Tensor:
    """The frame that emits each label on the likeliest path, (B,U) on the CPU; 0 beyond an utterance's labels.

    The lattice under max instead of sum: log Σ exp(s/τ) · τ goes to the maximum of s as τ goes to 0, and the
    occupations to 1 on the likeliest path and 0 elsewhere. Paths that differ by less than a few τ share them.
    """
    nodes = Nodes(*(values.cpu() for values in vars(nodes).values()))
    blank_N, label_N = (arcs.detach().cpu().double() / TEMPERATURE for arcs in (blank_N, label_N))
    _, _, by_label = occupations(nodes, blank_N, label_N, ArcRules(topology, backend="numba"))
    shape = len(nodes.frames_B), int(nodes.frames_B.max()), int(nodes.label_lengths_B.max()) + 1
    emitted_BTU = by_label.new_zeros(shape).index_put(nodes.coordinates(), by_label)[:, :, :-1]
    return emitted_BTU.argmax(1).cummax(1).values.masked_fill(emitted_BTU.amax(1) == 0, 0)


def earliness(nodes: Nodes) -> Tensor:
    """(T_b−1)/2 − t of each node, (N,)."""
    utterance, frame, _ = nodes.coordinates()
    return (nodes.frames_B[utterance] - 1) / 2 - frame


def passed_through(nodes: Nodes) -> Tensor:
    """Whether node n + 1 is (t,u+1), the next position of node n's frame, (N,)."""
    above = torch.ones(len(nodes), dtype=torch.bool, device=nodes.first_R.device)
    above[nodes.node_offsets[1:] - 1] = False
    return above


def check_installed(name: str) -> None:
    """Raise InputError where what a backend needs is not installed."""
    if name in INSTALLATION and find_spec(name) is None:
        raise InputError(f"loss.backend={name}: {name} is not installed ({INSTALLATION[name]}); or use backend=auto")


def check_triton(choice: str, device: torch.device, instead: str) -> None:
    """Raise InputError where Triton does not run on `device`; it names the option that asks for it, and another."""
    if find_spec("triton") is None:
        raise InputError(f"loss.{choice}: triton is not installed ({INSTALLATION['triton']}); or use {instead}")
    if device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        raise InputError(f"loss.{choice}: needs a GPU, but the logits are on {device.type}; use {instead}")


def backend_on(name: str, device: torch.device) -> str:
    """The name of a backend, or what "auto" stands for on a device."""
    if name != "auto":
        return name
    return "triton" if device.type == "cuda" else "numba"


def find_backend(name: str, device: torch.device) -> ForwardBackward:
    """The forward-backward called `name`. Raises InputError where it does not run here."""
    name = backend_on(name, device)
    if name == "triton":
        check_triton("backend=triton", device, instead="backend=auto")
    check_installed(name)
    backend: ForwardBackward = import_module(f"asr.ops.lattice.{MODULES[name]}").forward_backward
    return backend


class LatticeLoss(torch.autograd.Function):
    """−log P (B,) from the log-probabilities of arcs; see `lattice_loss`."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, blank_N: Tensor, label_N: Tensor, nodes: Nodes, rules: ArcRules
    ) -> tuple[Tensor, Tensor]:
        log_p, by_blank, by_label = occupations(nodes, blank_N.detach(), label_N.detach(), rules)
        occupation = by_blank + by_label
        ctx.save_for_backward(by_blank.to(blank_N.dtype), by_label.to(label_N.dtype))
        ctx.nodes = nodes  # type: ignore[attr-defined]
        ctx.mark_non_differentiable(occupation)
        return -log_p.to(blank_N.dtype), occupation

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        by_blank, by_label = ctx.saved_tensors  # type: ignore[attr-defined]
        nodes: Nodes = ctx.nodes  # type: ignore[attr-defined]
        scale_N = -grads[0].repeat_interleave(nodes.node_offsets[nodes.row_offsets].diff())
        return scale_N * by_blank, scale_N * by_label, None, None


def lattice_loss(nodes: Nodes, blank_N: Tensor, label_N: Tensor, rules: ArcRules) -> tuple[Tensor, Tensor]:
    """−log P (B,), nats, differentiable once by both kinds of arcs; and γ of each node (N,), not differentiable."""
    loss: tuple[Tensor, Tensor] = LatticeLoss.apply(blank_N, label_N, nodes, rules)  # type: ignore[no-untyped-call]
    return loss
