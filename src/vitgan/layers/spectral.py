"""Spectral normalisation and ViTGAN's improved spectral normalisation.

Plain spectral normalisation (Miyato et al. 2018) divides a weight by its largest singular value sigma(W), estimated by power
iteration with one pair of vectors u, v:

    W_bar = W / sigma(W),    sigma(W) ~ u^T W v.

In a transformer this small Lipschitz constant collapses the output towards rank one, so ViTGAN (§3.2, "improved spectral
normalisation") multiplies it back by the value that the weight had at initialisation:

    W_bar = sigma(W_init) · W / sigma(W).

The vectors are part of a layer's state, never of its graph: `update_spectral_norms(module)` advances them once per
discriminator update, *before* the forward pass, and a forward pass only reads them. A generator update uses the
discriminator's weights as they are.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitgan.layers.precision import full_precision

WeightNorm = Literal["isn", "sn", "none"]


class SpectralNorm(nn.Module):
    """Rescales one weight so that its largest singular value stays at a fixed target.

    State, all in buffers: `left_vector` (rows,), `right_vector` (columns,), and `target_sigma` (), which is
    sigma(W_init) for "isn" and 1 for "sn". A weight of more than two dimensions is seen as (out, everything else).
    """

    left_vector: Tensor
    right_vector: Tensor
    target_sigma: Tensor

    def __init__(self, shape: tuple[int, ...], kind: WeightNorm, scale: float = 1.0) -> None:
        """Makes room for the state; `reset` measures a weight.

        Args:
            shape: Of the weight.
            kind: "isn" keeps the singular value that `scale` times the initial weight has, "sn" keeps 1.
            scale: The runtime factor of an equalised layer; the normalised weight has it folded in.
        """
        super().__init__()
        self.kind, self.scale = kind, scale
        rows, columns = shape[0], math.prod(shape[1:])
        self.register_buffer("left_vector", torch.empty(rows))
        self.register_buffer("right_vector", torch.empty(columns))
        self.register_buffer("target_sigma", torch.empty(()))

    @torch.no_grad()
    def reset(self, weight: Tensor) -> None:
        """Takes `weight` as the initial one: exact singular vectors and the target that follows from `kind`."""
        if weight.is_meta:  # nothing to measure, as in torch.nn.init
            return
        left, sigma, right = largest_singular_triplet(weight.flatten(1))
        self.left_vector.copy_(left)
        self.right_vector.copy_(right)
        self.target_sigma.copy_(sigma * self.scale if self.kind == "isn" else torch.ones_like(sigma))

    def sigma(self, weight: Tensor) -> Tensor:
        """The estimate u^T W v (), float32, differentiable in W with the vectors held constant."""
        with full_precision(weight):
            return torch.dot(self.left_vector, torch.mv(weight.flatten(1), self.right_vector))

    def forward(self, weight: Tensor) -> Tensor:
        """The normalised weight, same shape as `weight`, float32."""
        return weight * (self.target_sigma / self.sigma(weight))

    def extra_repr(self) -> str:
        return f"kind={self.kind!r}"


def largest_singular_triplet(matrix: Tensor, squarings: int = 12) -> tuple[Tensor, Tensor, Tensor]:
    """Leading left vector (rows,), singular value () and right vector (columns,), to rounding.

    Squaring the Gram matrix of the shorter side k times in float64 does 2^k power iterations at once; this is many times
    as fast as LAPACK's decompositions and needs no start vector.
    """
    wide = matrix.double()
    if wide.shape[0] > wide.shape[1]:
        right, sigma, left = largest_singular_triplet(wide.t(), squarings)
        return left.to(matrix.dtype), sigma.to(matrix.dtype), right.to(matrix.dtype)
    gram = power = wide @ wide.t()
    for _ in range(squarings):
        power = power / power.diagonal().sum()
        power = power @ power
    left = F.normalize(gram @ power[:, power.diagonal().argmax()], dim=0)
    right = wide.t() @ left
    sigma = right.norm()
    return left.to(matrix.dtype), sigma.to(matrix.dtype), (right / sigma).to(matrix.dtype)


@torch.no_grad()
def update_spectral_norms(module: nn.Module, steps: int = 1) -> None:
    """Advances every spectral norm below `module` by `steps` power iterations: call it once per discriminator update.

    Deviates from Miyato et al.: there each training forward pass moves the vectors, which makes two forward passes before
    one backward pass an autograd error and the number of iterations a matter of how the loss is batched.
    """
    norms: list[SpectralNorm] = []
    matrices: list[Tensor] = []
    for layer in module.modules():
        norm, weight = getattr(layer, "weight_norm", None), getattr(layer, "weight", None)
        if isinstance(norm, SpectralNorm) and isinstance(weight, Tensor):
            norms.append(norm)
            matrices.append(weight.flatten(1))
    power_iteration(matrices, [norm.left_vector for norm in norms], [norm.right_vector for norm in norms], steps)


@torch.no_grad()
def power_iteration(matrices: list[Tensor], left: list[Tensor], right: list[Tensor], steps: int = 1) -> None:
    """Moves the vectors of many matrices `steps` power iterations towards their leading singular pairs, in place.

    The products go matrix by matrix (stacking the weights to multiply them at once copies them: two to three times as
    slow where measured), the normalisation over all vectors together.
    """
    for _ in range(steps if matrices else 0):
        for matrix, u, v in zip(matrices, left, right, strict=True):
            torch.mv(matrix.t(), u, out=v)
        _normalize(right)
        for matrix, u, v in zip(matrices, left, right, strict=True):
            torch.mv(matrix, v, out=u)
        _normalize(left)


def _normalize(vectors: list[Tensor]) -> None:
    norms = torch._foreach_norm(vectors)  # pyright: ignore[reportPrivateImportUsage]
    torch._foreach_clamp_min_(norms, 1e-12)  # pyright: ignore[reportPrivateImportUsage]
    torch._foreach_div_(vectors, norms)  # pyright: ignore[reportPrivateImportUsage]


@torch.no_grad()
def spectral_norms(module: nn.Module) -> dict[str, float]:
    """Largest singular value of the weight that each equalised or normalised layer applies, exact, by layer name."""
    weights = {name: getattr(layer, "effective_weight", None) for name, layer in module.named_modules()}
    return {
        name: largest_singular_triplet(weight().flatten(1))[1].item()
        for name, weight in weights.items()
        if weight is not None
    }
