#!/usr/bin/env python3
"""The table, and the picture, of trainings that are compared with each other.

    python local/study.py exp/losses/* --table exp/losses/table.md
    python local/study.py exp/delay/* --table exp/delay/table.md --picture exp/delay/picture.png

Trainings that differ in nothing but `train.seed` are one choice, and a row. Each is held against the first, or that of
--against: all seeds of a choice together, and by the same utterances. Runs without RUN/decode are named and left out.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import mean, median, stdev

from asr.console import table
from asr.errors import InputError
from asr.runs.directory import RunDirectory
from asr.runs.result import read_metrics, read_result, section
from asr.score.bootstrap import Difference, Interval, paired_difference, rate_interval
from asr.score.delay import read_delays
from asr.score.report import read_score
from asr.score.tables import cells
from asr.score.wer import Score

DECODED = "decode"
SEED = re.compile(r"-\d+$")  # how the name of a training ends that has others beside it
FIGURES: dict[str, tuple[str, Callable[[Sequence[float]], float]]] = {
    "step_seconds": ("s a step", median),
    "step_cpu_seconds": ("s of CPU", median),
    "peak_mb": ("peak MB", max),
    "nodes": ("nodes a batch", mean),
    "kept_nodes": ("with a gradient", mean),
}
DELAYS = {"mean": "mean delay, s", "late": "90 %", "last": "last token"}


@dataclass(frozen=True)
class Training:
    """One of a study. options: all but its seed. figures: of the second half of the training. delays: seconds."""

    name: str
    options: Mapping[str, str]
    score: Score
    figures: Mapping[str, float]
    delays: Mapping[str, float]


@dataclass(frozen=True)
class Choice:
    """Trainings that differ in their seeds alone."""

    trainings: Sequence[Training]

    @property
    def name(self) -> str:
        """That of the trainings, without their seeds."""
        name = self.trainings[0].name
        return name if len(self.trainings) == 1 else SEED.sub("", name)

    @property
    def rates(self) -> list[float]:
        """Error rates, percent."""
        return [one.score.errors.rate for one in self.trainings]

    @cached_property
    def errors(self) -> dict[str, tuple[int, int]]:
        """Errors and words of each utterance, those of all trainings added up, by its id."""
        found: dict[str, tuple[int, int]] = {}
        for scored in (one for training in self.trainings for one in training.score.per_utterance):
            errors, words = found.get(scored.utterance.id, (0, 0))
            found[scored.utterance.id] = errors + scored.errors.total, words + scored.errors.words
        return found

    @property
    def interval(self) -> Interval | None:
        """What holds the mean rate over other utterances; not over other seeds, which the spread is of."""
        return rate_interval(*zip(*self.errors.values()))

    def of(self, kind: str, name: str) -> float | None:
        """The mean of a figure or delay of the trainings; None where one lacks it."""
        values = [getattr(one, kind).get(name) for one in self.trainings]
        return None if None in values else mean(values)


def main() -> None:
    """Write and print the table, and draw the picture where one is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--table", type=Path, required=True, help="Markdown file to write")
    parser.add_argument("--picture", type=Path, help="PNG file to write: error rate against delay")
    parser.add_argument("--against", default="", help="choice that the others are held against; default: the first")
    options = parser.parse_args()
    try:
        choices = grouped([*read_trainings(options.runs)])
        reference = reference_of(choices, options.against)
        text = "\n".join(table([*rows(choices, reference)])) + "\n"
    except InputError as error:
        sys.exit(f"study.py: error: {error}")
    options.table.write_text(text, encoding="utf-8")
    print(text, end="")
    if reference is None:
        print(f"held against none: {options.against} has no error rate yet", file=sys.stderr)
    if options.picture:
        draw(choices, options.picture)


def read_trainings(runs: Sequence[Path]) -> Iterator[Training]:
    """Those that have been decoded; others are named. Raises InputError where none has been."""
    found = 0
    for run in runs:
        if (run / DECODED / "wer.txt").is_file():
            found += 1
            yield read_training(run)
        else:
            print(f"not in the table, since it has no error rate yet: {run}", file=sys.stderr)
    if not found:
        raise InputError(f"{runs[0]}: no {DECODED}/wer.txt, and in none of the others: nothing is done yet")


