#!/usr/bin/env python3
"""Two trainings in one directory, started at random offsets: one of the two, mostly the second, is refused.

It must say which process trains there, and leave config.yaml alone. The other goes on, is killed then, and the next
pair has to take the run over at once. In the end metrics.jsonl must have every step once, and the newest checkpoint be
sound. Linux only.

    python scripts/torture/two_runs.py [--quick] [--tries N]
"""

from __future__ import annotations

import random
import re
import sys
import tempfile
import time
from pathlib import Path

import processes
import trainings
from processes import Training, asr, newest_checkpoint, steps_done
from trainings import Tally, wait_for

from asr.runs import state

STEPS = 1_000_000  # of the first of a pair; more than there is time for
PATIENCE = 300.0  # seconds for one of the two to be refused
SPAN = 15.0  # seconds between the two of a pair at most


def start(run: Path, options: list[str], steps: int) -> Training:
    """A training, with metrics of every step."""
    words = [*options, f"run={run}", "train.log_every=1", f"train.steps={steps}"]
    (log := run.with_name(f"{steps}.log")).unlink(missing_ok=True)
    return processes.begin(asr(["train", *words]), run, log)


def pair_up(run: Path, options: list[str], offset: float) -> str:
    """Start two trainings; returns what is wrong, "" if nothing."""
    pair = [start(run, options, STEPS)]
    time.sleep(offset)
    pair.append(start(run, options, STEPS + 1))
    try:
        if not wait_for(lambda: any(one.process.poll() is not None for one in pair), PATIENCE):
            return "none of two was refused"
        index = 0 if pair[0].process.poll() is not None else 1
        return fault_of(run, refused=pair[index], other=pair[1 - index], steps=STEPS + 1 - index)
    finally:
        for one in pair:
            one.kill()


def fault_of(run: Path, refused: Training, other: Training, steps: int) -> str:
    """What is wrong where the refused one does not name the other, or that one does not go on with its `steps`."""
    owner = f"{re.escape(str(run))} is being trained by process {other.process.pid} on .+: stop it first"
    if refused.process.returncode != 2 or not re.match(f"asr train: error: {owner}", refused.last_line()):
        return f"{other.process.pid} is not named: {refused.last_line()!r}, {refused.process.returncode}"
    before = steps_done(run)[-1:]
    if not wait_for(lambda: has_gone_on(run, before) or other.process.poll() is not None, PATIENCE):
        return "no step was done"
    if other.process.poll() is not None:
        return f"the other one ended, too: {other.last_line()!r}"
    if f"  steps: {steps}\n" not in (run / "config.yaml").read_text(encoding="utf-8"):
        return "config.yaml is that of the training that was refused"
    return ""


def has_gone_on(run: Path, before: list[int]) -> bool:
    """Whether a step was done after these, and there is a checkpoint."""
    return steps_done(run)[-1:] > before and newest_checkpoint(run) > 0


def fault_left(run: Path) -> str:
    """What is wrong with what all of the pairs have made together; "" if nothing."""
    steps, damaged = steps_done(run), list[str]()
    if steps != list(range(1, len(steps) + 1)):
        return "metrics.jsonl does not have every step once"
    if state.newest_sound(run / "checkpoints", damaged) is None or damaged:
        return f"damaged checkpoints: {damaged}"
    return ""


def main() -> int:
    """See the module."""
    given = trainings.arguments(__doc__, quick=3, full=50)
    tally, draw = Tally("two_runs"), random.Random(given.seed)
    with tempfile.TemporaryDirectory() as directory:
        trainings.make_corpus(corpus := Path(directory) / "corpus")
        run, options = Path(directory) / "run", trainings.options(corpus, "data.workers=1", "train.save_every=5")
        for _ in range(given.tries):
            offset = draw.uniform(0, SPAN)
            tally.note(f"{offset:.1f} s apart", pair_up(run, options, offset) or fault_left(run))
    return tally.end()


if __name__ == "__main__":
    sys.exit(main())
