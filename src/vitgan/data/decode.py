"""Encoded bytes or pixels of any kind -> (C, R, R) uint8, by one stated rule."""

import io
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageColor, ImageOps

from vitgan.data.sources.source import UnreadableImage
from vitgan.errors import UserError
from vitgan.files.reading import user_error

# Formats that Pillow decodes itself and that have a signature: others start programs (EPS) or take any bytes (TGA).
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
LARGEST_IMAGE_PIXELS = 100_000_000
ORIENTATION = 0x0112  # the EXIF tag
SIXTEEN_BIT_MODES = ("I;16", "I;16L", "I;16B", "I;16N")
GREY_MODES = ("1", "L", "LA", "La", *SIXTEEN_BIT_MODES)
LUMA = (19595, 38470, 7471)
"""ITU-R 601 in parts of 65,536, as Pillow makes grey of red, green and blue."""
MADE_GREY, MADE_COLOUR = "colour made grey", "grey made colour"


@dataclass(frozen=True)
class Framing:
    """How an image becomes a square of the store.

    Attributes:
        resolution: Height and width in pixels.
        channels: 1 or 3.
        crop: Side in pixels of the centre crop that is then resized; None for the largest square.
        padding: Pixels of black border added on each side, which take the place of crop and resizing
            where the result then has the right size.
        background: "#rrggbb" that transparent images are composited on.
    """

    resolution: int
    channels: int
    crop: int | None = None
    padding: int = 0
    background: str = "#ffffff"

    def __post_init__(self) -> None:
        if not 1 <= self.resolution <= 4096:
            raise UserError(f"resolution {self.resolution} is out of range: choose 1 to 4096", "resolution")
        if self.channels not in (1, 3):
            raise UserError(f"channels {self.channels}: choose 1 (grey) or 3 (RGB)", "channels")
        if self.crop is not None and self.crop < 1:
            raise UserError(f"crop {self.crop} is out of range: pass the side of a square in pixels", "crop")
        what, advice = f"background {self.background!r} is no colour", "pass e.g. '#ffffff' or 'white'"
        with user_error(what, ValueError, advice=advice, parameter="background"):
            ImageColor.getcolor(self.background, "RGB")

    def __str__(self) -> str:
        size = f"{self.resolution}×{self.resolution}"
        if self.padding:
            return f"black border of {self.padding} pixels on each side to {size}"
        square = f"{self.crop}×{self.crop} centre crop" if self.crop else "centre crop of the largest square"
        return f"{square}, Lanczos to {size}"


def decode(image: bytes | np.ndarray, framing: Framing) -> tuple[np.ndarray, list[str]]:
    """One image of a source as one of the store.

    The first frame of an animation is taken, EXIF rotation is applied, transparency is composited on the background,
    16-bit grey is scaled to 8 bits, and colour and grey are converted by Pillow (ITU-R 601 luma; no ICC profiles).

    Args:
        image: Encoded bytes, or (H, W) or (H, W, 3) uint8 pixels.
        framing: Size and crop.

    Returns:
        (C, R, R) uint8, and what had to be done beyond decoding and resizing ("alpha composited", ...).

    Raises:
        UnreadableImage: It is damaged, truncated, empty, too large to be an image, or of an unknown format.
    """
    notes: list[str] = []
    pixels = _pixels(image, framing.channels, framing.background, notes)
    return _channels_first(_frame(pixels, framing, notes)), notes


def decode_unframed(image: bytes, channels: int, background: str) -> tuple[np.ndarray, list[str]]:
    """Encoded bytes -> (C, H, W) uint8, as `decode` does it, but neither cropped nor resized; and what had to be done.

    Args:
        image: Encoded bytes.
        channels: 1 or 3.
        background: Colour under transparent images.

    Raises:
        UnreadableImage: As `decode`.
    """
    notes: list[str] = []
    return _channels_first(_pixels(image, channels, background, notes)), notes


def _pixels(image: bytes | np.ndarray, channels: int, background: str, notes: list[str]) -> Image.Image:
    """RGB or L, whatever it was; every fault of the file shows here."""
    try:
        opened = _open(image, notes) if isinstance(image, bytes) else Image.fromarray(image)
        return _in_mode(opened, channels, background, notes)
    except UnreadableImage:
        raise
    except Image.UnidentifiedImageError as error:
        raise UnreadableImage("not an image of a known format") from error
    except Exception as error:  # damaged files raise anything: SyntaxError, struct.error, KeyError, ...
        raise UnreadableImage((" ".join(str(error).split()) or type(error).__name__)[:200]) from error


