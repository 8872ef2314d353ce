"""`vitgan evaluate`: figures for a generator's images, or any images, against a store."""

import dataclasses
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import tyro
from pydantic import Field
from pydantic.dataclasses import dataclass

from vitgan.cli.arguments import Device, OutputFile, PictureFile, parse
from vitgan.cli.progress import progress_bar
from vitgan.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from vitgan.data.store import ImageStore
    from vitgan.metrics import FeatureExtractor, Protocol
    from vitgan.metrics.image_sources import ImageSource
    from vitgan.models.generator import Generator

CACHE_FOLDER = "evaluation"
SHOWN_ROWS, SHOWN_NEIGHBOURS = 8, 8


EXAMPLE = """Measures FID and its relatives, always by a named protocol, which the output repeats.

example: vitgan evaluate runs/00000-cifar10 --data data/cifar10 --protocol cifar10-train-50k --json fid.json"""


@dataclass
class Arguments:
    """What to measure, against what, and how.

    Attributes:
        source: What is measured: a run, checkpoint or model folder, a bundled model's name or a Hub repository
            user/name; a store; a folder, zip or tar of image files; or an array of images in a file .npz.
        data: The store it is measured against ("fashion-mnist": the bundled images); default for a run: its own data.
        protocol: Name of a protocol, or a .json file with the fields of one.
        features: Feature extractor. "auto" takes the protocol's, or lite0 where Inception's weights are missing.
        inception_weights: File with the weights of the 2015 Inception network.
        json: Write the result to this file.
        neighbours: Write a PNG of generated images beside their nearest real ones (one more pass over the reference).
        device: Where to compute: "auto", "cpu", "cuda", ...
        batch_size: Images that go through the networks at once; default: what is fast on the device.
        cache: Keep the reference's statistics in the store's folder `evaluation` and use those found there.
        list_protocols: Print the protocols and end.
    """

    source: Annotated[Path | None, tyro.conf.Positional] = None
    data: str | None = None
    protocol: str = "quick-5k"
    features: Literal["auto", "inception", "lite0", "lite2"] = "auto"
    inception_weights: Path | None = None
    json: OutputFile | None = None
    neighbours: PictureFile | None = None
    device: Device = "auto"
    batch_size: Annotated[int, Field(ge=1, le=4096)] | None = None
    cache: bool = True
    list_protocols: bool = False


def main(arguments: list[str]) -> None:
    """Runs `vitgan evaluate ARGUMENTS`."""
    options = parse(Arguments, arguments, "vitgan evaluate", EXAMPLE)
    if options.list_protocols:
        print_protocols()
        return
    if options.source is None:
        raise UserError("what shall be evaluated? pass a model, run, folder, zip or .npz, or --list-protocols")
    result = run(options, options.source)
    print_result(result)
    if options.json is not None:
        write_result(options.json, result)


def run(options: Arguments, source: Path) -> dict[str, Any]:
    """Measures `source` as the options say: what `vitgan.metrics.compare` returns, and the names of the two sides."""
    from vitgan.devices import find_device
    from vitgan.metrics import evaluate, find_protocol, reference_statistics
    from vitgan.metrics.image_sources import ArrayImages

    name, source = source, find_source(source)
    protocol = find_protocol(options.protocol)
    store = open_reference(options.data, source)
    protocol.check_store(len(store), store.resolution, store.description.split)
    device = str(find_device(options.device))
    measured = open_source(source, protocol, store, device, options.batch_size)
    extractor = choose_extractor(protocol, options, device)
    if options.batch_size is not None:
        extractor = dataclasses.replace(extractor, batch_size=options.batch_size)
    protocol = dataclasses.replace(protocol, features=extractor.name.partition("-")[0])

    real = ArrayImages(store.images)
    with progress_bar("Reference") as on_progress:
        reference = reference_statistics(
            real.batches,
            len(store),
            store.description.sha256,
            protocol,
            extractor,
            cache=store.path / CACHE_FOLDER if options.cache else None,
            on_progress=on_progress,
        )
    shown: list[Tensor] = []
    with progress_bar("Evaluating") as on_progress:
        result = evaluate(
            remember_first(measured.images, SHOWN_ROWS, shown),
            reference,
            protocol,
            extractor,
            patch_size=measured.patch_size,
            on_progress=on_progress,
        )
    result["notes"] += measured.notes
    result |= {"source": str(name), "data": {"path": str(store.path), "sha256": store.description.sha256}}
    if options.neighbours is not None:
        indices = protocol.choose(len(store), protocol.reference_images)
        result["neighbours"] = show_neighbours(options.neighbours, shown, real, indices, extractor)
    return result


def find_source(source: Path) -> Path:
    """An existing path as it is; else the folder of a bundled model or of a Hub repository."""
    from vitgan.pretrained.names import find_model

    try:
        return find_model(source)
    except UserError as error:
        raise UserError(
            f"there is nothing at {source} to evaluate: pass a store, folder, zip or .npz of images, or a model ({error})"
        ) from error


