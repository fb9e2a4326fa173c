"""The picture of a lattice: what it shows, and that it can be drawn."""

import warnings

import pytest
import torch
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
    return Task(Transducer(small_options(), 5), Objective(transducer, 8, 5, 0.2)).eval()


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


@pytest.mark.parametrize("loss", ["full", "optimized", "pruned"])
def test_the_view_is_that_of_the_loss(loss):
    task, batch = task_with(loss), batch_with([3, 7, 11])
    view = view_lattice(task, batch, PIECES, 1, 2, 2)
    assert view.occupation_TU.shape == (16, 4)
    assert view.occupation_TU.sum(1).tolist() == pytest.approx([1.0] * 16, abs=1e-6)
    assert view.loss == pytest.approx(float(task(batch).parts["transducer"]), rel=1e-5) or loss == "pruned"
    assert view.pieces == ["A", "B", "C"]
    (first, last), (start, end) = view.bounds.values()
    assert first.tolist() == [0] * 6 + [1] * 4 + [2] * 4 + [3] * 2  # label u at the latest 2 frames after its frame
    assert last.tolist() == [0] * 3 + [1] * 4 + [2] * 4 + [3] * 5  # 1 before at the earliest
    assert (end - start).max() == (1 if loss != "pruned" else 3)


def test_without_alignment_the_band_follows_the_model():
    view = view_lattice(task_with("full"), batch_with([-1, -1, -1]), PIECES, 0, 0, 2)
    first, last = next(iter(view.bounds.values()))
    assert (first == last).float().mean() > 0.5


def test_it_is_drawn(tmp_path):
    figure = draw_lattice(view_lattice(task_with("full"), batch_with([3, 7, 11]), PIECES, 1, 2, 2), "title")
    figure.savefig(tmp_path / "lattice.png")
    axis = figure.axes[0]
    assert [tick.get_text() for tick in axis.get_yticklabels()] == ["A", "B", "C", "end"]
    assert len(axis.get_legend().get_texts()) == 2
    assert (tmp_path / "lattice.png").stat().st_size > 5000


def test_characters_that_the_font_lacks_are_named(tmp_path):
    pieces = ["<blk>", "<unk>", "\u2581", "三", "\u2581é"]
    view = view_lattice(task_with("full"), batch_with([3, 7, 11]), pieces, 1, 2, 2)
    figure = draw_lattice(view, "三.flac")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Glyph")
        figure.savefig(tmp_path / "lattice.png")
    axis = figure.axes[0]
    assert [tick.get_text() for tick in axis.get_yticklabels()] == ["\u2581", "U+4E09", "\u2581é", "end"]
    assert axis.get_title().startswith("U+4E09.flac\n")
