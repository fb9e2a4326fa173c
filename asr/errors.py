"""What ends work early: input at fault, wholly or in part, and a request to stop."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator


class InputError(Exception):
    """Bad input, described in one line that names the thing and the remedy.

    Commands print the message without a stack trace and exit with status 2.
    """


@contextlib.contextmanager
def naming(name: str) -> Iterator[None]:
    """Within this, an InputError that does not name this thing does."""
    try:
        yield
    except InputError as error:
        raise error if name in str(error) else InputError(f"{name}: {error}") from error


class PartlyDone(Exception):
    """Some of the input was at fault, and has been named; all else is done. Commands exit with status 1."""


def not_installed(what: str, extra: str) -> InputError:
    """The error for `what` needs a package that is missing, and comes with an extra of pyproject.toml."""
    return InputError(f"{what} is not installed: pip install '.[{extra}]' in the directory of asr-transducer")


class Stopped(KeyboardInterrupt):
    """Work was given up because a signal had asked for it. number: the signal's.

    Not an `Exception`, so that what reads data does not take it for damage.
    """

    def __init__(self, message: str = "", number: int = signal.SIGINT) -> None:
        super().__init__(*[message] * bool(message))
        self.number = number
