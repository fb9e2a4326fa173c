#!/usr/bin/env python3
"""SIGKILL of `asr decode` and `asr transcribe`, again and again: they end with the files of one that nobody disturbed.

Each is followed by the same command, which goes on where it was. In the end every file of the output directory must be
the same, bit for bit.

    python scripts/torture/interrupted.py [--quick] [--tries N]
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import trainings
from processes import asr
from trainings import Tally

CHAIN = 10  # kills of one command
MOST = 12  # results between two kills at most


def journal_lines(output: Path) -> int:
    """Lines of the journal so far."""
    return sum(path.read_bytes().count(b"\n") for path in output.glob(".*.journal"))


def run_and_kill(words: list[str], output: Path, rows: int) -> bool:
    """Start the command and kill it once it has added `rows` results; returns whether it was still at work."""
    begun = max(journal_lines(output), 1)
    me = asr([*words, f"output={output}"])
    process = subprocess.Popen(me, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and journal_lines(output) < begun + rows:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def contents(directory: Path) -> dict[str, bytes]:
    """All files by name."""
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def disturbed(words: list[str], output: Path, count: int, draw: random.Random) -> Iterator[str]:
    """Kill a command up to so often, until it has ended; tells of each time that it was at work."""
    for _ in range(count):
        if not run_and_kill(words, output, draw.randint(0, MOST)):
            return
        yield f"{words[0]}, {max(journal_lines(output) - 1, 0)} results are kept"


def finish(words: list[str], output: Path) -> None:
    """Let the command end. Raises SystemExit where it does not end well."""
    done = subprocess.run(asr([*words, f"output={output}"]), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}: {done.stderr[-2000:]}")


def differs(disturbed: Path, whole: Path) -> str:
    """Which files of two directories are not the same; "" if all are."""
    found, expected = contents(disturbed), contents(whole)
    different = sorted(name for name in {*expected, *found} if expected.get(name) != found.get(name))
    return f"different: {', '.join(different)}" if different else ""


def commands(work: Path) -> list[list[str]]:
    """What is killed: of a run that is trained here, an utterance at a time."""
    corpus, run = work / "corpus", work / "run"
    trainings.make_corpus(corpus)
    words = trainings.options(corpus, f"run={run}", "train.steps=20", "train.validate_every=20", "train.save_every=20")
    subprocess.run(asr(["train", *words]), check=True, capture_output=True)
    given = [f"run={run}", "device=cpu", "decode.batch_size=1"]
    return [["decode", *given, f"cuts={corpus}/cuts_train.jsonl.gz"], ["transcribe", *given, str(corpus)]]


def main() -> int:
    """See the module."""
    given = trainings.arguments(__doc__, quick=4, full=40)
    tally, draw = Tally("interrupted"), random.Random(given.seed)
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        known, chain = commands(work), 0
        while tally.tried < given.tries:
            words = known[chain % len(known)]
            whole, output = work / f"whole-{words[0]}", work / f"disturbed-{chain}"
            if not whole.exists():
                finish(words, whole)
            most = min(CHAIN // (5 if given.quick else 1), given.tries - tally.tried)
            cases = [*disturbed(words, output, most, draw)]
            finish(words, output)
            tally.note_chain(cases, differs(output, whole), chain)
            chain += 1
    return tally.end()


if __name__ == "__main__":
    sys.exit(main())
