"""What can become a picture file, known before it is made; imports no torch."""

import importlib.util
import math
import os
from functools import cache
from pathlib import Path

from vitgan.errors import UserError
from vitgan.files import check_file

LARGEST_PICTURE = 1 << 28
"""Pixels of a picture that is made unasked: 268 million, a gigabyte or two of memory."""
LARGEST_SIDE = {".webp": 16_383, ".jpg": 65_500, ".jpeg": 65_500, ".gif": 65_535}
"""What a format can hold; others more than `LARGEST_PICTURE` lets through."""

ANIMATIONS = (".gif", ".webp", ".mp4")
LARGEST_ANIMATION = 1 << 29
"""Pixels of all frames: a gigabyte and a half of memory."""


@cache
def picture_endings() -> frozenset[str]:
    """Endings of the files that Pillow can write."""
    from PIL import Image

    return frozenset(ending for ending, kind in Image.registered_extensions().items() if kind in Image.SAVE)


def check_picture(path: Path) -> Path:
    """Refuses a path that cannot become a picture, before work is done for it; gives it back.

    Raises:
        UserError: If its ending names no format of pictures, or it cannot be written.
    """
    if path.suffix.lower() not in picture_endings() and not os.path.isdir(path):  # noqa: PTH112
        raise UserError(
            f"cannot write the image {path}: its ending names no format; choose another path (for example grid.png)"
        )
    check_file(path, "the image ")
    return path


def check_picture_size(width: int, height: int, path: Path | None = None) -> None:
    """Refuses a picture that would exhaust memory, or that the format of `path` cannot hold.

    Raises:
        UserError: If it is too large.
    """
    side = LARGEST_SIDE.get(path.suffix.lower(), LARGEST_PICTURE) if path else LARGEST_PICTURE
    if width * height > LARGEST_PICTURE or max(width, height) > side:
        raise UserError(
            f"a picture of {width:,}×{height:,} pixels is too large{f' for {path}' if path else ''}: ask for fewer or "
            "smaller images, or another format"
        )


def check_animation(path: Path) -> Path:
    """Refuses a path that can become neither an animation nor a still .png, before work is done for it; gives it back.

    Raises:
        UserError: If its ending names neither, MP4's package is absent, or it cannot be written.
    """
    if path.suffix.lower() not in (*ANIMATIONS, ".png"):
        raise UserError(f"cannot write {path}: end it in {', '.join(ANIMATIONS)}, or in .png for stills")
    if path.suffix.lower() == ".mp4" and importlib.util.find_spec("av") is None:
        raise UserError("MP4 needs the package av: pip install av, or write a .gif or .webp")
    return check_file(path)


def check_animation_size(frames: int, width: int, height: int) -> None:
    """Refuses an animation that would exhaust memory.

    Raises:
        UserError: If it is too large.
    """
    if frames * width * height > LARGEST_ANIMATION:
        raise UserError(
            f"an animation of {frames:,} frames of {width:,}×{height:,} pixels is too large: ask for fewer or smaller frames"
        )


def grid_shape(count: int, columns: int | None = None) -> tuple[int, int]:
    """Rows and columns of `count` images, as near to a square as `columns` leaves open."""
    columns = columns or math.ceil(math.sqrt(count))
    return -(-count // columns), columns
