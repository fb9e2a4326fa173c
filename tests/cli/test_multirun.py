"""Sweeps: every combination trained, in its own directory, in this process or as jobs of several processes."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest

from asr.cli.main import main
from tests.cli.test_end_to_end import training_options


@pytest.fixture
def options(tiny_corpus, tmp_path):
    return [*training_options(tiny_corpus, tmp_path / "sweep"), "train.steps=2", "train.validate_every=2"]


def last_line(capsys) -> str:
    return capsys.readouterr().err.splitlines()[-1]


def test_every_combination_is_trained_and_compared(options, tmp_path, capsys):
    assert main(["train", "--multirun", *options, "loss=pruned,optimized", "optim.lr=1e-3,2e-3"]) == 0
    names = {f"loss={loss},optim.lr={lr}" for loss in ("pruned", "optimized") for lr in ("0.001", "0.002")}
    assert {path.parent.name for path in (tmp_path / "sweep").glob("*/config.yaml")} == names
    assert {path.name for path in (tmp_path / "sweep").iterdir()} == {*names, "multirun.yaml"}
    printed = capsys.readouterr()
    head, _, *rows = printed.out.splitlines()
    assert [cell.strip() for cell in head.strip("|").split("|")][:4] == ["run", "loss.name", "optim.lr", "step"]
    assert {row.split("|")[1].strip() for row in rows} == names
    for name in names:  # what a training logs is not lost
        assert f"{name}: " in printed.err
        assert "done at step 2" in (tmp_path / "sweep" / name / "train.log").read_text()


def test_a_second_run_goes_on_where_the_first_was(options, tmp_path):
    words = ["train", "-m", *options, "optim.lr=1e-3,2e-3"]
    assert main(words) == 0
    assert main([*words, "train.steps=3"]) == 0
    logs = [path.read_text() for path in (tmp_path / "sweep").glob("*/train.log")]
    assert len(logs) == 2
    assert all("step 2 of 3" in log and "done at step 3" in log for log in logs)


def test_one_that_fails_does_not_keep_the_others_from_theirs(options, tiny_corpus, tmp_path, capsys):
    words = [word for word in options if not word.startswith("data.tokenizer")]
    assert main(["train", "-m", *words, f"data.tokenizer=/nowhere,{tiny_corpus.tokenizer}"]) == 2
    assert "/nowhere" in last_line(capsys)
    (done,) = (tmp_path / "sweep").glob("*/train.log")
    assert "done at step 2" in done.read_text()


def test_text_in_quotes_is_one_value(options, tmp_path, capsys):
    assert main(["train", "-m", *options, "decode.chunk_seconds=null", "data.tokenizer='a,b'"]) == 2
    assert last_line(capsys).startswith("asr train: error: --multirun: no option has several values")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["optim.lr=1e-3,-1"], "asr train: error: optim.lr=-1"),
        (["optim.rate=1,2"], "asr train: error: optim.rate=1: unknown option"),
        (["loss=full,best"], "asr train: error: loss=best: unknown choice"),
        (["optim.lr=interval(1,2)"], "asr train: error: optim.lr=interval(1,2): one value is needed"),
        (["optim.lr=1e-3,2e-3", "optim.lr=5e-4"], "asr train: error: --multirun: no option has several values"),
        (["run=a,b"], "asr train: error: run: one directory is needed"),
        (["data.tokenizer=a/b,a_b"], "asr train: error: --multirun: two trainings would have the directory data.token"),
        (["optim.lr=1e-3,1e-3"], "asr train: error: --multirun: two trainings would have the directory optim.lr=0.001"),
        ([f"data.tokenizer={'a' * 250},b"], "asr train: error: --multirun: data.tokenizer=aaaa"),
        (["optim.lr=range(0,0)"], "asr train: error: optim.lr=range(0,0): there is no value in it"),
        (["optim.lr=1e-3,2e-3", "--cfg"], "asr train: error: --cfg: prints one config"),
        (["optim.lr=1e-3"], "asr train: error: --multirun: no option has several values"),
        (["optim.lr=1e-3,2e-3", "hydra/launcher=moon"], "asr train: error: --multirun: "),
    ],
)
def test_what_cannot_be_trained_is_refused_before_any_training(options, tmp_path, capsys, words, message):
    assert main(["train", "-m", *options, *words]) == 2
    assert last_line(capsys).startswith(message)
    assert not list(tmp_path.glob("sweep/*/config.yaml"))


def test_only_trainings_are_swept(capsys):
    assert main(["decode", "-m", "run=a,b"]) == 2
    assert last_line(capsys) == "asr decode: error: --multirun: `asr decode` has none; `asr train` does"


def test_torchrun_cannot_divide_a_sweep(options, capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["train", "-m", *options, "optim.lr=1e-3,2e-3"]) == 2
    assert "hydra/launcher=submitit_local" in last_line(capsys)


def test_of_an_option_given_twice_the_last_counts(options, tmp_path):
    assert main(["train", "-m", *options, "optim.lr=1e-3", "optim.lr=1e-3,2e-3"]) == 0
    runs = {path.parent.name for path in (tmp_path / "sweep").glob("*/config.yaml")}
    assert runs == {"optim.lr=0.001", "optim.lr=0.002"}


def test_a_directory_with_odd_characters(options, tmp_path):
    run = tmp_path / "it's a"
    assert main(["train", "-m", *options, f'run="{run}"', "optim.lr=1e-3,2e-3"]) == 0
    assert len(list(run.glob("*/config.yaml"))) == 2


def test_failures_are_all_named(options, capsys):
    words = [word for word in options if not word.startswith("data.tokenizer")]
    assert main(["train", "-m", *words, "data.tokenizer=/nowhere,/noplace"]) == 2
    printed = capsys.readouterr().err
    assert "data.tokenizer=_nowhere: " in printed
    assert "data.tokenizer=_noplace: " in printed


@pytest.mark.skipif(importlib.util.find_spec("submitit") is None, reason="needs the extra [slurm]")
def test_jobs_of_two_processes_each(options, tmp_path):
    launcher = ["hydra/launcher=submitit_local", "hydra.launcher.tasks_per_node=2", "hydra.launcher.timeout_min=10"]
    command = [sys.executable, "-m", "asr.cli.main", "train", "-m", *options, "optim.lr=1e-3,2e-3", *launcher]
    alone = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=alone, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 4
    for lr in ("0.001", "0.002"):
        log = (tmp_path / "sweep" / f"optim.lr={lr}" / "train.log").read_text()
        assert "2 × cpu" in log
        assert "done at step 2" in log
