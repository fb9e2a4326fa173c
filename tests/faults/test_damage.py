"""Damage that nobody made on purpose, and edits that somebody did: refused and named, or of no consequence."""

import hashlib
import json
import logging
import shutil

import pytest
import torch
from saved_runs import char_tokenizer, save_run, small_config

from asr.cli.main import main
from asr.errors import InputError
from asr.runs import state
from asr.runs.directory import RunDirectory, order_events
from asr.runs.result import left_out, read_metrics, section
from asr.runs.state import Checkpoint
from asr.runs.trained import AUTO, load_config, load_trained, select
from asr.train.resume import find_checkpoint

CPU = torch.device("cpu")
PARTS = {"model": {"weight": torch.ones(2, 3)}, "objective": {}, "optimizer": {"state": {}, "param_groups": []}}


def save(directory, step=1, **metrics):
    return state.save(directory, Checkpoint(step, metrics, PARTS, {"position": [0, step]}))


def with_right_sums(path, name, content):
    """Put a file into a checkpoint as somebody would who knows how."""
    (path / name).write_bytes(content)
    sums = {one.name: hashlib.sha256(one.read_bytes()).hexdigest() for one in path.iterdir() if one.name != state.SUMS}
    (path / state.SUMS).write_text("".join(f"{digest}  {name}\n" for name, digest in sums.items()))


def edited(path, **changes):
    told = json.loads((path / state.STATE).read_text())
    with_right_sums(path, state.STATE, json.dumps({**told, **changes}).encode())


NO_PARTS = {"dict": [["weight", {"tensor": "other"}]]}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"null",
        b"{}",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"step": 1}',
        b'{"step":1,"metrics":{},"parts":[],"info":{}}',
    ],
)
def test_a_state_that_is_none_is_said_though_its_sum_is_right(tmp_path, content):
    first, path = save(tmp_path, 1), save(tmp_path, 2)
    with_right_sums(path, state.STATE, content)
    damaged = []
    assert state.newest_sound(tmp_path, damaged).step == state.step_of(first)
    assert len(damaged) == 1
    assert damaged[0].startswith(f"{path}: its contents are not those of a checkpoint (")


@pytest.mark.parametrize(
    "changes",
    [
        {"step": "2"},
        {"step": 3},
        {"metrics": [1]},
        {"metrics": {"wer": "low"}},
        {"info": None},
        {"parts": None},
        {"parts": {"model": NO_PARTS}},
        {"parts": {"model": {"dict": 7}}},
    ],
)
def test_a_state_that_somebody_has_edited_is_said(tmp_path, changes):
    path = save(tmp_path, 2, wer=5.0)
    edited(path, **changes)
    with pytest.raises(InputError, match="not those of a checkpoint"):
        state.load(path)


def test_a_pickle_called_safetensors_is_said(tmp_path):
    path = save(tmp_path)
    torch.save({"weight": torch.ones(2)}, path / "pickle")
    content = (path / "pickle").read_bytes()
    (path / "pickle").unlink()
    with_right_sums(path, "model.safetensors", content)
    with pytest.raises(InputError, match="not those of a checkpoint"):
        state.load(path)


@pytest.mark.parametrize("name", ["../../other", "/dev/zero"])
def test_sums_of_files_elsewhere_are_refused(tmp_path, name):
    path = save(tmp_path)
    with (path / state.SUMS).open("a") as file:
        file.write(f"{'0' * 64}  {name}\n")
    with pytest.raises(InputError, match="names files that are not in the checkpoint"):
        state.load(path)


@pytest.mark.parametrize("name", [state.SUMS, state.STATE, "model.safetensors", "optimizer.safetensors"])
def test_a_directory_where_a_file_was_is_damage(tmp_path, name):
    save(tmp_path, 1)
    path = save(tmp_path, 2)
    (path / name).unlink()
    (path / name).mkdir()
    damaged = []
    assert state.newest_sound(tmp_path, damaged).step == 1
    assert len(damaged) == 1


