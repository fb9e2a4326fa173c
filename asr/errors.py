"""What ends work early: input at fault, wholly or in part, and a request to stop."""


class InputError(Exception):
    """Bad input, described in one line that names the thing and the remedy.

    Commands print the message without a stack trace and exit with status 2.
    """


class PartlyDone(Exception):
    """Some of the input was at fault, and has been named; all else is done. Commands exit with status 1."""


class Stopped(KeyboardInterrupt):
    """Work was given up because a signal had asked for it.

    Not an `Exception`, so that what reads data does not take it for damage.
    """
