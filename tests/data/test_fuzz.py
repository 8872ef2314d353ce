"""Damaged images and archives: each is read, or refused with a reason; nothing else happens, and nothing good is lost.

`VITGAN_FUZZ_ROUNDS` multiplies the number of cases.
"""

import gzip
import io
import os
import pickle
import tarfile
import warnings
import zipfile
from contextlib import suppress

import lmdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from data.samples import encoded, random_pixels
from vitgan.data.decode import Framing, decode
from vitgan.data.prepare import prepare
from vitgan.data.sources.cifar10 import Cifar10
from vitgan.data.sources.container import open_container
from vitgan.data.sources.fashion_mnist import FashionMnist
from vitgan.data.sources.folder import ImageFolder
from vitgan.data.sources.lsun import Lsun
from vitgan.data.sources.parquet import ParquetImages
from vitgan.data.sources.source import UnreadableImage
from vitgan.data.store import ImageStore
from vitgan.errors import UserError

ROUNDS = int(os.environ.get("VITGAN_FUZZ_ROUNDS", "1"))


def damaged(data: bytes, generator: np.random.Generator) -> bytes:
    """One to four kinds of damage that disks, networks and tools do to files."""
    content = bytearray(data)
    for _ in range(generator.integers(1, 5)):
        start = int(generator.integers(0, len(content) + 1))
        # Headers hold the sizes, so that half of the damage goes there.
        start = start if generator.random() < 0.5 else start % 64
        length = int(generator.integers(1, 40))
        kind = generator.integers(0, 6)
        if kind == 0:
            del content[start:]
        elif kind == 1:
            content[start : start + length] = generator.bytes(length)
        elif kind == 2:
            content[start : start + length] = bytes(length)
        elif kind == 3:
            content[start:start] = generator.bytes(length)
        elif kind == 4:
            del content[start : start + length]
        elif start < len(content):
            content[start] ^= 1 << int(generator.integers(0, 8))
    return bytes(content)


def sound_images() -> dict[str, bytes]:
    """A file of each format and mode."""
    pixels, grey = random_pixels(0, 24, 20), random_pixels(1, 24, 20, 1)
    alpha = np.dstack([pixels, grey])
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "maker"
    images = {f"{kind}.rgb": encoded(pixels, kind) for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")}
    images |= {f"{kind}.grey": encoded(grey, kind) for kind in ("JPEG", "PNG", "BMP", "TIFF", "PPM")}
    images |= {f"{kind}.alpha": encoded(alpha, kind) for kind in ("PNG", "WEBP", "TIFF")}
    images |= {f"tiff.{name}": encoded(pixels, "TIFF", compression=name) for name in ("tiff_lzw", "tiff_deflate")}
    images["jpeg.exif"] = encoded(pixels, "JPEG", exif=exif, progressive=True)
    images["png.16"] = encoded(grey.astype(np.uint16) * 257)
    images["jpeg2000"] = encoded(pixels, "JPEG2000")
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert("CMYK").save(buffer, "JPEG")
    images["jpeg.cmyk"] = buffer.getvalue()
    for kind in ("GIF", "PNG", "WEBP"):
        buffer = io.BytesIO()
        frames = [Image.fromarray(random_pixels(seed, 24, 20)) for seed in range(3)]
        frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
        images[f"{kind}.animated"] = buffer.getvalue()
    return images


@pytest.mark.parametrize("name", sorted(sound_images()))
def test_damaged_images_are_decoded_or_refused(name):
    sound = sound_images()[name]
    generator = np.random.default_rng(sorted(sound_images()).index(name))
    framings = [Framing(16, 3), Framing(16, 1)]
    decode(sound, framings[0])
    refused = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a warning would be noise on the user's terminal
        for case in range(40 * ROUNDS):
            try:
                image, _ = decode(damaged(sound, generator), framings[case % 2])
            except UnreadableImage as error:
                refused += 1
                assert str(error)  # noqa: PT017 - one of several outcomes that are right
                assert "\n" not in str(error)  # noqa: PT017 - one of several outcomes that are right
            else:
                assert image.shape == (framings[case % 2].channels, 16, 16)
                assert image.dtype == np.uint8
    assert refused


FILES = {f"class{number % 2}/{number}.png": encoded(random_pixels(number, 16, 16)) for number in range(12)}


def packed(kind: str) -> bytes:
    buffer = io.BytesIO()
    if kind.startswith("zip"):
        method = zipfile.ZIP_DEFLATED if kind == "zip.deflated" else zipfile.ZIP_STORED
        with zipfile.ZipFile(buffer, "w", method) as archive:
            for name, data in FILES.items():
                archive.writestr(name, data)
    else:
        with tarfile.open(fileobj=buffer, mode=f"w:{kind.partition('.')[2]}") as archive:  # pyright: ignore[reportCallIssue, reportArgumentType]
            for name, data in FILES.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["zip.stored", "zip.deflated", "tar", "tar.gz", "tar.bz2", "tar.xz"])
