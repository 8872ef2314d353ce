"""CIFAR-10: 60,000 colour pictures of 32×32 in 10 classes, in the formats of its home page."""

import io
import pickle
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vitgan.data.sources.container import Container, open_container
from vitgan.data.sources.objects import PythonImages
from vitgan.data.sources.source import Provenance
from vitgan.errors import UserError
from vitgan.files import user_error

LABEL_NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
CHECKSUM = "sha256:6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"

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

    provenance = Provenance(
        "cifar10",
        licence="none stated; cite Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
        url="https://www.cs.toronto.edu/~kriz/cifar.html",
        resolution=32,
    )
    label_names = LABEL_NAMES
    labels_from = split_from = "CIFAR-10's own"

    def __init__(self, path: str | Path, split: Split = "train") -> None:
        container = open_container(path, lambda name: stem_of(name) in BATCHES["all"])
        batches = {stem: read_batch(container, stem, ["labels"], "labels", len(LABEL_NAMES)) for stem in BATCHES[split]}
        images, labels = map(np.concatenate, zip(*batches.values(), strict=True))
        super().__init__((images, labels), container.files())
        self.origin, self.split = str(path), split
        self.refused = container.refused + [
            (stem, f"holds {len(labels):,} images, CIFAR-10's batches have {BATCH_IMAGES:,}")
            for stem, (_, labels) in batches.items()
            if len(labels) != BATCH_IMAGES
        ]


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


def stem_of(name: str) -> str:
    """ "cifar-10-batches-bin/test_batch.bin" -> "test_batch"."""
    return name.rpartition("/")[2].removesuffix(".bin")


def read_part(container: Container, stem: str) -> Any:
    """The bytes of a file of the binary version, or what is pickled in one of the Python version.

    Raises:
        UserError: There is no file of this stem, or it is damaged.
    """
    name = next((name for name in container.names if stem_of(name) == stem), None)
    if name is None:
        raise UserError(f"{container.path} has no {stem}: pass the archive of CIFAR's home page, or its folder")
    # A damaged pickle raises anything.
    with user_error(f"{name} in {container.path} is damaged", Exception, advice="fetch it again"):
        data = container.read_named(name)
        return data if name.endswith((".bin", ".txt")) else load_pickle(data)


def read_batch(
    container: Container, stem: str, kinds: list[str], kind: str, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """(n, 32, 32, 3) uint8 images and (n,) labels.

    Args:
        container: Of the batches.
        stem: Which batch.
        kinds: Of labels, in the order of their bytes before an image of the binary version.
        kind: Which of them is wanted; also its key in the Python version.
        classes: How many there are.

    Raises:
        UserError: It is missing or damaged.
    """
    batch = read_part(container, stem)
    with user_error(f"{stem} in {container.path} is damaged", Exception, advice="fetch it again"):
        if isinstance(batch, bytes):
            table = np.frombuffer(batch, np.uint8).reshape(-1, len(kinds) + VALUES)
            rows, labels = table[:, len(kinds) :], table[:, kinds.index(kind)]
        else:
            rows, labels = np.asarray(batch[b"data"]), np.array(batch[kind.encode()], np.int64)
        if rows.dtype != np.uint8 or rows.shape != (len(labels), VALUES):
            raise ValueError(f"images {rows.dtype} {rows.shape} with {len(labels)} labels")
        if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
            raise ValueError(f"it has labels outside 0 to {classes - 1}")
        return rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels
