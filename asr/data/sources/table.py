"""Tables with a header: TSV, as Common Voice has it, and CSV; and JSON lines, as NeMo has them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from itertools import dropwhile
from pathlib import Path

from asr.data.sources.record import find_fields, row_of
from asr.data.sources.row import Row, Source
from asr.errors import InputError
from asr.files import sound_lines

DELIMITERS = "\t|,;"


def read_table(source: Source) -> Iterator[Row]:
    """The rows of a table whose first line names the columns, and shows what divides them; comments may precede it."""
    lines = dropwhile(lambda line: is_comment(line[1]), numbered_lines(source, source.path))
    first = next(lines, (0, ""))[1]
    delimiter = delimiter_of(first)
    header = cells_of(first, delimiter)

    def record(line: str) -> Mapping[str, object]:
        cells = cells_of(line, delimiter)
        if len(cells) != len(header):
            raise InputError(f"{len(cells)} cells, but the header has {len(header)} columns; mend the row")
        return dict(zip(header, cells))

    yield from read_records(source, lines, record, header)


def is_comment(line: str) -> bool:
    """Whether a line before a table begins with # and is no header."""
    return line.startswith("#") and not is_header(line)


def is_header(line: str) -> bool:
    """Whether a line names the columns that a table needs."""
    try:
        return bool(find_fields(cells_of(line, delimiter_of(line)), {}))
    except InputError:
        return False


def read_json_lines(source: Source) -> Iterator[Row]:
    """The rows of a file with a JSON object a line, each with the fields that it has."""
    yield from read_records(source, numbered_lines(source, source.path), json_record, None)


def read_records(
    source: Source,
    lines: Iterator[tuple[int, str]],
    record: Callable[[str], Mapping[str, object]],
    header: list[str] | None,
) -> Iterator[Row]:
    """The rows of lines of which `record` makes fields with names; `header`: the names, where all lines have the same.

    Raises InputError where the header names no audio or no text.
    """
    fields = None if header is None else header_fields(header, source)
    source.unused = [name for name in header or () if name not in (fields or {}).values()]
    for number, line in lines:
        place = source.place(source.path, number)
        try:
            values = record(line)
            yield row_of(values, fields or find_fields(values, source.columns), place, source)
        except InputError as error:
            source.fault(place, str(error))


def header_fields(header: list[str], source: Source) -> dict[str, str]:
    """See `find_fields`; an error names the file."""
    try:
        return find_fields(header, source.columns)
    except InputError as error:
        need = "the first line must name the columns, as `audio,text` does"
        lists = (
            "a list of `name: text` needs no such line, but audio of these names beside it, below, or in audio_dir=…"
        )
        raise InputError(f"{source.path}: {error}; {need} ({lists})") from error


def delimiter_of(header: str) -> str:
    """What divides the columns of a header."""
    return max(DELIMITERS, key=header.count)


def numbered_lines(source: Source, path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text file that are not blank, with their numbers; what is no text becomes a fault."""
    lines = sound_lines(path, lambda number, reason: source.fault(source.place(path, number), reason))
    return ((number, line) for number, line in lines if line.strip())


def cells_of(line: str, delimiter: str) -> list[str]:
    """The cells of a line. Raises InputError where a quote is not closed in it."""
    if delimiter in "\t|":  # quotes are text there, but for those around a whole cell
        return [unquoted(cell.strip()) for cell in line.split(delimiter)]
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter, strict=True))]
    except csv.Error as error:
        raise InputError(f"not a row of a table ({error}); close the quote, or write it in one line") from error


def unquoted(cell: str) -> str:
    """The cell without quotes around it, and with those inside that were doubled for it."""
    quoted = len(cell) > 1 and cell.startswith('"') and cell.endswith('"')
    return cell[1:-1].replace('""', '"') if quoted else cell


def json_record(line: str) -> Mapping[str, object]:
    """The object of a line. Raises InputError where there is none."""
    try:
        record = json.loads(line)
    except ValueError as error:
        raise InputError(f"not JSON ({error}); mend the line") from error
    if not isinstance(record, dict):
        raise InputError(f"a {type(record).__name__}, not an object with fields; mend the line")
    return record
