"""`asr compare RUN...`: a table of runs, for sweeps: which options they differ in, and how well they do."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from asr.config import CompareConfig
from asr.errors import InputError
from asr.options import shown
from asr.runs.directory import RunDirectory
from asr.runs.trained import load_config
from asr.train.resume import flatten


@dataclass(frozen=True)
class Result:
    """A run as it is on disk.

    options: by full name, as text. step, steps: logged, and asked for. validation: word error rates in %, in the
    order of training. decoded: word error rate in % by the name of the directory it was decoded into.
    """

    name: str
    options: dict[str, str]
    step: int
    steps: int
    validation: list[float]
    decoded: dict[str, float]

    @property
    def best(self) -> float:
        """The lowest word error rate of a validation; infinite before the first."""
        return min(self.validation, default=math.inf)


def main(config: CompareConfig) -> None:
    """Print a Markdown table, the best run first. Raises InputError for a directory that is no run."""
    if not config.runs:
        raise InputError("no run given: name run directories of `asr train`, as in `asr compare exp/*`")
    results = sorted((read_result(Path(path)) for path in config.runs), key=lambda result: (result.best, result.name))
    print("\n".join(table([*rows(results)])))


def read_result(path: Path) -> Result:
    """What a run has come to. Raises InputError where the directory is none."""
    run = RunDirectory(path)
    config = load_config(run)
    options = {name: shown(value) for name, value in flatten(dataclasses.asdict(config)).items() if name != "run"}
    metrics = [*read_metrics(run.metrics)]
    return Result(
        path.name,
        options,
        int(metrics[-1]["step"]) if metrics else 0,
        config.train.steps,
        [line["validation/wer"] for line in metrics if "validation/wer" in line],
        {one.parent.name: read_wer(one) for one in sorted(path.glob("*/wer.txt"))},
    )


def read_metrics(path: Path) -> Iterator[dict[str, float]]:
    """The lines of a run's metrics, but one that was cut short."""
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            yield json.loads(line)
        except ValueError:
            return


def read_wer(path: Path) -> float:
    """The percentage of a line "%WER 1.23 [ … ]". Raises InputError for another."""
    words = path.read_text(encoding="utf-8").split()
    try:
        return float(words[1])
    except (IndexError, ValueError):
        raise InputError(f"{path}: not a WER line; score again with `asr score`") from None


def rows(results: Sequence[Result]) -> Iterator[list[str]]:
    """The cells of the table, its head first."""
    names = differing([result.options for result in results])
    searches = sorted({name for result in results for name in result.decoded})
    yield ["run", *names, "step", "best validation", "last", *searches]
    for result in results:
        yield [
            result.name,
            *(result.options.get(name, "") for name in names),
            f"{result.step}/{result.steps}",
            percent(result.best),
            percent(result.validation[-1] if result.validation else math.inf),
            *(percent(result.decoded.get(name, math.inf)) for name in searches),
        ]


def differing(options: Sequence[dict[str, str]]) -> list[str]:
    """The names of the options that are not the same in all runs that have them, sorted."""
    names = sorted({name for one in options for name in one})
    return [name for name in names if len({one[name] for one in options if name in one}) > 1]


def percent(value: float) -> str:
    """A percentage; nothing where there is none."""
    return f"{value:.2f}" if math.isfinite(value) else ""


def table(cells: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table, in columns that line up."""
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in cells]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]
