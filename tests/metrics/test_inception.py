from pathlib import Path

import numpy as np
import pytest
import torch

from refusals import refused
from seeded_inception import seeded_images, seeded_weights
from vitgan.metrics.features import load_extractor
from vitgan.metrics.inception import Inception, find_weights, tensorflow_bilinear

REFERENCE = Path(__file__).with_name("inception_reference.npz")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights file as torch-fidelity distributes it, with random values."""
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in Inception().state_dict().items()}
    file = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save(seeded_weights(shapes), file)
    return file


def test_equals_torch_fidelity(weights: Path) -> None:
    """The recorded outputs are those of torch-fidelity's own module: see record_inception_reference.py."""
    extractor = load_extractor("inception", inception_weights=weights)
    outputs = [extractor(images) for images in seeded_images()]
    features, logits = (torch.cat(parts) for parts in zip(*outputs, strict=True))
    assert features.shape == (5, 2048)
    assert logits.shape == (5, 1008)
    reference = np.load(REFERENCE)
    np.testing.assert_allclose(features[:, ::8].numpy(), reference["features"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(logits[:, ::8].numpy(), reference["logits"], rtol=1e-4, atol=1e-5)


def test_other_weights_are_no_fid(weights: Path) -> None:
    extractor = load_extractor("inception", inception_weights=weights)
    assert not extractor.paper_comparable
    assert extractor.name == f"inception-{extractor.weights_sha256[:8]}"


def test_loading_leaves_the_random_state(weights: Path) -> None:
    before = torch.get_rng_state()
    load_extractor("inception", inception_weights=weights)
    assert torch.equal(before, torch.get_rng_state())


def test_weights_are_found_where_torch_hub_keeps_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VITGAN_INCEPTION_WEIGHTS", raising=False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert find_weights() is None
    file = tmp_path / "checkpoints" / "pt_inception-2015-12-05-6726825d.pth"
    file.parent.mkdir()
    file.touch()
    assert find_weights() == file
    other = tmp_path / "mine.pth"
    other.touch()
    monkeypatch.setenv("VITGAN_INCEPTION_WEIGHTS", str(other))
    assert find_weights() == other


def test_missing_weights_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VITGAN_INCEPTION_WEIGHTS", raising=False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    place = tmp_path / "checkpoints" / "weights-inception-2015-12-05-6726825d.pth"
    with refused(f"curl -L --create-dirs -o {place}", "lite0", parameter="inception_weights"):
        load_extractor("inception")
    with refused(tmp_path / "absent.pth", parameter="inception_weights"):
        load_extractor("inception", inception_weights=tmp_path / "absent.pth")


@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04 broken"])
def test_foreign_files_are_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "weights.pth"
    file.write_bytes(content)
    with refused(file, parameter="inception_weights"):
        load_extractor("inception", inception_weights=file)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    torch.save({"fc.weight": torch.zeros(1000, 2048)}, file)
    with refused(file, parameter="inception_weights", cause=RuntimeError):
        load_extractor("inception", inception_weights=file)


def test_tensorflow_resizing_has_no_half_pixel_offset() -> None:
    """2 -> 4: samples lie at 0, 0.5, 1, 1.5; the last one repeats the border."""
    image = torch.tensor([[[[0.0, 10.0], [20.0, 30.0]]]])
    expected = torch.tensor([[0.0, 5, 10, 10], [10, 15, 20, 20], [20, 25, 30, 30], [20, 25, 30, 30]])
    assert torch.equal(tensorflow_bilinear(image, 4)[0, 0], expected)
