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


def average(x: Tensor) -> Tensor:
    """The mean of each place's 3×3 neighbours, without the padding."""
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


class At35(nn.Module):
    """Four paths side by side at 35×35: (B, C, 35, 35) -> (B, 224 + pool_channels, 35, 35)."""

    def __init__(self, channels: int, pool_channels: int) -> None:
        super().__init__()
        self.branch1x1 = Convolution(channels, 64, (1, 1))
        self.branch5x5_1 = Convolution(channels, 48, (1, 1))
        self.branch5x5_2 = Convolution(48, 64, (5, 5))
        self.branch3x3dbl_1 = Convolution(channels, 64, (1, 1))
        self.branch3x3dbl_2 = Convolution(64, 96, (3, 3))
        self.branch3x3dbl_3 = Convolution(96, 96, (3, 3))
        self.branch_pool = Convolution(channels, pool_channels, (1, 1))

    def forward(self, x: Tensor) -> Tensor:
        small = self.branch1x1(x)
        middle = self.branch5x5_2(self.branch5x5_1(x))
        large = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        pooled = self.branch_pool(average(x))
        return torch.cat([small, middle, large, pooled], dim=1)


class To17(nn.Module):
    """From 35×35 to 17×17: (B, 288, 35, 35) -> (B, 768, 17, 17)."""

    def __init__(self) -> None:
        super().__init__()
        self.branch3x3 = Convolution(288, 384, (3, 3), stride=2)
        self.branch3x3dbl_1 = Convolution(288, 64, (1, 1))
        self.branch3x3dbl_2 = Convolution(64, 96, (3, 3))
        self.branch3x3dbl_3 = Convolution(96, 96, (3, 3), stride=2)

    def forward(self, x: Tensor) -> Tensor:
        large = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), large, F.max_pool2d(x, 3, stride=2)], dim=1)


