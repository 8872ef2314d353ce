"""Memory that is kept, convolutions in true float32, and what a program has set."""

import platform
import subprocess
import sys

import pytest
import torch

from vitgan.devices import true_convolutions, usual_torch

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


def test_convolutions_are_float32_meanwhile_and_the_callers_settings_come_back() -> None:
    cudnn = torch.backends.cudnn
    before = cudnn.allow_tf32, cudnn.benchmark
    with true_convolutions(torch.device("cpu"), tuned=True):
        assert (cudnn.allow_tf32, cudnn.benchmark) == before
    with true_convolutions(torch.device("cuda"), tuned=True):
        assert (cudnn.allow_tf32, cudnn.benchmark) == (False, True)
        with true_convolutions(torch.device("cuda")):
            assert not cudnn.benchmark
        assert cudnn.benchmark
    assert (cudnn.allow_tf32, cudnn.benchmark) == before


def test_what_a_program_has_set_does_not_matter_meanwhile_and_comes_back() -> None:
    def settings() -> tuple[object, ...]:
        flags = torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")
        return torch.get_default_dtype(), torch.get_default_device().type, *flags

    usual, odd = (torch.float32, "cpu", True, False, False), (torch.float64, "meta", False, True, True)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"), torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
            assert settings() == odd
            with usual_torch():
                assert settings() == usual
            assert settings() == odd
    finally:
        torch.set_default_dtype(torch.float32)
