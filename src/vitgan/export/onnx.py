"""Generators as ONNX files, checked under onnxruntime against PyTorch."""

import importlib.util
import logging
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from vitgan.errors import UserError
from vitgan.files import whole_file
from vitgan.models.generator import Generator, draw_latents

Precision = Literal["float32", "float16", "int8"]
LARGEST_BATCH = 1024
CHECKED_IMAGES = 16
TIMED_SECONDS = 1.0
INSTALL = "pip install onnx onnxscript onnxruntime"


class OnnxReport(NamedTuple):
    """What an exported file is worth.

    Attributes:
        path: The file.
        megabytes: Its size.
        largest_difference: From PyTorch's float32 images in [-1, 1], over 16 images at psi 1 and 0.7.
        mean_difference: Mean absolute difference of the same.
        images_per_second: Under onnxruntime on the CPU, batch 16.
        torch_images_per_second: PyTorch's, the same way.
    """

    path: Path
    megabytes: float
    largest_difference: float
    mean_difference: float
    images_per_second: float
    torch_images_per_second: float


class Sampler(nn.Module):
    """z, truncation and, for a conditional model, labels -> images: the whole generator as one graph."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, z: Tensor, truncation: Tensor, labels: Tensor | None = None) -> Tensor:
        """z (B, z_dim), truncation (1,), labels (B,) int64 -> images (B, C, H, W), float32."""
        generator = self.generator
        w = generator.w_mean + (generator.mapping(z, labels) - generator.w_mean) * truncation
        return generator.synthesis(w.unsqueeze(1).expand(-1, generator.num_styles, -1))


def export_onnx(generator: Generator, path: Path, precision: Precision = "float32") -> OnnxReport:
    """Writes a generator as one ONNX file and checks it.

    Args:
        generator: The model, on the CPU.
        path: The file, written under a temporary name and renamed.
        precision: "float32"; "float16" halves the file (inputs and outputs stay float32); "int8" quantises the weights
            of matrix products and computes them with activations quantised on the fly.

    Returns:
        Size, differences and speed, measured under onnxruntime.

    Inputs: "z" (B, z_dim) float32, "truncation" (1,) float32 and, for a conditional model, "labels" (B,) int64.
    Output: "images" (B, C, H, W) float32, nominally in [-1, 1]. B is free, from 1 to 1024.

    Raises:
        UserError: If a package is absent, the file cannot be written, or onnxruntime disagrees with PyTorch in float32.
    """
    inputs = example_inputs(generator, 2)
    with whole_file(path) as temporary:
        write_graph(Sampler(generator), inputs, temporary, outputs=["images"], fixed=("truncation",))
        if precision != "float32":
            lower_precision(temporary, precision)
    report = measure(generator, path)
    if precision == "float32" and report.largest_difference > 1e-3:
        path.unlink()
        raise UserError(
            f"the ONNX file differs from PyTorch by {report.largest_difference:.2g}: please report this model"
        )
    return report


def example_inputs(generator: Generator, count: int, truncation: float = 1.0) -> dict[str, Tensor]:
    """Inputs of the exported graph, by name."""
    inputs = {"z": draw_latents(count, generator.z_dim, seed=0), "truncation": torch.tensor([truncation])}
    if generator.num_classes:
        inputs["labels"] = torch.arange(count) % generator.num_classes
    return inputs


def write_graph(
    module: nn.Module, inputs: dict[str, Tensor], path: Path, outputs: Sequence[str], fixed: Sequence[str] = ()
) -> None:
    """Traces a module into an ONNX file whose inputs (but for `fixed`) have a free first dimension.

    Raises:
        UserError: If a package is absent or the graph cannot be expressed.
    """
    require_onnx()
    from torch._dynamo.exc import TorchDynamoException

    batch = torch.export.Dim("batch", min=1, max=LARGEST_BATCH)
    shapes = {name: None if name in fixed else {0: batch} for name in inputs}
    try:
        with quiet(), torch.no_grad():
            # Strict: the other way of tracing takes the example's batch size for a constant.
            program = torch.export.export(module.eval(), (), inputs, dynamic_shapes=shapes, strict=True)
            torch.onnx.export(
                program,
                f=str(path),
                input_names=list(inputs),
                output_names=list(outputs),
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except (torch.onnx.errors.OnnxExporterError, TorchDynamoException) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"this generator cannot be exported to ONNX: {reason}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Without the exporters' remarks on packages and operators that no generator of ours has."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def lower_precision(path: Path, precision: Precision) -> None:
    """Rewrites a float32 file in place."""
    if precision == "float16":
        import onnx
        from onnxruntime.transformers.float16 import convert_float_to_float16

        # Normalisations and positions stay float32: their squares and sines lose most.
        kept = ["LayerNormalization", "ReduceMean", "ReduceSum", "ReduceSumSquare", "Sqrt", "Reciprocal", "Pow", "Sin"]
        onnx.save(convert_float_to_float16(onnx.load(path), keep_io_types=True, op_block_list=kept), path)
    else:
        from onnxruntime.quantization import QuantType, quantize_dynamic
        from onnxruntime.quantization.shape_inference import quant_pre_process

        # Weights times their equalising factor become constants first: only constants are stored in 8 bits.
        folded, quantised = (path.with_name(f"{path.stem}.{step}.onnx") for step in ("folded", "int8"))
        try:
            quant_pre_process(path, folded, skip_symbolic_shape=True)
            # Unsigned: processors without VNNI multiply unsigned by signed bytes in 16 bits, which overflow.
            quantize_dynamic(folded, quantised, weight_type=QuantType.QUInt8, per_channel=True)
            quantised.replace(path)
        finally:
            folded.unlink(missing_ok=True)


def open_session(path: Path) -> Any:
    """An onnxruntime session on the CPU with as many threads as PyTorch."""
    require_onnx()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@torch.no_grad()
def measure(generator: Generator, path: Path) -> OnnxReport:
    """Compares an exported file with its generator."""
    session, sampler = open_session(path), Sampler(generator).eval()
    differences = []
    for psi in (1.0, 0.7):
        inputs = example_inputs(generator, CHECKED_IMAGES, psi)
        images = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})[0]
        differences.append(np.abs(images - sampler(**inputs).numpy()))
    arrays = {name: tensor.numpy() for name, tensor in inputs.items()}
    return OnnxReport(
        path,
        path.stat().st_size / 1e6,
        float(np.max(differences)),
        float(np.mean(differences)),
        _rate(lambda: session.run(None, arrays)),
        _rate(lambda: sampler(**inputs)),
    )


def _rate(run: Any) -> float:
    run()
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < TIMED_SECONDS:
        run()
        count += CHECKED_IMAGES
    return count / (time.perf_counter() - start)


def require_onnx() -> None:
    """Raises a UserError that names what to install, if it is not."""
    absent = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    if absent:
        raise UserError(f"ONNX export needs {' and '.join(absent)}: {INSTALL}")
