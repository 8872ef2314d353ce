"""`vitgan serve MODEL`: the web page and a small endpoint, on this machine only."""

import sys
import tempfile
from pathlib import Path
from typing import Annotated

import tyro
from pydantic import Field
from pydantic.dataclasses import dataclass

from vitgan.cli.arguments import parse

DESCRIPTION = """Serves the page of a generator, and PNGs for scripts, on 127.0.0.1.

example: vitgan serve runs/00000-quickstart --port 8000
         curl -o image.png "http://127.0.0.1:8000/api/image.png?seed=3&count=16&truncation=0.7"
"""


@dataclass
class Arguments:
    """What to serve.

    Attributes:
        model: A run, checkpoint or model folder, a bundled model's name, or a Hub repository user/name.
        port: On 127.0.0.1; 0 takes a free one.
        page: Serve the page too, not the endpoint alone.
        runtime: Folder `dist` of the npm package onnxruntime-web; by default it is fetched once with npm and cached.
    """

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    port: Annotated[int, Field(ge=0, le=65_535)] = 8000
    page: bool = True
    runtime: Path | None = None


def main(arguments: list[str]) -> None:
    """Runs `vitgan serve ARGUMENTS` until it is interrupted."""
    options = parse(Arguments, arguments, "vitgan serve", DESCRIPTION)
    from vitgan.data.download import cache_folder
    from vitgan.export.onnx import require_onnx
    from vitgan.export.serve import make_server
    from vitgan.export.web import export_web, find_runtime
    from vitgan.pretrained.generators import load

    if options.page:
        require_onnx()
    generator = load(options.model)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "web" if options.page else None
        with make_server(
            generator, folder, options.port
        ) as server:  # a port that is taken is known before the page is made
            if folder is not None:
                print("preparing the page: some seconds", file=sys.stderr, flush=True)
                runtime = find_runtime(cache_folder(), options.runtime)
                export_web(generator, folder, runtime, Path(options.model).resolve().name)
            print(f"serving on http://127.0.0.1:{server.server_port}/ (Ctrl-C ends it)", flush=True)
            server.serve_forever()
