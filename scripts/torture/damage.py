#!/usr/bin/env python3
"""Damage to each file of a run: bits, truncation, deletion, exchange, a directory in its place, edits with right sums.

A small run is trained; then, for each damage, a copy of it is damaged and gone on with for two steps, decoded and
compared. What has been damaged must be named, by a refusal or a warning, or do no harm: then the metrics and weights
that come of it are those of an undamaged copy. No traceback, and no beginning anew unasked.

    python scripts/torture/damage.py [--quick] [--tries N]
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import trainings
from processes import metrics
from safetensors.torch import save
from trainings import Tally

from asr.cli.main import main as asr
from asr.runs import state

STEPS = 6  # of the run that is damaged; it is gone on with to two more
Damage = Callable[[Path, random.Random], None]


@dataclass(frozen=True)
class Outcome:
    """What came of a copy. status: of training, decoding and comparing. text: what they said."""

    status: tuple[int, ...]
    text: str
    metrics: list[dict[str, object]]
    weights: str
    hypotheses: str


def flip(path: Path, draw: random.Random) -> None:
    """One bit, anywhere."""
    data = bytearray(path.read_bytes() or b"\0")
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    path.write_bytes(data)


def truncate(path: Path, draw: random.Random) -> None:
    """Cut off some of the end, or all."""
    path.write_bytes(path.read_bytes()[: draw.choice([0, draw.randrange(path.stat().st_size + 1)])])


def delete(path: Path, draw: random.Random) -> None:
    """Remove it."""
    path.unlink()


def exchange(path: Path, draw: random.Random) -> None:
    """Put another file of the run there."""
    run = next(one for one in path.parents if (one / "config.yaml").exists())
    others = [one for one in sorted(run.rglob("*")) if one.is_file() and one.read_bytes() != path.read_bytes()]
    shutil.copyfile(draw.choice(others), path)


def make_directory(path: Path, draw: random.Random) -> None:
    """Put a directory there."""
    path.unlink()
    path.mkdir()


def edit(path: Path, draw: random.Random) -> None:
    """Change a value of JSON, put something else in the place of tensors, or flip a bit, and put the sums right.

    Other tensors of the same shapes are those of another model: that cannot be told.
    """
    if path.suffix == ".json":
        content = json.loads(path.read_text())
        key = draw.choice(sorted(content))
        content[key] = draw.choice([None, [], {}, "text", -1, 1e300, [[]], {"dict": [["x", {"tensor": "none"}]]}])
        path.write_text(json.dumps(content))
    elif path.suffix == ".safetensors":
        torch.save({"weight": torch.ones(3)}, other := path.with_suffix(".pt"))
        path.write_bytes(draw.choice([other.read_bytes(), b"", path.read_bytes()[:-1], save({"x": torch.ones(3)})]))
        other.unlink()
    else:
        flip(path, draw)
    if (path.parent / state.SUMS).is_file() and path.name != state.SUMS:
        files = (one for one in sorted(path.parent.iterdir()) if one.name != state.SUMS)
        lines = (f"{hashlib.sha256(one.read_bytes()).hexdigest()}  {one.name}\n" for one in files)
        (path.parent / state.SUMS).write_text("".join(lines))


DAMAGES: tuple[Damage, ...] = (flip, flip, truncate, delete, exchange, make_directory, edit)


def train(run: Path, corpus: Path, steps: int) -> int:
    """Train, or go on, in this process."""
    schedule = [f"train.steps={steps}", "train.log_every=1", "train.validate_every=3", "train.save_every=2"]
    words = trainings.options(corpus, *schedule, "data.workers=0", f"run={run}")
    return asr(["train", *words])


def outcome(run: Path, corpus: Path) -> Outcome:
    """Go on with a run, decode with it as it was before that, and compare it."""
    said, printed = io.StringIO(), io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(printed):
        words = [f"run={run}", f"cuts={corpus}/cuts_dev.jsonl.gz", f"output={run}/decoded", "device=cpu"]
        decoded = asr(["decode", *words, "checkpoint=best"])
        hypotheses = run / "decoded" / "hypotheses.jsonl"
        trained = train(run, corpus, STEPS + 2)
        compared = asr(["compare", str(run)])
    for handler in logging.getLogger("asr").handlers[:]:
        logging.getLogger("asr").removeHandler(handler)
        handler.close()
    last = run / "checkpoints" / f"step-{STEPS + 2:08d}" / "model.safetensors"
    return Outcome(
        (trained, decoded, compared),
        said.getvalue(),
        metrics(run) if (run / "metrics.jsonl").is_file() else [],
        hashlib.sha256(last.read_bytes()).hexdigest() if last.is_file() else "",
        hypotheses.read_text() if hypotheses.is_file() else "",
    )


def fault_of(found: Outcome, sound: Outcome, name: str, run: Path) -> str:
    """What is wrong with what came of a damage to the file of this name; "" if nothing."""
    if "Traceback" in found.text or "fault of the program" in found.text:
        return "a traceback: " + found.text[-600:]
    if any(status not in (0, 2) for status in found.status):
        return f"statuses {found.status}"
    named = any(part in found.text for part in (Path(name).name, *[Path(name).parent.name] * ("checkpoints" in name)))
    if f"step 0 of {STEPS + 2}" in found.text:
        return "begun anew"
    same = (found.weights, found.hypotheses) == (sound.weights, sound.hypotheses)
    if not named and not (same and found.metrics == sound.metrics):
        return f"nobody named it: {found.status}, {'the same' if same else 'another'} result; {found.text[-300:]}"
    return ""


def main() -> int:
    """See the module."""
    given = trainings.arguments(__doc__, quick=30, full=1000)
    tally, draw = Tally("damage"), random.Random(given.seed)
    with tempfile.TemporaryDirectory() as directory:
        corpus, whole = Path(directory) / "corpus", Path(directory) / "whole"
        trainings.make_corpus(corpus)
        with contextlib.redirect_stderr(io.StringIO()):
            assert train(whole, corpus, STEPS) == 0
        files = sorted(str(path.relative_to(whole)) for path in whole.rglob("*") if path.is_file())
        files = [name for name in files if "tensorboard" not in name]
        shutil.copytree(whole, run := Path(directory) / "run")
        sound = outcome(run, corpus)
        for _ in range(given.tries):
            shutil.rmtree(run)
            shutil.copytree(whole, run)
            damage, name = draw.choice(DAMAGES), draw.choice(files)
            damage(run / name, draw)
            tally.note(f"{damage.__name__} {name}", fault_of(outcome(run, corpus), sound, name, run))
    return tally.end()


if __name__ == "__main__":
    sys.exit(main())
