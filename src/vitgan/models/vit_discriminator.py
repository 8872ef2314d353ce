"""The ViTGAN discriminator (ViTGAN §3.2): a ViT with L2 attention and spectrally normalised weights."""

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from vitgan.errors import UserError
from vitgan.frozen.features import Fields, load_frozen
from vitgan.layers.attention import AttentionKind
from vitgan.layers.linear import EqualizedLinear, normal_
from vitgan.layers.mlp import Mlp
from vitgan.layers.norm import plain_norm
from vitgan.layers.patches import OverlappingPatchEmbedding, fine_detail
from vitgan.layers.positions import grid_positions, position_features
from vitgan.layers.precision import full_precision
from vitgan.layers.spectral import WeightNorm
from vitgan.models.alignment import Alignment
from vitgan.models.discriminator import Classifier, Discriminator, Judgement
from vitgan.models.transformer import TransformerConfig

ALIGNMENT_FIELDS = Fields("model.discriminator.alignment_features", "model.discriminator.alignment_size")


class ViTDiscriminatorConfig(TransformerConfig):
    """Sizes and regularisers of the ViT discriminator. The defaults are the paper's at 32×32.

    `attention="dot"`, `weight_norm="none"`, `overlap=0` is the vanilla ViT.
    """

    kind: Literal["vit"] = "vit"
    overlap: int | None = Field(default=None, ge=0)
    """Pixels by which a patch overlaps its neighbours on each side; None is the paper's patch_size / 2."""
    fine_detail: float = Field(default=0.0, ge=0)
    """D also sees the image's fine detail times this, as further channels; 0 is the paper's. Without it D hardly
    sees a texture that repeats from patch to patch: detail is a hundredth of an image's variance."""
    attention: AttentionKind = "l2"
    """Similarity of tokens: L2 distance (the paper's) or dot product."""
    weight_norm: WeightNorm = "isn"
    """Spectral normalisation of every projection and MLP weight: improved ("isn"), plain ("sn") or "none"."""
    convolutional_projection: bool = False
    """Query, key and value by 3×3 convolutions over the token map (paper, v2)."""
    positions: Literal["sine", "sincos", "none"] = "sine"
    """Features of a patch's place: learned sines (the paper's), fixed sines and cosines, or none (GAT's)."""
    layer_scale: float | None = Field(default=None, gt=0)
    """Initial value of the learned factor of each residual branch (GAT's is 0.1); None has no such factor."""
    class_token_init: float = Field(default=1.0, gt=0)
    """Standard deviation of the class token's initial values; GAT's is 0.02."""
    classifier: bool = False
    """D also tells the classes of images, for `objective.classification`; does nothing without classes."""
    alignment_features: str | None = None
    """The frozen network that `objective.alignment` brings some tokens near: lite2 (ImageNet's EfficientNet-Lite), lite0,
    which is left to the metrics, or a folder with a DINOv2 as transformers saves it."""
    alignment_block: int | None = Field(default=None, ge=1)
    """Tokens after this block, the first being 1; None is half of them."""
    alignment_size: int = Field(default=64, ge=1)
    """Height and width in pixels to which images are resized before the frozen network sees them."""

    @property
    def overlap_pixels(self) -> int:
        return self.patch_size // 2 if self.overlap is None else self.overlap


