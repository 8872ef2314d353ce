"""Self-attention: the dot product of the ViT, and the L2 distance with tied projections of the ViTGAN discriminator.

L2 attention (Kim et al. 2021; ViTGAN §3.2) replaces the similarity by a negative squared distance and ties W_q = W_k:

    softmax(-||x_i W_q - x_j W_k||² / sqrt(d_h)) X W_v.

||q_i||² is constant along a row of the softmax, so

    softmax_j(-||q_i - k_j||² / s) = softmax_j((2 q_i·k_j - ||k_j||²) / s),

a dot product with a bias on the keys: no pairwise difference is ever formed. Distances do not change when all tokens shift
together, so the tokens' mean is subtracted first, which keeps 2 q·k - ||k||² from cancelling in low precision.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitgan.layers.linear import EqualizedConv2d, EqualizedLinear, LayerOptions, stacked
from vitgan.layers.norm import WideRMSNorm
from vitgan.layers.positions import rotated
from vitgan.layers.precision import full_precision, wide
from vitgan.layers.spectral import WeightNorm

AttentionKind = Literal["l2", "dot"]
AttentionKernel = Literal["auto", "explicit", "fused"]

FUSED_FROM_TOKENS: dict[str, dict[str, int]] = {
    "cpu": {"l2": 512, "dot": 512},
    "cuda": {"l2": 256, "dot": 1},
}
"""From so many tokens on "auto" takes the fused kernel, by type of device; a type that is not here is taken as a CPU.

Measured on a CPU: explicit products are faster up to 257 tokens. Counted for CUDA, not measured: the dot product is one
kernel in place of four; L2 has ten more small kernels, and N×N scores outweigh them from some 4 d_h tokens on.
"""


@dataclass(frozen=True)
class AttentionConfig:
    """What a `SelfAttention` is."""

    dim: int
    """Width of a token; a multiple of `num_heads`."""
    num_heads: int
    kind: AttentionKind = "dot"
    """The ViT's dot product, or "l2": query and key are one projection, the similarity is the negative squared distance."""
    weight_norm: WeightNorm = "none"
    """Spectral normalisation of every projection."""
    equalized: bool = True
    """Equalised learning rate."""
    convolutional_projection: bool = False
    """Project by 3×3 convolutions over the square token map (ViTGAN §3.2, v2). The class token, which has no place in the
    map, goes through the kernel's centre, as a map of one token with zero padding does."""
    num_prefix_tokens: int = 0
    """Tokens before the map (the class token), which have no place in it."""
    qk_norm: bool = False
    """Divide each head's query and key by their root mean square, with a learned scale (Henry et al. 2020; R3GAN's and GAT's
    way to keep the scores bounded)."""
    key_bias: bool = False
    """A bias of the keys. It cancels in plain scores and in distances, and counts only after QK-norm or rotation."""
    initial_factor: float = 1.0
    """Factor of the first weights of query, key and value."""
    rotary: bool = False
    """Turn each head's query and key by an angle that depends on the token's place in the square map."""
    kernel: AttentionKernel = "auto"
    """One of: "explicit" multiplies out the N×N weights and can be differentiated twice; "fused" never stores them, but has
    no second derivative; "auto" chooses by the number of tokens."""


