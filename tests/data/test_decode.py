import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

from data.samples import encoded, random_pixels
from refusals import refused
from vitgan.data.decode import Framing, decode, scale_transparent_colour
from vitgan.data.sources.source import UnreadableImage

RGB = Framing(8, 3)
GREY = Framing(8, 1)


def saved(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def from_array(array: np.ndarray, mode: str) -> Image.Image:
    """Pixels of a mode that `fromarray` cannot guess."""
    return Image.frombytes(mode, array.shape[1::-1], np.ascontiguousarray(array).tobytes())


@pytest.mark.parametrize(
    ("kind", "options"), [("PNG", {}), ("BMP", {}), ("TIFF", {}), ("WEBP", {"lossless": True}), ("PPM", {})]
)
def test_lossless_formats_are_pixel_equal(kind, options):
    pixels = random_pixels(0)
    image, notes = decode(encoded(pixels, kind, **options), RGB)
    assert np.array_equal(image, pixels.transpose(2, 0, 1))
    assert image.flags.c_contiguous
    assert notes == []


def test_pixels_pass_unchanged():
    pixels = random_pixels(1)
    assert np.array_equal(decode(pixels, RGB)[0], pixels.transpose(2, 0, 1))
    assert np.array_equal(decode(pixels[..., 0], GREY)[0], pixels[None, ..., 0])


def test_grey_becomes_equal_channels_and_colour_becomes_luma():
    grey = random_pixels(2, channels=1)
    assert np.array_equal(decode(encoded(grey), RGB)[0], np.stack([grey] * 3))
    colour = random_pixels(3)
    luma = colour @ np.array([0.299, 0.587, 0.114])
    assert np.abs(decode(encoded(colour), GREY)[0][0] - luma).max() <= 1


@pytest.mark.parametrize(("width", "height"), [(20, 8), (8, 20), (13, 8), (8, 13), (9, 8)])
def test_the_largest_centred_square_is_taken(width, height):
    pixels = random_pixels(4, height, width)
    left, top = round((width - 8) / 2), round((height - 8) / 2)
    assert np.array_equal(decode(pixels, RGB)[0], pixels[top : top + 8, left : left + 8].transpose(2, 0, 1))


def test_the_crop_is_centred_and_then_resized_by_lanczos():
    pixels = random_pixels(5, 218, 178)
    ours, _ = decode(pixels, Framing(64, 3, crop=148))
    theirs = Image.fromarray(pixels[35:183, 15:163]).resize((64, 64), Image.Resampling.LANCZOS)
    assert np.array_equal(ours, np.asarray(theirs).transpose(2, 0, 1))


def test_an_image_smaller_than_the_crop_is_not_invented():
    with refused("8×8", 9, kind=UnreadableImage):
        decode(random_pixels(6), Framing(8, 3, crop=9))


def test_enlarging_is_noted():
    assert decode(random_pixels(7, 4, 4), RGB)[1] == ["enlarged"]


def test_padding_is_black_and_only_where_it_fits():
    framing = Framing(8, 1, padding=2)
    pixels = random_pixels(8, 4, 4, channels=1)
    assert np.array_equal(decode(pixels, framing)[0][0], np.pad(pixels, 2))
    assert decode(random_pixels(8, 5, 5, channels=1), framing)[1] == ["enlarged"]


def test_alpha_is_composited_on_the_stated_colour():
    pixels = np.dstack([random_pixels(9), random_pixels(10, channels=1)])
    framing = Framing(8, 3, background="#204060")
    image, notes = decode(encoded(pixels), framing)
    alpha = pixels[..., 3:] / 255
    expected = pixels[..., :3] * alpha + np.array([0x20, 0x40, 0x60]) * (1 - alpha)
    assert np.abs(image.transpose(1, 2, 0) - expected).max() <= 1
    assert notes == ["alpha composited"]
    opaque = np.dstack([pixels[..., :3], np.full((8, 8), 255, np.uint8)])
    assert decode(encoded(opaque), framing)[1] == []


def test_grey_with_alpha():
    grey, alpha = random_pixels(11, channels=1), random_pixels(12, channels=1)
    image, _ = decode(saved(from_array(np.dstack([grey, alpha]), "LA"), "PNG"), Framing(8, 1, background="white"))
    expected = grey * (alpha / 255) + 255 * (1 - alpha / 255)
    assert np.abs(image[0] - expected).max() <= 1


def test_palette_with_a_transparent_entry():
    image = Image.new("P", (8, 8), 1)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.paste(0, (0, 0, 4, 8))
    decoded, notes = decode(saved(image, "PNG", transparency=0), Framing(8, 3, background="#0000ff"))
    assert np.array_equal(decoded[:, 0, 0], [0, 0, 255])
    assert np.array_equal(decoded[:, 0, 7], [200, 100, 50])
    assert notes == ["alpha composited"]
    assert np.array_equal(decode(saved(image, "PNG"), RGB)[0][:, 0, 0], [10, 20, 30])


def test_sixteen_bit_grey_keeps_its_range():
    values = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    for kind in ("PNG", "TIFF"):
        image, notes = decode(saved(Image.fromarray(values), kind), GREY)
        assert np.abs(image[0] - values / 257).max() <= 0.5
        assert notes == ["16-bit grey scaled to 8"]


def with_transparent_colour(image: bytes, colour: bytes) -> bytes:
    """A PNG with a `tRNS` chunk before its pixels."""
    chunk = b"tRNS" + colour
    where = image.index(b"IDAT") - 4
    return image[:where] + struct.pack(">I", len(colour)) + chunk + struct.pack(">I", zlib.crc32(chunk)) + image[where:]


def test_a_transparent_grey_of_sixteen_bits_is_seen_before_it_is_scaled():
    values = np.full((8, 8), 1000, np.uint16)
    values[:, 4:], values[:4] = 50000, 1001  # as grey as 1000 in 8 bits, and not transparent
    image, notes = decode(with_transparent_colour(saved(Image.fromarray(values), "PNG"), struct.pack(">H", 1000)), RGB)
    expected = np.round(values / 257)
    expected[values == 1000] = 255
    assert np.array_equal(image[0], expected)
    assert "alpha composited" in notes


@pytest.mark.parametrize("colour", [(1000, 2000, 3000), (0, 0, 0)])
def test_a_transparent_colour_of_sixteen_bits_is_refused(colour: tuple[int, ...]):
    """Pillow reads the upper 8 bits of the pixels, in which it cannot be found."""
    rows = b"".join(b"\0" + np.arange(24, dtype=">u2").tobytes() for _ in range(8))
    header = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
    image = b"\x89PNG\r\n\x1a\n"
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        image += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    assert decode(image, RGB)[0].shape == (3, 8, 8)
    with refused("alpha", kind=UnreadableImage):
        decode(with_transparent_colour(image, struct.pack(">3H", *colour)), RGB)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_transparent_grey_of_few_bits_is_found(bits: int):
    """The file holds it in its own bits; Pillow scales the pixels to 8."""
    most = 2**bits - 1
    row = np.array([0, most // 2, most, most // 2] * 2)
    packed = np.packbits(((row[:, None] >> np.arange(bits)[::-1]) & 1).astype(np.uint8).ravel()).tobytes()
    header = struct.pack(">IIBBBBB", 8, 8, bits, 0, 0, 0, 0)
    image = b"\x89PNG\r\n\x1a\n"
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress((b"\0" + packed) * 8)), (b"IEND", b"")):
        image += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    decoded, notes = decode(
        with_transparent_colour(image, struct.pack(">H", most // 2)), Framing(8, 3, background="#0000ff")
    )
    expected = np.repeat(np.round(row * 255 / most)[:, None], 3, 1)
    expected[row == most // 2] = [0, 0, 255]
    assert np.array_equal(decoded[:, 0].T, expected)
    assert "alpha composited" in notes
    with Image.open(io.BytesIO(with_transparent_colour(image, struct.pack(">H", most // 2)))) as opened:
        scale_transparent_colour(opened)
        assert opened.convert("RGBA").getpixel((0, 0))[3] == (0 if most // 2 == 0 else 255)  # type: ignore[index]


def test_float_pixels_have_no_known_range():
    with refused("F", kind=UnreadableImage):
        decode(saved(Image.fromarray(np.ones((8, 8), np.float32)), "TIFF"), GREY)


def test_one_bit_images():
    bits = random_pixels(13, channels=1) > 127
    image, _ = decode(saved(Image.fromarray(bits), "PNG"), GREY)
    assert np.array_equal(image[0], bits * np.uint8(255))


def test_grey_and_colour_made_of_each_other_are_noted():
    colour, grey = random_pixels(14), random_pixels(15, channels=1)
    assert decode(colour, RGB)[1] == decode(grey, GREY)[1] == []
    assert decode(colour, GREY)[1] == ["colour made grey"]
    assert decode(grey, RGB)[1] == ["grey made colour"]


def test_cmyk_becomes_rgb():
    cmyk = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    image, notes = decode(saved(cmyk, "TIFF"), RGB)
    assert np.array_equal(image[:, 0, 0], [255, 0, 0])
    assert notes == ["CMYK converted"]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(orientation):
    upright = random_pixels(14)
    # What a camera stores, so that the tag's meaning (EXIF 2.3, table 4) gives the upright picture back.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    image, notes = decode(encoded(np.ascontiguousarray(stored), exif=exif), RGB)
    assert np.array_equal(image, upright.transpose(2, 0, 1))
    assert notes == ([] if orientation == 1 else ["EXIF rotation applied"])


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_the_first_frame_of_an_animation_is_taken(kind):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime")]
    options = {"lossless": True} if kind == "WEBP" else {}
    image, notes = decode(saved(frames[0], kind, save_all=True, append_images=frames[1:], **options), RGB)
    assert np.array_equal(image[:, 0, 0], [255, 0, 0])
    assert notes == ["animated: first frame"]


def bomb() -> bytes:
    """A small PNG whose header claims 60,000×60,000 pixels."""
    import struct
    import zlib

    data = encoded(random_pixels(15))
    header = b"IHDR" + struct.pack(">II", 60_000, 60_000) + data[24:29]
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"", type(None)),
        (b"hello", UnidentifiedImageError),
        (encoded(random_pixels(16, 64, 64), "JPEG")[:-500], OSError),
        (encoded(random_pixels(16, 64, 64))[:-500], OSError),
        (bomb(), Image.DecompressionBombError),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n", UnidentifiedImageError),
        (encoded(random_pixels(17))[:20], OSError),
    ],
)
def test_unreadable_data_says_why(data, cause):
    with refused(cause=cause, kind=UnreadableImage):
        decode(data, RGB)


def test_large_images_below_the_limit_are_fine():
    wide = np.zeros((2, 2_000_000), np.uint8)
    assert decode(encoded(wide), GREY)[0].shape == (1, 8, 8)


def test_the_rule_is_stated_in_words():
    assert str(Framing(64, 3, crop=148)) == "148×148 centre crop, Lanczos to 64×64"
    assert str(Framing(64, 3)) == "centre crop of the largest square, Lanczos to 64×64"
    assert "black border of 2 pixels" in str(Framing(32, 1, padding=2))


def test_a_resolution_out_of_range():
    with refused(5000, parameter="resolution"):
        Framing(5000, 3)
