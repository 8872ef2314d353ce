import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import Tensor

from generators import make
from toy_features import toy_extractor
from vitgan.metrics.features import FeatureExtractor
from vitgan.metrics.path_length import path_length
from vitgan.models.draws import draw_latents
from vitgan.runs.sources import near_pairs

COUNT = 150


def smooth_extractor() -> FeatureExtractor:
    """Features with a derivative everywhere; of any number type."""
    weights = torch.from_numpy(np.random.default_rng(3).standard_normal((3 * 16 * 16, 6)) / 1000)

    def network(images: Tensor) -> tuple[Tensor, Tensor]:
        features = (images.flatten(1) @ weights.to(images.dtype)).sin() + 0.3
        return features, features[:, :0]

    return dataclasses.replace(toy_extractor("smooth"), network=network, dimension=6, batch_size=16)


@pytest.mark.parametrize(("kind", "classes"), [("vit", 0), ("conv", 3)])
def test_is_the_length_of_the_derivative(kind: str, classes: int) -> None:
    """The limit of ever smaller steps, by automatic differentiation in float64, one image at a time."""
    generator, extractor = make(kind, classes), smooth_extractor()
    found = path_length(near_pairs(generator, COUNT, 5, 1e-4, batch_size=40), extractor, count=COUNT)

    exact = make(kind, classes).double()
    latents, labels = draw_latents(2 * COUNT, exact.z_dim, 5).double(), exact.labels(COUNT)
    lengths = []
    for index in range(COUNT):
        label = labels[index : index + 1] if labels is not None else None
        start, end = (exact.mapping(latents[2 * index + k].unsqueeze(0), label) for k in (0, 1))

        def direction_of_features(w: Tensor) -> Tensor:
            pixels = (exact.synthesis(exact.styles(w)).double() + 1) * 127.5
            features = extractor.network(pixels)[0]
            return features / features.norm()

        change = torch.func.jvp(direction_of_features, (start,), (end - start,))[1]
        lengths.append(change.square().sum().item())
    kept = sorted(lengths)[1:-1]  # of 150 the lower and upper hundredth are the extremes' own
    assert found == pytest.approx(np.mean(kept), rel=0.01)


def test_the_extremes_are_left_out() -> None:
    """Distances are known: features are the mean colour, turned by a known angle."""
    count, step = 400, 0.5
    angles = torch.linspace(0.1, 0.3, count)
    angles[7], angles[300] = 1e-9, 3.0

    def network(images: Tensor) -> tuple[Tensor, Tensor]:
        angle = images[:, 0, 0, 0] / 127.5 - 1
        features = 7 * torch.stack([angle.cos(), angle.sin()], dim=1)  # length 7 must not count
        return features, features[:, :0]

    extractor = dataclasses.replace(toy_extractor(), network=network, dimension=2, batch_size=64)
    moved = angles.view(-1, 1, 1, 1).expand(-1, 3, 2, 2)
    done: list[int] = []
    found = path_length(
        [(torch.zeros_like(part), part) for part in moved.split(90)],
        extractor,
        count=count,
        step=step,
        on_progress=lambda k, _: done.append(k),
    )
    distances = np.sort((2 - 2 * np.cos(angles.double().numpy())) / step**2)
    # np.percentile's own positions: 1% of 399 lies between ranks 3 and 4, 99% between 395 and 396.
    assert found == pytest.approx(distances[3:397].mean(), rel=1e-5)
    assert done[-1] == count


def test_pairs_are_made_without_rounded_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA's ten bits are coarser than a step between two styles."""
    exact: list[torch.device] = []
    seen: list[int] = []

    @contextmanager
    def true_convolutions(device: torch.device) -> Iterator[None]:
        exact.append(device)
        yield
        exact.pop()

    monkeypatch.setattr("vitgan.runs.sources.true_convolutions", true_convolutions)
    generator = make("conv")
    monkeypatch.setattr(generator, "to_images", lambda made: seen.append(len(exact)) or made)
    for _ in near_pairs(generator, 4, 1, 0.25, 2):
        assert not exact
    assert seen == [1, 1]


def test_pairs_are_those_of_the_seed_in_any_batches() -> None:
    generator = make("vit")
    whole, parts = (
        [torch.cat(side) for side in zip(*near_pairs(generator, 10, 1, 0.25, size), strict=True)] for size in (10, 3)
    )
    for a, b in zip(whole, parts, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)
    first = generator(draw_latents(20, generator.z_dim, 1)[::2])
    torch.testing.assert_close(whole[0], first, atol=1e-6, rtol=0)
    assert (whole[1] - whole[0]).abs().max() > 1e-4
