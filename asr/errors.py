"""The one exception that means: the input is at fault, not the program."""


class InputError(Exception):
    """Bad input, described in one line that names the thing and the remedy.

    Commands print the message without a stack trace and exit with status 2.
    """
