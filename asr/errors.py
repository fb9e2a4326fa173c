"""The exceptions that mean: the input is at fault, not the program."""


class InputError(Exception):
    """Bad input, described in one line that names the thing and the remedy.

    Commands print the message without a stack trace and exit with status 2.
    """


class PartlyDone(Exception):
    """Some of the input was at fault, and has been named; all else is done. Commands exit with status 1."""
