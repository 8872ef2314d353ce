"""`vitgan sample MODEL`: images from a trained generator."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from pydantic import Field
from pydantic.dataclasses import dataclass

from vitgan.cli.arguments import Count, Device, Index, OutputFile, PictureFile, Seed, Truncation, chosen_file, parse
from vitgan.cli.progress import progress_bar
from vitgan.errors import UserError
from vitgan.files.folders import check_folder, new_folder
from vitgan.pretrained.names import find_model

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

IMAGE_SET = "set of images"
"""What a folder's marker (`vitgan.files.folders`) calls it."""

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
        label: Class index of all images, for a conditional model; by default every class in turn, as often
            as in the training images.
        truncation: 1 for full variety; towards 0 for the most typical image.
        grid: Write all images into one picture; samples.png where nothing else is asked for.
        folder: Write each image as a PNG into this folder; it must be new, empty, or hold such a set as it was written.
        npz: Write all images as one array (count, H, W, C) uint8, under the name "images".
        enlarge: Whole factor by which a grid's pixels are repeated; by default small images are brought to 64 pixels.
        batch_size: Images made at once; default: what is fast for the model and device.
        precision: float32; bf16 is up to twice as fast where the processor computes it, and changes images a little
            (half a step of 255 on average, more in places); auto takes bf16 there.
        device: Where to compute: auto, cpu, cuda, mps.
    """

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    count: Count = 64
    seed: Seed = 0
    label: Index | None = None
    truncation: Truncation = 1.0
    grid: PictureFile | None = None
    folder: Path | None = None
    npz: OutputFile | None = None
    enlarge: Annotated[int, Field(ge=1, le=64)] | None = None
    batch_size: Annotated[int, Field(ge=1, le=4096)] | None = None
    precision: Literal["float32", "bf16", "auto"] = "float32"
    device: Device = "cpu"

    def check_outputs(self) -> None:
        """Settles where images go.

        Raises:
            UserError: If one place is named twice, or cannot be written or replaced.
        """
        if self.grid is None and self.folder is None and self.npz is None:
            self.grid = chosen_file(None, "samples.png", "--grid")
        files = [file.absolute() for file in (self.grid, self.npz) if file is not None]
        if len(set(files)) < len(files):
            raise UserError("--grid and --npz are the same file: choose another for one of them")
        if self.folder is not None:
            if any(self.folder.absolute() in (file, *file.parents) for file in files):
                raise UserError(
                    "--grid or --npz lies in --folder, which holds single images only: choose another place"
                )
            check_folder(self.folder, IMAGE_SET)


def main(arguments: list[str]) -> None:
    """Runs `vitgan sample ARGUMENTS`.

    Raises:
        UserError: If the model cannot be opened, a value is out of range, or a file cannot be written.
    """
    parsed = parse(Arguments, arguments, "vitgan sample", EXAMPLE)
    parsed.check_outputs()
    folder = find_model(parsed.model)
    # Imported when the arguments are known to be right: torch takes longer than all the rest.
    import numpy as np
    import torch

    from vitgan.devices import choose_precision
    from vitgan.files.pictures import check_picture_size, enlargement, grid_shape, to_array
    from vitgan.pretrained.generators import load

    generator = load(folder, parsed.device)
    labels = _labels(parsed, generator.num_classes)
    if parsed.grid is not None:
        rows, columns = grid_shape(parsed.count)
        side = generator.resolution * (parsed.enlarge or enlargement(generator.resolution))
        check_picture_size(columns * side, rows * side, parsed.grid)
    kind = generator.w_mean.device.type
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

    from vitgan.files import whole_file
    from vitgan.files.pictures import enlargement, image_grid, save_image, to_pil

    if arguments.grid is not None:
        enlarge = arguments.enlarge or enlargement(resolution)
        save_image(image_grid(images, enlarge=enlarge), arguments.grid)
        print(f"grid of {len(images)} images: {arguments.grid}")
    if arguments.folder is not None:
        with new_folder(arguments.folder, IMAGE_SET) as place:
            for index, image in enumerate(images):
                to_pil(image).save(place / f"{index:06d}.png")
        print(f"{len(images)} images in {arguments.folder}")
    if arguments.npz is not None:
        with whole_file(arguments.npz) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, images=images)
        print(f"{len(images)} images: {arguments.npz}")
