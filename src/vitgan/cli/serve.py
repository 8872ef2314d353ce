"""`vitgan serve MODEL`: the web page and a small endpoint, on this machine only."""

import signal
import sys
import tempfile
from pathlib import Path
from typing import Annotated

from pydantic import Field

from vitgan.cli.arguments import Model, check_useless, open_model


def serve(
    model: Model,
    port: Annotated[int, Field(ge=0, le=65_535)] = 8000,
    page: bool = True,
    runtime: Path | None = None,
) -> None:
    """Serves the page of a generator, and PNGs for scripts, on this machine.

    examples:
      vitgan serve runs/00000-quickstart --port 8000
      curl -o image.png "http://127.0.0.1:8000/api/image.png?seed=3&count=16"

    Args:
        port: On 127.0.0.1; 0 takes a free one.
        page: Serve the page too, not the endpoint alone.
        runtime: Folder `dist` of the npm package onnxruntime-web; by default it is fetched once with npm and cached.
    """
    from vitgan.data.download import cache_folder
    from vitgan.export.onnx import require_onnx
    from vitgan.export.serve import make_server
    from vitgan.export.web import export_web, find_runtime

    if page:
        require_onnx()
    else:
        check_useless(serve, "without the page", runtime=runtime)
    generator = open_model(model)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # else the page's folder would stay
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "web" if page else None
        # The server comes first: a port that is taken is known before the page is made.
        with make_server(generator, folder, port) as server:
            if folder is not None:
                print("preparing the page: some seconds", file=sys.stderr, flush=True)
                export_web(generator, folder, find_runtime(cache_folder(), runtime), Path(model).resolve().name)
            print(f"serving on http://127.0.0.1:{server.server_port}/ (Ctrl-C ends it)", flush=True)
            server.serve_forever()
