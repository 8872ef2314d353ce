"""Damages every kind of file that is read, and judges what comes of it.

Right are three outcomes: one clear line; the true result, bit for bit; a result whose losses are counted and listed.
A traceback, a hang and a silent loss are faults. `test_fuzz.py` is the short form, `torture.py` the long one.
"""

import gzip
import io
import json
import os
import pickle
import shutil
import signal
import tarfile
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import lmdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

import vitgan
from data.samples import encoded, random_pixels
from tiny import tiny_run, write_images
from vitgan.data.decode import Framing, decode
from vitgan.data.overview import class_counts
from vitgan.data.prepare import prepare
from vitgan.data.sources.cifar10 import Cifar10
from vitgan.data.sources.fashion_mnist import FashionMnist
from vitgan.data.sources.folder import ImageFolder
from vitgan.data.sources.lsun import Lsun
from vitgan.data.sources.parquet import ParquetImages
from vitgan.data.sources.source import Source, UnreadableImage
from vitgan.data.store import ImageStore
from vitgan.data.stream import ImageStream
from vitgan.errors import UserError
from vitgan.models.generator import Generator
from vitgan.runs.folder import config_of_run
from vitgan.training.log import read_metrics

COUNT = 12
HANG_SECONDS = 60


@dataclass(frozen=True)
class Found:
    """What was read.

    Attributes:
        items: Images (with labels) or tensors, as bytes.
        listed: How many losses are counted.
    """

    items: list[bytes]
    listed: int = 0


@dataclass(frozen=True)
class Kind:
    """Something that is read.

    Attributes:
        build: Makes it, whole, in an empty folder.
        read: Reads it out of such a folder.
        damaged: Patterns of the files to damage.
        exact: Whether the format lets damage to the content be seen; else items are counted, not compared.
        constants: What is patched meanwhile, to make small examples.
        replaced: Whether something else in a file's place is damage, too.
    """

    build: Callable[[Path], None]
    read: Callable[[Path], Found]
    damaged: str = "*"
    exact: bool = True
    constants: dict[str, Any] = field(default_factory=dict)
    replaced: bool = True


# What is built and how it is read.

FILES = {f"class{number % 2}/{number}.png": encoded(random_pixels(number, 16, 16)) for number in range(COUNT)}
SMALL_PARTS = {"vitgan.data.workers.LARGEST_PART": 4}


def build_zip(method: int) -> Callable[[Path], None]:
    def build(folder: Path) -> None:
        with zipfile.ZipFile(folder / "images", "w", method) as archive:
            for name, data in FILES.items():
                archive.writestr(name, data)

    return build


def build_tar(compression: str, kind: int = tarfile.USTAR_FORMAT) -> Callable[[Path], None]:
    def build(folder: Path) -> None:
        mode: Any = f"w:{compression}"
        with tarfile.open(folder / "images", mode, format=kind) as archive:
            for name, data in FILES.items():
                member = tarfile.TarInfo(name)
                member.size, member.mtime = len(data), 1.5  # which the pax format keeps in an extended header
                archive.addfile(member, io.BytesIO(data))

    return build


def build_parquet(folder: Path) -> None:
    images = [{"bytes": data, "path": None} for data in FILES.values()]
    pq.write_table(
        pa.table({"image": images, "label": [number % 3 for number in range(COUNT)]}),
        folder / "t.parquet",
        row_group_size=4,
    )


def build_lmdb(folder: Path) -> None:
    path = str(folder / "data.mdb")
    with lmdb.open(path, subdir=False, lock=False) as environment:
        for part in range(2):  # two states: the older one must not be taken for the newer
            with environment.begin(write=True) as transaction:
                for number in range(part * 30, part * 30 + 30):
                    transaction.put(b"%08d" % number, FILES[f"class{number % 2}/{number % COUNT}.png"])


def build_cifar(folder: Path) -> None:
    for number in range(1, 6):
        batch = {b"data": np.full((5, 3072), number, np.uint8), b"labels": [0, 1, 2, 3, 4]}
        (folder / f"data_batch_{number}").write_bytes(pickle.dumps(batch, protocol=2))


def build_cifar_binary(folder: Path) -> None:
    for number in range(1, 6):
        (folder / f"data_batch_{number}.bin").write_bytes(bytes([number] * 3073) * 5)


