import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vitgan.data.reader
from data.samples import image_numbers, make_store
from vitgan.data.reader import ImageReader


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("reader") / "store", 3000, resolution=16, channels=3)


@given(st.lists(st.integers(0, 2999), min_size=1, max_size=50))
def test_reads_what_is_asked_for(store, indices):
    assert image_numbers(ImageReader(store).read(np.array(indices))) == indices


@pytest.mark.parametrize("resident_bytes", [1 << 28, 1 << 20])
def test_reads_on_after_letting_pages_go(store, monkeypatch, resident_bytes):
    monkeypatch.setattr(vitgan.data.reader, "RESIDENT_BYTES", resident_bytes)  # large or small against the store
    reader = ImageReader(store)
    for start in range(0, 3 * 3000, 500):
        indices = np.arange(start, start + 500) % 3000
        assert np.array_equal(reader.read(indices), store.images[indices])


MILLIONS = """
    import json, sys
    from pathlib import Path
    import numpy as np
    from vitgan.data.description import DatasetDescription
    from vitgan.data.store import ImageStore
    from vitgan.data.stream import ImageStream

    path, count = Path(sys.argv[1]), 3_000_000
    np.lib.format.open_memmap(path / "images.npy", mode="w+", dtype=np.uint8, shape=(count, 3, 64, 64)).flush()
    DatasetDescription(source="test", resolution=64, channels=3, count=count, sha256="0" * 64).write(path)

    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    stream, largest = ImageStream(ImageStore.open(path), 128, seed=0), 0
    with stream.batches(count - 12_800) as batches:  # across the end of an epoch
        for _ in range(200):
            images, _ = next(batches)
            largest = max(largest, resident())
    assert images.shape == (128, 3, 64, 64)
    print(json.dumps({"resident": largest, "allocated": (path / "images.npy").stat().st_blocks * 512}))
"""


def test_three_million_images_stream_in_little_memory(tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(MILLIONS), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    seen = json.loads(result.stdout)
    assert seen["allocated"] < 10_000_000  # the file is sparse: nothing was read into being
    assert seen["resident"] < 500_000_000  # a plain memory map is at 980 MB by then, and growing
