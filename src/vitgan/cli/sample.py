"""`vitgan sample MODEL`: images from a trained generator."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from vitgan.cli.arguments import (
    Batch,
    Count,
    Device,
    Model,
    NpzFile,
    PictureFile,
    Psi,
    Seed,
    Seeds,
    check_useless,
    check_usual,
    open_model,
)
from vitgan.cli.progress import progress_bar
from vitgan.devices import choose_precision
from vitgan.errors import UserError
from vitgan.explore.sheet import CAPTION, captioned
from vitgan.files import whole_file
from vitgan.files.folders import check_folder, new_folder
from vitgan.files.pictures import check_picture_size, enlargement, grid_shape, image_grid, save_image, to_array, to_pil

if TYPE_CHECKING:
    from vitgan.models.generator import Generator

IMAGE_SET = "set of images"
"""What a folder's marker (`vitgan.files.folders`) calls it."""
USUAL_COUNT = 64


def sample(
    model: Model,
    count: Count | None = None,
    seed: Seed | None = None,
    seeds: Seeds | None = None,
    label: str | None = None,
    truncation: Psi = 1.0,
    grid: PictureFile | None = None,
    folder: Path | None = None,
    npz: NpzFile | None = None,
    enlarge: Annotated[int, Field(ge=1, le=64)] | None = None,
    captions: bool = False,
    batch_size: Batch | None = None,
    precision: Literal["float32", "bf16", "auto"] = "float32",
    device: Device = "cpu",
) -> None:
    """Makes images with a trained generator.

    examples:
      vitgan sample cifar10 --label cat --grid grid.png
      vitgan sample fashion-mnist --seeds 1,5,17-20 --folder images
      vitgan sample runs/00000-quickstart --count 64 --seed 0 --truncation 0.7

    Args:
        count: How many images; by default 64, or full rows if a grid has a column for each class (60 of ten classes).
        seed: Seed of all images, by default 0. The same seed makes the same images.
        seeds: Make one image for each of these seeds, in place of --count and --seed.
        label: Class of all images, by name or index, for a conditional model. By default the classes come in turn, as often
            as in the training images; with --seeds the seed decides.
        truncation: 1 for full variety; towards 0 for the most typical image.
        grid: Write all images into one picture. Without --grid, --folder and --npz this is samples.png.
        folder: Write each image as a PNG into this folder, named by its number or seed, and its class. The folder must be
            new, empty, or hold an unchanged set of images.
        npz: Write all images as one array (count, H, W, C) uint8, under the name "images", into this .npz file; their
            classes are "labels" (count,) int64, the classes' names "class_names".
        enlarge: Repeat each pixel of the grid this many times; by default small images become 64 pixels wide.
        captions: Write each image's seed, or its number, below it in the grid.
        batch_size: Images made at once; by default what is fast for the model and device.
        precision: bf16 is up to twice as fast if the processor supports it. It changes images a little: half a step of 255
            on average, more in places. auto takes bf16 if the processor supports it.
    """
    if seeds is not None:
        check_useless(sample, "beside --seeds, which says how many images there are, and which", count=count, seed=seed)
        if len(set(seeds)) < len(seeds):
            raise UserError("--seeds has a seed twice: name each image once", "seeds")
    if grid is None and folder is None and npz is None:
        grid = check_usual(Path("samples.png"), "grid")
    if grid is None:
        check_useless(sample, "without a grid", enlarge=enlarge, captions=captions)
    check_outputs(grid, folder, npz)
    generator = open_model(model, device)
    columns = None
    if seeds is not None:
        count = len(seeds)
    elif label is None:
        whole, columns = generator.grid(count or USUAL_COUNT)
        count = count or whole
    else:
        count = count or USUAL_COUNT
    import torch

    if label is not None:
        labels = torch.full((count,), generator.class_of(label))
    else:
        labels = generator.labels(count) if seeds is None else generator.classes_of_seeds(seeds)
    enlarge = enlarge or enlargement(generator.image_size)
    if grid is not None:
        rows, across = grid_shape(count, columns)
        side = generator.image_size * enlarge
        check_picture_size(across * side, rows * (side + captions * CAPTION), grid)
    kind = generator.w_mean.device.type
    bf16 = choose_precision(precision, cpu=kind == "cpu") == "bf16"
    batches, done = [], 0
    with progress_bar("Sampling") as on_progress, torch.autocast(kind, torch.bfloat16, enabled=bf16):
        made = (
            generator.batches(count, seed or 0, truncation, labels, batch_size)
            if seeds is None
            else generator.of_seeds(seeds, truncation, labels, batch_size)
        )
        for batch in made:
            batches.append(to_array(batch))
            done += len(batch)
            on_progress(done, count)
    images = np.concatenate(batches)
    classes = None if labels is None else labels.tolist()
    if grid is not None:
        shown = captioned_images(images, seeds or range(count), enlarge) if captions else images
        save_image(image_grid(shown, columns, 1 if captions else enlarge), grid)
        print(f"grid of {count} images: {grid}")
    if folder is not None:
        names = [f"{i:06d}" for i in range(count)] if seeds is None else [f"seed{s:04d}" for s in seeds]
        if classes is not None:
            names = [f"{name}-{file_name_of(generator, index)}" for name, index in zip(names, classes, strict=True)]
        with new_folder(folder, IMAGE_SET) as place:
            for name, image in zip(names, images, strict=True):
                to_pil(image).save(place / f"{name}.png")
        print(f"{count} images in {folder}")
    if npz is not None:
        with whole_file(npz) as temporary, temporary.open("wb") as file:
            arrays = {"images": images}
            if classes is not None:
                arrays["labels"] = np.array(classes)
            if generator.class_names:
                arrays["class_names"] = np.array(generator.class_names)
            np.savez_compressed(file, **arrays)  # pyright: ignore[reportArgumentType]
        print(f"{count} images: {npz}")


def captioned_images(images: np.ndarray, captions: Sequence[int], enlarge: int) -> np.ndarray:
    """Images (N, H, W, C) uint8, enlarged, each with a line of text below: (N, H', W', 3)."""
    tiles = (image_grid(image[None], 1, enlarge) for image in images)
    return np.stack([np.asarray(captioned(tile, str(text))) for tile, text in zip(tiles, captions, strict=True)])


def file_name_of(generator: "Generator", index: int) -> str:
    """A class in a file's name: its name without what a path has a use for, else its number."""
    return re.sub(r"[^\w]+", "_", generator.class_names[index])[:40] if generator.class_names else str(index)


def check_outputs(grid: Path | None, folder: Path | None, npz: Path | None) -> None:
    """Refuses a folder that would hold the other files, or that cannot be written or replaced."""
    if folder is not None:
        if any(folder.absolute() in file.absolute().parents for file in (grid, npz) if file is not None):
            raise UserError("a file lies in --folder, which holds single images only: choose another place", "folder")
        check_folder(folder, IMAGE_SET)
