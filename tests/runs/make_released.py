#!/usr/bin/env python3
"""Make tests/runs/released/VERSION.zip: a tiny run of this version, which every later one has to go on with.

    python tests/runs/make_released.py

Run it once for each release, when the format of runs has changed since the one before; those that are there stay as
they are. In it: the run after its first two steps, without its logs, and in `expected.jsonl` the metrics of the next.
"""

from __future__ import annotations

import os
import sys
import tempfile
import zipfile
from pathlib import Path

import asr
from asr.cli.main import main

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parents[1] / "scripts" / "torture"))
import trainings  # noqa: E402  # where the corpus is made
from processes import metrics  # noqa: E402

TINY = [
    "model.mel_bins=8",
    "model.subsampling_channels=4",
    "model.encoder_dim=4",
    "model.feedforward_dim=4",
    "model.kernel_size=3",
    "model.predictor_dim=4",
    "model.joiner_dim=4",
    "train.ctc_weight=0.1",
    "train.ema=0.9",
    "optim.lr=0.02",
    "optim.warmup_steps=1",
    "optim.head_warmup_steps=1",
]
EPOCH = (1980, 1, 1, 0, 0, 0)  # the time of every file
LOGS = ".log", "lock"


def make_corpus() -> None:
    """What the run is of, in the current directory: its manifests are not in the file."""
    trainings.make_corpus(Path("corpus"), train=6, dev=2)


def train(*more: str) -> None:
    """Train in the current directory, or go on."""
    if main(["train", "run=run", "train.device=cpu", *more]):
        raise SystemExit("no training")


def pack(path: Path) -> None:
    """Write the zip file."""
    options = [*trainings.options(Path("corpus")), "train=debug", *TINY, "data.workers=0", "train.validate_every=2"]
    train(*options, "train.steps=2", "train.save_every=2")
    files = {
        file.relative_to("run").as_posix(): file.read_bytes()
        for file in sorted(Path("run").rglob("*"))
        if file.is_file() and "tensorboard" not in file.parts and not file.name.endswith(LOGS)
    }
    train("train.steps=4")
    files["expected.jsonl"] = b"".join((Path("run") / "metrics.jsonl").read_bytes().splitlines(True)[-3:])
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, EPOCH), content, zipfile.ZIP_DEFLATED)
    print(f"{path}: {len(files)} files, {path.stat().st_size} bytes, {len(metrics(Path('run')))} lines of metrics")


if __name__ == "__main__":
    released = HERE / "released" / f"{asr.__version__}.zip"
    if released.exists():
        raise SystemExit(f"{released} is there: it is what that version has written, and stays")
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        make_corpus()
        pack(released)
