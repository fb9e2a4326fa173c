"""`asr compare RUN...`: a table of runs, for sweeps: which options they differ in, and how well they do."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from asr.config import CompareConfig, TrainConfig
from asr.config.schema import list_options
from asr.console import table
from asr.errors import InputError
from asr.options import differing
from asr.progress import told_if_slow
from asr.runs.result import Result, read_result
from asr.score.comparison import against_best, alone
from asr.score.record import read_settings
from asr.score.report import Rate, read_rate
from asr.score.tables import DIFFERENCES, decodings, differences, note_columns, rate_columns
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
        rates = {path: read_rate(Path(path) / "wer.txt") for path in decoded}
        settings = {path: read_settings(Path(path)) for path in decoded}
        print("\n".join(table([*zip(*([head, *cells] for head, cells in decodings(rates, settings)), strict=True)])))
        print_differences([rates])
        return
    results = sorted((read_result(Path(path)) for path in config.runs), key=place)
    names = differing([result.options for result in results])
    paths = [] if config.paths else [name for name in names if is_path(name)]
    print("\n".join(table([*rows(results, [name for name in names if name not in paths])])))
    searches = sorted({name for result in results for name in result.decoded})
    print_differences(
        {str(one.path / name): one.decoded[name] for one in results if name in one.decoded} for name in searches
    )
    if paths:
        print(f"the runs differ in {', '.join(paths)}, too: paths=true shows these", file=sys.stderr)
    if len({result.measure for result in results if result.validation}) > 1:
        print("rates of words (WER) and of characters (CER) do not compare: the runs are ranked apart", file=sys.stderr)


def print_differences(sets: Iterable[Mapping[str, Rate]]) -> None:
    """Print a table of which decodings differ, of each set by directory, where hypotheses of several are there."""
    sets = list(sets)
    with told_if_slow("comparing the decodings, utterance by utterance", partial(print, file=sys.stderr)):
        found = [against_best(rates) for rates in sets]
    pairs = [pair for one in found for pair in one]
    if pairs:
        print("\n".join(["", *table([DIFFERENCES, *differences(pairs)])]))
    for first, second, comparison in pairs:
        if note := comparison.note(first, second):
            print(f"{first}, {second}: {note}", file=sys.stderr)
    for left in (alone(rates, one) for rates, one in zip(sets, found)):
        if len(left) > 1 or (left and pairs):
            what = "no other has an utterance of theirs, scored in the same unit and spelling"
            print(f"not compared: {', '.join(left)}: {what}", file=sys.stderr)


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
    yield from rate_columns("best validation", [result.rate(result.best) for result in results])
    yield from rate_columns("last", [result.rate(result.last) for result in results])
    for name in dict.fromkeys(name for result in results for name in result.left_out):
        yield name, [result.left_out.get(name, "") for result in results]
    for name in sorted({name for result in results for name in result.decoded}):
        rates = [result.decoded.get(name) for result in results]
        yield from rate_columns(name, rates)
        yield from note_columns(f"{name}: ", rates)


def is_path(name: str) -> bool:
    """Whether an option of `asr train` names files, which says little and takes much room."""
    option = list_options(TrainConfig).get(name)
    return option is not None and option.path