def test_damaged_archives_are_read_or_refused(tmp_path, kind):
    sound, generator, path = packed(kind), np.random.default_rng(0), tmp_path / "archive"
    prepared = 0
    for case in range(25 * ROUNDS):
        path.write_bytes(damaged(sound, generator))
        with suppress(UserError):
            store = prepare(ImageFolder(path, labels="none"), tmp_path / "store", resolution=16, overwrite=True)
            assert 1 <= len(store) <= len(FILES)
            ImageStore.open(tmp_path / "store").verify()
            prepared += 1
        if case % 5 == 0 and kind.startswith("zip"):
            check_what_a_zip_gives(path)
    assert prepared or kind == "tar.bz2"  # which is one block, lost as a whole


def check_what_a_zip_gives(path):
    """A zip has checksums: what is read under a name is what was stored under it."""
    with suppress(UserError):
        container = open_container(path, lambda name: name.endswith(".png"))
        for index, name in enumerate(container.names):
            with suppress(UnreadableImage):
                data = container.read(index)
                assert name not in FILES or data == FILES[name]


def write_parquet(path):
    images = [{"bytes": encoded(random_pixels(number, 16, 16)), "path": None} for number in range(12)]
    pq.write_table(pa.table({"image": images, "label": list(range(12))}), path, row_group_size=4)


def write_lmdb(path):
    with lmdb.open(str(path), subdir=False, lock=False) as environment, environment.begin(write=True) as transaction:
        for number in range(60):
            transaction.put(b"%08d" % number, encoded(random_pixels(number, 16, 16)))


def write_cifar_batch(path):
    batch = {b"data": np.zeros((5, 3072), np.uint8), b"labels": [0, 1, 2, 3, 4]}
    path.write_bytes(pickle.dumps(batch, protocol=2))


def write_idx(path):
    images = b"\x00\x00\x08\x03\x00\x00\x00\x05\x00\x00\x00\x1c\x00\x00\x00\x1c" + bytes(5 * 28 * 28)
    path.write_bytes(gzip.compress(images))
    (path.parent / "train-labels-idx1-ubyte").write_bytes(b"\x00\x00\x08\x01\x00\x00\x00\x05" + bytes(5))


@pytest.mark.parametrize(
    ("name", "write", "read", "cases"),
    [
        ("table.parquet", write_parquet, ParquetImages, 60),
        ("data.mdb", write_lmdb, Lsun, 8),
        ("test_batch", write_cifar_batch, lambda path: Cifar10(path.parent, "test"), 60),
        ("train-images-idx3-ubyte.gz", write_idx, lambda path: FashionMnist(path.parent), 60),
    ],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the unpickler's, over its own buffer
def test_damaged_databases_are_read_or_refused(tmp_path, name, write, read, cases):
    path, generator = tmp_path / "in" / name, np.random.default_rng(2)
    path.parent.mkdir()
    write(path)
    sound = path.read_bytes()
    for _ in range(cases * ROUNDS):
        path.write_bytes(damaged(sound, generator))
        try:
            prepare(read(path), tmp_path / "store", resolution=16, overwrite=True, workers=0)
        except UserError as error:
            assert "\n" not in str(error)  # noqa: PT017 - one of several outcomes that are right


@pytest.mark.parametrize("kind", ["zip.stored", "zip.deflated", "tar"])
def test_damage_to_one_member_costs_only_that_member(tmp_path, kind):
    sound, path = packed(kind), tmp_path / "archive"
    generator = np.random.default_rng(1)
    for number, data in enumerate(FILES.values()):
        stored = data if kind != "zip.deflated" else None
        if stored is None:
            with zipfile.ZipFile(io.BytesIO(sound)) as archive:
                entry = archive.infolist()[number]
            start, size = entry.header_offset + 30 + len(entry.filename), entry.compress_size
        else:
            start, size = sound.index(stored), len(stored)
        content = bytearray(sound)
        content[start : start + size] = generator.bytes(size)
        path.write_bytes(content)
        store = prepare(ImageFolder(path), tmp_path / "store", resolution=16, overwrite=True)
        assert store.description.skipped_count == 1
        assert [entry.name for entry in store.description.skipped] == [list(FILES)[number]]
        others = [random_pixels(other, 16, 16).transpose(2, 0, 1) for other in range(12) if other != number]
        natural = sorted(range(11), key=lambda position: [p % 2 for p in range(12) if p != number][position])
        assert np.array_equal(store.images, np.stack(others)[natural])
