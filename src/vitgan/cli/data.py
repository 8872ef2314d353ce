"""`vitgan data`: images in the formats that people have them in -> a store that training reads."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro
from pydantic import Field

from vitgan.cli.arguments import Device, PictureFile, Seed, check_useless
from vitgan.cli.parsing import Group
from vitgan.cli.progress import progress_bar
from vitgan.cli.train import recommended
from vitgan.data.download import download
from vitgan.data.encode import encode_store
from vitgan.data.overview import channel_moments, class_counts, store_grid, value_histogram
from vitgan.data.prepare import plan, prepare
from vitgan.data.sources import celeba as celeba_source
from vitgan.data.sources import cifar10 as cifar10_source
from vitgan.data.sources import cifar100 as cifar100_source
from vitgan.data.sources import fashion_mnist as fashion_mnist_source
from vitgan.data.sources import lsun as lsun_source
from vitgan.data.sources.folder import ImageFolder
from vitgan.data.sources.guess import guess_source
from vitgan.data.sources.imagenet import ImageNet
from vitgan.data.sources.parquet import ParquetImages, holds_parquet
from vitgan.data.sources.source import Source
from vitgan.data.store import ImageStore
from vitgan.errors import command
from vitgan.files import whole_file
from vitgan.files.pictures import check_picture_size
from vitgan.schema import Config

SHOWN_SKIPPED = 5
HISTOGRAM_BINS = 16
USUAL_RESOLUTION = 32
"""Of the presets for a CPU."""

Pixels = Annotated[int, Field(ge=1, le=65_536)]
Side = Annotated[int, Field(ge=1, le=1000)]
Store = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="STORE", help="The store's folder.")]


class Framing(Config):
    """What becomes of each image."""

    resolution: Pixels | None = None
    """Height and width in pixels; by default the source's usual size."""
    channels: Literal[1, 3] | None = None
    """1 for grey, 3 for RGB; by default the source's own."""
    crop: Pixels | None = None
    """Side in pixels of the square that is cut from the centre and resized; by default the source's usual one, or the
    largest."""
    background: str = "#ffffff"
    """Colour under transparent images, e.g. "#ffffff" or "black"."""
    max_images: Annotated[int, Field(ge=1, le=10**12)] | None = None
    """Take only this many images, evenly spaced."""


class Output(Framing):
    """How the store is made."""

    out: Path
    """Folder for the store, e.g. data/cifar10."""
    strict: bool = False
    """Stop at the first unreadable image. Otherwise such images are skipped and listed."""
    workers: Annotated[int, Field(ge=0, le=1024)] | None = None
    """Processes that decode images; by default one for each processor; 0 decodes in this process."""
    overwrite: bool = False
    """Replace an existing store."""


class GuessedOutput(Output):
    out: Path = Path("data/NAME")
    """Folder for the store; NAME is the source's."""


Flat = Annotated[Output, tyro.conf.arg(name="")]


def auto(
    output: Annotated[GuessedOutput, tyro.conf.arg(name="")],
    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PATH")],
    split: str | None = None,
    labels: str = "auto",
) -> None:
    """Finds out which kind of images a path has: `vitgan data my_photos` is enough.

    Your own images become 32×32, unless you give --resolution.

    Args:
        source: A folder or file that one of the other commands reads, or hf://owner/name, a data set on the Hub.
        split: See `vitgan data folder --help`.
        labels: See `vitgan data folder --help`.
    """
    guessed = guess_source(source, split, labels)
    update: dict[str, object] = {"resolution": output.resolution or guessed.provenance.resolution or USUAL_RESOLUTION}
    if output.out == GuessedOutput.model_fields["out"].default:
        name = Path(source).resolve().name
        update["out"] = Path("data") / (name.partition(".")[0] or name)
    _prepare(guessed, output.model_copy(update=update))


def folder(
    output: Flat,
    source: Path,
    split: str | None = None,
    labels: str = "auto",
    label_column: str | None = None,
    follow_links: bool = False,
) -> None:
    """Your own images: a folder, zip or tar; class folders become labels.

    Args:
        source: The folder, zip or tar (also StyleGAN's zips with dataset.json).
        split: Only the images of this split, e.g. train, or of the folder with this name; "all" for all.
        labels: Where labels come from: "folders" (a folder for each class), "none", or a file with a table of names and
            labels (JSON, JSON Lines or CSV). "auto" takes dataset.json or class folders, and asks if it is in doubt.
        label_column: The table's column that holds the labels, if none is called "label", "class", ...
        follow_links: Follow symbolic links that lead out of the folder.
    """
    _prepare(ImageFolder(source, split, labels, follow_links, label_column), output)


