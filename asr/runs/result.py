"""What a run has come to: its options, how far it is, and its error rates."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr.config import TrainConfig
from asr.options import flatten, shown
from asr.runs import state
from asr.runs.directory import RunDirectory
from asr.runs.trained import load_config
from asr.score.bootstrap import Interval
from asr.score.report import Rate, read_rate
from asr.score.wer import RATES


@dataclass(frozen=True)
class Result:
    """A run as it is on disk.

    config, options: what was asked for, and the same by full name, as text. step, steps: logged, and asked for.
    validation: error rates in %, in the order of training, of those validations that `state.comparable` takes;
    intervals: that hold them, where they are told. measure: what these are, "wer" or "cer". left_out: how many
    utterances were, in training and validation, by the column that tells. changed: options on the way, and from which
    step on. decoded: error rate by the name of the directory it was decoded into.
    """

    path: Path
    config: TrainConfig
    options: dict[str, str]
    step: int
    steps: int
    validation: list[float]
    intervals: list[Interval | None]
    measure: str
    left_out: dict[str, str]
    changed: str
    decoded: dict[str, Rate]

    @property
    def name(self) -> str:
        """That of the directory."""
        return self.path.name

    @property
    def best(self) -> float:
        """The lowest error rate of a validation; infinite before the first."""
        return min(self.validation, default=math.inf)

    @property
    def last(self) -> float:
        """The error rate of the last validation; infinite before the first."""
        return self.validation[-1] if self.validation else math.inf

    def rate(self, percent: float) -> Rate:
        """An error rate of a validation, with the interval of the first that has it."""
        known = dict(zip(reversed(self.validation), reversed(self.intervals)))
        return Rate(self.measure, percent, known.get(percent))


def read_result(path: Path) -> Result:
    """What a run has come to. Raises InputError where the directory is none."""
    run = RunDirectory(path)
    config = load_config(run)
    asked = flatten(dataclasses.asdict(config)).items()
    options = {name: shown(value) for name, value in asked if name not in ("run", "train.change", "replay")}
    metrics = [*read_metrics(run.metrics)]
    validations = state.comparable(section(metrics, "validation"))
    return Result(
        path,
        config,
        options,
        int(metrics[-1]["step"]) if metrics else 0,
        config.train.steps,
        [state.rate_of(one) for one in validations],
        [state.interval_of(one) for one in validations],
        RATES[state.unit_of(validations[-1]) or "word"] if validations else "wer",
        left_out(metrics),
        "; ".join(changes(run)),
        {one.parent.name: read_rate(one) for one in sorted(path.glob("*/wer.txt"))},
    )


def section(metrics: Sequence[Mapping[str, float]], name: str) -> list[dict[str, float]]:
    """The metrics of `name`, without its name, of the lines that have some."""
    prefix = f"{name}/"
    found = ({key.removeprefix(prefix): line[key] for key in line if key.startswith(prefix)} for line in metrics)
    return [one for one in found if one]


def left_out(metrics: Sequence[Mapping[str, float]]) -> dict[str, str]:
    """How many utterances were not trained on in the epoch in which they were most, how many were not read in the
    last validation, and how many had no loss in it; what is 0 is left out."""
    epochs: Counter[float] = Counter()
    for line in section(metrics, "train"):
        epochs[line.get("epoch", 0)] += int(line.get("skipped", 0))
    last = (section(metrics, "validation") or [{}])[-1]
    skipped, read = int(last.get("skipped", 0)), int(last.get("utterances", 0))
    counts = {
        "training skipped": (max(epochs.values(), default=0), ""),
        "validation skipped": (skipped, f" of {skipped + read}"),
        "no loss": (int(last.get("no_loss", 0)), ""),
    }
    return {name: f"{count}{of}" for name, (count, of) in counts.items() if count}


def changes(run: RunDirectory) -> Iterator[str]:
    """The options that were changed on the way, as "optim.lr=0.0005 from step 350 on"."""
    for line in read_metrics(run.changes):
        values: Mapping[str, Any] = line.get("changed", {})
        yield ", ".join(f"{name}={shown(now)}" for name, (_, now) in values.items()) + f" from step {line['step']} on"


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of JSON of a run's metrics or changes, up to one that was cut short, or is something else."""
    for line in path.read_bytes().splitlines() if path.is_file() else []:
        try:
            row = json.loads(line)
        except ValueError:
            return
        if not isinstance(row, dict) or "step" not in row:
            return
        yield row
