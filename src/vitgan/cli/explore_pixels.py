"""`vitgan explore` where it is about pixels and patches: zoom, attention, inversion of photos."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from pydantic import Field

from vitgan.cli.arguments import (
    AnimationFile,
    Device,
    Frames,
    Index,
    Label,
    Model,
    OutputFile,
    PictureFile,
    Seed,
    Seeds,
    Size,
    Truncation,
    check_different,
    chosen_file,
)
from vitgan.cli.progress import progress_bar
from vitgan.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

Pixel = Annotated[float, Field(ge=0, le=4096)]


def zoom(
    model: Model,
    seeds: Seeds = (0, 1, 2),
    factors: tuple[Annotated[int, Field(ge=1, le=64)], ...] = (2, 4, 8),
    centre: tuple[Pixel, Pixel] | None = None,
    largest: Annotated[float, Field(ge=1, le=1000)] = 8.0,
    frames: Frames = 60,
    size: Size = 256,
    truncation: Truncation = 1.0,
    label: Label = None,
    device: Device = "cpu",
    out: AnimationFile | None = None,
) -> None:
    """The implicit decoder at denser coordinates, beside bicubic, or as a zoom.

    example: vitgan explore zoom fashion-mnist --seeds 0 1 --factors 2 4 8

    Args:
        seeds: Images, a row each.
        factors: Pixels rendered per pixel and axis, a pair of columns each.
        centre: Where the video zooms to, in pixels x y; default the middle.
        largest: Magnification of the video at its far end.
        frames: Of the video.
        out: A .png of stills beside bicubic (by default zoom.png), or a .gif, .webp or .mp4 of a smooth zoom into the
            first seed.
    """
    from vitgan.explore import zoom as zooming
    from vitgan.explore.invert import psnr
    from vitgan.explore.latents import styles_of_seeds
    from vitgan.explore.sheet import picture, save_animation, sheet
    from vitgan.files.pictures import check_animation_size, check_picture_size, save_image
    from vitgan.pretrained.generators import load

    out = chosen_file(out, "zoom.png")
    check_animation_size(frames, size, size)
    generator = load(model, device)
    pixels = generator.resolution * max(factors, default=1)
    check_picture_size(pixels * len(seeds), pixels)
    styles = generator.styles(styles_of_seeds(generator, seeds, truncation, label))
    if out.suffix.lower() != ".png":
        with progress_bar("Zooming", unit="frames") as on_progress:
            shown = zooming.zoom_frames(generator, styles[:1], frames, largest, size, centre, on_progress)
            save_animation((picture(f[0], size) for f in shown), out, frames_per_second=20)
        print(f"{frames} frames: {out}")
        return
    plain = zooming.zoom(generator, styles, 1)
    columns, titles = [plain], ["plain"]
    for factor in factors:
        dense = zooming.zoom(generator, styles, factor)
        columns += [dense, zooming.bicubic(plain, factor)]
        titles += [f"{factor}x rendered", f"{factor}x bicubic"]
        similarity = psnr(zooming.average(dense, factor), plain)
        print(
            f"factor {factor}: its mean over {factor}×{factor} pixels has PSNR {similarity:.1f} dB against the plain image"
        )
    rows = [[column[index] for column in columns] for index in range(len(seeds))]
    save_image(sheet(rows, titles, [f"seed {s}" for s in seeds], side=generator.resolution * 8), out)
    print(f"zooms: {out}")


def attention(
    model: Model,
    seed: Seed = 0,
    queries: tuple[Index, ...] = (),
    truncation: Truncation = 1.0,
    label: Label = None,
    device: Device = "cpu",
    out: PictureFile | None = None,
    discriminator_out: PictureFile | None = None,
) -> None:
    """What patches attend to, mean over heads: in G, and in a run's D.

    example: vitgan explore attention runs/00000-quickstart --seed 3

    Args:
        seed: The image.
        queries: Patches that attend, numbered row by row from the top left; default five spread over the image.
        out: A picture for the generator; by default attention.png.
        discriminator_out: Another picture, for the discriminator of a run, a checkpoint, or a model that carries its own.
    """
    from vitgan.explore.attention import discriminator_attention, generator_attention, load_discriminator
    from vitgan.explore.latents import render, styles_of_seeds
    from vitgan.pretrained.generators import load

    out = chosen_file(out, "attention.png")
    check_different(out=out, discriminator_out=discriminator_out)
    discriminator = load_discriminator(model) if discriminator_out else None
    generator = load(model, device)
    styles = generator.styles(styles_of_seeds(generator, [seed], truncation, label))
    maps = [m[0].mean(0) for m in generator_attention(generator, styles)]
    image = render(generator, styles)[0]
    queries = queries or spread_queries(len(maps[0]))
    if max(queries) >= len(maps[0]):
        raise UserError(f"there is no patch {max(queries)}: choose 0 to {len(maps[0]) - 1}", "queries")
    save_attention(image, maps, list(queries), 0, out)
    print(f"the generator's attention, a column per block: {out}")
    if discriminator is not None and discriminator_out is not None:
        judged = discriminator_attention(discriminator.to(image.device), image.unsqueeze(0))
        maps = [m[0].mean(0) for m in judged]
        save_attention(image, maps, [None, *spread_queries(len(maps[0]) - 1)], 1, discriminator_out)
        print(f"the discriminator's, the class token first: {discriminator_out}")


def spread_queries(tokens: int) -> tuple[int, ...]:
    """The middle patch and one in each quarter of a square grid, each once."""
    side = round(tokens**0.5)
    low, high = side // 4, side - 1 - side // 4
    places = [(side // 2, side // 2), (low, low), (low, high), (high, low), (high, high)]
    return tuple(dict.fromkeys(row * side + column for row, column in places))


def save_attention(image: "Tensor", maps: "list[Tensor]", queries: "list[int | None]", prefix: int, out: Path) -> None:
    """A row per query, a column per block; `prefix` tokens stand before the patches."""
    from vitgan.explore.attention import heat
    from vitgan.explore.sheet import sheet
    from vitgan.files.pictures import save_image

    rows = [[heat(m[0 if query is None else query + prefix, prefix:], image, query) for m in maps] for query in queries]
    colour = image.expand(3, -1, -1)
    titles = ["class token" if query is None else f"patch {query}" for query in queries]
    save_image(
        sheet([[colour, *row] for row in rows], ["image", *(f"block {k + 1}" for k in range(len(maps)))], titles, 128),
        out,
    )


def invert(
    model: Model,
    photo: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="PHOTO")],
    space: Literal["w", "w+"] = "w+",
    steps: Annotated[int, Field(ge=1, le=1_000_000)] = 300,
    seed: Seed = 0,
    perceptual_weight: Annotated[float, Field(ge=0, le=1e6)] = 0.1,
    device: Device = "cpu",
    out: PictureFile | None = None,
    styles_out: OutputFile | None = None,
) -> None:
    """Finds the latent of a photo by gradient, with a perceptual loss.

    example: vitgan explore invert runs/00000-quickstart photo.jpg --space w+

    Args:
        photo: A PNG, JPEG or WebP.
        space: One style for all layers (w) or one for each (w+).
        steps: Gradient steps.
        seed: Of the random starts.
        perceptual_weight: Weight of the features' term; 0 compares pixels alone.
        out: A picture, the target beside the result; by default invert.png.
        styles_out: A .safetensors file for the styles that were found.
    """
    import torch

    from vitgan.explore.invert import invert as find_styles
    from vitgan.explore.sheet import sheet
    from vitgan.files import check_file, whole_file
    from vitgan.files.pictures import save_image
    from vitgan.files.tensors import write_tensors
    from vitgan.pretrained.generators import load

    out = chosen_file(out, "invert.png")
    if styles_out is not None:
        check_file(styles_out, ending=".safetensors")
    generator = load(model, device)
    pixels = read_photo(photo, generator.resolution, generator.channels)
    target = torch.tensor(pixels).unsqueeze(0).float() / 127.5 - 1
    features = perceptual_features(generator.w_mean.device) if perceptual_weight else None
    with progress_bar("Inverting", unit="steps") as on_progress:
        found = find_styles(
            generator,
            target,
            features,
            space,
            steps,
            perceptual_weight=perceptual_weight,
            seed=seed,
            on_progress=on_progress,
        )
    save_image(sheet([[target[0], found.image[0]]], ["photo", f"found, {found.psnr:.1f} dB"], side=256), out)
    print(f"PSNR {found.psnr:.2f} dB: {out}")
    if styles_out is not None:
        with whole_file(styles_out) as temporary:
            write_tensors(temporary, {"styles": found.styles})
        print(f"styles (1, layers, w_dim): {styles_out}")


def read_photo(photo: Path, resolution: int, channels: int) -> "np.ndarray":
    """A photo's middle at a model's resolution, (C, H, W) uint8.

    Raises:
        UserError: If it cannot be read.
    """
    from vitgan.data.decode import Framing, decode
    from vitgan.data.sources.source import UnreadableImage

    try:
        return decode(photo.read_bytes(), Framing(resolution, channels))[0]
    except (OSError, UnreadableImage) as error:
        raise UserError(f"cannot read the photo {photo}: {error}; pass a PNG, JPEG or WebP") from error


def perceptual_features(device: "torch.device") -> "Callable[[Tensor], Tensor]":
    """EfficientNet-Lite0's pooled features of images in [-1, 1], with gradients."""
    from vitgan.frozen import weights_file
    from vitgan.metrics.lite import load_lite

    network = load_lite("lite0", weights_file("lite0")).to(device)
    return lambda images: network((images.expand(-1, 3, -1, -1) + 1) * 127.5)[0]
