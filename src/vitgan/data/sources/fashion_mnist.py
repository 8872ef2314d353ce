"""Fashion-MNIST: 70,000 pictures of clothes, 28×28 grey, 10 classes; 10,000 of them travel inside this package."""

import gzip
import io
import math
import zlib
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Literal

import numpy as np

from vitgan.data.download import download
from vitgan.data.sources.objects import PythonImages
from vitgan.data.sources.source import Provenance
from vitgan.errors import UserError
from vitgan.files import read_bytes, user_error

LABEL_NAMES = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
FILE_PREFIXES = {"train": "train", "test": "t10k"}
LARGEST_IDX_BYTES = 1 << 28
URL = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion"
CHECKSUMS = {
    "train-images-idx3-ubyte.gz": "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "md5:25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "md5:bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "md5:bb300cfdad3c16e7a12a480ee83cd310",
}


class FashionMnist(PythonImages):
    """The idx files of Fashion-MNIST.

    Args:
        folder: Holds `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and the same with `t10k`, each plain or
            with `.gz`. None for the 10,000 bundled test images.
        split: "train" (60,000) or "test" (10,000). The bundled images are the test split.

    Raises:
        UserError: A file is missing or is not what it should be.
    """

    provenance = Provenance(
        "fashion-mnist",
        licence="MIT, copyright 2017 Zalando SE",
        url="https://github.com/zalandoresearch/fashion-mnist",
        resolution=32,
        channels=1,
        border=2,  # black, as the pictures' own background is: no resampling
    )
    label_names = LABEL_NAMES
    labels_from = split_from = "Fashion-MNIST's own"

    def __init__(self, folder: str | Path | None = None, split: Literal["train", "test"] = "train") -> None:
        split = "test" if folder is None else split
        path = bundled_folder() if folder is None else Path(folder)
        files = [_find(path, f"{FILE_PREFIXES[split]}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1")]
        images, labels = map(read_idx, files)
        if images.ndim != 3 or labels.shape != images.shape[:1]:
            raise UserError(f"{path}: images {images.shape} and labels {labels.shape} do not belong together")
        if labels.size and labels.max() >= len(LABEL_NAMES):
            raise UserError(f"{path} has labels outside 0 to 9: it is not Fashion-MNIST")
        super().__init__((images, labels), files)
        self.origin, self.split = "bundled" if folder is None else str(folder), split


def download_fashion_mnist(
    split: Literal["train", "test"],
    url: str = URL,
    checksums: dict[str, str] = CHECKSUMS,
    on_progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Fetches the two files of a split from `url` into the cache; returns their folder."""
    names = [name for name in checksums if name.startswith(FILE_PREFIXES[split])]
    files = [download(f"{url}/{name}", checksums[name], on_progress=on_progress) for name in names]
    return files[0].parent


def bundled_folder() -> Path:
    """The folder of the images inside the package."""
    return Path(str(resources.files("vitgan.data"))) / "bundled" / "fashion-mnist"


def read_idx(file: Path) -> np.ndarray:
    """Reads an idx file of unsigned bytes, plain or gzipped.

    Raises:
        UserError: It is damaged or holds something else.
    """
    data = read_bytes(file, "idx file", LARGEST_IDX_BYTES)
    if data.startswith(b"\x1f\x8b"):
        with user_error(f"cannot read {file}", OSError, EOFError, zlib.error, advice="fetch it again"):
            data = gzip.GzipFile(fileobj=io.BytesIO(data)).read(LARGEST_IDX_BYTES)
    if data[:4] not in (b"\x00\x00\x08\x01", b"\x00\x00\x08\x03") or len(data) < 4 + 4 * data[3]:
        raise UserError(f"{file} is not an idx file of unsigned bytes")
    start = 4 + 4 * data[3]
    shape = tuple(int(size) for size in np.frombuffer(data[4:start], ">u4"))
    values = data[start:]
    if len(values) != math.prod(shape):
        raise UserError(f"{file} is damaged: it should hold {shape} values and holds {len(values)}: fetch it again")
    return np.frombuffer(values, np.uint8).reshape(shape)


def _find(folder: Path, name: str) -> Path:
    for file in (folder / name, folder / f"{name}.gz"):
        if file.is_file():
            return file
    raise UserError(f"{folder} has no {name} or {name}.gz: pass the folder of Fashion-MNIST's idx files")