def source_or_download(command: Callable[..., None], source: Path | None, url: str, checksum: str) -> Path:
    """What the user has, else what is fetched; refuses an address beside a source."""
    if source is not None:
        check_useless(command, "beside --source", url=url, checksum=checksum)
        return source
    with progress_bar("Downloading", unit="bytes") as on_progress:
        return download(url, checksum, on_progress=on_progress)


def cifar10(
    output: Flat,
    source: Path | None = None,
    split: cifar10_source.Split = "train",
    url: str = cifar10_source.URL,
    checksum: str = cifar10_source.CHECKSUM,
) -> None:
    """CIFAR-10, downloaded (163 MiB) unless --source is given.

    Args:
        source: cifar-10-python.tar.gz, cifar-10-binary.tar.gz, the folder extracted from one of them, or the Hub's
            Parquet files.
        split: Which images.
        url: Where to download the Python version from.
        checksum: Digest that the download must have, as md5:HEX or sha256:HEX.
    """
    source = source_or_download(cifar10, source, url, checksum)
    if holds_parquet(source):
        _prepare(ParquetImages(source, split, provenance=cifar10_source.Cifar10.provenance), output)
    else:
        _prepare(cifar10_source.Cifar10(source, split), output)


def cifar100(
    output: Flat,
    source: Path | None = None,
    split: cifar100_source.Split = "train",
    labels: cifar100_source.LabelKind = "fine",
    url: str = cifar100_source.URL,
    checksum: str = cifar100_source.CHECKSUM,
) -> None:
    """CIFAR-100, downloaded (161 MiB) unless --source is given.

    Args:
        source: cifar-100-python.tar.gz, cifar-100-binary.tar.gz, the folder extracted from one of them, or the Hub's
            Parquet files.
        split: Which images.
        labels: The 100 classes, or the 20 superclasses.
        url: Where to download the Python version from.
        checksum: Digest that the download must have, as md5:HEX or sha256:HEX.
    """
    source = source_or_download(cifar100, source, url, checksum)
    if holds_parquet(source):
        _prepare(ParquetImages(source, split, None, f"{labels}_label", cifar100_source.Cifar100.provenance), output)
    else:
        _prepare(cifar100_source.Cifar100(source, split, labels), output)


def imagenet(output: Flat, source: Path, words: Path | None = None) -> None:
    """ImageNet or a part of it: folders n01440764, ...; classes get their names.

    Args:
        source: The folder that holds these folders, e.g. ILSVRC/Data/CLS-LOC/train, or a zip or tar of it.
        words: LOC_synset_mapping.txt or words.txt, if it is not beside or above the folder.
    """
    _prepare(ImageNet(source, words), output)


def celeba(output: Flat, source: Path, split: celeba_source.Split = "train", partition: Path | None = None) -> None:
    """CelebA's aligned faces; --crop 178 (the default) or the older --crop 148.

    Args:
        source: img_align_celeba or img_align_celeba.zip, a folder that holds one of them, or the Hub's Parquet files.
        split: Which images, by CelebA's own partition.
        partition: list_eval_partition.txt (or .csv), if it is not beside or above the images.
    """
    if holds_parquet(source):
        check_useless(celeba, "beside Parquet files, whose names say the split", partition=partition)
        _prepare(ParquetImages(source, split, label_column="none", provenance=celeba_source.CelebA.provenance), output)
    else:
        _prepare(celeba_source.CelebA(source, split, partition), output)


def lsun(output: Flat, source: Path, category: str = "bedroom", split: lsun_source.Split | None = None) -> None:
    """One category of LSUN, e.g. bedroom.

    Args:
        source: An unzipped LMDB such as bedroom_train_lmdb, a folder with several, or the Hub's Parquet files.
        category: Which category, if the folder holds several.
        split: Which split, if the folder holds several; by default train.
    """
    if holds_parquet(source):
        check_useless(lsun, "beside Parquet files, which hold one category", category=category)
        _prepare(ParquetImages(source, split, label_column="none", provenance=lsun_source.Lsun.provenance), output)
    else:
        _prepare(lsun_source.Lsun(source, category, split), output)