def test_a_file_where_a_checkpoint_was_is_damage_and_is_replaced(tmp_path):
    save(tmp_path, 1)
    path = save(tmp_path, 2)
    shutil.rmtree(path)
    path.write_text("")
    damaged = []
    assert state.newest_sound(tmp_path, damaged).step == 1
    assert state.load(save(tmp_path, 2)).step == 2
    save(tmp_path, 3)
    state.prune(tmp_path, 1)
    assert [one.name for one in tmp_path.iterdir()] == ["step-00000003"]


@pytest.mark.parametrize("name", ["step-00000002.bak", "step-2", "step-00000009 (copy)", "stop-old", "step-"])
def test_a_copy_beside_the_checkpoints_is_none_of_them(tmp_path, name):
    shutil.copytree(save(tmp_path, 2, wer=5.0), tmp_path / name)
    assert [path.name for path in state.resumable(tmp_path)] == ["step-00000002"]
    assert state.best(tmp_path).name == "step-00000002"
    save(tmp_path, 3)
    state.prune(tmp_path, 1)
    assert (tmp_path / name).exists()


def test_a_deletion_that_is_interrupted_leaves_no_half_of_a_checkpoint(tmp_path, monkeypatch):
    path = save(tmp_path, 1)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda path, ignore_errors=False: None if ignore_errors else 1 / 0)
        with pytest.raises(ZeroDivisionError):
            state.remove(path)
    assert not path.exists()
    assert state.resumable(tmp_path) == []
    save(tmp_path, 2)
    assert [one.name for one in tmp_path.iterdir()] == ["step-00000002"]


# The best


@pytest.mark.parametrize("name", [state.SUMS, state.STATE])
@pytest.mark.parametrize("checkpoint", ["best", AUTO])
def test_the_best_is_not_looked_for_among_what_is_left(tmp_path, name, checkpoint):
    run = RunDirectory(save_run(tmp_path / "run", char_tokenizer("ABC"), small_config()))
    damaged = save(run.checkpoints, 7, wer=1.0)
    save(run.checkpoints, 8, wer=9.0)
    (damaged / name).write_bytes(b"x")
    with pytest.raises(InputError, match="which checkpoint is the best cannot be told: .*step-00000007.* name another"):
        load_trained(str(run.path), checkpoint, CPU)
    assert select(run.checkpoints, "last", 1) == [run.checkpoints / "step-00000008"]


def test_weights_that_are_not_finite_are_not_decoded_with(tmp_path):
    run = RunDirectory(save_run(tmp_path / "run", char_tokenizer("ABC"), small_config()))
    checkpoint = state.load(run.checkpoints / "step-00000001")
    checkpoint.parts["model"]["joiner.output.bias"][0] = float("nan")
    state.save(run.checkpoints, Checkpoint(2, {}, checkpoint.parts, checkpoint.info))
    with pytest.raises(InputError, match="step-00000002: .*joiner.output.bias is not finite"):
        load_trained(str(run.path), "last", CPU)


def test_weights_of_another_shape_are_said(tmp_path, capsys):
    tokenizer = char_tokenizer("ABC")
    path = save_run(tmp_path / "run", tokenizer, small_config())
    other = save_run(tmp_path / "other", tokenizer, small_config(encoder_dim=16))
    shutil.rmtree(path / "checkpoints")
    shutil.copytree(other / "checkpoints", path / "checkpoints")
    with pytest.raises(InputError, match="step-00000001: not the weights of this model .encoder_projection.weight: "):
        load_trained(str(path), "last", CPU)


# Begun anew, unasked


def test_a_run_without_its_checkpoints_is_not_begun_anew(tmp_path):
    run = RunDirectory(tmp_path)
    run.metrics.write_text('{"step": 1, "train/loss": 3.0}\n')
    assert find_checkpoint(run, []) is None  # killed before the first one
    run.metrics.write_text('{"step": 1, "train/loss": 3.0}\n{"step": 40, "train/loss": 3.0}\n')
    with pytest.raises(InputError, match="up to step 40, and no checkpoint any more: .* to begin anew delete"):
        find_checkpoint(run, [])


# The config, and the lines


