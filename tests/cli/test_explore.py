from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from generators import KINDS, make
from refusals import refused
from tiny import TINY_DISCRIMINATOR
from vitgan.cli.main import dispatch
from vitgan.errors import UserError
from vitgan.explore.attention import spread_queries
from vitgan.explore.latents import styles_of, write_styles
from vitgan.files import write_json
from vitgan.files.tensors import write_tensors
from vitgan.models.build import ModelConfig, build_discriminator
from vitgan.pretrained.generators import load, save
from vitgan.pretrained.names import NETWORKS, NETWORKS_CONFIG


def main(arguments: list[str]) -> None:
    dispatch(["explore", *arguments])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("explore") / "model"
    return str(save(make("vit"), folder))


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


@pytest.mark.parametrize("kind", ["vit", "scaled"])
def test_queries_are_asked_of_both_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    config = ModelConfig(resolution=16, generator=KINDS[kind], discriminator=TINY_DISCRIMINATOR)
    networks = nn.ModuleDict({"generator": make(kind), "discriminator": build_discriminator(config)})
    folder = save(make(kind), tmp_path / "model")
    write_tensors(folder / NETWORKS, networks.state_dict())
    write_json(folder / NETWORKS_CONFIG, config.model_dump(mode="json"))
    titles: list[Sequence[str]] = []
    monkeypatch.setattr(
        "vitgan.cli.explore.save_sheet", lambda path, rows, columns, rows_titles, **_: titles.append(rows_titles)
    )
    pictures = ["--out", str(tmp_path / "g.png"), "--discriminator-out", str(tmp_path / "d.png")]
    main(["attention", str(folder), "--queries", "2", "7", *pictures])
    assert titles == [["patch 2", "patch 7"], ["class token", "patch 2", "patch 7"]]


@pytest.mark.parametrize(("loop", "frames"), [("--loop", [3, 3]), ("--no-loop", [4])])
def test_a_strip_shows_the_walk_to_its_end(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loop: str, frames: list[int]
) -> None:
    shown: list[list[int]] = []
    monkeypatch.setattr(
        "vitgan.cli.explore.save_sheet", lambda path, rows, *_: shown.append([len(row) for row in rows])
    )
    main(["interpolate", model, "--seeds", "0,1", "--steps", "3", loop, "--out", str(tmp_path / "a.png")])
    assert shown == [frames]


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


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mix", "--early 0 FOUND --late 2 FOUND"),
        ("truncate", "--seeds FOUND --psis 0 1"),
        ("directions", "--seed FOUND --count 2 --amounts -1 0 1"),
        ("zoom", "--seeds FOUND --factors 2"),
        ("attention", "--seed FOUND"),
        ("interpolate", "--seeds 0,1 FOUND --steps 3 --space w"),
    ],
)
def test_found_styles_stand_in_a_seeds_place(model: str, tmp_path: Path, name: str, options: str) -> None:
    """The styles of seed 1 give the pictures of seed 1."""
    found, ours, seeds = tmp_path / "seed 1.safetensors", tmp_path / "found.png", tmp_path / "seeds.png"
    write_styles(found, load(model), styles_of(load(model), [1]))
    for out, one in ((ours, str(found)), (seeds, "1")):
        main([name, model, *[word.replace("FOUND", one) for word in options.split()], "--out", str(out)])
    assert ours.read_bytes() == seeds.read_bytes()


@pytest.mark.parametrize(
    "styles", [None, torch.zeros(2, 3, 12), torch.full((1, 3, 12), torch.nan), torch.zeros(1, 2, 12)]
)
def test_a_file_without_this_models_styles(model: str, tmp_path: Path, styles: torch.Tensor | None) -> None:
    file = tmp_path / "other.safetensors"
    if styles is None:
        write_tensors(file, {"weight": torch.zeros(1)})
    else:
        write_styles(file, load(model), styles)
    with pytest.raises(UserError):
        main(["truncate", model, "--seeds", "0", str(file), "--out", str(tmp_path / "a.png")])
    assert not (tmp_path / "a.png").exists()


WITH_STYLES = [
    ("mix", "--late"),
    ("truncate", "--seeds"),
    ("directions", "--seed"),
    ("zoom", "--seeds"),
    ("attention", "--seed"),
    ("interpolate", "--space w --seeds 0"),
]


