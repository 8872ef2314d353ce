"""Self-attention: the dot product of the ViT, and the L2 distance with tied projections of the ViTGAN discriminator.

L2 attention (Kim et al. 2021; ViTGAN §3.2) replaces the similarity by a negative squared distance and ties W_q = W_k:

    softmax(-||x_i W_q - x_j W_k||² / sqrt(d_h)) X W_v.

||q_i||² is constant along a row of the softmax, so

    softmax_j(-||q_i - k_j||² / s) = softmax_j((2 q_i·k_j - ||k_j||²) / s),

a dot product with a bias on the keys: no pairwise difference is ever formed. Distances do not change when all tokens shift
together, so the tokens' mean is subtracted first, which keeps 2 q·k - ||k||² from cancelling in low precision.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitgan.layers.linear import EqualizedConv2d, EqualizedLinear
from vitgan.layers.precision import full_precision
from vitgan.layers.spectral import WeightNorm

AttentionKind = Literal["l2", "dot"]
AttentionKernel = Literal["auto", "explicit", "fused"]

FUSED_FROM_TOKENS = 512
"""From here on "auto" takes the fused kernel: measured on a CPU, the explicit products are faster up to 257 tokens."""


class SelfAttention(nn.Module):
    """Multi-head self-attention over tokens, (B, N, dim) -> (B, N, dim).

    With `kind="dot"` this is the ViT's; with `kind="l2"` query and key are one projection and the similarity is the
    negative squared distance. With `convolutional_projection` the projections are 3×3 convolutions over the token map
    (ViTGAN §3.2, v2): the class token, which has no place in the map, goes through the kernel's centre, as a map of one
    token with zero padding does.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        kind: AttentionKind = "dot",
        weight_norm: WeightNorm = "none",
        equalized: bool = True,
        convolutional_projection: bool = False,
        num_prefix_tokens: int = 0,
        qk_norm: bool = False,
        kernel: AttentionKernel = "auto",
    ) -> None:
        """Builds the projections.

        Args:
            dim: Width of a token; a multiple of `num_heads`.
            num_heads: Number of attention heads.
            kind: "dot" or "l2".
            weight_norm: Spectral normalisation of every projection.
            equalized: Equalised learning rate.
            convolutional_projection: Project by 3×3 convolutions over the square token map.
            num_prefix_tokens: Tokens before the map (the class token), needed by the convolutions only.
            qk_norm: Divide each head's query and key by their root mean square, with a learned scale (Henry et al. 2020;
                R3GAN's and GAT's way to keep the scores bounded).
            kernel: "explicit" multiplies out the N×N weights and can be differentiated twice; "fused" never stores them,
                but has no second derivative; "auto" chooses by the number of tokens.
        """
        super().__init__()
        self.num_heads, self.kind, self.num_prefix_tokens, self.kernel = num_heads, kind, num_prefix_tokens, kernel
        self.convolutional_projection = convolutional_projection
        # [choice] Independent normalised tokens are 2 d_h apart (squared) under a projection of gain 1, so that every
        # token would attend to itself alone, exp(2 sqrt(d_h)) times as much as to another. This gain makes it exp(2).
        gains = {"qk": (dim // num_heads) ** -0.25, "v": 1.0} if kind == "l2" else {"q": 1.0, "k": 1.0, "v": 1.0}

        def projection(gain: float, bias: bool) -> nn.Module:
            options = {"bias": bias, "gain": gain, "equalized": equalized, "weight_norm": weight_norm}
            if convolutional_projection:
                return EqualizedConv2d(dim, dim, 3, padding=1, **options)
            return EqualizedLinear(dim, dim, **options)

        # A bias of all keys changes nothing: it cancels in the distances, and adds the same to each score of a softmax.
        self.projections = nn.ModuleDict(
            {name: projection(gain, name not in ("k", "qk")) for name, gain in gains.items()}
        )
        head_dim = dim // num_heads
        self.q_norm = nn.RMSNorm(head_dim, eps=1e-6) if qk_norm else None
        self.k_norm = (self.q_norm if kind == "l2" else nn.RMSNorm(head_dim, eps=1e-6)) if qk_norm else None
        self.out = EqualizedLinear(dim, dim, equalized=equalized, weight_norm=weight_norm)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, dim) -> (B, N, dim)."""
        q, k, v = self.project(x)
        if self.kernel == "fused" or (self.kernel == "auto" and x.shape[1] >= FUSED_FROM_TOKENS):
            y = fused_l2_attention(q, v) if self.kind == "l2" else F.scaled_dot_product_attention(q, k, v)
        else:
            y = torch.matmul(self.weights(q, k).to(v.dtype), v)  # (B, heads, N, d_h)
        return self.out(y.transpose(1, 2).flatten(2))

    def attention_map(self, x: Tensor) -> Tensor:
        """What each token attends to: (B, N, dim) -> (B, heads, N, N), float32 or wider, rows sum to 1."""
        q, k, _ = self.project(x)
        return self.weights(q, k)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, N, dim) -> query, key, value, each (B, heads, N, d_h)."""
        if self.convolutional_projection:
            projected = [self._convolve(layer, x) for layer in self.projections.values()]
        else:
            projected = [layer(x) for layer in self.projections.values()]
        heads = [p.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for p in projected]
        q, k, v = (heads[0], heads[0], heads[1]) if self.kind == "l2" else (heads[0], heads[1], heads[2])
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q).to(v.dtype), self.k_norm(k).to(v.dtype)
        return q, k, v

    def weights(self, q: Tensor, k: Tensor) -> Tensor:
        """Attention weights (B, heads, N, N), float32 or wider, from query and key (B, heads, N, d_h)."""
        return l2_attention_weights(q) if self.kind == "l2" else dot_attention_weights(q, k)

    def _convolve(self, layer: nn.Module, x: Tensor) -> Tensor:
        prefix, tokens = x.split([self.num_prefix_tokens, x.shape[1] - self.num_prefix_tokens], dim=1)
        size = math.isqrt(tokens.shape[1])
        out = layer(tokens.transpose(1, 2).unflatten(2, (size, size))).flatten(2).transpose(1, 2)
        if self.num_prefix_tokens:
            alone = prefix.flatten(0, 1)[..., None, None]  # each prefix token as a 1×1 map
            out = torch.cat([layer(alone).flatten(1).unflatten(0, prefix.shape[:2]), out], dim=1)
        return out

    def extra_repr(self) -> str:
        return f"kind={self.kind!r}, num_heads={self.num_heads}"


