"""ViTGAN's training step at the paper's CIFAR-10 recipe, as one would write it from the paper: the naive baseline.

Vectorised torch and nothing clever: every pairwise difference of the L2 attention is formed, weights are normalised
anew in every forward pass, D looks at one set of images at a time, each token gets its own modulated weight matrices,
Adam and the average go from tensor to tensor. It shares no code with the library, but its weights: the players are
functions of a library model's state dict. Tests hold the library against it, benchmarks measure how much faster
the library is.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Sizes:
    """What shapes of weights do not tell; the same for both players, the defaults are the paper's at 32×32."""

    grid_size: int = 8
    patch_size: int = 4
    heads: int = 6
    mapping_lr_multiplier: float = 0.01
    position_frequency: float = 1.0
    pixel_frequency: float = 1.0

    @property
    def resolution(self) -> int:
        return self.grid_size * self.patch_size


# What both players are made of.


def cell_centres(size: int, like: Tensor) -> Tensor:
    """(x, y) of the centres of size×size cells over [-1, 1]², row-major: (size², 2)."""
    centres = [(2 * i + 1) / size - 1 for i in range(size)]
    return torch.tensor([[x, y] for y in centres for x in centres], dtype=like.dtype)


def fourier(p: Weights, name: str, positions: Tensor, frequency: float) -> Tensor:
    """sin(W x + b): (N, 2) -> (N, dim)."""
    return torch.sin(positions @ (p[f"{name}.weight"] * frequency).t() + p[f"{name}.bias"])


