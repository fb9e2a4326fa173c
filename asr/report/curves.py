"""The curves of trainings: one chart a metric, with a line for each run that has it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from asr.score.wer import RATES, UNITS, ends_of

MOST_POINTS = 1000  # of a line: a screen has no more columns

# By metric, in the order of the page: what is above its chart, and what it is measured in.
GROUPS: dict[str, dict[str, tuple[str, str]]] = {
    "Validation": {
        "validation/wer": ("Word error rate", "%"),
        "validation/cer": ("Character error rate", "%"),
        "validation/loss": ("Loss", "nats a label"),
        "validation/delay": ("Emission delay, mean", "s"),
        "validation/last_delay": ("Delay of last tokens", "s"),
        "validation/skipped": ("Utterances skipped", ""),
        "validation/no_loss": ("Utterances without a loss", ""),
    },
    "Loss in training": {
        "train/loss": ("Loss, all parts", "nats a label"),
        "train/transducer": ("Transducer", "nats a label"),
        "train/simple": ("Simple joiner", "nats a label"),
        "train/ctc": ("CTC", "nats a label"),
        "train/ctc_consistency": ("Divergence of CTC between views", "nats a label"),
        "train/consistency": ("Divergence between views", "nats a label"),
        "train/frames": ("Cross entropy of frames", "nats a label"),
        "train/gradient_norm": ("Norm of the gradient", ""),
        "train/lr": ("Learning rate", ""),
    },
    "Lattice": {
        "train/nodes": ("Nodes", "a batch"),
        "train/kept_nodes": ("Nodes with a gradient", "a batch"),
        "train/widened": ("Bands that were widened", "a batch"),
        "train/unaligned": ("Utterances without times", "a batch"),
    },
    "Machine": {
        "train/audio_seconds_per_second": ("Audio trained on", "s per second"),
        "train/waiting_share": ("Waiting for data", "share of time"),
        "train/step_seconds": ("Time of a step", "s"),
        "train/step_cpu_seconds": ("Time of the CPU in a step", "s"),
        "train/peak_mb": ("Memory, peak so far", "MB"),
        "train/skipped": ("Utterances skipped", ""),
    },
}
OTHERS = "Other figures"
ENDS = tuple(f"validation/{name}" for unit in RATES for name in ends_of(unit))  # of intervals
COUNTS = tuple(f"validation/{name}" for name in (*UNITS.values(), "errors", "utterances"))
NOT_DRAWN = ("train/epoch", *COUNTS, *ENDS)


@dataclass(frozen=True)
class Curve:
    """A line: of which run, by its place, and its points; None where a value is not finite.

    ends: of the intervals that hold the values, the lower ones and the upper ones; nothing where they are not known.
    """

    run: int
    steps: list[int]
    values: list[float | None]
    ends: list[list[float | None]]


@dataclass(frozen=True)
class Chart:
    """A metric of all runs."""

    metric: str
    title: str
    unit: str
    curves: list[Curve]


@dataclass(frozen=True)
class Group:
    """Charts under one heading. flat: the titles of those that are 0 throughout, which are not drawn."""

    title: str
    charts: list[Chart]
    flat: list[str]


def groups_of(metrics: Sequence[Sequence[Mapping[str, Any]]]) -> list[Group]:
    """The charts of runs, given the lines of their metrics; headings that nothing is under are left out."""
    found = dict.fromkeys(name for run in metrics for line in run for name in line if name not in ("step", *NOT_DRAWN))
    known = {name for kinds in GROUPS.values() for name in kinds}
    others = {name: (name, "") for name in found if name not in known}
    groups = [group_of(title, kinds, metrics) for title, kinds in (GROUPS | {OTHERS: others}).items()]
    return [group for group in groups if group.charts or group.flat]


def group_of(title: str, kinds: Mapping[str, tuple[str, str]], metrics: Sequence[Sequence[Mapping[str, Any]]]) -> Group:
    """The charts of metrics, of which some may be none of these runs'."""
    charts = [Chart(metric, *words, [*curves_of(metric, metrics)]) for metric, words in kinds.items()]
    present = [chart for chart in charts if chart.curves]
    flat = [chart for chart in present if not any(value != 0 for one in chart.curves for value in one.values)]
    return Group(title, [chart for chart in present if chart not in flat], [chart.title for chart in flat])


def curves_of(metric: str, metrics: Sequence[Sequence[Mapping[str, Any]]]) -> Iterator[Curve]:
    """A line of each run that has the metric."""
    for place, lines in enumerate(metrics):
        found = {int(line["step"]): line for line in lines if metric in line}
        points = thinned([(step, number(line[metric])) for step, line in found.items()])
        if any(value is not None for _, value in points):
            steps = [step for step, _ in points]
            ends = [[number(found[step].get(f"{metric}_{end}")) for step in steps] for end in ("low", "high")]
            known = any(value is not None for values in ends for value in values)
            yield Curve(place, steps, [value for _, value in points], ends if known else [])


def number(value: Any) -> float | None:
    """A value to five digits; None for what is no number, or not finite when rounded, which JSON does not have."""
    try:
        rounded = float(f"{value:.5g}") if isinstance(value, (int, float)) else math.nan
    except OverflowError:  # of an integer that no float holds
        return None
    return rounded if math.isfinite(rounded) else None


def thinned(points: Sequence[tuple[int, float | None]], most: int = MOST_POINTS) -> list[tuple[int, float | None]]:
    """No more points than that: the first, the last, and the lowest and the highest of each of equally many in a row
    between them, so neither an end nor a peak is lost."""
    if len(points) <= most:
        return [*points]
    first, *inner, last = points
    kept = [first]
    size = math.ceil(2 * len(inner) / (most - 2))
    for begin in range(0, len(inner), size):
        part = inner[begin : begin + size]
        known = [point for point in part if point[1] is not None] or part[:1]
        kept += sorted({min(known, key=value_of), max(known, key=value_of)}, key=lambda point: point[0])
    return [*kept, last]


def value_of(point: tuple[int, float | None]) -> float:
    """That of a point that has one."""
    return point[1] or 0.0
