"""LJSpeech's `metadata.csv`: `name|text as written|text as spoken`, without a header, beside a folder `wavs`."""

from __future__ import annotations

from collections.abc import Iterator

from asr.data.sources.row import Row, Source
from asr.data.sources.table import numbered_lines


def read_ljspeech(source: Source) -> Iterator[Row]:
    """A row for each line; the last column is the transcript."""
    (path,) = source.files("metadata.csv")
    for number, line in numbered_lines(source, path):
        name, *texts = (cell.strip() for cell in line.split("|"))
        place = source.place(path, number)
        if len(texts) not in (1, 2) or not name:
            source.fault(place, f"{len(texts) + 1} cells, not `name|text` or `name|text|text as spoken`; mend the row")
        else:
            yield Row(place, source.locate(name), texts[-1], id=name)
