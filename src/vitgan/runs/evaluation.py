"""Measures a model, a store, a folder, an archive or an array of images by a named protocol; also a run while it trains."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitgan.config import RunConfig
from vitgan.data.encode import pixels_of
from vitgan.data.store import ImageStore
from vitgan.devices import find_device, usual_torch
from vitgan.errors import UserError
from vitgan.files.pictures import check_picture
from vitgan.metrics import (
    FeatureExtractor,
    Protocol,
    ReferenceStatistics,
    evaluate,
    find_protocol,
    load_extractor,
    reference_statistics,
)
from vitgan.metrics.image_sources import ArrayImages
from vitgan.metrics.inception import find_weights, how_to_get_weights
from vitgan.metrics.neighbours import nearest_images, save_neighbours
from vitgan.models.generator import Generator
from vitgan.pretrained.generators import weights_digest
from vitgan.runs.folder import check_unaltered
from vitgan.runs.other_metrics import OnProgress, Progress, check_others, measure_others, silent
from vitgan.runs.sources import classes_of_store, find_source, of_generator, open_reference, open_source
from vitgan.training.hooks import Evaluation

CACHE_FOLDER = "evaluation"
SHOWN_ROWS, SHOWN_NEIGHBOURS = 8, 8


@usual_torch()
def measure(
    source: str | Path,
    data: str | Path | None = None,
    protocol: str | Path = "quick-5k",
    *,
    features: str | Path = "auto",
    inception_weights: str | Path | None = None,
    class_images: int | None = None,
    path_pairs: int | None = None,
    neighbours: str | Path | None = None,
    device: str | torch.device = "auto",
    batch_size: int | None = None,
    cache: bool = True,
    progress: Progress = silent,
    on_notice: Callable[[str], object] = lambda line: None,
) -> dict[str, Any]:
    """Measures images by a protocol.

    Args:
        source: What is measured: a run, checkpoint or model folder, a bundled model's name or a Hub repository
            user/name; a store; a folder, zip or tar of image files; or an array of images in a file .npz.
        data: The store it is measured against; default for a run: its own data.
        protocol: Name of a protocol, or a .json file with the fields of one.
        features: "inception", "lite0", "lite2", or a folder or Hub repository with DINOv2's or CLIP's weights; "auto"
            takes the protocol's, or lite0 where Inception's weights are missing.
        inception_weights: File with the weights of the 2015 Inception network.
        class_images: In place of the protocol's.
        path_pairs: In place of the protocol's.
        neighbours: File for a picture of generated images beside their nearest real ones.
        device: Where to compute.
        batch_size: Images that go through the networks at once; default: what is fast on the device.
        cache: Keep the reference's statistics in the store's folder `evaluation` and use those found there.
        progress: Title -> context with a callable `(done, total)`.
        on_notice: Told what is done otherwise than the protocol says, before the work.

    Returns:
        What `vitgan.metrics.evaluate` returns, the names of the two sides, "weights_sha256" of a model (`weights_digest`),
        and "classes" (name -> distance) where they were compared.

    Raises:
        UserError: If the two sides, the protocol and the features do not fit each other, or cannot be read, or a store's
            images were altered.
    """
    picture, weights = (None if path is None else Path(path) for path in (neighbours, inception_weights))
    if picture is not None:
        check_picture(picture)
    found = find_source(source)
    rules = find_protocol(protocol)
    changed = {"class_images": class_images, "path_pairs": path_pairs}
    rules = dataclasses.replace(rules, **{name: value for name, value in changed.items() if value is not None})
    store = open_reference(None if data is None else str(data), found)
    rules.check_store(len(store), store.resolution, store.description.split)
    place = str(find_device(str(device)))
    measured = open_source(found, rules, store, place, batch_size)
    check_others(measured.classes, store, rules, measured.generator is not None, str(source))
    wanted = features if isinstance(features, str) else str(features.absolute())  # a folder's name has a "/"
    name = _choose_features(rules, wanted, weights, on_notice)
    extractor = load_extractor(name, place, weights)
    if batch_size is not None:
        extractor = dataclasses.replace(extractor, batch_size=batch_size)
    rules = dataclasses.replace(rules, features=name)

    with progress("Reference") as on_progress:
        reference = _reference(store, rules, extractor, cache, on_progress)
    others = measure_others(measured, store, rules, extractor, batch_size, progress)
    shown: list[Tensor] = []
    images = _remember_first(measured.images, shown)
    with progress("Evaluating") as on_progress:
        result = evaluate(
            images,
            reference,
            rules,
            extractor,
            patch_size=measured.patch_size,
            others=others.values,
            on_progress=on_progress,
        )
    done = f"images were changed before they were measured: {', '.join(sorted(measured.changes))}"
    result["notes"] += [*measured.notes, *([done] if measured.changes else []), *others.notes]
    if others.classes:
        result["classes"] = others.classes
    if measured.generator is not None:
        result["weights_sha256"] = weights_digest(measured.generator)
    result |= {"source": str(source), "data": {"path": str(store.path), "sha256": store.description.sha256}}
    if picture is not None:
        indices = rules.choose(len(store), rules.reference_images)
        with progress("Neighbours") as on_progress:
            result["neighbours"] = _show_neighbours(picture, shown, store, indices, extractor, on_progress)
    return result


def check_evaluation(config: RunConfig, store: ImageStore) -> Protocol:
    """Refuses, before a run is made, evaluations that it could not do; gives their protocol.

    Raises:
        UserError: If the protocol is unknown or does not fit the store, its features cannot be had, or the images that
            latents were encoded from were altered.
    """
    trained_on, store, protocol = store, pixels_of(store), find_protocol(config.protocol)
    protocol.check_store(len(store), store.resolution, store.description.split)
    frozen = config.model.frozen_features
    if frozen is not None and Path(frozen).resolve() == Path(protocol.features).resolve():  # a name, or a folder
        name = "features" if config.model.discriminator.kind == "projected" else "alignment_features"
        raise UserError(
            f"protocol {protocol.name} judges by the features of {protocol.features}, which D is trained on: choose "
            "another protocol, or other features for D",
            f"model.discriminator.{name}",
        )
    check_others(
        classes_of_store(store, protocol) if config.model.num_classes else None, store, protocol, True, "the model"
    )
    load_extractor(protocol.features)
    if store is not trained_on:  # which training itself checks
        check_unaltered(store)
    return protocol


def evaluation_of_run(config: RunConfig, store: ImageStore, device: torch.device) -> Callable[[Generator], Evaluation]:
    """A function that measures a generator by the run's protocol, against the run's own images.

    The reference's statistics are computed here, once, and cached beside the store. Neither this nor an evaluation uses
    or changes any global random state.

    Raises:
        UserError: See `check_evaluation`.
    """
    protocol, store = check_evaluation(config, store), pixels_of(store)
    extractor = load_extractor(protocol.features, device=device)
    reference = _reference(store, protocol, extractor)

    def measured(generator: Generator) -> Evaluation:
        side = of_generator(generator, protocol)
        others = measure_others(side, store, protocol, extractor).values
        result = evaluate(side.images, reference, protocol, extractor, patch_size=side.patch_size, others=others)
        chosen = result["score"]
        name = f"{chosen['name']} of {protocol.identity}"
        return Evaluation(metrics=result["metrics"], name=name, score=chosen["value"])

    return measured


def _reference(
    store: ImageStore,
    protocol: Protocol,
    extractor: FeatureExtractor,
    cache: bool = True,
    on_progress: OnProgress | None = None,
) -> ReferenceStatistics:
    kept = store.path / CACHE_FOLDER if cache else None
    batches, digest = ArrayImages(store.images).batches, store.description.sha256
    return reference_statistics(batches, len(store), digest, protocol, extractor, cache=kept, on_progress=on_progress)


def _choose_features(
    protocol: Protocol, features: str, inception_weights: Path | None, on_notice: Callable[[str], object]
) -> str:
    """The features asked for, else the protocol's, else lite0 with a line that says why."""
    name = protocol.features if features == "auto" else features
    if name == "inception" and features == "auto" and find_weights(inception_weights) is None:
        on_notice(
            f"the Inception weights of protocol {protocol.name} are not here, so lite0 takes their place, and there "
            f"will be no FID: {how_to_get_weights()}"
        )
        name = "lite0"
    if inception_weights is not None and name != "inception":
        raise UserError(
            f"the features are {name}, which need no Inception weights: leave them out", "inception_weights"
        )
    return name


def _remember_first(batches: Iterable[Tensor], shown: list[Tensor]) -> Iterator[Tensor]:
    """Passes batches on and puts their first images into `shown`."""
    for batch in batches:
        shown.extend(batch[: SHOWN_ROWS - len(shown)])
        yield batch


def _show_neighbours(
    path: Path,
    shown: list[Tensor],
    store: ImageStore,
    indices: np.ndarray,
    extractor: FeatureExtractor,
    on_progress: OnProgress,
) -> list[dict[str, Any]]:
    """Writes the picture of nearest real images; returns their indices in the store, and distances."""
    generated = torch.stack(shown)
    found = nearest_images(
        generated,
        ArrayImages(store.images).batches(indices),
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
