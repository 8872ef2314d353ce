"""The reference's statistics, computed once and kept beside the store."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from vitgan.errors import UserError
from vitgan.files import whole_file
from vitgan.files.folders import add_file
from vitgan.files.tensors import read_tensors, write_tensors
from vitgan.metrics.distances import Gaussian
from vitgan.metrics.features import FeatureExtractor
from vitgan.metrics.image_summary import ImageSummary, Purpose, groups, summarize
from vitgan.metrics.precision_recall import Manifold
from vitgan.metrics.protocol import Protocol
from vitgan.metrics.texture import TextureStatistics, spectrum_distance

CACHE_FORMAT = 2


class ReferenceStatistics:
    """What real images are like, with everything derived from it computed at most once.

    Args:
        summary: Statistics of the reference images.
        key: The images' digest, the extractor's identity and the protocol's reference fields.
        read: Sorted indices (n,) -> these real images in batches (b, C, H, W) uint8.
        available: How many images there are.
    """

    def __init__(
        self, summary: ImageSummary, key: dict[str, Any], read: Callable[[np.ndarray], Iterable[Tensor]], available: int
    ) -> None:
        self.summary, self.key = summary, key
        self._read, self._available = read, available
        # In a run they are asked for again and again, with the same arguments.
        self.gaussians = lru_cache(maxsize=1)(partial(fit_gaussians, summary))
        self.manifold = lru_cache(maxsize=1)(partial(fit_manifold, summary))
        self.texture = lru_cache(maxsize=1)(self._texture)

    def matches(self, protocol: Protocol, extractor: FeatureExtractor) -> bool:
        """Whether these are the statistics that the protocol and extractor ask for."""
        return self.key["extractor"] == extractor.identity and self.key["reference"] == protocol.reference_key

    def _texture(self, protocol: Protocol, patch_size: int) -> tuple[TextureStatistics, float]:
        """Of the protocol's number of images, and the spectrum distance between random halves of them.

        It is measured anew in every process, from seconds' worth of pixels, since it depends on the patch size.
        """
        indices = protocol.choose(self._available, protocol.texture_images)
        half = groups(protocol.seed, Purpose.HALF, len(indices), 2).numpy()
        first, second = TextureStatistics(patch_size), TextureStatistics(patch_size)
        for index, statistics in enumerate((first, second)):
            for batch in self._read(indices[half == index]):
                statistics.update(batch)
        distance = spectrum_distance(first.spectrum, second.spectrum)
        first.merge(second)
        return first, distance


def fit_gaussians(summary: ImageSummary) -> tuple[Gaussian, Gaussian, Gaussian]:
    """Normal distributions with the mean and covariance of all images and of each half."""
    first, second = (Gaussian.fitted(half) for half in summary.halves)
    return Gaussian.fitted(summary.whole()), first, second


def fit_manifold(summary: ImageSummary, images: int, protocol: Protocol) -> Manifold:
    """The manifold of `images` of the kept features, with the nearest neighbour and the protocol's numbers of them."""
    chosen = summary.features[protocol.choose(len(summary.features), images)]
    return Manifold.of(chosen, {1, protocol.precision_k, protocol.coverage_k})


def reference_statistics(
    read: Callable[[np.ndarray], Iterable[Tensor]],
    available: int,
    content_sha256: str,
    protocol: Protocol,
    extractor: FeatureExtractor,
    *,
    cache: Path | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> ReferenceStatistics:
    """Statistics of the protocol's reference images: from the cache, or else computed and put there.

    Args:
        read: Sorted indices (n,) -> these images in batches (b, C, H, W) uint8.
        available: How many images there are.
        content_sha256: Digest of all of them.
        protocol: Which and how many images are taken.
        extractor: Which features.
        cache: Folder for the results, by custom `evaluation` inside the store; None keeps nothing. A folder that
            cannot be written is no error.
        on_progress: Called with (images done, images in all) while computing.
    """
    key = {
        "format": CACHE_FORMAT,
        "data_sha256": content_sha256,
        "extractor": extractor.identity,
        "reference": protocol.reference_key,
    }
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    file = cache / f"{extractor.name}-{digest[:16]}.safetensors" if cache else None
    if file is not None and (cached := _load(file)) is not None:
        return ReferenceStatistics(cached, key, read, available)

    indices = protocol.choose(available, protocol.reference_images)
    images = read(indices)
    summary = summarize(
        with_flips(images) if protocol.reference_flips else images,
        extractor,
        splits=protocol.splits,
        kept=protocol.kept_features,
        seed=protocol.seed,
        count=len(indices) * (2 if protocol.reference_flips else 1),
        on_progress=on_progress,
    )
    if file is not None:
        _save(file, summary)
    return ReferenceStatistics(summary, key, read, available)


def with_flips(batches: Iterable[Tensor]) -> Iterator[Tensor]:
    """Each batch (b, C, H, W), then its images mirrored left to right."""
    for batch in batches:
        yield batch
        yield batch.flip(-1)


def _save(file: Path, summary: ImageSummary) -> None:
    try:
        with whole_file(file) as temporary:
            write_tensors(temporary, summary.tensors())
    except UserError:
        return  # a store on a read-only disk: computed anew next time
    add_file(file.parent.parent, file)  # so that the store, which is ours, may still be replaced


def _load(file: Path) -> ImageSummary | None:
    """The cached statistics, or None if they are absent or damaged."""
    try:
        return ImageSummary.of_tensors(read_tensors(file))
    except (UserError, KeyError):
        return None
