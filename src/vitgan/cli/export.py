"""`vitgan export KIND MODEL`: ONNX, a folder for the Hub, a static web page."""

import sys
from pathlib import Path
from typing import Literal

from vitgan.cli.arguments import Model, OnnxFile, OutputFolder, Usual, check_different, open_model
from vitgan.cli.parsing import Group
from vitgan.errors import escaped, shell
from vitgan.files.folders import check_folder


def onnx(
    model: Model,
    precision: Literal["float32", "float16", "int8"] = "float32",
    interface: Literal["vitgan", "torch-fidelity"] = "vitgan",
    out: OnnxFile = Usual("generator.onnx"),
) -> None:
    """Writes one ONNX file, and checks that onnxruntime makes PyTorch's images.

    Inputs: z (B, z_dim), truncation (1,), and for a conditional model labels (B,).

    example: vitgan export onnx runs/00000-quickstart --precision float16

    Args:
        precision: float32; float16 (half the file); int8 (a quarter; the matrices are quantised, and images change).
        interface: torch-fidelity: z alone (and labels), images in uint8.
        out: File to write.
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
    licence: str = "",
    datasets: tuple[str, ...] = (),
    storage: Literal["float32", "float16"] = "float32",
    name: str = "",
    networks: bool = False,
    push: str | None = None,
    out: OutputFolder = Usual("model"),
) -> None:
    """Writes a folder with weights, configuration, sample grid and model card.

    example: vitgan export hub runs/00000-quickstart --metrics fid.json --out mine

    Args:
        metrics: File that `vitgan evaluate --json` wrote, for the card.
        title: Title of the card; by default an earlier card's, else the folder's name.
        about: Sentences for the card: what the images show, where the data is from, what the model cannot do.
        licence: Of the weights, as the Hub names it, e.g. mit.
        datasets: The Hub's names of the data sets that the model was trained on.
        storage: float16 halves the file of weights; it is loaded as float32.
        name: Name that the card's example gives to `vitgan.load`; by default the repository of --push, or a path.
        networks: Also write G and D as they were trained. Others can then train on (`--init-from`).
        push: Also upload the folder to this Hub repository (user/name). It is private until you publish it.
        out: Folder to write. It must be new, empty, or another unchanged model folder.
    """
    from vitgan.pretrained.generators import MODEL_FOLDER, locate, weights_digest
    from vitgan.pretrained.hub import HubModel, check_push, read_metrics
    from vitgan.runs.provenance import provenance

    check_folder(out, MODEL_FOLDER)
    read = read_metrics(metrics) if metrics else None
    if push:
        check_push(push)
    place = locate(model, networks=networks)[0].parent  # once: a run that trains may have a newer checkpoint soon
    check_different(place, out=out)
    made = HubModel.from_pretrained(
        place,
        metrics=read,
        title=title,
        name=name or push or "",
        trained=provenance(place),
        about=about,
        licence=licence,
        datasets=datasets,
        storage=storage,
        networks_of=place if networks else None,
    )
    if read is not None and read.get("weights_sha256") != weights_digest(made.generator):
        measured = escaped(str(read.get("source")))
        print(f"vitgan: these are metrics of {measured}, of other weights than those of {place} today", file=sys.stderr)
    print(f"weights, configuration, samples and card: {made.save(out)}")
    if push:
        made.push(push)
        print(f"pushed to {push}")


def web(model: Model, runtime: Path | None = None, title: str = "", out: OutputFolder = Usual("web")) -> None:
    """Writes a folder for any web server: a page that makes images in the browser.

    example: vitgan export web runs/00000-quickstart --out web

    Args:
        runtime: Folder `dist` of the npm package onnxruntime-web; by default it is fetched once with npm and cached.
        title: Title of the page; by default the model's name.
        out: Folder to write. It must be new, empty, or an unchanged earlier page.
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


export = Group("Hands a trained generator on.", {"onnx": onnx, "hub": hub, "web": web})
