"""Steps that cannot be taken: whose fault it was is said and kept, and can be computed again."""

import re
from dataclasses import replace

import pytest
import torch
from saved_runs import char_tokenizer, save_run, small_config

from asr.cli.main import main
from asr.config import OptimOptions, TrainOptions
from asr.data.batch import Batch, Position
from asr.errors import InputError
from asr.runs.directory import RunDirectory
from asr.train import bad
from asr.train.loop import Trainer
from asr.train.task import make_task

CPU = torch.device("cpu")


def make_batch(names=("u0", "u1"), value=None):
    """Utterances of 30 feature frames and three labels, of random features or of `value`."""
    features = torch.randn(len(names), 30, 8, generator=torch.Generator().manual_seed(0))
    if value is not None:
        features[-1] = value
    labels = torch.tensor([[2, 3, 4]] * len(names))
    frames, lengths = torch.full((len(names),), 30), torch.full((len(names),), 3)
    return Batch([*names], ["ABC"] * len(names), features, frames, labels, lengths, 0.6, position=Position(0, 1))


@pytest.fixture
def trainer(tmp_path, monkeypatch):
    """A trainer of a small model, and what it says."""
    torch.manual_seed(0)
    task = make_task(small_config(normalize="none"), 7)
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    options = TrainOptions(max_bad_steps=3)
    one = Trainer(task, lambda start: iter(()), lambda step: {}, run, options, OptimOptions(warmup_steps=1), CPU)
    one.said = []
    for level in ("info", "warning"):
        monkeypatch.setattr(one.logger, level, lambda form, *values: one.said.append(form % values))
    return one


def weights(trainer):
    return {name: value.clone() for name, value in trainer.task.named_parameters()}


def unchanged(trainer, before):
    return all(torch.equal(value, before[name]) for name, value in trainer.task.named_parameters())


def test_an_utterance_without_a_finite_loss_is_named_and_its_batch_is_kept(trainer):
    before = weights(trainer)
    batch = make_batch(value=float("nan"))
    trainer.train_step([make_batch(("a", "b")), batch])
    assert unchanged(trainer, before)
    [path] = trainer.run.bad_batches.iterdir()
    assert trainer.said[0].startswith("step 1: u1: utterance 1 of the batch: its loss is not finite")
    assert trainer.said[1] == f"its batch is kept: see asr train run={trainer.run.path} replay={path}"
    kept = bad.read(path)
    assert (kept.step, kept.number, kept.batch.ids, kept.batch.texts) == (1, 1, batch.ids, batch.texts)
    assert torch.equal(kept.batch.features[0], batch.features[0])
    for name in ("feature_frames", "labels", "label_lengths"):
        assert torch.equal(getattr(kept.batch, name), getattr(batch, name))


def test_a_gradient_that_is_not_finite_names_all_that_had_a_part_in_it(trainer):
    before = weights(trainer)
    trainer.task.model.joiner.output.bias.register_hook(lambda gradient: gradient * float("inf"))
    trainer.train_step([make_batch()])
    assert unchanged(trainer, before)
    assert re.match(r"step 1: gradient norm is (nan|inf), of u0, u1; step not taken", trainer.said[0])
    assert len(list(trainer.run.bad_batches.iterdir())) == 1


def test_training_gives_up_after_so_many_and_keeps_no_end_of_batches(trainer, monkeypatch):
    monkeypatch.setattr(bad, "KEPT", 2)
    batch = make_batch(value=float("nan"))
    for _ in range(2):
        trainer.train_step([batch])
    with pytest.raises(InputError, match="training diverged: no finite gradient for 3 steps"):
        trainer.train_step([batch])
    assert len(list(trainer.run.bad_batches.iterdir())) == 2


# Computed again


@pytest.fixture
def run(tmp_path):
    """A run that was never trained, of pieces A to E."""
    return RunDirectory(save_run(tmp_path / "saved", char_tokenizer("ABCDE"), small_config(normalize="none")))


@pytest.mark.parametrize("value", [float("nan"), None])
def test_a_batch_that_was_kept_is_computed_again(run, value, capsys):
    path = bad.keep(run, bad.Kept(make_batch(value=value), 12, 47, "u1: not finite"))
    assert path.name == "step-00000012-batch-00000047.safetensors"
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    assert main(["train", f"run={run.path}", f"replay={path}", "train.device=cpu"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[:2] == ["u0, u1: step 12 was not taken: u1: not finite", "with the weights of step 1:"]
    assert re.fullmatch(r"  u0: loss \d+\.\d{3} per label", told[2])
    if value is None:
        assert re.fullmatch(r"  u1: loss \d+\.\d{3} per label", told[3])
        assert re.fullmatch(r"  gradient norm \d+\.\d{3}", told[5])
    else:
        assert told[3:5] == ["  u1: its features are not finite", "  all of them: its features are not finite"]
    assert before == {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}


@pytest.mark.parametrize("content", [None, b"", b"x" * 100])
def test_what_is_no_batch_is_refused(run, content, capsys):
    path = run.path / "other"
    if content is not None:
        path.write_bytes(content)
    assert main(["train", f"run={run.path}", f"replay={path}"]) == 2
    assert capsys.readouterr().err.startswith(f"asr train: error: replay={path}: no batch of a training (")


def test_a_batch_comes_back_as_it_was(run):
    alignment = torch.tensor([[1, 2, 3], [0, -1, 4]])
    batch = replace(make_batch(), alignment=alignment, frame_labels=torch.tensor([[0, 2], [3, 4]]), views=2)
    kept = bad.read(bad.keep(run, bad.Kept(batch, 3, 5, "why")))
    assert (kept.step, kept.number, kept.fault) == (3, 5, "why")
    for name in ("features", "feature_frames", "labels", "label_lengths", "alignment", "frame_labels"):
        assert torch.equal(getattr(kept.batch, name), getattr(batch, name))
    assert (kept.batch.ids, kept.batch.texts, kept.batch.views) == (batch.ids, batch.texts, 2)
