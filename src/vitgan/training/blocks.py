"""Options for the repeated blocks of both networks, which do most of the work: recompute activations, compile."""

from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint

from vitgan.files import user_error


def repeated_blocks(*networks: nn.Module) -> list[nn.Module]:
    """The blocks of the networks, in order: what their lists named `blocks` hold."""
    return [block for network in networks for block in getattr(network, "blocks", ())]


def checkpoint_activations(blocks: list[nn.Module]) -> None:
    """Keeps only each block's inputs for the backward pass; what lies between is computed again there.

    Exact: the same numbers, also under second derivatives. No block draws anything at random itself.
    """
    for block in blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)


def compile_blocks(blocks: list[nn.Module], cuda_graphs: bool = False, backend: str = "inductor") -> None:
    """Compiles each block in place at its first use, by torch.compile; names and state stay as they are.

    Args:
        blocks: The modules.
        cuda_graphs: Replay a block's kernels as one CUDA graph; then each step begins with `cudagraph_mark_step_begin`.
        backend: torch.compile's.
    """
    for block in blocks:
        block.compile(dynamic=False, backend=backend, mode="reduce-overhead" if cuda_graphs else None)


def check_compiler() -> None:
    """Refuses to compile for a CPU where there is no C++ compiler: torch would say so in the first step.

    Raises:
        UserError: If torch finds none.
    """
    from torch._inductor.cpp_builder import get_cpp_compiler  # no public function asks

    advice = "install g++ or clang, or leave out compile"
    with user_error("cannot compile", RuntimeError, advice=advice, parameter="training.compile"):
        get_cpp_compiler()
