"""Standard output and error of the command line: whatever becomes of them, no work ends because of it or waits for it."""

import errno
import io
import os
import select
import shutil
import stat
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from typing import Any

from vitgan.errors import UserError

PATIENCE_SECONDS = 5.0
"""How long a reader that does not read holds up the work, once."""
TERMINAL_SIZES = {"COLUMNS": (20, 1000), "LINES": (5, 1000)}
"""What help and bars are laid out for; in narrower terminals their lines are wrapped by the terminal itself."""


class Output(io.FileIO):
    """A standard stream that never fails: what cannot be written, or is not read in time, is dropped.

    Attributes:
        lost: Why the last thing that was dropped could not be written.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self.lost: OSError | None = None
        self._patience = PATIENCE_SECONDS

    def write(self, data: Any, /) -> int:
        left = memoryview(data).cast("B")
        size = len(left)
        try:
            while left:
                left = left[self._write_some(left[: select.PIPE_BUF]) :]
                self._patience = PATIENCE_SECONDS
        except TimeoutError as error:
            self.lost, self._patience = error, 0.0  # the next line waits no more, until something is read again
        except OSError as error:
            self.lost = error
        return size

    def _write_some(self, data: memoryview) -> int:
        deadline = time.monotonic() + self._patience
        while select.select((), (self,), (), max(deadline - time.monotonic(), 0))[1]:
            with suppress(BlockingIOError):
                return os.write(self.fileno(), data)
            time.sleep(0.01)  # another process was quicker
        raise TimeoutError(errno.ETIMEDOUT, "nobody reads it")


def make_output_safe() -> None:
    """Standard streams that can be written to at any time and in any encoding, and a terminal of a size for help."""
    _fit_terminal()
    if os.name != "posix":
        return
    with suppress(OSError):
        while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
            os.set_inheritable(descriptor, True)  # closed at the start: the run's files must not take its place
        os.close(descriptor)
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None or stream is getattr(sys, f"__{name}__"):  # else a test's or a notebook's own
            _never_wait_for(descriptor)
            setattr(sys, name, _text(Output(descriptor), stream))


def check_output() -> None:
    """Refuses to end well where standard output did not take all that was printed; a reader that left had enough."""
    sys.stdout.flush()
    lost = getattr(getattr(sys.stdout, "buffer", None), "lost", None)
    if lost is not None and not isinstance(lost, BrokenPipeError):
        raise UserError(f"what was printed could not be written: {lost.strerror}; let standard output lead elsewhere")


@contextmanager
def wrapped_usage() -> Iterator[None]:
    """Breaks a help's first line, the usage, where the terminal ends; tyro breaks all the others."""
    text, columns = io.StringIO(), shutil.get_terminal_size().columns
    text.isatty = sys.stdout.isatty  # tyro asks it whether to use colours
    try:
        with redirect_stdout(text):
            yield
    finally:
        usage, end, rest = text.getvalue().partition("\n")
        if len(usage) > columns:
            usage = textwrap.fill(usage.replace(",", ", "), columns, subsequent_indent="  ", break_on_hyphens=False)
        print(usage, end=end + rest)


def _text(output: Output, before: io.TextIOWrapper | None) -> io.TextIOWrapper:
    return io.TextIOWrapper(
        output,  # pyright: ignore[reportArgumentType] - a raw stream, so that nothing is kept twice
        before.encoding if before else "utf-8",
        "backslashreplace",
        line_buffering=output.fileno() == 2 or output.isatty(),
    )


def _never_wait_for(descriptor: int) -> None:
    """Opens a pipe or terminal anew so that no writer waits for its reader, libraries in C included.

    The flag belongs to the opened file, which is shared with other programs: hence one of our own.
    """
    if stat.S_ISFIFO(os.fstat(descriptor).st_mode) or os.isatty(descriptor):
        with suppress(OSError):
            own = os.open(f"/dev/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
            os.dup2(own, descriptor)
            os.close(own)


def _fit_terminal() -> None:
    size = shutil.get_terminal_size()
    for (name, (least, most)), found in zip(TERMINAL_SIZES.items(), (size.columns, size.lines), strict=True):
        fitting = min(max(found, least), most)
        if name in os.environ or fitting != found:
            os.environ[name] = str(fitting)
