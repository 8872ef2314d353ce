"""Generators as ONNX files, checked under onnxruntime against PyTorch."""

import importlib.util
import logging
import shutil
import tempfile
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
from vitgan.files.pictures import to_uint8
from vitgan.frozen.vae import Decoder, load_decoder
from vitgan.models.draws import draw_latents
from vitgan.models.generator import Generator

Precision = Literal["float32", "float16", "int8"]
Interface = Literal["vitgan", "torch-fidelity"]
BYTE = 2 / 255
"""A step of 8 bits, by which rounding may differ."""
LARGEST_BATCH = 1024
LARGEST_DECODED_BATCH = 63
"""From 64 images on diffusers' decoder takes another way through the same numbers, which a graph cannot hold."""
CHECKED_IMAGES = 16
CHECKED_TRUNCATIONS = 1.0, 0.7
TIMED_SECONDS = 1.0
INSTALL = "pip install 'vitgan[onnx]'"


class Bound(NamedTuple):
    """How far images in [-1, 1] may be from PyTorch's float32 ones; one step of 8 bits is 0.0078."""

    largest: float
    mean: float


BOUNDS: dict[Precision, Bound] = {
    "float32": Bound(0.001, 0.0002),
    "float16": Bound(0.05, 0.005),
    "int8": Bound(1.5, 0.15),
}


