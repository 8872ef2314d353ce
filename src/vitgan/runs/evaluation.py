"""Metrics of a run while it trains: a named protocol on the averaged generator, against the run's own images."""

from collections.abc import Callable

import torch

from vitgan.config import RunConfig
from vitgan.data.store import ImageStore
from vitgan.errors import UserError
from vitgan.files.pictures import to_uint8
from vitgan.metrics import Protocol, evaluate, find_protocol, load_extractor, reference_statistics
from vitgan.metrics.image_sources import ArrayImages
from vitgan.models.generator import Generator
from vitgan.models.projected_discriminator import ProjectedDiscriminatorConfig
from vitgan.training.hooks import Evaluation


def check_evaluation(config: RunConfig, store: ImageStore) -> Protocol:
    """Refuses, before a run is made, evaluations that it could not do; gives their protocol.

    Raises:
        UserError: If the protocol is unknown or does not fit the store, or its features cannot be had.
    """
    protocol = find_protocol(config.protocol)
    protocol.check_store(len(store), store.resolution, store.description.split)
    discriminator = config.model.discriminator
    if isinstance(discriminator, ProjectedDiscriminatorConfig) and discriminator.features == protocol.features:
        raise UserError(
            f"protocol {protocol.name} judges by the features of {protocol.features}, which D is trained on: choose "
            "another protocol, or other features for D",
            "model.discriminator.features",
        )
    load_extractor(protocol.features)
    return protocol


def evaluation_of_run(config: RunConfig, store: ImageStore, device: torch.device) -> Callable[[Generator], Evaluation]:
    """A function that measures a generator by the run's protocol.

    The reference's statistics are computed here, once, and cached beside the store. Neither this nor an evaluation uses
    or changes any global random state.

    Raises:
        UserError: If the protocol is unknown or does not fit the store, or its features cannot be had.
    """
    protocol = check_evaluation(config, store)
    extractor = load_extractor(protocol.features, device=device)
    reference = reference_statistics(
        ArrayImages(store.images).batches,
        len(store),
        store.description.sha256,
        protocol,
        extractor,
        cache=store.path / "evaluation",
    )

    def measure(generator: Generator) -> Evaluation:
        images = generator.batches(protocol.generated_images, protocol.seed, truncation=protocol.truncation)
        result = evaluate(map(to_uint8, images), reference, protocol, extractor, patch_size=generator.patch_size)
        chosen = result["score"]
        return Evaluation(metrics=result["metrics"], name=f"{chosen['name']} of {protocol.name}", score=chosen["value"])

    return measure
