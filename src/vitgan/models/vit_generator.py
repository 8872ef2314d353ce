"""The ViT generator (ViTGAN §3.3), in all forms that the paper compares. The defaults are ViTGAN's.

Positions in, transformer blocks that the latent modulates, patches out.
"""

from itertools import accumulate
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from vitgan.errors import UserError
from vitgan.layers.bound import Bound
from vitgan.layers.linear import EqualizedLinear
from vitgan.layers.mlp import Mlp
from vitgan.layers.norm import SelfModulatedLayerNorm, UnmodulatedNorm, pixel_norm
from vitgan.layers.pixel_mapping import (
    ConvolutionalPatchDecoder,
    ImplicitPatchDecoder,
    InterpolatedPatchDecoder,
    LinearPatchDecoder,
    PatchDecoder,
)
from vitgan.layers.positions import Positions, grid_positions, position_features
from vitgan.models.generator import Generator, Noise
from vitgan.models.levels import LevelKind, shown
from vitgan.models.mapping import MappingNetwork
from vitgan.models.transformer import TransformerConfig

LatentMapping = Literal["sln", "add", "prepend"]
PixelMapping = Literal["inr", "linear", "conv", "interpolated"]


class ViTGeneratorConfig(TransformerConfig):
    """Sizes of the ViT generator. The defaults are the paper's at 32×32, or ours (docs/paper_map.md)."""

    kind: Literal["vit"] = "vit"
    z_dim: int = Field(default=384, ge=1)
    """Size of the latent z."""
    w_dim: int = Field(default=384, ge=1)
    """Size of the style w."""
    mapping_layers: int = Field(default=8, ge=1)
    """Layers of the mapping MLP; 8 is the authors' PyTorch code's."""
    mapping_lr_multiplier: float = Field(default=0.01, gt=0)
    """Relative learning rate of the mapping; 0.01 is the authors' PyTorch code's."""
    latent_mapping: LatentMapping = "sln"
    """Where w comes in: self-modulated LayerNorm (ViTGAN), added to every position, or prepended as a token."""
    latent_tokens: bool = False
    """Each token also starts with its own linear map of z. Then layouts differ between images from the first step
    on. Modulation alone has to learn this."""
    pixel_mapping: PixelMapping = "inr"
    """How tokens become pixels. inr: an implicit function of each token (ViTGAN). linear: one matrix. conv: modulated
    convolutions that double the size (the authors' PyTorch code). interpolated: tokens' features, interpolated to pixels,
    and two convolutions."""
    inr_dim: int = Field(default=384, ge=1)
    """Width of the pixel mapping: of inr its Fourier features and hidden layer, of conv its first layer, of
    interpolated its features."""
    bounded: bool = False
    """Images end in a tanh with a way back. Without it G has to hit -1 everywhere on a black background, and D sees what
    it misses. The paper's G has no bounds."""
    positions: Positions = "sine"
    """Features of a token's place: learned sines (the paper's), or fixed sines and cosines (GAT's)."""
    pixel_frequency: float = Field(default=1.0, gt=0)
    """The `position_frequency` of pixels inside a patch."""
    num_levels: int = Field(default=1, ge=1)
    """Number of images that G makes on its way, after equal parts of its depth; D sees all of them. GAT's is 4."""
    levels: LevelKind = "summed"
    """summed (GAT's): each level adds to the image and has less noise; D sees all levels as channels. scaled (CAT's): each
    level doubles the resolution; D judges each alone."""
    gated: bool = False
    """Multiply each residual branch by gate(w) (GAT's); needs latent_mapping sln."""
    gate_bias: float = 1.0
    """Initial value of the gates; GAT's is 0, so that each block does nothing at first."""
    modulation_silu: bool = False
    """SiLU of w before it modulates anything (GAT's)."""
    modulation_init: float = Field(default=1.0, gt=0)
    """Factor of the initial weights of gamma and beta; GAT's is 0.1."""


class GeneratorBlock(nn.Module):
    """h' = MSA(SLN(h, w)) + h;  MLP(SLN(h', w)) + h' (eqs. 9 and 10); other latent mappings have plain norms."""

    def __init__(self, config: ViTGeneratorConfig) -> None:
        super().__init__()
        dim, equalized = config.dim, config.equalized_lr
        self.norm1 = block_norm(config)
        self.attention = config.self_attention(num_prefix_tokens=1 if config.latent_mapping == "prepend" else 0)
        self.norm2 = block_norm(config)
        self.mlp = Mlp(dim, config.mlp_ratio, config.mlp, equalized=equalized)
        # Weights a tenth as large (GAT's gain): with a bias of 1 a gated block starts almost as a plain one.
        self.gates = (
            EqualizedLinear(config.w_dim, 2 * dim, bias_init=config.gate_bias, equalized=equalized, initial_factor=0.1)
            if config.gated
            else None
        )

    def forward(self, h: Tensor, w: Tensor, return_attention: bool = False) -> tuple[Tensor, Tensor | None]:
        """h (B, L, dim), w (B, w_dim) -> (B, L, dim), and the attention weights (B, heads, L, L) if asked for."""
        attended, weights = self.attention(self.norm1(h, w), return_attention=return_attention)
        if self.gates is None:
            h = h + attended
            return h + self.mlp(self.norm2(h, w)), weights
        gate1, gate2 = self.gates(w).unsqueeze(1).chunk(2, dim=-1)  # (B, 1, dim) each
        h = h + attended * gate1
        return h + self.mlp(self.norm2(h, w)) * gate2, weights


