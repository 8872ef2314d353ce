"""Where and how to compute: devices by name, the precision that a processor computes well with, memory that is kept.

Imports no torch before it is needed: names are checked before that.
"""

import ctypes
import platform
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Literal

from vitgan.errors import UserError

if TYPE_CHECKING:
    import torch

ALLOCATION_FAILED = re.compile(r"DefaultCPUAllocator|out of memory|ALLOC_FAILED", re.IGNORECASE)
"""What torch says where an allocation failed: on a CPU, on a GPU, or inside a library."""
NAME = re.compile(r"auto|(cpu|mps)|(cuda|xpu)(:\d{1,3})?", re.ASCII)
Precision = Literal["auto", "float32", "bf16"]
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4

_kept = False


def check_device_name(name: str) -> str:
    """Refuses what names no place to compute ("meta"); imports no torch, gives the name back.

    Raises:
        UserError: If it is none.
    """
    if not NAME.fullmatch(name):
        raise UserError(f"the device {name} cannot be used here: choose auto, cpu, cuda, cuda:1 or mps", "device")
    return name


def find_device(name: str) -> "torch.device":
    """The device of this name; "auto" is CUDA where there is one, else the CPU.

    Raises:
        UserError: If it is none, or is not here.
    """
    import torch

    if check_device_name(name) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0].partition(". ")[0] if str(error) else type(error).__name__
        raise UserError(f"the device {name} cannot be used here ({reason}): choose auto or cpu", "device") from error


def choose_precision(wanted: Precision, cpu: bool) -> Literal["no", "bf16"]:
    """accelerate's name of the precision to compute in.

    Raises:
        UserError: If bf16 is wanted on a device that cannot autocast to it.
    """
    import torch

    if wanted == "float32":
        return "no"
    if wanted == "bf16":
        if not cpu and torch.backends.mps.is_available():
            raise UserError("bf16 is not supported on this device: use float32", "training.precision")
        return "bf16"
    return "bf16" if computes_bf16(cpu) else "no"


def computes_bf16(cpu: bool) -> bool:
    """Whether bf16 products run in hardware (and so faster than float32)."""
    import torch

    if not cpu and torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if not cpu and torch.backends.mps.is_available():
        return False
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


@contextmanager
def usual_torch() -> "Iterator[None]":
    """torch as a new process has it: float32, the CPU where no device is named, gradients, no autocast.

    What the caller's program has set would else change what is computed, or stop it somewhere inside. It is set again after.
    """
    import torch

    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    with ExitStack() as stack:
        stack.callback(torch.set_default_dtype, dtype)
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        if torch.get_default_device().type != "cpu":  # a default that is set slows every call down
            stack.enter_context(torch.device("cpu"))
        for kind in filter(torch.is_autocast_enabled, ("cpu", "cuda", "xpu", "mps")):
            stack.enter_context(torch.autocast(kind, enabled=False))
        yield


@contextmanager
def true_convolutions(device: "torch.device", tuned: bool = False) -> "Iterator[None]":
    """Convolutions in true float32: on CUDA they round to ten bits (TF32) by default. Matrix products do not.

    Args:
        device: Where they run; nothing is changed for other devices than CUDA.
        tuned: Time cuDNN's algorithms at each new size and take the fastest.
    """
    if device.type != "cuda":
        yield
        return
    import torch

    cudnn = torch.backends.cudnn
    before = cudnn.allow_tf32, cudnn.benchmark
    cudnn.allow_tf32, cudnn.benchmark = False, tuned
    try:
        yield
    finally:
        cudnn.allow_tf32, cudnn.benchmark = before


def keep_freed_memory() -> bool:
    """Asks glibc to keep freed memory for the next tensors; whether it agreed (False on other systems: nothing changes).

    glibc maps every large tensor from the system and unmaps it when it is freed, so that each operator first waits for
    the pages of its output to be zeroed (docs/performance.md has what this gains).
    """
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


def lacks_memory(error: BaseException) -> bool:
    """Whether an allocation failed."""
    failed = isinstance(error, RuntimeError) and ALLOCATION_FAILED.search(str(error)) is not None
    return failed or isinstance(error, MemoryError)