def open_reference(data: str | None, source: Path) -> "ImageStore":
    """The store to measure against: `data`, or the data of the run that is measured."""
    from vitgan.pretrained.names import run_of_checkpoint
    from vitgan.runs.folder import data_of_run, open_data

    if data is not None:
        return open_data(data)
    run = run_of_checkpoint(source) or source
    if not (run / "checkpoints").is_dir():
        raise UserError(f"{source} says nothing about real images: pass the store to measure against with --data")
    return data_of_run(run)


@dataclasses.dataclass(frozen=True)
class Measured:
    """What is measured.

    Attributes:
        images: As many as the protocol asks for, in batches (b, C, H, W) uint8.
        patch_size: Of the patches that seams are looked for between.
        notes: What a reader of the figures must know about the images.
    """

    images: Iterable["Tensor"]
    patch_size: int
    notes: list[str] = dataclasses.field(default_factory=list)


def open_source(path: Path, protocol: "Protocol", store: "ImageStore", device: str, batch_size: int | None) -> Measured:
    """The images of a model, store, folder, archive or .npz."""
    from vitgan.metrics.evaluate import PATCH_SIZE

    if is_model(path):
        return generated_images(path, protocol, store.resolution, device, batch_size)
    source = open_images(path, store.channels, store.description.background)
    if source.size != (store.resolution, store.resolution):
        height, width = source.size
        raise UserError(
            f"the images in {path} are {height}×{width}, the store's are {store.resolution}×{store.resolution}: "
            "resizing would change the figures, so bring both to one size first"
        )
    if len(source) < protocol.generated_images:
        raise UserError(
            f"protocol {protocol.name} measures {protocol.generated_images:,} images, {path} has {len(source):,}: "
            "make more, choose another protocol (--list-protocols), or pass your own as a .json file"
        )
    return Measured(source.batches(protocol.choose(len(source), protocol.generated_images)), PATCH_SIZE)


def is_model(path: Path) -> bool:
    """Whether `vitgan.load` is the one to open this folder."""
    from vitgan.pretrained.names import run_of_checkpoint

    return (
        any((path / name).exists() for name in ("model.safetensors", "checkpoints"))
        or run_of_checkpoint(path) is not None
    )


def generated_images(
    path: Path, protocol: "Protocol", resolution: int, device: str, batch_size: int | None
) -> Measured:
    """The protocol's images drawn from a trained generator, with its truncation and seed, classes in their shares."""
    from vitgan.files.pictures import to_uint8
    from vitgan.pretrained.generators import load

    generator = load(path, device)
    if generator.resolution != resolution:
        raise UserError(
            f"the model makes {generator.resolution}×{generator.resolution} images, the store's are "
            f"{resolution}×{resolution}: pass a store of the model's size"
        )
    batches = generator.batches(
        protocol.generated_images, protocol.seed, truncation=protocol.truncation, batch_size=batch_size
    )
    return Measured(map(to_uint8, batches), generator.patch_size, notes_on_classes(generator))


def notes_on_classes(generator: "Generator") -> list[str]:
    """How a conditional model's classes were drawn."""
    if not generator.num_classes:
        return []
    if generator.class_counts is None:
        return [
            "all classes were drawn equally often: the model does not say how many images of each it was trained on"
        ]
    total = sum(generator.class_counts)
    shares = ", ".join(f"{100 * count / total:.3g}%" for count in generator.class_counts)
    return [f"classes were drawn in the shares of the training images: {shares}"]


def open_images(path: Path, channels: int = 3, background: str = "#ffffff") -> "ImageSource":
    """A store, an .npz, or a folder, zip or tar of image files, decoded as for a store of these channels."""
    from vitgan.data.decode import decode_unframed
    from vitgan.data.sources.container import open_container
    from vitgan.data.sources.folder import SUFFIXES
    from vitgan.data.sources.source import UnreadableImage
    from vitgan.data.store import ImageStore
    from vitgan.metrics.image_sources import ArrayImages, EncodedImages, NpzImages

    if (path / "dataset.json").is_file() and (path / "images.npy").is_file():
        return ArrayImages(ImageStore.open(path).images)
    if path.suffix == ".npz":
        return NpzImages(path)
    container = open_container(path, lambda name: name.lower().endswith(SUFFIXES))
    if container.refused:
        name, reason = container.refused[0]
        raise UserError(f"{name} in {path} cannot be read ({reason}): remove it or make it readable")

    def read(index: int) -> bytes:
        try:
            return container.read(index)
        except UnreadableImage as error:
            raise UserError(f"{container.names[index]} in {path} cannot be read ({error}): make it again") from error

    def decode(data: bytes, name: str) -> np.ndarray:
        try:
            return decode_unframed(data, channels, background)
        except UnreadableImage as error:
            raise UserError(f"{name} in {path} cannot be decoded ({error}): make it again, or remove it") from error

    return EncodedImages(container.names, read, decode)


