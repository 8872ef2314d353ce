"""Generated images beside their nearest real ones: has the model learnt its images by heart?"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from vitgan.files.pictures import enlargement, image_grid, save_image
from vitgan.metrics.features import FeatureExtractor, rebatch
from vitgan.metrics.precision_recall import squared_distances


@dataclass(frozen=True)
class Neighbours:
    """The nearest real images of some generated ones, the nearest first.

    Attributes:
        positions: (Q, k) int64, places in the stream of real images.
        distances: (Q, k) float64, Euclidean, in feature space.
        images: (Q, k, 3, H, W) uint8.
    """

    positions: Tensor
    distances: Tensor
    images: Tensor


def nearest_images(
    generated: Tensor,
    real: Iterable[Tensor],
    extractor: FeatureExtractor,
    *,
    neighbours: int,
    real_count: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> Neighbours:
    """Searches all real images in one pass with constant memory.

    Args:
        generated: (Q, C, H, W) uint8.
        real: Batches (b, C, H, W) uint8.
        extractor: Measures distances in its features.
        neighbours: How many are kept for each generated image.
        real_count: How many real images there are; at least `neighbours`.
        on_progress: Called with (real images done, real_count).
    """
    generated = generated.expand(-1, 3, -1, -1)
    queries = extractor(generated)[0].cpu().double()
    distances = torch.full((len(queries), 0), torch.inf, dtype=torch.float64)
    positions = torch.empty(len(queries), 0, dtype=torch.int64)
    images = torch.empty(len(queries), 0, *generated.shape[1:], dtype=torch.uint8)
    done = 0
    for batch in rebatch(real, extractor.batch_size, limit=real_count):
        found = torch.cat([rows for _, rows in squared_distances(queries, extractor(batch)[0].cpu().double())])
        # No batch can give more than `neighbours` of its images to a query, so only these are looked at.
        near, which = found.topk(min(neighbours, len(batch)), dim=1, largest=False)
        distances = torch.cat([distances, near], dim=1)
        positions = torch.cat([positions, which + done], dim=1)
        images = torch.cat([images, batch.expand(-1, 3, -1, -1).cpu()[which]], dim=1)
        order = distances.argsort(dim=1, stable=True)[:, :neighbours]
        distances, positions = distances.gather(1, order), positions.gather(1, order)
        images = images[torch.arange(len(queries))[:, None], order]
        done += len(batch)
        if on_progress:
            on_progress(done, real_count)
    return Neighbours(positions, distances.sqrt(), images)


def save_neighbours(path: Path, generated: Tensor, found: Neighbours) -> None:
    """Writes a picture: a row for each generated image, which stands first, apart from its neighbours.

    Args:
        path: The file.
        generated: (Q, C, H, W) uint8.
        found: What `nearest_images` returned for it.

    Raises:
        UserError: The file cannot be written.
    """
    images = generated.cpu().expand(-1, 3, -1, -1).unsqueeze(1)
    rows = torch.cat([images, torch.full_like(images, 255), found.images], dim=1)
    tiles = F.pad(rows.flatten(0, 1), (1, 0, 1, 0), value=255).permute(0, 2, 3, 1).numpy()
    save_image(image_grid(tiles, rows.shape[1], enlargement(generated.shape[-1])), path)