def test_a_config_that_was_changed_is_said_and_may_be_used_all_the_same(tmp_path):
    run = RunDirectory(save_run(tmp_path, char_tokenizer("ABC"), small_config()))
    text = run.config.read_text()
    run.write_config(text)
    assert load_config(run).model.layers == 2
    run.config.write_text(text.replace("layers: 2", "layers: 3"))
    with pytest.raises(InputError, match="config.yaml: was changed, or damaged, since training wrote it: restore"):
        load_config(run)
    run.config_sum.unlink()
    assert load_config(run).model.layers == 3


@pytest.fixture
def logged(tmp_path):
    """A run with three lines of metrics, and what a checkpoint tells of the first two."""
    run = RunDirectory(tmp_path)
    run.open_logs(0)
    for step in (1, 2, 3):
        run.write_metrics(step, {"loss": float(step)}, "train")
        if step == 2:
            told = run.written
    run.close()
    yield run, told
    for handler in logging.getLogger("asr").handlers[:]:
        logging.getLogger("asr").removeHandler(handler)
        handler.close()


@pytest.mark.parametrize(
    ("damage", "lost"),
    [
        (lambda data: data, False),
        (lambda data: data[:-5], False),  # of what came later
        (lambda data: data.split(b"\n", 1)[1], True),
        (lambda data: data.replace(b"2.0", b"2.5"), True),
        (lambda data: b"", True),
    ],
)
def test_lines_that_were_lost_are_noticed(logged, damage, lost):
    run, told = logged
    run.metrics.write_bytes(damage(run.metrics.read_bytes()))
    assert run.has_lost(told) == lost
    assert not run.has_lost({})  # of older checkpoints


def test_going_on_has_the_sum_of_what_is_kept(logged):
    run, told = logged
    again = RunDirectory(run.path)
    again.open_logs(2)
    assert again.written == told
    again.close()


def test_a_last_line_without_its_end_joins_no_other(logged):
    run, _ = logged
    run.metrics.write_bytes(run.metrics.read_bytes().rstrip(b"\n"))
    again = RunDirectory(run.path)
    again.open_logs(3)
    again.write_metrics(4, {"loss": 4.0}, "train")
    again.close()
    assert [json.loads(line)["step"] for line in run.metrics.read_text().splitlines()] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "line",
    [
        *(b"[1, 2]", b"7", b"\xff\xfe", b'{"loss": 1}', b"{", b'{"step": "x"}', b'{"step": 1.5}', b"[" * 100_000),
        b'{"step": 1%s}' % (b"0" * 400),
    ],
)
def test_lines_that_are_none_end_a_table_and_no_more(tmp_path, line):
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1}\n' + line + b"\n")
    assert [*read_metrics(tmp_path / "metrics.jsonl")] == [{"step": 1}]


def test_metrics_that_are_no_numbers_are_left_out():
    wrong = {"skipped": float("nan"), "epoch": [1], "loss": "x", "nodes": 10**400}
    lines = [{"step": 1, **{f"train/{name}": value for name, value in wrong.items()}}]
    assert [*section(lines, "train")[0]] == ["skipped"]
    assert left_out(lines) == {}


def test_files_of_tensorboard_sort_before_the_next_though_the_clock_was_ahead(tmp_path):
    names = ["events.out.tfevents.50.h.1.0", "events.out.tfevents.200.h.2.0", "events.out.tfevents.300.h.3.0", "other"]
    for name in names:
        (tmp_path / name).write_text(name)
    order_events(tmp_path, now=100)
    found = sorted(path.name for path in tmp_path.iterdir())
    assert [(tmp_path / name).read_text() for name in sorted([*found, "events.out.tfevents.100"]) if name in found] == (
        sorted(names[:1]) + names[1:]
    )
    assert all(int(name.split(".")[3]) < 100 for name in found if name != "other")


def test_compare_survives_any_of_it(tmp_path, capsys):
    path = save_run(tmp_path / "run", char_tokenizer("ABC"), small_config())
    (path / "metrics.jsonl").write_bytes(b"\xff\n[]\n")
    (path / "changes.jsonl").write_bytes(b'{"step": 3}\n7\n')
    assert main(["compare", str(path)]) == 0
    assert "Traceback" not in capsys.readouterr().err
