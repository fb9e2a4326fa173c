"""Checkpoints: exact round trips, and every kind of damage is noticed."""

import builtins
import json
import os
import random
import shutil
import subprocess

import pytest
import torch

from asr.errors import InputError
from asr.runs import state
from asr.runs.state import Checkpoint, join_tensors, split_tensors

PARTS = {
    "model": {
        "weight": torch.randn(3, 4, generator=torch.Generator().manual_seed(0)),
        "half": torch.tensor([1.5, -0.0, float("inf")], dtype=torch.bfloat16),
        "count": torch.tensor([2**62, -1]),
        "flags": torch.tensor([True, False]),
        "scalar": torch.tensor(0.1, dtype=torch.float64),
        "empty": torch.zeros(0, 5),
        "none": torch.zeros(0),
    },
    "objective": {},
    "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1, "betas": [0.9, 0.98]}]},
}


def checkpoint(step=1, wer=50.0, loss=1.0):
    info = {"position": [0, step], "window": {"loss": 0.1 + 0.2}, "bad_steps": 0}
    return Checkpoint(step, {"wer": wer, "loss": loss}, PARTS, info)


def save_steps(directory, *steps, wers=None):
    wers = wers or [50.0] * len(steps)
    return [state.save(directory, checkpoint(step, wer)) for step, wer in zip(steps, wers)]


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def assert_same(found, expected):
    """Equal, bit for bit, tensors and their types included."""
    assert type(found) is type(expected)
    if isinstance(expected, torch.Tensor):
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        assert torch.equal(found.reshape(-1).view(torch.uint8), expected.reshape(-1).view(torch.uint8))
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        for key in expected:
            assert_same(found[key], expected[key])
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected):
            assert_same(one, other)
    else:
        assert found == expected


def through_json(value):
    """`value` split, written as JSON, and joined again."""
    tensors = {}
    skeleton = json.loads(json.dumps(split_tensors(value, tensors)))
    return join_tensors(skeleton, tensors)


def trained_optimizer():
    module = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW([{"params": [module.weight]}, {"params": [module.bias], "weight_decay": 0.0}])
    for _ in range(3):
        module(torch.ones(1, 3)).sum().backward()
        optimizer.step()
    return module, optimizer


def test_splitting_and_joining_an_optimizer_state_is_exact_up_to_tuples():
    _, optimizer = trained_optimizer()
    expected = optimizer.state_dict()
    for group in expected["param_groups"]:
        group["betas"] = list(group["betas"])
    assert_same(through_json(optimizer.state_dict()), expected)


def test_an_optimizer_goes_on_from_a_joined_state_as_from_its_own():
    module, optimizer = trained_optimizer()
    copy = torch.nn.Linear(3, 2)
    copy.load_state_dict(through_json(module.state_dict()))
    restored = torch.optim.AdamW([{"params": [copy.weight]}, {"params": [copy.bias], "weight_decay": 0.0}])
    restored.load_state_dict(through_json(optimizer.state_dict()))
    for each, its_optimizer in ((module, optimizer), (copy, restored)):
        each.zero_grad()
        each(torch.ones(1, 3)).sum().backward()
        its_optimizer.step()
    assert torch.equal(module.weight, copy.weight)
    assert torch.equal(module.bias, copy.bias)


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        None,
        torch.ones(2),
        [torch.ones(1), [torch.zeros(1), "text", 1.5, None, True]],
        {1: torch.ones(1), "1": torch.zeros(1)},
        {"a.b": torch.ones(1), "a": {"b": torch.zeros(1)}},
        {"tensor": "text", "dict": {"tensor": torch.ones(1)}},
    ],
)
def test_nested_states_come_back(value):
    assert_same(through_json(value), value)


def test_a_saved_checkpoint_comes_back_bit_for_bit(tmp_path):
    path = state.save(tmp_path / "checkpoints", checkpoint(12))
    loaded = state.load(path)
    assert path.name == "step-00000012"
    assert (loaded.step, loaded.metrics, loaded.info) == (12, checkpoint().metrics, checkpoint(12).info)
    assert_same(loaded.parts, PARTS)


def test_only_some_parts_can_be_loaded(tmp_path):
    path = state.save(tmp_path, checkpoint())
    assert list(state.load(path, ["model"]).parts) == ["model"]


