"""Where the precision is left to the machine: what it finds, and that a run keeps to it."""

from types import SimpleNamespace

import pytest
import torch

from asr.config import TrainConfig, TrainOptions
from asr.config.schema import to_yaml
from asr.runs.directory import RunDirectory
from asr.train import precision
from asr.train.distributed import ALONE
from asr.train.precision import LEFT, best_precision, settle_precision, speed
from asr.train.resume import compare

CPU = torch.device("cpu")


@pytest.fixture
def speeds(monkeypatch):
    """A function that says how fast this CPU is, in GFLOP/s; the sizes that it is asked of."""

    def set_speeds(single, half):
        asked = []

        def speed(size, dtype):
            asked.append(size)
            return half if dtype == torch.bfloat16 else single

        monkeypatch.setattr(precision, "speed", speed)
        return asked

    return set_speeds


def config_with(name):
    return TrainConfig(run="r", train=TrainOptions(precision=name))


def begun(tmp_path, name):
    """A run that was begun in a precision, and has a checkpoint."""
    run = RunDirectory(tmp_path)
    (run.checkpoints / "step-00000001").mkdir(parents=True)
    run.write_config(to_yaml(config_with(name)))
    return run


@pytest.mark.parametrize(
    ("single", "half", "found"), [(100, 300, "bfloat16"), (162, 138, "float32"), (138, 162, "float32")]
)
def test_the_faster_one_is_taken_where_it_is_worth_it(speeds, single, half, found):
    asked = speeds(single, half)
    assert best_precision("auto", CPU) == (
        found,
        f"since a product of 2048³ runs at {half} GFLOP/s in bfloat16, {single} in float32",
    )
    assert asked[-1] == 2048


def test_no_large_product_is_made_where_bfloat16_is_hopeless(speeds):
    asked = speeds(84.0, 0.3)
    why = "since a product of 256³ runs at 0.3 GFLOP/s in bfloat16, 84 in float32"
    assert best_precision("auto", CPU) == ("float32", why)
    assert asked == [256, 256]


@pytest.mark.parametrize(("has", "found"), [(True, "bfloat16"), (False, "float32")])
@pytest.mark.parametrize("asked", LEFT)
def test_a_gpu_has_bfloat16_or_not(monkeypatch, speeds, asked, has, found):
    speeds(1, 0)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has and not including_emulation)
    assert best_precision(asked, torch.device("cuda"))[0] == found


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_product_is_timed_and_its_first_call_does_not_count(monkeypatch, dtype):
    made, clock = [], iter([0.0, 5.0, 10.0, 11.0, 20.0, 22.0, 30.0, 33.0, 40.0, 44.0, 50.0, 55.0])
    monkeypatch.setattr(torch, "mm", lambda a, b: made.append((a.dtype, tuple(a.shape), b.dtype)))
    monkeypatch.setattr(precision, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    assert speed(1000, dtype) == pytest.approx(2.0)
    assert made == [(dtype, (1000, 1000), dtype)] * 6


@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_what_is_given_is_kept(tmp_path, speeds, name):
    asked, config = speeds(1, 3), config_with(name)
    assert settle_precision(config, RunDirectory(tmp_path), CPU, ALONE) == ""
    assert (config.train.precision, asked) == (name, [])


def test_the_default_is_the_same_on_every_cpu(tmp_path, speeds):
    asked, config = speeds(1, 3), TrainConfig(run="r")
    told = settle_precision(config, RunDirectory(tmp_path), CPU, ALONE)
    assert told == "computing in float32, as on every CPU (train.precision=default)"
    assert (config.train.precision, asked) == ("float32", [])


@pytest.mark.parametrize("left", LEFT)
def test_a_run_goes_on_in_the_precision_that_was_found_when_it_was_begun(tmp_path, speeds, left):
    asked = speeds(1, 3)
    run, config = begun(tmp_path, "float32"), config_with(left)
    assert compare(config_with("float32"), config, {}, {}) == []
    assert [str(one) for one in compare(config_with("float32"), config_with("bfloat16"), {}, {})] == [
        "train.precision=bfloat16, so far float32"
    ]
    told = settle_precision(config, run, CPU, ALONE)
    assert told == f"computing in float32, as the run was begun (train.precision={left})"
    assert (config.train.precision, asked) == ("float32", [])


def test_all_processes_take_what_the_first_one_finds(tmp_path, speeds):
    asked, config = speeds(1, 3), config_with("auto")
    ranks = SimpleNamespace(leads=False, share=lambda value: [("float32", "since it is so"), value])
    told = settle_precision(config, RunDirectory(tmp_path), CPU, ranks)
    assert told == "computing in float32, since it is so (train.precision=auto)"
    assert (config.train.precision, asked) == ("float32", [])