class DiscriminatorBlock(nn.Module):
    """h' = MSA(LN(h)) + h;  MLP(LN(h')) + h' (eqs. 2 and 3), with L2 attention and normalised weights."""

    def __init__(self, config: ViTDiscriminatorConfig) -> None:
        super().__init__()
        dim = config.dim
        self.norm1 = plain_norm(dim, config.normalization)
        self.attention = config.self_attention(
            kind=config.attention,
            weight_norm=config.weight_norm,
            convolutional_projection=config.convolutional_projection,
            num_prefix_tokens=1,
        )
        self.norm2 = plain_norm(dim, config.normalization)
        self.mlp = Mlp(dim, config.mlp_ratio, config.mlp, config.weight_norm, config.equalized_lr)
        # LayerScale (Touvron et al. 2021): both branches start small.
        self.layer_scale = config.layer_scale
        self.scale1 = nn.Parameter(torch.empty(dim)) if self.layer_scale is not None else None
        self.scale2 = nn.Parameter(torch.empty(dim)) if self.layer_scale is not None else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for scale in (self.scale1, self.scale2):
            if scale is not None and self.layer_scale is not None:
                nn.init.constant_(scale, self.layer_scale)

    def forward(
        self, h: Tensor, num_outputs: int | None = None, return_attention: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """(B, 1 + L, dim) -> the first M = `num_outputs` tokens (all if None), and the attention weights if asked for."""
        attended, weights = self.attention(self.norm1(h), num_outputs, return_attention)  # (B, M, dim)
        h = h[:, :num_outputs] + (attended if self.scale1 is None else attended * self.scale1)
        transformed = self.mlp(self.norm2(h))  #                                            (B, M, dim)
        return h + (transformed if self.scale2 is None else transformed * self.scale2), weights


class ViTDiscriminator(Discriminator):
    """Image -> overlapping patches -> tokens -> the class token's logit."""

    def __init__(self, config: ViTDiscriminatorConfig, resolution: int, channels: int, num_classes: int = 0) -> None:
        """Builds and initialises the discriminator (weights from torch's global generator).

        Raises:
            UserError: If the patch does not divide the resolution, the heads the width, the overlap exceeds the patch,
                the MLP has no width, positions do not fit the width, or the frozen network or its block cannot be had.
        """
        config.check("discriminator", resolution)
        if config.overlap_pixels > config.patch_size:
            raise UserError(
                f"discriminator.overlap {config.overlap} is more than the patch size {config.patch_size}: "
                f"choose 0 to {config.patch_size}",
                "model.discriminator.overlap",
            )
        if (config.alignment_block or 1) > config.depth:
            raise UserError(
                f"discriminator.alignment_block {config.alignment_block} is more than discriminator.depth {config.depth}: "
                f"choose 1 to {config.depth}",
                "model.discriminator.alignment_block",
            )
        super().__init__(resolution, channels, num_classes)
        self.config = config
        dim, equalized, weight_norm = config.dim, config.equalized_lr, config.weight_norm
        self.grid_size = resolution // config.patch_size
        self.patch_embedding = OverlappingPatchEmbedding(
            2 * channels if config.fine_detail else channels,
            config.patch_size,
            config.overlap_pixels,
            dim,
            weight_norm,
            equalized,
        )
        self.position_embedding = (
            position_features("discriminator", config.positions, dim, config.position_frequency, self.grid_size)
            if config.positions != "none"
            else None
        )
        self.class_token = nn.Parameter(torch.empty(dim))
        self.reset_parameters()
        self.blocks = nn.ModuleList(DiscriminatorBlock(config) for _ in range(config.depth))
        self.norm = plain_norm(dim, config.normalization)
        self.head = EqualizedLinear(dim, 1, equalized=equalized, weight_norm=weight_norm)
        # Projection conditioning (Miyato and Koyama 2018): the logit gains <embedding of the class, y>.
        self.class_embedding = (
            EqualizedLinear(dim, num_classes, bias=False, equalized=equalized, weight_norm=weight_norm)
            if num_classes
            else None
        )
        self.classifier = Classifier(dim, num_classes) if config.classifier and num_classes else None
        self.alignment = None
        if config.alignment_features is not None:
            frozen = load_frozen(config.alignment_features, config.alignment_size, ALIGNMENT_FIELDS)
            self.alignment = Alignment(frozen, dim, self.grid_size, equalized)

    def reset_parameters(self) -> None:
        normal_(self.class_token, self.config.class_token_init)
        linear = self.patch_embedding.linear
        if self.position_embedding is None and linear.bias is not None:
            # Cutout makes patches 0. Without a bias their tokens would be 0, where a norm's gradient explodes.
            deviation = 1 / math.sqrt(3 * linear.in_features)  # torch's
            normal_(linear.bias, deviation / linear.bias_scale)

    def stages(self) -> list[list[nn.Parameter]]:
        embeddings = [part for part in (self.patch_embedding, self.position_embedding) if part is not None]
        first = [self.class_token, *(parameter for part in embeddings for parameter in part.parameters())]
        return [first, *([*block.parameters()] for block in self.blocks)]

    def tokens(self, images: Tensor) -> Tensor:
        """h_0 = [x_class; x_p E + E_pos]: images (B, C, H, W) -> (B, 1 + L, dim). Levels are channels."""
        images = images.flatten(1, -3)
        if self.config.fine_detail:
            images = torch.cat([images, self.config.fine_detail * fine_detail(images)], dim=1)  # (B, 2C, H, W)
        patches = self.patch_embedding(images)  #                       (B, L, dim)
        if self.position_embedding is not None:
            positions = grid_positions(images.shape[-1] // self.config.patch_size, images.device).to(images.dtype)
            patches = patches + self.position_embedding(positions)  #   (B, L, dim)
        return torch.cat([self.class_token.expand(len(images), 1, -1), patches], dim=1)  # (B, 1 + L, dim)

    def forward(self, images: Tensor, labels: Tensor | None = None, num_sets: int = 1) -> Tensor:
        return self.judge(images, labels).logits

    def judge(self, images: Tensor, labels: Tensor | None = None, num_sets: int = 1) -> Judgement:
        """Logits (B,), and class logits (B, num_classes) if D has a classifier, both from the class token."""
        h = self.tokens(images)  #                                          (B, 1 + L, dim)
        for block in self.blocks[:-1]:
            h, _ = block(h)  #                                              (B, 1 + L, dim)
        # Of the last block the score needs the class token alone: 4/5 of its work falls away, and nothing changes.
        h, _ = self.blocks[-1](h, num_outputs=1)  #                         (B, 1, dim)
        # Losses subtract logits and penalties square the difference: from here on float32, under autocast too.
        with full_precision(h):
            y = self.norm(h[:, 0].to(self.head.weight.dtype))  #            (B, dim)
            logits = self.head(y).squeeze(1)  #                             (B,)
            if self.class_embedding is not None:
                if labels is None:
                    raise ValueError("this discriminator is conditional: pass labels, class indices (B,)")
                logits = logits + self.class_embedding(y).gather(1, labels.unsqueeze(1)).squeeze(1)
        return Judgement(logits, self.classifier(y) if self.classifier is not None else None)

    def attention_maps(self, images: Tensor) -> list[Tensor]:
        if self.num_levels > 1:
            images = images.unsqueeze(1).expand(-1, self.num_levels, -1, -1, -1)
        h, maps = self.tokens(images), []
        for block in self.blocks:
            h, weights = block(h, return_attention=True)  #                 (B, heads, 1 + L, 1 + L)
            maps.append(weights)
        return maps

    def aligned(self, images: Tensor) -> tuple[Tensor, Tensor]:
        assert self.alignment is not None
        h = self.tokens(images)  #                                          (B, 1 + L, dim)
        for block in self.blocks[: self.config.alignment_block or (len(self.blocks) + 1) // 2]:
            h, _ = block(h)  #                                              (B, 1 + L, dim)
        return self.alignment(h[:, 1:], images[:, -1] if images.ndim == 5 else images)  # (B, L, F) twice
