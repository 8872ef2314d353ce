"""The machine that was measured."""

import os
import platform
from pathlib import Path

import torch
import tyro

from benchmarks.players import DTYPES, precisions
from benchmarks.table import Table
from benchmarks.timing import MatrixProducts


def measure() -> Table:
    """Processor, threads, versions, and rates of matrix products at this moment."""
    table = Table("Machine", ("what", "value"))
    table.add("processor", processor())
    table.add("threads", f"{torch.get_num_threads()} of {os.cpu_count()}")
    if hasattr(os, "getloadavg"):
        table.add("load before", f"{os.getloadavg()[0]:.1f} (above 0.5 something else was running)")
    table.add("torch, Python", f"{torch.__version__}, {platform.python_version()}")
    for precision in precisions():
        products = MatrixProducts(DTYPES[precision])
        rates = sorted(products.flops_per_second() / 1e9 for _ in range(10))
        table.add(f"matrix products, {precision}", f"{rates[5]:.0f} GFLOP/s ({rates[0]:.0f} to {rates[-1]:.0f})")
    return table


def processor() -> str:
    """The processor's name, where the system tells it."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    print(tyro.cli(measure))
