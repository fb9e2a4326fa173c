"""The console: messages whose reader may go, and take no work with it; and text of which a terminal obeys nothing."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any, TextIO, cast

# What a terminal obeys, or what turns the line around; and halves of characters, which nothing can print. Not the
# carriage return that a write begins or ends with: so progress bars begin anew.
CONTROLS = re.compile(r"(?!\A\r|\r\Z)[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    """The text with what is no text in it written out, as `\\x1b`: it may be anybody's transcript, or a file's name."""
    return CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text) if not text.isprintable() else text


def table(cells: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table, its head first, in columns that line up."""
    cells = [[visible(cell).replace("\n", " ").replace("|", "\\|") for cell in row] for row in cells]
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in cells]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]


class Visible:
    """A text stream that shows, and does not obey, what is written to it."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write what is visible."""
        self.stream.write(visible(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class VisibleLines(logging.Formatter):
    """Log records that are a line each, whatever is in them; tracebacks are what they are."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        return visible(super().formatMessage(record).replace("\n", "\\n"))


class Lasting(Visible):
    """A text stream on which writing never fails; what nobody can read any more is lost."""

    def write(self, text: str) -> int:
        """Write, where there is a reader."""
        with contextlib.suppress(OSError, ValueError):  # ValueError: closed
            super().write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, where there is a reader."""
        with contextlib.suppress(OSError, ValueError):
            self.stream.flush()


@contextlib.contextmanager
def lasting_stderr() -> Iterator[None]:
    """While the block runs, messages on stderr end nothing: not when the reader of a pipe goes (`2>&1 | tee log` and
    Ctrl-C), not when the terminal is closed, and not where there is no stderr."""
    before = sys.stderr
    with of_its_own(before or io.StringIO()) as stream:
        sys.stderr = cast(TextIO, Lasting(stream))
        try:
            yield
        finally:
            sys.stderr.flush()
            sys.stderr = before


@contextlib.contextmanager
def of_its_own(stream: TextIO) -> Iterator[TextIO]:
    """The same console by another descriptor: the first is silenced while libraries decode audio, maybe for ever."""
    try:
        descriptor = os.dup(2) if stream.fileno() == 2 else -1
    except (OSError, ValueError):  # it is no file, as in a notebook
        descriptor = -1
    if descriptor < 0:
        yield stream
        return
    with contextlib.suppress(OSError), open(descriptor, "w", 1, encoding=stream.encoding, errors=stream.errors) as own:
        yield own


@contextlib.contextmanager
def visible_stdout() -> Iterator[None]:
    """While the block runs, a terminal obeys nothing that is printed; what goes elsewhere stays as it is."""
    before = sys.stdout
    if before is not None and before.isatty():
        sys.stdout = cast(TextIO, Visible(before))
    try:
        yield
    finally:
        sys.stdout = before