@pytest.mark.parametrize(("name", "option"), WITH_STYLES)
def test_styles_of_another_model_are_refused(model: str, tmp_path: Path, name: str, option: str) -> None:
    """One of the same shapes, for whose weights they mean another picture."""
    photo, found, out = (tmp_path / file for file in ("photo.png", "found.safetensors", "out.png"))
    other = make("vit")
    with torch.no_grad():
        next(other.parameters()).mul_(1.01)
    another = str(save(other, tmp_path / "another"))
    main(["interpolate", another, "--seeds", "5", "6", "--steps", "1", "--out", str(photo)])
    search = f"--steps 1 --out {tmp_path / 'invert.png'} --styles-out {found}"
    main(["invert", another, str(photo), *search.split()])
    main([name, another, *option.split(), str(found), "--out", str(out)])
    out.unlink()
    with refused(found):
        main([name, model, *option.split(), str(found), "--out", str(out)])
    assert not out.exists()


@pytest.mark.parametrize("place", [0, -1])
@pytest.mark.parametrize("name", ["mix", "truncate", "directions", "zoom", "attention", "interpolate", "invert"])
def test_a_model_with_a_broken_weight_shows_nothing(tmp_path: Path, name: str, place: int) -> None:
    broken = make("vit")
    with torch.no_grad():
        [*broken.parameters()][place].view(-1)[0] = torch.nan
    model, photo, out = str(save(broken, tmp_path / "broken")), tmp_path / "photo.png", tmp_path / "out.png"
    Image.new("RGB", (16, 16), "red").save(photo)
    with refused():
        main([name, model, *([str(photo), "--steps", "2"] if name == "invert" else []), "--out", str(out)])
    assert not out.exists()


def test_mistakes_with_found_styles(model: str, tmp_path: Path) -> None:
    found = tmp_path / "found.safetensors"
    write_tensors(found, {"styles": styles_of(load(model), [1])})  # of nobody knows which model
    with refused(found):
        main(["mix", model, "--early", str(found), "--out", str(tmp_path / "a.png")])
    write_styles(found, load(model), styles_of(load(model), [1]))
    out = ["--out", str(tmp_path / "a.png")]
    with refused(tmp_path / "no.safetensors"):
        main(["mix", model, "--late", str(tmp_path / "no.safetensors"), *out])
    with refused(parameter="seed"):
        main(["attention", model, "--seed", "1-3", *out])
    with refused(parameter="label"):  # it would do nothing
        main(["mix", model, "--early", str(found), "--late", str(found), "--label", "1", *out])
    assert not (tmp_path / "a.png").exists()


def test_a_search_is_filmed_to_what_it_found(model: str, tmp_path: Path) -> None:
    photo, film, out = (tmp_path / name for name in ("photo.png", "film.webp", "out.png"))
    main(["interpolate", model, "--seeds", "5", "6", "--steps", "1", "--out", str(photo)])
    options = f"--steps 310 --perceptual-weight 0 --out {out} --video-out {film}"
    main(["invert", model, str(photo), *options.split()])
    with Image.open(film) as animation, Image.open(out) as sheet:
        # Of 310 steps every third, and a second of the end (WebP joins frames that are equal).
        assert 20 < getattr(animation, "n_frames", 1) <= 104 + 25
        first = np.asarray(animation.convert("RGB")).astype(int)
        animation.seek(getattr(animation, "n_frames", 1) - 1)
        last = np.asarray(animation.convert("RGB")).astype(int)
        found = np.asarray(sheet)[-last.shape[0] :].astype(int)
    assert np.abs(last - found).mean() < 5
    assert np.abs(first - last).mean() > 2 * np.abs(last - found).mean()


