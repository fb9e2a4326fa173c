"""The band of nodes around an alignment: every label near its aligned frame."""

from __future__ import annotations

import torch
from torch import Tensor

from asr.nodes.base import Nodes, Topology, complete_nodes, valid_frames


def band_nodes(
    frames_B: Tensor,
    label_lengths_B: Tensor,
    alignment_BU: Tensor,
    left_frames: int,
    right_frames: int,
    topology: Topology = "regular",
) -> tuple[Nodes, Tensor]:
    """Nodes that let label u be emitted at frames [a_u − left, a_u + right] alone (Mahadeokar et al., SLT 2021).

    alignment_BU: (B,U), the frame a_u of each label, after subsampling; frames beyond the utterance's count as
    its last. An utterance with a negative frame among its labels has no alignment: it gets all nodes.

    Returns the nodes and whether an utterance's band had to be widened for want of a complete path, (B,).
    """
    used_BU = valid_frames(label_lengths_B, alignment_BU.shape[1])
    aligned_BU = alignment_BU.minimum(frames_B[:, None] - 1)
    earliest_BU = (aligned_BU - left_frames).where(used_BU, int(frames_B.max()))
    latest_BU = (aligned_BU + right_frames).where(used_BU, int(frames_B.max()))
    first_BT, last_BT = intervals(earliest_BU, latest_BU, int(frames_B.max()), topology)
    known_B1 = ~unaligned(alignment_BU, label_lengths_B)[:, None]
    first_BT, last_BT = first_BT.where(known_B1, 0), last_BT.where(known_B1, label_lengths_B[:, None])
    return complete_nodes(frames_B, label_lengths_B, first_BT, last_BT, topology)


def unaligned(alignment_BU: Tensor, label_lengths_B: Tensor) -> Tensor:
    """Whether an utterance has a label of unknown (negative) frame, (B,)."""
    return (valid_frames(label_lengths_B, alignment_BU.shape[1]) & (alignment_BU < 0)).any(1)


def intervals(earliest_BU: Tensor, latest_BU: Tensor, frames: int, topology: Topology) -> tuple[Tensor, Tensor]:
    """First and last label position (B,T) of each frame, from the frames (B,U) that may emit each label.

    Position u is possible in a frame once label u − 1 can have been emitted (in an earlier frame, where a
    label takes one: `modified`), and as long as label u still can be.
    """
    first_frame_BU = earliest_BU.cummax(1).values + (topology == "modified")
    last_frame_BU = latest_BU.flip(1).cummin(1).values.flip(1)
    frame_BT = torch.arange(frames, device=earliest_BU.device).repeat(len(earliest_BU), 1)
    last_BT = torch.searchsorted(first_frame_BU.contiguous(), frame_BT, right=True)
    first_BT = torch.searchsorted(last_frame_BU.contiguous(), frame_BT, right=False)
    return first_BT, last_BT
