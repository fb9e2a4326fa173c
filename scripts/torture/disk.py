#!/usr/bin/env python3
"""A disk that is full or read-only, a limit on the size of files, and no permission, for what each command writes.

Each command runs once with all the room it wants, and then with less and less: on a file system of its own that is as
large as part of what it wrote, or read-only, below a limit on the size of files, and as a user who may not write there.
It has to end with a line that has the path, and the bytes where room is what is missing, and no traceback, with nothing
half-written left; and with room again the same command has to make of that what it made at first. Linux only, as root.

    python scripts/torture/disk.py [--quick] [--tries N]
"""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import trainings
from processes import metrics
from trainings import REPOSITORY, Tally

STEPS = 6
# What tells the time, or where the output is.
IGNORED = re.compile(r"tensorboard|train\.log|\.html$|config\.(yaml|sha256)$|metrics\.jsonl$|state\.json$|SHA256SUMS$")
TEMPORARY = re.compile(r"\.tmp$|\.new$|\.before$|/unfinished-|\.extract-")  # not what the same command goes on from
SHARES = 0.0, 0.05, 0.2, 0.4, 0.6, 0.8, 0.95  # of what a command writes, for which there is room


@dataclass(frozen=True)
class Command:
    """What is run. words: of `asr`, with {data} for what is read and {out} for the directory that is written to."""

    name: str
    words: list[str]


def commands(corpus: Path) -> list[Command]:
    """Every command that writes, on a corpus and a run of it."""
    schedule = [f"train.steps={STEPS}", "train.log_every=1", "train.validate_every=3", "train.save_every=2"]
    training = trainings.options(corpus, *schedule, "data.workers=0", "run={out}/run")
    cuts, run = f"{corpus}/cuts_dev.jsonl.gz", f"run={corpus}/run"
    return [
        Command("train", ["train", *training]),
        Command("features", ["features", f"cuts={cuts}", "output={out}/cuts.jsonl.gz", "storage={out}/fbank"]),
        Command("tokenizer", ["tokenizer", f"cuts=[{cuts}]", "output={out}/char", "kind=char"]),
        Command("shar", ["shar", f"cuts={cuts}", "output={out}/shar"]),
        Command("decode", ["decode", run, f"cuts={cuts}", "output={out}/decoded", "device=cpu"]),
        Command("transcribe", ["transcribe", f"{corpus}/dev-00.flac", run, "output={out}/said", "device=cpu"]),
        Command("align", ["align", "aligner=transducer", run, f"cuts={cuts}", "output={out}/words.ctm"]),
        Command("package", ["package", run, "output={out}/package.zip"]),
        Command("manifest", ["manifest", f"input={corpus}/list.tsv", "output={out}/made.jsonl.gz"]),
    ]


@dataclass(frozen=True)
class Hardship:
    """What keeps files from being written. size: of the file system, bytes; limit: of a file."""

    name: str
    size: int = 1 << 28
    limit: int = -1
    read_only: bool = False
    user: bool = False


def hardships(wrote: int, largest: int) -> Iterator[Hardship]:
    """All of them, by what the command wrote undisturbed."""
    for share in SHARES:
        yield Hardship(f"a disk of {share:.0%} of what it writes", size=max(int(share * wrote), 4096))
    for share in SHARES:
        yield Hardship(
            f"files of {share:.0%} of its largest", limit=max(int(share * largest), 512)
        )  # what processes share is a file, too
    yield Hardship("a read-only disk", read_only=True)
    yield Hardship("no permission", user=True)


SCRIPT = """
set -e
mount -t tmpfs -o size=$1,mode=755 none "$2"
if [ "$3" = read-only ]; then mount -o remount,ro "$2"; fi
shift 3
ulimit -c 0
status=0
"$@" || status=$?
cp -a "$ROOM/." "$KEPT/"
exit $status
"""


def run_in(hardship: Hardship, command: Command, room: Path, kept: Path) -> tuple[int, str]:
    """Run a command with its output on a file system of its own; what is left there is copied to `kept`."""
    words = [word.format(out=room) for word in command.words]
    me = [sys.executable, "-m", "asr.cli.main", *words]
    if hardship.user:
        me = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *me]
    mode = "read-only" if hardship.read_only else "writable"
    inside = ["unshare", "-m", "bash", "-c", SCRIPT, "bash", str(hardship.size), str(room), mode, *me]
    environment = {**os.environ, "ROOM": str(room), "KEPT": str(kept), "OMP_NUM_THREADS": "1"}
    environment |= {"PYTHONPATH": str(REPOSITORY), "HOME": "/tmp", "NUMBA_CACHE_DIR": "/tmp/asr-torture-numba"}

    def limit() -> None:
        if hardship.limit >= 0:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hardship.limit, hardship.limit))

    done = subprocess.run(
        inside, capture_output=True, text=True, errors="replace", env=environment, cwd="/", preexec_fn=limit
    )
    return done.returncode, done.stderr