class OnnxReport(NamedTuple):
    """What an exported file is worth.

    Attributes:
        path: The file.
        megabytes: Its size.
        largest_difference: From PyTorch's float32 images in [-1, 1], over 16 images at psi 1 and 0.7 (of those in uint8,
            from PyTorch's in uint8, at psi 1).
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


def export_onnx(
    generator: Generator, path: str | Path, precision: Precision = "float32", interface: Interface = "vitgan"
) -> OnnxReport:
    """Writes a generator as one ONNX file and checks it.

    Args:
        generator: The model, on the CPU.
        path: The file, written under a temporary name and renamed.
        precision: "float32"; "float16" halves the file (inputs and outputs stay float32); "int8" quantises the weights
            of matrix products and computes them with activations quantised on the fly.
        interface: "torch-fidelity" leaves "truncation" out (it is 1), and gives RGB images in uint8.

    Returns:
        Size, differences and speed, measured under onnxruntime.

    Inputs: "z" (B, z_dim) float32, "truncation" (1,) float32 and, for a conditional model, "labels" (B,) int64.
    Output: "images" (B, C, H, W) float32, nominally in [-1, 1]. B is free, from 1 to 1024; with a VAE's decoder to 63.
    onnxruntime on a CPU fails at labels that are no class.

    Raises:
        UserError: If a package is absent, the file cannot be written, the model makes numbers that are not finite, or
            onnxruntime's images differ from PyTorch's by more than `BOUNDS` allows the precision; what was at `path` before
            is then still there.
    """
    path = Path(path)
    check_samples(generator)
    if generator.num_classes:
        generator.class_means()  # before tracing, which would write down how they are computed
    plain = interface == "vitgan"
    module, inputs = ImageGraph(generator, as_bytes=not plain), example_inputs(generator, 2)
    if not plain:
        del inputs["truncation"]
    with whole_file(path) as temporary, tempfile.TemporaryDirectory() as place:
        made = Path(place) / path.name
        write_graph(module, inputs, made, outputs=["images"], fixed=("truncation",))
        if precision != "float32":
            lower_precision(made, precision)
        report = measure(generator, made)._replace(path=path)
        check_difference(report.largest_difference - (0 if plain else BYTE), report.mean_difference, precision)
        shutil.copyfile(made, temporary)
    return report


class ImageGraph(nn.Module):
    """Latents -> images: G's forward, and behind it the decoder of the VAE whose latents it makes.

    With `as_bytes` as torch-fidelity takes them: uint8, and grey is repeated.
    """

    def __init__(self, generator: Generator, as_bytes: bool = False) -> None:
        super().__init__()
        self.generator, self.to_images, self.as_bytes = generator, images_decoder(generator), as_bytes

    def forward(self, z: Tensor, labels: Tensor | None = None, truncation: float | Tensor = 1.0) -> Tensor:
        """z (B, z_dim) -> images (B, C, H, W), float32, nominally in [-1, 1]; or (B, 3, H, W) uint8."""
        images = self.to_images(self.generator(z, known_classes(self.generator, labels), truncation))
        return to_uint8(images).expand(-1, 3, -1, -1) if self.as_bytes else images


def images_decoder(generator: Generator) -> nn.Module:
    """`Generator.to_images` as a module that a graph can hold."""
    return nn.Identity() if generator.vae is None else load_decoder(generator.vae)


def known_classes(generator: Generator, labels: Tensor | None) -> Tensor | None:
    """Labels (B,) as they are, through an operator that fails at those that are no class.

    What follows does not: for ONNX -1 is the last row of a table, and the one-hot vector of 10 of 10 is 0.
    """
    if labels is None:
        return None
    classes = torch.arange(generator.num_classes, device=labels.device)
    return classes.index_select(0, labels.where(labels >= 0, generator.num_classes))


def check_samples(generator: Generator) -> None:
    """Refuses a model that diverged, as sampling from it does, before it is taken for one that onnxruntime draws wrong.

    Raises:
        UserError: If it makes numbers that are not finite.
    """
    for truncation in CHECKED_TRUNCATIONS:
        generator.sample(CHECKED_IMAGES, truncation=truncation)


def check_difference(largest: float, mean: float, precision: Precision = "float32") -> None:
    """Refuses what onnxruntime makes of a model if it is not PyTorch's.

    Raises:
        UserError: If a difference is beyond the precision's bound, or no number.
    """
    bound = BOUNDS[precision]
    if not (largest <= bound.largest and mean <= bound.mean):  # which a NaN is not either
        raise UserError(
            f"in {precision} onnxruntime's images differ from PyTorch's by {largest:.2g} at the most and {mean:.2g} on "
            f"average, {bound.largest:g} and {bound.mean:g} are allowed: nothing was written; "
            + ("please report this model" if precision == "float32" else "choose another precision"),
            "precision",
        )


def example_inputs(generator: Generator, count: int, truncation: float = 1.0) -> dict[str, Tensor]:
    """Inputs of the exported graph, by name."""
    inputs = {"z": draw_latents(count, generator.z_dim, seed=0)}
    if generator.num_classes:
        inputs["labels"] = torch.arange(count) % generator.num_classes
    return inputs | {"truncation": torch.tensor([truncation])}  # in the order of the arguments of G's forward


def write_graph(
    module: nn.Module, inputs: dict[str, Tensor], path: Path, outputs: Sequence[str], fixed: Sequence[str] = ()
) -> None:
    """Traces a module into an ONNX file whose inputs (but for `fixed`) have a free first dimension.

    Raises:
        UserError: If a package is absent or the graph cannot be expressed.
    """
    require_onnx()
    from torch._dynamo.exc import TorchDynamoException

    decodes = any(isinstance(part, Decoder) for part in module.modules())
    batch = torch.export.Dim("batch", min=1, max=LARGEST_DECODED_BATCH if decodes else LARGEST_BATCH)
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
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def lower_precision(path: Path, precision: Precision) -> None:
    """Rewrites a float32 file in place."""
    if precision == "float16":
        import onnx
        from onnxruntime.transformers.float16 import convert_float_to_float16

        # Normalisations and positions stay float32: their squares and sines lose most.
        kept = ["LayerNormalization", "ReduceMean", "ReduceSum", "ReduceSumSquare", "Sqrt", "Reciprocal", "Pow", "Sin"]
        model = convert_float_to_float16(onnx.load(path), keep_io_types=True, op_block_list=kept)
        join_kept_operators(model)
        onnx.save(model, path)
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


def join_kept_operators(model: Any) -> None:
    """Hands float32 values from one operator that stayed float32 to the next as they are.

    The converter casts them to float16 and back in between, where the squares in a norm overflow from 256 on.
    """
    from onnx import TensorProto

    def target(node: Any) -> int | None:
        return next(a.i for a in node.attribute if a.name == "to") if node.op_type == "Cast" else None

    makers = {output: node for node in model.graph.node for output in node.output}
    for node in model.graph.node:
        for position, name in enumerate(node.input):
            back = makers.get(name)
            there = makers.get(back.input[0]) if back is not None and target(back) == TensorProto.FLOAT else None
            if there is not None and target(there) == TensorProto.FLOAT16:
                node.input[position] = there.input[0]
    for _ in range(2):  # the casts back, then those there, that nobody reads any more
        read = {name for node in model.graph.node for name in node.input} | {o.name for o in model.graph.output}
        unread = [node for node in model.graph.node if node.op_type == "Cast" and node.output[0] not in read]
        for node in unread:
            model.graph.node.remove(node)


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
    session = open_session(path)
    taken = {put.name for put in session.get_inputs()}
    plain = "truncation" in taken
    module, scale = ImageGraph(generator, as_bytes=not plain), 1.0 if plain else BYTE
    inputs, arrays, differences = {}, {}, []
    for psi in CHECKED_TRUNCATIONS if plain else CHECKED_TRUNCATIONS[:1]:
        inputs = {name: put for name, put in example_inputs(generator, CHECKED_IMAGES, psi).items() if name in taken}
        arrays = {name: tensor.numpy() for name, tensor in inputs.items()}
        images, expected = session.run(None, arrays)[0], module(**inputs).numpy()
        differences.append(np.abs(images * np.float32(scale) - expected * np.float32(scale)))
    return OnnxReport(
        path,
        path.stat().st_size / 1e6,
        float(np.max(differences)),
        float(np.mean(differences)),
        _rate(lambda: session.run(None, arrays)),
        _rate(lambda: module(**inputs)),
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