def depth(p: Weights) -> int:
    return 1 + max(int(name.split(".")[1]) for name in p if name.startswith("blocks."))


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, N, dim) -> (B, heads, N, d_h)."""
    return x.view(x.shape[0], x.shape[1], heads, -1).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """(B, heads, N, d_h) -> (B, N, dim)."""
    return x.transpose(1, 2).reshape(x.shape[0], x.shape[2], -1)


# The generator (§3.3).


def equalized(p: Weights, name: str, x: Tensor, lr_multiplier: float = 1.0) -> Tensor:
    """W x + b with the learning rate equalised: W is stored with unit variance."""
    weight = p[f"{name}.weight"] * (lr_multiplier / math.sqrt(p[f"{name}.weight"].shape[1]))
    y = x @ weight.t()
    return y + p[f"{name}.bias"] * lr_multiplier if f"{name}.bias" in p else y


def mapping(p: Weights, z: Tensor, lr_multiplier: float) -> Tensor:
    """w = MLP(z / rms(z))."""
    w = z / torch.sqrt((z**2).mean(dim=1, keepdim=True) + 1e-8)
    for i in range(sum(name.startswith("mapping_network.layers.") and name.endswith(".weight") for name in p)):
        w = math.sqrt(2) * F.leaky_relu(equalized(p, f"mapping_network.layers.{i}", w, lr_multiplier), 0.2)
    return w


def self_modulated_norm(p: Weights, name: str, h: Tensor, w: Tensor) -> Tensor:
    """SLN(h, w) = gamma(w) ⊙ (h - mu) / sigma + beta(w)."""
    mean = h.mean(dim=-1, keepdim=True)
    sigma = torch.sqrt(((h - mean) ** 2).mean(dim=-1, keepdim=True) + 1e-5)
    gamma, beta = equalized(p, f"{name}.gamma", w), equalized(p, f"{name}.beta", w)
    return gamma[:, None] * (h - mean) / sigma + beta[:, None]


def dot_attention(p: Weights, name: str, x: Tensor, heads: int) -> Tensor:
    """softmax(Q Kᵀ / sqrt(d_h)) V."""
    q, k, v = (split_heads(equalized(p, f"{name}.projections.{part}", x), heads) for part in "qkv")
    weights = torch.softmax(q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1]), dim=-1)
    return equalized(p, f"{name}.out", join_heads(weights @ v))


def modulated(weight: Tensor, style: Tensor, demodulate: bool) -> Tensor:
    """One weight matrix for each token: W (out, in), styles (T, in) -> (T, out, in)."""
    weights = weight[None] * style[:, None, :]
    if not demodulate:
        return weights
    return weights / torch.sqrt((weights**2).sum(dim=2, keepdim=True) + 1e-8)


def implicit_patches(p: Weights, y: Tensor, sizes: Sizes) -> Tensor:
    """x_p^i = f_theta(E_fou, y^i), an MLP over pixel positions with weights of its own: y (T, dim) -> (T, P², C)."""
    name = "pixel_mapping"
    x = fourier(p, f"{name}.fourier", cell_centres(sizes.patch_size, y), sizes.pixel_frequency).expand(len(y), -1, -1)
    for layer in (1, 2):
        style = equalized(p, f"{name}.style{layer}", y)
        weight = p[f"{name}.layer{layer}.weight"] / math.sqrt(x.shape[2])
        x = torch.bmm(x, modulated(weight, style, demodulate=layer == 1).transpose(1, 2))
        x = x + p[f"{name}.layer{layer}.bias"]
        x = F.leaky_relu(x, 0.2) * math.sqrt(2) if layer == 1 else x
    return x


def generator(p: Weights, z: Tensor, sizes: Sizes) -> Tensor:
    """z (B, z_dim) -> images (B, C, H, W)."""
    w = mapping(p, z, sizes.mapping_lr_multiplier)
    h = fourier(p, "position_embedding", cell_centres(sizes.grid_size, z), sizes.position_frequency).expand(
        len(z), -1, -1
    )
    for i in range(depth(p)):
        block = f"blocks.{i}"
        h = dot_attention(p, f"{block}.attention", self_modulated_norm(p, f"{block}.norm1", h, w), sizes.heads) + h
        x = self_modulated_norm(p, f"{block}.norm2", h, w)
        h = equalized(p, f"{block}.mlp.mlp_out", F.gelu(equalized(p, f"{block}.mlp.mlp_in", x))) + h
    y = self_modulated_norm(p, "norm", h, w)
    patches = implicit_patches(p, y.flatten(0, 1), sizes)  # (B · L, P², C)
    g, s = sizes.grid_size, sizes.patch_size
    images = patches.reshape(len(z), g, g, s, s, -1).permute(0, 5, 1, 3, 2, 4)  # (B, C, rows, P, columns, P)
    return images.reshape(len(z), -1, g * s, g * s)


# The discriminator (§3.2).


def normalized_weight(p: Weights, name: str, power_iterations: int) -> Tensor:
    """W_bar = sigma(W_init) · W / sigma(W), sigma by power iteration; the vectors go on from the last forward pass."""
    weight = p[f"{name}.weight"]
    u, v = p[f"{name}.weight_norm.left_vector"].clone(), p[f"{name}.weight_norm.right_vector"].clone()
    with torch.no_grad():
        for _ in range(power_iterations):
            v = F.normalize(weight.t() @ u, dim=0)
            u = F.normalize(weight @ v, dim=0)
    p[f"{name}.weight_norm.left_vector"], p[f"{name}.weight_norm.right_vector"] = u, v
    return p[f"{name}.weight_norm.target_sigma"] * weight / (u @ weight @ v)


def layer_norm(p: Weights, name: str, h: Tensor) -> Tensor:
    return F.layer_norm(h, h.shape[-1:], p[f"{name}.weight"], p[f"{name}.bias"])


def l2_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(-||q_i - k_j||² / sqrt(d_h)) V by all the differences, (B, heads, N, N, d_h)."""
    differences = q[:, :, :, None, :] - k[:, :, None, :, :]
    distances = (differences**2).sum(dim=-1)
    return torch.softmax(-distances / math.sqrt(q.shape[-1]), dim=-1) @ v


