"""Sheets of numbered images without their classes, for a person or a model to name, and the key beside them.

Ten images of each class, not chosen, in random order: `OUT-1.png`, `OUT-2.png` and `OUT-key.json`.

example: python experiments/naming_sheets.py cifar10 --seed 901 --out sheets/cifar10
"""

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from PIL import Image, ImageDraw

import vitgan
from vitgan.data.store import DESCRIPTION, ImageStore
from vitgan.files.pictures import to_pil

PER_CLASS, COLUMNS, ROWS, SIDE, MARGIN, LINE = 10, 10, 5, 100, 4, 16


def naming_sheets(model: Annotated[str, tyro.conf.Positional], out: Path, seed: int = 901) -> None:
    """Writes the sheets and the key.

    Args:
        model: Run, checkpoint or bundled model with classes; or an image store, whose real images are then named.
        out: Where to write, without an ending.
        seed: Of the latents and of the order.
    """
    images, classes = real_images(Path(model), seed) if Path(model, DESCRIPTION).exists() else fakes(model, seed)
    out.parent.mkdir(parents=True, exist_ok=True)
    for first in range(0, len(images), COLUMNS * ROWS):
        sheet = Image.new("RGB", (COLUMNS * (SIDE + 2 * MARGIN), ROWS * (SIDE + LINE + 2 * MARGIN)), "white")
        for place, number in enumerate(range(first, min(first + COLUMNS * ROWS, len(images)))):
            row, column = divmod(place, COLUMNS)
            x, y = column * (SIDE + 2 * MARGIN) + MARGIN, row * (SIDE + LINE + 2 * MARGIN) + MARGIN
            ImageDraw.Draw(sheet).text((x, y), str(number), fill="black")
            sheet.paste(images[number].resize((SIDE, SIDE), Image.Resampling.BICUBIC), (x, y + LINE))
        sheet.save(f"{out}-{first // (COLUMNS * ROWS) + 1}.png")
    Path(f"{out}-key.json").write_text(json.dumps(classes))


def fakes(model: str, seed: int) -> tuple[list[Image.Image], list[str]]:
    """Generated images and their classes."""
    generator = vitgan.load(model)
    names = generator.class_names or [str(index) for index in range(generator.num_classes)]
    labels = np.random.RandomState(seed).permutation(PER_CLASS * len(names)) % len(names)
    images = generator.sample(len(labels), seed=seed, labels=torch.from_numpy(labels), output="pil")
    return images, [names[label] for label in labels]


def real_images(folder: Path, seed: int) -> tuple[list[Image.Image], list[str]]:
    """Images of a store and their classes."""
    store, rng = ImageStore.open(folder), np.random.RandomState(seed)
    assert store.labels is not None
    names = store.description.label_names or [str(index) for index in range(store.label_count)]
    chosen = [rng.choice(np.flatnonzero(store.labels == label), PER_CLASS, False) for label in range(store.label_count)]
    indices = rng.permutation(np.concatenate(chosen))
    images = [to_pil(image.transpose(1, 2, 0)) for image in store.read(indices)]
    return images, [names[label] for label in store.labels[indices]]


if __name__ == "__main__":
    tyro.cli(naming_sheets)
