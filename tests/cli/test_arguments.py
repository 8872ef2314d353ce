from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vitgan
from generators import make
from refusals import refused
from tiny import newest, tiny_run
from vitgan.cli.arguments import Usual, check_different, check_usual_folder
from vitgan.cli.main import dispatch
from vitgan.pretrained.generators import save


def test_one_place_is_not_for_two_things(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("link.png").symlink_to("photo.png")
    Path("circle.png").symlink_to("circle.png")
    check_different(Path("photo.png"), Path("photo.png"), None, out=Path("out.png"), styles_out=None)
    check_different(Path("circle.png"), out=Path("out.png"))
    for out in (Path("photo.png"), tmp_path / "photo.png", Path("link.png"), Path("nowhere/../photo.png")):
        with refused("out", out, parameter="out"):
            check_different(Path("photo.png"), out=out)
        with refused("one", "other", out, parameter="other"):
            check_different(one=Path("photo.png"), other=out)


@pytest.mark.parametrize(
    ("option", "file"), [("out", "photo.png"), ("video_out", "photo.webp"), ("styles_out", "m/model.safetensors")]
)
def test_invert_replaces_neither_its_photo_nor_its_model(tmp_path: Path, option: str, file: str) -> None:
    model, photo = save(make("vit"), tmp_path / "m"), tmp_path / "photo.png"
    if file.startswith("photo"):
        photo = tmp_path / file
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(photo)
    before = (tmp_path / file).read_bytes()
    words = ["explore", "invert", str(model), str(photo), "--steps", "1", "--out", str(tmp_path / "out.png")]
    with refused(tmp_path / file, option, parameter=option):
        dispatch([*words, f"--{option.replace('_', '-')}", str(tmp_path / file)])
    assert (tmp_path / file).read_bytes() == before
    assert not (tmp_path / "out.png").exists()


def test_invert_does_not_replace_the_weights_of_a_checkpoint(store: str, tmp_path: Path) -> None:
    run, photo = vitgan.train(tiny_run(store, total_kimg=0.004), tmp_path / "runs"), tmp_path / "photo.png"
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(photo)
    weights = newest(run) / "generator_ema.safetensors"
    before = weights.read_bytes()
    with refused(weights, parameter="styles_out"):
        dispatch(["explore", "invert", str(run), str(photo), "--steps", "1", "--styles-out", str(weights)])
    assert weights.read_bytes() == before


def test_a_usual_folder_is_new_or_empty(tmp_path: Path) -> None:
    assert check_usual_folder(Usual(tmp_path / "new")) == tmp_path / "new"
    assert check_usual_folder(Usual(tmp_path)) == tmp_path
    (tmp_path / "notes").write_text("mine")
    assert check_usual_folder(tmp_path) == tmp_path
    with refused(tmp_path, parameter="out"):
        check_usual_folder(Usual(tmp_path))


@pytest.mark.parametrize("read", ["images.npz", "small.json"])
def test_evaluate_replaces_nothing_that_it_reads(tmp_path: Path, read: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(read).write_text("mine")
    with refused("json", read, parameter="json"):
        dispatch(["evaluate", "images.npz", "--protocol", "small.json", "--json", read])
    assert Path(read).read_text() == "mine"
