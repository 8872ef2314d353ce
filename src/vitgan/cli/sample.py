"""`vitgan sample MODEL`: images from a trained generator."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from vitgan.cli.arguments import Batch, Count, Device, Index, Model, OutputFile, PictureFile, Psi, Seed, chosen_file
from vitgan.cli.progress import progress_bar
from vitgan.errors import UserError
from vitgan.files import whole_file
from vitgan.files.folders import check_folder, new_folder
from vitgan.pretrained.names import find_model

if TYPE_CHECKING:
    from torch import Tensor

IMAGE_SET = "set of images"
"""What a folder's marker (`vitgan.files.folders`) calls it."""


def sample(
    model: Model,
    count: Count = 64,
    seed: Seed = 0,
    label: Index | None = None,
    truncation: Psi = 1.0,
    grid: PictureFile | None = None,
    folder: Path | None = None,
    npz: OutputFile | None = None,
    enlarge: Annotated[int, Field(ge=1, le=64)] | None = None,
    batch_size: Batch | None = None,
    precision: Literal["float32", "bf16", "auto"] = "float32",
    device: Device = "cpu",
) -> None:
    """Makes images with a trained generator.

    examples:
      vitgan sample fashion-mnist --grid grid.png
      vitgan sample runs/00000-quickstart --count 64 --seed 0 --truncation 0.7

    Args:
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
    """
    if grid is None and folder is None and npz is None:
        grid = chosen_file(None, "samples.png", "grid")
    check_outputs(grid, folder, npz)
    found = find_model(model)
    # Imported when the arguments are known to be right: torch takes longer than all the rest.
    import numpy as np
    import torch

    from vitgan.devices import choose_precision
    from vitgan.files.pictures import (
        check_picture_size,
        enlargement,
        grid_shape,
        image_grid,
        save_image,
        to_array,
        to_pil,
    )
    from vitgan.pretrained.generators import load

    generator = load(found, device)
    labels = same_labels(label, count, generator.num_classes)
    enlarge = enlarge or enlargement(generator.resolution)
    if grid is not None:
        rows, columns = grid_shape(count)
        check_picture_size(columns * generator.resolution * enlarge, rows * generator.resolution * enlarge, grid)
    kind = generator.w_mean.device.type
    bf16 = choose_precision(precision, cpu=kind == "cpu") == "bf16"
    batches, done = [], 0
    with progress_bar("Sampling") as on_progress, torch.autocast(kind, torch.bfloat16, enabled=bf16):
        for batch in generator.batches(count, seed, truncation, labels, batch_size):
            batches.append(to_array(batch))
            done += len(batch)
            on_progress(done, count)
    images = np.concatenate(batches)
    if grid is not None:
        save_image(image_grid(images, enlarge=enlarge), grid)
        print(f"grid of {count} images: {grid}")
    if folder is not None:
        with new_folder(folder, IMAGE_SET) as place:
            for index, image in enumerate(images):
                to_pil(image).save(place / f"{index:06d}.png")
        print(f"{count} images in {folder}")
    if npz is not None:
        with whole_file(npz) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, images=images)
        print(f"{count} images: {npz}")


COMMAND = sample


def check_outputs(grid: Path | None, folder: Path | None, npz: Path | None) -> None:
    """Refuses places that are named twice, or that cannot be written or replaced.

    Raises:
        UserError: If one of them is.
    """
    files = [file.absolute() for file in (grid, npz) if file is not None]
    if len(set(files)) < len(files):
        raise UserError("--grid and --npz are the same file: choose another for one of them", "npz")
    if folder is not None:
        if any(folder.absolute() in (file, *file.parents) for file in files):
            raise UserError(
                "--grid or --npz lies in --folder, which holds single images only: choose another place", "folder"
            )
        check_folder(folder, IMAGE_SET)


def same_labels(label: int | None, count: int, num_classes: int) -> "Tensor | None":
    """One class for all images, (count,) int64; None for every class in turn.

    Raises:
        UserError: If the model has no such class.
    """
    import torch

    if label is None:
        return None
    if not num_classes:
        raise UserError("this model is unconditional: leave out the label", "label")
    if label >= num_classes:
        raise UserError(f"{label} is no class of this model: choose 0 to {num_classes - 1}", "label")
    return torch.full((count,), label)
