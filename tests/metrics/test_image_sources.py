import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from refusals import refused
from vitgan.errors import UserError
from vitgan.metrics.image_sources import ArrayImages, EncodedImages, ImageSource, NpzImages

SOME = np.array([0, 3, 64, 65, 131, 149])


def pixels(count: int = 150, channels: int = 3, height: int = 6, width: int = 5) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, channels, height, width), dtype=np.uint8)


def encoded(image: np.ndarray, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(file, kind)
    return file.getvalue()


def decode(data: bytes, name: str) -> np.ndarray:
    if not data:
        raise UserError(f"{name} is empty")
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image).transpose(2, 0, 1)


def from_files(images: np.ndarray) -> EncodedImages:
    files = [encoded(image) for image in images]
    return EncodedImages([f"{index}.png" for index in range(len(files))], files.__getitem__, decode)


def read(source: ImageSource, indices: np.ndarray) -> np.ndarray:
    return torch.cat(list(source.batches(indices))).numpy()


def npz(path: Path, array: np.ndarray) -> NpzImages:
    np.savez_compressed(path, array)
    return NpzImages(path)


def test_all_sources_give_the_same_pixels(tmp_path: Path) -> None:
    images = pixels()
    sources = [
        ArrayImages(images),
        from_files(images),
        npz(tmp_path / "last.npz", images.transpose(0, 2, 3, 1)),
        npz(tmp_path / "second.npz", images),
    ]
    for source in sources:
        assert len(source) == 150
        assert source.size == (6, 5)
        assert np.array_equal(read(source, np.arange(150)), images)
        assert np.array_equal(read(source, SOME), images[SOME])


def test_grey_npz(tmp_path: Path) -> None:
    images = pixels(channels=1)
    assert np.array_equal(read(npz(tmp_path / "grey.npz", images[:, 0]), SOME), images[SOME])


@pytest.mark.parametrize("array", [np.zeros((4, 8, 8, 3)), np.zeros(7, np.uint8), np.zeros((4, 8, 8, 2), np.uint8)])
def test_other_arrays_are_refused(tmp_path: Path, array: np.ndarray) -> None:
    with refused(tmp_path / "images.npz", array.shape):
        npz(tmp_path / "images.npz", array)


def test_the_one_array_of_images_is_taken_whatever_lies_beside_it(tmp_path: Path) -> None:
    images, file = pixels(), tmp_path / "images.npz"
    np.savez(file, labels=np.zeros(len(images), np.int64), images=images, mean=np.zeros((4, 4)))
    assert np.array_equal(read(NpzImages(file), SOME), images[SOME])


def test_of_two_arrays_of_images_none_is_guessed(tmp_path: Path) -> None:
    np.savez(tmp_path / "images.npz", real=pixels(), fake=255 - pixels())
    with pytest.raises(UserError, match=r"real.*fake"):
        NpzImages(tmp_path / "images.npz")


def test_damaged_npz_files_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "images.npz"
    file.write_bytes(b"PK no zip")
    with refused(file, cause=zipfile.BadZipFile):
        NpzImages(file)
    np.savez(file, np.array([{"pickled": 1}], dtype=object))
    with refused(file, "object"):
        NpzImages(file)


def test_unusable_files_are_refused_by_name() -> None:
    good, other_size = encoded(pixels(1)[0]), encoded(pixels(1, height=7)[0])
    for bad, facts in ((b"", ["bad.png"]), (other_size, ["6×5", "7×5"])):
        source = EncodedImages(["good.png", "bad.png"], [good, bad].__getitem__, decode)
        with refused(*facts):
            read(source, np.arange(2))


def test_no_files_are_no_source() -> None:
    with refused(".png", ".jpg"):
        EncodedImages([], [].__getitem__, decode)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_damaged_npz_is_read_rightly_or_refused(tmp_path: Path, compressed: bool) -> None:
    images, file = pixels(), tmp_path / "images.npz"
    (np.savez_compressed if compressed else np.savez)(file, images)
    whole, rng = file.read_bytes(), np.random.default_rng(1)
    refused = 0
    for trial in range(150):
        damaged = bytearray(whole)
        place = int(rng.integers(len(whole) if trial % 2 else 200))  # every other one in the headers
        damaged[place] ^= 1 << int(rng.integers(8))
        file.write_bytes(damaged if trial % 5 else damaged[:place])
        try:
            read(NpzImages(file), np.arange(150))
        except UserError:
            refused += 1
        # What is read has passed zip's own checksum, but for a header that still fits: other shapes of as many values.
    assert refused > 100


def test_a_pipe_in_the_place_of_an_npz_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "images.npz")
    with pytest.raises(UserError):
        NpzImages(tmp_path / "images.npz")
