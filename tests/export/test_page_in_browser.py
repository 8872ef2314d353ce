"""The exported page in a real browser; skipped where there is no Chromium or onnxruntime-web was not fetched yet.

`python tests/export/browser_check.py MODEL` does it with any model, prints how fast it is and takes screenshots.
"""

import importlib.util
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from browser import Page, find_chromium, running_page
from generators import VIT
from vitgan.data.download import cache_folder
from vitgan.errors import UserError
from vitgan.explore.latents import styles_of
from vitgan.explore.zoom import zoom
from vitgan.export.serve import make_server
from vitgan.export.web import RUNTIME_PACKAGE, ZOOM, export_web, find_runtime, typical_seeds
from vitgan.models.build import GeneratorSpec, build_generator
from vitgan.models.generator import Generator
from vitgan.models.vit_generator import ViTGeneratorConfig

NEEDED = ("websockets", "onnx", "onnxscript", "onnxruntime")
pytestmark = [
    pytest.mark.skipif(find_chromium() is None, reason="Chromium is not installed"),
    pytest.mark.skipif(any(importlib.util.find_spec(name) is None for name in NEEDED), reason="an extra is missing"),
]


def fetched_runtime() -> Path:
    """onnxruntime-web from the cache; a test fetches nothing."""
    folder = cache_folder() / RUNTIME_PACKAGE.replace("@", "-")
    if not folder.is_dir():
        pytest.skip(f"{RUNTIME_PACKAGE} is not in the cache: `vitgan export web` fetches it")
    try:
        return find_runtime(cache_folder())
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def generator() -> Generator:
    """Conditional, with an implicit decoder, and latents long enough to be PyTorch's in the browser."""
    config = ViTGeneratorConfig(**{**VIT, "z_dim": 24, "depth": 1, "mapping_layers": 1})
    made = build_generator(
        GeneratorSpec(resolution=16, num_classes=3, class_names=("ant", "0", "cat"), generator=config), seed=2
    )
    made.requires_grad_(False).eval().update_w_mean()
    return made


