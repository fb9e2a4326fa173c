"""A set of lattice nodes: for every frame of every utterance one interval of label positions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

# Where the label arc of node (t,u) leads: to (t,u+1), so that a frame may emit any number of labels, or to
# (t+1,u+1), so that it emits at most one. "constrained" is "modified" with a forced blank: the label arc
# passes through node (t,u+1) and takes its blank.
Topology = Literal["regular", "modified", "constrained"]


@dataclass(frozen=True)
class Nodes:
    """Nodes (b,t,u) with u in [first_R, first_R + count_R), stored by rows (CSR).

    A row is a valid frame of an utterance; rows of an utterance follow each other, utterances too. There
    are R = Σ T_b rows and N = Σ count_R nodes. An arc exists if and only if both its ends are in the set.
    Within an utterance neither end of the interval ever moves down.

    frames_B, label_lengths_B: (B,), T_b and U_b.
    row_offsets: (B+1,), the first row of each utterance, and R.
    first_R: (R,), lowest label position of each row.
    node_offsets: (R+1,), the first node of each row, and N.
    size, widest, longest: N, and the nodes of the largest row and of the largest utterance; known here, whatever device
    the tensors are on.

    Sets are made on the CPU, where to look at a number is to wait for nothing, and then moved to where they are needed.
    """

    frames_B: Tensor
    label_lengths_B: Tensor
    row_offsets: Tensor
    first_R: Tensor
    node_offsets: Tensor
    size: int
    widest: int
    longest: int

    def __len__(self) -> int:
        return self.size

    def to(self, device: torch.device | str) -> Nodes:
        """The same nodes with their tensors on `device`."""
        ahead = torch.device(device).type != "cpu"  # what comes from a GPU has to be waited for
        return self.each(lambda values: values.to(device, non_blocking=ahead))

    def each(self, change: Callable[[Tensor], Tensor]) -> Nodes:
        """The same nodes with their tensors changed."""
        frames_B, label_lengths_B = change(self.frames_B), change(self.label_lengths_B)
        rows = change(self.row_offsets), change(self.first_R), change(self.node_offsets)
        return Nodes(frames_B, label_lengths_B, *rows, self.size, self.widest, self.longest)

    @property
    def count_R(self) -> Tensor:
        """(R,), label positions of each row."""
        return self.node_offsets.diff()

    def rows(self) -> tuple[Tensor, Tensor]:
        """Utterance b and frame t of each row, (R,) both."""
        utterance = torch.repeat_interleave(self.frames_B, output_size=len(self.first_R))
        return utterance, torch.arange(len(utterance), device=utterance.device) - self.row_offsets[utterance]

    def coordinates(self) -> tuple[Tensor, Tensor, Tensor]:
        """b, t and u of each node, (N,) all."""
        utterance, frame = self.rows()
        row = torch.repeat_interleave(self.count_R, output_size=self.size)
        within = torch.arange(len(row), device=row.device) - self.node_offsets[row]
        return utterance[row], frame[row], self.first_R[row] + within


def make_nodes(
    frames_B: Tensor, label_lengths_B: Tensor, first_BT: Tensor, last_BT: Tensor, topology: Topology = "regular"
) -> Nodes:
    """Nodes from intervals [first_BT, last_BT] of label positions; entries of frames beyond T_b are not read.

    Raises ValueError where an interval is empty, outside of the lattice or moves down, or no path is complete.
    """
    valid_BT = valid_frames(frames_B, first_BT.shape[1])
    completed = complete(frames_B, label_lengths_B, first_BT, last_BT, topology)
    problems = {
        "an empty interval": first_BT > last_BT,
        "a position outside [0, U]": (first_BT < 0) | (last_BT > label_lengths_B[:, None]),
        "an interval that moves down": valid_BT & (falls(first_BT) | falls(last_BT)),
        "no complete path": (completed[0] != first_BT) | (completed[1] != last_BT),
    }
    for problem, where_BT in problems.items():
        found = (where_BT & valid_BT).nonzero()
        if len(found):
            raise ValueError(f"node set with {problem}: utterance {int(found[0, 0])}, frame {int(found[0, 1])}")
    return pack(frames_B, label_lengths_B, first_BT, last_BT)


def all_nodes(frames_B: Tensor, label_lengths_B: Tensor) -> Nodes:
    """Every valid node: positions 0 to U_b of every frame of every utterance, and no padding."""
    last_BT = label_lengths_B[:, None].expand(-1, int(frames_B.max()))
    return pack(frames_B, label_lengths_B, torch.zeros_like(last_BT), last_BT)


def complete_nodes(
    frames_B: Tensor, label_lengths_B: Tensor, first_BT: Tensor, last_BT: Tensor, topology: Topology
) -> tuple[Nodes, Tensor]:
    """Nodes of intervals that need not have a complete path: where there is none, they are widened (`complete`).

    Returns the nodes and whether an utterance's intervals were widened, (B,).
    """
    completed = complete(frames_B, label_lengths_B, first_BT, last_BT, topology)
    changed_BT = (completed[0] != first_BT) | (completed[1] != last_BT)
    widened_B = (changed_BT & valid_frames(frames_B, first_BT.shape[1])).any(1)
    return pack(frames_B, label_lengths_B, *completed), widened_B


def complete(
    frames_B: Tensor, label_lengths_B: Tensor, first_BT: Tensor, last_BT: Tensor, topology: Topology
) -> tuple[Tensor, Tensor]:
    """Intervals widened, no more than needed, until every utterance has a complete path.

    Expects intervals that do not move down, and no more labels than frames where a frame emits at most one.
    A path is at position 0 in frame 0, and at U_b after the last frame. How far it can have climbed by frame t:

        regular      l_{t−1}, the last position of the frame before
        modified     min over s ≤ t of l_s + (t − s)
        constrained  min over s < t of l_s + (t − s − 1), since a label passes through node (s, u+1)
    """
    frame_T = torch.arange(first_BT.shape[1], device=first_BT.device)
    valid_BT = frame_T < frames_B[:, None]
    left_BT = frames_B[:, None] - frame_T  # frames that are left, this one included
    forced = int(topology == "constrained")
    if topology == "regular":
        needed_BT = label_lengths_B[:, None].where(left_BT == 1, 0)
        last_BT = last_BT.maximum(needed_BT)
        reach_BT = torch.nn.functional.pad(last_BT[:, :-1], (1, 0))
    else:
        last_BT = last_BT.maximum(label_lengths_B[:, None] - left_BT + forced)
        slack_BT = torch.nn.functional.pad((last_BT - frame_T).cummin(1).values, (forced, 0))
        reach_BT = frame_T + (slack_BT[:, : len(frame_T)] - forced).clamp(max=0)
        reach_BT[:, 0] = 0
    return first_BT.minimum(reach_BT).where(valid_BT, first_BT), last_BT


def pack(frames_B: Tensor, label_lengths_B: Tensor, first_BT: Tensor, last_BT: Tensor) -> Nodes:
    """Nodes of intervals that are known to be sound."""
    valid_BT = valid_frames(frames_B, first_BT.shape[1])
    first_R, count_R = first_BT[valid_BT], (last_BT - first_BT + 1)[valid_BT]
    row_offsets, node_offsets = offsets(frames_B), offsets(count_R)
    sizes = int(node_offsets[-1]), int(count_R.max()), int(node_offsets[row_offsets].diff().max())
    return Nodes(frames_B, label_lengths_B, row_offsets, first_R, node_offsets, *sizes)


def valid_frames(frames_B: Tensor, frames: int) -> Tensor:
    """(B,T), true for t < T_b."""
    return torch.arange(frames, device=frames_B.device) < frames_B[:, None]


def falls(values_BT: Tensor) -> Tensor:
    """(B,T), true where a value is less than the one before."""
    return torch.nn.functional.pad(values_BT.diff(dim=1) < 0, (1, 0))


def offsets(counts: Tensor) -> Tensor:
    """(n,) counts → (n+1,) offsets: 0, c0, c0+c1, …."""
    return torch.nn.functional.pad(counts.cumsum(0), (1, 0))
