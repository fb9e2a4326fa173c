"""The console: messages whose reader may go, and take no work with it."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast


class Lasting:
    """A text stream on which writing never fails; what nobody can read any more is lost."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write, where there is a reader."""
        with contextlib.suppress(OSError, ValueError):  # ValueError: closed
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, where there is a reader."""
        with contextlib.suppress(OSError, ValueError):
            self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


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
    with contextlib.suppress(OSError), open(descriptor, "w", 1, stream.encoding, stream.errors) as own:
        yield own
