"""The picture of a lattice: what it shows, and that it can be drawn."""

import warnings
from itertools import pairwise

import pytest
import torch
from matplotlib.patches import Rectangle
from matplotlib.text import Annotation
from small_model import small_options

from asr.data.batch import Batch
from asr.losses import make
from asr.losses.objective import Objective
from asr.models.transducer import Transducer
from asr.plot.lattice import draw_lattice, view_lattice
from asr.train.task import Task

PIECES = ["<blk>", "<unk>", "A", "B", "C"]


def task_with(loss, **options):
    torch.manual_seed(0)
    transducer = make(loss, vocab_size=5, encoder_dim=8, predictor_dim=8, topology="modified", **options)
    model = Transducer(small_options(), 5, transducer.options.arcs.extra_outputs)
    return Task(model, Objective(transducer, 8, 5, 0.2)).eval()


def batch_with(alignment):
    return Batch(
        ids=["a"],
        texts=["ABC"],
        features=torch.randn(1, 67, 8, generator=torch.Generator().manual_seed(0)),
        feature_frames=torch.tensor([67]),
        labels=torch.tensor([[2, 3, 4]]),
        label_lengths=torch.tensor([3]),
        seconds=0.67,
        alignment=torch.tensor([alignment]),
    )


def view_of(task, *arguments):
    return view_lattice(task.model, task.objective.transducer, *arguments)


@pytest.mark.parametrize("loss", ["full", "optimized", "pruned"])
def test_the_view_is_that_of_the_loss(loss):
    task, batch = task_with(loss), batch_with([3, 7, 11])
    view = view_of(task, batch, PIECES, 1, 2, 2)
    assert view.occupation_TU.shape == (16, 4)
    assert view.occupation_TU.sum(1).tolist() == pytest.approx([1.0] * 16, abs=1e-6)
    assert view.loss == pytest.approx(float(task(batch).parts["transducer"]), rel=1e-5) or loss == "pruned"
    assert view.pieces == ["A", "B", "C"]
    (first, last), (start, end) = view.bounds.values()
    assert first.tolist() == [0] * 6 + [1] * 4 + [2] * 4 + [3] * 2  # label u at the latest 2 frames after its frame
    assert last.tolist() == [0] * 3 + [1] * 4 + [2] * 4 + [3] * 5  # 1 before at the earliest
    assert (end - start).max() == (1 if loss != "pruned" else 3)


def test_without_alignment_the_band_follows_the_model():
    view = view_of(task_with("full"), batch_with([-1, -1, -1]), PIECES, 0, 0, 2)
    first, last = next(iter(view.bounds.values()))
    assert (first == last).float().mean() > 0.5


def path_of_tdt(edges=None):
    """A view of a TDT model whose blank prefers to skip three frames, and 16 frames."""
    task = task_with("full", arcs={"name": "tdt", "durations": [0, 1, 2, 4]}, edges=edges)
    with torch.no_grad():
        task.model.joiner.output.bias.copy_(torch.tensor([6.0, 0, 0, 0, 0, 0, 3, 0, 8]))
    return view_of(task, batch_with([3, 7, 11]), PIECES, 1, 2, 2)


def test_the_path_goes_from_corner_to_corner_and_its_jumps_are_seen():
    view = path_of_tdt()
    for arc, after in pairwise(view.path):
        assert (arc.frame + arc.frames, arc.position + arc.labels) == after[:2]
    assert view.path[0][:2] == (0, 0)
    assert (view.path[-1].frame + view.path[-1].frames, view.path[-1].position + view.path[-1].labels) == (16, 3)
    jumps = [arc for arc in view.path if arc.frames > 1]
    assert jumps
    assert view.left_out == []
    figure = draw_lattice(view, "title")
    axis = figure.axes[0]
    arrows = [text for text in axis.texts if isinstance(text, Annotation)]
    assert [(view.timing.at(a.xyann[0]), a.xyann[1]) for a in arrows] == [arc[:2] for arc in jumps]
    skipped = sum(arc.frames - 1 for arc in jumps)
    assert f"likeliest path: {len(view.path)} arcs, {skipped} frames skipped" in legend(figure)


def test_what_the_path_leaves_out_is_shaded():
    view = path_of_tdt(edges=0.0)
    (begin, end), (last, frames) = view.left_out
    assert (begin, end, last, frames) == (0, view.path[0].frame, view.path[-1].frame + view.path[-1].frames, 16)
    figure = draw_lattice(view, "title")
    shaded = sorted(patch.get_x() for patch in figure.axes[0].patches if isinstance(patch, Rectangle))
    assert shaded == pytest.approx([view.timing.begin(frame) for frame in (begin, last)])
    assert f", {end - begin + frames - last} left out" in legend(figure)


def legend(figure):
    return " | ".join(text.get_text() for text in figure.legends[0].get_texts())


def test_it_is_drawn(tmp_path):
    figure = draw_lattice(view_of(task_with("full"), batch_with([3, 7, 11]), PIECES, 1, 2, 2), "title")
    figure.savefig(tmp_path / "lattice.png")
    axis = figure.axes[0]
    assert [tick.get_text() for tick in axis.get_yticklabels()] == ["A", "B", "C", "end"]
    assert len(figure.legends[0].get_texts()) == 3
    assert not axis.texts  # standard arcs skip nothing
    assert (tmp_path / "lattice.png").stat().st_size > 5000


def test_characters_that_the_font_lacks_are_named(tmp_path):
    pieces = ["<blk>", "<unk>", "\u2581", "三", "\u2581é"]
    view = view_of(task_with("full"), batch_with([3, 7, 11]), pieces, 1, 2, 2)
    figure = draw_lattice(view, "三.flac")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Glyph")
        figure.savefig(tmp_path / "lattice.png")
    axis = figure.axes[0]
    assert [tick.get_text() for tick in axis.get_yticklabels()] == ["\u2581", "U+4E09", "\u2581é", "end"]
    assert axis.get_title().startswith("U+4E09.flac\n")
