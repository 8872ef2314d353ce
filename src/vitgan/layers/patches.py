"""From images to tokens and back: overlapping patches, un-patching."""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from vitgan.layers.linear import EqualizedLinear
from vitgan.layers.spectral import WeightNorm


class OverlappingPatchEmbedding(nn.Module):
    """Linear embedding of patches that reach `overlap` pixels beyond their own borders (ViTGAN §3.2).

    Each effective patch is (P + 2o)×(P + 2o) pixels, taken every P pixels from the zero-padded image, so that the number
    of tokens L = (H/P)(W/P) does not depend on o. Overlap 0 is the ViT's own patch embedding.
    """

    def __init__(
        self,
        channels: int,
        patch_size: int,
        overlap: int,
        dim: int,
        weight_norm: WeightNorm = "none",
        equalized: bool = True,
    ) -> None:
        super().__init__()
        self.channels, self.patch_size, self.overlap = channels, patch_size, overlap
        self.kernel_size = patch_size + 2 * overlap
        self.linear = EqualizedLinear(channels * self.kernel_size**2, dim, weight_norm=weight_norm, equalized=equalized)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, L, dim), tokens in row-major order."""
        kernel = self.linear.effective_weight().unflatten(1, (self.channels, self.kernel_size, self.kernel_size))
        tokens = F.conv2d(images, kernel, self.linear.effective_bias(), self.patch_size, self.overlap)
        return tokens.flatten(2).transpose(1, 2)


def fine_detail(images: Tensor) -> Tensor:
    """Images minus their 1-2-1 blur in both directions, in their own precision: (B, C, H, W) -> (B, C, H, W).

    Outside the image its border is repeated, so that a flat image has none.
    """
    x = F.pad(images, (1, 1, 1, 1), mode="replicate")
    rows = x[:, :, :-2] + 2 * x[:, :, 1:-1] + x[:, :, 2:]
    return images - (rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:]) / 16


def unpatch(patches: Tensor, grid_size: int) -> Tensor:
    """Puts patches next to each other: (B, L, P², C) -> (B, C, H, W), with H = W = grid_size · P."""
    batch, _, pixels, channels = patches.shape
    patch_size = math.isqrt(pixels)
    x = patches.view(batch, grid_size, grid_size, patch_size, patch_size, channels)
    x = x.permute(0, 5, 1, 3, 2, 4)  # (B, C, rows, P, columns, P)
    return x.reshape(batch, channels, grid_size * patch_size, grid_size * patch_size)
