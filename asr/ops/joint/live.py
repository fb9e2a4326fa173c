"""Nodes that a path of any weight can reach: the forward recursion, run ahead on a window of label positions.

Log-probabilities are at most 0, and the arcs of a node share a mass of 1. So paths that leave a window of nodes have
together no more mass than they had where they left it. The window is moved along with the forward recursion, a few
frames at a time; positions with next to no mass are left behind, and what is lost is summed up. (Arcs that skip frames
have mass under way to several frames to come; it counts for the window as what the next frame holds.) At the end it is
compared with the mass P of the paths that arrived: the posterior of all that was left out is at most lost / P, a bound
that holds whatever the logits are. An utterance for which that is too much gets all nodes.

A model that has learnt its alignment needs a few positions of each frame. With a random model the mass that is still
under way falls below the mass that is lost within a few frames, and the search gives up there.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from asr.arcs.base import BLANK, LABEL
from asr.arcs.consistency import other_view
from asr.nodes.base import Nodes, complete_nodes
from asr.ops.joint.chunked import SAFETY, SAFETY_OF_VIEWS, PackedIndex, PackedSettings, choose_joint
from asr.ops.joint.reference import LossInputs

BLOCK_FRAMES = 4  # that are evaluated at a time
CLIMB = 4  # positions by which a window is taller than its front; no path climbs more in a block, unless in a frame
MARGIN = 30.0  # nats below all that is under way, at which a position is left behind
LEAST = -1e4  # stands for log 0 where differences are taken


@torch.no_grad()
def live_nodes(inputs: LossInputs, settings: PackedSettings) -> tuple[Nodes, Tensor | None]:
    """Nodes outside of which too little of P(y|x) lies to change a gradient by the share `gradient_tolerance`; and the
    log-probability of each choice (C,N) that was found on the way, NaN where it was not, None where none was.

    The loss changes by far less. All nodes of an utterance for which that is not certain. Two views of an utterance
    have all nodes that either needs; what is left out then weighs up to 1 + `consistency` times as much.
    """
    tolerance = settings.gradient_tolerance
    if settings.consistency:
        tolerance /= SAFETY_OF_VIEWS * (1 + settings.consistency)
    search = Search(inputs, settings, tolerance)
    for begin in range(0, int(inputs.encoder_frames.max()), BLOCK_FRAMES):
        if not search.advance(begin):
            break
    nodes = search.nodes()
    return nodes, search.found_on(nodes) if search.certain_B.any() else None


class Search:
    """The state of `live_nodes` between two blocks of frames.

    low_B: position of the window's first entry. alpha_BRW: α of the window's positions, for the frame to be read next
    and for those after it that an arc can lead to; what lies in frames read already leads on to these.
    lost_B: log of the mass that has left the window. arrived_B: log P, once the last frame has been read.
    found_CBTU: log-probability of each choice at the nodes of all windows.
    """

    found_CBTU: Tensor

    def __init__(self, inputs: LossInputs, settings: PackedSettings, tolerance: float) -> None:
        self.joint = choose_joint(inputs.joiner, settings, (), inputs.encoder_out.device)
        self.arcs, self.tolerance, self.has_views = settings.arcs, tolerance / SAFETY, settings.consistency > 0
        self.encoder_out, self.frames_B = inputs.encoder_out, inputs.encoder_frames
        self.predictor_out, self.labels_B = inputs.predictor_out, inputs.label_lengths
        self.targets_BU = torch.nn.functional.pad(inputs.labels, (0, 1))
        batch, frames, _ = self.encoder_out.shape
        self.low_B = torch.zeros_like(self.labels_B)
        reach = max(frames for frames, _ in self.arcs.moves)
        self.alpha_BRW = torch.full((batch, reach, 1), -math.inf, dtype=torch.float64, device=self.encoder_out.device)
        self.alpha_BRW[:, 0] = 0.0
        self.lost_B, self.arrived_B = torch.full_like(self.alpha_BRW[:, 0, 0].expand(2, batch), -math.inf)
        self.active_B = torch.ones_like(self.labels_B, dtype=torch.bool)
        self.first_BT = torch.zeros_like(self.low_B)[:, None].repeat(1, frames)
        self.last_BT = self.labels_B[:, None].repeat(1, frames)

    def advance(self, begin: int) -> bool:
        """Read the frames from `begin` on, then move the windows of the utterances that go on; false if none did."""
        (active,) = self.active_B.nonzero(as_tuple=True)
        if not len(active):
            return False
        alpha_ARW = torch.nn.functional.pad(self.alpha_BRW[active], (0, CLIMB), value=-math.inf)
        position_AW = self.low_B[active, None] + torch.arange(alpha_ARW.shape[2], device=active.device)
        frames = min(BLOCK_FRAMES, self.first_BT.shape[1] - begin)
        self.first_BT[active, begin : begin + frames] = position_AW[:, :1]
        self.last_BT[active, begin : begin + frames] = position_AW[:, -1:].minimum(self.labels_B[active, None])
        weights = zip(*(weights_AFW.unbind(1) for weights_AFW in self.weights(active, begin, frames, position_AW)))
        frames_A1, lost_A = self.frames_B[active, None], self.lost_B[active]
        alpha = list(alpha_ARW.unbind(1))
        for frame, weights_AW in enumerate(weights, begin):
            read_A1 = frame < frames_A1
            after, over_A = step(alpha, weights_AW, self.arcs.moves)
            alpha = [after_AW.where(read_A1, alpha_AW) for after_AW, alpha_AW in zip(after, alpha)]
            lost_A = torch.logaddexp(lost_A, over_A.where(read_A1[:, 0], -math.inf))
        self.lost_B[active], alpha_ARW = lost_A, torch.stack(alpha, 1)
        self.arrive(active, begin + frames, alpha_ARW, position_AW)
        self.move(active, alpha_ARW, position_AW)
        return True

    def weights(self, active: Tensor, begin: int, frames: int, position_AW: Tensor) -> list[Tensor]:
        """Log-weight of each arc (A,F,W), float64; −inf where there is no such arc."""
        labels_A1 = self.labels_B[active, None]
        log_probs_CAFW = self.log_probs(active, begin, frames, position_AW)
        weights = [
            values.masked_fill((position_AW + labels > labels_A1)[:, None], -math.inf)
            for values, (_, labels) in zip(self.arcs.weights(log_probs_CAFW).double(), self.arcs.moves)
        ]
        if self.arcs.topology == "constrained":
            weights[LABEL] = weights[LABEL] + torch.nn.functional.pad(weights[BLANK][:, :, 1:], (0, 1))
        return weights

    def log_probs(self, active: Tensor, begin: int, frames: int, position_AW: Tensor) -> Tensor:
        """Log-probability of each choice (C,A,F,W)."""
        labels_A1 = self.labels_B[active, None]
        inside_AW = position_AW.minimum(labels_A1)
        rows = self.encoder_out[active, begin : begin + frames], self.predictor_out[active[:, None], inside_AW]
        target_AW = self.targets_BU[active[:, None], inside_AW].where(position_AW < labels_A1, 0)
        of_frame = torch.arange(rows[0].shape[:2].numel(), device=active.device).view(len(active), -1, 1)
        of_position = torch.arange(target_AW.numel(), device=active.device).view(len(active), 1, -1)
        where = torch.broadcast_tensors(active[:, None, None], of_frame, of_position, target_AW[:, None])  # type: ignore[no-untyped-call]
        index = PackedIndex(
            torch.arange(where[0].numel(), device=active.device), *(values.flatten() for values in where)
        )
        found_CN = self.joint.log_probs(index, *(values.flatten(0, 1) for values in rows))
        found_CAFW = found_CN.view(-1, *where[0].shape)
        self.keep(found_CAFW, active, begin, position_AW)
        return found_CAFW

    def keep(self, found_CAFW: Tensor, active: Tensor, begin: int, position_AW: Tensor) -> None:
        """Keep what was found for the loss itself."""
        if begin == 0:
            shape = len(found_CAFW), *self.first_BT.shape, self.targets_BU.shape[1]
            self.found_CBTU = found_CAFW.new_full(shape, math.nan)
        inside_AFW = (position_AW <= self.labels_B[active, None])[:, None].expand(found_CAFW.shape[1:])
        a, f, w = inside_AFW.nonzero(as_tuple=True)
        self.found_CBTU[:, active[a], begin + f, position_AW[a, w]] = found_CAFW[:, a, f, w]

    def found_on(self, nodes: Nodes) -> Tensor:
        """What was found on some nodes (C,N)."""
        utterance, frame, position = nodes.coordinates()
        return self.found_CBTU[:, utterance, frame, position]

    @property
    def certain_B(self) -> Tensor:
        """Of which utterances the bound holds.

        A gradient has an L1 norm of about twice the loss, or more; a path that is left out changes the occupation of
        T + U arcs, and that of as many others in turn, each in all heads.
        """
        changed_B = 2 * len(self.arcs.heads) * (self.frames_B + self.labels_B)
        share_B = self.tolerance * (-self.arrived_B).clamp(max=1.0) / changed_B
        return (self.lost_B <= self.arrived_B + share_B.log()) & self.arrived_B.isfinite()

    def arrive(self, active: Tensor, read: int, alpha_ARW: Tensor, position_AW: Tensor) -> None:
        """Note log P of utterances whose last frame has been read, and search them no more."""
        at_end = (self.frames_B[active] <= read)[:, None] & (position_AW == self.labels_B[active, None])
        self.arrived_B[active] = alpha_ARW[:, 0].where(at_end, -math.inf).amax(1)
        self.active_B[active] = self.frames_B[active] > read

    def move(self, active: Tensor, alpha_ARW: Tensor, position_AW: Tensor) -> None:
        """Leave positions with next to no mass behind; give up where too much is lost."""
        under_way_A = alpha_ARW.flatten(1).logsumexp(1)
        live_AW = (alpha_ARW >= under_way_A[:, None, None] - MARGIN).any(1)
        index_W = torch.arange(alpha_ARW.shape[2], device=active.device)
        lowest_A1 = live_AW.int().argmax(1, keepdim=True)
        highest_A1 = (live_AW * index_W).amax(1, keepdim=True)
        kept_AW = (index_W >= lowest_A1) & (index_W <= highest_A1)
        goes_on_A = self.active_B[active]
        left_A = alpha_ARW.masked_fill(kept_AW[:, None], -math.inf).flatten(1).logsumexp(1)
        lost_A = torch.logaddexp(self.lost_B[active], left_A.where(goes_on_A, -math.inf))
        too_much_A = lost_A > under_way_A + math.log(self.tolerance)
        self.lost_B[active] = lost_A
        self.active_B[active] = goes_on_A & ~too_much_A & under_way_A.isfinite()
        source_AW = lowest_A1 + torch.arange(int((highest_A1 - lowest_A1).max()) + 1, device=active.device)
        source_ARW = source_AW.clamp(max=alpha_ARW.shape[2] - 1)[:, None].expand(-1, alpha_ARW.shape[1], -1)
        moved_ARW = alpha_ARW.gather(2, source_ARW).masked_fill((source_AW > highest_A1)[:, None], -math.inf)
        self.alpha_BRW = moved_ARW.new_full((len(self.low_B), *moved_ARW.shape[1:]), -math.inf)
        self.alpha_BRW[active] = moved_ARW
        self.low_B[active] = position_AW.gather(1, lowest_A1)[:, 0]

    def nodes(self) -> Nodes:
        """The windows of the utterances for which the bound holds, and all nodes of the others."""
        certain_B1 = self.certain_B[:, None]
        # No path comes down again: what is above a later window is lost, and has been counted as such.
        last_BT = self.last_BT.flip(1).cummin(1).values.flip(1)
        first_BT, last_BT = self.first_BT.where(certain_B1, 0), last_BT.where(certain_B1, self.labels_B[:, None])
        if self.has_views:
            first_BT = first_BT.minimum(other_view(first_BT, 0))
            last_BT = last_BT.maximum(other_view(last_BT, 0))
        return complete_nodes(self.frames_B, self.labels_B, first_BT, last_BT, self.arcs.topology)[0]


def step(
    alpha: Sequence[Tensor], weights: Sequence[Tensor], moves: tuple[tuple[int, int], ...]
) -> tuple[list[Tensor], Tensor]:
    """α (A,W) of the frames that follow, and log of the mass that climbs out of the window (A,).

    alpha: of this frame, and of those after it, as far as an arc leads. weights: of each arc (A,W).
    """
    alpha_AW, *later = alpha
    over = []
    for weights_AW in (weights_AW for weights_AW, (frames, _) in zip(weights, moves) if frames == 0):
        alpha_AW, over_A = climb(alpha_AW, weights_AW)
        over.append(over_A)
    arriving: list[list[Tensor]] = [*([alpha_AW] for alpha_AW in later), []]
    for weights_AW, (frames, labels) in zip(weights, moves):
        if frames:
            moved_AW = alpha_AW + weights_AW
            if labels:
                over.append(moved_AW[:, -1])
                moved_AW = torch.nn.functional.pad(moved_AW[:, :-1], (1, 0), value=-math.inf)
            arriving[frames - 1].append(moved_AW)
    after = [functools.reduce(torch.logaddexp, alphas) for alphas in arriving]
    return after, functools.reduce(torch.logaddexp, over)


def climb(alpha_AW: Tensor, label_AW: Tensor) -> tuple[Tensor, Tensor]:
    """α after labels that stay in the frame, and log of the mass that they take out of the window.

    α_k = log Σ_{j≤k} exp(α_j + label_j + … + label_{k−1}), by differences of sums of labels.
    """
    climbed_AW = torch.nn.functional.pad(label_AW[:, :-1].clamp(min=LEAST).cumsum(1), (1, 0))
    alpha_AW = (alpha_AW - climbed_AW).logcumsumexp(1) + climbed_AW
    return alpha_AW, alpha_AW[:, -1] + label_AW[:, -1]
