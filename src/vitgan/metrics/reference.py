"""The reference's statistics, computed once and kept beside the store."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from vitgan.errors import UserError
from vitgan.files import regular_size, whole_file
from vitgan.files.folders import add_file
from vitgan.metrics.distances import Gaussian
from vitgan.metrics.features import FeatureExtractor
from vitgan.metrics.image_summary import ImageSummary, summarize
from vitgan.metrics.precision_recall import Manifold
from vitgan.metrics.protocol import Protocol
from vitgan.metrics.statistics import Purpose, groups
from vitgan.metrics.texture import TextureStatistics, spectrum_distance

CACHE_FORMAT = 1
MOST_CLASSES = 100_000
"""Of a network's logits, in a cache that may be damaged."""


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
        self.summary = summary
        self.key = key
        self._read = read
        self._available = available
        self._textures: dict[tuple, tuple[TextureStatistics, float]] = {}
        self._gaussians: tuple[Gaussian, Gaussian, Gaussian] | None = None
        self._manifolds: dict[tuple, Manifold] = {}

    def matches(self, protocol: Protocol, extractor: FeatureExtractor) -> bool:
        """Whether these are the statistics that the protocol and extractor ask for."""
        return self.key["extractor"] == extractor.identity and self.key["reference"] == protocol.reference_key

    def gaussians(self) -> tuple[Gaussian, Gaussian, Gaussian]:
        """Fitted to all images and to each half."""
        if self._gaussians is None:
            self._gaussians = fit_gaussians(self.summary)
        return self._gaussians

    def manifold(self, images: int, protocol: Protocol) -> Manifold:
        """Of `images` of the kept features."""
        arguments = (images, protocol.seed, protocol.precision_k, protocol.coverage_k)
        if arguments not in self._manifolds:
            self._manifolds = {arguments: fit_manifold(self.summary, images, protocol)}
        return self._manifolds[arguments]

    def texture(self, protocol: Protocol, patch_size: int) -> tuple[TextureStatistics, float]:
        """Of the protocol's number of images, and the spectrum distance between random halves of them.

        It is measured anew in every process, from seconds' worth of pixels, since it depends on the patch size.
        """
        arguments = (protocol.seed, protocol.texture_images, patch_size)
        if arguments not in self._textures:
            indices = protocol.choose(self._available, protocol.texture_images)
            in_first = groups(protocol.seed, Purpose.HALF, 0, len(indices), 2) == 0
            first, second = TextureStatistics(patch_size), TextureStatistics(patch_size)
            for half, chosen in ((first, indices[in_first]), (second, indices[~in_first])):
                for batch in self._read(chosen):
                    half.update(batch)
            distance = spectrum_distance(first.spectrum, second.spectrum)
            first.merge(second)
            self._textures = {arguments: (first, distance)}
        return self._textures[arguments]


def fit_gaussians(summary: ImageSummary) -> tuple[Gaussian, Gaussian, Gaussian]:
    """Normal distributions with the mean and covariance of all images and of each half."""
    first, second = (Gaussian.fitted(half) for half in summary.halves)
    return Gaussian.fitted(summary.whole()), first, second


def fit_manifold(summary: ImageSummary, images: int, protocol: Protocol) -> Manifold:
    """The manifold of `images` of the kept features, with the nearest neighbour and the protocol's numbers of them."""
    _, features = summary.sample.kept()
    chosen = features[protocol.choose(len(features), images)]
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
    file = cache / cache_name(key) if cache else None
    if file is not None and (cached := _load(file, key)) is not None:
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
        _save(file, key, summary)
    return ReferenceStatistics(summary, key, read, available)


def with_flips(batches: Iterable[Tensor]) -> Iterator[Tensor]:
    """Each batch (b, C, H, W), then its images mirrored left to right."""
    for batch in batches:
        yield batch
        yield batch.flip(-1)


def cache_name(key: dict[str, Any]) -> str:
    """File name for the statistics with this key."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return f"{key['extractor']['name']}-{digest[:16]}.npz"


def _save(file: Path, key: dict[str, Any], summary: ImageSummary) -> None:
    shape = np.array([summary.halves[0].mean.shape[0], summary.classes.probability.shape[1]])
    try:
        with whole_file(file) as temporary, temporary.open("wb") as stream:
            np.savez(stream, key=np.array(json.dumps(key)), shape=shape, **summary.state())  # pyright: ignore[reportArgumentType]
    except UserError:
        return  # a store on a read-only disk: computed anew next time
    add_file(file.parent.parent, file)  # so that the store, which is ours, may still be replaced


def _load(file: Path, key: dict[str, Any]) -> ImageSummary | None:
    """The cached statistics, or None if they are absent, damaged or of something else."""
    try:
        regular_size(file)
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            if json.loads(str(arrays["key"])) != key:
                return None
            dimension, classes = (int(size) for size in arrays["shape"])
            if dimension != key["extractor"]["dimension"] or not 0 <= classes <= MOST_CLASSES:
                return None
            reference = key["reference"]
            summary = ImageSummary(
                dimension,
                classes,
                splits=reference["splits"],
                kept=reference["kept_features"],
                seed=reference["seed"],
            )
            summary.restore({name: arrays[name] for name in arrays.files if name not in ("key", "shape")})
    except Exception:  # zipfile, zlib and numpy raise errors of many kinds; a cache that fails is computed anew
        return None
    return summary
