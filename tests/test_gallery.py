"""The gallery's script: every command that it shows is one that works, and its pictures are small."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from generators import make
from vitgan.cli.explore import explore
from vitgan.pretrained.generators import save

SCRIPT = Path(__file__).parent.parent / "docs" / "make_gallery.py"


@pytest.fixture
def gallery(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_gallery", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(gallery: ModuleType, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> object:
    monkeypatch.setattr(sys, "argv", ["make_gallery", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        gallery.main()
    return end.value.code


@pytest.mark.parametrize("kind", ["vit", "stylegan2"])
def test_pictures_stand_beside_their_commands(
    gallery: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    model = save(make(kind), tmp_path / "shirts")
    inexpensive = [p._replace(command=p.command.replace("--steps 200", "--steps 2")) for p in gallery.OF_EACH_MODEL]
    monkeypatch.setattr(gallery, "OF_EACH_MODEL", tuple(inexpensive))
    assert run(gallery, monkeypatch, model, "--docs", tmp_path / "docs") is None
    text = (tmp_path / "docs" / "gallery.md").read_text()
    shown = re.findall(r"!\[[^]]+\]\((\S+)\)", text)
    left_out = {"zoom.png", "zoom.webp", "attention.png"} if kind == "stylegan2" else set()
    assert {Path(name).name for name in shown} == {
        f"shirts-{picture.file}" for picture in gallery.OF_EACH_MODEL if picture.file not in left_out
    }
    assert sorted(p.name for p in (tmp_path / "docs" / "images" / "gallery").iterdir()) == sorted(
        Path(name).name for name in shown
    )
    for name in shown:
        with Image.open(tmp_path / "docs" / name) as image:
            assert image.width > 64
    assert len(re.findall("^vitgan ", text, re.MULTILINE)) == len(shown) + 1  # one for the photo that is inverted


def test_what_another_hand_made_is_not_overwritten(
    gallery: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("gallery.md", f"{gallery.PICTURES}/shirts-mix.png"):
        file = tmp_path / Path(name).stem / name
        file.parent.mkdir(parents=True)
        file.write_text("mine")
        end = run(gallery, monkeypatch, "shirts", "--docs", tmp_path / Path(name).stem)
        assert file.name in str(end)
        assert file.read_text() == "mine"
        assert [p for p in (tmp_path / Path(name).stem).rglob("*") if p.is_file()] == [file]


def test_all_ways_of_looking_are_in_it(gallery: ModuleType) -> None:
    commands = [picture.command for picture in (*gallery.OF_EACH_MODEL, gallery.OF_THE_RUN)]
    assert {command.split()[1] for command in commands if command.startswith("explore")} == set(explore.commands)


def test_pictures_that_are_too_large_are_named(gallery: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "small.png").write_bytes(bytes(1000))
    assert gallery.too_large(tmp_path) is None
    (tmp_path / "large.png").write_bytes(bytes(gallery.LARGEST_PICTURE + 1))
    assert "large.png" in gallery.too_large(tmp_path)


def test_without_models_it_says_what_to_do(gallery: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery, "bundled_models", dict)
    assert "--run" in str(run(gallery, monkeypatch))
