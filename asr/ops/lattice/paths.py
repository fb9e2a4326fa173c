"""Sums over the paths of a lattice over a node set, and a choice of what computes them."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from asr.arcs.base import ArcSet
from asr.arcs.rules import ArcRules
from asr.errors import InputError
from asr.nodes.base import Nodes

Moves = tuple[tuple[int, int], ...]
ForwardBackward = Callable[[Nodes, Tensor, Moves, float], tuple[Tensor, Tensor]]

MODULES = {"reference": "reference", "numba": "cpu", "triton": "gpu", "k2": "k2_backend"}
INSTALLATION = {
    "triton": "pip install triton",
    "k2": "see https://k2-fsa.github.io/k2/installation for the wheel of your torch",
}

NEGLIGIBLE = 2**-16  # of the rounding error of 1: more than as many nodes as a frame has would make
TEMPERATURE = 1e-6  # nats; float64 resolves that for log P down to −1e9
SHARED = 0.1  # occupation that one of several equally likely paths has at least


def occupations(nodes: Nodes, weights_AN: Tensor, rules: ArcRules) -> tuple[Tensor, Tensor]:
    """log P (B,), and γ_a (A,N): the derivatives of log P by every arc of every node.

    weights_AN: log-weight of each arc that leaves each node; those of arcs that are not in the set are not read. With
    FastEmit γ of label arcs is the raised one.
    """
    forward_backward = find_backend(rules.backend, weights_AN.device)
    nodes = nodes.to(weights_AN.device)
    log_p, by_AN = forward_backward(nodes, rules.changed(nodes, weights_AN), rules.arcs.moves, rules.edges)
    return log_p, rules.credited(by_AN)


def best_alignment(nodes: Nodes, weights_AN: Tensor, arcs: ArcSet, edges: float = math.inf) -> Tensor:
    """The frame that emits each label on the likeliest path, (B,U) on the CPU; 0 beyond an utterance's labels."""
    nodes, by_AN = of_likeliest(nodes, weights_AN, arcs, edges)
    by_label = by_AN[arcs.emits_A].sum(0)
    shape = len(nodes.frames_B), int(nodes.frames_B.max()), int(nodes.label_lengths_B.max()) + 1
    emitted_BTU = by_label.new_zeros(shape).index_put(nodes.coordinates(), by_label)[:, :, :-1]
    return emitted_BTU.argmax(1).cummax(1).values.masked_fill(emitted_BTU.amax(1) == 0, 0)


class PathArc(NamedTuple):
    """An arc (t,u) → (t + frames, u + labels) of a path. frame, position: t and u."""

    frame: int
    position: int
    frames: int
    labels: int


def best_path(nodes: Nodes, weights_AN: Tensor, arcs: ArcSet, edges: float = math.inf) -> list[PathArc]:
    """The arcs of the likeliest path of the one utterance that there is; none where all its frames are left out."""
    nodes, by_AN = of_likeliest(nodes, weights_AN, arcs, edges)
    _, frame_N, position_N = nodes.coordinates()
    at = {place: number for number, place in enumerate(zip(frame_N.tolist(), position_N.tolist()))}
    passed = (by_AN.sum(0) > SHARED).nonzero()
    path: list[PathArc] = []
    number = int(passed[0]) if len(passed) else None
    while number is not None and by_AN[:, number].sum() > SHARED:
        frame, position = int(frame_N[number]), int(position_N[number])
        arc = PathArc(frame, position, *arcs.moves[int(by_AN[:, number].argmax())])
        path.append(arc)
        number = at.get((frame + arc.frames, position + arc.labels))
    return path


def of_likeliest(nodes: Nodes, weights_AN: Tensor, arcs: ArcSet, edges: float) -> tuple[Nodes, Tensor]:
    """The nodes, and by how much of the likeliest paths each arc is passed (A,N): 1 or 0; on the CPU.

    The lattice under max instead of sum: log Σ exp(s/τ) · τ goes to the maximum of s as τ goes to 0, and the
    occupations to 1 on the likeliest path and 0 elsewhere. Paths that differ by less than a few τ share them.
    """
    nodes = nodes.to("cpu")
    weights_AN = weights_AN.detach().cpu().double() / TEMPERATURE
    return nodes, occupations(nodes, weights_AN, ArcRules(arcs, edges=edges / TEMPERATURE, backend="numba"))[1]


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
    """−log P (B,) from the log-weights of arcs; see `lattice_loss`."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, weights_AN: Tensor, nodes: Nodes, rules: ArcRules
    ) -> tuple[Tensor, Tensor]:
        log_p, by_AN = occupations(nodes, weights_AN.detach(), rules)
        occupation = by_AN.sum(0)
        ctx.save_for_backward(without_negligible(by_AN.to(weights_AN.dtype)))
        ctx.nodes = nodes  # type: ignore[attr-defined]
        ctx.mark_non_differentiable(occupation)
        return -log_p.to(weights_AN.dtype), occupation

    @staticmethod
    @once_differentiable
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (by_AN,) = ctx.saved_tensors  # type: ignore[attr-defined]
        nodes: Nodes = ctx.nodes  # type: ignore[attr-defined]
        counts_B = nodes.node_offsets[nodes.row_offsets].diff()
        scale_N = -grads[0].repeat_interleave(counts_B, output_size=len(nodes))
        return scale_N * by_AN, None, None


def without_negligible(by_AN: Tensor) -> Tensor:
    """Occupations with 0 for those that are lost in any sum over a frame or a label, which hold 1 in all.

    What a backward makes of them would be denormal numbers, which slow a CPU down many times.
    """
    return by_AN.where(by_AN > NEGLIGIBLE * torch.finfo(by_AN.dtype).eps, 0.0)


def lattice_loss(nodes: Nodes, weights_AN: Tensor, rules: ArcRules) -> tuple[Tensor, Tensor]:
    """−log P (B,), nats, differentiable once by the weights of arcs; and γ of each node (N,), not differentiable."""
    nodes = nodes.to(weights_AN.device)
    loss: tuple[Tensor, Tensor] = LatticeLoss.apply(weights_AN, nodes, rules)  # type: ignore[no-untyped-call]
    return loss
