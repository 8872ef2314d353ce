"""Float32 where it is needed, whatever the precision around it."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def wide(x: Tensor) -> Tensor:
    """x in float32, or in float64 if it is that."""
    return x if x.dtype == torch.float64 else x.float()


def full_precision(tensor: Tensor) -> AbstractContextManager:
    """A context in which products of `tensor` are computed in its own precision, also under autocast."""
    device = tensor.device.type
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()
