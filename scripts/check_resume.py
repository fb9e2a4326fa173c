#!/usr/bin/env python3
"""Kill a training run again and again, and check that it ends as if nothing had happened.

Trains twice with the same options: once undisturbed, once with `kill -9` at random moments, in the middle
of validations, and in the middle of saves, each time followed by a rerun of the same command. Every line of
metrics that does not read a clock must be bit-identical. Options after -- go to `asr train`.

    python scripts/check_resume.py --kills 20 -- --config-dir recipes/digits/conf --config-name digits …
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

CLOCKS = ("audio_seconds_per_second", "waiting_share", "peak_mb")
MOMENTS = ("at random", "validating", "saving")


def command(run: Path, options: list[str]) -> list[str]:
    """The training command; metrics of every step, so that none goes unchecked."""
    return [sys.executable, "-m", "asr.cli.main", "train", *options, f"run={run}", "train.log_every=1"]


def metrics(run: Path) -> list[dict[str, object]]:
    """The lines of metrics.jsonl without what is read off a clock."""
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    rows = (json.loads(line) for line in lines if line.endswith("}"))
    return [{k: v for k, v in row.items() if not k.endswith(CLOCKS)} for row in rows]


def checkpoints(run: Path, pattern: str) -> set[str]:
    """Names in the checkpoint directory."""
    return {path.name for path in (run / "checkpoints").glob(pattern)}


def trigger(moment: str, run: Path, every: int, draw: random.Random) -> Callable[[], bool]:
    """A function that turns true when it is time to kill."""
    begun = len(metrics(run))
    if moment == "saving":
        return lambda: bool(checkpoints(run, ".step-*.tmp"))
    if moment == "validating":  # the step's own line is there, the validation's is not
        return lambda: len(metrics(run)) > begun and is_validating(metrics(run)[-1], every)
    steps = draw.randint(1, 2 * every)
    delay = draw.random() * 0.2
    return lambda: len(metrics(run)) >= begun + steps and not time.sleep(delay)


def is_validating(last: dict[str, object], every: int) -> bool:
    """Whether the last line is a training step that a validation follows."""
    return "train/loss" in last and int(str(last["step"])) % every == 0


def run_and_kill(run: Path, options: list[str], moment: str, every: int, draw: random.Random) -> bool:
    """Start training and kill it; returns whether it was killed before it ended by itself."""
    is_time = trigger(moment, run, every, draw)
    process = subprocess.Popen(command(run, options), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not is_time():
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def check(
    options: list[str], kills: int, every: int, seed: int, directory: Path, varied: Sequence[list[str]] = ([],)
) -> str:
    """Compare an undisturbed with a disturbed run. Returns a report; raises SystemExit where they differ.

    varied: further options, which the weights do not depend on, of one start after the other.
    """
    whole, disturbed = directory / "whole", directory / "disturbed"
    subprocess.run(command(whole, options), check=True, capture_output=True)
    draw, survived = random.Random(seed), Counter[str]()
    for kill in range(kills):
        moment = MOMENTS[kill % len(MOMENTS)]
        if not run_and_kill(disturbed, [*options, *varied[kill % len(varied)]], moment, every, draw):
            raise SystemExit(f"the run ended before kill {kill + 1}: give more train.steps")
        survived[moment] += 1
        print(f"kill {kill + 1}/{kills} {moment}, {len(metrics(disturbed))} lines of metrics", flush=True)
    subprocess.run(command(disturbed, options), check=True, capture_output=True)
    expected, found = metrics(whole), metrics(disturbed)
    for wanted, got in zip(expected, found, strict=False):
        if wanted != got:
            raise SystemExit(f"different: undisturbed {wanted}, after kills {got}")
    if len(expected) != len(found):
        raise SystemExit(f"{len(found)} lines of metrics after kills, {len(expected)} undisturbed")
    counts = ", ".join(f"{n} {moment}" for moment, n in survived.items())
    return f"{kills} kills ({counts}): all {len(found)} lines of metrics bit-identical"


def main() -> None:
    """Read the options and check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--every", type=int, default=10, help="train.validate_every of the run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("options", nargs="*", help="options of `asr train`, after --")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        options = [*given.options, f"train.validate_every={given.every}"]
        print(check(options, given.kills, given.every, given.seed, Path(directory)))


if __name__ == "__main__":
    main()