def build_idx(folder: Path) -> None:
    images = b"\x00\x00\x08\x03\x00\x00\x00\x05\x00\x00\x00\x1c\x00\x00\x00\x1c" + bytes(5 * 28 * 28)
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
    (folder / "train-labels-idx1-ubyte").write_bytes(b"\x00\x00\x08\x01\x00\x00\x00\x05" + bytes(5))


def build_labelled_folder(folder: Path) -> None:
    write_images(folder / "images", COUNT)
    labels = [[f"{number:02d}.png", number % 3] for number in range(COUNT)]
    (folder / "images" / "dataset.json").write_text(json.dumps({"labels": labels}))


def build_store(folder: Path) -> None:
    build_labelled_folder(folder)
    prepare(ImageFolder(folder / "images"), folder / "store", resolution=8, workers=0)


def build_killed_preparation(folder: Path) -> None:
    write_images(folder / "images", COUNT)

    def stop(done: int, total: int) -> None:
        if done == 8:
            raise KeyboardInterrupt

    with suppress(KeyboardInterrupt):
        prepare(ImageFolder(folder / "images"), folder / "store", resolution=16, workers=0, on_progress=stop)


def build_run(folder: Path) -> None:
    build_store(folder)
    config = tiny_run(str(folder / "store"), total_kimg=0.016)
    vitgan.train(config, folder / "runs").rename(folder / "run")


def build_model(folder: Path) -> None:
    build_run(folder)
    vitgan.save(vitgan.load(folder / "run"), folder / "model")


def build_images(folder: Path) -> None:
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
    for name, data in images.items():
        (folder / name).write_bytes(data)


def prepared(source: Callable[[Path], Source], resolution: int = 16) -> Callable[[Path], Found]:
    def read(folder: Path) -> Found:
        store = prepare(source(folder), folder / "store", resolution=resolution, workers=0)
        return of_store(store)

    return read


def of_store(store: ImageStore) -> Found:
    store.verify()
    labels = [b""] * len(store) if store.labels is None else [label.tobytes() for label in store.labels]
    items = [image.tobytes() + label for image, label in zip(store.images, labels, strict=True)]
    return Found(items, store.description.skipped_count)


def read_store(folder: Path) -> Found:
    store = ImageStore.open(folder / "store")
    class_counts(store)
    ImageStream(store, 4, seed=0).batch(0)
    return of_store(store)


def read_images(folder: Path) -> Found:
    items, refused = [], 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a warning would be noise on the user's terminal
        for file in sorted(folder.iterdir()):
            try:
                image, _ = decode(file.read_bytes(), Framing(16, 3))
            except UnreadableImage as error:
                assert str(error).isprintable()  # noqa: PT017 - one of several outcomes that are right
                refused += 1
            else:
                assert (image.shape, image.dtype) == ((3, 16, 16), np.uint8)
                items.append(image.tobytes())
    return Found(items, refused)


def of_generator(generator: Generator) -> Found:
    return Found([tensor.numpy().tobytes() for tensor in generator.state_dict().values()])


def read_run(folder: Path) -> Found:
    """The run gone on with, by its own (sound) configuration: as the command does it."""
    run = folder / "run"
    read_metrics(run / "metrics.jsonl")
    store = json.loads((folder / "sound.json").read_text())["data"]
    config_of_run(run)
    vitgan.train(tiny_run(store, total_kimg=0.016), resume=run)
    return of_generator(vitgan.load(run))


def build_resumable_run(folder: Path) -> None:
    build_run(folder)
    shutil.copyfile(folder / "run" / "config.json", folder / "sound.json")


def read_checkpoint(folder: Path) -> Found:
    return of_generator(vitgan.load(folder / "run" / "checkpoints" / "000000k016"))


images_in = prepared(lambda folder: ImageFolder(folder / "images", labels="none"))

