"""Work in other processes: faster on several processors, and safe where a library may end the process."""

import multiprocessing
import os
import signal
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from typing import Any

LONGEST_TEMPORARY_FOLDER = 64  # of the 104 to 108 bytes of a socket's path, 32 are multiprocessing's
PRELOADED = ["__main__", "vitgan.data.pool"]


class ProcessDied(Exception):
    """A process ended before it gave its result: killed, out of memory, or aborted by a library."""


def start_processes(count: int, start: Callable[..., None] | None = None, *arguments: Any) -> ProcessPoolExecutor:
    """A pool of processes that leave Ctrl-C to this one, and end when it is killed.

    Args:
        count: How many.
        start: Is called with `arguments` in each of them first.
    """
    # Not "fork": PyTorch and progress bars run threads, whose locks a forked process would inherit. The faster
    # "forkserver" listens at a path below the folder of temporary files, and a socket's path is short.
    serves = "forkserver" in multiprocessing.get_all_start_methods()
    short = len(os.fsencode(tempfile.gettempdir())) <= LONGEST_TEMPORARY_FOLDER
    method = "forkserver" if serves and short else "spawn"
    context = multiprocessing.get_context(method)
    context.set_forkserver_preload(PRELOADED)
    return ProcessPoolExecutor(count, context, _start, (start, arguments))


def run_isolated(function: Callable[..., Any], *arguments: Any) -> Any:
    """`function(*arguments)` in a process of its own.

    Raises:
        ProcessDied: The process ended without a result.
        Exception: Whatever the function raises.
    """
    with start_processes(1) as pool:
        try:
            return pool.submit(function, *arguments).result()
        except BrokenProcessPool as error:
            raise ProcessDied from error


def _start(start: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    if start:
        start(*arguments)


def _end_with(parent: int) -> None:
    """A pool's processes otherwise outlive a killed parent."""
    connection.wait([parent])
    os._exit(1)
