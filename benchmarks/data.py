"""Rates of preparing and streaming, against Pillow's own decoding and the memory's bandwidth, in one run.

python -m benchmarks.data IMAGES.zip   (a zip of at least 10,000 JPEGs, for instance CIFAR-10's)
"""

import io
import shutil
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import lmdb
import numpy as np
from PIL import Image

from vitgan.data.description import DatasetDescription
from vitgan.data.prepare import prepare
from vitgan.data.sources.container import open_container
from vitgan.data.sources.folder import ImageFolder
from vitgan.data.sources.lsun import Lsun
from vitgan.data.store import ImageStore
from vitgan.data.stream import ImageStream


def best(work, count, repeats=3):
    """(images per second by the wall clock, by this process's CPU time), each the best of `repeats`."""
    walls, cpus = [], []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return count / min(walls), count / min(cpus)


def report(name, rates):
    print(f"{name:58} {rates[0]:12,.0f} /s wall {rates[1]:12,.0f} /s CPU", flush=True)


def preparing(name, source, encoded, resolution, folder):
    def pillow():
        for data in encoded:
            image = Image.open(io.BytesIO(data)).convert("RGB")
            if image.size != (resolution, resolution):
                side = min(image.size)
                left, top = (image.width - side) // 2, (image.height - side) // 2
                square = (left, top, left + side, top + side)
                image = image.crop(square).resize((resolution, resolution), Image.Resampling.LANCZOS)
            np.asarray(image)

    report(f"{name}: Pillow alone, one process, bytes in memory", best(pillow, len(encoded)))
    for workers in (0, 1, 2):
        run = partial(prepare, source, folder / "out", resolution=resolution, workers=workers, overwrite=True)
        report(f"{name}: prepare, workers={workers}", best(run, len(source), 3))


def lsun_like(path, count, tiles):
    generator = np.random.default_rng(0)
    values = []
    with lmdb.open(str(path), map_size=1 << 32) as environment, environment.begin(write=True) as transaction:
        for number in range(count):
            rows = [np.concatenate([tiles[generator.integers(len(tiles))] for _ in range(10)], 1) for _ in range(8)]
            buffer = io.BytesIO()
            Image.fromarray(np.concatenate(rows)).resize((341, 256)).save(buffer, "WEBP", quality=75)
            transaction.put(b"%040x" % number, buffer.getvalue())
            values.append(buffer.getvalue())
    return values


FIRST = """
import sys, time
start = time.perf_counter()
from vitgan.data.store import ImageStore
from vitgan.data.stream import ImageStream
imported = time.perf_counter()
stream = ImageStream(ImageStore.open(sys.argv[1]), 128, 0)
with stream.batches() as batches:
    next(batches)
    first = time.perf_counter()
    for _ in range(400): next(batches)
    last = time.perf_counter()
resident = max(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith(("VmRSS", "VmHWM"))) / 1024
print(f"import {imported-start:.2f} s, first batch {first-imported:.2f} s, then {400*128/(last-first):,.0f} images/s")
print(f"peak resident {resident:.0f} MiB")
"""


def read(stream, steps):
    for step in range(steps):
        stream.batch(step * stream.global_batch_size)


def ahead(stream, steps):
    with stream.batches() as batches:
        for _ in range(steps):
            next(batches)


def main():
    folder = Path(tempfile.mkdtemp(prefix="vitgan-benchmark-"))
    try:
        container = open_container(sys.argv[1], lambda name: name.endswith(".jpg"))
        encoded = [container.read(index) for index in range(10_000)]
        preparing("CIFAR-10 JPEG zip, 32", ImageFolder(sys.argv[1]), encoded, 32, folder)
        tiles = [np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in encoded[:500]]
        values = lsun_like(folder / "lmdb", 2000, tiles)
        preparing("LSUN-like LMDB, 341×256 WebP, 64", Lsun(folder / "lmdb"), values, 64, folder)

        large = folder / "large"
        large.mkdir()
        shutil.copy(folder / "out" / "dataset.json", large)
        prepare(ImageFolder(sys.argv[1]), folder / "cifar", resolution=32)
        cifar = ImageStore.open(folder / "cifar")
        for batch_size in (32, 128):
            stream, steps = ImageStream(cifar, batch_size, 0), 40_000 // batch_size
            direct = best(partial(read, stream, steps), 40_000, 5)
            prefetched = best(partial(ahead, stream, steps), 40_000, 5)
            report(f"stream CIFAR-10, batch {batch_size}", direct)
            report(f"stream CIFAR-10, batch {batch_size}, prefetched", prefetched)
        a, b = np.ones(40_000 * 3072, np.uint8), np.ones(40_000 * 3072, np.uint8)
        report("memory copy of as many bytes (in 32×32 RGB images)", best(lambda: np.copyto(b, a), 40_000, 10))

        count = 3_000_000
        np.lib.format.open_memmap(large / "images.npy", mode="w+", dtype=np.uint8, shape=(count, 3, 64, 64)).flush()
        DatasetDescription(source="test", resolution=64, channels=3, count=count, sha256="0" * 64).write(large)
        for _ in range(3):
            command = [sys.executable, "-c", FIRST, str(large)]
            print("3 million 64×64, sparse:", subprocess.run(command, capture_output=True, text=True).stdout.strip())
        stream = ImageStream(ImageStore.open(large), 128, 0)
        stream.batch(0)
        report("stream 3 million 64×64, batch 128", best(lambda: read(stream, 300), 300 * 128, 3))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
