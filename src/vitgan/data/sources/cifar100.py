"""CIFAR-100: 60,000 colour pictures of 32×32 in 100 classes, or 20 coarser ones, in the formats of its home page."""

from pathlib import Path
from typing import Literal

import numpy as np

from vitgan.data.sources.cifar10 import read_batch, read_part, stem_of
from vitgan.data.sources.container import open_container
from vitgan.data.sources.objects import PythonImages
from vitgan.data.sources.source import Provenance
from vitgan.files import user_error

URL = "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"
CHECKSUM = "md5:eb9058c3a382ffc7106e4002c42a8d85"

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

    provenance = Provenance(
        "cifar100",
        licence="none stated; cite Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
        url="https://www.cs.toronto.edu/~kriz/cifar.html",
        resolution=32,
    )
    split_from = "CIFAR-100's own"

    def __init__(self, path: str | Path, split: Split = "train", labels: LabelKind = "fine") -> None:
        names_file = f"{labels}_label_names.txt"
        container = open_container(path, lambda name: stem_of(name) in ("train", "test", "meta", names_file))
        kinds = ["coarse_labels", "fine_labels"]
        batches = [read_batch(container, part, kinds, f"{labels}_labels", CLASSES[labels]) for part in PARTS[split]]
        file = "meta" if any(stem_of(name) == "meta" for name in container.names) else names_file
        names = read_part(container, file)
        with user_error(f"{file} in {path} is damaged", Exception, advice="fetch it again"):
            names = names.split() if isinstance(names, bytes) else names[f"{labels}_label_names".encode()]
            if len(names) != CLASSES[labels]:
                raise ValueError(f"it has {len(names)} names of {CLASSES[labels]} classes")
            self.label_names = [name.decode() for name in names]
        self.labels_from = f"CIFAR-100's {labels} ones"
        super().__init__(tuple(map(np.concatenate, zip(*batches, strict=True))), container.files())
        self.origin, self.split = str(path), split
        self.refused = container.refused
