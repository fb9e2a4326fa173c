"""What is done of long work, kept on disk, so that the same command goes on where it was interrupted."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from asr.errors import InputError
from asr.files import remove_unfinished, write_atomically, writing

Result = TypeVar("Result")

AGAIN = "run the same command again to go on"


@dataclass
class Journal(Generic[Result]):
    """Results by id, on disk as soon as they are added: JSON lines, the first of which tells settings and process.

    A line that was cut off, by a power cut say, does not count; nor does a journal of other settings.
    to_row: a result as JSON values. from_row: the inverse; None for what is to be done again.
    """

    path: Path
    settings: Mapping[str, object]
    to_row: Callable[[Result], dict[str, Any]]
    from_row: Callable[[dict[str, Any]], Result | None]
    done: dict[str, Result] = field(default_factory=dict)

    def open(self) -> None:
        """Read what an earlier run has done, and begin anew where that is not of these settings.

        Files beside the journal that it was writing when it was killed are removed.
        """
        settings = json.loads(json.dumps(self.settings))
        lines = list(complete_lines(self.path))
        before = lines[0] if lines else {}
        remove_unfinished(self.path.parent, self.path.name, before.get("process"))
        rows = {}
        for row in lines[1:] if before.get("settings") == settings else []:
            with contextlib.suppress(KeyError, TypeError):  # of a journal that another version has written
                result = self.from_row(row)
                if result is not None:
                    self.done[row["id"]], rows[row["id"]] = result, row
        write_atomically(self.path, as_lines([{"settings": settings, "process": os.getpid()}, *rows.values()]))

    def add(self, results: Mapping[str, Result]) -> None:
        """Write the results of a piece of work, all at once."""
        self.done.update(results)
        lines = as_lines([{"id": name, **self.to_row(result)} for name, result in results.items()])
        with writing(self.path, len(lines)), self.path.open("ab") as file:
            file.write(lines)

    def close(self) -> None:
        """Remove it: the work is done, and its results are elsewhere."""
        self.path.unlink()


def as_lines(rows: list[Any]) -> bytes:
    """JSON lines."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return text.encode(errors="backslashreplace")  # of names that are no text, which JSON reads back


def complete_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The JSON objects of a file, up to the first line that is not whole."""
    for line in path.read_bytes().splitlines(keepends=True) if path.exists() else []:
        try:
            row = json.loads(line) if line.endswith(b"\n") else None
        except ValueError:
            return
        if not isinstance(row, dict):
            return
        yield row


def content_of(*paths: str) -> list[list[object]]:
    """Tells the files of these names as they are now from others: sizes and times of change. "" is none.

    Raises InputError where one is missing.
    """
    return [[str(Path(path).resolve()), *size_and_time(path)] for path in paths if path]


def size_and_time(path: str) -> tuple[int, int]:
    """Of the last change of a file, nanoseconds; of a directory's newest file."""
    try:
        files = [file for file in Path(path).iterdir() if file.is_file()] if Path(path).is_dir() else [Path(path)]
        stats = [file.stat() for file in files]
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    return sum(stat.st_size for stat in stats), max((stat.st_mtime_ns for stat in stats), default=0)
