"""Attention against the number of tokens: time and memory of one layer, forward and backward, by kind and kernel."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

import torch
import tyro
from tests.reference import naive

from benchmarks import PLAIN_ALLOCATOR
from benchmarks.peak_memory import peak_mib, resident_mib
from benchmarks.players import DTYPES, Precision, precisions
from benchmarks.table import Table, say
from benchmarks.timing import seconds_of
from vitgan.layers.attention import AttentionConfig, AttentionKernel, AttentionKind, SelfAttention

DIM, HEADS = 384, 6
MOST_NAIVE_TOKENS = 256  # its pairwise differences would take 1.6 GB a copy at 1024


@dataclass(frozen=True)
class Layer:
    """One row of the table."""

    kind: AttentionKind
    kernel: AttentionKernel | None
    """None is the naive L2 attention, by pairwise differences."""
    precision: Precision

    @property
    def label(self) -> str:
        return f"{self.kind}, {self.kernel or 'naive'}"

    def run(self, tokens: int) -> Callable[[], object] | None:
        """Forward and backward of one image's tokens, or None if that would need too much memory."""
        if self.kernel is None:
            return _naive(tokens) if tokens <= MOST_NAIVE_TOKENS else None
        layer = SelfAttention(AttentionConfig(DIM, HEADS, self.kind, kernel=self.kernel))
        x = torch.randn(1, tokens, DIM, requires_grad=True)

        def forward_and_backward() -> None:
            with torch.autocast("cpu", torch.bfloat16, enabled=DTYPES[self.precision] == torch.bfloat16):
                y, _ = layer(x)
            y.sum().backward()

        return forward_and_backward


def layers() -> list[Layer]:
    """All rows."""
    kinds: tuple[AttentionKind, ...] = ("l2", "dot")
    kernels: tuple[AttentionKernel, ...] = ("explicit", "fused")
    found = [Layer(kind, kernel, precision) for kind in kinds for kernel in kernels for precision in precisions()]
    return [Layer("l2", None, "float32"), *found]


def measure(tokens: tuple[int, ...] = (64, 256, 1024, 4096)) -> Table:
    """Times each layer, the better of two runs after a first one, and takes its memory in another process.

    Args:
        tokens: Numbers of tokens.
    """
    say(f"tokens: memory of attention at {', '.join(map(str, tokens))} tokens")
    memory = _memory_of_all(tokens)
    table = Table("Attention against tokens", ("layer", "precision", *(f"{n} tokens" for n in tokens), "growth"))
    for layer in layers():
        say(f"tokens: {layer.label}, {layer.precision}")
        peaks = memory.get(f"{layer.label}, {layer.precision}", [None] * len(tokens))
        cells = [_cell(layer.run(n), peak) for n, peak in zip(tokens, peaks, strict=True)]
        table.add(layer.label, layer.precision, *cells, _growth(peaks[-2:]))
    table.remarks.append(
        f"Milliseconds and MiB of forward and backward of one layer, {DIM} wide, {HEADS} heads, one image. Growth is "
        "that of memory over the last step in tokens: where tokens grow fourfold, × 4 is linear, × 16 quadratic."
    )
    return table


def _cell(run: Callable[[], object] | None, peak: float | None) -> str:
    if run is None:
        return "—"
    run()
    milliseconds = min(seconds_of(run), seconds_of(run)) * 1000
    return f"{milliseconds:.1f} ms" + ("" if peak is None else f", {peak:.0f} MiB")


def _growth(peaks: list[float | None]) -> str:
    if len(peaks) < 2 or not peaks[0] or not peaks[1]:
        return "—"
    return f"× {peaks[1] / peaks[0]:.1f}"


def _memory_of_all(tokens: tuple[int, ...]) -> dict[str, list[float | None]]:
    """Peaks in a process whose allocator gives every larger block back at once, so that they are the tensors'."""
    environment = os.environ | {
        "MALLOC_MMAP_THRESHOLD_": "65536",
        "MALLOC_TRIM_THRESHOLD_": "65536",
        PLAIN_ALLOCATOR: "1",
    }
    command = [sys.executable, "-m", "benchmarks.tokens", "--memory", json.dumps(tokens)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {}


def memory_of_all(tokens: tuple[int, ...]) -> dict[str, list[float | None]]:
    """MiB that each layer adds to this process, by label, at each number of tokens."""
    return {f"{layer.label}, {layer.precision}": [_added(layer, n) for n in tokens] for layer in layers()}


def _added(layer: Layer, tokens: int) -> float | None:
    small, run = layer.run(16), layer.run(tokens)
    if run is None or small is None:
        return None
    small()  # so that what the first call alone needs is there already
    before = resident_mib()
    peak = peak_mib(run)
    return None if peak is None or before is None else peak - before


def _naive(tokens: int) -> Callable[[], object]:
    x = torch.randn(1, tokens, DIM, requires_grad=True)
    query, value, out = (torch.randn(DIM, DIM, requires_grad=True) for _ in range(3))

    def run() -> None:
        q, v = naive.split_heads(x @ query, HEADS), naive.split_heads(x @ value, HEADS)
        (naive.join_heads(naive.l2_attention(q, q, v)) @ out).sum().backward()

    return run


if __name__ == "__main__":
    if sys.argv[1:2] == ["--memory"]:
        print(json.dumps(memory_of_all(tuple(json.loads(sys.argv[2])))))
    else:
        print(tyro.cli(measure))
