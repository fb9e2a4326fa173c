#!/usr/bin/env python3
"""Signals to a recipe's run.sh, to torchrun, to a training process, to a data worker: SIGTERM, SIGINT, SIGHUP, SIGKILL.

Each training is ended at a random moment after its third step. Then all of its processes have to be gone within 15 s,
with a checkpoint of the last step that was logged where somebody was left to write it, the conventional exit status,
and no traceback. Linux only.

    python scripts/torture/signals.py [--quick] [--tries N]
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import trainings
from processes import Training, asr, begin, command, newest_checkpoint, parent, status_fields
from trainings import REPOSITORY, Tally, wait_for

SECONDS = 15.0
PATIENCE = 180.0  # seconds for the first steps, beside other work
SIGNALS = signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL
LONG = "train.log_every=1", "train.steps=1000000", "train.save_every=1000000", "train.validate_every=1000000"
RUN_SH = """#!/usr/bin/env bash
set -euo pipefail
source "$(dirname "$0")/../../local/run.sh"
parse_options "$@"
if stage_is 2 "train"; then
    asr train ${hydra[@]+"${hydra[@]}"}
fi
"""


@dataclass(frozen=True)
class Target:
    """Who gets the signal. find: the process, of a training. processes: that train. checkpoint: whether SIGKILL of it
    leaves one of the last step."""

    find: Callable[[Training], int]
    processes: int = 1
    through_run_sh: bool = False
    checkpoint: bool = True


def launcher(training: Training) -> int:
    """The parent of the training processes."""
    return parent(training.ranks()[0])


def inner_bash(training: Training) -> int:
    """The shell that runs the stages."""
    shells = [pid for pid in training.processes() if command(pid).startswith(b"bash\0")]
    return min(shells, key=lambda pid: int(status_fields(pid)[19]))  # when it was started


def worker(training: Training) -> int:
    """A data worker of the first training process."""
    return training.workers()[0]


# A shell that waits for what it has started does not hear SIGINT, but where that ends of it: those who send it by name
# send it to run.sh, too.
DEAF = {("the shell in run.sh of two", signal.SIGINT)}
TARGETS = {
    "asr train": Target(lambda training: training.process.pid, checkpoint=False),
    "run.sh": Target(lambda training: training.process.pid, through_run_sh=True),
    "run.sh of two": Target(lambda training: training.process.pid, 2, through_run_sh=True),
    "the shell in run.sh of two": Target(inner_bash, 2, through_run_sh=True),
    "torchrun": Target(launcher, 2),
    "rank 0": Target(lambda training: training.ranks()[0], 2, checkpoint=False),
    "rank 1": Target(lambda training: training.ranks()[1], 2),
    "a worker": Target(worker),
    "a worker of two": Target(worker, 2),
}


def start(target: Target, directory: Path, corpus: Path, workers: int) -> Training:
    """A training that has somebody to be sent the signal."""
    directory.mkdir(parents=True)
    run = directory / "run"
    words = trainings.options(corpus, *LONG, f"run={run}", f"data.workers={workers}")
    if target.through_run_sh:
        (directory / "recipes" / "mine").mkdir(parents=True)
        (directory / "local").symlink_to(REPOSITORY / "local")
        (directory / "recipes" / "mine" / "run.sh").write_text(RUN_SH)
        me = ["bash", str(directory / "recipes/mine/run.sh"), "--nproc", str(target.processes), "--", *words]
    else:
        me = asr(["train", *words], target.processes)
    path = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return begin(me, run, directory / "log", target.processes > 1, env=path, cwd=REPOSITORY)


def fault_of(target: Target, number: int, training: Training, delay: float) -> str:
    """What is wrong with how it ended; "" if nothing."""
    if not wait_for(lambda: training.steps() >= 3 or training.process.poll() is not None, PATIENCE):
        return "never began"
    time.sleep(delay)
    os.kill(target.find(training), number)
    if not wait_for(lambda: training.process.poll() is not None and not training.processes(), SECONDS):
        left = [command(pid).replace(b"\0", b" ")[:60].decode() for pid in training.processes()]
        return f"{len(left)} processes are left after {SECONDS:.0f} s: {left}"
    return left_behind(target, number, training)


def left_behind(target: Target, number: int, training: Training) -> str:
    """What is wrong with the exit status, the log or the checkpoint."""
    status, text = training.process.returncode, training.log.read_text(errors="replace")
    own = number != signal.SIGKILL
    if own and status not in (128 + number, 128 + signal.SIGTERM if target.find is worker else 128 + number):
        return f"exit status {status}"
    if not own and status == 0:
        return "exit status 0"
    if "Traceback" in text:
        return "a traceback"
    newest = newest_checkpoint(training.run)
    if (own or target.checkpoint) and newest < training.steps():
        return f"the checkpoint is of step {newest}, not {training.steps()}"
    return ""


def main() -> int:
    """See the module."""
    given = trainings.arguments(__doc__, quick=12, full=60)
    tally, draw = Tally("signals"), random.Random(given.seed)
    cases = [case for case in itertools.product(TARGETS, SIGNALS) if case not in DEAF]
    draw.shuffle(cases)
    with tempfile.TemporaryDirectory() as directory:
        trainings.make_corpus(corpus := Path(directory) / "corpus")
        for index, (name, number) in enumerate(itertools.islice(itertools.cycle(cases), given.tries)):
            target = TARGETS[name]
            workers = 1 if target.find is worker else draw.choice([0, 2])
            training = start(target, Path(directory) / str(index), corpus, workers)
            begun = time.monotonic()
            try:
                fault = fault_of(target, number, training, draw.random())
            finally:
                training.kill()
            text = training.log.read_text(errors="replace")
            tally.note(
                f"{signal.Signals(number).name} to {name}, {workers} workers, {time.monotonic() - begun:.0f} s",
                fault and "\n".join([fault, *text.splitlines()[-15:]]),
            )
    return tally.end()


if __name__ == "__main__":
    sys.exit(main())
