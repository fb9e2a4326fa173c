"""`asr compare RUN...`: a table of runs, for sweeps: which options they differ in, and how well they do."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from asr.config import CompareConfig, TrainConfig
from asr.config.schema import list_options
from asr.console import visible
from asr.errors import InputError
from asr.runs.result import Rate, Result, read_rate, read_result
from asr.score.record import read_settings
from asr.score.report import read_not_scored
from asr.score.wer import RATES


def main(config: CompareConfig) -> None:
    """Print a Markdown table, the best run first, those with rates of words before those with rates of characters.

    Directories of decodings have a table of their own. Raises InputError for a directory that is neither.
    """
    if not config.runs:
        raise InputError("no run given: name run directories of `asr train`, as in `asr compare exp/*`")
    decoded = [path for path in config.runs if is_decoding(Path(path))]
    if decoded:
        if len(decoded) < len(config.runs):
            raise InputError(f"{decoded[0]}: a decoding, and others are runs: compare runs, or compare decodings")
        print("\n".join(table([*zip(*([head, *cells] for head, cells in decodings(decoded)), strict=True)])))
        return
    results = sorted((read_result(Path(path)) for path in config.runs), key=place)
    names = differing([result.options for result in results])
    paths = [] if config.paths else [name for name in names if is_path(name)]
    print("\n".join(table([*rows(results, [name for name in names if name not in paths])])))
    if paths:
        print(f"the runs differ in {', '.join(paths)}, too: paths=true shows these", file=sys.stderr)
    if len({result.measure for result in results if result.validation}) > 1:
        print("rates of words (WER) and of characters (CER) do not compare: the runs are ranked apart", file=sys.stderr)


def decodings(paths: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """The columns of a table of directories that were decoded into, best first, and what else differs."""
    rates = {path: read_rate(Path(path) / "wer.txt") for path in paths}
    names = list(RATES.values())
    order = sorted(rates, key=lambda path: (names.index(rates[path].name), rates[path].percent))
    yield "decoding", order
    told = [read_settings(Path(path)) for path in order]
    yield from ((name, [one.get(name, "") for one in told]) for name in differing(told))
    yield from rate_columns("error rate", [rates[path] for path in order])
    missing = [read_not_scored(Path(path) / "wer.txt") for path in order]
    if any(missing):
        yield "not scored", missing


def is_decoding(path: Path) -> bool:
    """Whether a directory is one that `asr decode` or `asr score` wrote into, and no run."""
    return (path / "wer.txt").is_file() and not (path / "config.yaml").is_file()


def place(result: Result) -> tuple[float, float, str]:
    """What orders runs: those without a validation are last."""
    names = list(RATES.values())
    return names.index(result.measure) if result.validation else len(names), result.best, result.name


def rows(results: Sequence[Result], options: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The cells of the table, its head first; `options`: those with a column."""
    return zip(*([head, *cells] for head, cells in columns(results, options)), strict=True)


def columns(results: Sequence[Result], options: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """The columns of the table: what is above, and the cells."""
    yield "run", [result.name for result in results]
    for name in options:
        yield name, [result.options.get(name, "") for result in results]
    if any(result.changed for result in results):
        yield "changed", [result.changed for result in results]
    yield "step", [f"{result.step}/{result.steps}" for result in results]
    yield from rate_columns("best validation", [Rate(result.measure, result.best) for result in results])
    yield from rate_columns("last", [Rate(result.measure, result.last) for result in results])
    for name in dict.fromkeys(name for result in results for name in result.left_out):
        yield name, [result.left_out.get(name, "") for result in results]
    for name in sorted({name for result in results for name in result.decoded}):
        yield from rate_columns(name, [result.decoded.get(name) for result in results])


def rate_columns(title: str, rates: Sequence[Rate | None]) -> Iterator[tuple[str, list[str]]]:
    """A column of word error rates; where there are others, too, one for each kind, with its name."""
    known = [rate for rate in rates if rate and math.isfinite(rate.percent)]
    kinds = [name for name in RATES.values() if any(rate.name == name for rate in known)]
    for kind in kinds or ["wer"]:
        cells = [percent(rate.percent) if rate and rate.name == kind else "" for rate in rates]
        yield title if kinds in ([], ["wer"]) else f"{title} {kind.upper()}", cells


def differing(options: Sequence[dict[str, str]]) -> list[str]:
    """The names of the options that are not the same in all runs that have them, sorted."""
    names = sorted({name for one in options for name in one})
    return [name for name in names if len({one[name] for one in options if name in one}) > 1]


def is_path(name: str) -> bool:
    """Whether an option of `asr train` names files, which says little and takes much room."""
    option = list_options(TrainConfig).get(name)
    return option is not None and option.path


def percent(value: float) -> str:
    """A percentage; nothing where there is none."""
    return f"{value:.2f}" if math.isfinite(value) else ""


def table(cells: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table, in columns that line up."""
    cells = [[visible(cell).replace("\n", " ").replace("|", "\\|") for cell in row] for row in cells]
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in cells]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]
