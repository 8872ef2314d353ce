"""Some of D's tokens beside the maps of a frozen network, so that D learns what things are (REPA's idea, GAT's option)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitgan.frozen.features import FrozenFeatures
from vitgan.layers.linear import EqualizedLinear


class Alignment(nn.Module):
    """A small learned projection of tokens, and what it is to give: the frozen maps at the tokens' places.

    Two layers with SiLU; of all maps the channels side by side.
    """

    def __init__(self, features: FrozenFeatures, dim: int, grid_size: int, equalized: bool = True) -> None:
        super().__init__()
        self.features, self.grid_size = features, grid_size
        self.hidden = EqualizedLinear(dim, dim, equalized=equalized)
        self.out = EqualizedLinear(dim, sum(features.channels), equalized=equalized)

    def forward(self, tokens: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (B, L, dim) of images (B, C, H, W) in [-1, 1] -> what they give, and what they should: (B, L, F) each."""
        return self.out(F.silu(self.hidden(tokens))), self.target(images)  # (B, L, F) twice

    @torch.no_grad()
    def target(self, images: Tensor) -> Tensor:
        """The frozen maps of images (B, C, H, W), resized to the grid: (B, L, F)."""
        size = self.grid_size
        maps = [
            F.adaptive_avg_pool2d(x, size) if x.shape[2] > size else F.interpolate(x, (size, size), mode="bilinear")
            for x in self.features(images)
        ]
        return torch.cat(maps, dim=1).flatten(2).transpose(1, 2)
