"""What a test asserts of an error: its class, the parameter, what it names and what it comes from. No wording."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from vitgan.errors import UserError


@contextmanager
def refused(
    *named: object,
    parameter: str | None = None,
    cause: type | int | None = None,
    kind: type[Exception] = UserError,
) -> Iterator[None]:
    """Expects an error of one line, see `check_refusal`; of a class, UserError if not told otherwise."""
    with pytest.raises(kind) as caught:
        yield
    check_refusal(caught.value, *named, parameter=parameter, cause=cause)


def check_refusal(
    error: Exception,
    *named: object,
    parameter: str | None = None,
    cause: type | int | None = None,
) -> None:
    """Checks an error for the user.

    Args:
        error: A UserError, or what stands in its place before it has reached one.
        named: Files, names and numbers that its line has, each as words of their own.
        parameter: What it says is to be changed; None if no parameter is at fault.
        cause: Class of the exception that it was made of (NoneType for a check of our own), or number of the OSError; None
            if that is no matter.
    """
    line = str(error)
    assert line, "an error without a word"
    assert "\n" not in line, line
    for value in map(str, named):
        assert re.search(rf"(?<!\w){re.escape(value)}(?!\w)", line), f"{value!r} is not named: {line}"
    assert getattr(error, "parameter", None) == parameter, line
    if isinstance(cause, int):
        assert getattr(error.__cause__, "errno", None) == cause, repr(error.__cause__)
    elif cause is not None:
        assert isinstance(error.__cause__, cause), repr(error.__cause__)
