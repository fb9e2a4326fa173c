"""A run's directory: everything a training run leaves behind, in one place.

exp/NAME/
    config.yaml     the resolved configuration
    config.sha256   the sum of it, as `sha256sum -c` reads it
    tokenizer/      a copy, so that the run can be moved and decoded anywhere
    checkpoints/    see asr.runs.state
    metrics.jsonl   one line of numbers per logged step
    data.json       how many utterances the manifests hold, and a digest of them
    init.json       which trained model the training began from, if from one, and what of it was carried over
    changes.jsonl   options that were changed on the way, where there are any
    bad-batches/    those of which no step could be taken, where there are any: see asr.train.bad
    tensorboard/    the same numbers as curves
    train.log       what the console showed, and on a terminal the lines of steps as well
    lock            which process trains here, while it does: see asr.runs.lock
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import re
import sys
import threading
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from asr.console import VisibleLines
from asr.errors import InputError
from asr.files import cannot_write, write_atomically, writing
from asr.runs.board import session, tag

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor
    from torch.utils.tensorboard import SummaryWriter


class RunDirectory:
    """Paths of a run, and the writers that log into it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.config_sum = path / "config.sha256"
        self.tokenizer = path / "tokenizer"
        self.checkpoints = path / "checkpoints"
        self.metrics = path / "metrics.jsonl"
        self.data = path / "data.json"
        self.init = path / "init.json"
        self.changes = path / "changes.jsonl"
        self.bad_batches = path / "bad-batches"
        self.tensorboard = path / "tensorboard"
        self.log = path / "train.log"
        self._writer: SummaryWriter | None = None
        self._written = hashlib.sha256()  # what metrics.jsonl holds

    def write_config(self, text: str) -> None:
        """Keep the configuration, with its sum: one flipped bit may be another option's value."""
        self.config_sum.unlink(missing_ok=True)  # interrupted, there is a config without one
        write_atomically(self.config, text.encode())
        write_atomically(self.config_sum, f"{_digest(self.config)}  {self.config.name}\n".encode())

    def check_config(self) -> None:
        """Raise InputError where the configuration is not the one that was written."""
        if self.config_sum.is_file() and self.config_sum.read_bytes().split()[:1] != [_digest(self.config).encode()]:
            raise InputError(
                f"{self.config}: was changed, or damaged, since training wrote it: restore it, or delete "
                f"{self.config_sum} to use it as it is"
            )

    def open_logs(self, step: int, again: Collection[str] = ()) -> logging.Logger:
        """Start logging at `step`: what an interrupted run logged beyond it is dropped, and of this step itself the
        metrics with the prefixes that will be written `again`."""
        from torch.utils.tensorboard import SummaryWriter

        self.path.mkdir(parents=True, exist_ok=True)
        self._drop_metrics_after(step, again)
        order_events(self.tensorboard, int(time.time()))
        with writing(self.tensorboard):
            self._writer = SummaryWriter(str(self.tensorboard), purge_step=step + 1 if step else None)
        return make_logger(self.log)

    def write_metrics(self, step: int, metrics: dict[str, Any], prefix: str) -> None:
        """Add `metrics` to metrics.jsonl under `prefix`/name, and to TensorBoard where `asr.runs.board` has them."""
        line = {"step": step, **{f"{prefix}/{name}": value for name, value in metrics.items()}}
        data = (json.dumps(line) + "\n").encode()
        with writing(self.metrics), open(self.metrics, "ab") as file:
            file.write(data)
        self._written.update(data)
        with self._curves() as writer:
            for name, value in metrics.items():
                writer.add_scalar(tag(prefix, name), value, step)

    @property
    def written(self) -> dict[str, Any]:
        """What metrics.jsonl holds, for a checkpoint to tell."""
        return {
            "bytes": self.metrics.stat().st_size if self.metrics.exists() else 0,
            "sha256": self._written.hexdigest(),
        }

    def has_lost(self, written: dict[str, Any]) -> bool:
        """Whether metrics.jsonl no longer holds what a checkpoint tells, {} where it does not."""
        content = self.metrics.read_bytes() if self.metrics.is_file() else b""
        return bool(written) and hashlib.sha256(content[: written["bytes"]]).hexdigest() != written["sha256"]

    def last_step(self) -> int:
        """The last step with a line in metrics.jsonl; 0 where there is none."""
        lines = self.metrics.read_bytes().splitlines() if self.metrics.is_file() else []
        return max((int(at) for at, _ in map(_step_and_prefix, lines) if math.isfinite(at)), default=0)

    def write_options(self, config: Any, measure: str, ended: bool = False) -> None:
        """Show the options of a run beside its rates in TensorBoard's HPARAMS tab. measure: "wer" or "cer"."""
        columns, options, end = session(config, measure)
        with self._curves() as writer:
            for summary in (end,) if ended else (columns, options):
                writer._get_file_writer().add_summary(summary)  # type: ignore[no-untyped-call]

    def write_audio(self, step: int, name: str, samples: Tensor, rate: int) -> None:
        """Let samples (n,) in [−1, 1] be heard in TensorBoard."""
        with self._curves() as writer:
            writer.add_audio(f"examples/{name}", samples, step, rate)

    def write_examples(self, step: int, lines: Iterable[str]) -> None:
        """Show a few hypotheses in TensorBoard, which takes lines that are not indented for Markdown, or HTML."""
        with self._curves() as writer:
            writer.add_text("examples/recognised", "".join(f"    {line}\n" for line in lines), step)

    def write_figure(self, step: int, name: str, figure: Figure) -> None:
        """Show a picture in TensorBoard."""
        with self._curves() as writer:
            writer.add_figure(name, figure, step)

    def close(self) -> None:
        """Flush TensorBoard's writer."""
        if self._writer is not None:
            with contextlib.suppress(OSError):  # a full disk has ended the training already, and says so
                self._writer.close()

    @contextlib.contextmanager
    def _curves(self) -> Iterator[SummaryWriter]:
        """What writes for TensorBoard. Raises InputError where it cannot, or could not before: it writes later."""
        assert self._writer is not None, "open_logs comes first"
        with writing(self.tensorboard):
            yield self._writer

    def _drop_metrics_after(self, step: int, again: Collection[str]) -> None:
        if self.metrics.exists():
            read = [(line, *_step_and_prefix(line)) for line in self.metrics.read_bytes().splitlines(True)]
            kept = [line for line, at, prefix in read if at < step or (at == step and prefix not in again)]
            content = b"".join(line.rstrip(b"\n") + b"\n" for line in kept)
            write_atomically(self.metrics, content)
            self._written.update(content)