KINDS = {
    "zip": Kind(build_zip(zipfile.ZIP_STORED), images_in),
    "zip, deflated": Kind(build_zip(zipfile.ZIP_DEFLATED), images_in),
    "tar": Kind(build_tar(""), images_in),
    "tar, pax": Kind(build_tar("", tarfile.PAX_FORMAT), images_in),
    "tar.gz": Kind(build_tar("gz"), images_in),
    "tar.bz2": Kind(build_tar("bz2"), images_in),
    "tar.xz": Kind(build_tar("xz"), images_in),
    "parquet": Kind(build_parquet, prepared(ParquetImages), exact=False),
    "lmdb": Kind(build_lmdb, prepared(lambda folder: Lsun(folder / "data.mdb")), exact=False),
    "cifar pickles": Kind(
        build_cifar, prepared(Cifar10, 32), exact=False, constants={"vitgan.data.sources.cifar10.BATCH_IMAGES": 5}
    ),
    "cifar binary": Kind(
        build_cifar_binary, prepared(Cifar10, 32), exact=False,
        constants={"vitgan.data.sources.cifar10.BATCH_IMAGES": 5},
    ),
    "idx": Kind(build_idx, prepared(FashionMnist, 32), exact=False),
    "dataset.json": Kind(
        build_labelled_folder, prepared(lambda folder: ImageFolder(folder / "images")), "images/dataset.json", exact=False
    ),
    "images": Kind(build_images, read_images, exact=False, replaced=False),
    "store": Kind(build_store, read_store, "store/*"),
    "progress": Kind(
        build_killed_preparation,
        prepared(lambda folder: ImageFolder(folder / "images")),
        ".store.partial/[!l]*",
        constants=SMALL_PARTS,
    ),
    "model": Kind(build_model, lambda folder: of_generator(vitgan.load(folder / "model")), "model/*"),
    "checkpoint": Kind(build_run, read_checkpoint, "run/checkpoints/000000k016/*"),
    "run": Kind(build_resumable_run, read_run, "run/**/*.*"),
}  # fmt: skip


# Damage.

ODD = [
    None,
    True,
    -1,
    0,
    1,
    10**7,
    2**63,
    10**30,
    1e308,
    1e-320,
    0.5,
    "",
    "x",
    "../x",
    "\x1b[31m",
    "\ud800",
    [],
    {},
    [[]],
]
TEXTS = [b"NaN", b"1e999", b"-Infinity", b"1" * 5000, b"[" * 50_000, b'"', b",", b"\xff", b"\0"]


def damage(path: Path, generator: np.random.Generator, replaced: bool) -> str:
    """Damages the file in one of the ways of disks, networks, tools and people; says how."""
    kinds = [damage_bytes] * 6 + [damage_arrangement] * replaced
    kinds += [damage_json] * 6 if path.suffix == ".json" else [damage_array] * 6 if path.suffix == ".npy" else []
    chosen = kinds[generator.integers(len(kinds))]
    return f"{chosen.__name__} {chosen(path, generator)}"


def damage_bytes(path: Path, generator: np.random.Generator) -> str:
    """One to four flips, cuts, overwritten, inserted or removed places; half of them at the start or the end."""
    content = bytearray(path.read_bytes())
    done = []
    for _ in range(generator.integers(1, 5)):
        place = int(generator.integers(0, len(content) + 1))
        place = (place, place % 64, max(0, len(content) - place % 200))[int(generator.choice(3, p=[0.5, 0.25, 0.25]))]
        length = int(generator.choice([1, 8, 40, 512, 4096]))
        match generator.choice(["cut", "overwrite", "zero", "insert", "flip", "flip", "flip"]):
            case "cut":
                del content[place:]
            case "overwrite":
                content[place : place + length] = generator.bytes(length)
            case "zero":
                content[place : place + length] = bytes(len(content[place : place + length]))
            case "insert":
                content[place:place] = generator.bytes(length)
            case "flip" if place < len(content):
                content[place] ^= 1 << int(generator.integers(0, 8))
        done.append(place)
    path.write_bytes(content)
    return str(done)


def damage_arrangement(path: Path, generator: np.random.Generator) -> str:
    """Something else in the file's place."""
    path.unlink()
    kind = generator.choice(["missing", "empty", "folder", "fifo", "device", "loop", "npz", "pickle"])
    match kind:
        case "empty":
            path.touch()
        case "folder":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "loop":
            path.symlink_to(path.name)
        case "npz":
            with path.open("wb") as file:
                np.savez(file, np.arange(5))
        case "pickle":
            path.write_bytes(pickle.dumps({"a": 1}))
    return str(kind)


def damage_json(path: Path, generator: np.random.Generator) -> str:
    """Values replaced by odd ones, removed or repeated, or odd text in their place."""
    value = json.loads(path.read_bytes())
    places: list[tuple[Any, Any]] = []
    _collect(value, places)
    inner, key = places[generator.integers(len(places))]
    odd, kind = ODD[generator.integers(len(ODD))], generator.choice(["replace", "replace", "remove", "text"])
    match kind:
        case "replace":
            inner[key] = odd
        case "remove":
            del inner[key]
        case "text":
            inner[key] = "PLACE"
    text = TEXTS[generator.integers(len(TEXTS))]
    path.write_bytes(json.dumps(value).encode().replace(b'"PLACE"', text))
    return f"{kind} {key} {odd!r} {text[:10]!r}"


