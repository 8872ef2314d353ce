"""CIFAR-10: 60,000 colour pictures of 32×32 in 10 classes, in the formats of its home page."""

import hashlib
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vitgan.data.download import download
from vitgan.data.sources.container import Container, open_container
from vitgan.data.sources.source import Item, Provenance, Source, UnreadableImage, printable
from vitgan.errors import UserError

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
SHAPE = (3, 32, 32)
BATCH_IMAGES = 10_000

# All that a pickled CIFAR batch (dict, list, bytes, NumPy array) needs; anything else could run code.
ALLOWED_GLOBALS = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


class Cifar10(Source):
    """The images of CIFAR-10 in the order of its batches.

    Args:
        path: `cifar-10-python.tar.gz`, `cifar-10-binary.tar.gz`, or the folder extracted from one of them.
        split: "train" (50,000), "test" (10,000) or "all".

    Raises:
        UserError: Missing, damaged, or not CIFAR-10.
    """

    provenance = PROVENANCE
    in_memory = True
    labelled = True
    label_names = LABEL_NAMES
    labels_from = "CIFAR-10's own"
    split_from = "CIFAR-10's own"

    def __init__(self, path: str | Path, split: Split = "train") -> None:
        self.split = split
        self.origin = str(path)
        container = open_container(path, _wanted)
        batches = [_read_batch(container, name) for name in BATCHES[split]]
        self._images = np.concatenate([images for images, _ in batches])
        self._labels = np.concatenate([labels for _, labels in batches])
        self.refused = container.refused + [
            (name, f"holds {len(labels):,} images, CIFAR-10's batches have {BATCH_IMAGES:,}")
            for name, (_, labels) in zip(BATCHES[split], batches, strict=True)
            if len(labels) != BATCH_IMAGES
        ]
        self.labels = self._labels

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Item:
        return Item(self.item_name(index), self._images[index].transpose(1, 2, 0), int(self._labels[index]))

    def item_name(self, index: int) -> str:
        return f"{self.split}/{index}"

    def fingerprint(self) -> str:
        return hashlib.sha256(self._images.tobytes() + self._labels.tobytes()).hexdigest()


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


def _wanted(name: str) -> bool:
    return name.rsplit("/", 1)[-1].removesuffix(".bin") in BATCHES["all"]


def _read_batch(container: Container, batch: str) -> tuple[np.ndarray, np.ndarray]:
    """(n, 3, 32, 32) uint8 images and (n,) int64 labels of one batch file."""
    for index, name in enumerate(container.names):
        file = name.rsplit("/", 1)[-1]
        if file not in (batch, f"{batch}.bin"):
            continue
        try:
            data = container.read(index)
            images, labels = _parse_binary(data) if file.endswith(".bin") else _parse_pickle(data)
        except (UnreadableImage, ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"{name} in {container.path} is damaged: {printable(str(error))}: fetch it again"
            ) from error
        except Exception as error:  # a damaged pickle raises anything
            raise UserError(f"{name} in {container.path} is not a CIFAR-10 batch: {printable(str(error))}") from error
        if len(labels) and not 0 <= labels.min() <= labels.max() < len(LABEL_NAMES):
            raise UserError(f"{name} in {container.path} has labels outside 0 to 9: it is not CIFAR-10")
        return images, labels
    raise UserError(
        f"{container.path} has no {batch}: pass cifar-10-python.tar.gz, cifar-10-binary.tar.gz or their folder"
    )


def _parse_pickle(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    batch = load_pickle(data)
    images = np.asarray(batch[b"data"])
    labels = np.array(batch[b"labels"], np.int64)
    if images.dtype != np.uint8 or images.shape != (len(labels), int(np.prod(SHAPE))):
        raise ValueError(f"images {images.dtype} {images.shape} with {len(labels)} labels")
    return images.reshape(-1, *SHAPE), labels


def _parse_binary(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Rows of one label byte and 3,072 pixel bytes."""
    rows = np.frombuffer(data, np.uint8).reshape(-1, 1 + int(np.prod(SHAPE)))
    return rows[:, 1:].reshape(-1, *SHAPE), rows[:, 0].astype(np.int64)
