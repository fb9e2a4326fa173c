"""Forward recursion over the padded grid in plain torch: readable, differentiable by autograd.

    α(t,u) = log Σ_a exp(α(t−Δt,u−Δu) + w_a(t−Δt,u−Δu)),   log P = α(T,U)

with blank (1,0) and label (0,1) that of Graves, 2012, equation 16. Where paths may leave out frames, the weight of
beginning at (t,0) adds to α, and that of ending at (t,U) to log P. Every arc adds to t + u, so all nodes of an
anti-diagonal n = t + u are computed at once.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from asr.arcs.rules import IMPOSSIBLE
from asr.nodes.base import Nodes

REGULAR = ((1, 0), (0, 1))
Edges = tuple[Tensor, Tensor]


def log_probability(
    weights_ABTU: Tensor,
    frames_B: Tensor,
    label_lengths_B: Tensor,
    moves: tuple[tuple[int, int], ...] = REGULAR,
    edges: Edges | None = None,
) -> Tensor:
    """log P(y|x), (B,).

    weights_ABTU: (A,B,T,U+1), log-weight of each arc that leaves node (t,u). moves: where the arcs lead, (Δt,Δu).
    frames_B, label_lengths_B: (B,), T_b ≥ 1 and U_b ≥ 0 of each utterance; arcs beyond them may hold anything.
    edges: see `edge_weights`; None: paths begin at (0,0) and end at (T,U).
    """
    weights = [
        by_diagonal(mask_arcs(weights_BTU, frames_B, label_lengths_B + 1 - labels))
        for weights_BTU, (_, labels) in zip(weights_ABTU, moves)
    ]
    start = torch.full_like(weights[0][:, 0], IMPOSSIBLE)
    start[:, 0] = 0.0
    alpha = [start]
    for n in range(1, weights[0].shape[1]):
        arriving = []
        for weights_BNU, (frames, labels) in zip(weights, moves):
            before = n - frames - labels
            if before >= 0:
                arriving.append(move_up(alpha[before] + weights_BNU[:, before], labels))
        if edges is not None and n < edges[0].shape[1]:
            arriving.append(torch.nn.functional.pad(edges[0][:, n, None], (0, start.shape[1] - 1), value=IMPOSSIBLE))
        alpha.append(functools.reduce(torch.logaddexp, arriving) if arriving else torch.full_like(start, IMPOSSIBLE))
    utterance = torch.arange(len(frames_B), device=frames_B.device)
    alpha_BNU = torch.stack(alpha, dim=1)
    complete = alpha_BNU[utterance, frames_B + label_lengths_B, label_lengths_B]
    if edges is None:
        return complete
    frame = torch.arange(edges[1].shape[1], device=frames_B.device)
    early = alpha_BNU[utterance[:, None], frame + label_lengths_B[:, None], label_lengths_B[:, None]] + edges[1]
    return torch.logaddexp(complete, early.logsumexp(1))


def edge_weights(frames_B: Tensor, frames: int, price: float) -> Edges | None:
    """Log-weights (B,T) of beginning at (t,0), and of ending at (t,U_b), at `price` for every frame left out."""
    if math.isinf(price):
        return None
    frame_T = torch.arange(frames, device=frames_B.device)
    inside_BT = frame_T < frames_B[:, None]
    left_out = frame_T.expand_as(inside_BT), frames_B[:, None] - frame_T
    entry, exit_ = ((-price * count.double()).masked_fill(~inside_BT, IMPOSSIBLE) for count in left_out)
    return entry, exit_


def forward_backward(
    nodes: Nodes, weights_AN: Tensor, moves: tuple[tuple[int, int], ...] = REGULAR, edges: float = math.inf
) -> tuple[Tensor, Tensor]:
    """log P (B,) and the occupations γ_a (A,N), float64: their derivatives, found by autograd.

    weights_AN: log-weight of each arc that leaves each node of the set; all other arcs have none. edges: price of a
    frame that a path leaves out at its beginning or end.
    """
    shape = len(nodes.frames_B), int(nodes.frames_B.max()), int(nodes.label_lengths_B.max()) + 1
    with torch.inference_mode(False), torch.enable_grad():  # a validation is in inference mode
        nodes = nodes.each(torch.clone)
        weights_AN = weights_AN.detach().to(torch.float64, copy=True).requires_grad_()
        nothing = torch.full(shape, IMPOSSIBLE, dtype=torch.float64, device=weights_AN.device)
        weights = torch.stack([nothing.index_put(nodes.coordinates(), weights_N) for weights_N in weights_AN])
        at_edges = edge_weights(nodes.frames_B, shape[1], edges)
        if at_edges is not None:
            at_edges = only_inside(nodes, shape, *at_edges)
        log_p = log_probability(weights, nodes.frames_B, nodes.label_lengths_B, moves, at_edges)
        (by_AN,) = torch.autograd.grad(log_p.sum(), weights_AN)
    return log_p.detach(), by_AN


def only_inside(nodes: Nodes, shape: tuple[int, int, int], entry_BT: Tensor, exit_BT: Tensor) -> Edges:
    """The weights of edges whose node is in the set."""
    inside_BTU = torch.zeros(shape, dtype=torch.bool, device=entry_BT.device)
    inside_BTU[nodes.coordinates()] = True
    last_BT1 = nodes.label_lengths_B[:, None, None].expand(-1, shape[1], 1)
    at_end_BT = inside_BTU.gather(2, last_BT1)[..., 0]
    return entry_BT.masked_fill(~inside_BTU[..., 0], IMPOSSIBLE), exit_BT.masked_fill(~at_end_BT, IMPOSSIBLE)


def move_up(values_BU: Tensor, positions: int) -> Tensor:
    """Values of label positions 0 to U, moved up by some; IMPOSSIBLE where nothing comes from."""
    kept = values_BU[:, : values_BU.shape[1] - positions]
    return torch.nn.functional.pad(kept, (positions, 0), value=IMPOSSIBLE)


def mask_arcs(arcs_BTU: Tensor, frames_B: Tensor, positions_B: Tensor) -> Tensor:
    """IMPOSSIBLE where an utterance has no such arc: outside t < frames_B, u < positions_B."""
    _, frames, positions = arcs_BTU.shape
    frame = torch.arange(frames, device=arcs_BTU.device)[:, None]
    position = torch.arange(positions, device=arcs_BTU.device)
    inside = (frame < frames_B[:, None, None]) & (position < positions_B[:, None, None])
    return arcs_BTU.masked_fill(~inside, IMPOSSIBLE)


def by_diagonal(arcs_BTU: Tensor) -> Tensor:
    """Rearrange (B,T,U') so that entry (n,u) of (B,T+U',U') is node (n−u,u); IMPOSSIBLE outside the grid."""
    _, frames, positions = arcs_BTU.shape
    position = torch.arange(positions, device=arcs_BTU.device)
    frame = torch.arange(frames + positions, device=arcs_BTU.device)[:, None] - position
    inside = (frame >= 0) & (frame < frames)
    index = frame.clamp(0, frames - 1).expand(len(arcs_BTU), -1, -1)
    return arcs_BTU.gather(1, index).masked_fill(~inside, IMPOSSIBLE)
