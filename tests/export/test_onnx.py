import importlib.util
import math
import shutil
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

import vitgan
from generators import KINDS, make, make_shallow
from refusals import refused
from vitgan.errors import UserError
from vitgan.export import onnx as exporting
from vitgan.export.onnx import (
    BOUNDS,
    INSTALL,
    Interface,
    OnnxReport,
    Precision,
    export_onnx,
    join_kept_operators,
    lower_precision,
    measure,
    open_session,
)
from vitgan.models.build import GeneratorSpec, build_generator
from vitgan.models.generator import Generator
from vitgan.pretrained.names import bundled_models

needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="the extra onnx is not installed",
)


@pytest.fixture(autouse=True)
def _short_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitgan.export.onnx.TIMED_SECONDS", 0.01)


@needs_onnx
@pytest.mark.parametrize(
    ("kind", "pixel_mapping"),
    [
        ("vit", "inr"),
        ("interpolated", "interpolated"),
        ("rotary", "linear"),  # behind a token of the latent
        ("latent-tokens", "conv"),
        ("summed", "inr"),
        ("scaled", "inr"),
        ("stylegan2", None),
    ],
)
def test_equals_pytorch_at_any_batch_and_in_lower_precision(
    tmp_path: Path, kind: str, pixel_mapping: str | None
) -> None:
    """All rewrites of one float32 file, compared with PyTorch; int8 also where a processor has no instruction for it."""
    classes = 3 if kind == "vit" else 0
    changes = {"pixel_mapping": pixel_mapping} if pixel_mapping else {}
    generator, path = make_shallow(kind, classes, **changes), tmp_path / "g.onnx"
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
    lower_precisions: list[tuple[Precision, float, float]] = [("float16", 0.02, 0.002), ("int8", 0.3, 0.03)]
    for precision, largest, mean in lower_precisions:
        lower = shutil.copyfile(path, tmp_path / f"{precision}.onnx")
        lower_precision(lower, precision)
        report = measure(generator, lower)
        assert 0 < report.mean_difference < report.largest_difference < largest
        assert report.mean_difference < mean
    assert len(list(tmp_path.iterdir())) == 3


class FidelityWrapper:
    """What torch-fidelity's GenerativeModelONNX does: tensors in the order of the inputs, the first output back."""

    def __init__(self, path: Path) -> None:
        self.session = open_session(path)

    def __call__(self, *args: torch.Tensor) -> torch.Tensor:
        names = [put.name for put in self.session.get_inputs()]
        assert len(names) == len(args)
        found = self.session.run(None, {name: arg.numpy() for name, arg in zip(names, args, strict=True)})
        return torch.from_numpy(found[0])


@needs_onnx
@pytest.mark.parametrize(("kind", "classes", "channels"), [("vit", 0, 1), ("conv", 3, 3), ("stylegan2", 0, 3)])
def test_torch_fidelity_gets_bytes_from_z_alone(tmp_path: Path, kind: str, classes: int, channels: Any) -> None:
    spec = GeneratorSpec(resolution=16, channels=channels, num_classes=classes, generator=KINDS[kind])
    generator, path = build_generator(spec, seed=1).eval().requires_grad_(False), tmp_path / "g.onnx"
    export_onnx(generator, str(path), interface="torch-fidelity")
    for count in (1, 5):
        z = torch.randn(count, 8, generator=torch.Generator().manual_seed(count))
        labels = [torch.arange(count) % classes] if classes else []
        images = FidelityWrapper(path)(z, *labels)
        assert images.dtype == torch.uint8
        assert images.shape == (count, 3, 16, 16)
        expected = (generator(z, *labels).clamp(-1, 1) + 1) * 127.5
        assert (images - expected).abs().max() <= 0.51


@needs_onnx
@pytest.mark.parametrize("interface", get_args(Interface))
def test_labels_that_are_no_class_fail(tmp_path: Path, interface: Interface) -> None:
    """Else -1 draws the last class or none, and 3 of 3 draws noise."""
    path = tmp_path / "g.onnx"
    export_onnx(make_shallow("vit", 3), path, interface=interface)
    for precision in get_args(Precision):
        file = shutil.copyfile(path, tmp_path / f"{precision}.onnx")
        if precision != "float32":
            lower_precision(file, precision)
        session = open_session(file)
        inputs: dict[str, np.ndarray] = {"z": np.zeros((2, 8), np.float32)}
        if interface == "vitgan":
            inputs["truncation"] = np.ones(1, np.float32)
        session.run(None, inputs | {"labels": np.array([0, 2])})
        for label in (-1, -3, 3, 100):
            with pytest.raises(Exception, match="out of data bounds"):
                session.run(None, inputs | {"labels": np.array([0, label])})


