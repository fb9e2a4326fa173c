#!/usr/bin/env python3
"""Kill `asr decode` or `asr transcribe` again and again, and check that they end as if nothing had happened.

Runs the command undisturbed; then with `kill -9` at random places of its journal, each time followed by a rerun of the
same command, into another directory. All files that they leave must be the same to the last bit.

    python scripts/check_interrupted.py --kills 20 -- decode run=recipes/digits/exp/transducer cuts=…
    python scripts/check_interrupted.py --kills 20 -- transcribe run=recipes/digits/exp/transducer recordings
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def command(words: list[str], output: Path) -> list[str]:
    """The command with an output directory."""
    return [sys.executable, "-m", "asr.cli.main", *words, f"output={output}"]


def journal_lines(output: Path) -> int:
    """Lines of the journal so far."""
    return sum(path.read_bytes().count(b"\n") for path in output.glob(".*.journal"))


def run_and_kill(words: list[str], output: Path, rows: int) -> bool:
    """Start the command and kill it once it has added `rows` lines; returns whether it was still at work."""
    begun = max(journal_lines(output), 1)
    process = subprocess.Popen(command(words, output), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and journal_lines(output) < begun + rows:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def contents(directory: Path) -> dict[str, bytes]:
    """All files by name."""
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def check(words: list[str], kills: int, most: int, seed: int, directory: Path) -> str:
    """Compare an undisturbed with a disturbed run. Returns a report; raises SystemExit where they differ."""
    whole, disturbed = directory / "whole", directory / "disturbed"
    subprocess.run(command(words, whole), check=True, capture_output=True)
    draw, done = random.Random(seed), 0
    for kill in range(kills):
        if run_and_kill(words, disturbed, draw.randint(0, most)):
            done += 1
            print(f"kill {kill + 1}/{kills}: {max(journal_lines(disturbed) - 1, 0)} results are kept", flush=True)
            continue
        compare(whole, disturbed)  # it had ended before: begin anew
    subprocess.run(command(words, disturbed), check=True, capture_output=True)
    compare(whole, disturbed)
    return f"{done} kills: the same {len(contents(whole))} files"


def compare(whole: Path, disturbed: Path) -> None:
    """Raise SystemExit where two directories differ."""
    expected, found = contents(whole), contents(disturbed)
    different = sorted(name for name in {*expected, *found} if expected.get(name) != found.get(name))
    if different:
        raise SystemExit(f"different after kills: {', '.join(different)}")


def main() -> None:
    """Read the options and check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--most", type=int, default=12, help="results between two kills at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("words", nargs="+", help="the command, after --")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        print(check(given.words, given.kills, given.most, given.seed, Path(directory)))


if __name__ == "__main__":
    main()
