"""What can be measured, and against what: a model, a store, a folder, an archive or an array of images."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vitgan.data.decode import LUMA, MADE_COLOUR, MADE_GREY, decode_unframed
from vitgan.data.encode import pixels_of
from vitgan.data.names import is_image
from vitgan.data.sources.container import open_container
from vitgan.data.sources.source import UnreadableImage
from vitgan.data.store import ImageStore
from vitgan.devices import true_convolutions
from vitgan.errors import UserError
from vitgan.files import user_error
from vitgan.files.pictures import to_uint8
from vitgan.frozen.vae import decode_bytes
from vitgan.frozen.vae_spec import VaeSpec
from vitgan.metrics import Protocol
from vitgan.metrics.evaluate import PATCH_SIZE
from vitgan.metrics.image_sources import ArrayImages, EncodedImages, ImageSource, NpzImages
from vitgan.models.draws import draw_latents
from vitgan.models.generator import Generator, check_finite
from vitgan.pretrained.generators import load
from vitgan.pretrained.names import WEIGHTS, find_model, is_run, run_of_checkpoint
from vitgan.runs.folder import check_unaltered, config_of_run, data_of_run, is_store, open_data


def find_source(source: str | Path) -> Path:
    """An existing path as it is; else the folder of a bundled model or of a Hub repository."""
    advice = "pass a store, folder, zip or .npz of images, or a model"
    with user_error(f"there is nothing at {source} to evaluate", UserError, advice=advice):
        return find_model(source)


def open_reference(data: str | None, source: Path) -> ImageStore:
    """The store to measure against: `data`, or the data of the run that is measured; of latents, their images'.

    Raises:
        UserError: If there is none, or its images were altered.
    """
    run = run_of_checkpoint(source) or source
    if data is None and not is_run(run):
        raise UserError(f"{source} says nothing about real images: pass the store to measure against", "data")
    store = pixels_of(data_of_run(run) if data is None else open_data(data))
    check_unaltered(store)
    return store


@dataclasses.dataclass(frozen=True)
class Classes:
    """Images of a side by class.

    Attributes:
        count: How many classes there are.
        names: What they are called, if they have names.
        known: Those that there are images of.
        images: Index of a class -> images of it, in batches (b, C, H, W) uint8.
        available: How many there are of each class; a generator makes as many as are asked for.
    """

    count: int
    names: tuple[str, ...] | None
    known: Sequence[int]
    images: Callable[[int], Iterable[Tensor]]
    available: Sequence[int]

    def name(self, index: int) -> str:
        """Of a class: its name, or its number."""
        return self.names[index] if self.names else str(index)


@dataclasses.dataclass(frozen=True)
class Measured:
    """What is measured.

    Attributes:
        images: As many as the protocol asks for, in batches (b, C, H, W) uint8.
        patch_size: Of the patches that seams are looked for between.
        notes: What a reader of the metrics must know about the images.
        changes: What was done to images before they are measured, of those that were read so far.
        classes: The protocol's `class_images` of each class, where there are classes.
        generator: Where a model is measured.
    """

    images: Iterable[Tensor]
    patch_size: int
    notes: Sequence[str] = ()
    changes: set[str] = dataclasses.field(default_factory=set)
    classes: Classes | None = None
    generator: Generator | None = None


def open_source(path: Path, protocol: Protocol, store: ImageStore, device: str, batch_size: int | None) -> Measured:
    """The images of a model, store, folder, archive or .npz, grey or in colour as the store's are; a note says so."""
    if is_model(path):
        side = generated_images(path, protocol, store.resolution, device, batch_size)
    else:
        side = read_images(path, protocol, store, device)
    classes = side.classes
    if classes is not None:
        made = classes.images
        classes = dataclasses.replace(
            classes, images=lambda index: in_channels(made(index), store.channels, side.changes)
        )
    images = in_channels(side.images, store.channels, side.changes)
    return dataclasses.replace(side, images=images, classes=classes)


def read_images(path: Path, protocol: Protocol, store: ImageStore, device: str) -> Measured:
    """The protocol's images of a store, folder, archive or .npz."""
    changes: set[str] = set()
    source = open_images(path, store.channels, store.description.background, device, changes.update)
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
    images = source.batches(protocol.choose(len(source), protocol.generated_images))
    classes = classes_of_store(ImageStore.open(path), protocol, source=source) if is_store(path) else None
    return Measured(images, PATCH_SIZE, classes=classes, changes=changes)


def in_channels(batches: Iterable[Tensor], channels: int, changes: set[str]) -> Iterator[Tensor]:
    """Batches (b, C, H, W) uint8 with 1 or 3 channels, as image files are decoded for a store of these; notes a change."""
    for batch in batches:
        if batch.shape[1] == channels:
            yield batch
        elif channels == 1:
            changes.add(MADE_GREY)
            luma = batch.new_tensor(LUMA, dtype=torch.int32).view(3, 1, 1)
            yield ((batch * luma).sum(dim=1, keepdim=True) + (1 << 15) >> 16).byte()
        else:
            changes.add(MADE_COLOUR)
            yield batch.expand(-1, channels, -1, -1)


def is_model(path: Path) -> bool:
    """Whether `vitgan.pretrained.load` is the one to open this folder."""
    return (path / WEIGHTS).exists() or is_run(path) or run_of_checkpoint(path) is not None


