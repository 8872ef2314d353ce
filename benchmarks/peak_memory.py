"""Peak memory of a piece of work, by the kernel's own count, where there is one (Linux)."""

import gc
from collections.abc import Callable
from pathlib import Path

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def resident_mib() -> float | None:
    """Memory of this process now, in MiB."""
    return _status("VmRSS:")


def peak_mib(work: Callable[[], object]) -> float | None:
    """Most memory that this process had while `work` ran, in MiB; None where the system does not say.

    Not `ru_maxrss`: a child process inherits its parent's.
    """
    gc.collect()
    if not CLEAR.exists():
        work()
        return None
    CLEAR.write_text("5")  # resets the peak to the present
    work()
    return _status("VmHWM:")


def _status(field: str) -> float | None:
    if not STATUS.exists():
        return None
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024
