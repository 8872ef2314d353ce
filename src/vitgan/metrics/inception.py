"""Inception-v3 as the TensorFlow graph of 2015-12-05 has it: the network that published FIDs are measured with.

It differs from the Inception-v3 of model zoos: 1008 classes, average pooling that leaves the zero padding out, one
maximum pooling where others average, and TensorFlow 1's bilinear resizing. Modules carry the names of the converted
weights that torch-fidelity and pytorch-fid distribute, so that their file loads as it is.

Source: Szegedy et al. 2016, "Rethinking the Inception Architecture"; Heusel et al. 2017 (FID).
"""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitgan.errors import UserError, shell
from vitgan.files import user_error

WEIGHTS_URL = (
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
)
WEIGHTS_SHA256_START = "6726825d"  # the file's name carries it
WEIGHTS_VARIABLE = "VITGAN_INCEPTION_WEIGHTS"
FEATURES = 2048
CLASSES = 1008
INPUT_SIZE = 299


POOLINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "average": partial(F.avg_pool2d, kernel_size=3, stride=1, padding=1, count_include_pad=False),
    "maximum": partial(F.max_pool2d, kernel_size=3, stride=1, padding=1),
    "halve": partial(F.max_pool2d, kernel_size=3, stride=2),
}


def at_35(pool_channels: int) -> list[str]:
    """The paths of a block at 35×35, as `Block` takes them."""
    return [
        "branch1x1:64:1x1",
        "branch5x5_1:48:1x1 branch5x5_2:64:5x5",
        "branch3x3dbl_1:64:1x1 branch3x3dbl_2:96:3x3 branch3x3dbl_3:96:3x3",
        f"average branch_pool:{pool_channels}:1x1",
    ]


def at_17(c: int) -> list[str]:
    """The same at 17×17: 7×7 kernels factored into rows and columns, `c` channels wide inside."""
    return [
        "branch1x1:192:1x1",
        f"branch7x7_1:{c}:1x1 branch7x7_2:{c}:1x7 branch7x7_3:192:7x1",
        f"branch7x7dbl_1:{c}:1x1 branch7x7dbl_2:{c}:7x1 branch7x7dbl_3:{c}:1x7 "
        f"branch7x7dbl_4:{c}:7x1 branch7x7dbl_5:192:1x7",
        "average branch_pool:192:1x1",
    ]


def at_8(pooling: str) -> list[str]:
    """The same at 8×8: paths that end in a row and a column kernel side by side."""
    return [
        "branch1x1:320:1x1",
        "branch3x3_1:384:1x1 branch3x3_2a:384:1x3|branch3x3_2b:384:3x1",
        "branch3x3dbl_1:448:1x1 branch3x3dbl_2:384:3x3 branch3x3dbl_3a:384:1x3|branch3x3dbl_3b:384:3x1",
        f"{pooling} branch_pool:192:1x1",
    ]


BLOCKS = {
    "Mixed_5b": at_35(32),
    "Mixed_5c": at_35(64),
    "Mixed_5d": at_35(64),
    "Mixed_6a": [
        "branch3x3:384:3x3/2",
        "branch3x3dbl_1:64:1x1 branch3x3dbl_2:96:3x3 branch3x3dbl_3:96:3x3/2",
        "halve",
    ],
    "Mixed_6b": at_17(128),
    "Mixed_6c": at_17(160),
    "Mixed_6d": at_17(160),
    "Mixed_6e": at_17(192),
    "Mixed_7a": [
        "branch3x3_1:192:1x1 branch3x3_2:320:3x3/2",
        "branch7x7x3_1:192:1x1 branch7x7x3_2:192:1x7 branch7x7x3_3:192:7x1 branch7x7x3_4:192:3x3/2",
        "halve",
    ],
    "Mixed_7b": at_8("average"),
    "Mixed_7c": at_8("maximum"),  # a slip of the 2015 graph that every published FID contains
}