def read_training(run: Path) -> Training:
    """What a run has come to."""
    options = {name: value for name, value in read_result(run).options.items() if name != "train.seed"}
    lines = section([*read_metrics(RunDirectory(run).metrics)], "train")
    late = lines[len(lines) // 2 :]
    columns = {name: [line[name] for line in late if name in line] for name in FIGURES}
    figures = {name: summary(columns[name]) for name, (_, summary) in FIGURES.items() if columns[name]}
    return Training(run.name, options, read_score(run / DECODED), figures, read_delays(run / DECODED / "delay.txt"))


def grouped(trainings: Sequence[Training]) -> list[Choice]:
    """Choices, in the order of their first trainings."""
    groups: dict[str, list[Training]] = {}
    for one in trainings:
        groups.setdefault(str(sorted(one.options.items())), []).append(one)
    return [Choice(group) for group in groups.values()]


def reference_of(choices: Sequence[Choice], name: str) -> Choice | None:
    """The choice of this name, with a seed or without, or the first; None where there is none of this name, yet."""
    found = (one for one in choices if name in ("", one.name, SEED.sub("", one.name)))
    return next(found, None)


def difference(one: Choice, other: Choice) -> Difference | None:
    """How two choices differ by the utterances of both; None where these have no words.

    Where one has more seeds, the errors of the other count as much more.
    """
    common = sorted(one.errors.keys() & other.errors.keys())
    first, second = (
        [factor * errors[name][0] for name in common]
        for errors, factor in ((one.errors, len(other.trainings)), (other.errors, len(one.trainings)))
    )
    words = [len(other.trainings) * one.errors[name][1] for name in common]
    return paired_difference(words, first, second) if sum(words) else None


def rows(choices: Sequence[Choice], reference: Choice | None) -> Iterator[Sequence[str]]:
    """The cells of the table, its head first."""
    columns = {
        "": [one.name for one in choices],
        "seeds": [str(len(one.trainings)) for one in choices],
        "WER, %": [f"{mean(one.rates):.2f}" for one in choices],
        "of each": [", ".join(f"{rate:.2f}" for rate in one.rates) if len(one.rates) > 1 else "" for one in choices],
        "spread": [f"{stdev(one.rates):.2f}" if len(one.rates) > 1 else "" for one in choices],
        "95 %": [str(one.interval or "") for one in choices],
    }
    if reference is not None and len(choices) > 1:
        found = [["", ""] if one is reference else cells(difference(one, reference))[:2] for one in choices]
        columns[f"against {reference.name}"], columns["95 % of that"] = map(list, zip(*found))
    named = [("figures", name, title) for name, (title, _) in FIGURES.items()]
    for kind, name, title in [*named, *(("delays", name, title) for name, title in DELAYS.items())]:
        values = [one.of(kind, name) for one in choices]
        if any(value is not None for value in values):
            columns[title] = ["" if value is None else shown(value, kind == "delays") for value in values]
    return zip(*([title, *column] for title, column in columns.items()), strict=True)


def shown(value: float, is_delay: bool) -> str:
    """A figure with as many digits as tell something."""
    if is_delay:
        return f"{value:+.3f}"
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"


def draw(choices: Sequence[Choice], path: Path) -> None:
    """Error rate against delay: a dot at the mean, a line to what 90 % are within, a cross at the last tokens' mean."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), layout="constrained")
    axis = figure.subplots()
    drawn = [one for one in choices if one.of("delays", "mean") is not None]
    families = list(dict.fromkeys(one.name.split("-")[0] for one in drawn))
    for one in drawn:
        color, rate = f"C{families.index(one.name.split('-')[0])}", mean(one.rates)
        middle, late, last = (one.of("delays", name) for name in DELAYS)
        axis.plot([middle, late], [rate, rate], color=color, linewidth=1, alpha=0.5)
        axis.scatter(middle, rate, color=color)
        if last is not None:
            axis.scatter(last, rate, color=color, marker="x")
        axis.annotate(one.name, (middle, rate), textcoords="offset points", xytext=(5, 4), fontsize=8, color=color)
    axis.set_xlabel("delay of tokens, seconds: mean (dot), what 90 % are within (line), last of an utterance (cross)")
    axis.set_ylabel("WER, %")
    axis.set_title("Errors and emission delay")
    axis.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