class SelfAttention(nn.Module):
    """Multi-head self-attention over tokens, (B, N, dim) -> (B, N, dim)."""

    def __init__(self, config: AttentionConfig) -> None:
        """Builds the projections."""
        super().__init__()
        self.num_heads, self.kind, self.kernel = config.num_heads, config.kind, config.kernel
        self.convolutional_projection = config.convolutional_projection
        self.num_prefix_tokens, self.rotary = config.num_prefix_tokens, config.rotary
        dim, head_dim = config.dim, config.dim // config.num_heads
        # Independent normalised tokens are 2 d_h apart (squared) under a projection of gain 1, so that every
        # token would attend to itself alone, exp(2 sqrt(d_h)) times as much as to another. This gain makes it exp(2).
        gains = {"qk": head_dim**-0.25, "v": 1.0} if config.kind == "l2" else {"q": 1.0, "k": 1.0, "v": 1.0}

        def projection(gain: float, bias: bool) -> nn.Module:
            options = LayerOptions(
                bias=bias,
                gain=gain,
                equalized=config.equalized,
                weight_norm=config.weight_norm,
                initial_factor=config.initial_factor,
            )
            if config.convolutional_projection:
                return EqualizedConv2d(dim, dim, 3, padding=1, **options)
            return EqualizedLinear(dim, dim, **options)

        self.projections = nn.ModuleDict(
            {name: projection(gain, config.key_bias or name not in ("k", "qk")) for name, gain in gains.items()}
        )
        self.q_norm = WideRMSNorm(head_dim, eps=1e-6) if config.qk_norm else None
        tied = config.kind == "l2" or not config.qk_norm
        self.k_norm = self.q_norm if tied else WideRMSNorm(head_dim, eps=1e-6)
        self.out = EqualizedLinear(dim, dim, equalized=config.equalized, weight_norm=config.weight_norm)

    def forward(
        self, x: Tensor, num_queries: int | None = None, return_attention: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Tokens (B, N, dim) -> (B, M, dim), and the weights if asked for.

        Args:
            x: Tokens.
            num_queries: M: the first tokens alone ask; None is all.
            return_attention: Return the weights (B, heads, M, N) too, float32 or wider, rows sum to 1; else None.
        """
        q, k, v = self.project(x)  # (B, heads, N, d_h) each
        if num_queries is not None:
            q = q[:, :, :num_queries]  # (B, heads, M, d_h)
        enough = FUSED_FROM_TOKENS.get(x.device.type, FUSED_FROM_TOKENS["cpu"])[self.kind]
        fused = self.kernel == "fused" or (self.kernel == "auto" and x.shape[1] >= enough)
        weights = self.weights(q, k) if return_attention or not fused else None  # (B, heads, M, N)
        if weights is not None:
            y = torch.matmul(weights.to(v.dtype), v)  # (B, heads, M, d_h)
        else:
            y = fused_l2_attention(q, k, v) if self.kind == "l2" else F.scaled_dot_product_attention(q, k, v)
        return self.out(y.transpose(1, 2).flatten(2)), weights if return_attention else None

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, N, dim) -> query, key, value, each (B, heads, N, d_h)."""
        weight, bias = stacked(self.projections.values())  # pyright: ignore[reportArgumentType]
        # One product for all projections: x is read, cast and differentiated once.
        projected = self._convolve(x, weight, bias) if self.convolutional_projection else F.linear(x, weight, bias)
        heads = projected.unflatten(-1, (len(self.projections), self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        heads = heads.contiguous().unbind()  # one copy here, or each product below makes its own
        q, k, v = (heads[0], heads[0], heads[1]) if self.kind == "l2" else (heads[0], heads[1], heads[2])
        if self.q_norm is not None and self.k_norm is not None:
            tied, q = q is k, self.q_norm(q)
            k = q if tied else self.k_norm(k)
        if self.rotary:
            tied, q = q is k, rotated(q, self.num_prefix_tokens)
            k = q if tied else rotated(k, self.num_prefix_tokens)
        return q, k, v

    def weights(self, q: Tensor, k: Tensor) -> Tensor:
        """Attention weights (B, heads, N, N), float32 or wider, from query and key (B, heads, N, d_h)."""
        return l2_attention_weights(q, k) if self.kind == "l2" else dot_attention_weights(q, k)

    def _convolve(self, x: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
        """3×3 convolution over the token map: (B, N, dim) -> (B, N, projections · dim)."""
        prefix, tokens = x.split([self.num_prefix_tokens, x.shape[1] - self.num_prefix_tokens], dim=1)
        size = math.isqrt(tokens.shape[1])
        token_map = tokens.transpose(1, 2).unflatten(2, (size, size))  # (B, dim, H/P, W/P)
        out = F.conv2d(token_map, kernel, bias, padding=1).flatten(2).transpose(1, 2)
        if self.num_prefix_tokens:
            out = torch.cat([F.linear(prefix, kernel[:, :, 1, 1], bias), out], dim=1)
        return out

    def extra_repr(self) -> str:
        return f"kind={self.kind!r}, num_heads={self.num_heads}"


def dot_attention_weights(q: Tensor, k: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d_h)): (B, heads, M, d_h), (B, heads, N, d_h) -> (B, heads, M, N), float32 or wider."""
    queries, keys, scale = q.flatten(0, 1), k.flatten(0, 1), 1 / math.sqrt(q.shape[-1])
    scores = torch.baddbmm(queries.new_empty(()), queries, keys.transpose(1, 2), beta=0, alpha=scale)
    return wide(scores).softmax(dim=-1).unflatten(0, q.shape[:2])


def l2_attention_weights(q: Tensor, k: Tensor) -> Tensor:
    """softmax(-||q_i - k_j||² / sqrt(d_h)): (B, heads, M, d_h), (B, heads, N, d_h) -> (B, heads, M, N), float32 or wider.

    Scores are kept in float32 also under autocast: the two terms are large and nearly equal for distant tokens.
    """
    with full_precision(k):
        tied, (q, k) = q is k, _centred(q, k)
        keys = k.flatten(0, 1)  # (B·heads, N, d_h)
        queries = keys if tied else q.flatten(0, 1)
        scale = 1 / math.sqrt(k.shape[-1])
        bias = (keys.square().sum(-1) * -scale).unsqueeze(1)  # (B·heads, 1, N)
        scores = torch.baddbmm(bias, queries, keys.transpose(1, 2), alpha=2 * scale)
        return scores.softmax(dim=-1).unflatten(0, k.shape[:2])


def fused_l2_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """L2 attention through torch's fused kernel, in memory linear in N: (B, heads, M or N, d_h) -> (B, heads, M, d_h).

    The bias -||k_j||² becomes part of the dot product: queries get three constant columns, keys a column each for the
    bias rounded to their precision, for what that rounding left, and for what was left again, so that bf16 keeps it.
    """
    with full_precision(k):
        q, k = _centred(q, k)
        scale = 2 / math.sqrt(k.shape[-1])
        left = k.square().sum(-1, keepdim=True) * -0.5
        columns = []
        for _ in range(3):
            columns.append(left.to(v.dtype))
            left = left - columns[-1].to(left.dtype)
        q, k = q.to(v.dtype), k.to(v.dtype)
        # The columns are padded to a multiple of 8, which the fast kernels ask for.
        padding = -(k.shape[-1] + 3) % 8
        q = torch.cat([q, _columns(q, 1.0, 3), _columns(q, 0.0, padding)], dim=-1)
        k = torch.cat([k, *columns, _columns(k, 0.0, padding)], dim=-1)
        wide_v = F.pad(v, (0, q.shape[-1] - v.shape[-1]))  # some kernels want values as wide as keys
        return F.scaled_dot_product_attention(q, k, wide_v, scale=scale)[..., : v.shape[-1]]


def _centred(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """Both minus the keys' mean over tokens, float32 or wider; the same tensor again where q is k."""
    keys = wide(k)
    mean = keys.mean(dim=-2, keepdim=True)
    centred = keys - mean
    return (centred if q is k else wide(q) - mean), centred


def _columns(x: Tensor, value: float, count: int) -> Tensor:
    """`count` columns of one value beside x, (..., count)."""
    return x.new_full((), value).expand(*x.shape[:-1], count)
