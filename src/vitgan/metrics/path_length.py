"""Perceptual path length: how much an image changes in features while its style moves a little.

StyleGAN2's protocol (Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN") with another distance:
in w, at end points, with a step of 1e-4, without the largest and smallest hundredth. LPIPS, which papers measure it by,
needs VGG's weights; here it is the squared distance of features scaled to length 1, as LPIPS scales its own.
"""

from collections.abc import Callable, Iterable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vitgan.metrics.features import FeatureExtractor

STEP = 1e-4
"""Of the way from one style to another."""
LEFT_OUT = 1.0
"""Percent of the distances at each end, which a few odd images would decide."""


def path_length(
    pairs: Iterable[tuple[Tensor, Tensor]],
    extractor: FeatureExtractor,
    *,
    count: int,
    step: float = STEP,
    on_progress: Callable[[int, int], None] | None = None,
) -> float:
    """Mean squared distance of features per squared step, after the extremes were left out.

    Args:
        pairs: Images (b, C, H, W), float in [-1, 1] and never rounded to bytes, and those of the styles moved by `step`.
        extractor: Which features.
        count: Pairs in all, for `on_progress`.
        step: By which the styles were moved.
        on_progress: Called with (pairs done, count).
    """
    found: list[Tensor] = []
    for first, moved in pairs:
        for a, b in zip(first.split(extractor.batch_size), moved.split(extractor.batch_size), strict=True):
            # Both in one batch: networks round differently at different batch sizes.
            features = extractor.of_pixels((torch.cat([a, b]) + 1) * 127.5)[0]
            start, end = F.normalize(features.double(), dim=1).cpu().chunk(2)
            found.append((end - start).square().sum(dim=1) / step**2)
            if on_progress:
                on_progress(sum(map(len, found)), count)
    distances = torch.cat(found).numpy()
    low = np.percentile(distances, LEFT_OUT, method="lower")
    high = np.percentile(distances, 100 - LEFT_OUT, method="higher")
    return float(distances[(low <= distances) & (distances <= high)].mean())
