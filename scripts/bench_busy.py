#!/usr/bin/env python3
"""What a training loses to other work on its CPUs, with threads that spin where they wait and with what `asr` asks for.

Trains recipes/digits (run its stages 0 and 1 first) by turns with the spinning that OpenMP begins with by itself and
with less, alone and beside loops that do nothing else, one for each CPU; then sends SIGTERM to trainings
beside these loops, at random. Prints audio seconds a second, whether losses are the same, and the seconds that a
training took to end with a checkpoint.

    python scripts/bench_busy.py --steps 80 8 --repeats 3 1 --stops 20

The first of each two figures is for trainings alone, the second for those beside loops, where one that spins may take
half a minute a step.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from asr.cpus import available_cpus

REPOSITORY = Path(__file__).resolve().parents[1]
LOOP = [sys.executable, "-c", "while True: pass"]
WAITING = {"spinning": {"GOMP_SPINCOUNT": "300000"}, "as asr has it": {}}  # the first is libgomp's own default
LINES = 4  # of metrics, at least
OWN = "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS"


@contextlib.contextmanager
def busy(loops: int) -> Iterator[None]:
    """So many CPUs have other work."""
    started = [subprocess.Popen(LOOP) for _ in range(loops)]
    try:
        yield
    finally:
        for one in started:
            one.kill()
            one.wait()


def train(run: Path, steps: int, every: int, waiting: dict[str, str]) -> subprocess.Popen[bytes]:
    """A training of recipes/digits that has begun. every: steps between lines of metrics."""
    words = ["train", "--config-dir", "conf", "--config-name", "digits", f"run={run}", f"train.steps={steps}"]
    words += [f"train.log_every={every}", f"train.validate_every={steps + 1}", "data.workers=0"]
    environment = {name: value for name, value in os.environ.items() if name not in OWN}
    environment |= {"PYTHONPATH": str(REPOSITORY), **waiting}
    return subprocess.Popen(
        [sys.executable, "-m", "asr.cli.main", *words],
        cwd=REPOSITORY / "recipes" / "digits",
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def lines(run: Path) -> list[dict[str, float]]:
    """What a training has logged, of its steps."""
    path = run / "metrics.jsonl"
    read = [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []
    return [line for line in read if "train/loss" in line]


def measure(run: Path, steps: int, loops: int, waiting: dict[str, str]) -> tuple[float, list[float]]:
    """Audio seconds a second, the median of its lines but the first, and the losses."""
    with busy(loops):
        if train(run, steps, max(steps // LINES, 1), waiting).wait():
            raise SystemExit(f"the training failed: {run}/train.log")
    logged = lines(run)
    return statistics.median(line["train/audio_seconds_per_second"] for line in logged[1:]), [
        line["train/loss"] for line in logged
    ]


def stop(run: Path, after: float, loops: int) -> float:
    """Seconds from SIGTERM, so long after the first line, to the end; raises SystemExit where no checkpoint is left."""
    with busy(loops):
        training = train(run, 100_000, 1, {})
        while not lines(run) and training.poll() is None:
            time.sleep(0.05)
        time.sleep(after)
        training.send_signal(signal.SIGTERM)
        begun = time.monotonic()
        status = training.wait()
        took = time.monotonic() - begun
    if status != 128 + signal.SIGTERM or not list((run / "checkpoints").glob("st*-????????")):
        raise SystemExit(f"status {status}, {sorted(run.glob('checkpoints/*'))}: see {run}/train.log")
    return took


def compare(loops: int, runs: Iterator[Path], steps: int, repeats: int) -> None:
    """Measure each way of waiting, by turns, and print."""
    speeds: dict[str, list[float]] = {name: [] for name in WAITING}
    found = set()
    for _ in range(repeats):
        for name, waiting in WAITING.items():
            speed, losses = measure(next(runs), steps, loops, waiting)
            speeds[name].append(speed)
            found.add(tuple(losses))
    for name, each in speeds.items():
        told = ", ".join(f"{speed:.1f}" for speed in each)
        print(f"{loops} loops, {name}: {statistics.median(each):.1f} s of audio a second ({told})", flush=True)
    print(f"{loops} loops: losses of all {'are the same' if len(found) == 1 else 'DIFFER'}", flush=True)


def main() -> None:
    """Read the options, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, nargs=2, default=(80, 8))
    parser.add_argument("--repeats", type=int, nargs=2, default=(3, 1))
    parser.add_argument("--stops", type=int, default=20)
    given = parser.parse_args()
    cpus, draw = available_cpus(), random.Random(0)
    with tempfile.TemporaryDirectory() as directory:
        runs = (Path(directory) / str(number) for number in itertools.count())
        for loops, steps, repeats in zip((0, cpus), given.steps, given.repeats):
            compare(loops, runs, steps, repeats)
        took = [stop(next(runs), draw.uniform(0, 5), cpus) for _ in range(given.stops)]
    if took:
        print(f"{cpus} loops, SIGTERM: {statistics.median(took):.1f} s, at most {max(took):.1f} of {len(took)}")


if __name__ == "__main__":
    main()
