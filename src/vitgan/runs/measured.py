"""Measures the images of a model, a store, a folder, an archive or an array against a store, by a named protocol."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitgan.data.decode import decode_unframed
from vitgan.data.sources.container import open_container
from vitgan.data.sources.folder import SUFFIXES
from vitgan.data.sources.source import UnreadableImage
from vitgan.data.store import ImageStore
from vitgan.devices import find_device
from vitgan.errors import UserError
from vitgan.files.pictures import to_uint8
from vitgan.metrics import (
    FeatureExtractor,
    Protocol,
    evaluate,
    find_protocol,
    load_extractor,
    reference_statistics,
)
from vitgan.metrics.evaluate import PATCH_SIZE
from vitgan.metrics.image_sources import ArrayImages, EncodedImages, ImageSource, NpzImages
from vitgan.metrics.inception import find_weights, how_to_get_weights
from vitgan.metrics.neighbours import nearest_images, save_neighbours
from vitgan.models.generator import Generator
from vitgan.models.projected_discriminator import ProjectedDiscriminatorConfig
from vitgan.pretrained.generators import load
from vitgan.pretrained.names import find_model, run_of_checkpoint
from vitgan.runs.folder import config_of_run, data_of_run, open_data

CACHE_FOLDER = "evaluation"
SHOWN_ROWS, SHOWN_NEIGHBOURS = 8, 8

Progress = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]


def measure(
    source: str | Path,
    data: str | None = None,
    protocol: str = "quick-5k",
    *,
    features: str = "auto",
    inception_weights: Path | None = None,
    neighbours: Path | None = None,
    device: str = "auto",
    batch_size: int | None = None,
    cache: bool = True,
    progress: Progress = lambda title: nullcontext(lambda done, total: None),
    on_notice: Callable[[str], object] = lambda line: None,
) -> dict[str, Any]:
    """Measures images by a protocol.

    Args:
        source: What is measured: a run, checkpoint or model folder, a bundled model's name or a Hub repository
            user/name; a store; a folder, zip or tar of image files; or an array of images in a file .npz.
        data: The store it is measured against; default for a run: its own data.
        protocol: Name of a protocol, or a .json file with the fields of one.
        features: "inception", "lite0" or "lite2"; "auto" takes the protocol's, or lite0 where Inception's weights are
            missing.
        inception_weights: File with the weights of the 2015 Inception network.
        neighbours: File for a picture of generated images beside their nearest real ones.
        device: Where to compute.
        batch_size: Images that go through the networks at once; default: what is fast on the device.
        cache: Keep the reference's statistics in the store's folder `evaluation` and use those found there.
        progress: Title -> context with a callable `(done, total)`.
        on_notice: Told what is done otherwise than the protocol says, before the work.

    Returns:
        What `vitgan.metrics.compare` returns, and the names of the two sides.

    Raises:
        UserError: If the two sides, the protocol and the features do not fit each other, or cannot be read.
    """
    found = find_source(source)
    rules = find_protocol(protocol)
    store = open_reference(data, found)
    rules.check_store(len(store), store.resolution, store.description.split)
    place = str(find_device(device))
    measured = open_source(found, rules, store, place, batch_size)
    extractor = choose_extractor(rules, features, inception_weights, place, on_notice)
    if batch_size is not None:
        extractor = dataclasses.replace(extractor, batch_size=batch_size)
    rules = dataclasses.replace(rules, features=extractor.name.partition("-")[0])

    real = ArrayImages(store.images)
    kept = store.path / CACHE_FOLDER if cache else None
    with progress("Reference") as on_progress:
        reference = reference_statistics(
            real.batches,
            len(store),
            store.description.sha256,
            rules,
            extractor,
            cache=kept,
            on_progress=on_progress,
        )
    shown: list[Tensor] = []
    images = remember_first(measured.images, SHOWN_ROWS, shown)
    with progress("Evaluating") as on_progress:
        result = evaluate(images, reference, rules, extractor, patch_size=measured.patch_size, on_progress=on_progress)
    result["notes"] += measured.notes
    result |= {"source": str(source), "data": {"path": str(store.path), "sha256": store.description.sha256}}
    if neighbours is not None:
        indices = rules.choose(len(store), rules.reference_images)
        with progress("Neighbours") as on_progress:
            result["neighbours"] = show_neighbours(neighbours, shown, real, indices, extractor, on_progress)
    return result


def find_source(source: str | Path) -> Path:
    """An existing path as it is; else the folder of a bundled model or of a Hub repository."""
    try:
        return find_model(source)
    except UserError as error:
        raise UserError(
            f"there is nothing at {source} to evaluate: pass a store, folder, zip or .npz of images, or a model ({error})"
        ) from error


def open_reference(data: str | None, source: Path) -> ImageStore:
    """The store to measure against: `data`, or the data of the run that is measured."""
    if data is not None:
        return open_data(data)
    run = run_of_checkpoint(source) or source
    if not (run / "checkpoints").is_dir():
        raise UserError(f"{source} says nothing about real images: pass the store to measure against", "data")
    return data_of_run(run)


@dataclasses.dataclass(frozen=True)
class Measured:
    """What is measured.

    Attributes:
        images: As many as the protocol asks for, in batches (b, C, H, W) uint8.
        patch_size: Of the patches that seams are looked for between.
        notes: What a reader of the metrics must know about the images.
    """

    images: Iterable[Tensor]
    patch_size: int
    notes: list[str] = dataclasses.field(default_factory=list)


def open_source(path: Path, protocol: Protocol, store: ImageStore, device: str, batch_size: int | None) -> Measured:
    """The images of a model, store, folder, archive or .npz."""
    if is_model(path):
        return generated_images(path, protocol, store.resolution, device, batch_size)
    source = open_images(path, store.channels, store.description.background)
    if source.size != (store.resolution, store.resolution):
        height, width = source.size
        raise UserError(
            f"the images in {path} are {height}×{width}, the store's are {store.resolution}×{store.resolution}: "
            "resizing would change the metrics, so bring both to one size first"
        )
    if len(source) < protocol.generated_images:
        raise UserError(
            f"protocol {protocol.name} measures {protocol.generated_images:,} images, {path} has {len(source):,}: "
            "make more, choose another protocol, or pass your own as a .json file",
            "protocol",
        )
    return Measured(source.batches(protocol.choose(len(source), protocol.generated_images)), PATCH_SIZE)


def is_model(path: Path) -> bool:
    """Whether `vitgan.pretrained.load` is the one to open this folder."""
    return (
        any((path / name).exists() for name in ("model.safetensors", "checkpoints"))
        or run_of_checkpoint(path) is not None
    )


def generated_images(path: Path, protocol: Protocol, resolution: int, device: str, batch_size: int | None) -> Measured:
    """The protocol's images drawn from a trained generator, with its truncation and seed, classes in their shares."""
    generator = load(path, device)
    if generator.resolution != resolution:
        raise UserError(
            f"the model makes {generator.resolution}×{generator.resolution} images, the store's are "
            f"{resolution}×{resolution}: pass a store of the model's size"
        )
    batches = generator.batches(
        protocol.generated_images, protocol.seed, truncation=protocol.truncation, batch_size=batch_size
    )
    notes = notes_on_classes(generator) + notes_on_features(path)
    return Measured(map(to_uint8, batches), generator.patch_size, notes)


