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

WEIGHTS_URL = (
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
)
WEIGHTS_SHA256_START = "6726825d"  # the file's name carries it
WEIGHTS_VARIABLE = "VITGAN_INCEPTION_WEIGHTS"
FEATURES = 2048
CLASSES = 1008
INPUT_SIZE = 299


class Convolution(nn.Module):
    """Convolution, batch normalisation with fixed statistics, ReLU."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(channels, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


POOLINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "average": partial(F.avg_pool2d, kernel_size=3, stride=1, padding=1, count_include_pad=False),
    "maximum": partial(F.max_pool2d, kernel_size=3, stride=1, padding=1),
    "halve": partial(F.max_pool2d, kernel_size=3, stride=2),
}


class Block(nn.Module):
    """Paths side by side over one input, their outputs concatenated in channels.

    A path is written as the names of its steps: "a b" applies a, then b; "a b|c" concatenates what b and c make of a's
    output. Steps are convolutions of this block or one of the three poolings.
    """

    def __init__(self, paths: list[str], **convolutions: Convolution) -> None:
        super().__init__()
        self.paths = [[step.split("|") for step in path.split()] for path in paths]
        for name, convolution in convolutions.items():
            self.add_module(name, convolution)

    def forward(self, x: Tensor) -> Tensor:
        outputs = []
        for path in self.paths:
            y = x
            for step in path:
                y = torch.cat([(POOLINGS.get(name) or self.get_submodule(name))(y) for name in step], dim=1)
            outputs.append(y)
        return torch.cat(outputs, dim=1)


def same(in_channels: int, channels: int, height: int, width: int | None = None) -> Convolution:
    """A convolution that keeps the size; the kernel is square unless `width` is given."""
    width = height if width is None else width
    return Convolution(in_channels, channels, (height, width), padding=(height // 2, width // 2))


def halving(in_channels: int, channels: int) -> Convolution:
    return Convolution(in_channels, channels, 3, stride=2)


def block_35(in_channels: int, pool_channels: int) -> Block:
    """At 35×35: 1×1, 5×5 and twice 3×3."""
    return Block(
        ["branch1x1", "branch5x5_1 branch5x5_2", "branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3", "average branch_pool"],
        branch1x1=same(in_channels, 64, 1),
        branch5x5_1=same(in_channels, 48, 1),
        branch5x5_2=same(48, 64, 5),
        branch3x3dbl_1=same(in_channels, 64, 1),
        branch3x3dbl_2=same(64, 96, 3),
        branch3x3dbl_3=same(96, 96, 3),
        branch_pool=same(in_channels, pool_channels, 1),
    )


def reduction_35() -> Block:
    """From 35×35 to 17×17."""
    return Block(
        ["branch3x3", "branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3", "halve"],
        branch3x3=halving(288, 384),
        branch3x3dbl_1=same(288, 64, 1),
        branch3x3dbl_2=same(64, 96, 3),
        branch3x3dbl_3=halving(96, 96),
    )


def block_17(inner: int) -> Block:
    """At 17×17: 7×7 kernels factored into rows and columns, `inner` channels wide."""
    return Block(
        [
            "branch1x1",
            "branch7x7_1 branch7x7_2 branch7x7_3",
            "branch7x7dbl_1 branch7x7dbl_2 branch7x7dbl_3 branch7x7dbl_4 branch7x7dbl_5",
            "average branch_pool",
        ],
        branch1x1=same(768, 192, 1),
        branch7x7_1=same(768, inner, 1),
        branch7x7_2=same(inner, inner, 1, 7),
        branch7x7_3=same(inner, 192, 7, 1),
        branch7x7dbl_1=same(768, inner, 1),
        branch7x7dbl_2=same(inner, inner, 7, 1),
        branch7x7dbl_3=same(inner, inner, 1, 7),
        branch7x7dbl_4=same(inner, inner, 7, 1),
        branch7x7dbl_5=same(inner, 192, 1, 7),
        branch_pool=same(768, 192, 1),
    )


def reduction_17() -> Block:
    """From 17×17 to 8×8."""
    return Block(
        ["branch3x3_1 branch3x3_2", "branch7x7x3_1 branch7x7x3_2 branch7x7x3_3 branch7x7x3_4", "halve"],
        branch3x3_1=same(768, 192, 1),
        branch3x3_2=halving(192, 320),
        branch7x7x3_1=same(768, 192, 1),
        branch7x7x3_2=same(192, 192, 1, 7),
        branch7x7x3_3=same(192, 192, 7, 1),
        branch7x7x3_4=halving(192, 192),
    )


def block_8(in_channels: int, pooling: str) -> Block:
    """At 8×8: paths that end in a row and a column kernel side by side."""
    return Block(
        [
            "branch1x1",
            "branch3x3_1 branch3x3_2a|branch3x3_2b",
            "branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3a|branch3x3dbl_3b",
            f"{pooling} branch_pool",
        ],
        branch1x1=same(in_channels, 320, 1),
        branch3x3_1=same(in_channels, 384, 1),
        branch3x3_2a=same(384, 384, 1, 3),
        branch3x3_2b=same(384, 384, 3, 1),
        branch3x3dbl_1=same(in_channels, 448, 1),
        branch3x3dbl_2=same(448, 384, 3),
        branch3x3dbl_3a=same(384, 384, 1, 3),
        branch3x3dbl_3b=same(384, 384, 3, 1),
        branch_pool=same(in_channels, 192, 1),
    )


class Inception(nn.Module):
    """The network from pixels to features and class logits."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = halving(3, 32)
        self.Conv2d_2a_3x3 = Convolution(32, 32, 3)
        self.Conv2d_2b_3x3 = same(32, 64, 3)
        self.Conv2d_3b_1x1 = same(64, 80, 1)
        self.Conv2d_4a_3x3 = Convolution(80, 192, 3)
        self.Mixed_5b = block_35(192, pool_channels=32)
        self.Mixed_5c = block_35(256, pool_channels=64)
        self.Mixed_5d = block_35(288, pool_channels=64)
        self.Mixed_6a = reduction_35()
        self.Mixed_6b = block_17(inner=128)
        self.Mixed_6c = block_17(inner=160)
        self.Mixed_6d = block_17(inner=160)
        self.Mixed_6e = block_17(inner=192)
        self.Mixed_7a = reduction_17()
        self.Mixed_7b = block_8(1280, "average")
        self.Mixed_7c = block_8(2048, "maximum")  # a slip of the 2015 graph that every published FID contains
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
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
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
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
        network.load_state_dict(state, assign=True)
    except Exception as error:  # torch.load raises almost anything on a foreign file
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"{weights} does not hold the weights of the 2015 Inception network ({reason}): {how_to_get_weights()}"
        ) from error
    return network.requires_grad_(False).eval()
