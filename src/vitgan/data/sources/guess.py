"""Which source reads a file or folder, by what is in it."""

import re
from collections.abc import Callable
from pathlib import Path

from vitgan.data.sources.celeba import PARTITION_FILES, CelebA
from vitgan.data.sources.cifar10 import Cifar10
from vitgan.data.sources.cifar100 import Cifar100
from vitgan.data.sources.fashion_mnist import FashionMnist
from vitgan.data.sources.folder import ImageFolder
from vitgan.data.sources.hub import SCHEME, fetch_data_set
from vitgan.data.sources.imagenet import ImageNet
from vitgan.data.sources.lsun import Lsun
from vitgan.data.sources.parquet import ParquetImages, holds_parquet
from vitgan.data.sources.source import Source
from vitgan.errors import UserError

KNOWN: tuple[tuple[Callable[[str], bool], Callable[[Path], Source]], ...] = (
    (lambda name: name.startswith(("cifar-10-", "data_batch_1")), Cifar10),
    (lambda name: name.startswith("cifar-100-"), Cifar100),
    (lambda name: re.fullmatch(r"n\d{8}", name) is not None, ImageNet),
    (lambda name: name in PARTITION_FILES or name.startswith("img_align_celeba"), CelebA),
    (lambda name: name == "data.mdb" or name.endswith("_lmdb"), Lsun),
    (lambda name: "-idx3-ubyte" in name, FashionMnist),
)
"""What a name of the folder, or in it, says: data sets whose files are their own."""


def guess_source(path: str | Path, split: str | None = None, labels: str = "auto") -> Source:
    """A data set that is known by its files' names, Parquet files, or else images in a folder, zip or tar.

    Args:
        path: The file or folder; or "hf://owner/name", a data set on the Hub, which is fetched.
        split: As `ImageFolder` and `ParquetImages` take it.
        labels: As `ImageFolder` takes it; of Parquet files only "auto" or "none".

    Raises:
        UserError: If there are no images, or a known data set is to be read in another way than usual; see the sources.
    """
    if str(path).startswith(SCHEME):
        column = _label_column(path, labels)
        return ParquetImages(fetch_data_set(str(path)), split, label_column=column)
    path = Path(path)
    inside = sorted(child.name for child in path.iterdir()) if path.is_dir() else []
    names = [path.name, *inside]
    for is_known, source in KNOWN:
        if any(map(is_known, names)):
            found = source(path)
            if split is not None or labels != "auto":
                name = found.provenance.name
                raise UserError(f"{path} is {name}, whose splits and labels are its own: read it as {name}", "split")
            return found
    if holds_parquet(path):
        return ParquetImages(path, split, label_column=_label_column(path, labels))
    return ImageFolder(path, split, labels)


def _label_column(path: str | Path, labels: str) -> str | None:
    """`labels` as `ParquetImages` takes them."""
    if labels not in ("auto", "none"):
        advice = 'choose "auto" or "none", or name the column by `vitgan data parquet --label-column`'
        raise UserError(f"{path} holds Parquet files, whose labels are a column, not {labels}: {advice}", "labels")
    return None if labels == "auto" else labels
