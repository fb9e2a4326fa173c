"""A picture of one utterance's lattice: where its paths pass, the likeliest, and what restricted losses would keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from asr.arcs.rules import ArcRules
from asr.data.batch import Batch
from asr.frames import FrameTiming
from asr.losses.base import TransducerLoss
from asr.losses.pruned import PrunedLoss
from asr.models.transducer import Transducer
from asr.nodes.band import band_nodes, unaligned
from asr.nodes.base import Nodes, Topology, all_nodes
from asr.nodes.pruned import fixed_width_nodes
from asr.ops.joint.chunked import node_weights
from asr.ops.joint.reference import LossInputs
from asr.ops.lattice.paths import PathArc, best_alignment, best_path, occupations

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PATH_COLOR = "tab:red"
JUMP = {"arrowstyle": "-|>", "connectionstyle": "arc3,rad=-0.35", "color": PATH_COLOR, "shrinkA": 2, "shrinkB": 2}


@dataclass(frozen=True)
class LatticeView:
    """What `draw_lattice` shows of an utterance.

    occupation_TU: (T,U+1), how likely a path passes through each node. pieces: the U labels. loss: −log P, nats.
    bounds: by name, lowest and highest label position that a restricted loss keeps of each frame, (T,) each.
    path: the arcs of the likeliest path. timing: of the frames.
    """

    occupation_TU: Tensor
    pieces: list[str]
    loss: float
    bounds: dict[str, tuple[Tensor, Tensor]]
    path: list[PathArc]
    timing: FrameTiming

    @property
    def left_out(self) -> list[tuple[int, int]]:
        """Frames [begin, end) that the path leaves out at its beginning and at its end, where it does."""
        frames = len(self.occupation_TU)
        begin = self.path[0].frame if self.path else frames
        end = min(self.path[-1].frame + self.path[-1].frames, frames) if self.path else frames
        return [span for span in ((0, begin), (end, frames)) if span[0] < span[1]]


@torch.no_grad()
def view_lattice(
    model: Transducer,
    loss: TransducerLoss,
    batch: Batch,
    pieces: Sequence[str],
    left_frames: int,
    right_frames: int,
    prune_range: int,
) -> LatticeView:
    """The lattice of a batch of one utterance, under the model's own joiner.

    The band is around the utterance's alignment; where that is unknown, around the frames in which the model itself
    emits. The pruned ranges are those of the simple joiner where the loss has one, else of the model's joiner.
    """
    arcs, edges = loss.rules.arcs, loss.rules.edges
    encoded, frames, predicted = model(batch.features, batch.feature_frames, batch.labels)
    targets = batch.labels.to(encoded.device), batch.label_lengths
    inputs = LossInputs(model.joiner, encoded, frames, predicted, *targets)
    nodes = all_nodes(frames, batch.label_lengths).to(encoded.device)
    weights = node_weights(inputs, nodes, arcs)
    log_p, by_AN = occupations(nodes, weights, ArcRules(arcs, edges=edges))
    occupation = on_grid(nodes, by_AN.sum(0))
    alignment = batch.alignment
    if alignment is None or bool(unaligned(alignment, batch.label_lengths)):
        alignment = best_alignment(nodes, weights, arcs, edges)
    band, _ = band_nodes(frames, batch.label_lengths, alignment, left_frames, right_frames, arcs.topology)
    pruned = prune(loss, inputs, occupation, prune_range, arcs.topology)
    bounds = {
        f"ar: {left_frames} frames before, {right_frames} after": of_rows(band),
        f"pruned: {prune_range} labels a frame": of_rows(pruned),
    }
    shown = [pieces[label] for label in batch.labels[0, : int(batch.label_lengths[0])].tolist()]
    path = best_path(nodes, weights, arcs, edges)
    return LatticeView(occupation[0].cpu(), shown, -float(log_p[0]), bounds, path, model.timing)


def prune(
    loss: TransducerLoss, inputs: LossInputs, occupation_BTU: Tensor, prune_range: int, topology: Topology
) -> Nodes:
    """The nodes that the pruned loss would keep."""
    if isinstance(loss, PrunedLoss):
        return loss.choose_nodes(inputs, loss.simple_loss(inputs)[1])[0]
    return fixed_width_nodes(inputs.encoder_frames, inputs.label_lengths, occupation_BTU, prune_range, topology)[0]


def on_grid(nodes: Nodes, values_N: Tensor) -> Tensor:
    """(B,T,U+1) with the values of all nodes, and 0 elsewhere."""
    shape = len(nodes.frames_B), int(nodes.frames_B.max()), int(nodes.label_lengths_B.max()) + 1
    return values_N.new_zeros(shape).index_put(nodes.coordinates(), values_N)


def of_rows(nodes: Nodes) -> tuple[Tensor, Tensor]:
    """Lowest and highest position of each row."""
    return nodes.first_R.cpu(), (nodes.first_R + nodes.count_R - 1).cpu()


def draw_lattice(view: LatticeView, title: str) -> Figure:
    """Occupation as shades of grey on frames × labels, with the bounds as coloured steps, and the likeliest path: a dot
    on each node that it passes, and arcs between them, curved where they skip frames."""
    from matplotlib.figure import Figure

    frames, positions = view.occupation_TU.shape
    figure = Figure(figsize=(min(max(frames / 12, 7), 20), min(max(positions / 5, 4), 14)), layout="constrained")
    axis = figure.subplots()
    edges = [view.timing.begin(frame) for frame in range(frames + 1)]
    extent = (edges[0], edges[-1], -0.5, positions - 0.5)
    image = axis.imshow(
        view.occupation_TU.T, origin="lower", aspect="auto", cmap="Greys", vmin=0, vmax=1, extent=extent,
        interpolation="nearest",
    )  # fmt: skip
    for (name, (first, last)), color in zip(view.bounds.items(), ("tab:blue", "tab:orange")):
        axis.stairs(
            last + 0.5, edges, baseline=None, color=color, label=f"{name} ({int((last - first + 1).sum())} nodes)"
        )
        axis.stairs(first - 0.5, edges, baseline=None, color=color)
    draw_path(axis, view)
    axis.set_xlabel("seconds")
    axis.set_ylabel("next label")
    axis.set_yticks(range(positions), [*map(legible, view.pieces), "end"], fontsize=7 if positions > 40 else 9)
    figure.colorbar(image, label="occupation", shrink=0.6)
    figure.legend(loc="outside lower left", ncols=2, fontsize=9)
    nodes = f"{frames} frames × {positions} positions = {frames * positions} nodes"
    axis.set_title(f"{legible(title)}\n{nodes}, loss {view.loss:.2f} nats")
    return figure


def draw_path(axis: Axes, view: LatticeView) -> None:
    """The likeliest path, from the middle of one node to that of the next; what it leaves out is shaded."""
    timing, frames = view.timing, len(view.occupation_TU)
    for begin, end in view.left_out:
        axis.axvspan(timing.begin(begin), timing.begin(end), color=PATH_COLOR, alpha=0.12, lw=0)
    for arc in view.path:
        start = timing.middle(arc.frame), arc.position
        stop = min(timing.middle(arc.frame + arc.frames), timing.begin(frames)), arc.position + arc.labels
        if arc.frames > 1:
            axis.annotate("", stop, start, arrowprops=JUMP)
        else:
            axis.plot(*zip(start, stop), color=PATH_COLOR, lw=1)
    skipped = sum(arc.frames - 1 for arc in view.path if arc.frames > 1)
    label = f"likeliest path: {len(view.path)} arcs, {skipped} frames skipped"
    if view.left_out:
        label += f", {sum(end - begin for begin, end in view.left_out)} left out"
    passed = [(timing.middle(arc.frame), arc.position) for arc in view.path]
    axis.plot(*(zip(*passed) if passed else ([], [])), "o", color=PATH_COLOR, ms=3, label=label)


def legible(text: str) -> str:
    """A text with code points for the characters that matplotlib's font lacks (as of Chinese, by default)."""
    from matplotlib import font_manager

    font = font_manager.get_font(font_manager.findfont(font_manager.FontProperties()))
    return "".join(one if font.get_char_index(ord(one)) else f"U+{ord(one):04X}" for one in text)
