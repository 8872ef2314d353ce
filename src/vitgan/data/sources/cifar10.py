"""CIFAR-10: 60,000 colour pictures of 32×32 in 10 classes, in the formats of its home page."""

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vitgan.data.download import download
from vitgan.data.sources.container import Container, open_container
from vitgan.data.sources.objects import PythonImages
from vitgan.data.sources.source import Provenance
from vitgan.errors import UserError
from vitgan.files import user_error

LABEL_NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
CHECKSUM = "sha256:6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
PROVENANCE = Provenance(
    "cifar10",
    licence="none stated; cite Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
    url="https://www.cs.toronto.edu/~kriz/cifar.html",
    resolution=32,
)

Split = Literal["train", "test", "all"]
TRAIN_BATCHES = [f"data_batch_{number}" for number in range(1, 6)]
BATCHES = {"train": TRAIN_BATCHES, "test": ["test_batch"], "all": [*TRAIN_BATCHES, "test_batch"]}
BATCH_IMAGES = 10_000
VALUES = 3 * 32 * 32

# All that a pickled CIFAR batch (dict, list, bytes, NumPy array) needs; anything else could run code.
ALLOWED_GLOBALS = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


class Cifar10(PythonImages):
    """The images of CIFAR-10 in the order of its batches.

    Args:
        path: `cifar-10-python.tar.gz`, `cifar-10-binary.tar.gz`, or the folder extracted from one of them.
        split: "train" (50,000), "test" (10,000) or "all".

    Raises:
        UserError: Missing, damaged, or not CIFAR-10.
    """

    provenance = PROVENANCE
    label_names = LABEL_NAMES
    labels_from = split_from = "CIFAR-10's own"

    def __init__(self, path: str | Path, split: Split = "train") -> None:
        container = open_container(path, lambda name: _batch_of(name) in BATCHES["all"])
        batches = {name: _read_batch(container, name) for name in BATCHES[split]}
        rows = np.concatenate([rows for rows, _ in batches.values()])
        labels = np.concatenate([labels for _, labels in batches.values()])
        images = rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        super().__init__((images, labels), container.files())
        self.origin, self.split = str(path), split
        self.refused = container.refused + [
            (name, f"holds {len(labels):,} images, CIFAR-10's batches have {BATCH_IMAGES:,}")
            for name, (_, labels) in batches.items()
            if len(labels) != BATCH_IMAGES
        ]


def download_cifar10(
    url: str = URL, checksum: str = CHECKSUM, on_progress: Callable[[int, int], None] | None = None
) -> Path:
    """Fetches the Python version (163 MiB) into the cache, once; see `download`."""
    return download(url, checksum, on_progress=on_progress)


def load_pickle(data: bytes) -> Any:
    """Unpickles dicts, lists, numbers, bytes, strings and NumPy arrays, and refuses all else.

    Raises:
        pickle.UnpicklingError: The pickle asks for anything else.
    """
    return _DataUnpickler(io.BytesIO(data), encoding="bytes").load()


# The one written in Python: over a damaged memo number, the one in C allocates up to 64 GB.
class _DataUnpickler(pickle._Unpickler):  # pyright: ignore[reportAttributeAccessIssue]
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED_GLOBALS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not data")
        return super().find_class(module, name)


def _batch_of(name: str) -> str:
    return name.rpartition("/")[2].removesuffix(".bin")


def _read_batch(container: Container, batch: str) -> tuple[np.ndarray, np.ndarray]:
    """(n, 3072) uint8 images and (n,) labels of one batch file."""
    name = next((name for name in container.names if _batch_of(name) == batch), None)
    if name is None:
        expected = "pass cifar-10-python.tar.gz, cifar-10-binary.tar.gz or their folder"
        raise UserError(f"{container.path} has no {batch}: {expected}")
    # A damaged pickle raises anything.
    with user_error(f"{name} in {container.path} is damaged", Exception, advice="fetch it again"):
        rows, labels = (_parse_binary if name.endswith(".bin") else _parse_pickle)(container.read_named(name))
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(LABEL_NAMES):
        raise UserError(f"{name} in {container.path} has labels outside 0 to 9: it is not CIFAR-10")
    return rows, labels


def _parse_pickle(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    batch = load_pickle(data)
    rows, labels = np.asarray(batch[b"data"]), np.array(batch[b"labels"], np.int64)
    if rows.dtype != np.uint8 or rows.shape != (len(labels), VALUES):
        raise ValueError(f"images {rows.dtype} {rows.shape} with {len(labels)} labels")
    return rows, labels


def _parse_binary(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Rows of one label byte and 3,072 pixel bytes."""
    rows = np.frombuffer(data, np.uint8).reshape(-1, 1 + VALUES)
    return rows[:, 1:], rows[:, 0]
