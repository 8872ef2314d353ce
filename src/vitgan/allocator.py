"""How the C library hands out memory: kept between steps rather than given back and mapped anew.

glibc maps every large tensor from the system and unmaps it when it is freed, so that each operator first waits for the
pages of its output to be zeroed. Told to keep them, a training step at the paper's size and batch 16 gained 4 to 8 points
of the matrix rate on two CPU cores (docs/performance.md), and needed 2% more memory.
"""

import ctypes
import platform
from contextlib import suppress

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4

_kept = False


def keep_freed_memory() -> bool:
    """Asks glibc to keep freed memory for the next tensors; whether it agreed (False on other systems: nothing changes)."""
    global _kept
    if platform.libc_ver()[0] != "glibc":
        return False
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        options = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 64 << 20))
        _kept = all(mallopt(option, value) == 1 for option, value in options)
    return _kept


def keeps_freed_memory() -> bool:
    """Whether this process has asked for that."""
    return _kept
