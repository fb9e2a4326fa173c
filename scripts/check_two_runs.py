#!/usr/bin/env python3
"""Start trainings in one run directory in pairs, at random offsets, and check that one of two is refused.

The one that is refused, mostly the second, must say which process trains there, and leave config.yaml alone. The other
goes on, is ended with `kill -9` then, and the next pair has to take the run over at once. In the end metrics.jsonl must
have every step once, and the newest checkpoint be sound. Options after -- go to `asr train`.

    python scripts/check_two_runs.py --tries 50 -- --config-dir recipes/digits/conf --config-name digits …
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from asr.runs import state

STEPS = 1_000_000  # of the first of a pair; more than there is time for
PATIENCE = 300.0  # seconds for one of the two to be refused


class Training(NamedTuple):
    """A training that was started, and the file that gets what it prints."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def last_line(self) -> str:
        """What it has printed last."""
        return (self.log.read_text(encoding="utf-8").splitlines() or [""])[-1]


def start(run: Path, options: list[str], steps: int) -> Training:
    """A training, with metrics of every step."""
    words = [*options, f"run={run}", "train.log_every=1", f"train.steps={steps}"]
    log = run.with_name(f"{steps}.log")
    with log.open("wb") as file:
        process = subprocess.Popen([sys.executable, "-m", "asr.cli.main", "train", *words], stdout=file, stderr=file)
    return Training(process, log)


def steps_done(run: Path) -> list[int]:
    """The steps whose metrics are written, in order; not one that a kill has cut short."""
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    rows = (json.loads(line) for line in lines if line.endswith("}"))
    return [row["step"] for row in rows if "train/loss" in row]


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Wait until it comes true. Raises SystemExit where it does not in time."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what} in {PATIENCE:.0f} s")
        time.sleep(0.05)


def pair_up(run: Path, options: list[str], offset: float) -> str:
    """Start two trainings; returns which was refused. Raises SystemExit where something is wrong."""
    pair = [start(run, options, STEPS)]
    time.sleep(offset)
    pair.append(start(run, options, STEPS + 1))
    try:
        wait_for(lambda: any(one.process.poll() is not None for one in pair), "none of two was refused")
        index = 0 if pair[0].process.poll() is not None else 1
        check_pair(run, refused=pair[index], other=pair[1 - index], steps=STEPS + 1 - index)
    finally:
        for one in pair:
            one.process.kill()
            one.process.wait()
    return f"the {('first', 'second')[index]} was refused"


def check_pair(run: Path, refused: Training, other: Training, steps: int) -> None:
    """Raise SystemExit where the refused one does not name the other, or that one does not go on with its `steps`."""
    name = (
        rf"asr train: error: {re.escape(str(run))} is being trained by process {other.process.pid} on .+: stop it first"
    )
    if refused.process.returncode != 2 or not re.match(name, refused.last_line):
        raise SystemExit(f"{other.process.pid} is not named: {refused.last_line!r}, {refused.process.returncode}")
    before = steps_done(run)[-1:]
    wait_for(lambda: steps_done(run)[-1:] > before or other.process.poll() is not None, "no step was done")
    if other.process.poll() is not None:
        raise SystemExit(f"the other one ended, too: {other.last_line!r}")
    if f"  steps: {steps}\n" not in (run / "config.yaml").read_text(encoding="utf-8"):
        raise SystemExit("config.yaml is that of the training that was refused")


def check(options: list[str], tries: int, span: float, seed: int, run: Path) -> str:
    """Start `tries` pairs, up to `span` seconds apart. Returns a report; raises SystemExit where something is wrong."""
    draw = random.Random(seed)
    for number in range(tries):
        offset = draw.uniform(0, span)
        told = pair_up(run, options, offset)
        print(f"{number + 1}/{tries}: {offset:.1f} s apart, {told} after step {steps_done(run)[-1]}", flush=True)
    steps = steps_done(run)
    if steps != list(range(1, len(steps) + 1)):
        raise SystemExit("metrics.jsonl does not have every step once")
    damaged: list[str] = []
    newest = state.newest_sound(run / "checkpoints", damaged)
    if newest is None or damaged:
        raise SystemExit(f"damaged checkpoints: {damaged}")
    return f"{tries}/{tries}: the second was refused and told the first; {len(steps)} steps, each once"


def main() -> None:
    """Read the options and check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=50)
    parser.add_argument("--span", type=float, default=15.0, help="seconds between the two of a pair at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("options", nargs="+", help="for asr train, after --")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        print(check(given.options, given.tries, given.span, given.seed, Path(directory) / "run"))


if __name__ == "__main__":
    main()
