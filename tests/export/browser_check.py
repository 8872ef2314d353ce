"""The page of any model in headless Chromium: equality with PyTorch, speed, screenshots.

`python tests/export/browser_check.py MODEL [--screenshots FOLDER]`; onnxruntime-web is taken from vitgan's cache, where the
first `vitgan export web` puts it. `test_page_in_browser.py` checks behaviour; this also measures, and prints.
"""

import argparse
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from browser import Page, running_page
from vitgan import load
from vitgan.data.download import cache_folder
from vitgan.errors import UserError
from vitgan.export.serve import make_server
from vitgan.export.web import export_web, find_runtime
from vitgan.models.generator import Generator

CHECKED_SEEDS, TIMED_IMAGES = 8, 64
SCREENS = {"web": (1280, 920, False), "web-tablet": (768, 1024, True), "web-phone": (390, 844, True)}


def main() -> None:
    """Exports, opens, compares, measures; ends with 1 if the page is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", help="a run, checkpoint or model folder, a bundled model's name or a Hub repository")
    parser.add_argument("--title", default="vitgan", help="of the page")
    parser.add_argument("--seed", type=int, help="of the image on the screenshots, in place of the page's first")
    parser.add_argument("--screenshots", type=Path, help="folder for web.png, web-tablet.png and web-phone.png")
    options = parser.parse_args()
    query = "" if options.seed is None else f"?seed={options.seed}"
    try:
        generator = load(options.model)
        with tempfile.TemporaryDirectory() as place:
            report = export_web(generator, Path(place) / "page", find_runtime(cache_folder()), options.title)
            print(f"{report.megabytes:.1f} MB in the folder")
            with make_server(generator, report.folder, port=0) as server, running_page() as page:
                threading.Thread(target=server.serve_forever, daemon=True).start()
                right = check(page, f"http://127.0.0.1:{server.server_port}/{query}", generator)
                if options.screenshots:
                    take_screenshots(page, options.screenshots)
                server.shutdown()
    except UserError as error:
        sys.exit(f"browser_check: {error}")
    sys.exit(0 if right else 1)


def check(page: Page, address: str, generator: Generator) -> bool:
    """Opens the page and prints what it finds."""
    page.open(address)
    page.wait_for("document.getElementById('status')?.textContent.startsWith('Seed')")
    print(f"first image {page.evaluate('performance.now()') / 1000:.2f} s after the page was opened")
    page.evaluate("vitgan.ready")
    largest, differing = 0.0, 0
    for seed in range(CHECKED_SEEDS):
        pixels = np.array(page.evaluate(f"vitgan.image({seed})"), np.float32)
        image = torch.from_numpy(pixels).view(1, generator.channels, generator.resolution, -1).clamp(-1, 1)
        expected = torch.cat([*generator.of_seeds([seed])])
        largest = max(largest, (image - expected).abs().max().item())
        bytes_of = [(x * 127.5 + 127.5).round() for x in (image, expected)]
        differing += int((bytes_of[0] != bytes_of[1]).sum())
    print(f"images in [-1, 1] differ from PyTorch's by at most {largest:.2g}; {differing} of their 8-bit values differ")
    rate = page.evaluate(f"""(async () => {{
        const start = performance.now();
        for (let seed = 0; seed < {TIMED_IMAGES}; seed++) await vitgan.image(seed);
        return {TIMED_IMAGES * 1000} / (performance.now() - start);
    }})()""")
    print(f"{rate:.0f} images/s one by one")
    foreign = [a for a in page.requested if not a.startswith((page.evaluate("location.origin"), "data:", "blob:"))]
    print(f"console: {page.problems or 'nothing'}; addresses outside its folder: {foreign or 'none'}")
    return largest < 1e-3 and not page.problems and not foreign


def take_screenshots(page: Page, folder: Path) -> None:
    """The page on a desktop's and on a phone's screen."""
    folder.mkdir(parents=True, exist_ok=True)
    page.call("Emulation.setScrollbarsHidden", hidden=True)
    for name, (width, height, mobile) in SCREENS.items():
        page.resize(width, height, mobile)
        page.wait_for("vitgan.idle()")
        page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        page.screenshot(folder / f"{name}.png")
        print(f"screenshot: {folder / name}.png")


if __name__ == "__main__":
    main()