def _digest(path: Path) -> str:
    """The SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


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


class _LogFile(logging.FileHandler):
    """A file that may fail: what ends a training then is a file that is missed."""

    failed = False

    def handleError(self, record: logging.LogRecord) -> None:
        """Say so once."""
        if not self.failed:
            self.failed = True
            tqdm.write(cannot_write(Path(self.baseFilename), str(sys.exc_info()[1])), file=sys.stderr)


def order_events(directory: Path, now: int) -> None:
    """Have TensorBoard's files of before sort before one of this second, also where the clock was ahead.

    TensorBoard reads them in the order of their names, events.out.tfevents.SECONDS.…, and never goes back.
    """
    found = [(re.match(r"events\.out\.tfevents\.(\d+)\.", path.name), path) for path in directory.glob("events.*")]
    times = sorted((int(match[1]), match.end(), path) for match, path in found if match)
    for back, (_, end, path) in enumerate([one for one in reversed(times) if one[0] >= now], 1):
        path.rename(path.with_name(f"events.out.tfevents.{now - back}.{path.name[end:]}"))


@contextlib.contextmanager
def curves_written_in_silence() -> Iterator[None]:
    """In the block, TensorBoard's thread prints no traceback where it cannot write: the next call raises its error."""
    before = threading.excepthook

    def hook(failed: threading.ExceptHookArgs) -> None:
        if not (isinstance(failed.exc_value, OSError) and type(failed.thread).__module__.startswith("tensorboard")):
            before(failed)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before


def make_logger(path: Path) -> logging.Logger:
    """The logger "asr", writing to the console and to `path`, which has what the console shows otherwise, too."""
    logger = logging.getLogger("asr")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    for old in logger.handlers[:]:
        logger.removeHandler(old)
        old.close()
    with writing(path):
        console, file = _AboveProgressBar(), _LogFile(path, encoding="utf-8")
    console.setLevel(logging.INFO)
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