def contents(directory: Path) -> dict[str, str]:
    """The sums of all files that tell no time."""
    return {
        str(path.relative_to(directory)): hashlib.sha256(unpacked(path)).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and not IGNORED.search(str(path.relative_to(directory)))
    }


def unpacked(path: Path) -> bytes:
    """The content of a file that tells no time: of a gzipped one what is in it, of averages how they did, not the sum
    of their checkpoints."""
    if path.name == "averages.json":
        return repr({name: one["metrics"] for name, one in json.loads(path.read_bytes()).items()}).encode()
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def fault_of(hardship: Hardship, status: int, text: str, kept: Path) -> str:
    """What is wrong with how a command ended that could not write; "" if nothing."""
    if "Traceback" in text or "fault of the program" in text or "Logging error" in text:
        return f"a traceback: {text[-800:]}"
    if status == 0:
        return ""  # there was room
    last = (text.strip().splitlines() or [""])[-1]
    if str(kept.parent / "room") not in text:
        return f"no path: {last}"
    wants_bytes = not (hardship.read_only or hardship.user)
    if wants_bytes and not re.search(r"\d bytes|ulimit", text):
        return f"no bytes: {last}"
    left = [name for name in map(str, kept.rglob("*")) if TEMPORARY.search(name)]
    return f"left: {left}" if left else ""


def check(command: Command, hardship: Hardship, whole: Path, work: Path) -> str:
    """Run it in hardship, then with room, from what that left; what is wrong, "" if nothing."""
    room, kept = work / "room", work / "kept"
    for path in (room, kept):
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
    status, text = run_in(hardship, command, room, kept)
    fault = fault_of(hardship, status, text, kept)
    if fault:
        return fault
    shutil.rmtree(room)
    kept.rename(room)  # as if the disk had grown
    done = subprocess.run(
        [sys.executable, "-m", "asr.cli.main", *[word.format(out=room) for word in command.words]],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
    )
    if done.returncode:
        return f"with room again: {done.stderr[-500:]}"
    different = {name for name, digest in contents(whole).items() if contents(room).get(name) != digest}
    if different and command.name != "package":  # whose description tells the time
        return f"with room again other files than at first: {sorted(different)[:5]}"
    if command.name == "train" and metrics(room / "run") != metrics(whole / "run"):
        return "with room again other metrics than at first"
    return ""


def prepare(corpus: Path) -> None:
    """What the commands read."""
    trainings.make_corpus(corpus)
    (corpus / "list.tsv").write_text("path\ttext\n" + "".join(f"dev-0{n}.flac\tLOW\n" for n in range(3)))
    words = commands(corpus)[0].words
    subprocess.run(
        [sys.executable, "-m", "asr.cli.main", *[word.format(out=corpus) for word in words]],
        check=True,
        capture_output=True,
        cwd=REPOSITORY,
    )


def main() -> int:
    """See the module."""
    given = trainings.arguments(__doc__, quick=12, full=1000)
    tally, draw = Tally("disk"), random.Random(given.seed)
    with tempfile.TemporaryDirectory() as directory:
        work, corpus = Path(directory), Path(directory) / "corpus"
        work.chmod(0o755)
        prepare(corpus)
        cases = []
        for command in commands(corpus):
            whole, kept = work / f"whole-{command.name}", work / "room"
            for path in (whole, kept):
                path.mkdir(exist_ok=True)
            status, text = run_in(Hardship("room"), command, kept, whole)
            assert status == 0, text
            sizes = [path.stat().st_size for path in whole.rglob("*") if path.is_file()]
            cases += [(command, hardship, whole) for hardship in hardships(sum(sizes), max(sizes))]
        draw.shuffle(cases)
        for command, hardship, whole in itertools.islice(cases, given.tries):
            tally.note(f"{command.name}, {hardship.name}", check(command, hardship, whole, work))
    return tally.end()


if __name__ == "__main__":
    sys.exit(main())
