import dataclasses
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torchmetrics.image.fid import FrechetInceptionDistance

from toy_features import toy_extractor, toy_images
from vitgan.metrics.by_class import class_distances


def test_each_class_is_at_torchmetrics_distance() -> None:
    extractor = dataclasses.replace(toy_extractor(), batch_size=32)
    sides = [{index: toy_images(60 + 10 * index, seed=seed + index) for index in (0, 2, 5)} for seed in (1, 50)]

    class Features(torch.nn.Module):
        num_features = extractor.dimension

        def forward(self, images: Tensor) -> Tensor:
            return extractor(images)[0]

    def batches(images: Tensor) -> Iterator[Tensor]:
        yield from images.split(7)

    done: list[tuple[int, int]] = []
    found = class_distances(
        lambda index: batches(sides[0][index]),
        lambda index: batches(sides[1][index]),
        (0, 2, 5),
        extractor,
        lambda *numbers: done.append(numbers),
    )
    assert list(found) == [0, 2, 5]
    assert done == [(1, 3), (2, 3), (3, 3)]
    for index, distance in found.items():
        metric = FrechetInceptionDistance(feature=Features(), input_img_size=(3, 8, 8))
        metric.set_dtype(torch.float64)
        metric.update(sides[1][index], real=True)
        metric.update(sides[0][index], real=False)
        assert distance == pytest.approx(metric.compute().item(), rel=1e-6)
