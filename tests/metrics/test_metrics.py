"""The whole way from images to figures: `vitgan.metrics.evaluate`."""

import dataclasses
import json
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.image.fid import FrechetInceptionDistance

from refusals import refused
from toy_features import in_batches, toy_extractor, toy_images
from vitgan.data.bundled import bundled_fashion_mnist
from vitgan.metrics import METRICS, Protocol, ReferenceStatistics, evaluate, load_extractor
from vitgan.metrics.features import FeatureExtractor
from vitgan.metrics.reference import reference_statistics
from vitgan.metrics.texture import high_pass, power_in_patch, seam

PROTOCOL = Protocol(
    "test",
    "",
    generated_images=600,
    splits=3,
    manifold_images=200,
    kernel_subsets=4,
    kernel_subset_size=100,
    texture_images=80,
)


def reference_of(images: Tensor, extractor: FeatureExtractor, protocol: Protocol = PROTOCOL) -> ReferenceStatistics:
    return reference_statistics(
        lambda indices: [images[torch.from_numpy(indices)]], len(images), "0" * 64, protocol, extractor
    )


def toy_result(images: Tensor, real: Tensor, protocol: Protocol = PROTOCOL, *sizes: int) -> dict[str, Any]:
    protocol = dataclasses.replace(protocol, generated_images=len(images))
    extractor = toy_extractor()
    batches = in_batches(images, *(sizes or (100,)))
    return evaluate(batches, reference_of(real, extractor, protocol), protocol, extractor)


def test_the_distance_equals_torchmetrics_with_the_same_features() -> None:
    extractor = toy_extractor()

    class Features(torch.nn.Module):
        num_features = extractor.dimension

        def forward(self, images: Tensor) -> Tensor:
            return extractor(images)[0]

    real, generated = toy_images(500, seed=1), toy_images(600, seed=2) // 2
    metric = FrechetInceptionDistance(feature=Features(), input_img_size=(3, 8, 8))
    metric.set_dtype(torch.float64)
    metric.update(real, real=True)
    metric.update(generated, real=False)
    figures = toy_result(generated, real)["metrics"]
    assert figures["FD-toy"] == pytest.approx(metric.compute().item(), rel=1e-6)


def test_figures_do_not_depend_on_how_images_arrive() -> None:
    real, generated = toy_images(300, seed=1), toy_images(600, seed=2)
    results = [toy_result(generated, real, PROTOCOL, *sizes)["metrics"] for sizes in ((600,), (1, 7, 64))]
    assert results[0] == pytest.approx(results[1], rel=1e-12)


def test_no_random_state_is_touched_or_used() -> None:
    def states() -> tuple[Any, ...]:
        return random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state().tolist()  # pyright: ignore

    real, generated = toy_images(300, seed=1), toy_images(600, seed=2)
    before = states()
    first = toy_result(generated, real)
    assert states() == before
    torch.manual_seed(99)
    np.random.seed(99)
    random.seed(99)
    assert toy_result(generated, real) == first


def test_train_against_test_is_near_zero_after_correction() -> None:
    """Both drawn alike: the plain distance keeps a bias of order 1/n, the extrapolated one is much nearer to 0."""
    plain, corrected = [], []
    for seed in range(6):
        figures = toy_result(toy_images(400, seed=2 * seed), toy_images(400, seed=2 * seed + 1))["metrics"]
        plain.append(figures["FD-toy"])
        corrected.append(figures["FD-extrapolated-toy"])
    assert min(plain) > 0
    assert abs(np.mean(corrected)) < 0.2 * np.mean(plain)


def test_report_is_complete_and_plain_json() -> None:
    result = toy_result(toy_images(600), toy_images(90, seed=1))
    assert json.loads(json.dumps(result)) == result
    assert list(result["metrics"]) == [
        figure.general + ("-toy" if figure.features else "")
        for key, figure in METRICS.items()
        if key not in ("class_distance", "path_length")  # which are asked for
    ]
    assert result["better"].keys() == result["metrics"].keys()
    assert list(result["real"]) == ["near-copies-toy", "seam", "repeat-share", "spectrum-distance"]
    assert result["patch_size"] == 4
    assert result["score"] == {"name": "FD-toy", "value": result["metrics"]["FD-toy"], "better": "lower"}
    assert result["protocol"] == PROTOCOL.to_dict()
    assert result["images"] == {
        "generated": 600,
        "reference": 90,
        "kernel_subset_size": 90,
        "manifold_images": 90,
        "texture_generated": 80,
        "texture_reference": 80,
    }
    assert any("not with a FID" in note for note in result["notes"])


def test_only_the_papers_network_makes_fids() -> None:
    real, generated = toy_images(300, seed=1), toy_images(600, seed=2)
    extractor = dataclasses.replace(toy_extractor("inception"), paper_comparable=True)
    result = evaluate([generated], reference_of(real, extractor), PROTOCOL, extractor)
    names = list(result["metrics"])
    assert names[:6] == ["FID", "FID-extrapolated", "KID", "KID-std", "IS", "IS-std"]
    # The field measures these with another network, so they never stand alone.
    assert names[6:10] == ["precision-inception", "recall-inception", "density-inception", "coverage-inception"]
    assert result["score"]["name"] == "FID"
    assert result["notes"] == []