def block_norm(config: ViTGeneratorConfig) -> nn.Module:
    """The norm that the latent mapping asks for."""
    if config.latent_mapping == "sln":
        return SelfModulatedLayerNorm(
            config.dim, config.w_dim, config.equalized_lr, config.normalization, config.modulation_init
        )
    return UnmodulatedNorm(config.dim, config.normalization)


class ViTGenerator(Generator):
    """z -> w -> tokens -> patches -> image."""

    def __init__(self, config: ViTGeneratorConfig, resolution: int, channels: int, num_classes: int = 0) -> None:
        """Builds and initialises the generator (weights from torch's global generator).

        Raises:
            UserError: If the patch does not divide the resolution, the heads the width, the MLP has no width, positions do
                not fit the width, or there are more levels than blocks.
        """
        config.check("generator", resolution)
        if config.gated and config.latent_mapping != "sln":
            raise UserError(
                "generator.gated modulates by w, so it needs generator.latent_mapping sln", "model.generator.gated"
            )
        if config.num_levels > config.depth:
            raise UserError(
                f"generator.num_levels {config.num_levels} is more than generator.depth {config.depth}: each level needs a "
                "block",
                "model.generator.num_levels",
            )
        if config.bounded and config.num_levels > 1 and config.levels == "summed":
            raise UserError(
                "generator.bounded is for the images of one head, and summed levels add up several: set it to False",
                "model.generator.bounded",
            )
        # With SLN each block takes a style, and so does the final norm with the decoder; elsewhere w comes in once.
        num_styles = config.depth + 1 if config.latent_mapping == "sln" else 1
        # With latent tokens a style carries the latent itself behind w.
        style_dim = config.w_dim + (config.z_dim if config.latent_tokens else 0)
        super().__init__(resolution, channels, num_classes, config.z_dim, style_dim, num_styles)
        self.config = config
        self.patch_size = config.patch_size
        self.grid_size = resolution // config.patch_size
        equalized = config.equalized_lr
        self.mapping_network = MappingNetwork(
            config.z_dim, config.w_dim, config.mapping_layers, config.mapping_lr_multiplier, num_classes, equalized
        )
        self.position_embedding = position_features(
            "generator", config.positions, config.dim, config.position_frequency, self.grid_size
        )
        self.latent_embedding = (
            None if config.latent_mapping == "sln" else EqualizedLinear(config.w_dim, config.dim, equalized=equalized)
        )
        self.token_embedding = (
            EqualizedLinear(config.z_dim, self.grid_size**2 * config.dim, bias=False, equalized=equalized)
            if config.latent_tokens
            else None
        )
        self.blocks = nn.ModuleList(GeneratorBlock(config) for _ in range(config.depth))
        self.norm = block_norm(config)
        self.pixel_mapping = self._decoder(channels)
        # The lower levels' heads: those above are the last level's.
        self.num_levels = config.num_levels
        self.level_ends = [level * config.depth // config.num_levels for level in range(1, config.num_levels + 1)]
        self.level_norms = nn.ModuleList(block_norm(config) for _ in range(config.num_levels - 1))
        self.level_mappings = nn.ModuleList(self._decoder(channels) for _ in range(config.num_levels - 1))
        if config.bounded:
            for decoder in (self.pixel_mapping, *self.level_mappings):
                decoder.bound = Bound()

    def mapping(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        w = self.mapping_network(z, labels)
        return w if self.token_embedding is None else torch.cat([w, pixel_norm(z.to(w.dtype))], dim=1)

    def synthesis(self, w: Tensor, noise: Noise | None = None) -> Tensor:
        ends, _ = self.hidden(w)  #                                 (B, N, dim) a level
        if self.config.levels == "scaled":
            return self.head(-1, ends[-1], w)  #                    (B, C, H, W)
        return list(accumulate(self.heads(ends, w)))[-1]  #         (B, C, H, W)

    def levels(self, w: Tensor, noise: Noise | None = None) -> Tensor:
        if self.num_levels == 1:
            return self.synthesis(w)
        images = self.heads(self.hidden(w)[0], w)  #                (B, C, H, W) a level
        summed = self.config.levels == "summed"
        return shown(torch.stack(list(accumulate(images) if summed else images), dim=1), self.config.levels, noise)

    def levels_of(self, images: Tensor, noise: Noise | None = None) -> Tensor:
        if self.num_levels == 1:
            return images
        return shown(images.unsqueeze(1).expand(-1, self.num_levels, -1, -1, -1), self.config.levels, noise)

    def hidden(self, w: Tensor, return_attention: bool = False) -> tuple[list[Tensor], list[Tensor]]:
        """Tokens (B, N, dim) at the end of each level, of styles w (B, num_styles, w_dim).

        With `return_attention` also the weights of each block (B, heads, N, N), N = L, or 1 + L with a latent token first.
        """
        ends, maps = [], []
        h = self.embed(w[:, 0])  #                                  (B, N, dim)
        w = self.modulation(w)
        for index, block in enumerate(self.blocks):
            h, weights = block(h, w[:, min(index, self.num_styles - 1)], return_attention)  # (B, N, dim)
            maps.append(weights)
            if index + 1 in self.level_ends:
                ends.append(h)
        return ends, maps if return_attention else []

    def tokens(self, w: Tensor, return_attention: bool = False) -> tuple[Tensor, list[Tensor]]:
        """Patch embeddings y (B, L, dim) of the last level, and the weights as in `hidden`."""
        ends, maps = self.hidden(w, return_attention)
        return self.norm(ends[-1], self.modulation(w[:, -1]))[:, -(self.grid_size**2) :], maps

    def modulation(self, w: Tensor) -> Tensor:
        """What modulates: styles w (..., w_dim) without the latent behind them, and through SiLU if the model has it."""
        w = w[..., : self.config.w_dim]
        return F.silu(w) if self.config.modulation_silu else w

    def heads(self, ends: list[Tensor], w: Tensor) -> list[Tensor]:
        """What each level's head makes of its tokens: (B, C, H, W) a level."""
        return [self.head(level, h, w) for level, h in enumerate(ends)]

    def head(self, level: int, h: Tensor, w: Tensor) -> Tensor:
        """One level's image of its tokens h (B, N, dim), with the style of the block that comes next, or the last."""
        norm = [*self.level_norms, self.norm][level]
        decoder = [*self.level_mappings, self.pixel_mapping][level]
        w = self.modulation(w[:, min(self.level_ends[level], self.num_styles - 1)])
        y = norm(h, w)[:, -(self.grid_size**2) :]  #                (B, L, dim)
        return decoder(y, w) if isinstance(decoder, ConvolutionalPatchDecoder) else decoder(y)  # (B, C, H, W)

    @property
    def continuous_decoder(self) -> ImplicitPatchDecoder | None:
        """The decoder whose patches, of `tokens`, are the whole image at any density of pixels; None if there is none."""
        alone = self.num_levels == 1 or self.config.levels == "scaled"
        return self.pixel_mapping if alone and isinstance(self.pixel_mapping, ImplicitPatchDecoder) else None

    def embed(self, w: Tensor) -> Tensor:
        """h_0: positions, and w where the latent mapping puts it: w (B, w_dim) -> (B, L, dim), or (B, 1 + L, dim)."""
        positions = grid_positions(self.grid_size, w.device).to(w.dtype)  # (L, 2)
        h = self.position_embedding(positions).expand(w.shape[0], -1, -1)  # (B, L, dim)
        w, z = w.split([self.config.w_dim, w.shape[1] - self.config.w_dim], dim=1)
        if self.token_embedding is not None:
            h = h + self.token_embedding(z).unflatten(1, (-1, self.config.dim))
        if self.latent_embedding is None:
            return h
        latent = self.latent_embedding(w).unsqueeze(1)  #           (B, 1, dim)
        return h + latent if self.config.latent_mapping == "add" else torch.cat([latent.to(h.dtype), h], dim=1)

    def _decoder(self, channels: int) -> PatchDecoder:
        config, sizes = self.config, (self.config.dim, channels, self.config.patch_size, self.grid_size)
        equalized = config.equalized_lr
        match config.pixel_mapping:
            case "inr":
                return ImplicitPatchDecoder(*sizes, config.inr_dim, config.pixel_frequency, equalized)
            case "linear":
                return LinearPatchDecoder(*sizes, equalized)
            case "interpolated":
                return InterpolatedPatchDecoder(*sizes, config.inr_dim, equalized)
            case "conv":
                return ConvolutionalPatchDecoder(*sizes, config.inr_dim, config.w_dim)
