"""A run's directory: everything a training run leaves behind, in one place.

exp/NAME/
    config.yaml     the resolved configuration
    tokenizer/      a copy, so that the run can be moved and decoded anywhere
    checkpoints/    see asr.runs.state
    metrics.jsonl   one line of numbers per logged step
    data.json       how many utterances the manifests hold, and a digest of them
    init.json       which trained model the training began from, if from one, and what of it was carried over
    changes.jsonl   options that were changed on the way, where there are any
    tensorboard/    the same numbers as curves
    train.log       what the console showed
    lock            which process trains here, while it does: see asr.runs.lock
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import sys
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from asr.console import VisibleLines
from asr.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch.utils.tensorboard import SummaryWriter


class RunDirectory:
    """Paths of a run, and the writers that log into it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.tokenizer = path / "tokenizer"
        self.checkpoints = path / "checkpoints"
        self.metrics = path / "metrics.jsonl"
        self.data = path / "data.json"
        self.init = path / "init.json"
        self.changes = path / "changes.jsonl"
        self.tensorboard = path / "tensorboard"
        self.log = path / "train.log"
        self._writer: SummaryWriter | None = None

    def open_logs(self, step: int, again: Collection[str] = ()) -> logging.Logger:
        """Start logging at `step`: what an interrupted run logged beyond it is dropped, and of this step itself the
        metrics with the prefixes that will be written `again`."""
        from torch.utils.tensorboard import SummaryWriter

        self.path.mkdir(parents=True, exist_ok=True)
        self._drop_metrics_after(step, again)
        self._writer = SummaryWriter(str(self.tensorboard), purge_step=step + 1 if step else None)
        return make_logger(self.log)

    def write_metrics(self, step: int, metrics: dict[str, Any], prefix: str) -> None:
        """Add `metrics` to metrics.jsonl, and the numbers to TensorBoard under `prefix`/name."""
        line = {"step": step, **{f"{prefix}/{name}": value for name, value in metrics.items()}}
        with open(self.metrics, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        assert self._writer is not None, "open_logs comes first"
        for name, value in metrics.items():
            self._writer.add_scalar(f"{prefix}/{name}", value, step)

    def write_examples(self, step: int, lines: Iterable[str]) -> None:
        """Show a few hypotheses in TensorBoard, which takes lines that are not indented for Markdown, or HTML."""
        assert self._writer is not None, "open_logs comes first"
        self._writer.add_text("validation/examples", "".join(f"    {line}\n" for line in lines), step)

    def write_figure(self, step: int, name: str, figure: Figure) -> None:
        """Show a picture in TensorBoard."""
        assert self._writer is not None, "open_logs comes first"
        self._writer.add_figure(name, figure, step)

    def close(self) -> None:
        """Flush TensorBoard's writer."""
        if self._writer is not None:
            with contextlib.suppress(OSError):  # a full disk has ended the training already, and says so
                self._writer.close()

    def _drop_metrics_after(self, step: int, again: Collection[str]) -> None:
        if self.metrics.exists():
            read = [(line, *_step_and_prefix(line)) for line in self.metrics.read_bytes().splitlines(True)]
            kept = [line for line, at, prefix in read if at < step or (at == step and prefix not in again)]
            write_atomically(self.metrics, b"".join(kept))


def _step_and_prefix(line: bytes) -> tuple[float, str]:
    """The step of a line of metrics.jsonl, infinite for one that was cut short, and the prefix of its metrics."""
    try:
        metrics = json.loads(line)
        return float(metrics["step"]), next((name.partition("/")[0] for name in metrics if "/" in name), "")
    except (ValueError, TypeError, KeyError):
        return math.inf, ""


class _AboveProgressBar(logging.Handler):
    """Prints on stderr without tearing the progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


def make_logger(path: Path) -> logging.Logger:
    """The logger "asr", writing to the console and to `path`."""
    logger = logging.getLogger("asr")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    for old in logger.handlers[:]:
        logger.removeHandler(old)
        old.close()
    console, file = _AboveProgressBar(), logging.FileHandler(path, encoding="utf-8")
    console.setFormatter(VisibleLines("%(message)s"))
    file.setFormatter(VisibleLines("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(console)
    logger.addHandler(file)
    return logger


def silent_logger() -> logging.Logger:
    """The logger "asr" of a process beside the one that logs: the same messages would come from each."""
    logger = logging.getLogger("asr")
    logger.handlers[:], logger.propagate = [logging.NullHandler()], False
    return logger
