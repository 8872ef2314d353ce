"""What a user is told: the one exception for a mistake of theirs, the nearest name, and a command to paste."""

import difflib
import shlex
from collections.abc import Iterable

LONGEST_MESSAGE = 2000


def escaped(text: str) -> str:
    """The text without control characters, which a stranger's file may have put there for the terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def one_line(text: str, longest: int = 500) -> str:
    """The text for a message: escaped, and cut."""
    shown = escaped(text)
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


class UserError(Exception):
    """Something the user can mend: a wrong path, value or file.

    The message is one line that says what was wrong, what was expected and what to do. The command line prints it
    without a traceback and ends with exit code 2; library callers may catch it.

    Args:
        message: The line. What a stranger's file has put into it is escaped, and its middle left out if it is very long.
        parameter: The parameter or field to change, as the library calls it ("batch_size", "training.batch_size");
            the command line adds the name of its option.
    """

    def __init__(self, message: str, parameter: str | None = None) -> None:
        shown = escaped(message)
        super().__init__(shown if len(shown) <= LONGEST_MESSAGE else f"{shown[:1500]}…{shown[-499:]}")
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