def parquet(
    output: Flat,
    source: Path,
    split: str | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
) -> None:
    """Any data set in the Hub's Parquet format.

    Args:
        source: A Parquet file, or a folder of them.
        split: Take the files with this split in their names, e.g. train; "all" for all.
        image_column: Column of the images, if several columns hold images.
        label_column: Column of the labels; by default the Hub's class label, or a column called "label", "class", ...;
            "none" for no labels.
    """
    _prepare(ParquetImages(source, split, image_column, label_column), output)


def fashion_mnist(
    output: Flat,
    source: Path | None = None,
    split: Literal["train", "test"] | None = None,
    url: str = fashion_mnist_source.URL,
) -> None:
    """Fashion-MNIST: the 10,000 bundled test images, or all of it.

    Args:
        source: Folder with the idx files, plain or gzipped.
        split: Which images: train is downloaded (26 MiB) unless --source is given; without either, the bundled test
            images are taken.
        url: Where to download from.
    """
    if source is None and split == "train":
        with progress_bar("Downloading", unit="bytes") as on_progress:
            source = fashion_mnist_source.download_fashion_mnist("train", url, on_progress=on_progress)
    else:
        check_useless(fashion_mnist, "where nothing is downloaded", url=url)
    _prepare(fashion_mnist_source.FashionMnist(source, split or "train"), output)


def encode(
    store: Store,
    vae: str,
    out: Path,
    flips: bool = False,
    device: Device = "auto",
    overwrite: bool = False,
) -> None:
    """A store of images -> a store of their latents, by a frozen VAE of diffusers.

    example: vitgan data encode data/a --vae stabilityai/sd-vae-ft-mse --out data/b

    Args:
        vae: An AutoencoderKL: its folder, or a Hub repository user/name, a subfolder behind it.
        out: Folder of the latent store to be.
        flips: Also encode all mirror images, behind the others: latents cannot be flipped.
        overwrite: Replace a store that is there already.
    """
    from vitgan.devices import find_device

    try:
        with progress_bar("Encoding", unit="images") as on_progress:
            made = encode_store(
                ImageStore.open(store),
                vae,
                out,
                flips=flips,
                device=str(find_device(device)),
                overwrite=overwrite,
                on_progress=on_progress,
                on_notice=_notice,
            )
    except KeyboardInterrupt:
        print("interrupted: the same command goes on where it was")
        raise
    _print_description(made)
    _print_next(made)


def verify(store: Store) -> None:
    """Compares every byte of a store with its checksums."""
    opened = ImageStore.open(store)
    with progress_bar("Verifying", unit="images") as on_progress:
        opened.verify(on_progress)
    print(f"{store}: {len(opened):,} images are as they were prepared")


def show(store: Store, grid: PictureFile | None = None, rows: Side = 8, columns: Side = 8, seed: Seed = 0) -> None:
    """Tells what a store holds: counts, values, classes, and a grid of its images.

    Args:
        grid: File for a grid of images, e.g. grid.png. If there are labels, each row is a class.
        rows: Rows of the grid.
        columns: Columns of the grid.
        seed: Seed for the choice of images.
    """
    if grid is None:
        check_useless(show, "without --grid", rows=rows, columns=columns)
    opened = ImageStore.open(store)
    check_picture_size(columns * opened.image_size, rows * opened.image_size, grid)
    _print_description(opened)
    if opened.description.labels_from:
        print(f"  split: {opened.description.split or 'none'} ({opened.description.split_from})")
        print(f"  labels: {opened.description.labels_from}")
    if opened.vae is None:
        _print_histogram(opened, seed)
    else:
        for channel, (mean, deviation) in enumerate(channel_moments(opened, seed)):
            print(f"  channel {channel}: mean {mean:.2f}, standard deviation {deviation:.2f}")
    for name, count in class_counts(opened):
        print(f"  {name}: {count:,} images")
    if grid:
        with whole_file(grid) as temporary:
            store_grid(opened, rows, columns, seed).save(temporary)
        print(f"grid: {grid}")


