"""Benchmarks: `make bench` measures this machine, mostly as ratios, since those survive a machine that others share.

Each file has one subject and runs alone: `python -m benchmarks.step --preset cifar10 --batch 16`.
"""

import os

from vitgan.devices import keep_freed_memory

# Threads that wait by spinning slow every measurement down; set before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
PLAIN_ALLOCATOR = "VITGAN_BENCHMARK_PLAIN_ALLOCATOR"
"""Environment variable for processes that measure what memory a piece of work asks for, which kept memory would hide."""

if PLAIN_ALLOCATOR not in os.environ:
    keep_freed_memory()  # as the command line does
