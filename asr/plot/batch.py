"""A picture of a batch: the nodes that each loss computes on, utterance after utterance, and what their logits take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from asr.plot.lattice import LatticeView

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PADDING = "0.85"
COLORS = "tab:blue", "tab:cyan"  # of every other utterance
LOGIT_BYTES = 4  # float32
MEGABYTE = 1e6


@dataclass(frozen=True)
class Kept:
    """The nodes of a batch that a loss computes on.

    bounds: of each utterance, the lowest and the highest label position of each of its frames, (T_b,) each.
    frames, positions: of the grid that each is padded to; 0, where there is no padding.
    """

    name: str
    bounds: list[tuple[Tensor, Tensor]]
    frames: int = 0
    positions: int = 0

    @property
    def size(self) -> int:
        """How many they are, padding included."""
        own = sum(int((last - first + 1).sum()) for first, last in self.bounds)
        return len(self.bounds) * self.frames * self.positions or own

    def spans(self) -> Iterator[tuple[int, int]]:
        """The frames [begin, end) of each utterance, where all are joined end to end."""
        begin = 0
        for first, _ in self.bounds:
            yield begin, begin + len(first)
            begin += self.frames or len(first)


def of_losses(views: Sequence[LatticeView]) -> list[Kept]:
    """What each loss computes on, of a batch of the utterances of views: all in the padded grid, the same packed, and
    what the restricted ones keep."""
    frames, positions = zip(*(view.occupation_TU.shape for view in views))
    whole = [(torch.zeros(length), torch.full((length,), top - 1.0)) for length, top in zip(frames, positions)]
    restricted = [Kept(name, [view.bounds[name] for view in views]) for name in views[0].bounds]
    return [
        Kept("full: the padded grid", whole, max(frames), max(positions)),
        Kept("optimized: packed", whole),
        *restricted,
    ]


def draw_batch(views: Sequence[LatticeView], outputs: int, title: str) -> Figure:
    """A row for each loss: its nodes on frames × labels, and a bar of how many they are and what their logits take.

    outputs: logits of a node.
    """
    from matplotlib.figure import Figure

    losses = of_losses(views)
    grid = losses[0]
    figure = Figure(figsize=(11, 1.4 * len(losses) + 0.9), layout="constrained")
    axes = figure.subplots(len(losses), 2, sharex="col", width_ratios=(3, 1))
    for (left, right), kept in zip(axes, losses):
        draw_nodes(left, kept)
        left.set_title(kept.name, fontsize=10, loc="left")
        left.set_xlim(0, len(views) * grid.frames)
        left.set_ylim(-0.5, grid.positions - 0.5)
        megabytes = kept.size * outputs * LOGIT_BYTES / MEGABYTE
        bar = right.barh([0], [kept.size], color=COLORS[0], height=0.5)
        right.bar_label(bar, [f"{kept.size:,} nodes, {megabytes:.3g} MB"], padding=4, fontsize=9)
        right.set_xlim(0, 1.9 * grid.size)
        right.set_ylim(-1, 1)
        right.set_axis_off()
    axes[-1][0].set_xlabel("frames, one utterance after the other")
    figure.supylabel("next label", fontsize=10)
    axes[0][1].set_title(f"with {outputs} logits each, float32", fontsize=10)
    figure.suptitle(title, fontsize=11)
    return figure


def draw_nodes(axis: Axes, kept: Kept) -> None:
    """Nodes as areas, of neighbours in two colours; the grid that each is padded to in grey."""
    from matplotlib.patches import Rectangle

    for number, ((begin, end), (first, last)) in enumerate(zip(kept.spans(), kept.bounds)):
        if kept.frames:
            grid = (begin, -0.5), kept.frames, kept.positions
            axis.add_patch(Rectangle(*grid, facecolor=PADDING, edgecolor="white"))
        low, high = (first - 0.5).numpy(), (last + 0.5).numpy()
        axis.stairs(high, range(begin, end + 1), baseline=low, fill=True, color=COLORS[number % 2])
