"""Features of DINOv2 and CLIP, whose weights the user has: a folder or a Hub repository, opened by `transformers`."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitgan.errors import UserError, one_line
from vitgan.files import read_json, sha256
from vitgan.files.hub import fetch_repository
from vitgan.frozen.features import IMAGENET_DEVIATION, IMAGENET_MEAN, open_transformer, require_transformers

CONFIG, WEIGHTS = "config.json", "model.safetensors"
INPUT_SIZE = 224
"""Of DINOv2, which takes any; CLIP's is in its configuration."""


class Kind(NamedTuple):
    """What a kind of network needs.

    Attributes:
        name: Stands in the names of metrics.
        model: The class in `transformers`.
        output: Its field with the features.
        mean: Of the pixels in [0, 1], a channel each.
        std: The same.
    """

    name: str
    model: str
    output: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


DINOV2 = Kind("dinov2", "Dinov2Model", "pooler_output", IMAGENET_MEAN, IMAGENET_DEVIATION)
CLIP = Kind(
    "clip",
    "CLIPVisionModelWithProjection",
    "image_embeds",
    (0.48145466, 0.4578275, 0.40821073),
    (0.26862954, 0.26130258, 0.27577711),
)
KINDS = {"dinov2": DINOV2, "clip": CLIP, "clip_vision_model": CLIP}
"""By the `model_type` of a configuration."""


class TransformerFeatures(nn.Module):
    """The network from pixels to features; it has no class logits.

    Attributes:
        dimension: Number of features.
        input_size: Height and width that images are resized to.
    """

    def __init__(self, network: Any, kind: Kind) -> None:
        super().__init__()
        self.network, self.kind = network, kind
        clip = kind is CLIP
        self.dimension: int = network.visual_projection.out_features if clip else network.config.hidden_size
        self.input_size: int = network.config.image_size if clip else INPUT_SIZE
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(kind.mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(kind.std).view(3, 1, 1))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, 3, H, W), float32 in [0, 255] -> features (B, dimension) and no logits (B, 0)."""
        size = (self.input_size, self.input_size)
        x = F.interpolate(images, size=size, mode="bicubic", antialias=True, align_corners=False)
        x = (x.clamp(0, 255) / 255 - self.mean) / self.std
        features = self.network(pixel_values=x)[self.kind.output]
        return features, features.new_empty(len(features), 0)


def load_transformer(name: str) -> tuple[TransformerFeatures, str]:
    """Opens a DINOv2 or CLIP network in float32, ready for evaluation; and the hex digest of its weights.

    Args:
        name: A folder with `config.json` and `model.safetensors`, or a Hub repository user/name.

    Raises:
        UserError: If `transformers` is absent, or there is no such network, or it is of another kind, or not whole.
    """
    require_transformers(name, "features")
    folder = Path(name) if Path(name).is_dir() else fetch_repository(name, [CONFIG, WEIGHTS], "features")
    missing = [file for file in (CONFIG, WEIGHTS) if not (folder / file).is_file()]
    if missing:
        raise UserError(f"{name} has no {' and no '.join(missing)}: pass a DINOv2 or CLIP network's folder", "features")
    config = read_json(folder / CONFIG, "network")
    found = config.get("model_type") if isinstance(config, dict) else None
    if found not in KINDS:
        raise UserError(
            one_line(f"{name} holds a network of kind {found!r}: pass one of {', '.join(KINDS)}"), "features"
        )
    kind = KINDS[found]
    network = open_transformer(folder, kind.model, "features")
    return TransformerFeatures(network, kind).eval().requires_grad_(False), sha256(folder / WEIGHTS)
