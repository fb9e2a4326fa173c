"""A few label positions per frame, those that a cheap model finds likely."""

from __future__ import annotations

import torch
from torch import Tensor

from asr.nodes.band import unaligned
from asr.nodes.base import Nodes, Topology, complete_nodes, pack, valid_frames


def fixed_width_nodes(
    frames_B: Tensor,
    label_lengths_B: Tensor,
    occupation_BTU: Tensor,
    width: int | Tensor,
    topology: Topology = "regular",
) -> tuple[Nodes, Tensor]:
    """`width` label positions a frame (S), those of most occupation (Kuang et al., Interspeech 2022, section 3.3).

    occupation_BTU: (B,T,U+1), how likely a path passes through each node; entries beyond an utterance are not
    read; on whatever device. width: at least 2, for all utterances or for each (B,).

    The first position p_t of a frame is the one that holds most of the frame's occupation; then p is changed until
    p_0 = 0, p never falls, rises by at most S − 1 a frame (by 1 where a frame emits at most one label), and the
    last interval holds U_b. An utterance that is too short for such steps gets wider intervals.

    Returns the nodes and whether an utterance's intervals are wider than `width` for that reason, (B,).
    """
    width_B = wanted_B = torch.zeros_like(frames_B) + width
    step_B = torch.ones_like(frames_B)
    if topology == "regular":
        width_B = width_B.maximum(1 + -(-label_lengths_B // frames_B))
        step_B = width_B - 1
    highest_B = (label_lengths_B - width_B + 1).clamp(min=0)
    first_BT = steady(best_start(occupation_BTU, label_lengths_B, width_B, highest_B), frames_B, highest_B, step_B)
    last_BT = (first_BT + width_B[:, None] - 1).minimum(label_lengths_B[:, None])
    return pack(frames_B, label_lengths_B, first_BT, last_BT), width_B > wanted_B


def aligned_nodes(
    frames_B: Tensor, label_lengths_B: Tensor, alignment_BU: Tensor, width: int, topology: Topology = "regular"
) -> tuple[Nodes, Tensor]:
    """`width` label positions a frame, around the position that an alignment is at; all for one that is unknown.

    alignment_BU: (B,U), as in `band_nodes`. Returns what `fixed_width_nodes` returns.
    """
    near_BTU = occupation_near(label_lengths_B, alignment_BU, int(frames_B.max()), alignment_BU.shape[1] + 1)
    width_B = (label_lengths_B + 1).where(unaligned(alignment_BU, label_lengths_B), width)
    return fixed_width_nodes(frames_B, label_lengths_B, near_BTU, width_B, topology)


def occupation_near(label_lengths_B: Tensor, alignment_BU: Tensor, frames: int, positions: int) -> Tensor:
    """(B,T,U+1), 1 at the position that an alignment is at, and a factor of e⁻¹ for each position away from that.

    So a window of a given width has most of it if that position is its middle. frames, positions: T and U + 1.
    """
    used_BU = valid_frames(label_lengths_B, alignment_BU.shape[1])
    frame_BT = torch.arange(frames, device=alignment_BU.device).repeat(len(alignment_BU), 1)
    emitted_BU = alignment_BU.cummax(1).values.where(used_BU, frames)
    position_BT = torch.searchsorted(emitted_BU.contiguous(), frame_BT, right=True)
    position_U = torch.arange(positions, device=alignment_BU.device)
    return (-(position_U - position_BT[..., None]).abs().double()).exp()


def best_start(occupation_BTU: Tensor, label_lengths_B: Tensor, width_B: Tensor, highest_B: Tensor) -> Tensor:
    """(B,T), the start in [0, highest_B] of the `width_B` positions with most occupation; on the CPU."""
    device = occupation_BTU.device
    label_lengths_B, width_B, highest_B = (
        values.to(device, non_blocking=True) for values in (label_lengths_B, width_B, highest_B)
    )
    mass_BTU = cumulated(occupation_BTU, label_lengths_B)
    start_U = torch.arange(occupation_BTU.shape[2], device=device)
    end_BU = (start_U + width_B[:, None]).clamp(max=occupation_BTU.shape[2])
    inside_BTU = mass_BTU.gather(2, end_BU[:, None].expand_as(occupation_BTU)) - mass_BTU[:, :, :-1]
    return inside_BTU.masked_fill(start_U > highest_B[:, None, None], -1.0).argmax(2).cpu()


def steady(start_BT: Tensor, frames_B: Tensor, highest_B: Tensor, step_B: Tensor) -> Tensor:
    """Starts from 0 to `highest_B` that never fall and never rise by more than `step_B` a frame, near `start_BT`."""
    frame_T = torch.arange(start_BT.shape[1], device=start_BT.device)
    most_BT = step_B[:, None] * frame_T
    start_BT = start_BT.where(frame_T < frames_B[:, None] - 1, highest_B[:, None])
    start_BT = start_BT.flip(1).cummin(1).values.flip(1)
    start_BT = (start_BT - most_BT).flip(1).cummax(1).values.flip(1) + most_BT
    return start_BT.minimum(most_BT)


def massive_nodes(
    frames_B: Tensor, label_lengths_B: Tensor, occupation_BTU: Tensor, mass: float, topology: Topology = "regular"
) -> tuple[Nodes, Tensor]:
    """The fewest adjoining positions of each frame that hold the share `mass` of the frame's occupation.

    occupation_BTU: as in `fixed_width_nodes`. Intervals that would move down are widened, and a start and an
    end are added.

    Returns the nodes and whether an utterance's intervals had to be widened for want of a complete path, (B,).
    """
    cumulated_BTU = cumulated(occupation_BTU, label_lengths_B.to(occupation_BTU.device, non_blocking=True))
    wanted_BTU = cumulated_BTU[:, :, :-1] + mass * cumulated_BTU[:, :, -1:]
    positions = wanted_BTU.shape[2]
    # A window that ends beyond the last position cannot hold the share; rounding must not rule out the whole row.
    end_BTU = torch.searchsorted(cumulated_BTU.contiguous(), wanted_BTU.contiguous())
    start_U = torch.arange(positions, device=end_BTU.device)
    width_BTU = torch.where(end_BTU <= positions, end_BTU - start_U, positions)
    first_BT, width_BT = torch.stack((width_BTU.argmin(2), width_BTU.amin(2))).cpu()
    last_BT = (first_BT + width_BT - 1).minimum(label_lengths_B[:, None])
    frame_T = torch.arange(first_BT.shape[1], device=first_BT.device)
    first_BT = first_BT.where(frame_T > 0, 0).where(frame_T < frames_B[:, None], positions)
    last_BT = last_BT.where(frame_T < frames_B[:, None] - 1, label_lengths_B[:, None])
    first_BT = first_BT.flip(1).cummin(1).values.flip(1)
    return complete_nodes(frames_B, label_lengths_B, first_BT, last_BT.cummax(1).values, topology)


def cumulated(occupation_BTU: Tensor, label_lengths_B: Tensor) -> Tensor:
    """(B,T,U+2), the occupation of all lower positions, in float64."""
    position_U = torch.arange(occupation_BTU.shape[2], device=occupation_BTU.device)
    valid_B1U = (position_U <= label_lengths_B[:, None])[:, None]
    occupation = occupation_BTU.double().masked_fill(~valid_B1U, 0.0)
    return torch.nn.functional.pad(occupation.cumsum(2), (1, 0))