class At17(nn.Module):
    """The same at 17×17, 7×7 kernels factored into rows and columns: (B, 768, 17, 17) -> the same, c channels inside."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.branch1x1 = Convolution(768, 192, (1, 1))
        self.branch7x7_1 = Convolution(768, c, (1, 1))
        self.branch7x7_2 = Convolution(c, c, (1, 7))
        self.branch7x7_3 = Convolution(c, 192, (7, 1))
        self.branch7x7dbl_1 = Convolution(768, c, (1, 1))
        self.branch7x7dbl_2 = Convolution(c, c, (7, 1))
        self.branch7x7dbl_3 = Convolution(c, c, (1, 7))
        self.branch7x7dbl_4 = Convolution(c, c, (7, 1))
        self.branch7x7dbl_5 = Convolution(c, 192, (1, 7))
        self.branch_pool = Convolution(768, 192, (1, 1))

    def forward(self, x: Tensor) -> Tensor:
        small = self.branch1x1(x)
        middle = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        large = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        large = self.branch7x7dbl_5(self.branch7x7dbl_4(large))
        pooled = self.branch_pool(average(x))
        return torch.cat([small, middle, large, pooled], dim=1)


class To8(nn.Module):
    """From 17×17 to 8×8: (B, 768, 17, 17) -> (B, 1280, 8, 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.branch3x3_1 = Convolution(768, 192, (1, 1))
        self.branch3x3_2 = Convolution(192, 320, (3, 3), stride=2)
        self.branch7x7x3_1 = Convolution(768, 192, (1, 1))
        self.branch7x7x3_2 = Convolution(192, 192, (1, 7))
        self.branch7x7x3_3 = Convolution(192, 192, (7, 1))
        self.branch7x7x3_4 = Convolution(192, 192, (3, 3), stride=2)

    def forward(self, x: Tensor) -> Tensor:
        middle = self.branch3x3_2(self.branch3x3_1(x))
        large = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([middle, large, F.max_pool2d(x, 3, stride=2)], dim=1)


class At8(nn.Module):
    """The same at 8×8, with rows and columns side by side at a path's end: (B, C, 8, 8) -> (B, 2048, 8, 8)."""

    def __init__(self, channels: int, pooling: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.pooling = pooling
        self.branch1x1 = Convolution(channels, 320, (1, 1))
        self.branch3x3_1 = Convolution(channels, 384, (1, 1))
        self.branch3x3_2a = Convolution(384, 384, (1, 3))
        self.branch3x3_2b = Convolution(384, 384, (3, 1))
        self.branch3x3dbl_1 = Convolution(channels, 448, (1, 1))
        self.branch3x3dbl_2 = Convolution(448, 384, (3, 3))
        self.branch3x3dbl_3a = Convolution(384, 384, (1, 3))
        self.branch3x3dbl_3b = Convolution(384, 384, (3, 1))
        self.branch_pool = Convolution(channels, 192, (1, 1))

    def forward(self, x: Tensor) -> Tensor:
        small = self.branch1x1(x)
        y = self.branch3x3_1(x)
        z = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        middle = [self.branch3x3_2a(y), self.branch3x3_2b(y)]
        large = [self.branch3x3dbl_3a(z), self.branch3x3dbl_3b(z)]
        pooled = self.branch_pool(self.pooling(x))
        return torch.cat([small, *middle, *large, pooled], dim=1)


class Inception(nn.Module):
    """The network from pixels to features and class logits."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Convolution(3, 32, (3, 3), stride=2)
        self.Conv2d_2a_3x3 = Convolution(32, 32, (3, 3), padded=False)
        self.Conv2d_2b_3x3 = Convolution(32, 64, (3, 3))
        self.Conv2d_3b_1x1 = Convolution(64, 80, (1, 1))
        self.Conv2d_4a_3x3 = Convolution(80, 192, (3, 3), padded=False)
        self.Mixed_5b = At35(192, 32)
        self.Mixed_5c = At35(256, 64)
        self.Mixed_5d = At35(288, 64)
        self.Mixed_6a = To17()
        self.Mixed_6b = At17(128)
        self.Mixed_6c = At17(160)
        self.Mixed_6d = At17(160)
        self.Mixed_6e = At17(192)
        self.Mixed_7a = To8()
        self.Mixed_7b = At8(1280, average)
        # A slip of the 2015 graph that every published FID contains: here it takes the maximum.
        self.Mixed_7c = At8(2048, partial(F.max_pool2d, kernel_size=3, stride=1, padding=1))
        self.fc = nn.Linear(FEATURES, CLASSES)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, 3, H, W), float32 in [0, 255] -> pooled features (B, 2048) and logits without bias (B, 1008).

        The Inception Score's original code leaves the bias out of the logits, and so does everyone since.
        """
        x = (tensorflow_bilinear(images, INPUT_SIZE) - 128) / 128  #                         (B, 3, 299, 299)
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))  #                 (B, 64, 147, 147)
        x = F.max_pool2d(x, 3, stride=2)  #                                                  (B, 64, 73, 73)
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x))  #                                     (B, 192, 71, 71)
        x = F.max_pool2d(x, 3, stride=2)  #                                                  (B, 192, 35, 35)
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))  #                                (B, 288, 35, 35)
        x = self.Mixed_6a(x)  #                                                              (B, 768, 17, 17)
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(x))))  #                 (B, 768, 17, 17)
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))  #                                (B, 2048, 8, 8)
        features = F.adaptive_avg_pool2d(x, 1).flatten(1)  #                                 (B, 2048)
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
            raise UserError(
                f"there is no Inception weights file at {path}: {how_to_get_weights()}", "inception_weights"
            )
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
    advice = how_to_get_weights()
    with user_error(
        wrong, Exception, advice=advice, parameter="inception_weights"
    ):  # torch.load raises almost anything
        network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True), assign=True)
    return network.requires_grad_(False).eval()
