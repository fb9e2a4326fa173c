"""The tables of a page: columns, the first of which says what each row is of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from asr.options import differing
from asr.report.content import Content
from asr.report.decodings import Decoding, differences, same_utterances
from asr.report.runs import Run
from asr.score.record import Record
from asr.score.tables import cells
from asr.score.wer import UNITS


@dataclass(frozen=True)
class Column:
    """What is above, and the cells; whether these are numbers."""

    title: str
    cells: list[str]
    number: bool = True


def label(decoding: Decoding, runs: Sequence[Run]) -> str:
    """A decoding with the name of its run."""
    return f"{runs[decoding.run].name}/{decoding.name}"


def rates(content: Content) -> list[Column]:
    """The error rates of all decodings; columns in which there would be nothing are left out."""
    found = content.decodings
    errors = [one.score.errors for one in found]
    columns = [
        Column("Decoding", [label(one, content.runs) for one in found], number=False),
        Column("Rate", [f"{one.score.errors.rate:.2f} % {one.rate.name.upper()}" for one in found]),
        Column("95 %", [" to ".join(one.score.interval.digits()) if one.score.interval else "" for one in found]),
        Column("sub", [str(one.substitutions) for one in errors]),
        Column("del", [str(one.deletions) for one in errors]),
        Column("ins", [str(one.insertions) for one in errors]),
        Column("of", [f"{one.score.errors.words:,} {UNITS[one.score.unit]}" for one in found]),
        Column(
            "Utterances wrong", [f"{one.score.wrong_utterances} of {len(one.score.per_utterance)}" for one in found]
        ),
        Column("Delay, mean", [seconds(one, "mean") for one in found]),
        Column("90 %", [seconds(one, "late") for one in found]),
        Column("last token", [seconds(one, "last") for one in found]),
        Column("Not scored", [one.rate.not_scored for one in found], number=False),
        Column("Normalised", [one.rate.normalized for one in found], number=False),
        Column("Decoded with", [decoded_with(one.record) for one in found], number=False),
    ]
    return [column for column in columns if any(column.cells)]


def seconds(decoding: Decoding, name: str) -> str:
    """One of its delays; "" where it is not known."""
    return f"{decoding.delay[name]:.3f} s" if name in decoding.delay else ""


def decoded_with(record: Record | None) -> str:
    """The checkpoint, or the last of several that are averaged, and the search; "" where there is no record of it."""
    if record is None:
        return ""
    names = record.checkpoint.split(" + ")
    mean = f"mean of {len(names)} checkpoints to " * (len(names) > 1)
    return f"{mean}{names[-1]}; {record.decode.get('name', 'unknown')} search" + ", streaming" * record.streaming


def which_differ(content: Content) -> tuple[list[Column], list[str]]:
    """How decodings of one set differ from the best of it, and what is not compared."""
    rows, notes = [], []
    for group in same_utterances(content.decodings):
        for one, best, comparison in differences(group):
            first, second = label(one, content.runs), label(best, content.runs)
            rows.append((first, second, *cells(comparison.difference), str(comparison.utterances)))
            notes += [f"{first}, {second}: {comparison.note(first, second)}"] * bool(comparison.note(first, second))
    titles = ("Decoding", "against", "Difference, points", "95 %", "Better with", "They differ", "Utterances")
    texts = "Decoding", "against", "They differ"
    columns = [Column(title, [*column], title not in texts) for title, column in zip(titles, zip(*rows))]
    return columns, notes


def options(runs: Sequence[Run], *, all_of_them: bool) -> list[Column]:
    """The options of runs; else those in which they differ."""
    values = [run.result.options for run in runs]
    names = sorted({name for one in values for name in one}) if all_of_them else differing(values)
    columns = [Column(run.name, [run.result.options.get(name, "") for name in names], number=False) for run in runs]
    return [Column("Option", names, number=False), *columns] if names else []


def extremes(content: Content) -> list[Column]:
    """The curves in numbers, for who does not see them: lowest, highest and last value, each with its step."""
    rows = [*rows_of_curves(content)]
    titles = ("Figure", "Run", "Lowest", "at step", "Highest", "at step", "Last", "at step")
    return [Column(title, [*column], n > 1) for n, (title, column) in enumerate(zip(titles, zip(*rows)))]


def rows_of_curves(content: Content) -> Iterator[list[str]]:
    """The cells of that table."""
    for chart in (chart for group in content.groups for chart in group.charts):
        for curve in chart.curves:
            points = [(value, step) for value, step in zip(curve.values, curve.steps) if value is not None]
            ends = min(points), max(points), points[-1]
            told = [text for value, step in ends for text in (f"{value:g}", str(step))]
            title = f"{chart.title}, {chart.unit}" if chart.unit else chart.title
            yield [title, content.runs[curve.run].name, *told]
