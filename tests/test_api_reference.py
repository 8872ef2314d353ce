"""docs/api is what the docstrings say now."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

import vitgan

pytest.importorskip("griffe", reason="griffelib, of the extra dev, is not installed")
DOCS = Path(__file__).parent.parent / "docs"


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_reference", DOCS / "make_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages(maker: ModuleType) -> dict[str, str]:
    return maker.reference()


def test_the_pages_are_up_to_date(pages: dict[str, str]) -> None:
    written = {path.name: path.read_text(encoding="utf-8") for path in (DOCS / "api").glob("*.md")}
    stale = sorted(name for name in pages.keys() | written.keys() if pages.get(name) != written.get(name))
    assert not stale, f"run `python docs/make_reference.py`: {', '.join(stale)} differ from the docstrings"


def test_the_first_page_describes_every_public_name(pages: dict[str, str]) -> None:
    headings = re.findall(r"^## (\w+)$", pages["README.md"], re.MULTILINE)
    assert sorted(headings) == sorted(vitgan.__all__)


def test_links_lead_somewhere(pages: dict[str, str]) -> None:
    for name, text in pages.items():
        anchors = {re.sub(r"[^\w-]", "", h.lower()) for h in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            if link.startswith("#"):
                assert link[1:] in anchors, f"{name}: {link}"
            elif not link.startswith("http"):
                assert (DOCS / "api" / link).exists() or link in pages, f"{name}: {link}"


def test_every_part_of_a_docstring_arrives(pages: dict[str, str]) -> None:
    """`invert` has all of them: text, arguments, a return value, errors; a configuration has fields and defaults."""
    text = pages["explore.md"]
    start = text.index("### invert\n")
    section = text[start : text.index("\n### ", start + 1) if "\n### " in text[start + 1 :] else None]
    for said in ("def invert(", "Starts from the nearest", "- **steps**: Gradient steps.", "**Raises** `UserError`"):
        assert said in section
    assert "- **dim** (`int`) = `Field(default=384, ge=1)`: Width of a token." in pages["models.md"]
    assert "(frames, C, H, W), float32 in [-1, 1]; frame k · steps is" in text
