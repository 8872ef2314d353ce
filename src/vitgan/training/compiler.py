"""torch.compile of a step's losses: draws, augmentation, both networks, the loss and its gradient are one piece of code.

It passes over memory less often, and a GPU starts few kernels where a small model has a thousand. What was compiled is
kept in the cache folder: a second run of the same configuration starts sooner.
"""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from vitgan.errors import UserError, one_line
from vitgan.frozen.features import FrozenFeatures
from vitgan.training import randomness

CACHE = "TORCHINDUCTOR_CACHE_DIR"
Result = TypeVar("Result")


def compiled(
    loss: Callable[..., Result], cuda_graphs: bool = False, backend: str = "inductor"
) -> Callable[..., Result]:
    """The same function, compiled at its first call, and once more for a step with other terms.

    Args:
        loss: `Objective.discriminator_loss` or `generator_loss`.
        cuda_graphs: Replay its kernels as CUDA graphs; then each step begins with `cudagraph_mark_step_begin`.
        backend: torch.compile's.
    """
    torch.compiler.assume_constant_result(randomness.stream_key)
    return torch.compile(loss, dynamic=False, backend=backend, mode="reduce-overhead" if cuda_graphs else None)


def leave_out_frozen(network: nn.Module) -> None:
    """Has compiled code call the network's frozen features as they are.

    On a CPU compiled convolutions are slower: a step of `cifar10-tiny-projected` takes 1.4 times as long with them.
    """
    for part in network.modules():
        if isinstance(part, FrozenFeatures):
            part.forward = torch.compiler.disable(part.forward)  # pyright: ignore[reportAttributeAccessIssue]


def check_compiler(device: torch.device, cache: Path) -> None:
    """Refuses to compile where compilers are missing or lack what they need: torch would say so in the first step.

    Args:
        device: For which to compile.
        cache: Where compiled code is kept from now on, unless the user has said where.

    Raises:
        UserError: If a small function cannot be compiled.
    """
    kept = os.environ.get(CACHE, str(cache))
    advice = "install g++ or clang and Python's headers (for CUDA also Triton), or leave out compile"
    try:
        with tempfile.TemporaryDirectory(prefix="vitgan-compile-", ignore_cleanup_errors=True) as empty:
            os.environ[CACHE] = empty
            torch.compile(lambda x: x + 1, dynamic=False)(torch.zeros(8, device=device))
    except (RuntimeError, OSError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        reason = next((line for line in lines if "error:" in line), lines[0])
        raise UserError(f"cannot compile: {one_line(reason)}: {advice}", "training.compile") from error
    finally:
        os.environ[CACHE] = kept
