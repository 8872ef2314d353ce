"""Freed memory stays with the process where the C library is glibc."""

import platform
import subprocess
import sys

import pytest

PAGES = """
import resource, sys, torch
from vitgan.devices import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
for _ in range(10):
    torch.zeros(16 << 20)  # 64 MiB, first allocations not counted
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.zeros(16 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_large_tensors_come_without_new_pages() -> None:
    """Without it each of the twenty brings its pages anew (in whichever size the system maps them)."""
    faults = {
        how: int(subprocess.run([sys.executable, "-c", PAGES, how], capture_output=True, text=True, check=True).stdout)
        for how in ("keep", "leave")
    }
    assert faults["keep"] < faults["leave"] / 4