@pytest.fixture(scope="module")
def page(generator: Generator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    runtime = fetched_runtime()
    folder = export_web(generator, tmp_path_factory.mktemp("browser") / "page", runtime, title="Shirts & more").folder
    with make_server(generator, folder, port=0) as server, running_page() as tab:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            tab.open(f"http://127.0.0.1:{server.server_port}/")
            tab.wait_for("globalThis.vitgan !== undefined")
            tab.evaluate("vitgan.ready")
            yield tab
        finally:
            server.shutdown()
            thread.join()


def shown(page: Page) -> str:
    """The picture on the canvas, when nothing is being drawn."""
    page.wait_for("vitgan.idle()")
    return page.evaluate("document.getElementById('image').toDataURL()")


def set_control(page: Page, name: str, value: object) -> str:
    page.evaluate(f"""(() => {{
        const control = document.getElementById("{name}");
        if (control.type === "checkbox") control.checked = {str(bool(value)).lower()}; else control.value = "{value}";
        control.dispatchEvent(new Event("input", {{ bubbles: true }}));
    }})()""")
    return shown(page)


def test_images_equal_pytorchs(page: Page, generator: Generator) -> None:
    for seed, psi, label in ((0, 1.0, 0), (3, 0.7, 2), (4294967295, 1.2, 1), (5, 1.0, None)):
        asked = "null" if label is None else label
        pixels = np.array(page.evaluate(f"vitgan.image({seed}, {psi}, {asked})"), np.float32).reshape(3, 16, 16)
        labels = None if label is None else torch.tensor([label])
        expected = next(generator.of_seeds([seed], psi, labels))[0]
        torch.testing.assert_close(torch.from_numpy(pixels).clamp(-1, 1), expected, atol=1e-4, rtol=0)


def test_detail_equals_pytorchs(page: Page, generator: Generator) -> None:
    side = 16 * ZOOM
    pixels = np.array(page.evaluate("vitgan.image(3, 0.7, 2, true)"), np.float32).reshape(1, 3, side, side)
    styles = styles_of(generator, [3], 0.7, label=2)
    expected = zoom(generator, styles, ZOOM)
    torch.testing.assert_close(torch.from_numpy(pixels).clamp(-1, 1), expected, atol=1e-4, rtol=0)


def test_every_control_changes_the_image_and_back(page: Page) -> None:
    plain = set_control(page, "seed", 5)
    for name, value, back in (("seed", 6, 5), ("psi", 0.5, 1), ("class", 1, ""), ("zoom", True, False), ("mix", 1, 3)):
        assert set_control(page, name, value) != plain, name
        assert set_control(page, name, back) == plain, name
    blended = set_control(page, "blend", 50)
    assert blended != plain
    assert set_control(page, "second", 9) != blended
    assert set_control(page, "blend", 0) == plain


def test_seeds_and_classes_go_by_name(page: Page) -> None:
    set_control(page, "seed", 5)
    names = "[...document.getElementById('class').options].slice(1).map((option) => option.text)"
    assert page.evaluate(names) == ["ant", "0", "cat"]
    assert ", cat, " in page.evaluate("document.getElementById('status').textContent")


def test_the_gallery_is_of_typical_seeds_then_of_all(page: Page, generator: Generator) -> None:
    def gallery() -> list[str]:
        page.wait_for("vitgan.idle()")
        return page.evaluate("[...document.querySelectorAll('#gallery button')].map((one) => one.ariaLabel)")

    typical = typical_seeds(generator)
    assert gallery() == [f"Seed {seed}, {['ant', '0', 'cat'][seed % 3]}" for seed in typical]
    page.evaluate("document.getElementById('more').click()")
    assert gallery()[:2] == ["Seed 0, ant", "Seed 1, 0"]
    page.evaluate("document.getElementById('more').click()")
    assert gallery()[0] == f"Seed {len(typical)}, ant"
    page.evaluate("document.getElementById('back').click(), document.getElementById('back').click()")
    assert gallery()[0] == f"Seed {typical[0]}, ant"


def test_a_link_brings_back_the_image(page: Page) -> None:
    first = page.evaluate("location.href")
    changes = {"seed": 7, "second": 9, "psi": 0.65, "class": 2, "blend": 40, "mix": 1, "zoom": True}
    pictures = [set_control(page, name, value) for name, value in changes.items()]
    page.evaluate("document.getElementById('share').click()")
    link = page.evaluate("location.href")
    assert "class=cat" in link
    # A name comes first: "0" is the second class, and the first one's number.
    for address, name in ((f"{first}?seed=1&class=0", "0"), (f"{first}?seed=1&class=2", "cat"), (link, "cat")):
        page.evaluate("globalThis.left = true")
        page.open(address)
        page.wait_for("!globalThis.left && globalThis.vitgan !== undefined")
        page.evaluate("vitgan.ready")
        assert page.evaluate("document.getElementById('class').selectedOptions[0].text") == name
    assert shown(page) == pictures[-1]
    for name, value in {"psi": 1, "class": "", "blend": 0, "mix": 3, "zoom": False}.items():
        set_control(page, name, value)


def test_keys_and_buttons_move_the_seed(page: Page) -> None:
    plain = set_control(page, "seed", 5)
    page.evaluate("document.activeElement.blur()")
    page.press("ArrowRight")
    assert shown(page) != plain
    assert page.evaluate("document.getElementById('seed').value") == "6"
    page.evaluate("document.getElementById('previous').click()")
    assert shown(page) == plain


def test_a_picture_of_the_gallery_is_taken_and_seen(page: Page, generator: Generator) -> None:
    plain = set_control(page, "seed", 5)
    page.resize(390, 700, mobile=True)
    page.evaluate("document.querySelectorAll('#gallery button')[3].click()")
    assert shown(page) != plain
    assert page.evaluate("document.getElementById('seed').value") == str(typical_seeds(generator)[3])
    box = page.evaluate("(({top, bottom}) => [top, bottom])(document.getElementById('image').getBoundingClientRect())")
    assert box[0] >= -1
    assert box[1] <= 701
    page.resize(1280, 900)


def test_dragging_blends(page: Page) -> None:
    plain = set_control(page, "seed", 5)
    box = page.evaluate("(({x, y, width}) => [x, y, width])(document.getElementById('image').getBoundingClientRect())")
    x, y = box[0] + 0.75 * box[2], box[1] + 20
    page.call("Input.dispatchMouseEvent", type="mousePressed", x=x, y=y, button="left", clickCount=1)
    page.call("Input.dispatchMouseEvent", type="mouseReleased", x=x, y=y, button="left", clickCount=1)
    assert shown(page) != plain
    assert page.evaluate("document.getElementById('blend').value") == "75"
    assert set_control(page, "blend", 0) == plain


def test_all_of_it_is_on_a_phones_first_screen(page: Page) -> None:
    page.resize(390, 844, mobile=True)
    bottoms = page.evaluate(
        "['gallery', 'image', 'zoom-field', 'share'].map((id) => document.getElementById(id).getBoundingClientRect().bottom)"
    )
    assert all(0 < bottom <= 844 for bottom in bottoms)


@pytest.mark.parametrize(("width", "height", "mobile"), [(1280, 900, False), (390, 844, True), (320, 640, True)])
def test_nothing_overflows_the_screen(page: Page, width: int, height: int, mobile: bool) -> None:
    page.resize(width, height, mobile)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_no_problem_and_no_other_address(page: Page) -> None:
    """Last: it looks back on all that the tests above did."""
    origin = page.evaluate("location.origin")
    assert page.evaluate("document.title") == "Shirts & more"
    assert not page.problems
    assert page.requested
    assert all(address.startswith((origin, "data:", "blob:")) for address in page.requested)
