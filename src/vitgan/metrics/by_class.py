"""The Fréchet distance of each class: intra-class FID, where features are Inception's (Miyato & Koyama 2018)."""

from collections.abc import Callable, Iterable, Sequence

from torch import Tensor

from vitgan.metrics.distances import Gaussian, frechet_distance
from vitgan.metrics.features import FeatureExtractor, rebatch
from vitgan.metrics.statistics import FeatureStatistics

ImagesOfClass = Callable[[int], Iterable[Tensor]]


def class_distances(
    generated: ImagesOfClass,
    real: ImagesOfClass,
    classes: Sequence[int],
    extractor: FeatureExtractor,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[int, float]:
    """Class -> distance between its generated and its real images; one class is in memory at a time.

    Args:
        generated: Index of a class -> its images in batches (b, C, H, W) uint8, two at least.
        real: The same of the real ones.
        classes: Which are measured.
        extractor: Which features.
        on_progress: Called with (classes done, classes in all).
    """
    distances: dict[int, float] = {}
    for index in classes:
        distances[index] = frechet_distance(_fitted(generated(index), extractor), _fitted(real(index), extractor))
        if on_progress:
            on_progress(len(distances), len(classes))
    return distances


def _fitted(images: Iterable[Tensor], extractor: FeatureExtractor) -> Gaussian:
    statistics = FeatureStatistics(extractor.dimension)
    for batch in rebatch(images, extractor.batch_size):
        statistics.update(extractor(batch)[0].cpu())
    return Gaussian.fitted(statistics)
