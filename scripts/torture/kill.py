#!/usr/bin/env python3
"""SIGKILL of all processes of a training, again and again: it ends as if nothing had happened.

At random, while it starts, validates, saves, or deletes, and twice within a second; with 1 and 2 processes, 0 and 2
data workers in turn. Each is followed by the same command. In the end every line of metrics that reads no clock, and
the weights of the last checkpoint, must be those of a training that nobody has disturbed, bit for bit. Linux only.

    python scripts/torture/kill.py [--quick] [--tries N]
"""

from __future__ import annotations

import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import processes
import trainings
from processes import Training, asr, checkpoints, metrics
from trainings import Tally, wait_for

STEPS, EVERY = 60, 5  # of a training, and between its validations
CHAIN = 8  # kills of one training
PATIENCE = 180.0
MOMENTS = "at random", "starting", "validating", "saving", "deleting", "twice"


def begin(run: Path, options: list[str], count: int, workers: int) -> Training:
    """The training of `count` processes, which goes on where the run is."""
    schedule = f"train.steps={STEPS}", "train.log_every=1", f"train.validate_every={EVERY}", "train.save_every=2"
    words = [*options, *schedule, "train.average_last=2", "model.dropout=0.1", f"run={run}", f"data.workers={workers}"]
    return processes.begin(asr(["train", *words], count), run, run.with_name(f"{run.name}.log"), count > 1)


def is_time(moment: str, run: Path, draw: random.Random) -> Callable[[], bool]:
    """What turns true when it is time to kill."""
    begun = logged(run)
    until = time.monotonic() + draw.uniform(0.5, 6.0)
    if moment == "starting":
        return lambda: time.monotonic() > until or logged(run) > begun + EVERY
    if moment == "saving":
        return lambda: bool(checkpoints(run, ".st*-????????.tmp"))
    if moment == "deleting":
        return lambda: bool(checkpoints(run, ".st*.old.tmp"))
    if moment == "validating":  # the step's own line is there, the validation's is not
        return lambda: logged(run) > begun and is_validating(metrics(run)[-1])
    more = draw.randint(1, EVERY)
    return lambda: logged(run) >= begun + more


def logged(run: Path) -> int:
    """Lines of metrics; looked at so often that nothing is parsed."""
    path = run / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def is_validating(last: dict[str, Any]) -> bool:
    """Whether the last line is a training step that a validation follows."""
    return "train/loss" in last and int(last["step"]) % EVERY == 0


def disturbed(run: Path, options: list[str], count: int, moments: Sequence[str], draw: random.Random) -> Iterator[str]:
    """Kill a training at each of these moments, and let it end; tells of each time that it was at work."""
    for number, moment in enumerate(moments, 1):
        training = begin(run, options, count, 2 * (number % 2))
        if not killed(training, is_time(moment, run, draw)):
            break
        if moment == "twice":
            again = begin(run, options, count, 0)
            time.sleep(draw.random())
            again.kill()
        yield f"kill {number} of {count} processes, {moment}, after {len(metrics(run))} lines"
    finish(run, options, count)


def killed(training: Training, due: Callable[[], bool]) -> bool:
    """Kill a training when it is time; returns whether it was still at work."""
    wait_for(lambda: training.process.poll() is not None or due(), PATIENCE, 0.001)
    training.kill()
    return training.process.returncode == -signal.SIGKILL


def finish(run: Path, options: list[str], count: int) -> None:
    """Let the training end. Raises SystemExit where it does not end well."""
    training = begin(run, options, count, 0)
    try:
        if not wait_for(lambda: training.process.poll() is not None, 2 * PATIENCE) or training.process.returncode:
            raise SystemExit(f"the training did not end: {training.log.read_text()[-2000:]}")
    finally:
        training.kill()


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
        options, chain = trainings.options(work / "corpus"), 0
        while tally.tried < given.tries:
            count, most = 1 + chain % 2, min(CHAIN // (2 if given.quick else 1), given.tries - tally.tried)
            whole, run = work / f"whole-{count}", work / f"run-{chain}"
            if not whole.exists():
                finish(whole, options, count)
            cases = []
            for case in disturbed(run, options, count, draw.choices(MOMENTS, k=most), draw):
                cases.append(case)
                print(f"    {case}", flush=True)
            tally.note_chain(cases, differs(run, whole), chain)
            chain += 1
    return tally.end()


if __name__ == "__main__":
    sys.exit(main())