class Convolution(nn.Module):
    """Convolution, batch normalisation with fixed statistics, ReLU; with a stride never padded."""

    def __init__(
        self, in_channels: int, channels: int, kernel: tuple[int, int], stride: int = 1, padded: bool = True
    ) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2) if padded and stride == 1 else 0
        self.conv = nn.Conv2d(in_channels, channels, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(channels, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class Block(nn.Module):
    """Paths side by side over one input, their outputs concatenated in channels.

    A path is written as its steps, each a pooling or a convolution NAME:CHANNELS:KERNEL, with "/2" onto half the size.
    "a b" applies a, then b; "a b|c" concatenates what b and c make of a's output.

    Attributes:
        channels: Of the output.
    """

    def __init__(self, in_channels: int, paths: list[str]) -> None:
        super().__init__()
        self.paths: list[list[list[str]]] = []
        self.channels = 0
        for path in paths:
            channels, steps = in_channels, []
            for step in path.split():
                parts = [part.split(":") for part in step.split("|")]
                steps.append([name for name, *_ in parts])
                if step not in POOLINGS:
                    for name, width, kernel in parts:
                        rows, columns = map(int, kernel.removesuffix("/2").split("x"))
                        stride = 2 if kernel.endswith("/2") else 1
                        self.add_module(name, Convolution(channels, int(width), (rows, columns), stride))
                    channels = sum(int(width) for _, width, _ in parts)
            self.paths.append(steps)
            self.channels += channels

    def forward(self, x: Tensor) -> Tensor:
        outputs = []
        for path in self.paths:
            y = x
            for step in path:
                y = torch.cat([(POOLINGS.get(name) or self.get_submodule(name))(y) for name in step], dim=1)
            outputs.append(y)
        return torch.cat(outputs, dim=1)


class Inception(nn.Module):
    """The network from pixels to features and class logits."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Convolution(3, 32, (3, 3), stride=2)
        self.Conv2d_2a_3x3 = Convolution(32, 32, (3, 3), padded=False)
        self.Conv2d_2b_3x3 = Convolution(32, 64, (3, 3))
        self.Conv2d_3b_1x1 = Convolution(64, 80, (1, 1))
        self.Conv2d_4a_3x3 = Convolution(80, 192, (3, 3), padded=False)
        channels = 192
        for name, paths in BLOCKS.items():
            block = Block(channels, paths)
            self.add_module(name, block)
            channels = block.channels
        self.fc = nn.Linear(FEATURES, CLASSES)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, 3, H, W), float32 in [0, 255] -> pooled features (B, 2048) and logits without bias (B, 1008).

        The Inception Score's original code leaves the bias out of the logits, and so does everyone since.
        """
        x = (tensorflow_bilinear(images, INPUT_SIZE) - 128) / 128
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = F.max_pool2d(x, 3, stride=2)
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x))
        x = F.max_pool2d(x, 3, stride=2)
        for name in BLOCKS:
            x = self.get_submodule(name)(x)
        features = F.adaptive_avg_pool2d(x, 1).flatten(1)
        return features, features @ self.fc.weight.T


def tensorflow_bilinear(images: Tensor, size: int) -> Tensor:
    """Resizes as TensorFlow 1's `resize_bilinear` does: sample i lies at i·(old/new), without a half-pixel offset.

    Args:
        images: (B, C, H, W) float.
        size: New height and width.
    """
    rows_low, rows_high, row_weight = _taps(images.shape[2], size, images)
    columns_low, columns_high, column_weight = _taps(images.shape[3], size, images)
    left, right = images[..., columns_low], images[..., columns_high]
    wide = left + (right - left) * column_weight
    top, bottom = wide[:, :, rows_low], wide[:, :, rows_high]
    return top + (bottom - top) * row_weight[:, None]


def _taps(old: int, new: int, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The two source indices of every target index, and the second one's weight."""
    position = torch.arange(new, dtype=torch.float32, device=like.device) * torch.tensor(old / new)
    low = position.long()
    return low, (low + 1).clamp_max(old - 1), (position - low).to(like.dtype)


def find_weights(path: Path | None = None) -> Path | None:
    """Where the weights lie: `path`, else $VITGAN_INCEPTION_WEIGHTS, else torch.hub's cache; None if nowhere.

    torch-fidelity and pytorch-fid keep the same file in that cache.

    Raises:
        UserError: `path` or the variable names a file that is not there.
    """
    if path is None and os.environ.get(WEIGHTS_VARIABLE):
        path = Path(os.environ[WEIGHTS_VARIABLE])
    if path is not None:
        if not path.is_file():
            raise UserError(f"there is no Inception weights file at {path}: {how_to_get_weights()}")
        return path
    names = ("weights-inception-2015-12-05-6726825d.pth", "pt_inception-2015-12-05-6726825d.pth")
    cached = [Path(torch.hub.get_dir()) / "checkpoints" / name for name in names]
    return next((file for file in cached if file.is_file()), None)


def how_to_get_weights() -> str:
    """One line that tells a user what to do about missing weights."""
    place = Path(torch.hub.get_dir()) / "checkpoints" / Path(WEIGHTS_URL).name
    return (
        f"fetch it once with `{shell('curl', '-L', '--create-dirs', '-o', place, WEIGHTS_URL)}` (91 MB), "
        "name a copy (inception_weights), or measure with the features lite0"
    )


def load_inception(weights: Path) -> Inception:
    """Builds the network with the weights in a file as torch-fidelity distributes them; ready for evaluation.

    Raises:
        UserError: The file is no such weights file.
    """
    with torch.device("meta"):  # no initialisation: the global random state stays as it is
        network = Inception()
    wrong = f"{weights} does not hold the weights of the 2015 Inception network"
    with user_error(
        wrong, Exception, advice=how_to_get_weights()
    ):  # torch.load raises almost anything on a foreign file
        network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True), assign=True)
    return network.requires_grad_(False).eval()
