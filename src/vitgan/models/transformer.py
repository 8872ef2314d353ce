"""What the ViT generator and the ViT discriminator share: the sizes and kinds of their blocks."""

from typing import Any

from pydantic import Field

from vitgan.errors import UserError
from vitgan.layers.attention import AttentionConfig, AttentionKernel, SelfAttention
from vitgan.layers.mlp import MlpKind, hidden_width
from vitgan.layers.norm import Normalization
from vitgan.schema import Config


class TransformerConfig(Config):
    """Sizes of a ViT. The defaults are the paper's at 32×32."""

    dim: int = Field(default=384, ge=1)
    """Width of a token."""
    depth: int = Field(default=4, ge=1)
    """Number of transformer blocks."""
    num_heads: int = Field(default=6, ge=1)
    mlp_ratio: float = Field(default=4.0, gt=0, allow_inf_nan=False)
    """Width of the MLP's hidden layer divided by `dim`."""
    patch_size: int = Field(default=4, ge=1)
    rotary: bool = False
    """Also use rotary positions in attention (GAT's); D's class token has no place and is not rotated."""
    position_frequency: float = Field(default=1.0, gt=0)
    """Initial standard deviation of the learned sines' frequencies, in radians per unit of [-1, 1]. With larger
    frequencies neighbouring tokens start unrelated, and G draws noise for hours (docs/results/recipes.md)."""
    equalized_lr: bool = True
    """Equalised learning rate in all linear layers."""
    normalization: Normalization = "layer"
    """LayerNorm (the paper's) or RMSNorm (GAT's)."""
    mlp: MlpKind = "gelu"
    """GELU MLP (the paper's) or SwiGLU (GAT's)."""
    qk_norm: bool = False
    """RMSNorm of each head's query and key (GAT's)."""
    key_bias: bool = False
    """Keys of attention have a bias (GAT's)."""
    attention_init: float = Field(default=1.0, gt=0)
    """Factor of the initial weights of query, key and value; GAT's is 0.707 (Xavier's for the three together)."""
    attention_kernel: AttentionKernel = "auto"
    """Explicit products, torch's fused kernel, or auto: the faster one for the number of tokens."""

    def self_attention(self, **others: Any) -> SelfAttention:
        """An attention layer of these sizes; `others` are what only one of the networks chooses."""
        return SelfAttention(
            AttentionConfig(
                self.dim,
                self.num_heads,
                equalized=self.equalized_lr,
                qk_norm=self.qk_norm,
                key_bias=self.key_bias,
                initial_factor=self.attention_init,
                rotary=self.rotary,
                kernel=self.attention_kernel,
                **others,
            )
        )

    def check(self, name: str, resolution: int) -> None:
        """Refuses sizes that do not fit each other or the images.

        Raises:
            UserError: If the patch does not divide the resolution, or the heads the width, a head cannot be rotated, or the
                MLP has no width.
        """
        if resolution % self.patch_size:
            raise UserError(
                f"{name}.patch_size {self.patch_size} does not divide the resolution {resolution}: "
                f"choose one of {', '.join(str(p) for p in range(1, resolution + 1) if resolution % p == 0)}"
            )
        if self.dim % self.num_heads:
            raise UserError(
                f"{name}.num_heads {self.num_heads} does not divide {name}.dim {self.dim}: choose a number that does"
            )
        if self.rotary and self.dim // self.num_heads % 4:
            raise UserError(
                f"{name}.rotary turns pairs of channels in two directions, so {name}.dim / {name}.num_heads must be a "
                f"multiple of 4, and is {self.dim // self.num_heads}: change one of the two"
            )
        if hidden_width(self.dim, self.mlp_ratio, self.mlp) < 1:
            raise UserError(
                f"{name}.mlp_ratio {self.mlp_ratio:g} leaves the MLP of {name}.dim {self.dim} no hidden layer: raise one"
            )
