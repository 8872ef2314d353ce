"""`vitgan explore` where it is about pixels and patches: zoom, attention, inversion of photos."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from pydantic import Field
from pydantic.dataclasses import dataclass

from vitgan.cli.arguments import AnimationFile, Index, OutputFile, PictureFile, Seed, chosen_file
from vitgan.cli.explore_styles import Common, Frames, OfModel, Size
from vitgan.cli.progress import progress_bar
from vitgan.errors import UserError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Pixel = Annotated[float, Field(ge=0, le=4096)]


@dataclass
class Zoom(Common):
    """What `zoom` takes.

    Attributes:
        seeds: Images, a row each.
        factors: Pixels rendered per pixel and axis, a pair of columns each.
        centre: Where the video zooms to, in pixels x y; default the middle.
        largest: Magnification of the video at its far end.
        frames: Of the video.
        size: Pixels of a video frame.
        out: A .png of stills beside bicubic (by default zoom.png), or a .gif, .webp or .mp4 of a smooth zoom into the first
            seed.
    """

    seeds: tuple[Seed, ...] = (0, 1, 2)
    factors: tuple[Annotated[int, Field(ge=1, le=64)], ...] = (2, 4, 8)
    centre: tuple[Pixel, Pixel] | None = None
    largest: Annotated[float, Field(ge=1, le=1000)] = 8.0
    frames: Frames = 60
    size: Size = 256
    out: AnimationFile | None = None


def zoom(options: Zoom) -> None:
    """The implicit decoder at denser coordinates, beside bicubic; or a smooth zoom as an animation.

    example: vitgan explore zoom fashion-mnist --seeds 0 1 --factors 2 4 8 --out zoom.png
    """
    from vitgan.explore import zoom as zooming
    from vitgan.explore.invert import psnr
    from vitgan.explore.latents import styles_of_seeds
    from vitgan.explore.sheet import picture, save_animation, sheet
    from vitgan.files.pictures import check_animation_size, check_picture_size, save_image

    out = chosen_file(options.out, "zoom.png")
    check_animation_size(options.frames, options.size, options.size)
    generator = options.generator()
    pixels = generator.resolution * max(options.factors, default=1)
    check_picture_size(pixels * len(options.seeds), pixels)
    styles = generator.styles(styles_of_seeds(generator, options.seeds, options.truncation, options.label))
    if out.suffix.lower() != ".png":
        with progress_bar("Zooming", unit="frames") as on_progress:
            frames = zooming.zoom_frames(
                generator, styles[:1], options.frames, options.largest, options.size, options.centre, on_progress
            )
            save_animation((picture(f[0], options.size) for f in frames), out, frames_per_second=20)
        print(f"{options.frames} frames: {out}")
        return
    plain = zooming.zoom(generator, styles, 1)
    columns, titles = [plain], ["plain"]
    for factor in options.factors:
        dense = zooming.zoom(generator, styles, factor)
        columns += [dense, zooming.bicubic(plain, factor)]
        titles += [f"{factor}x rendered", f"{factor}x bicubic"]
        similarity = psnr(zooming.average(dense, factor), plain)
        print(
            f"factor {factor}: its mean over {factor}×{factor} pixels has PSNR {similarity:.1f} dB against the plain image"
        )
    rows = [[column[index] for column in columns] for index in range(len(options.seeds))]
    save_image(sheet(rows, titles, [f"seed {s}" for s in options.seeds], side=generator.resolution * 8), out)
    print(f"zooms: {out}")


@dataclass
class Attention(Common):
    """What `attention` takes.

    Attributes:
        seed: The image.
        queries: Patches that attend, numbered row by row from the top left; default five spread over the image.
        out: A picture for the generator; by default attention.png.
        discriminator_out: Another picture, for the discriminator; MODEL must be a run or checkpoint.
    """

    seed: Seed = 0
    queries: tuple[Index, ...] = ()
    out: PictureFile | None = None
    discriminator_out: PictureFile | None = None


def attention(options: Attention) -> None:
    """What patches attend to, mean over heads: in the generator, and in a run's discriminator.

    example: vitgan explore attention runs/00000-quickstart --seed 3 --out attention.png
    """
    from vitgan.explore.attention import discriminator_attention, generator_attention, load_discriminator
    from vitgan.explore.latents import render, styles_of_seeds
    from vitgan.pretrained.names import find_model

    out = chosen_file(options.out, "attention.png")
    discriminator = load_discriminator(find_model(options.model)) if options.discriminator_out else None
    generator = options.generator()
    styles = generator.styles(styles_of_seeds(generator, [options.seed], options.truncation, options.label))
    maps = [m[0].mean(0) for m in generator_attention(generator, styles)]
    image = render(generator, styles)[0]
    queries = options.queries or spread_queries(len(maps[0]))
    if max(queries) >= len(maps[0]):
        raise UserError(f"patch {max(queries)} is out of range: the generator has patches 0 to {len(maps[0]) - 1}")
    save_attention(image, maps, list(queries), 0, out)
    print(f"the generator's attention, a column per block: {out}")
    if discriminator is None or options.discriminator_out is None:
        return
    judged = discriminator_attention(discriminator.to(image.device), image.unsqueeze(0))
    maps = [m[0].mean(0) for m in judged]
    save_attention(image, maps, [None, *spread_queries(len(maps[0]) - 1)], 1, options.discriminator_out)
    print(f"the discriminator's, the class token first: {options.discriminator_out}")


def spread_queries(tokens: int) -> tuple[int, ...]:
    """The middle patch and one in each quarter of a square grid."""
    side = round(tokens**0.5)
    low, high = side // 4, side - 1 - side // 4
    places = [(side // 2, side // 2), (low, low), (low, high), (high, low), (high, high)]
    return tuple(row * side + column for row, column in places)


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


@dataclass
class Invert(OfModel):
    """What `invert` takes.

    Attributes:
        picture: The photo.
        space: One style for all layers (w) or one for each (w+).
        steps: Gradient steps.
        seed: Of the random starts.
        perceptual_weight: Weight of the features' term; 0 compares pixels alone.
        out: A picture, the target beside the result; by default invert.png.
        styles_out: A .safetensors file for the styles that were found.
    """

    picture: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="PHOTO")] = Path()
    space: Literal["w", "w+"] = "w+"
    steps: Annotated[int, Field(ge=1, le=1_000_000)] = 300
    seed: Seed = 0
    perceptual_weight: Annotated[float, Field(ge=0, le=1e6)] = 0.1
    out: PictureFile | None = None
    styles_out: OutputFile | None = None


def invert(options: Invert) -> None:
    """Finds the latent of a photo by gradient, with a perceptual loss from offline features.

    example: vitgan explore invert runs/00000-quickstart photo.jpg --space w+ --out invert.png
    """
    import torch

    from vitgan.data.decode import Framing, decode
    from vitgan.data.sources.source import UnreadableImage
    from vitgan.explore.invert import invert as find_styles
    from vitgan.explore.sheet import sheet
    from vitgan.files import check_file, whole_file
    from vitgan.files.pictures import save_image
    from vitgan.files.tensors import write_tensors

    if options.picture == Path():
        raise UserError("which photo? pass it behind the model: vitgan explore invert MODEL photo.jpg")
    out = chosen_file(options.out, "invert.png")
    if options.styles_out is not None:
        check_file(options.styles_out, ending=".safetensors")
    generator = options.generator()
    try:
        encoded = options.picture.read_bytes()
        pixels, _ = decode(encoded, Framing(generator.resolution, generator.channels))
    except (OSError, UnreadableImage) as error:
        raise UserError(f"cannot read the photo {options.picture}: {error}; pass a PNG, JPEG or WebP") from error
    target = torch.tensor(pixels).unsqueeze(0).float() / 127.5 - 1
    features = perceptual_features(generator.w_mean.device) if options.perceptual_weight else None
    with progress_bar("Inverting", unit="steps") as on_progress:
        found = find_styles(
            generator,
            target,
            features,
            options.space,
            options.steps,
            perceptual_weight=options.perceptual_weight,
            seed=options.seed,
            on_progress=on_progress,
        )
    save_image(sheet([[target[0], found.image[0]]], ["photo", f"found, {found.psnr:.1f} dB"], side=256), out)
    print(f"PSNR {found.psnr:.2f} dB: {out}")
    if options.styles_out is not None:
        with whole_file(options.styles_out) as temporary:
            write_tensors(temporary, {"styles": found.styles})
        print(f"styles (1, layers, w_dim): {options.styles_out}")


def perceptual_features(device: "torch.device") -> "Callable[[Tensor], Tensor]":
    """EfficientNet-Lite0's pooled features of images in [-1, 1], with gradients."""
    from vitgan.frozen import weights_file
    from vitgan.metrics.lite import load_lite

    network = load_lite("lite0", weights_file("lite0")).to(device)
    return lambda images: network((images.expand(-1, 3, -1, -1) + 1) * 127.5)[0]
