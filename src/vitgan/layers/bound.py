"""Images that end inside [-1, 1], from a G that can come back from there."""

from typing import Any

import torch
from torch import Tensor, nn

WAY_BACK = 0.03
"""Least slope for gradients that lead back into the range. Without it a G whose images are all black or all white gets no
gradient, and stays so. With 0.2 grounds are grey: noise is let in, and not out (docs/results/images.md)."""


class Bound(nn.Module):
    """tanh, as DCGAN's generator ends in it (Radford et al. 2016); deviates: its gradient does not vanish on the way back.

    Where a step against the gradient would lower |x|, the slope counts as at least `WAY_BACK`.
    """

    def forward(self, x: Tensor) -> Tensor:
        """x of any shape -> the same shape and type, in (-1, 1)."""
        return _Bound.apply(x) if torch.is_grad_enabled() else x.tanh()


class _Bound(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.tanh()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        slope = 1 - y * y
        return grad * torch.where(grad * y > 0, slope.clamp(min=WAY_BACK), slope)
