"""CIFAR-100: 60,000 colour pictures of 32×32 in 100 classes, or 20 coarser ones, in the formats of its home page."""

from pathlib import Path
from typing import Literal

import numpy as np

from vitgan.data.sources.cifar10 import Batch, load_pickle, parse_batch, read_part, stem_of
from vitgan.data.sources.container import open_container
from vitgan.data.sources.objects import PythonImages
from vitgan.data.sources.source import Provenance

URL = "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"
CHECKSUM = "md5:eb9058c3a382ffc7106e4002c42a8d85"
PROVENANCE = Provenance(
    "cifar100",
    licence="none stated; cite Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
    url="https://www.cs.toronto.edu/~kriz/cifar.html",
    resolution=32,
)
EXPECTED = "pass cifar-100-python.tar.gz, cifar-100-binary.tar.gz or their folder"

Split = Literal["train", "test", "all"]
LabelKind = Literal["fine", "coarse"]
PARTS = {"train": ["train"], "test": ["test"], "all": ["train", "test"]}
CLASSES = {"fine": 100, "coarse": 20}


class Cifar100(PythonImages):
    """The images of CIFAR-100 in the order of its files.

    Args:
        path: `cifar-100-python.tar.gz`, `cifar-100-binary.tar.gz`, or the folder extracted from one of them.
        split: "train" (50,000), "test" (10,000) or "all".
        labels: The 100 classes, or the 20 superclasses.

    Raises:
        UserError: Missing, damaged, or not CIFAR-100.
    """

    provenance = PROVENANCE
    split_from = "CIFAR-100's own"

    def __init__(self, path: str | Path, split: Split = "train", labels: LabelKind = "fine") -> None:
        key, classes, byte = f"{labels}_labels".encode(), CLASSES[labels], int(labels == "fine")
        names_file = f"{labels}_label_names.txt"
        container = open_container(path, lambda name: stem_of(name) in ("train", "test", "meta", names_file))

        def parse(data: bytes, binary: bool) -> Batch:
            return parse_batch(data, binary, key, byte, 2, classes)  # a row begins with the coarse and the fine label

        def parse_names(data: bytes, binary: bool) -> list[str]:
            names = data.split() if binary else load_pickle(data)[key.replace(b"labels", b"label_names")]
            if len(names) != classes:
                raise ValueError(f"it has {len(names)} names of {classes} classes")
            return [name.decode() for name in names]

        batches = [read_part(container, name, parse, EXPECTED) for name in PARTS[split]]
        meta = "meta" if any(stem_of(name) == "meta" for name in container.names) else names_file
        self.label_names = read_part(container, meta, parse_names, EXPECTED)
        self.labels_from = f"CIFAR-100's {labels} ones"
        images = np.concatenate([rows for rows, _ in batches]).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        super().__init__((images, np.concatenate([part for _, part in batches])), container.files())
        self.origin, self.split = str(path), split
        self.refused = container.refused