def _channels_first(image: Image.Image) -> np.ndarray:
    array = np.asarray(image)
    return array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))


def _open(data: bytes, notes: list[str]) -> Image.Image:
    """Decodes fully."""
    if not data:
        raise UnreadableImage("empty file")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks on odd metadata and on large images, which we judge here
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        if image.width * image.height > LARGEST_IMAGE_PIXELS:
            raise UnreadableImage(f"{image.width}×{image.height} pixels: more than {LARGEST_IMAGE_PIXELS:,}")
        if getattr(image, "is_animated", False) and image.format in ("GIF", "PNG", "WEBP", "AVIF"):
            notes.append("animated: first frame")
        scale_transparent_colour(image)
        image.load()
        if image.getexif().get(ORIENTATION, 1) not in range(2, 9):
            return image
        notes.append("EXIF rotation applied")
        return ImageOps.exif_transpose(image)


def scale_transparent_colour(image: Image.Image) -> None:
    """To 8 bits: Pillow does so with the pixels of a PNG, when they are loaded, and leaves the colour as the file has it.

    Raises:
        UnreadableImage: Three channels of 16 bits, of which Pillow reads 8: other colours would be taken for it.
    """
    colour, stored = image.info.get("transparency"), str(getattr(image, "tile", None))
    if isinstance(colour, tuple) and (";16B" in stored or max(colour) > 255):
        raise UnreadableImage(
            "its transparent colour has 16 bits a channel, of which 8 can be read: save it with an alpha channel"
        )
    for mode, steps in (("L;2", 85), ("L;4", 17)):
        if f"'{mode}'" in stored and isinstance(colour, int):
            image.info["transparency"] = colour * steps


def _in_mode(image: Image.Image, channels: int, background: str, notes: list[str]) -> Image.Image:
    wanted = "L" if channels == 1 else "RGB"
    if image.mode == wanted and "transparency" not in image.info:
        return image
    if (image.mode in GREY_MODES) != (channels == 1):
        notes.append(MADE_GREY if channels == 1 else MADE_COLOUR)
    if image.mode in SIXTEEN_BIT_MODES:
        notes.append("16-bit grey scaled to 8")
        values = np.asarray(image).astype(np.uint32)
        scaled = Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
        if "transparency" not in image.info:
            return scaled.convert(wanted)
        opaque = Image.fromarray(np.where(values == image.info["transparency"], 0, 255).astype(np.uint8))
        return _composited(Image.merge("LA", (scaled, opaque)), background, notes).convert(wanted)
    if image.mode in ("I", "F"):
        raise UnreadableImage(f"32-bit pixels (mode {image.mode}) have no stated range")
    if image.has_transparency_data:
        return _composited(image, background, notes).convert(wanted)
    if image.mode in ("CMYK", "YCCK", "LAB", "HSV"):
        notes.append(f"{image.mode} converted")
    return image.convert(wanted)


def _composited(image: Image.Image, background: str, notes: list[str]) -> Image.Image:
    """RGB: an image with transparency on a ground of that colour."""
    layer = image.convert("RGBA")
    if layer.getchannel("A").getextrema() != (255, 255):
        notes.append("alpha composited")
        canvas = Image.new("RGBA", layer.size, ImageColor.getcolor(background, "RGBA"))
        layer = Image.alpha_composite(canvas, layer)
    return layer.convert("RGB")


def _frame(image: Image.Image, framing: Framing, notes: list[str]) -> Image.Image:
    width, height = image.size
    size = framing.resolution
    if framing.padding and width == height == size - 2 * framing.padding:
        return ImageOps.expand(image, framing.padding, fill=0)
    side = framing.crop or min(width, height)
    if side > min(width, height):
        raise UnreadableImage(f"{width}×{height} pixels: smaller than the crop of {side}")
    if (width, height) != (side, side):
        # Halves round as in torchvision's CenterCrop, which most published preprocessing uses.
        left, top = round((width - side) / 2), round((height - side) / 2)
        image = image.crop((left, top, left + side, top + side))
    if side == size:
        return image
    if side < size:
        notes.append("enlarged")
    return image.resize((size, size), Image.Resampling.LANCZOS)