def generated_images(path: Path, protocol: Protocol, resolution: int, device: str, batch_size: int | None) -> Measured:
    """The protocol's images drawn from a trained generator, with its truncation and seed, classes in their shares."""
    generator = load(path, device)
    if generator.image_size != resolution:
        raise UserError(
            f"the model makes {generator.image_size}×{generator.image_size} images, the store's are "
            f"{resolution}×{resolution}: pass a store of the model's size"
        )
    measured = of_generator(generator, protocol, batch_size)
    return dataclasses.replace(measured, notes=notes_on_classes(generator) + notes_on_features(path))


def of_generator(generator: Generator, protocol: Protocol, batch_size: int | None = None) -> Measured:
    """The protocol's images of a generator; those of each class are of the same latents."""

    def images(count: int, labels: int | None = None) -> Iterator[Tensor]:
        drawn = generator.batches(count, protocol.seed, protocol.truncation, labels, batch_size)
        return map(to_uint8, drawn)

    classes = Classes(
        generator.num_classes,
        generator.class_names,
        generator.known_classes,
        lambda index: images(protocol.class_images, index),
        [protocol.class_images] * generator.num_classes,
    )
    return Measured(
        images(protocol.generated_images),
        generator.patch_size * generator.image_factor,
        classes=classes if generator.num_classes else None,
        generator=generator,
    )


def classes_of_store(
    store: ImageStore, protocol: Protocol, indices: np.ndarray | None = None, source: ImageSource | None = None
) -> Classes | None:
    """A store's images by class; None if it has no labels.

    Args:
        store: The images.
        protocol: How many of each class are taken, where `indices` does not say it.
        indices: Those of the store's images that are looked at, all of them; None for `class_images` of each class.
        source: The same images in the same order, where those of the store are latents.
    """
    if store.labels is None:
        return None
    labels, batches = store.labels, (source or ArrayImages(store.images)).batches

    def images(index: int) -> Iterator[Tensor]:
        if indices is not None:
            return batches(indices[labels[indices] == index])
        places = np.flatnonzero(labels == index)
        return batches(places[protocol.choose(len(places), protocol.class_images)])

    names = tuple(store.description.label_names or ())
    named = names if len(names) == store.label_count else None  # a label may be beyond them
    counts = np.bincount(labels if indices is None else labels[indices], minlength=store.label_count).tolist()
    return Classes(store.label_count, named, np.unique(labels).tolist(), images, counts)


@torch.inference_mode()
def near_pairs(
    generator: Generator, count: int, seed: int, step: float, batch_size: int | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Images of random styles, and of these moved by `step` of the way to other styles of their classes.

    Yields:
        Batches (b, C, H, W), float32, nominally in [-1, 1], without truncation; noise is the same in both.
    """
    batch_size = batch_size or generator.fast_batch()
    latents, labels = draw_latents(2 * count, generator.z_dim, seed), generator.labels(count)
    for start in range(0, count, batch_size):
        z = latents[2 * start : 2 * (start + batch_size)].to(generator.device)
        y = labels[start : start + batch_size].repeat_interleave(2) if labels is not None else None
        first, second = generator.mapping(z, y).unflatten(0, (-1, 2)).unbind(1)
        styles = generator.styles(torch.cat([first, first.lerp(second, step)]))
        with true_convolutions(generator.device):  # TF32 rounds by more than a step
            images = generator.images_of(styles)
        check_finite(images)
        yield images[: len(first)], images[len(first) :]


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
    if not is_run(run):
        return []
    name = config_of_run(run).model.frozen_features
    if name is None:
        return []
    return [
        f"D was trained on the features of {name}: metrics by {name} flatter the run, others of ImageNet's a little"
    ]


class LatentImages(ArrayImages):
    """Latents in an array (N, C, h, w), decoded: their metrics say what the VAE alone costs."""

    def __init__(self, latents: np.ndarray, vae: VaeSpec, device: str) -> None:
        super().__init__(latents)
        self.vae, self.device = vae, device

    @property
    def size(self) -> tuple[int, int]:
        height, width = super().size
        return height * self.vae.factor, width * self.vae.factor

    def batches(self, indices: np.ndarray) -> Iterator[Tensor]:
        for latents in super().batches(indices):
            yield torch.from_numpy(decode_bytes(self.vae, latents.numpy(), self.device))


def open_images(
    path: Path,
    channels: int = 3,
    background: str = "#ffffff",
    device: str = "cpu",
    on_changes: Callable[[list[str]], object] = lambda changes: None,
) -> ImageSource:
    """A store, an .npz, or a folder, zip or tar of image files, decoded as for a store of these channels.

    `on_changes` is told what had to be done to a file's image ("alpha composited", ...).
    """
    if is_store(path):
        store = ImageStore.open(path)
        check_unaltered(store)
        return ArrayImages(store.images) if store.vae is None else LatentImages(store.images, store.vae, device)
    if path.suffix.lower() == ".npz":
        return NpzImages(path)
    container = open_container(path, is_image)
    if container.refused:
        name, reason = container.refused[0]
        raise UserError(f"{name} in {path} cannot be read ({reason}): remove it or make it readable")

    def read(index: int) -> bytes:
        with user_error(f"{container.names[index]} in {path} cannot be read", UnreadableImage, advice="make it again"):
            return container.read(index)

    def decode(data: bytes, name: str) -> np.ndarray:
        advice = "make it again, or remove it"
        with user_error(f"{name} in {path} cannot be decoded", UnreadableImage, advice=advice):
            image, changes = decode_unframed(data, channels, background)
        on_changes(changes)
        return image

    return EncodedImages(container.names, read, decode)
