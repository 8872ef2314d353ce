"""Seeded inputs and weights for tests."""

from typing import TypeVar

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Standard normal numbers, the same for the same arguments."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@torch.no_grad()
def perturb(module: Module, seed: int = 1, size: float = 0.3) -> Module:
    """Adds noise to every parameter, so that none keeps the neutral value (0 or 1) that it may start from."""
    rng = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter += size * torch.randn(parameter.shape, generator=rng, dtype=torch.float64).to(parameter.dtype)
    return module