def _collect(value: Any, places: list[tuple[Any, Any]]) -> None:
    for key in value if isinstance(value, dict) else range(len(value)):
        places.append((value, key))
        if isinstance(value[key], dict | list):
            _collect(value[key], places)


def damage_array(path: Path, generator: np.random.Generator) -> str:
    """Another array, as a person might save it; or odd numbers in the header."""
    array = np.load(path)
    if not array.size:  # of a store in the making: its header is written at the end
        return damage_bytes(path, generator)
    last = array.reshape(-1)[-1:]
    others: dict[str, Callable[[], np.ndarray]] = {
        "other type": lambda: array.astype(generator.choice(["f4", "i2", ">i8", "u8", "?"])),
        "fewer": lambda: array[:-1],
        "more": lambda: np.concatenate([array, array[:1]]),
        "flat": lambda: array.reshape(-1),
        "fortran": lambda: np.asfortranarray(array.reshape(len(array), -1)).reshape(array.shape, order="A"),
        "objects": lambda: np.array([{"a": 1}], object),
        "negative": lambda: np.concatenate([array.reshape(-1)[:-1], -1 - last.astype(np.int64)]).reshape(array.shape),
        "huge": lambda: np.concatenate([array.reshape(-1)[:-1], last.astype(np.int64) + 10**12]).reshape(array.shape),
        "strings": lambda: array.astype(str),
    }
    kind = generator.choice([*others, "header"])
    if kind == "header":
        data = path.read_bytes()
        new = [
            b"(10000000000000, ",
            b"(-1, ",
            b"(1e3, ",
            b"('x', ",
            b"(True, ",
            b"((",
            b"([0]*10**10, ",
            b"\n",
            b"(9" + b"9" * 4400,
        ]
        path.write_bytes(data.replace(b"(", new[generator.integers(len(new))], 1))
    else:
        np.save(path, others[kind](), allow_pickle=True)
    return str(kind)


# Judgement.


class Hang(BaseException):
    """It took too long."""


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def judge(kind: Kind, folder: Path, sound: Found) -> str:
    """ "refused", "whole", "listed", or else a fault."""
    try:
        with time_limit(HANG_SECONDS):
            found = kind.read(folder)
    except UserError as error:
        message = str(error)
        return "refused" if message.isprintable() and len(message) < 1500 else f"not one line: {message!r}"
    except Hang:
        return "a hang"
    except BaseException as error:
        return f"a traceback: {error!r}"
    if found.items == sound.items or (not kind.exact and len(found.items) == len(sound.items)):
        return "whole"
    if kind.exact and not set(found.items) <= set(sound.items):
        return "something that was never there"
    return "listed" if found.listed else f"a silent loss: {len(found.items)} of {len(sound.items)}"


OUTCOMES = ("refused", "whole", "listed")


def fuzz(name: str, folder: Path, cases: int, seed: int = 0) -> tuple[Counter[str], list[str]]:
    """Damages one kind of input so many times.

    Returns:
        How often each right outcome came, and the faults.
    """
    kind, generator = KINDS[name], np.random.default_rng([seed, list(KINDS).index(name)])
    outcomes: Counter[str] = Counter()
    faults = []
    with _patched(kind.constants):
        place = folder / "built"
        place.mkdir(parents=True)
        kind.build(place)
        kept = shutil.copytree(place, folder / "kept", symlinks=True)
        sound = kind.read(place)
        assert sound.items
        assert not sound.listed
        for case in range(cases):
            shutil.rmtree(place)
            shutil.copytree(kept, place)
            files = sorted(file for file in place.glob(kind.damaged) if file.is_file() and file.stat().st_size)
            file = files[generator.integers(len(files))]
            how = damage(file, generator, kind.replaced)
            outcome = judge(kind, place, sound)
            if outcome in OUTCOMES:
                outcomes[outcome] += 1
            else:
                faults.append(f"{name}, case {case}, {file.relative_to(place)}: {how}: {outcome}")
    shutil.rmtree(folder)
    return outcomes, faults


@contextmanager
def _patched(constants: dict[str, Any]) -> Iterator[None]:
    patches = [mock.patch(place, value) for place, value in constants.items()]
    for patch in patches:
        patch.start()
    try:
        yield
    finally:
        for patch in patches:
            patch.stop()
