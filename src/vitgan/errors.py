"""What a user is told: the one exception for a mistake of theirs, the nearest name, and a command to paste."""

import difflib
import shlex
from collections.abc import Iterable


class UserError(Exception):
    """Something the user can mend: a wrong path, value or file.

    The message is one line that says what was wrong, what was expected and what to do. The command line prints it
    without a traceback and ends with exit code 2; library callers may catch it.

    Args:
        message: The line.
        parameter: The parameter or field to change, as the library calls it ("batch_size", "training.batch_size");
            the command line adds the name of its option.
    """

    def __init__(self, message: str, parameter: str | None = None) -> None:
        super().__init__(message)
        self.parameter = parameter


class ProcessError(UserError):
    """What only one of several processes of a run knows, so that it says it itself."""


def similar(name: str, names: Iterable[str]) -> list[str]:
    """At most two of the dotted names: those with the same last part, else the nearest."""
    names = list(names)
    same = [other for other in names if other.rpartition(".")[2] == name.rpartition(".")[2]]
    return (same or difflib.get_close_matches(name, names, n=2, cutoff=0.5))[:2]


def nearest(name: str, names: Iterable[str]) -> str:
    """ "did you mean 'train'? choose one of data, train": what a message says of a name that is none of these."""
    names = list(names)
    near = difflib.get_close_matches(name, names, n=1)
    return f"{f'did you mean {near[0]!r}? ' if near else ''}choose one of {', '.join(names)}"


def shell(*words: object) -> str:
    """The words of a command, quoted where a shell would split or read them."""
    return shlex.join(map(str, words))


def command(*words: object) -> str:
    """ "vitgan train --resume 'my runs/00000-quickstart'": one of ours."""
    return shell("vitgan", *words)