@pytest.mark.parametrize(
    ("arguments", "parameter"),
    [
        (["zom"], None),
        (["mix", "nowhere"], None),
        (["zoom", "MODEL", "--factors", "0"], "factors"),
        (["zoom", "MODEL", "--frames", "20"], "frames"),
        (["zoom", "MODEL", "--centre", "1", "1", "--out", "a.png"], "centre"),
        (["zoom", "MODEL", "--factors", "2", "--out", "a.gif"], "factors"),
        (["interpolate", "MODEL", "--size", "64", "--out", "a.png"], "size"),
        (["interpolate", "MODEL", "--frames-per-second", "9", "--out", "a.png"], "frames_per_second"),
        (["grow", "MODEL", "--frames-per-second", "9", "--out", "a.png"], "frames_per_second"),
        (["mix", "MODEL", "--layer", "9"], "layer"),
        (["zoom", "MODEL", "--largest", "nan"], "largest"),
        (["zoom", "MODEL", "--largest", "0"], "largest"),
        (["zoom", "MODEL", "--centre", "nan", "2"], "centre"),
        (["zoom", "MODEL", "--centre", "1"], "centre"),
        (["zoom", "MODEL", "--frames", "10000", "--size", "4096", "--out", "a.gif"], None),
        (["interpolate", "MODEL", "--size", "0"], "size"),
        (["interpolate", "MODEL", "--frames-per-second", "0"], "frames_per_second"),
        (["interpolate", "MODEL", "--frames-per-second", "60"], "frames_per_second"),
        (["grow", "MODEL", "--frames-per-second", "51", "--out", "a.gif"], "frames_per_second"),
        (["interpolate", "MODEL", "--truncation", "1e308"], "truncation"),
        (["truncate", "MODEL", "--psis", "1", "nan"], "psis"),
        (["directions", "MODEL", "--amounts", "inf"], "amounts"),
        (["directions", "MODEL", "--count", "0"], "count"),
        (["invert", "MODEL", "MODEL", "--perceptual-weight", "nan"], "perceptual_weight"),
        (["invert", "MODEL", "MODEL", "--styles-out", "a.png"], None),
        (["invert", "MODEL", "MODEL", "--video-out", "a.png"], "video_out"),
        (["mix", "MODEL", "--out", "."], None),
        (["mix", "MODEL", "--out", "a.png", "--layers-out", "./a.png"], "layers_out"),
        (["attention", "MODEL", "--out", "a.png", "--discriminator-out", "a.png"], "discriminator_out"),
        (["mix", "MODEL", "--layers-out", "a"], None),
        (["attention", "MODEL", "--discriminator-out", "d.png"], None),
        (["attention", "cifar10", "--discriminator-out", "d.png"], None),  # which has one, but no ViT
        (["grow", "MODEL", "--count", "0"], "count"),
        (["interpolate", "MODEL", "--out", "a.avi"], None),
        (["interpolate", "MODEL", "--label", "1"], None),
        (["attention", "MODEL", "--queries", "99"], "queries"),
        (["invert", "MODEL", "nowhere.png"], None),
        (["invert", "MODEL"], "photo"),
        (["mix", "MODEL", "--early", "-1"], "early"),
        (["mix", "MODEL", "--device", "meta"], "device"),
        (["mix", "MODEL", "--device", "abacus"], "device"),
        (["directions", "MODEL", "--amounts"], None),
        (["zoom", "MODEL", "--frames", "0", "--out", "a.gif"], "frames"),
        (["grow", "MODEL"], None),
        (["truncate", "MODEL", "--psi", "0"], "psis"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], parameter: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        main([model if a == "MODEL" else a for a in arguments])
    assert "\n" not in str(error.value)
    assert parameter in (None, error.value.parameter)
    assert list(tmp_path.iterdir()) == []


def test_pictures_that_nobody_named_replace_none(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the usual name nor one beside it."""
    monkeypatch.chdir(tmp_path)
    mine = ["mix.png", "truncate.png", "directions.png", "zoom.png", "attention.png", "interpolate.gif", "grow.gif"]
    beside = ["a-layers.png", "a-discriminator.png", "a.safetensors"]
    for name in (*mine, "invert.png", *beside):
        Path(name).write_text("mine")
    for name in mine:
        with pytest.raises(UserError) as error:
            main([Path(name).stem, model])
        assert error.value.parameter == "out"
    with pytest.raises(UserError) as error:
        main(["invert", model, "a.safetensors"])
    assert error.value.parameter == "out"
    main(["mix", model, "--early", "0", "--late", "1", "--out", "a.png"])
    main(["attention", model, "--out", "a.png"])
    main(["invert", model, "a.png", "--steps", "1", "--out", "b.png"])
    assert {Path(name).read_text() for name in (*mine, "invert.png", *beside)} == {"mine"}
    assert len(list(tmp_path.iterdir())) == len(mine) + 1 + len(beside) + 2


def test_queries_are_spread() -> None:
    assert spread_queries(16) == (10, 5, 6, 9)
    assert len(set(spread_queries(64))) == 5
