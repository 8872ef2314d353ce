"""EfficientNet-Lite's features for metrics, on a machine without a network."""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitgan.frozen.features import load_efficientnet

FEATURES = 1280
INPUT_SIZES = {"lite0": 128, "lite2": 160}


class Lite(nn.Module):
    """The network from pixels to features and class logits."""

    def __init__(self, network: Any, input_size: int) -> None:
        super().__init__()
        self.network = network
        self.input_size = input_size

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, 3, H, W), float32 in [0, 255] -> pooled features (B, 1280) and ImageNet logits (B, 1000)."""
        size = (self.input_size, self.input_size)
        x = F.interpolate(images, size=size, mode="bilinear", antialias=True, align_corners=False)
        x = ((x - 127) / 128).contiguous(memory_format=torch.channels_last)
        features = self.network.extract_features(x).mean(dim=(2, 3))
        return features, self.network._fc(features)


def load_lite(name: str, weights: Path) -> Lite:
    """Builds "lite0" or "lite2" with these weights; ready for evaluation."""
    return Lite(load_efficientnet(name, INPUT_SIZES[name], weights), INPUT_SIZES[name]).eval()
