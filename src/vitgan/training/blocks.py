"""The repeated blocks of both networks, which hold most of the memory: their activations can be recomputed."""

from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint


def repeated_blocks(*networks: nn.Module) -> list[nn.Module]:
    """The blocks of the networks, in order: what their lists named `blocks` hold."""
    return [block for network in networks for block in getattr(network, "blocks", ())]


def checkpoint_activations(blocks: list[nn.Module]) -> None:
    """Keeps only each block's inputs for the backward pass; what lies between is computed again there.

    Exact: the same numbers, also under second derivatives. No block draws anything at random itself.
    """
    for block in blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)
