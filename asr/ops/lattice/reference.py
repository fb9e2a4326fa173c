"""Forward recursion over the padded grid in plain torch: readable, differentiable by autograd.

regular:  α(t,u) = logadd(α(t−1,u) + blank(t−1,u), α(t,u−1) + label(t,u−1))   (Graves, 2012, equation 16)
modified: α(t,u) = logadd(α(t−1,u) + blank(t−1,u), α(t−1,u−1) + label(t−1,u−1))

and log P = α(T,U) in both. All states that n arcs lead to are computed at once: those of an anti-diagonal
n = t + u of the regular topology, those of a frame n = t of the modified one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from asr.nodes.base import Nodes, Topology

IMPOSSIBLE = -1e30  # stands for log 0: finite, so that gradients of unreachable nodes are 0 and not NaN


def log_probability(
    blank_BTU: Tensor, label_BTU: Tensor, frames_B: Tensor, label_lengths_B: Tensor, topology: Topology = "regular"
) -> Tensor:
    """log P(y|x), (B,).

    blank_BTU: (B,T,U+1), log-probability of the blank arc that leaves node (t,u).
    label_BTU: (B,T,U), log-probability of the label arc that leaves node (t,u).
    frames_B, label_lengths_B: (B,), T_b ≥ 1 and U_b ≥ 0 of each utterance; arcs beyond them may hold anything.
    """
    blank = mask_arcs(blank_BTU, frames_B, label_lengths_B + 1)
    label = mask_arcs(label_BTU, frames_B, label_lengths_B)
    arcs_B = frames_B
    if topology == "regular":
        blank, label, arcs_B = by_diagonal(blank), by_diagonal(label), frames_B + label_lengths_B
    alpha = torch.full_like(blank[:, 0], IMPOSSIBLE)
    alpha[:, 0] = 0.0
    after = [alpha]
    for n in range(label.shape[1]):
        from_label = torch.nn.functional.pad(alpha[:, :-1] + label[:, n], (1, 0), value=IMPOSSIBLE)
        alpha = torch.logaddexp(alpha + blank[:, n], from_label)
        after.append(alpha)
    utterance = torch.arange(len(frames_B), device=frames_B.device)
    return torch.stack(after, dim=1)[utterance, arcs_B, label_lengths_B]


def forward_backward(
    nodes: Nodes, blank_N: Tensor, label_N: Tensor, topology: Topology = "regular"
) -> tuple[Tensor, Tensor, Tensor]:
    """log P (B,) and the occupations γ_blank, γ_label (N,), float64: their derivatives, found by autograd.

    blank_N, label_N: log-probability of the arcs that leave each node of the set; all other arcs have none.
    """
    utterance, frame, position = nodes.coordinates()
    shape = len(nodes.frames_B), int(nodes.frames_B.max()), int(nodes.label_lengths_B.max()) + 1
    blank_N, label_N = (arcs.detach().double().requires_grad_() for arcs in (blank_N, label_N))
    with torch.enable_grad():
        nothing = torch.full(shape, IMPOSSIBLE, dtype=torch.float64, device=blank_N.device)
        blank, label = (nothing.index_put((utterance, frame, position), arcs) for arcs in (blank_N, label_N))
        log_p = log_probability(blank, label[:, :, :-1], nodes.frames_B, nodes.label_lengths_B, topology)
        by_blank, by_label = torch.autograd.grad(log_p.sum(), (blank_N, label_N), materialize_grads=True)
    return log_p.detach(), by_blank, by_label


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
