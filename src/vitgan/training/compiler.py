"""torch.compile of a step's losses: draws, augmentation, both networks, the loss and its gradient are one piece of code.

It passes over memory less often, and a GPU starts few kernels where a small model has a thousand. What was compiled is
kept in the user's cache folder: a second run of the same configuration starts sooner.
"""

import os
from collections.abc import Callable
from typing import TypeVar

import torch

from vitgan.data.download import cache_folder
from vitgan.files import user_error
from vitgan.training import randomness

Result = TypeVar("Result")


def compiled(
    loss: Callable[..., Result], cuda_graphs: bool = False, backend: str = "inductor"
) -> Callable[..., Result]:
    """The same function, compiled at its first call, and once more for a step with other terms.

    Args:
        loss: `Objective.discriminator_loss` or `generator_loss`.
        cuda_graphs: Replay its kernels as CUDA graphs; then each step begins with `cudagraph_mark_step_begin`.
        backend: torch.compile's.

    Raises:
        UserError: If there can be no cache folder.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder() / "compiled"))
    torch.compiler.assume_constant_result(randomness.stream_key)
    return torch.compile(loss, dynamic=False, backend=backend, mode="reduce-overhead" if cuda_graphs else None)


def check_compiler() -> None:
    """Refuses to compile for a CPU where there is no C++ compiler: torch would say so in the first step.

    Raises:
        UserError: If torch finds none.
    """
    from torch._inductor.cpp_builder import get_cpp_compiler  # no public function asks

    advice = "install g++ or clang, or leave out compile"
    with user_error("cannot compile", RuntimeError, advice=advice, parameter="training.compile"):
        get_cpp_compiler()
