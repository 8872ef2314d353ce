"""From images and a reference to metrics, each with the protocol that it was measured by."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vitgan.metrics.distances import extrapolated_distance, frechet_distance, kernel_distance
from vitgan.metrics.features import FeatureExtractor
from vitgan.metrics.image_summary import ImageSummary, summarize
from vitgan.metrics.precision_recall import NEAR, manifold_figures
from vitgan.metrics.protocol import Protocol
from vitgan.metrics.reference import ReferenceStatistics, fit_gaussians, fit_manifold
from vitgan.metrics.texture import TextureStatistics, spectrum_distance


@dataclass(frozen=True)
class Metric:
    """A metric's name and direction.

    Attributes:
        general: Its name, to which the features' name is added.
        better: "lower", "higher", "real" where the real images' own value is best, or "" where there is no better.
        official: Its name with the features that papers use for it, if Inception's are these.
        features: Whether it is one of features, not of pixels.
    """

    general: str
    better: str
    official: str = ""
    features: bool = True

    def name(self, extractor: FeatureExtractor) -> str:
        """How reports call it: "FID", or "FD-lite0", never one for the other."""
        if not self.features:
            return self.general
        official = self.official if extractor.paper_comparable else ""
        return official or f"{self.general}-{extractor.name}"


METRICS = {
    "frechet_distance": Metric("FD", "lower", "FID"),
    "frechet_distance_extrapolated": Metric("FD-extrapolated", "lower", "FID-extrapolated"),
    "kernel_distance": Metric("KD", "lower", "KID"),
    "kernel_distance_std": Metric("KD-std", "", "KID-std"),
    "inception_score": Metric("IS", "higher", "IS"),
    "inception_score_std": Metric("IS-std", "", "IS-std"),
    "precision": Metric("precision", "higher"),  # papers measure these four with VGG16
    "recall": Metric("recall", "higher"),
    "density": Metric("density", "higher"),
    "coverage": Metric("coverage", "higher"),
    "near_copies": Metric("near-copies", "lower"),
    "class_distance": Metric("intra-FD", "lower", "intra-FID"),
    "path_length": Metric("PPL", "lower"),  # papers measure it with LPIPS
    "seam": Metric("seam", "real", features=False),
    "repeat_share": Metric("repeat-share", "real", features=False),
    "spectrum_distance": Metric("spectrum-distance", "lower", features=False),
}
SCORE = METRICS["frechet_distance"]
PATCH_SIZE = 4
"""Of the patches that seams are looked for between, where the generator has none of its own."""


def evaluate(
    images: Iterable[Tensor],
    reference: ReferenceStatistics,
    protocol: Protocol,
    extractor: FeatureExtractor,
    *,
    patch_size: int = PATCH_SIZE,
    others: Mapping[str, float] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Measures generated images; leaves every global random state as it is.

    Args:
        images: Batches (b, C, H, W) uint8 of any sizes; the protocol's number of images is taken.
        reference: Of the same protocol and extractor, from `reference_statistics`.
        protocol: What is measured, and how.
        extractor: Which features.
        patch_size: The generator's, for the metrics of texture.
        others: Values of metrics that need more than these images: keys of `METRICS`.
        on_progress: Called with (images done, images in all).

    Returns:
        A dictionary ready for JSON: "metrics" (name -> value), "better" (name -> direction), "real" (the values of the
        real images, for metrics that have them), "score" (the metric to choose checkpoints by: name, value, and that
        lower is better), "protocol", "features", "images" (the numbers really used), "patch_size", "notes".

    Raises:
        ValueError: Too few images, or a reference that does not belong to protocol and extractor.
    """
    if not reference.matches(protocol, extractor):
        raise ValueError("the reference statistics are of another protocol or extractor")
    texture = TextureStatistics(patch_size)
    looked_at = protocol.choose(protocol.generated_images, protocol.texture_images)
    generated = summarize(
        texture.watching(images, looked_at),
        extractor,
        splits=protocol.splits,
        kept=protocol.kept_features,
        seed=protocol.seed,
        count=protocol.generated_images,
        on_progress=on_progress,
    )
    with torch.inference_mode():
        values = _of_features(generated, reference, protocol)
    real_texture, spread = reference.texture(protocol, patch_size)
    values |= _of_texture(texture, spectrum_distance(texture.spectrum, real_texture.spectrum)) | dict(others or {})
    real = {"near_copies": NEAR} | _of_texture(real_texture, spread)
    measured = {key: metric for key, metric in METRICS.items() if key in values}
    metrics = {metric.name(extractor): values[key] for key, metric in measured.items()}
    name, shared = SCORE.name(extractor), min(generated.count, reference.summary.count)
    return {
        "metrics": metrics,
        "better": {metric.name(extractor): metric.better for metric in measured.values()},
        "real": {METRICS[key].name(extractor): value for key, value in real.items()},
        "score": {"name": name, "value": metrics[name], "better": SCORE.better},
        "protocol": protocol.to_dict(),
        "features": extractor.identity,
        "images": {
            "generated": generated.count,
            "reference": reference.summary.count,
            "kernel_subset_size": min(protocol.kernel_subset_size, shared),
            "manifold_images": min(protocol.manifold_images, shared),
            "texture_generated": texture.count,
            "texture_reference": real_texture.count,
        },
        "patch_size": patch_size,
        "notes": _notes(generated, reference.summary, extractor),
    }


def _of_features(generated: ImageSummary, reference: ReferenceStatistics, protocol: Protocol) -> dict[str, float]:
    real = reference.summary
    whole, *halves = fit_gaussians(generated)
    real_whole, *real_halves = reference.gaussians()
    distance = frechet_distance(whole, real_whole)
    of_halves = [frechet_distance(half, real_half) for half in halves for real_half in real_halves]
    values = {
        "frechet_distance": distance,
        "frechet_distance_extrapolated": extrapolated_distance(distance, of_halves),
    }
    values["kernel_distance"], values["kernel_distance_std"] = kernel_distance(
        generated.features,
        real.features,
        subsets=protocol.kernel_subsets,
        subset_size=protocol.kernel_subset_size,
        seed=protocol.seed,
    )
    if generated.classes.probability.shape[1]:  # a network without classes has no score
        values["inception_score"], values["inception_score_std"] = generated.classes.score()
    count = min(protocol.manifold_images, generated.count, real.count)
    return values | manifold_figures(
        fit_manifold(generated, count, protocol),
        reference.manifold(count, protocol),
        precision_k=protocol.precision_k,
        coverage_k=protocol.coverage_k,
    )


def _of_texture(texture: TextureStatistics, distance: float) -> dict[str, float]:
    return {"seam": texture.seam, "repeat_share": texture.repeat_share, "spectrum_distance": distance}


def _notes(generated: ImageSummary, real: ImageSummary, extractor: FeatureExtractor) -> list[str]:
    """What a reader must know to read the metrics rightly."""
    notes = []
    if not extractor.paper_comparable:
        notes.append(f"{extractor.name} features: compare with other {extractor.name} metrics only, not with a FID")
    half = min(statistics.count for statistics in (*generated.halves, *real.halves))
    if half < extractor.dimension:
        notes.append(
            f"half of the smaller side is {half:,} images for {extractor.dimension:,} features: "
            f"{METRICS['frechet_distance_extrapolated'].name(extractor)} is uncertain"
        )
    return notes
