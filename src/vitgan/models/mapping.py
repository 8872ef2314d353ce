"""The mapping network z -> w, shared by all generators."""

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitgan.layers.linear import EqualizedLinear
from vitgan.layers.norm import pixel_norm
from vitgan.layers.precision import full_precision


class MappingNetwork(nn.Module):
    """w = MLP(z) (ViTGAN §3.3; StyleGAN2): pixel-normalised latent, fully connected layers, leaky ReLU.

    A conditional model concatenates a normalised class embedding to the normalised latent, as StyleGAN2-ADA does.
    It computes in its weights' precision under autocast too: eight layers in a row would add up bf16's rounding, and
    float32 costs next to nothing here.
    """

    def __init__(
        self,
        z_dim: int,
        w_dim: int,
        num_layers: int,
        lr_multiplier: float = 0.01,
        num_classes: int = 0,
        equalized: bool = True,
    ) -> None:
        super().__init__()
        self.class_embedding = EqualizedLinear(num_classes, w_dim, equalized=equalized) if num_classes else None
        widths = [z_dim + (w_dim if num_classes else 0)] + [w_dim] * num_layers
        self.layers = nn.ModuleList(
            EqualizedLinear(fan_in, fan_out, lr_multiplier=lr_multiplier, equalized=equalized, gain=math.sqrt(2))
            for fan_in, fan_out in itertools.pairwise(widths)
        )

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """z (B, z_dim), labels (B,) int64 for a conditional model -> w (B, w_dim), float32."""
        with full_precision(z):
            return self._forward(z.to(next(self.parameters()).dtype), labels)

    def _forward(self, z: Tensor, labels: Tensor | None) -> Tensor:
        x = pixel_norm(z)
        if self.class_embedding is not None:
            if labels is None:
                raise ValueError("this generator is conditional: pass labels, class indices (B,)")
            one_hot = F.one_hot(labels, self.class_embedding.in_features).to(z.dtype)
            # The layer divides by sqrt(num_classes); pixel norm makes the embedding's scale irrelevant.
            x = torch.cat([x, pixel_norm(self.class_embedding(one_hot))], dim=1)
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
        return x

    @torch.no_grad()
    def first_layer_of(self, other: "MappingNetwork") -> tuple[Tensor, Tensor]:
        """Weight and bias with which the first layer does what another network's does, where one of them has no classes.

        Classes that only the other has become their mean; classes that only this one has make no difference at first.
        """
        mine, theirs = self.layers[0], other.layers[0]
        assert isinstance(mine, EqualizedLinear)
        assert isinstance(theirs, EqualizedLinear)
        weight, bias = theirs.effective_weight(), theirs.effective_bias()
        assert bias is not None
        if other.class_embedding is not None and self.class_embedding is None:
            classes = torch.eye(other.class_embedding.in_features, dtype=weight.dtype, device=weight.device)
            mean = pixel_norm(other.class_embedding(classes)).mean(dim=0)  # (w_dim,)
            weight, of_classes = weight.split([mine.in_features, len(mean)], dim=1)
            bias = bias + of_classes @ mean
        elif other.class_embedding is None:
            weight = F.pad(weight, (0, mine.in_features - theirs.in_features))
        return weight / mine.scale, bias / mine.bias_scale
