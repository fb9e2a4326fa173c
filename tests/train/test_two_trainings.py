"""A second training in a run's directory is refused, whatever the first one is at, and touches nothing."""

import hashlib
import os
import re
import subprocess
import sys

import pytest
from conftest import torture
from owners import PACKAGES, other_process

from asr.cli.main import main
from asr.errors import InputError
from asr.runs.directory import RunDirectory
from asr.runs.lock import LOCK
from asr.train import training
from asr.train.distributed import Ranks, owned_by_all
from asr.train.loop import Trainer
from asr.train.observe import Observer

SECOND = "import sys, pathlib; from asr.runs.lock import owned; owned(pathlib.Path(sys.argv[1])).__enter__()"
PHASES = [
    (training, "check_same_run"),
    (training, "make_task"),
    (training, "find_checkpoint"),
    (training, "write_record"),
    (RunDirectory, "open_logs"),
    (Trainer, "train_step"),
    (Trainer, "save"),
    (Trainer, "validate_and_complete"),
    (Observer, "validate_averages"),
    (RunDirectory, "close"),
]


def options(corpus, *more):
    return [
        "model=debug",
        "data=debug",
        "data.max_seconds=4",
        f"data.train_cuts=[{corpus.train}]",
        f"data.valid_cuts=[{corpus.dev}]",
        f"data.tokenizer={corpus.tokenizer}",
        "train.device=cpu",
        *more,
    ]


def contents(directory):
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.rglob("*") if path.is_file()}


def test_a_training_owns_its_directory_from_beginning_to_end(tiny_corpus, tmp_path, monkeypatch):
    run, heard = tmp_path / "run", {}

    def telling(name, function):
        def wrapped(*arguments, **more):
            if name not in heard:
                words = [sys.executable, "-c", SECOND, str(run)]
                second = subprocess.run(
                    words, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": PACKAGES}
                )
                heard[name] = second.stderr.splitlines()[-1]
            return function(*arguments, **more)

        return wrapped

    for owner, name in PHASES:
        monkeypatch.setattr(owner, name, telling(name, getattr(owner, name)))
    assert main(["train", f"run={run}", *options(tiny_corpus, "train=debug", "train.steps=2")]) == 0
    assert heard.keys() == {name for _, name in PHASES}
    for message in heard.values():
        assert re.match(rf"asr.errors.InputError: {run} is being trained by process {os.getpid()} on ", message)
    assert not (run / LOCK).exists()


def test_a_second_training_is_refused_before_it_touches_anything(tiny_corpus, tmp_path, capsys):
    run = tmp_path / "run"
    with other_process(run) as first:
        for name in ("metrics.jsonl", "train.log", "changes.jsonl", "checkpoints/stop-00000001/state.json"):
            (run / name).parent.mkdir(parents=True, exist_ok=True)
            (run / name).write_text("{}\n")
        before = contents(run)
        assert main(["train", f"run={run}", *options(tiny_corpus)]) == 2
        assert contents(run) == before
        assert re.fullmatch(
            rf"asr train: error: {run} is being trained by process {first.pid} on .* since .*: stop it first, or give "
            r"another run=\n",
            capsys.readouterr().err,
        )


class Told(Ranks):
    """One of two processes, which hears what the first one says."""

    def share(self, value):
        return [value or "refused", value] if self.leads else ["refused", value]


@pytest.mark.parametrize("rank", [0, 1])
def test_processes_that_train_together_are_refused_together(tmp_path, rank):
    run, refusal = tmp_path / "run", "refused" if rank else "is being trained by"
    with other_process(run), pytest.raises(InputError, match=refusal), owned_by_all(run, Told(rank, 2)):
        pass


@pytest.mark.parametrize("rank", [0, 1])
def test_the_first_of_them_has_the_directory(tmp_path, monkeypatch, rank):
    monkeypatch.setattr(Told, "share", lambda ranks, value: ["", value])
    with owned_by_all(tmp_path / "run", Told(rank, 2)):
        assert (tmp_path / "run" / LOCK).exists() == (rank == 0)


def test_one_of_two_real_trainings_is_refused(tiny_corpus, tmp_path):
    two_runs = torture("two_runs")
    words = options(tiny_corpus, "data.workers=1", "train.save_every=5")
    assert two_runs.pair_up(tmp_path / "run", words, offset=2.5) == ""
    assert two_runs.fault_left(tmp_path / "run") == ""