@needs_onnx
@pytest.mark.parametrize(
    "name", [name if name == "cifar10" else pytest.param(name, marks=pytest.mark.long) for name in bundled_models()]
)
def test_trained_models_are_themselves_in_float16(tmp_path: Path, name: str) -> None:
    """Their activations are large: squares of them do not fit float16."""
    generator = vitgan.load(name)
    path = tmp_path / "half.onnx"
    assert export_onnx(generator, path, "float16").path == path
    z = torch.randn(4, generator.z_dim, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(4) if generator.num_classes else None
    inputs = {"z": z.numpy(), "truncation": np.ones(1, np.float32)}
    if labels is not None:
        inputs["labels"] = labels.numpy()
    made = open_session(path).run(None, inputs)[0]
    difference = (torch.from_numpy(made) - generator(z, labels)).abs()
    assert difference.max() < 0.1
    assert difference.mean() < 0.002


@needs_onnx
def test_float16_keeps_squares_beyond_its_range() -> None:
    import onnxruntime
    from onnx import TensorProto, helper
    from onnxruntime.transformers.float16 import convert_float_to_float16

    value = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in "xy"}
    two = helper.make_tensor("two", TensorProto.FLOAT, [], [2.0])
    nodes = [
        helper.make_node("Mul", ["x", "two"], ["a"]),  # becomes float16
        helper.make_node("Pow", ["a", "two"], ["b"]),
        helper.make_node("Sqrt", ["b"], ["c"]),
        helper.make_node("Add", ["c", "x"], ["y"]),  # becomes float16
    ]
    graph = helper.make_graph(nodes, "g", [value["x"]], [value["y"]], [two])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    half = convert_float_to_float16(model, keep_io_types=True, op_block_list=["Pow", "Sqrt"])
    join_kept_operators(half)
    x = np.array([1, 200, 600, 2000], np.float32)
    made = onnxruntime.InferenceSession(half.SerializeToString()).run(None, {"x": x})[0]
    np.testing.assert_allclose(np.asarray(made), 3 * x, rtol=2e-3)


@pytest.mark.parametrize("precision", get_args(Precision))
@pytest.mark.parametrize(("largest", "mean"), [(2.0, 0.4), (0.0, 0.4), (2.0, 0.0), (math.nan, math.nan)])
def test_a_file_that_draws_something_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: Precision, largest: float, mean: float
) -> None:
    def write(module: object, inputs: object, path: Path, **options: object) -> None:
        path.write_bytes(b"a grey picture")

    def measured(generator: Generator, path: Path) -> OnnxReport:
        return OnnxReport(path, 1.0, largest, mean, 1.0, 1.0)

    monkeypatch.setattr(exporting, "write_graph", write)
    monkeypatch.setattr(exporting, "lower_precision", lambda path, precision: None)
    monkeypatch.setattr(exporting, "measure", measured)
    before = tmp_path / "g.onnx"
    before.write_bytes(b"an older, good one")
    for path in (before, tmp_path / "new" / "g.onnx"):
        with refused(precision, parameter="precision"):
            export_onnx(make("vit"), path, precision)
    assert before.read_bytes() == b"an older, good one"
    assert [p.name for p in tmp_path.iterdir()] == ["g.onnx"]


@pytest.mark.parametrize("interface", get_args(Interface))
def test_a_model_that_diverged_is_said_to_have(tmp_path: Path, interface: Interface) -> None:
    """Not to be drawn wrong by onnxruntime; and as bytes its numbers would be images."""
    generator = make("vit", 3)
    next(generator.parameters()).fill_(math.nan)
    with pytest.raises(UserError) as said:
        generator.sample(1)
    with refused(str(said.value)):
        export_onnx(generator, tmp_path / "g.onnx", interface=interface)
    assert not list(tmp_path.iterdir())


def test_the_bounds_are_smaller_than_a_grey_picture() -> None:
    """A constant picture differs from a model's images by 0.35 or more on average."""
    assert all(bound.mean < 0.2 for bound in BOUNDS.values())
    assert BOUNDS.keys() == set(get_args(Precision))


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with refused(INSTALL):
        export_onnx(make("vit"), tmp_path / "g.onnx")