data = Group(
    "Prepares images for training: any source becomes a store, which training reads.",
    {
        "auto": auto,
        "folder": folder,
        "cifar10": cifar10,
        "cifar100": cifar100,
        "imagenet": imagenet,
        "celeba": celeba,
        "lsun": lsun,
        "parquet": parquet,
        "fashion-mnist": fashion_mnist,
        "encode": encode,
        "verify": verify,
        "show": show,
    },
)


def _prepare(source: Source, output: Output) -> None:
    framing = output.model_dump(include=set(Framing.model_fields))
    planned = plan(source, **framing)
    provenance = source.provenance
    where = f" ({provenance.url})" if provenance.url else ""
    print(f"source: {provenance.name}{where}; licence: {provenance.licence}")
    print(f"split: {source.split or 'none'} ({source.split_from})")
    _print_labels(source)
    print(f"{planned.images:,} images, {planned.framing}: at most {planned.bytes:,} bytes in {output.out}")
    try:
        with progress_bar("Preparing", unit="images") as on_progress:
            store = prepare(
                source,
                output.out,
                **framing,
                strict=output.strict,
                workers=output.workers,
                overwrite=output.overwrite,
                on_progress=on_progress,
                on_notice=_notice,
            )
    except KeyboardInterrupt:
        print("interrupted: the same command goes on where it was")
        raise
    _print_description(store)
    _print_next(store)


def _notice(line: str) -> None:
    print(f"vitgan: {line}", file=sys.stderr, flush=True)


def _print_next(store: ImageStore) -> None:
    """How to train on a store."""
    preset, *sizes = recommended(store.resolution, store.channels, store.labels is not None, store.vae is not None)
    print(f"next: {command('train', preset, '--data', store.path, *sizes)}")


def _print_labels(source: Source) -> None:
    """Where labels come from, and how many images each class has."""
    if source.labels is None:
        print(f"labels: {source.labels_from}")
        return
    numbers = np.asarray(source.labels)
    sound = (numbers >= 0) & (numbers < source.classes)
    counts = np.bincount(numbers[sound], minlength=len(source.label_names or ()))
    sizes = f"{counts[counts > 0].min():,} to {counts.max():,} images each" if sound.any() else "none of them is used"
    empty = f", {(counts == 0).sum():,} of them without images" if 0 in counts else ""
    left_out = "" if sound.all() else f"; {(~sound).sum():,} images have none and are left out"
    print(f"labels: {len(counts):,} classes from {source.labels_from}{empty}, {sizes}{left_out}")


def _print_description(store: ImageStore) -> None:
    description = store.description
    size = sum(file.stat().st_size for file in store.path.iterdir())
    what = f"{'grey' if store.channels == 1 else 'RGB'} images of {store.resolution}×{store.resolution}"
    if store.vae is not None:
        what = f"latents of {store.channels}×{store.resolution}×{store.resolution} by {store.vae.name}"
    classes = f", {store.label_count} classes" if store.labels is not None else ""
    print(f"{store.path}: {len(store):,} {what}{classes}, {size:,} bytes")
    for treatment, count in description.converted.items():
        print(f"  {treatment}: {count:,}")
    if description.duplicate_count:
        print(f"  equal to an earlier image: {description.duplicate_count:,}")
    if description.skipped_count:
        print(f"  skipped: {description.skipped_count:,} (listed in {store.path}/dataset.json)")
        for entry in description.skipped[:SHOWN_SKIPPED]:
            print(f"    {entry.name}: {entry.reason}")


def _print_histogram(store: ImageStore, seed: int) -> None:
    """One line for each range of byte values, with a bar for the share of all channels together."""
    values = value_histogram(store, seed)
    levels = np.arange(256)
    for name, counts in zip(("grey",) if store.channels == 1 else ("red", "green", "blue"), values, strict=True):
        mean = counts @ levels / counts.sum()
        deviation = np.sqrt(counts @ (levels - mean) ** 2 / counts.sum())
        print(f"  {name}: mean {mean:.1f}, standard deviation {deviation:.1f}")
    shares = values.sum(0).reshape(HISTOGRAM_BINS, -1).sum(1) / values.sum()
    width = max(10, min(60, shutil.get_terminal_size().columns - 20))
    for number, share in enumerate(shares):
        first = number * (256 // HISTOGRAM_BINS)
        bar = "█" * round(width * share / shares.max())
        print(f"  {first:3}-{first + 256 // HISTOGRAM_BINS - 1:3} {share:6.1%} {bar}")
