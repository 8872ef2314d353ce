"""Rates of preparing and streaming images, against Pillow's own decoding and the memory's bandwidth, in one run.

python -m benchmarks.data                        short, with generated images
python -m benchmarks.data --archive IMAGES.zip   long: a zip of at least 10,000 JPEGs, for instance CIFAR-10's
"""

import importlib.util
import io
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import tyro
from PIL import Image

from benchmarks.table import Table, say
from benchmarks.timing import seconds_of
from vitgan.data.prepare import prepare
from vitgan.data.sources.container import open_container
from vitgan.data.sources.folder import ImageFolder
from vitgan.data.sources.lsun import Lsun
from vitgan.data.sources.source import Source
from vitgan.data.store import DatasetDescription, ImageStore
from vitgan.data.stream import ImageStream
from vitgan.data.writer import StoreWriter

STREAMED = 40_000


def measure(archive: Path | None = None, images: int = 3_000) -> Table:
    """Prepares a store, streams from it, and does the same by simpler means.

    Args:
        archive: Zip of JPEGs, all of which are prepared; LSUN-like images and a store of 3 million follow then.
        images: How many are generated where there is no archive.
    """
    table = Table("Data", ("work", "images/s"))
    with tempfile.TemporaryDirectory(prefix="vitgan-benchmark-") as name:
        folder = Path(name)
        source = archive or _generated(folder / "images.zip", images)
        container = open_container(str(source), lambda name: name.endswith(".jpg"))
        encoded = [container.read(index) for index in range(min(len(container.names), 10_000))]
        workers = (0,) if archive is None else (0, 1, 2)  # starting processes takes longer than a few images
        _preparing(table, "32×32 JPEGs in a zip", ImageFolder(source), encoded, 32, folder / "small", workers)
        _streaming(table, ImageStore.open(folder / "small") if archive else _noise_store(folder / "noise"))
        if archive is not None:
            _lsun_like(table, encoded, folder)
            _three_million(table, folder / "large")
    table.remarks.append("Wall clock, the best of three runs.")
    return table


def _rate(work: Callable[[], object], count: int) -> str:
    return f"{count / min(seconds_of(work) for _ in range(3)):,.0f}"


def _generated(path: Path, count: int) -> Path:
    """A zip of JPEGs of smooth noise, which is as large and as quick to decode as photographs."""
    say(f"data: generating {count} images")
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as archive:
        for index in range(count):
            coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
            buffer = io.BytesIO()
            coarse.resize((32, 32), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
            archive.writestr(f"{index:06d}.jpg", buffer.getvalue())
    return path


def _noise_store(path: Path) -> ImageStore:
    """As many images as are streamed, so that no cache holds them."""
    noise = np.random.default_rng(0).integers(0, 256, (STREAMED, 3, 32, 32), dtype=np.uint8)
    with StoreWriter(path, resolution=32, channels=3) as writer:
        writer.append(noise)
        return writer.finish(source="noise")


def _preparing(
    table: Table,
    name: str,
    source: Source,
    encoded: Sequence[bytes],
    resolution: int,
    out: Path,
    workers: tuple[int, ...] = (0, 1, 2),
) -> None:
    say(f"data: preparing {name}")
    table.add(f"{name}: Pillow alone, one process", _rate(lambda: _decode(encoded, resolution), len(encoded)))
    for count in workers:
        run = partial(prepare, source, out, resolution=resolution, workers=count, overwrite=True)
        table.add(f"{name}: prepare, workers={count}", _rate(run, len(source)))


def _decode(encoded: Sequence[bytes], resolution: int) -> None:
    """Decode, crop and resize by Pillow, and nothing else."""
    for data in encoded:
        image = Image.open(io.BytesIO(data)).convert("RGB")
        if image.size != (resolution, resolution):
            side = min(image.size)
            left, top = (image.width - side) // 2, (image.height - side) // 2
            image = image.crop((left, top, left + side, top + side))
            image = image.resize((resolution, resolution), Image.Resampling.LANCZOS)
        np.asarray(image)


def _streaming(table: Table, store: ImageStore) -> None:
    for batch_size in (32, 128):
        say(f"data: streaming, batch {batch_size}")
        stream, steps = ImageStream(store, batch_size, 0), STREAMED // batch_size
        table.add(f"stream 32×32, batch {batch_size}", _rate(partial(_read, stream, steps), STREAMED))
        table.add(f"stream 32×32, batch {batch_size}, prefetched", _rate(partial(_read_ahead, stream, steps), STREAMED))
    a, b = np.ones(STREAMED * 3072, np.uint8), np.ones(STREAMED * 3072, np.uint8)
    table.add("memory copy of as many bytes", _rate(lambda: np.copyto(b, a), STREAMED))


def _read(stream: ImageStream, steps: int) -> None:
    for step in range(steps):
        stream.batch(step * stream.global_batch_size)


def _read_ahead(stream: ImageStream, steps: int) -> None:
    with closing(stream.batches()) as batches:
        for _ in range(steps):
            next(batches)


def _lsun_like(table: Table, encoded: Sequence[bytes], folder: Path, count: int = 2000) -> None:
    """WebP images of LSUN's size in an LMDB, put together from small ones."""
    if importlib.util.find_spec("lmdb") is None:
        table.remarks.append("LSUN-like images were not measured: lmdb is not installed.")
        return
    import lmdb

    tiles = [np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in encoded[:500]]
    rng, values = np.random.default_rng(0), []
    with lmdb.open(str(folder / "lmdb"), map_size=1 << 32) as environment, environment.begin(write=True) as transaction:
        for number in range(count):
            rows = [np.concatenate([tiles[rng.integers(len(tiles))] for _ in range(10)], 1) for _ in range(8)]
            buffer = io.BytesIO()
            Image.fromarray(np.concatenate(rows)).resize((341, 256)).save(buffer, "WEBP", quality=75)
            transaction.put(b"%040x" % number, buffer.getvalue())
            values.append(buffer.getvalue())
    _preparing(table, "LSUN-like LMDB, 341×256 WebP, to 64", Lsun(folder / "lmdb"), values, 64, folder / "lsun")


FIRST = """
import sys, time
from contextlib import closing
start = time.perf_counter()
from vitgan.data.store import ImageStore
from vitgan.data.stream import ImageStream
imported = time.perf_counter()
stream = ImageStream(ImageStore.open(sys.argv[1]), 128, 0)
with closing(stream.batches()) as batches:
    next(batches)
    first = time.perf_counter()
resident = max(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith(("VmRSS", "VmHWM"))) / 1024
print(f"import {imported-start:.2f} s, first batch {first-imported:.2f} s, peak resident {resident:.0f} MiB")
"""


def _three_million(table: Table, folder: Path, count: int = 3_000_000) -> None:
    """A store larger than memory; its file is sparse."""
    say("data: a store of 3 million")
    folder.mkdir()
    np.lib.format.open_memmap(folder / "images.npy", mode="w+", dtype=np.uint8, shape=(count, 3, 64, 64)).flush()
    DatasetDescription(source="test", resolution=64, channels=3, count=count, sha256="0" * 64).write(folder)
    done = subprocess.run([sys.executable, "-c", FIRST, str(folder)], capture_output=True, text=True)
    table.remarks.append(f"3 million 64×64 images, a new process: {done.stdout.strip()}.")
    stream = ImageStream(ImageStore.open(folder), 128, 0)
    stream.batch(0)
    table.add("stream 3 million 64×64, batch 128", _rate(lambda: _read(stream, 300), 300 * 128))


if __name__ == "__main__":
    print(tyro.cli(measure))
