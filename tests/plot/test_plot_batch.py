"""The picture of a batch: which nodes each loss computes on, and where they lie."""

import pytest
import torch
from matplotlib.patches import Rectangle, StepPatch

from asr.models.subsampling import frame_timing
from asr.plot.batch import LOGIT_BYTES, MEGABYTE, draw_batch, of_losses
from asr.plot.lattice import LatticeView

SHAPES = (3, 2), (5, 4)  # frames and label positions


def view(frames: int, positions: int) -> LatticeView:
    """One that a restricted loss keeps two positions a frame of."""
    first = torch.arange(frames).clamp(max=positions - 2)
    pieces = ["A"] * (positions - 1)
    bounds = {"ar": (first, first + 1)}
    return LatticeView(torch.zeros(frames, positions), pieces, 1.0, bounds, [], frame_timing(4))


@pytest.fixture(scope="module")
def views() -> list[LatticeView]:
    return [view(*shape) for shape in SHAPES]


def test_nodes_are_counted_and_placed(views):
    full, packed, restricted = of_losses(views)
    assert full.size == 2 * 5 * 4  # the longest, and the most labels, of both
    assert packed.size == 3 * 2 + 5 * 4
    assert restricted.size == 2 * (3 + 5)
    assert [*full.spans()] == [(0, 3), (5, 10)]
    assert [*packed.spans()] == [*restricted.spans()] == [(0, 3), (3, 8)]


def test_areas_are_the_nodes_and_bars_count_them(views):
    figure = draw_batch(views, 7, "title")
    rows = [*zip(figure.axes[::2], figure.axes[1::2])]
    for kept, (left, right) in zip(of_losses(views), rows, strict=True):
        areas = [patch for patch in left.patches if isinstance(patch, StepPatch)]
        heights = [(values - base).sum() for values, _, base in (area.get_data() for area in areas)]
        padding = [patch for patch in left.patches if isinstance(patch, Rectangle)]
        assert sum(heights) == sum(int((last - first + 1).sum()) for first, last in kept.bounds)
        assert sum(one.get_width() * one.get_height() for one in padding) == (kept.size if kept.frames else 0)
        assert [bar.get_width() for bar in right.patches] == [kept.size]
        assert right.texts[0].get_text() == f"{kept.size} nodes, {kept.size * 7 * LOGIT_BYTES / MEGABYTE:.3g} MB"
