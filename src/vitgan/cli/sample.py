"""`vitgan sample MODEL`: images from a trained generator."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from vitgan.cli.arguments import parse
from vitgan.cli.progress import progress_bar
from vitgan.errors import UserError
from vitgan.model_names import find_model

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

EXAMPLE = """Makes images with a trained generator.

examples: vitgan sample fashion-mnist --grid grid.png
          vitgan sample runs/00000-quickstart --count 64 --seed 0 --truncation 0.7 --grid grid.png"""


@dataclass
class Arguments:
    """What to make.

    Attributes:
        model: A run, checkpoint or model folder, a bundled model's name, or a Hub repository user/name.
        count: How many images.
        seed: Same seed, same images.
        label: Class index of all images, for a conditional model; by default every class in turn.
        truncation: 1 for full variety; towards 0 for the most typical image.
        grid: Write all images into one picture.
        folder: Write each image as a PNG into this folder.
        npz: Write all images as one array (count, H, W, C) uint8, under the name "images".
        enlarge: Whole factor by which a grid's pixels are repeated; by default small images are brought to 64 pixels.
        batch_size: Images made at once; default: what is fast for the model and device.
        precision: float32; bf16 is up to twice as fast where the processor computes it, and changes images a little
            (half a step of 255 on average, more in places); auto takes bf16 there.
        device: Where to compute: cpu, cuda, mps.
    """

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    count: int = 64
    seed: int = 0
    label: int | None = None
    truncation: float = 1.0
    grid: Path | None = None
    folder: Path | None = None
    npz: Path | None = None
    enlarge: int | None = None
    batch_size: int | None = None
    precision: Literal["float32", "bf16", "auto"] = "float32"
    device: str = "cpu"


def main(arguments: list[str]) -> None:
    """Runs `vitgan sample ARGUMENTS`.

    Raises:
        UserError: If the model cannot be opened, a value is out of range, or a file cannot be written.
    """
    parsed = parse(Arguments, arguments, "vitgan sample", EXAMPLE)
    if parsed.count < 1 or (parsed.batch_size is not None and parsed.batch_size < 1):
        raise UserError("--count and --batch-size must be at least 1")
    if parsed.enlarge is not None and parsed.enlarge < 1:
        raise UserError("--enlarge must be at least 1")
    if not 0 <= parsed.seed < 2**63:
        raise UserError(f"--seed {parsed.seed} is out of range: choose a whole number from 0 to 2^63 - 1")
    if parsed.grid is None and parsed.folder is None and parsed.npz is None:
        parsed.grid = Path("samples.png")
    folder = find_model(parsed.model)
    # Imported when the arguments are known to be right: torch takes longer than all the rest.
    import numpy as np
    import torch

    from vitgan.grid import to_array
    from vitgan.precision import choose_precision
    from vitgan.pretrained import load

    generator = load(folder, parsed.device)
    labels = _labels(parsed, generator.num_classes)
    kind = torch.device(parsed.device).type
    bf16 = choose_precision(parsed.precision, cpu=kind == "cpu") == "bf16"
    batches, done = [], 0
    with progress_bar("Sampling") as on_progress, torch.autocast(kind, torch.bfloat16, enabled=bf16):
        for images in generator.batches(parsed.count, parsed.seed, parsed.truncation, labels, parsed.batch_size):
            batches.append(to_array(images))
            done += len(images)
            on_progress(done, parsed.count)
    _write(np.concatenate(batches), parsed, generator.resolution)


def _labels(arguments: Arguments, num_classes: int) -> "Tensor | None":
    import torch

    if arguments.label is None:
        return None
    if not num_classes:
        raise UserError("--label is for class-conditional models; this one is unconditional: leave it out")
    if not 0 <= arguments.label < num_classes:
        raise UserError(f"--label {arguments.label} is no class of this model: choose 0 to {num_classes - 1}")
    return torch.full((arguments.count,), arguments.label)


def _write(images: "np.ndarray", arguments: Arguments, resolution: int) -> None:
    import numpy as np

    from vitgan.grid import enlargement, image_grid, save_image, to_pil

    if arguments.grid is not None:
        enlarge = arguments.enlarge or enlargement(resolution)
        save_image(image_grid(images, enlarge=enlarge), arguments.grid)
        print(f"grid of {len(images)} images: {arguments.grid}")
    if arguments.folder is not None:
        for index, image in enumerate(images):
            save_image(to_pil(image), arguments.folder / f"{index:06d}.png")
        print(f"{len(images)} images in {arguments.folder}")
    if arguments.npz is not None:
        try:
            np.savez_compressed(arguments.npz, images=images)
        except OSError as error:
            raise UserError(f"cannot write {arguments.npz}: {error.strerror}; choose another path") from error
        print(f"{len(images)} images: {arguments.npz}")