@pytest.mark.parametrize("absent", ["optimizer", "objective"])
def test_parts_that_are_not_wanted_may_be_absent(tmp_path, absent):
    [path] = save_steps(tmp_path, 1)
    (path / f"{absent}.safetensors").unlink()
    assert_same(state.load(path, ["model"]).parts["model"], PARTS["model"])
    with pytest.raises(InputError, match=f"incomplete checkpoint .*{absent}.safetensors"):
        state.load(path)
    assert state.weights_only(path) == (absent == "optimizer")
    (path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(InputError, match="model.safetensors is damaged"):
        state.load(path, ["model"])
    assert not state.weights_only(path)


def test_transposed_tensors_and_views_come_back(tmp_path):
    whole = torch.arange(12.0).view(3, 4)
    parts = {"model": {"transposed": whole.T, "row": whole[1], "column": whole[:, 2]}}
    loaded = state.load(state.save(tmp_path, Checkpoint(1, {}, parts, {})))
    assert_same(loaded.parts["model"]["transposed"], whole.T.contiguous())
    assert_same(loaded.parts["model"]["column"], whole[:, 2].contiguous())


def test_shared_weights_come_back(tmp_path):
    weight = torch.ones(2, 2)
    loaded = state.load(state.save(tmp_path, Checkpoint(1, {}, {"model": {"a": weight, "b": weight}}, {})))
    assert_same(loaded.parts["model"], {"a": weight, "b": weight})


def test_there_is_no_pickle_in_a_checkpoint(tmp_path):
    path = state.save(tmp_path, checkpoint())
    assert names(path) == [
        "SHA256SUMS",
        "model.safetensors",
        "objective.safetensors",
        "optimizer.safetensors",
        "state.json",
    ]


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="sha256sum is not installed")
def test_sha256sum_agrees(tmp_path):
    path = state.save(tmp_path, checkpoint())
    command = ["sha256sum", "--strict", "-c", "SHA256SUMS"]
    assert subprocess.run(command, cwd=path, capture_output=True).returncode == 0
    (path / "state.json").write_text("{}")
    assert subprocess.run(command, cwd=path, capture_output=True).returncode != 0


@pytest.mark.parametrize("name", ["SHA256SUMS", "model.safetensors", "objective.safetensors", "state.json"])
def test_a_single_flipped_bit_is_detected_and_the_checkpoint_before_is_taken(tmp_path, name):
    _, newest = save_steps(tmp_path, 1, 2)
    sound = (newest / name).read_bytes()
    rng = random.Random(0)
    for position in rng.sample(range(len(sound)), min(40, len(sound))):
        flipped = bytearray(sound)
        flipped[position] ^= 1 << rng.randrange(8)
        (newest / name).write_bytes(flipped)
        with pytest.raises(InputError, match="step-00000002") as raised:
            state.load(newest)
        if name != "SHA256SUMS":
            assert name in str(raised.value)
        damaged = []
        assert state.newest_sound(tmp_path, damaged).step == 1
        assert damaged == [str(raised.value)]
        assert state.best(tmp_path) is not None  # and does not fail


