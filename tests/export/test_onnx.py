import importlib.util
import shutil
from pathlib import Path

import pytest
import torch

from generators import make
from vitgan.errors import UserError
from vitgan.export.onnx import export_onnx, lower_precision, measure, open_session

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="the extra onnx is not installed",
)


@pytest.fixture(autouse=True)
def _short_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitgan.export.onnx.TIMED_SECONDS", 0.01)


@pytest.mark.parametrize("kind", ["vit", "stylegan2"])
def test_equals_pytorch_at_any_batch(tmp_path: Path, kind: str) -> None:
    classes = 3 if kind == "vit" else 0
    generator, path = make(kind, classes), tmp_path / "g.onnx"
    report = export_onnx(generator, path)
    assert report.largest_difference < 1e-4
    session = open_session(path)
    for count in (1, 5):
        z = torch.randn(count, 8, generator=torch.Generator().manual_seed(count))
        labels = torch.arange(count) % classes if classes else None
        inputs = {"z": z.numpy(), "truncation": torch.tensor([0.6]).numpy()}
        if labels is not None:
            inputs["labels"] = labels.numpy()
        images = torch.from_numpy(session.run(["images"], inputs)[0])
        torch.testing.assert_close(images, generator(z, labels, 0.6), atol=1e-4, rtol=0)
    assert [p.name for p in tmp_path.iterdir()] == ["g.onnx"]


def test_lower_precision_is_smaller_and_near(tmp_path: Path) -> None:
    """Both rewrites of one float32 file, compared with PyTorch; int8 also where a processor has no instruction for it."""
    generator = make("vit")
    export_onnx(generator, tmp_path / "float32.onnx")
    for precision, largest, mean in (("float16", 0.02, 0.002), ("int8", 0.3, 0.02)):
        path = shutil.copyfile(tmp_path / "float32.onnx", tmp_path / f"{precision}.onnx")
        lower_precision(path, precision)  # pyright: ignore[reportArgumentType]
        report = measure(generator, path)
        assert 0 < report.mean_difference < report.largest_difference < largest
        assert report.mean_difference < mean
    assert len(list(tmp_path.iterdir())) == 3


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install onnx onnxscript onnxruntime"):
        export_onnx(make("vit"), tmp_path / "g.onnx")
