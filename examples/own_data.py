"""An own source of images, here drawn on the fly: circles and squares. A few minutes on a CPU.

The hook is `Source`: a length, a name and an image for each number, and labels if there are any. What is in an array, a
folder or a data set of torch's or Hugging Face's needs no class: pass it as `data`.
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import vitgan
from vitgan.data.sources.source import Provenance, Source

KINDS = ["disc", "square"]


class Shapes(Source):
    """Discs and squares of random colours and places; their kind is the label."""

    provenance = Provenance("shapes", licence="CC0")
    label_names = KINDS
    labels_from = "the drawing"

    def __init__(self, count: int, size: int = 32) -> None:
        self.count, self.size = count, size
        self.labels = np.arange(count) % 2

    def __len__(self) -> int:
        return self.count

    def name(self, index: int) -> str:
        return f"{KINDS[index % 2]} {index}"

    def read(self, index: int) -> np.ndarray:
        rng = np.random.default_rng(index)
        side, left, top = rng.integers(self.size // 4, self.size // 2, size=3).tolist()
        image = Image.new("RGB", (self.size, self.size), "white")
        draw = ImageDraw.Draw(image)
        shape = draw.rectangle if index % 2 else draw.ellipse
        shape((left, top, left + side, top + side), fill=tuple(rng.integers(0, 200, size=3).tolist()))
        return np.asarray(image)


def main(kimg: float = 10, out: str | Path = "runs", count: int = 2000) -> Path:
    """Trains a conditional model; returns the run's folder, with a square in square.png."""
    config = vitgan.preset("quickstart", **{"training.total_kimg": kimg, "model.conditional": True})
    run = vitgan.train(config, out, data=Shapes(count))
    vitgan.load(run).sample(1, labels="square", output="pil")[0].save(run / "square.png")
    return run


if __name__ == "__main__":
    print(main())
