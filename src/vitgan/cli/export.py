"""`vitgan export KIND MODEL`: ONNX, a folder for the Hub, a static web page."""

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from pydantic.dataclasses import dataclass

from vitgan.cli.arguments import OutputFile, chosen_file, parse
from vitgan.commands import shell
from vitgan.errors import UserError
from vitgan.files import check_file
from vitgan.files.folders import check_folder


@dataclass
class Onnx:
    """What `onnx` takes.

    Attributes:
        model: A run, checkpoint or model folder, a bundled model's name, or a Hub repository user/name.
        precision: float32; float16 (half the file); int8 (weights of matrix products, quantised dynamically).
        out: The file; by default generator.onnx.
    """

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    precision: Literal["float32", "float16", "int8"] = "float32"
    out: OutputFile | None = None


def onnx(options: Onnx) -> None:
    """One ONNX file, checked against PyTorch under onnxruntime.

    example: vitgan export onnx runs/00000-quickstart --precision float16 --out generator.onnx

    Inputs are z (B, z_dim), truncation (1,) and, for conditional models, labels (B,).
    """
    from vitgan.export.onnx import export_onnx, require_onnx
    from vitgan.pretrained.generators import load

    out = check_file(chosen_file(options.out, "generator.onnx"), ending=".onnx")
    require_onnx()
    generator = load(options.model)
    print("exporting, then comparing with PyTorch: some seconds", file=sys.stderr)
    report = export_onnx(generator, out, options.precision)
    print(f"{options.precision}, {report.megabytes:.1f} MB: {report.path}")
    print(
        f"images in [-1, 1] differ from PyTorch's by at most {report.largest_difference:.2g}, "
        f"{report.mean_difference:.2g} on average"
    )
    print(
        f"{report.images_per_second:,.0f} images/s under onnxruntime, {report.torch_images_per_second:,.0f} in PyTorch"
    )


@dataclass
class Hub:
    """What `hub` takes.

    Attributes:
        model: A run, checkpoint or model folder, a bundled model's name, or a Hub repository user/name.
        figures: What `vitgan evaluate --json` wrote, for the card.
        title: Of the card; default the folder's name.
        about: Sentences for the card: what the images show, where the data is from, what the model cannot do.
        storage: float16 halves the file of weights; it is loaded as float32.
        name: What the card tells `vitgan.load` to open; default the repository of --push, else a path.
        networks: Also hand on G and D as they were trained, so that others can train from there (`--init-from`).
        push: Also upload it to this Hub repository (user/name), private until you publish it.
        out: The folder; it must be new, empty, or a model folder as it was written.
    """

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    figures: Path | None = None
    title: str = ""
    about: str = ""
    storage: Literal["float32", "float16"] = "float32"
    name: str = ""
    networks: bool = False
    push: str | None = None
    out: Path = Path("model")


def hub(options: Hub) -> None:
    """A folder with weights, configuration, sample grid and model card.

    example: vitgan export hub runs/00000-quickstart --figures fid.json --out my-model
    """
    from vitgan.pretrained.generators import MODEL_FOLDER, locate
    from vitgan.pretrained.hub import HubModel, check_push, read_figures
    from vitgan.runs.provenance import provenance

    check_folder(options.out, MODEL_FOLDER)
    figures = read_figures(options.figures) if options.figures else None
    if options.push:
        check_push(options.push)
    weights, _ = locate(options.model)
    model = HubModel.from_pretrained(
        options.model,
        figures=figures,
        title=options.title,
        name=options.name or options.push or "",
        trained=provenance(weights.parent),
        about=options.about,
        storage=options.storage,
        networks_of=weights.parent if options.networks else None,
    )
    print(f"weights, configuration, samples and card: {model.save(options.out)}")
    if options.push:
        model.push(options.push)
        print(f"pushed to {options.push}")


@dataclass
class Web:
    """What `web` takes.

    Attributes:
        model: A run, checkpoint or model folder, a bundled model's name, or a Hub repository user/name.
        runtime: Folder `dist` of the npm package onnxruntime-web; by default it is fetched once with npm and cached.
        title: Of the page; default the model's name.
        out: The folder; it must be new, empty, or an earlier page as it was written.
    """

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    runtime: Path | None = None
    title: str = ""
    out: Path = Path("web")


def web(options: Web) -> None:
    """One static folder that generates in the browser, from any web server.

    example: vitgan export web runs/00000-quickstart --out web
    """
    from vitgan.data.download import cache_folder
    from vitgan.export.onnx import require_onnx
    from vitgan.export.web import WEB_PAGE, export_web, find_runtime
    from vitgan.pretrained.generators import load

    check_folder(options.out, WEB_PAGE)
    require_onnx()
    generator = load(options.model)
    runtime = find_runtime(cache_folder(), options.runtime)
    print("exporting, then comparing with PyTorch: some seconds", file=sys.stderr)
    title = options.title or Path(options.model).resolve().name
    report = export_web(generator, options.out, runtime, title)
    print(f"{report.megabytes:.1f} MB: {report.folder}")
    print(f"images in [-1, 1] differ from PyTorch's by at most {report.largest_difference:.2g}")
    print(f"look at it: {shell('python', '-m', 'http.server', '--bind', '127.0.0.1', '--directory', report.folder)}")


KINDS: dict[str, tuple[type, Callable[[Any], None]]] = {"onnx": (Onnx, onnx), "hub": (Hub, hub), "web": (Web, web)}


def main(arguments: list[str]) -> None:
    """Runs `vitgan export KIND ARGUMENTS`.

    Raises:
        UserError: If there is no such kind, or the export says so.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return
    if arguments[0] not in KINDS:
        raise UserError(f"cannot export {arguments[0]!r}: choose {', '.join(KINDS)} (`vitgan export --help`)")
    options, run = KINDS[arguments[0]]
    run(parse(options, arguments[1:], f"vitgan export {arguments[0]}", inspect.cleandoc(run.__doc__ or "")))


def usage() -> str:
    """The text of `vitgan export --help`."""
    rows = "\n".join(f"  {name:<6} {(run.__doc__ or '').splitlines()[0]}" for name, (_, run) in KINDS.items())
    return (
        f"usage: vitgan export KIND MODEL ...\n\nHands a trained generator on:\n{rows}\n\n"
        "example:\n  vitgan export web runs/00000-quickstart --out web\n\n"
        "`vitgan export KIND --help` shows what it takes."
    )
