"""Forward-backward by k2's `mutual_information_recursion`, for users who have k2 (https://github.com/k2-fsa/k2).

Its px (B,U,T+1) and py (B,U+1,T) are the label and the blank arcs of the whole grid; px (B,U,T) asks for the
modified topology. Nodes outside of the set get arcs of log-probability −inf, so memory is that of the grid.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from asr.errors import InputError
from asr.nodes.base import Nodes


def forward_backward(
    nodes: Nodes, weights_AN: Tensor, moves: tuple[tuple[int, int], ...], edges: float = math.inf
) -> tuple[Tensor, Tensor]:
    """log P (B,) and the occupations γ_a (2,N) of every node's arcs, float64.

    weights_AN: log-weight of the blank and of the label arc that leave each node; those of arcs that are not in the set
    are not read. moves: where they lead, (Δt,Δu). Raises InputError for arcs, and edges, that k2 does not know, and
    where k2 is of another torch.
    """
    try:
        import k2
    except ImportError as error:
        raise InputError(
            f"loss.backend=k2: k2 cannot be imported (see https://k2-fsa.github.io/k2/installation for the wheel of "
            f"your torch; {error}); or use backend=auto"
        ) from None
    if moves not in (((1, 0), (0, 1)), ((1, 0), (1, 1))):
        raise InputError("loss.backend=k2: k2 has no arcs that skip frames, as these of loss.arcs; use backend=auto")
    if math.isfinite(edges):
        raise InputError(f"loss.backend=k2: k2 knows no loss.edges={edges}; use backend=auto")
    blank_N, label_N = weights_AN
    b, t, u = nodes.coordinates()
    batch, frames, labels = len(nodes.frames_B), int(nodes.frames_B.max()), int(nodes.label_lengths_B.max())
    emits = u < nodes.label_lengths_B[b]
    py = blank_N.new_full((batch, labels + 1, frames), -torch.inf, dtype=torch.float64)
    px = py.new_full((batch, labels, frames + (moves[1] == (0, 1))), -torch.inf)
    py[b, u, t] = blank_N.double()
    px[b[emits], u[emits], t[emits]] = label_N[emits].double()
    zeros = torch.zeros_like(nodes.frames_B)
    boundary = torch.stack((zeros, zeros, nodes.label_lengths_B, nodes.frames_B), dim=1)
    log_p, (by_label, by_blank) = k2.mutual_information_recursion(px, py, boundary, return_grad=True)
    label_occupation = torch.zeros_like(py[b, u, t])
    label_occupation[emits] = by_label[b[emits], u[emits], t[emits]]
    return log_p, torch.stack((by_blank[b, u, t], label_occupation))