def test_every_flipped_bit_of_the_sums_is_detected(tmp_path):
    path = state.save(tmp_path, Checkpoint(1, {}, {"model": {}}, {}))
    sound = (path / "SHA256SUMS").read_bytes()
    for bit in range(8 * len(sound)):
        flipped = bytearray(sound)
        flipped[bit // 8] ^= 1 << bit % 8
        (path / "SHA256SUMS").write_bytes(flipped)
        with pytest.raises(InputError):
            state.load(path)


def test_metrics_of_a_damaged_checkpoint_do_not_count(tmp_path):
    sound, damaged = save_steps(tmp_path, 1, 2, wers=[20.0, 90.0])
    text = (damaged / "state.json").read_text()
    for old, new in (('"wer": 90.0', '"wer": 10.0'), ('"wer"', '"ver"')):
        (damaged / "state.json").write_text(text.replace(old, new))
        assert state.metrics_of(damaged) == {}
        assert state.best(tmp_path) == sound
        state.prune(tmp_path, 2)


@pytest.mark.parametrize("name", ["SHA256SUMS", "model.safetensors", "optimizer.safetensors", "state.json"])
def test_truncated_and_missing_files_are_detected(tmp_path, name):
    _, newest = save_steps(tmp_path, 1, 2)
    sound = (newest / name).read_bytes()
    for size in (0, 1, len(sound) // 2, len(sound) - 2):
        (newest / name).write_bytes(sound[:size])
        assert state.newest_sound(tmp_path, []).step == 1
    (newest / name).unlink()
    with pytest.raises(InputError, match=name):
        state.load(newest)
    assert state.newest_sound(tmp_path, []).step == 1


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json"])
def test_a_line_that_is_missing_from_the_sums_is_damage(tmp_path, name):
    _, newest = save_steps(tmp_path, 1, 2)
    lines = (newest / "SHA256SUMS").read_text().splitlines(keepends=True)
    (newest / "SHA256SUMS").write_text("".join(line for line in lines if not line.endswith(f"  {name}\n")))
    with pytest.raises(InputError, match=name):
        state.load(newest)
    assert state.newest_sound(tmp_path, []).step == 1


def test_without_a_sound_checkpoint_there_is_none(tmp_path):
    assert state.newest_sound(tmp_path / "missing", []) is None
    [path] = save_steps(tmp_path, 1)
    (path / "state.json").unlink()
    damaged = []
    assert state.newest_sound(tmp_path, damaged) is None
    assert len(damaged) == 1


class Crash(Exception):
    """Stands for a killed process."""


def crash_at(monkeypatch, call):
    """Let the `call`-th opening of a file for writing, sync or rename raise; returns the count so far."""
    calls = []

    def counting(function, counts):
        def wrapped(*arguments, **options):
            if counts(arguments):
                calls.append(arguments)
                if len(calls) == call:
                    raise Crash
            return function(*arguments, **options)

        return wrapped

    monkeypatch.setattr(builtins, "open", counting(open, lambda arguments: "wb" in arguments))
    monkeypatch.setattr(os, "rename", counting(os.rename, lambda arguments: True))
    monkeypatch.setattr(state, "sync", counting(state.sync, lambda arguments: True))
    return calls


def test_a_crash_at_any_stage_of_saving_leaves_the_checkpoints_before_and_no_half_written_one(tmp_path):
    save_steps(tmp_path, 1, 2)
    stages = (
        2 * len(state.serialize(checkpoint())) + 2 + 3
    )  # open and sync of each file and the sums; rename, 2 directories
    for call in range(1, stages + 1):
        with pytest.MonkeyPatch.context() as monkeypatch:
            calls = crash_at(monkeypatch, call)
            with pytest.raises(Crash):
                state.save(tmp_path, checkpoint(3))
            assert len(calls) == call
        renamed = call == stages
        assert [path.name[-1] for path in state.checkpoints(tmp_path)] == ["1", "2", *(["3"] if renamed else [])]
        assert all(state.load(path) for path in state.checkpoints(tmp_path))
    state.prune(tmp_path, 5)
    assert names(tmp_path) == [f"step-0000000{step}" for step in (1, 2, 3)]
    with pytest.MonkeyPatch.context() as monkeypatch:
        calls = crash_at(monkeypatch, 0)
        state.save(tmp_path, checkpoint(4))
        assert len(calls) == stages  # no stage was left out above


def test_leftovers_of_a_crash_do_not_disturb_the_next_save(tmp_path):
    (tmp_path / ".step-00000003.tmp").mkdir()
    (tmp_path / ".step-00000003.tmp" / "other").write_text("left over")
    [path] = save_steps(tmp_path, 3)
    assert "other" not in names(path)


def test_saving_a_step_again_replaces_it(tmp_path):
    [path] = save_steps(tmp_path, 3)
    (path / "state.json").write_text("damaged")
    save_steps(tmp_path, 3)
    assert state.load(path).step == 3


def test_damaged_checkpoints_of_later_steps_do_not_outlive_a_new_one(tmp_path):
    for path in save_steps(tmp_path, 1, 20, 30)[1:]:
        (path / "model.safetensors").write_bytes(b"damaged")
    assert state.newest_sound(tmp_path, []).step == 1
    save_steps(tmp_path, 15)
    state.prune(tmp_path, 1)
    assert state.newest_sound(tmp_path, []).step == 15


def test_prune_keeps_the_last_ones_and_the_best(tmp_path):
    save_steps(tmp_path, 1, 2, 3, 4, 5, wers=[40.0, 10.0, 30.0, 20.0, 50.0])
    state.prune(tmp_path, 2)
    assert names(tmp_path) == ["step-00000002", "step-00000004", "step-00000005"]


def test_the_best_has_the_lowest_wer_and_then_the_lowest_loss(tmp_path):
    assert state.best(tmp_path) is None
    state.save(tmp_path, Checkpoint(1, {}, PARTS, {}))
    assert state.best(tmp_path) is None
    for step, wer, loss in ((2, 10.0, 3.0), (3, 10.0, 1.0), (4, 10.0, 2.0), (5, 11.0, 0.0)):
        state.save(tmp_path, checkpoint(step, wer, loss))
    assert state.best(tmp_path).name == "step-00000003"


@pytest.mark.parametrize(
    ("rates", "best"),
    [
        ([(30, 10, 0), (5, 2, 8), (20, 10, 0)], 3),  # of what could be read of the same set
        ([(30, 10, 0), (5, 2, 8)], 1),
        ([(5, 6, 0), (30, 10, 0), (20, 10, 0)], 3),  # of another set, before it was changed
        ([(5, 6, 0), (30, 8, 2), (40, 8, 2)], 2),
        ([(5, 10, 0), (None, 0, 10)], 1),  # of which nothing could be read
        ([(None, 0, 10)], None),
    ],
)
def test_the_best_is_among_rates_of_the_same_utterances(tmp_path, rates, best):
    for step, (wer, utterances, skipped) in enumerate(rates, 1):
        rate = {} if wer is None else {"wer": wer}
        metrics = {**rate, "utterances": utterances, "skipped": skipped}
        state.save(tmp_path, Checkpoint(step, metrics, {"model": {}}, {}))
    assert state.best(tmp_path) == (None if best is None else tmp_path / f"step-{best:08d}")


def test_rates_of_words_and_of_characters_do_not_compete(tmp_path):
    for step, (name, rate) in enumerate([("wer", 30.0), ("cer", 50.0), ("cer", 40.0)], 1):
        state.save(tmp_path, Checkpoint(step, {name: rate, "utterances": 9}, {"model": {}}, {}))
        assert state.best(tmp_path) == tmp_path / f"step-{step:08d}"
    state.save(tmp_path, Checkpoint(4, {"wer": 35.0, "utterances": 9}, {"model": {}}, {}))
    assert state.best(tmp_path) == tmp_path / "step-00000001"


def test_the_average_is_the_mean_in_float64():
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(1000, generator=generator) * 10.0**power for power in range(-3, 4)]
    states = [{"weight": weight, "count": torch.tensor(index)} for index, weight in enumerate(weights)]
    mean = state.average(states)
    assert torch.equal(mean["weight"], (sum(weight.double() for weight in weights) / len(weights)).float())
    assert int(mean["count"]) == len(weights) - 1
    assert torch.equal(states[-1]["weight"], weights[-1])


def test_averaging_equal_states_changes_nothing():
    for dtype in (torch.float32, torch.bfloat16):
        one = {"weight": torch.randn(1000, generator=torch.Generator().manual_seed(0)).to(dtype)}
        assert_same(state.average([one] * 5), one)


def test_an_interim_checkpoint_is_gone_on_from_but_neither_averaged_nor_kept(tmp_path):
    regular = state.save(tmp_path, checkpoint(4))
    stopped = state.save(tmp_path, checkpoint(6), interim=True)
    state.prune(tmp_path, keep_last=1)
    assert state.newest_sound(tmp_path, []).step == 6
    assert state.checkpoints(tmp_path) == [regular]
    later = state.save(tmp_path, checkpoint(8))
    state.prune(tmp_path, keep_last=2)
    assert (stopped.exists(), state.checkpoints(tmp_path)) == (False, [regular, later])


def test_a_checkpoint_that_cannot_be_read_now_is_not_taken_for_damaged(tmp_path, monkeypatch):
    state.save(tmp_path, checkpoint(4))

    def refuse(path, most):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(state, "read_regular", refuse)
    with pytest.raises(PermissionError):
        state.newest_sound(tmp_path, [])
