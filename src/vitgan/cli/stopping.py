"""Signals that ask a run to end: noted here, acted upon between two steps."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ONE_WISH_SECONDS = 1.0
"""Under torchrun a Ctrl-C reaches a process twice, from the terminal and from the launcher."""


@contextmanager
def stop_on_signal() -> Iterator[list[int]]:
    """Collects SIGINT, SIGTERM and SIGHUP (a closed terminal; not under nohup) instead of dying of them.

    The one exception is a Ctrl-C a second or more after the first signal: it ends the process at once.
    """
    received: list[int] = []
    first = 0.0

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal first
        if not received:
            first = time.monotonic()
        elif number == signal.SIGINT and time.monotonic() - first > ONE_WISH_SECONDS:
            os._exit(128 + number)
        received.append(number)

    numbers = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, on_signal) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
