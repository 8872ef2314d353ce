import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from generators import KINDS, make
from vitgan.cli.explore import WAYS, main
from vitgan.cli.explore_pixels import spread_queries
from vitgan.errors import UserError
from vitgan.models.build import GeneratorSpec
from vitgan.pretrained.generators import load, save


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("explore") / "model"
    return str(save(make("vit"), GeneratorSpec(resolution=16, generator=KINDS["vit"]), folder))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mix", "--early 0 1 --late 2 3"),
        ("truncate", "--seeds 0 1 --psis 0 1"),
        ("directions", "--count 2 --amounts -1 0 1"),
        ("zoom", "--seeds 0 --factors 2"),
        ("attention", "--seed 1"),
        ("interpolate", "--seeds 0 1 --steps 3"),
    ],
)
def test_pictures(model: str, tmp_path: Path, name: str, options: str) -> None:
    out = tmp_path / "new" / "out.png"
    main([name, model, *options.split(), "--out", str(out)])
    with Image.open(out) as image:
        assert image.width > 64
        assert np.asarray(image).std() > 5
    first = out.read_bytes()
    main([name, model, *options.split(), "--out", str(out)])
    assert out.read_bytes() == first  # same seeds, same file


def test_animations(model: str, tmp_path: Path) -> None:
    main(["interpolate", model, "--seeds", "0", "1", "--steps", "3", "--size", "32", "--out", str(tmp_path / "a.gif")])
    main(["zoom", model, "--frames", "4", "--size", "32", "--out", str(tmp_path / "z.webp")])
    for name, frames in (("a.gif", 6), ("z.webp", 4)):
        with Image.open(tmp_path / name) as animation:
            assert (animation.size, getattr(animation, "n_frames", 1)) == ((32, 32), frames)


def test_invert_writes_styles_whose_image_is_the_result(model: str, tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    main(["interpolate", model, "--seeds", "5", "6", "--steps", "1", "--out", str(photo)])
    out = tmp_path / "out.png"
    found = tmp_path / "found.safetensors"
    main(["invert", model, str(photo), "--steps", "2", "--out", str(out), "--styles-out", str(found)])
    styles = load_file(found)["styles"]
    image = load(model).synthesis(styles)[0].clamp(-1, 1)
    with Image.open(out) as sheet:
        pixels = np.asarray(sheet).astype(int)
    enlarged = (image.permute(1, 2, 0).numpy() * 127.5 + 127.5).repeat(16, axis=0).repeat(16, axis=1)
    assert np.abs(pixels[-260:-4, -260:-4] - enlarged).max() <= 1


@pytest.mark.parametrize("name", WAYS)
def test_help_shows_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    assert end.value.code == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert re.search(rf"vitgan explore {name} (runs/|fashion-mnist )", shown)
    assert "PATH (default" not in shown  # every option is described


def test_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    shown = capsys.readouterr().out
    assert all(name in shown for name in WAYS)
    assert "example" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["zom"], "did you mean 'zoom'"),
        (["mix", "nowhere"], "no model or run at nowhere"),
        (["zoom", "MODEL", "--factors", "0"], "at least 1"),
        (["zoom", "MODEL", "--largest", "nan"], "--largest"),
        (["zoom", "MODEL", "--largest", "0"], "at least 1"),
        (["zoom", "MODEL", "--centre", "nan", "2"], "--centre"),
        (["zoom", "MODEL", "--frames", "10000", "--size", "4096", "--out", "a.gif"], "too large"),
        (["interpolate", "MODEL", "--size", "0"], "at least 8"),
        (["interpolate", "MODEL", "--frames-per-second", "0"], "--frames-per-second"),
        (["interpolate", "MODEL", "--truncation", "1e308"], "at most"),
        (["truncate", "MODEL", "--psis", "1", "nan"], "--psis"),
        (["directions", "MODEL", "--amounts", "inf"], "--amounts"),
        (["directions", "MODEL", "--count", "0"], "at least 1"),
        (["invert", "MODEL", "MODEL", "--perceptual-weight", "nan"], "--perceptual-weight"),
        (["invert", "MODEL", "MODEL", "--styles-out", "a.png"], r"\.safetensors"),
        (["mix", "MODEL", "--out", "."], "folder"),
        (["mix", "MODEL", "--layers-out", "a"], "ending"),
        (["attention", "MODEL", "--discriminator-out", "d.png"], "no discriminator"),
        (["grow", "MODEL", "--count", "0"], "at least 1"),
        (["interpolate", "MODEL", "--out", "a.avi"], r"\.gif"),
        (["interpolate", "MODEL", "--label", "1"], "unconditional"),
        (["attention", "MODEL", "--queries", "99"], "0 to 15"),
        (["invert", "MODEL", "nowhere.png"], "cannot read the photo"),
        (["invert", "MODEL"], "which photo"),
        (["mix", "MODEL", "--early", "-1"], "at least 0"),
        (["mix", "MODEL", "--device", "meta"], "cannot be used here"),
        (["mix", "MODEL", "--device", "abacus"], "cannot be used here"),
        (["directions", "MODEL", "--amounts"], "at least one"),
        (["zoom", "MODEL", "--frames", "0", "--out", "a.gif"], "at least 1"),
        (["grow", "MODEL"], "no whole checkpoints"),
        (["truncate", "MODEL", "--psi", "0"], "perhaps you meant --psis"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [model if a == "MODEL" else a for a in arguments]
    with pytest.raises(UserError, match=message) as error:
        main(given)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_pictures_that_nobody_named_replace_none(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the usual name nor one beside it."""
    monkeypatch.chdir(tmp_path)
    mine = ["mix.png", "truncate.png", "directions.png", "zoom.png", "attention.png", "interpolate.gif", "grow.gif"]
    beside = ["a-layers.png", "a-discriminator.png", "a.safetensors"]
    for name in (*mine, "invert.png", *beside):
        Path(name).write_text("mine")
    for name in mine:
        with pytest.raises(UserError, match="there already"):
            main([Path(name).stem, model])
    with pytest.raises(UserError, match="there already"):
        main(["invert", model, "a.safetensors"])
    main(["mix", model, "--early", "0", "--late", "1", "--out", "a.png"])
    main(["attention", model, "--out", "a.png"])
    main(["invert", model, "a.png", "--steps", "1", "--out", "a.png"])
    assert {Path(name).read_text() for name in (*mine, "invert.png", *beside)} == {"mine"}
    assert len(list(tmp_path.iterdir())) == len(mine) + 1 + len(beside) + 1


def test_queries_are_spread() -> None:
    assert spread_queries(16) == (10, 5, 6, 9, 10)
    assert len(set(spread_queries(64))) == 5
