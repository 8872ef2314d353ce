"""`vitgan export KIND MODEL`: ONNX, a folder for the Hub, a static web page."""

import sys
from pathlib import Path
from typing import Literal

from vitgan.cli.arguments import Model, OnnxFile, Usual, open_model
from vitgan.cli.parsing import Group
from vitgan.commands import shell
from vitgan.files.folders import check_folder


def onnx(
    model: Model,
    precision: Literal["float32", "float16", "int8"] = "float32",
    interface: Literal["vitgan", "torch-fidelity"] = "vitgan",
    out: OnnxFile = Usual("generator.onnx"),
) -> None:
    """One ONNX file, checked against PyTorch under onnxruntime.

    Inputs: z (B, z_dim), truncation (1,), of a conditional model labels (B,) too.

    example: vitgan export onnx runs/00000-quickstart --precision float16

    Args:
        precision: float32; float16 (half the file); int8 (weights of matrix products, quantised dynamically).
        interface: torch-fidelity takes z alone (and labels), and images in uint8.
        out: The file.
    """
    from vitgan.export.onnx import export_onnx, require_onnx

    require_onnx()
    generator = open_model(model)
    print("exporting, then comparing with PyTorch: some seconds", file=sys.stderr)
    report = export_onnx(generator, out, precision, interface)
    print(f"{precision}, {report.megabytes:.1f} MB: {report.path}")
    print(
        f"images in [-1, 1] differ from PyTorch's by at most {report.largest_difference:.2g}, "
        f"{report.mean_difference:.2g} on average"
    )
    print(
        f"{report.images_per_second:,.0f} images/s under onnxruntime, {report.torch_images_per_second:,.0f} in PyTorch"
    )


def hub(
    model: Model,
    metrics: Path | None = None,
    title: str = "",
    about: str = "",
    storage: Literal["float32", "float16"] = "float32",
    name: str = "",
    networks: bool = False,
    push: str | None = None,
    out: Path = Path("model"),
) -> None:
    """A folder with weights, configuration, sample grid and model card.

    example: vitgan export hub runs/00000-quickstart --metrics fid.json --out mine

    Args:
        metrics: What `vitgan evaluate --json` wrote, for the card.
        title: Of the card; default the folder's name.
        about: Sentences for the card: what the images show, where the data is from, what the model cannot do.
        storage: float16 halves the file of weights; it is loaded as float32.
        name: What the card tells `vitgan.load` to open; default the repository of --push, else a path.
        networks: Also hand on G and D as they were trained, so that others can train from there (`--init-from`).
        push: Also upload it to this Hub repository (user/name), private until you publish it.
        out: The folder; it must be new, empty, or a model folder as it was written.
    """
    from vitgan.pretrained.generators import MODEL_FOLDER, locate
    from vitgan.pretrained.hub import HubModel, check_push, read_metrics
    from vitgan.runs.provenance import provenance

    check_folder(out, MODEL_FOLDER)
    read = read_metrics(metrics) if metrics else None
    if push:
        check_push(push)
    weights, _ = locate(model, networks=networks)
    made = HubModel.from_pretrained(
        model,
        metrics=read,
        title=title,
        name=name or push or "",
        trained=provenance(weights.parent),
        about=about,
        storage=storage,
        networks_of=weights.parent if networks else None,
    )
    print(f"weights, configuration, samples and card: {made.save(out)}")
    if push:
        made.push(push)
        print(f"pushed to {push}")


def web(model: Model, runtime: Path | None = None, title: str = "", out: Path = Path("web")) -> None:
    """One static folder that generates in the browser, from any web server.

    example: vitgan export web runs/00000-quickstart --out web

    Args:
        runtime: Folder `dist` of the npm package onnxruntime-web; by default it is fetched once with npm and cached.
        title: Of the page; default the model's name.
        out: The folder; it must be new, empty, or an earlier page as it was written.
    """
    from vitgan.data.download import cache_folder
    from vitgan.export.onnx import require_onnx
    from vitgan.export.web import WEB_PAGE, export_web, find_runtime

    check_folder(out, WEB_PAGE)
    require_onnx()
    generator = open_model(model)
    runtime = find_runtime(cache_folder(), runtime)
    print("exporting, then comparing with PyTorch: some seconds", file=sys.stderr)
    report = export_web(generator, out, runtime, title or Path(model).resolve().name)
    print(f"{report.megabytes:.1f} MB: {report.folder}")
    print(f"images in [-1, 1] differ from PyTorch's by at most {report.largest_difference:.2g}")
    print(f"look at it: {shell('python', '-m', 'http.server', '--bind', '127.0.0.1', '--directory', report.folder)}")


COMMAND = Group("Hands a trained generator on.", {"onnx": onnx, "hub": hub, "web": web})