def discriminator(p: Weights, images: Tensor, sizes: Sizes, power_iterations: int = 1) -> Tensor:
    """images (B, C, H, W) -> logits (B,). Replaces the spectral vectors in `p`."""

    def linear(name: str, x: Tensor) -> Tensor:
        y = x @ normalized_weight(p, name, power_iterations).t()
        return y + p[f"{name}.bias"] if f"{name}.bias" in p else y

    side = math.isqrt(p["patch_embedding.linear.weight"].shape[1] // images.shape[1])
    patches = F.unfold(images, side, padding=(side - sizes.patch_size) // 2, stride=sizes.patch_size)
    tokens = linear("patch_embedding.linear", patches.transpose(1, 2))
    tokens = tokens + fourier(p, "position_embedding", cell_centres(sizes.grid_size, images), sizes.position_frequency)
    h = torch.cat([p["class_token"].expand(len(images), 1, -1), tokens], dim=1)  # (B, 1 + L, dim)
    for i in range(depth(p)):
        attention = f"blocks.{i}.attention"
        x = layer_norm(p, f"blocks.{i}.norm1", h)
        qk, v = (split_heads(linear(f"{attention}.projections.{name}", x), sizes.heads) for name in ("qk", "v"))
        h = linear(f"{attention}.out", join_heads(l2_attention(qk, qk, v))) + h  # W_q = W_k
        x = layer_norm(p, f"blocks.{i}.norm2", h)
        h = linear(f"blocks.{i}.mlp.mlp_out", F.gelu(linear(f"blocks.{i}.mlp.mlp_in", x))) + h
    return linear("head", layer_norm(p, "norm", h)[:, 0]).squeeze(1)


# DiffAugment.


class Augmentation(NamedTuple):
    """What happens to each of B images: brightness, saturation, contrast and zoom (B,), shift and cutout centre (B, 2)."""

    brightness: Tensor
    saturation: Tensor
    contrast: Tensor
    scale: Tensor
    shift: Tensor
    cutout_centre: Tensor


def draw_augmentation(count: int, resolution: int, rng: torch.Generator) -> Augmentation:
    """Every operation with probability 0.8; neutral values elsewhere."""

    def sometimes(value: Tensor, neutral: float) -> Tensor:
        applied = torch.rand(count, generator=rng) < 0.8
        return torch.where(applied.view(-1, *[1] * (value.ndim - 1)), value, neutral)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=rng) * (high - low) + low

    reach = resolution // 8
    return Augmentation(
        brightness=sometimes(uniform(-0.5, 0.5), 0.0),
        saturation=sometimes(uniform(0, 2), 1.0),
        contrast=sometimes(uniform(0.5, 1.5), 1.0),
        scale=sometimes(torch.exp(uniform(-math.log(1.25), math.log(1.25))), 1.0),
        shift=sometimes(torch.floor(uniform(-reach, reach + 1, 2)), 0.0),
        cutout_centre=sometimes(torch.floor(uniform(0, resolution + 1, 2)), torch.inf),  # of a square of even side
    )


def diffaugment(x: Tensor, a: Augmentation) -> Tensor:
    """T(x): colour, zoom and shift, cutout of a square of half the side; (B, C, H, W) -> the same."""
    size = x.shape[-1]
    x = x + a.brightness[:, None, None, None]
    mean = x.mean(dim=1, keepdim=True)
    x = (x - mean) * a.saturation[:, None, None, None] + mean
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    x = (x - mean) * a.contrast[:, None, None, None] + mean
    zero, zoom = torch.zeros_like(a.scale), 1 / a.scale
    shift_x, shift_y = (-2 / size * a.shift[:, axis] * zoom for axis in (0, 1))
    theta = torch.stack([zoom, zero, shift_x, zero, zoom, shift_y], dim=1).view(-1, 2, 3)
    x = F.grid_sample(x, F.affine_grid(theta, list(x.shape), align_corners=False), align_corners=False)
    first = (a.cutout_centre - size // 4)[:, :, None]
    pixels = torch.arange(size)
    inside = (pixels >= first) & (pixels < first + size // 2)  # (B, 2, size): columns, rows
    mask = 1 - (inside[:, 1, :, None] & inside[:, 0, None, :]).to(x.dtype)
    return x * mask[:, None]


# The step.


class Draws(NamedTuple):
    """The random draws of one step."""

    z_discriminator: Tensor
    z_generator: Tensor
    real: Augmentation
    fake: Augmentation
    generator_fake: Augmentation


def draw(count: int, z_dim: int, resolution: int, rng: torch.Generator) -> Draws:
    z1, z2 = torch.randn(2, count, z_dim, generator=rng)
    real, fake, generator_fake = (draw_augmentation(count, resolution, rng) for _ in range(3))
    return Draws(z1, z2, real, fake, generator_fake)


class NaiveTrainer:
    """Both players, their optimisers and the average, from the state dicts of a library's generator and discriminator."""

    def __init__(self, generator: Weights, discriminator: Weights, sizes: Sizes, power_iterations: int = 1) -> None:
        self.generator, self.discriminator = _copy(generator), _copy(discriminator)
        self.average = {name: tensor.detach().clone() for name, tensor in generator.items()}
        self.sizes, self.power_iterations = sizes, power_iterations
        self.generator_optimizer = self._adam(self.generator)
        self.discriminator_optimizer = self._adam(self.discriminator)

    def _adam(self, p: Weights) -> torch.optim.Adam:
        parameters = [tensor for tensor in p.values() if tensor.requires_grad]
        return torch.optim.Adam(parameters, lr=0.002, betas=(0.0, 0.99), foreach=False, fused=False)

    def judge(self, images: Tensor) -> Tensor:
        return discriminator(self.discriminator, images, self.sizes, self.power_iterations)

    def discriminator_loss(self, real: Tensor, draws: Draws) -> Tensor:
        """Non-saturating loss on augmented images, and bCR with lambda = 10."""
        with torch.no_grad():
            fake = generator(self.generator, draws.z_discriminator, self.sizes)
        real_augmented, fake_augmented = diffaugment(real, draws.real), diffaugment(fake, draws.fake)
        d_real, d_real_augmented = self.judge(real), self.judge(real_augmented)
        d_fake, d_fake_augmented = self.judge(fake), self.judge(fake_augmented)
        adversarial = F.softplus(-d_real_augmented).mean() + F.softplus(d_fake_augmented).mean()
        bcr = ((d_real - d_real_augmented) ** 2).mean() + ((d_fake - d_fake_augmented) ** 2).mean()
        return adversarial + 10 * bcr

    def generator_loss(self, draws: Draws) -> Tensor:
        fake = generator(self.generator, draws.z_generator, self.sizes)
        return F.softplus(-self.judge(diffaugment(fake, draws.generator_fake))).mean()

    def step(self, real: Tensor, draws: Draws, decay: float = 0.999) -> tuple[Tensor, Tensor]:
        """One update of D, one of G, and of the average; both losses."""
        d_loss = self._update(self.discriminator_optimizer, lambda: self.discriminator_loss(real, draws))
        g_loss = self._update(self.generator_optimizer, lambda: self.generator_loss(draws))
        with torch.no_grad():
            for name, average in self.average.items():
                average.copy_(decay * average + (1 - decay) * self.generator[name])
        return d_loss, g_loss

    @staticmethod
    def _update(optimizer: torch.optim.Optimizer, loss_of: Callable[[], Tensor]) -> Tensor:
        parameters = optimizer.param_groups[0]["params"]
        loss = loss_of()
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.grad = gradient
        optimizer.step()
        return loss.detach()


def _copy(p: Weights) -> Weights:
    """Leaves that require a gradient for parameters, plain copies of buffers."""
    copies = {name: tensor.detach().clone() for name, tensor in p.items()}
    for name, tensor in copies.items():
        tensor.requires_grad_("weight_norm." not in name and name != "w_mean")
    return copies
