"""Images for the eye: bytes, grids and picture files. What cannot become one is a UserError, before work is done for it."""

import importlib.util
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vitgan.errors import UserError
from vitgan.files.reading import user_error
from vitgan.files.writing import check_file, whole_file

if TYPE_CHECKING:  # neither is imported to check a command's arguments
    from PIL import Image
    from torch import Tensor

LARGEST_PICTURE = 1 << 28
"""Pixels of a picture that is made unasked: 268 million, a gigabyte or two of memory."""
LARGEST_SIDE = {".webp": 16_383, ".jpg": 65_500, ".jpeg": 65_500, ".gif": 65_535}
"""What a format can hold; others more than `LARGEST_PICTURE` lets through."""
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".tif", ".tiff", ".bmp", ".ppm", ".pdf")
"""Pillow writes more, of which some keep another size (.ico at most 256 pixels)."""

ANIMATIONS = (".gif", ".webp", ".mp4")
GIF_RATE = 50
"""Frames per second at most: GIF counts hundredths of a second, and players slow down a frame of only one."""
LARGEST_ANIMATION = 1 << 29
"""Pixels of all frames: a gigabyte and a half of memory."""


def to_uint8(images: "Tensor") -> "Tensor":
    """Images of any shape, float in [-1, 1] -> uint8; values outside are clipped.

    The byte is the integer nearest to 127.5 x + 127.5 in float32, the even one of two that are equally near: 0.0 is 128.
    """
    return (images.detach().float() * 127.5 + 127.5).round().clamp(0, 255).byte()


def to_array(images: "Tensor") -> np.ndarray:
    """(B, C, H, W) float in [-1, 1] -> (B, H, W, C) uint8, as files have them."""
    return to_uint8(images).permute(0, 2, 3, 1).cpu().numpy()


def to_pil(image: np.ndarray) -> "Image.Image":
    """(H, W, C) uint8 with one or three channels -> a Pillow image in mode L or RGB."""
    from PIL import Image

    return Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)


def grid_shape(count: int, columns: int | None = None) -> tuple[int, int]:
    """Rows and columns of `count` images, as near to a square as `columns` leaves open."""
    columns = columns or math.ceil(math.sqrt(count))
    return -(-count // columns), columns


def image_grid(images: "Tensor | np.ndarray", columns: int | None = None, enlarge: int = 1) -> "Image.Image":
    """Images side by side in rows, as near to a square as `columns` leaves open.

    Args:
        images: (B, C, H, W) float in [-1, 1], or (B, H, W, C) uint8.
        columns: Images per row; None is the ceiling of sqrt(B).
        enlarge: Whole factor by which pixels are repeated, so that small images can be seen.
    """
    array = images if isinstance(images, np.ndarray) else to_array(images)
    count, height, width, channels = array.shape
    rows, columns = grid_shape(count, columns)
    check_picture_size(columns * width * enlarge, rows * height * enlarge)
    canvas = np.full((rows * columns, height, width, channels), 255, np.uint8)
    canvas[:count] = array
    canvas = canvas.reshape(rows, columns, height, width, channels).transpose(0, 2, 1, 3, 4)
    canvas = canvas.reshape(rows * height, columns * width, channels)
    return to_pil(canvas.repeat(enlarge, axis=0).repeat(enlarge, axis=1))


def enlargement(resolution: int) -> int:
    """Factor that brings images of `resolution` pixels to about 64 on the screen."""
    return max(1, 64 // resolution)


def save_image(image: "Image.Image", path: Path) -> None:
    """Writes an image, whole or not at all."""
    check_picture(path)
    check_picture_size(image.width, image.height, path)
    advice = "choose another format (.png)"
    with whole_file(path) as temporary, user_error(f"cannot write the image {path}", ValueError, advice=advice):
        image.save(temporary)


def check_picture(path: Path) -> Path:
    """Refuses a path that cannot become a picture, before work is done for it; gives it back."""
    # os.path answers False, where Path raises, to names that are too long.
    if path.suffix.lower() not in PICTURES and not os.path.isdir(path):  # noqa: PTH112 - False for odd names
        raise UserError(f"cannot write the image {path}: end it in one of {', '.join(PICTURES)}")
    check_file(path, "the image ")
    return path


def check_picture_size(width: int, height: int, path: Path | None = None) -> None:
    """Refuses a picture that would exhaust memory, or that the format of `path` cannot hold."""
    side = LARGEST_SIDE.get(path.suffix.lower(), LARGEST_PICTURE) if path else LARGEST_PICTURE
    if width * height > LARGEST_PICTURE or max(width, height) > side:
        place = f" for {path}" if path else ""
        advice = "ask for fewer or smaller images, or another format"
        raise UserError(f"a picture of {width:,}×{height:,} pixels is too large{place}: {advice}")


def check_animation(path: Path) -> Path:
    """Refuses a path that can become neither an animation nor a still .png, before work is done for it; gives it back."""
    if path.suffix.lower() not in (*ANIMATIONS, ".png"):
        raise UserError(f"cannot write {path}: end it in {', '.join(ANIMATIONS)}, or in .png for stills")
    if path.suffix.lower() == ".mp4" and importlib.util.find_spec("av") is None:
        raise UserError("MP4 needs the package av: pip install 'vitgan[video]', or write a .gif or .webp")
    return check_file(path)


def check_rate(path: Path, frames_per_second: float) -> None:
    """Refuses a rate that is none, or that the format of `path` cannot hold, before work is done for it."""
    if not 0 < frames_per_second < math.inf:
        raise UserError(f"{frames_per_second} frames per second: choose more than 0", "frames_per_second")
    if path.suffix.lower() == ".gif" and frames_per_second > GIF_RATE:
        advice = f"choose {GIF_RATE} at most, or a .webp or .mp4"
        raise UserError(f"{path} cannot have {frames_per_second:g} frames per second: {advice}", "frames_per_second")


def check_animation_size(frames: int, width: int, height: int) -> None:
    """Refuses an animation that would exhaust memory."""
    if frames * width * height > LARGEST_ANIMATION:
        size = f"{frames:,} frames of {width:,}×{height:,} pixels"
        raise UserError(f"an animation of {size} is too large: ask for fewer or smaller frames")