def notes_on_classes(generator: Generator) -> list[str]:
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


def notes_on_features(path: Path) -> list[str]:
    """Whose features trained a run's discriminator: they must not judge, and their kin judge with favour."""
    run = run_of_checkpoint(path) or path
    if not (run / "checkpoints").is_dir():
        return []
    discriminator = config_of_run(run).model.discriminator
    if not isinstance(discriminator, ProjectedDiscriminatorConfig):
        return []
    name = discriminator.features
    return [
        f"D was trained on the features of {name}: metrics by {name} flatter the run, others of ImageNet's a little"
    ]


def open_images(path: Path, channels: int = 3, background: str = "#ffffff") -> ImageSource:
    """A store, an .npz, or a folder, zip or tar of image files, decoded as for a store of these channels."""
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


def choose_extractor(
    protocol: Protocol,
    features: str,
    inception_weights: Path | None,
    device: str,
    on_notice: Callable[[str], object],
) -> FeatureExtractor:
    """The extractor asked for, else the protocol's, else lite0 with a line that says why."""
    name = protocol.features if features == "auto" else features
    if name == "inception" and features == "auto" and find_weights(inception_weights) is None:
        on_notice(
            f"the Inception weights of protocol {protocol.name} are not here, so lite0 takes their place, and there "
            f"will be no FID: {how_to_get_weights()}"
        )
        name = "lite0"
    return load_extractor(name, device, inception_weights)


def remember_first(batches: Iterable[Tensor], count: int, shown: list[Tensor]) -> Iterator[Tensor]:
    """Passes batches on and puts their first `count` images into `shown`."""
    for batch in batches:
        shown.extend(batch[: count - len(shown)])
        yield batch


def show_neighbours(
    path: Path,
    shown: list[Tensor],
    real: ImageSource,
    indices: np.ndarray,
    extractor: FeatureExtractor,
    on_progress: Callable[[int, int], None],
) -> list[dict[str, Any]]:
    """Writes the picture of nearest real images; returns their indices in the store, and distances."""
    generated = torch.stack(shown)
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
