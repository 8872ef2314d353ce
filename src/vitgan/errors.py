"""The one exception that stands for a mistake of the user's, not of the program's."""


class UserError(Exception):
    """Something the user can mend: a wrong path, value or file.

    The message is one line that says what was wrong, what was expected and what to do. The command line prints it
    without a traceback and ends with exit code 2; library callers may catch it.
    """


class ProcessError(UserError):
    """What only one of several processes of a run knows, so that it says it itself."""