def choose_extractor(protocol: "Protocol", options: Arguments, device: str) -> "FeatureExtractor":
    """The extractor asked for, else the protocol's, else lite0 with a line that says why."""
    from vitgan.metrics import load_extractor
    from vitgan.metrics.inception import find_weights, how_to_get_weights

    name = protocol.features if options.features == "auto" else options.features
    if name == "inception" and options.features == "auto" and find_weights(options.inception_weights) is None:
        print(
            f"the Inception weights of protocol {protocol.name} are not here, so lite0 takes their place, and there "
            f"will be no FID: {how_to_get_weights()}",
            file=sys.stderr,
        )
        name = "lite0"
    return load_extractor(name, device, options.inception_weights)


def remember_first(batches: Iterable["Tensor"], count: int, shown: list["Tensor"]) -> Iterator["Tensor"]:
    """Passes batches on and puts their first `count` images into `shown`."""
    for batch in batches:
        shown.extend(batch[: count - len(shown)])
        yield batch


def show_neighbours(
    path: Path, shown: list["Tensor"], real: "ImageSource", indices: np.ndarray, extractor: "FeatureExtractor"
) -> list[dict[str, Any]]:
    """Writes the PNG of nearest real images; returns their indices in the store, and distances."""
    import torch

    from vitgan.metrics.neighbours import nearest_images, save_neighbours

    generated = torch.stack(shown)
    with progress_bar("Neighbours") as on_progress:
        found = nearest_images(
            generated,
            real.batches(indices),
            extractor,
            neighbours=SHOWN_NEIGHBOURS,
            real_count=len(indices),
            on_progress=on_progress,
        )
    save_neighbours(path, generated, found)
    return [
        {"store_indices": indices[positions].tolist(), "distances": distances.tolist()}
        for positions, distances in zip(found.positions.numpy(), found.distances, strict=True)
    ]


def write_result(path: Path, result: dict[str, Any]) -> None:
    """Writes the result as JSON."""
    from vitgan.files import whole_file

    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(result, indent=2) + "\n", "utf-8")


def print_result(result: dict[str, Any]) -> None:
    """Prints the figures, the protocol they were measured by, and what to know about them."""
    from rich.console import Console
    from rich.table import Table

    from vitgan.metrics import FIGURES

    arrows = {"lower": "↓", "higher": "↑", "real": "as real", "": ""}
    table = Table("figure", "value", "real images", "better")
    table.title = f"{result['source']} against {result['data']['path']}"
    table.columns[1].justify = table.columns[2].justify = "right"
    for (name, value), figure in zip(result["figures"].items(), FIGURES.values(), strict=True):
        real = f"{result['real'][name]:.5g}" if name in result["real"] else ""
        table.add_row(name, f"{value:.5g}", real, arrows[figure.better])
    console = Console()
    console.print(table)
    protocol = result["protocol"]
    console.print(f"protocol {protocol['name']}: {protocol['purpose']}", highlight=False)
    features, images = result["features"], result["images"]
    console.print(
        f"{images['generated']:,} images against {images['reference']:,}; features {features['name']} "
        f"({features['resizing']}); truncation {protocol['truncation']:g}, seed {protocol['seed']}",
        highlight=False,
    )
    console.print(
        f"pixels of {images['texture_generated']:,} against {images['texture_reference']:,} images, patches of "
        f"{result['patch_size']}×{result['patch_size']}",
        highlight=False,
    )
    for note in result["notes"]:
        console.print(f"note: {note}", highlight=False)


def print_protocols() -> None:
    """Prints every protocol with what it fixes."""
    from rich.console import Console
    from rich.table import Table

    from vitgan.metrics import PROTOCOLS

    table = Table("protocol", "features", "images", "against", "size", "purpose", show_lines=True)
    for protocol in PROTOCOLS.values():
        wanted = protocol.exact_store_images or protocol.reference_images
        against = (
            f"{'all ' if protocol.exact_store_images else ''}{wanted:,} {protocol.split or ''}" if wanted else "all"
        )
        size = f"{protocol.resolution}²" if protocol.resolution else "any"
        table.add_row(
            protocol.name, protocol.features, f"{protocol.generated_images:,}", against.strip(), size, protocol.purpose
        )
    console = Console()
    console.print(table)
    all_fields = [protocol.to_dict() for protocol in PROTOCOLS.values()]
    common = {name: value for name, value in all_fields[0].items() if all(f[name] == value for f in all_fields)}
    console.print("common to all: " + ", ".join(f"{name} {value}" for name, value in common.items()), highlight=False)