def dot_attention_weights(q: Tensor, k: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d_h)): (B, heads, N, d_h) twice -> (B, heads, N, N), float32 or wider."""
    scores = torch.matmul(q * (1 / math.sqrt(q.shape[-1])), k.transpose(-2, -1))
    return (scores if scores.dtype == torch.float64 else scores.float()).softmax(dim=-1)


def l2_attention_weights(qk: Tensor) -> Tensor:
    """softmax(-||q_i - q_j||² / sqrt(d_h)): tied query and key (B, heads, N, d_h) -> (B, heads, N, N), float32 or wider.

    Scores are kept in float32 also under autocast: the two terms are large and nearly equal for distant tokens.
    """
    with full_precision(qk):
        x = qk if qk.dtype == torch.float64 else qk.float()
        x = (x - x.mean(dim=-2, keepdim=True)).flatten(0, 1)  # (B·heads, N, d_h)
        scale = 1 / math.sqrt(x.shape[-1])
        bias = (x.square().sum(-1) * -scale).unsqueeze(1)  # (B·heads, 1, N)
        scores = torch.baddbmm(bias, x, x.transpose(1, 2), alpha=2 * scale)
        return scores.softmax(dim=-1).unflatten(0, qk.shape[:2])


def fused_l2_attention(qk: Tensor, v: Tensor) -> Tensor:
    """L2 attention through torch's fused kernel, in memory linear in N: (B, heads, N, d_h) twice -> the same shape.

    The bias -||k_j||² becomes part of the dot product: queries get three constant columns, keys a column each for the
    bias rounded to their precision, for what that rounding left, and for what was left again, so that bf16 keeps it.
    """
    with full_precision(qk):
        x = qk if qk.dtype == torch.float64 else qk.float()
        x = x - x.mean(dim=-2, keepdim=True)
        scale = 2 / math.sqrt(x.shape[-1])
        left = x.square().sum(-1, keepdim=True) * -0.5
        x, columns = x.to(v.dtype), []
        for _ in range(3):
            columns.append(left.to(v.dtype))
            left = left - columns[-1].to(left.dtype)
        # The columns are padded to a multiple of 8, which the fast kernels ask for.
        padding = x.new_zeros(()).expand(*x.shape[:-1], -(x.shape[-1] + 3) % 8)
        q = torch.cat([x, torch.ones_like(x[..., :1]).expand(*x.shape[:-1], 3), padding], dim=-1)
        k = torch.cat([x, *columns, padding], dim=-1)
        return F.scaled_dot_product_attention(q, k, _padded(v, q.shape[-1]), scale=scale)[..., : v.shape[-1]]


def _padded(v: Tensor, width: int) -> Tensor:
    """Kernels that want values as wide as keys get zeros behind them."""
    return F.pad(v, (0, width - v.shape[-1]))