def test_pixels_are_those_of_images_drawn_from_all_places() -> None:
    """Images come sorted as folders do: the last quarter alone is made of flat patches."""
    real, smooth = toy_images(300, seed=1), toy_images(600, seed=2)
    blocks = smooth[450:, :, ::4, ::4].repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
    generated = torch.cat([smooth[:450], blocks])
    result = toy_result(generated, real, PROTOCOL, 1, 50)
    places = PROTOCOL.choose(600, 80)
    assert (places >= 450).sum() > 10
    drawn = seam(power_in_patch(high_pass(generated[torch.from_numpy(places)]), 4))
    assert result["metrics"]["seam"] == pytest.approx(drawn, rel=1e-9)
    assert result["metrics"]["seam"] > 1.1 * seam(power_in_patch(high_pass(generated[:80]), 4))
    assert result["metrics"]["spectrum-distance"] > 3 * result["real"]["spectrum-distance"]


def test_the_patch_is_the_generators() -> None:
    extractor, real = toy_extractor(), toy_images(300, seed=1)
    blocks = toy_images(600, seed=2)[:, :, ::2, ::2].repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    reference = reference_of(real, extractor)
    for patch_size in (2, 4):
        result = evaluate([blocks], reference, PROTOCOL, extractor, patch_size=patch_size)
        assert result["patch_size"] == patch_size
        expected = seam(power_in_patch(high_pass(real[torch.from_numpy(PROTOCOL.choose(300, 80))]), patch_size))
        assert result["real"]["seam"] == pytest.approx(expected, rel=1e-9)


def test_copies_of_real_images_are_found() -> None:
    real, generated = toy_images(300, seed=1), toy_images(600, seed=2)
    honest = toy_result(generated, real)
    generated[::3] = real[:200]
    copied = toy_result(generated, real)["metrics"]["near-copies-toy"]
    assert honest["metrics"]["near-copies-toy"] < 0.1
    assert copied > honest["metrics"]["near-copies-toy"] + 0.15  # a third, of which two thirds lie in the sample
    assert honest["real"]["near-copies-toy"] == 0.01


def test_few_images_for_many_features_are_noted() -> None:
    result = toy_result(toy_images(600), toy_images(20, seed=1))
    assert any("FD-extrapolated-toy is uncertain" in note for note in result["notes"])


def test_a_reference_of_something_else_is_refused() -> None:
    extractor, images = toy_extractor(), toy_images(600)
    reference = reference_of(images, extractor)
    with refused(kind=ValueError):
        evaluate([images], reference, dataclasses.replace(PROTOCOL, seed=1), extractor)
    with refused(kind=ValueError):
        evaluate([images], reference, PROTOCOL, toy_extractor("other"))


def blurred(images: Tensor) -> Tensor:
    return F.avg_pool2d(images.float(), 5, stride=1, padding=2, count_include_pad=False).round().to(torch.uint8)


def noisy(images: Tensor) -> Tensor:
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    return (images.float() + 40 * noise).round().clamp(0, 255).to(torch.uint8)


def one_mode(images: Tensor) -> Tensor:
    return (
        images[:1].repeat(len(images), 1, 1, 1) ^ (torch.arange(len(images)) % 2).to(torch.uint8)[:, None, None, None]
    )


@pytest.fixture(scope="module")
def lite_figures(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Callable[[Tensor], Tensor]], dict[str, float]]:
    """Figures of bundled real images, treated in some way, against others of them."""
    images = torch.from_numpy(bundled_fashion_mnist(tmp_path_factory.mktemp("cache")).images[:240].copy())
    protocol = dataclasses.replace(PROTOCOL, generated_images=120)
    lite = load_extractor("lite0")

    def fewer_features(images: Tensor) -> tuple[Tensor, Tensor]:  # decompositions of 1280² would take most of the time
        features, logits = lite.network(images)
        return features[:, ::5], logits

    extractor = dataclasses.replace(lite, network=fewer_features, dimension=256)
    reference = reference_of(images[:120], extractor, protocol)

    def measure(treat: Callable[[Tensor], Tensor]) -> dict[str, float]:
        figures = evaluate([treat(images[120:])], reference, protocol, extractor)["metrics"]
        return {name.removesuffix("-lite0"): value for name, value in figures.items()}

    return measure


def test_every_figure_points_the_right_way(
    lite_figures: Callable[[Callable[[Tensor], Tensor]], dict[str, float]],
) -> None:
    real = lite_figures(lambda images: images)
    for treat in (blurred, noisy):
        worse = lite_figures(treat)
        assert worse["FD"] > 1.5 * real["FD"]
        assert worse["KD"] > real["KD"] + 3 * real["KD-std"]
        assert worse["precision"] < real["precision"]
        assert worse["coverage"] < real["coverage"]
    collapsed = lite_figures(one_mode)
    assert collapsed["FD"] > 1.5 * real["FD"]
    assert collapsed["recall"] < 0.1 * real["recall"]
    assert collapsed["coverage"] < 0.2 * real["coverage"]
    assert collapsed["IS"] < 1.1 < real["IS"]
