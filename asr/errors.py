"""The one exception that means: the input is at fault, not the program."""

from __future__ import annotations


class InputError(Exception):
    """Bad input, described in one line that names the thing and the remedy.

    Commands print the message without a stack trace and exit with status 2.
    """


def not_installed(what: str, extra: str) -> InputError:
    """The error for `what` needs a package that is missing, and comes with an extra of pyproject.toml."""
    return InputError(f"{what} is not installed: pip install '.[{extra}]' in the directory of asr-transducer")
