#!/usr/bin/env python3
"""SIGKILL of all processes of a training, again and again: it ends as if nothing had happened.

At random, while it starts, validates, saves, or deletes, and twice within a second; with 1 and 2 processes, 0 and 2
data workers in turn. Each is followed by the same command. In the end every line of metrics that reads no clock, and
the weights of the last checkpoint, must be those of a training that nobody has disturbed, bit for bit. Linux only.

    python scripts/torture/kill.py [--quick] [--tries N]
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import trainings
from check_endings import MARK, Training
from check_resume import checkpoints, is_validating, metrics
from trainings import REPOSITORY, Tally, wait_for

STEPS, EVERY = 60, 5  # of a training, and between its validations
CHAIN = 8  # kills of one training
PATIENCE = 180.0
MOMENTS = "at random", "starting", "validating", "saving", "deleting", "twice"


def begin(run: Path, corpus: Path, processes: int, workers: int) -> Training:
    """The training, which goes on where the run is."""
    mark, log = uuid.uuid4().hex, run.with_name(f"{run.name}.log")
    schedule = f"train.steps={STEPS}", "train.log_every=1", f"train.validate_every={EVERY}", "train.save_every=2"
    words = trainings.options(corpus, *schedule, "train.average_last=2", "model.dropout=0.1", f"run={run}")
    launcher = ["asr.cli.torchrun", "--standalone", f"--nproc-per-node={processes}", "-m"] * (processes > 1)
    me = [sys.executable, "-m", *launcher, "asr.cli.main", "train", *words, f"data.workers={workers}"]
    with log.open("ab") as file:
        process = subprocess.Popen(me, stdout=file, stderr=file, env={**os.environ, MARK: mark}, cwd=REPOSITORY)
    return Training(run, process, log, mark, processes > 1)


def kill(training: Training) -> None:
    """All processes, at once."""
    while found := training.processes():
        for pid in found:
            os.kill(pid, signal.SIGKILL)
    training.process.wait()


def is_time(moment: str, run: Path, draw: random.Random) -> Callable[[], bool]:
    """What turns true when it is time to kill."""
    begun = len(metrics(run))
    until = time.monotonic() + draw.uniform(0.5, 6.0)
    if moment == "starting":
        return lambda: time.monotonic() > until
    if moment == "saving":
        return lambda: bool(checkpoints(run, ".st*-????????.tmp"))
    if moment == "deleting":
        return lambda: bool(checkpoints(run, ".st*.old.tmp"))
    if moment == "validating":  # the step's own line is there, the validation's is not
        return lambda: len(metrics(run)) > begun and is_validating(metrics(run)[-1], EVERY)
    more = draw.randint(1, EVERY)
    return lambda: len(metrics(run)) >= begun + more


def disturbed(run: Path, corpus: Path, processes: int, count: int, draw: random.Random) -> Iterator[str]:
    """Kill a training so often, and let it end; tells of each."""
    for number in range(count):
        moment = draw.choice(MOMENTS)
        training = begin(run, corpus, processes, draw.choice([0, 2]))
        due = is_time(moment, run, draw)
        deadline = time.monotonic() + PATIENCE
        while training.process.poll() is None and not due() and time.monotonic() < deadline:
            time.sleep(0.001)
        kill(training)
        if moment == "twice":
            again = begin(run, corpus, processes, 0)
            time.sleep(draw.random())
            kill(again)
        yield f"kill {number + 1} of {processes} processes, {moment}, after {len(metrics(run))} lines"
    finish(run, corpus, processes)


def finish(run: Path, corpus: Path, processes: int) -> None:
    """Let the training end. Raises SystemExit where it does not."""
    training = begin(run, corpus, processes, 0)
    if not wait_for(lambda: training.process.poll() is not None, 2 * PATIENCE) or training.process.returncode:
        kill(training)
        raise SystemExit(f"the training did not end: {training.log.read_text()[-2000:]}")


def differs(run: Path, whole: Path) -> str:
    """How a run is not the undisturbed one; "" if it is."""
    if metrics(run) != metrics(whole):
        return "other metrics than undisturbed"
    name = f"checkpoints/step-{STEPS:08d}/model.safetensors"
    if (run / name).read_bytes() != (whole / name).read_bytes():
        return "other weights than undisturbed"
    left = [path.name for path in (run / "checkpoints").iterdir() if path.name.startswith(".")]
    return f"left: {left}" if left else ""


def main() -> int:
    """See the module."""
    given = trainings.arguments(__doc__, quick=8, full=200)
    tally, draw = Tally("kill"), random.Random(given.seed)
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        trainings.make_corpus(work / "corpus")
        chain = 0
        while tally.tried < given.tries:
            processes, count = 1 + chain % 2, min(CHAIN // (2 if given.quick else 1), given.tries - tally.tried)
            whole, run = work / f"whole-{processes}", work / f"run-{chain}"
            if not whole.exists():
                finish(whole, work / "corpus", processes)
            cases = []
            for case in disturbed(run, work / "corpus", processes, count, draw):
                cases.append(case)
                print(f"    {case}", flush=True)
            fault = differs(run, whole)
            for case in cases:
                tally.note(case, fault)
            chain += 1
    return tally.end()


if __name__ == "__main__":
    sys.exit(main())
