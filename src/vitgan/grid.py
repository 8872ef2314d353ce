"""Images for the eye: conversion to bytes, and grids."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vitgan.errors import UserError
from vitgan.files import whole_file
from vitgan.pictures import check_picture, check_picture_size, grid_shape


def to_uint8(images: Tensor) -> Tensor:
    """Images of any shape, float in [-1, 1] -> uint8; values outside are clipped.

    The byte is the integer nearest to 127.5 x + 127.5 in float32, the even one of two that are equally near: 0.0 is 128.
    """
    return (images.detach().float() * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)


def to_array(images: Tensor) -> np.ndarray:
    """(B, C, H, W) float in [-1, 1] -> (B, H, W, C) uint8, as files have them."""
    return to_uint8(images).permute(0, 2, 3, 1).cpu().numpy()


def to_pil(image: np.ndarray) -> Image.Image:
    """(H, W, C) uint8 with one or three channels -> a Pillow image in mode L or RGB."""
    return Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)


def image_grid(images: Tensor | np.ndarray, columns: int | None = None, enlarge: int = 1) -> Image.Image:
    """Images side by side in rows, as near to a square as `columns` leaves open.

    Args:
        images: (B, C, H, W) float in [-1, 1], or (B, H, W, C) uint8.
        columns: Images per row; None is the ceiling of sqrt(B).
        enlarge: Whole factor by which pixels are repeated, so that small images can be seen.
    """
    array = to_array(images) if isinstance(images, Tensor) else images
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


def save_image(image: Image.Image, path: Path) -> None:
    """Writes an image under a temporary name and renames it.

    Raises:
        UserError: If the file cannot be written, its ending names no image format, or the format cannot hold it.
    """
    check_picture(path)
    check_picture_size(image.width, image.height, path)
    with whole_file(path) as temporary:
        try:
            image.save(temporary)
        except ValueError as error:
            raise UserError(f"cannot write the image {path}: {error}; choose another format (.png)") from error
