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
from asr.score.report import Rate, read_rates
from asr.score.wer import RATES


@dataclass(frozen=True)
class Result:
    """A run as it is on disk.

    config, options: what was asked for, and the same by full name, as text. step, steps: logged, and asked for.
    validation: error rates in %, in the order of training, of those validations that `state.comparable` takes;
    intervals: that hold them, where they are told. measure: what these are, "wer" or "cer". left_out: how many
    utterances were, in training and validation, by the column that tells. changed: options on the way, and from which
    step on. decoded: error rate by the name of the directory it was decoded into. faults: why those of others cannot be
    read.
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
    faults: list[str]

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
        *rates_in(path),
    )


def rates_in(path: Path) -> tuple[dict[str, Rate], list[str]]:
    """The error rates of what was decoded into a directory, by name, and why others cannot be read."""
    rates, faults = read_rates(sorted(path.glob("*/wer.txt")))
    return {directory.name: rate for directory, rate in rates.items()}, faults


def section(metrics: Sequence[Mapping[str, float]], name: str) -> list[dict[str, float]]:
    """The metrics of `name`, without its name, of the lines that have some; what is no number is left out."""
    prefix = f"{name}/"
    found = (
        {key.removeprefix(prefix): value for key, value in line.items() if key.startswith(prefix) and is_number(value)}
        for line in metrics
    )
    return [one for one in found if one]


def left_out(metrics: Sequence[Mapping[str, float]]) -> dict[str, str]:
    """How many utterances were not trained on in the epoch in which they were most, how many were not read in the
    last validation, and how many had no loss in it; what is 0 is left out."""
    epochs: Counter[float] = Counter()
    for line in section(metrics, "train"):
        epochs[line.get("epoch", 0)] += count_of(line, "skipped")
    last = (section(metrics, "validation") or [{}])[-1]
    skipped, read = count_of(last, "skipped"), count_of(last, "utterances")
    counts = {
        "training skipped": (max(epochs.values(), default=0), ""),
        "validation skipped": (skipped, f" of {skipped + read}"),
        "no loss": (count_of(last, "no_loss"), ""),
    }
    return {name: f"{count}{of}" for name, (count, of) in counts.items() if count}


def count_of(line: Mapping[str, float], name: str) -> int:
    """A count among metrics; 0 where it is not there, or is none."""
    value = line.get(name, 0)
    return int(value) if math.isfinite(value) else 0


def changes(run: RunDirectory) -> Iterator[str]:
    """The options that were changed on the way, as "optim.lr=0.0005 from step 350 on"."""
    for line in read_metrics(run.changes):
        values = line.get("changed")
        pairs = values.items() if isinstance(values, dict) else ()
        named = [f"{name}={shown(pair[1])}" for name, pair in pairs if isinstance(pair, list) and len(pair) == 2]
        yield f"{', '.join(named)} from step {line['step']} on"


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of JSON of a run's metrics or changes, up to one that was cut short, or is something else."""
    for line in path.read_bytes().splitlines() if path.is_file() else []:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            return
        if not isinstance(row, dict) or not is_whole(row.get("step")):
            return
        yield row


def is_number(value: Any) -> bool:
    """Whether a value can be computed with, as metrics can."""
    return isinstance(value, float) or is_whole(value)


def is_whole(value: Any) -> bool:
    """Whether a value is an integer that a float holds exactly, as every step and every count is."""
    return isinstance(value, int) and abs(value) <= 2**53
