"""A set of lattice nodes: for every frame of every utterance one interval of label positions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

# Where the label arc of node (t,u) leads: to (t,u+1), so that a frame may emit any number of labels, or to
# (t+1,u+1), so that it emits at most one.
Topology = Literal["regular", "modified"]


@dataclass(frozen=True)
class Nodes:
    """Nodes (b,t,u) with u in [first_R, first_R + count_R), stored by rows (CSR).

    A row is a valid frame of an utterance; rows of an utterance follow each other, utterances too. There
    are R = Σ T_b rows and N = Σ count_R nodes. An arc exists if and only if both its ends are in the set.

    frames_B, label_lengths_B: (B,), T_b and U_b.
    row_offsets: (B+1,), the first row of each utterance, and R.
    first_R: (R,), lowest label position of each row.
    node_offsets: (R+1,), the first node of each row, and N.
    """

    frames_B: Tensor
    label_lengths_B: Tensor
    row_offsets: Tensor
    first_R: Tensor
    node_offsets: Tensor

    def __len__(self) -> int:
        return int(self.node_offsets[-1])

    @property
    def count_R(self) -> Tensor:
        """(R,), label positions of each row."""
        return self.node_offsets.diff()

    def rows(self) -> tuple[Tensor, Tensor]:
        """Utterance b and frame t of each row, (R,) both."""
        utterance = torch.repeat_interleave(self.frames_B)
        return utterance, torch.arange(len(utterance), device=utterance.device) - self.row_offsets[utterance]

    def coordinates(self) -> tuple[Tensor, Tensor, Tensor]:
        """b, t and u of each node, (N,) all."""
        utterance, frame = self.rows()
        row = torch.repeat_interleave(self.count_R)
        within = torch.arange(len(row), device=row.device) - self.node_offsets[row]
        return utterance[row], frame[row], self.first_R[row] + within


def make_nodes(frames_B: Tensor, label_lengths_B: Tensor, first_R: Tensor, count_R: Tensor) -> Nodes:
    """Nodes from the intervals of all rows. Raises ValueError where an invariant does not hold."""
    nodes = Nodes(frames_B, label_lengths_B, offsets(frames_B), first_R, offsets(count_R))
    check_nodes(nodes)
    return nodes


def offsets(counts: Tensor) -> Tensor:
    """(n,) counts → (n+1,) offsets: 0, c0, c0+c1, …."""
    return torch.nn.functional.pad(counts.cumsum(0), (1, 0))


def all_nodes(frames_B: Tensor, label_lengths_B: Tensor) -> Nodes:
    """Every valid node: positions 0 to U_b of every frame of every utterance, and no padding."""
    utterance = torch.repeat_interleave(frames_B)
    return make_nodes(frames_B, label_lengths_B, torch.zeros_like(utterance), label_lengths_B[utterance] + 1)


def check_nodes(nodes: Nodes) -> None:
    """Raise ValueError where the set is not one interval per row, inside the lattice, with a complete path.

    A path exists if and only if the first row has position 0, the last row position U_b, and every row
    has a position in common with the next (blank leads from (t,u) to (t+1,u) alone).
    """
    utterance, frame = nodes.rows()
    first, last = nodes.first_R, nodes.first_R + nodes.count_R - 1
    labels = nodes.label_lengths_B[utterance]
    follows = frame[1:] > 0
    problems = {
        "an empty row": nodes.count_R < 1,
        "a position outside [0, U]": (first < 0) | (last > labels),
        "no start (position 0 in frame 0)": (frame == 0) & (first > 0),
        "no end (position U in the last frame)": (frame == nodes.frames_B[utterance] - 1) & (last < labels),
        "rows without a common position": follows & ((first[1:] > last[:-1]) | (last[1:] < first[:-1])),
    }
    for problem, where in problems.items():
        if where.any():
            row = int(where.nonzero()[0])
            raise ValueError(f"node set with {problem}: utterance {int(utterance[row])}, frame {int(frame[row])}")
