"""The table of runs that `asr compare` prints: its order, and its columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from asr.config import TrainConfig
from asr.config.schema import list_options
from asr.options import differing
from asr.runs.result import Result
from asr.score.tables import note_columns, rate_columns
from asr.score.wer import RATES


def place(result: Result) -> tuple[float, float, str]:
    """What orders runs: those without a validation are last."""
    names = list(RATES.values())
    return names.index(result.measure) if result.validation else len(names), result.best, result.name


def columns(
    results: Sequence[Result], options: Sequence[str], settings: Mapping[str, Mapping[str, str]]
) -> Iterator[tuple[str, list[str]]]:
    """The columns of the table: what is above, and the cells. options: those with a column.

    settings: what was decoded with, by directory. Where the searches of a column differ, what differs has one, too.
    """
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
        searches = [search_of(settings.get(str(result.path / name), {})) for result in results]
        for option in differing(searches):
            yield f"{name}: {option}", [search.get(option, "") for search in searches]


def search_of(settings: Mapping[str, str]) -> dict[str, str]:
    """Of what was decoded with, the search: neither the checkpoint, which is the run's, nor manifest and machine."""
    return {name: value for name, value in settings.items() if name.startswith("decode.") or name == "streaming"}


def is_path(name: str) -> bool:
    """Whether an option of `asr train` names files, which says little and takes much room."""
    option = list_options(TrainConfig).get(name)
    return option is not None and option.path
