"""`vitgan sample` beyond the whole way on the command line (test_main): precision, labels, start-up."""

import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from generators import KINDS, make
from refusals import refused
from vitgan.cli.main import dispatch
from vitgan.files.folders import MARKER
from vitgan.metrics.image_sources import NpzImages
from vitgan.models.build import GeneratorSpec, build_generator
from vitgan.pretrained.generators import save


def main(arguments: list[str]) -> None:
    dispatch(["sample", *arguments])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("sample") / "model"
    names = ("ant", "bat", "cat")
    spec = GeneratorSpec(resolution=16, num_classes=3, class_names=names, generator=KINDS["vit"])
    return str(save(build_generator(spec, seed=1).eval().requires_grad_(False), folder))


def sampled(model: str, out: Path, *options: str) -> np.ndarray:
    main([model, "--count", "12", "--npz", str(out), *options])
    return np.load(out)["images"].astype(int)


def test_bf16_is_near_float32_and_not_the_default(model: str, tmp_path: Path) -> None:
    plain, bf16 = sampled(model, tmp_path / "a.npz"), sampled(model, tmp_path / "b.npz", "--precision", "bf16")
    assert np.array_equal(plain, sampled(model, tmp_path / "c.npz", "--precision", "float32"))
    assert 0 < np.abs(plain - bf16).mean() < 2


def test_the_batch_does_not_show(model: str, tmp_path: Path) -> None:
    plain = sampled(model, tmp_path / "a.npz")
    assert np.abs(plain - sampled(model, tmp_path / "b.npz", "--batch-size", "5")).max() <= 1


def test_a_label_makes_all_images_of_one_class(model: str, tmp_path: Path) -> None:
    every, one = sampled(model, tmp_path / "a.npz"), sampled(model, tmp_path / "b.npz", "--label", "1")
    same = [np.array_equal(x, y) for x, y in zip(every, one, strict=True)]
    assert same == [index % 3 == 1 for index in range(12)]
    assert np.array_equal(one, sampled(model, tmp_path / "c.npz", "--label", "bat"))


def test_a_seed_has_one_image_whatever_the_others_are(model: str, tmp_path: Path) -> None:
    main([model, "--seeds", "1,5,7-9", "--folder", str(tmp_path / "some")])
    main([model, "--seeds", "9", "0-8", "--batch-size", "3", "--folder", str(tmp_path / "all")])
    names = ["seed0001-bat.png", "seed0005-cat.png", "seed0007-bat.png", "seed0008-cat.png", "seed0009-ant.png"]
    assert sorted(p.name for p in (tmp_path / "some").glob("*.png")) == names
    assert len(list((tmp_path / "all").glob("*.png"))) == 10
    for name in names:
        some, others = (np.asarray(Image.open(tmp_path / folder / name)).astype(int) for folder in ("some", "all"))
        assert np.abs(some - others).max() <= 1
    main([model, "--count", "1", "--seed", "7", "--label", "1", "--folder", str(tmp_path / "one")])
    one = np.asarray(Image.open(tmp_path / "one" / "000000-bat.png")).astype(int)
    assert np.abs(one - np.asarray(Image.open(tmp_path / "some" / "seed0007-bat.png")).astype(int)).max() <= 1


@pytest.mark.parametrize(
    ("options", "parameter"),
    [
        ("--count 0", "count"),
        ("--count x", "count"),
        ("--count", "count"),
        ("--coun 3", "count"),
        ("--batch-size 0", "batch_size"),
        ("--enlarge 0", "enlarge"),
        ("--enlarge 2 --npz a.npz", "enlarge"),
        ("--captions --npz a.npz", "captions"),
        ("--enlarge 100000", "enlarge"),
        ("--seed -1", "seed"),
        ("--seed 9223372036854775808", "seed"),
        ("--seeds 1,,2", "seeds"),
        ("--seeds 3-1", "seeds"),
        ("--seeds -1", "seeds"),
        ("--seeds 9223372036854775808", "seeds"),
        ("--seeds 0-999999999999", "seeds"),
        ("--seeds 1,1", "seeds"),
        ("--seeds 1 --count 2", "count"),
        ("--seeds 1 --seed 2", "seed"),
        ("--truncation nan", "truncation"),
        ("--truncation 1e308", "truncation"),
        ("--truncation -inf", "truncation"),
        ("--count 999999999999", "count"),
        ("--count 250000 --enlarge 64 --grid g.png", None),
        ("--grid g", None),
        ("--grid .", None),
        ("--grid g.npz --npz g.npz", None),
        ("--folder s --grid s/g.png", "folder"),
        ("--npz /dev/null", None),
        ("--npz a.npy", None),
        ("--grid /proc/nowhere/g.png", None),
        ("--folder /proc/nowhere", None),
        ("--label 3", "label"),
        ("--label x", "label"),
        ("--device abacus", "device"),
        ("--device meta", "device"),
        ("--device ''", "device"),
        ("--precision float8", "precision"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: str, parameter: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    with refused(parameter=parameter):
        main([model, *shlex.split(options)])
    assert list(tmp_path.iterdir()) == []


NAMES = ["000000-ant.png", "000001-bat.png", "000002-cat.png", "000003-ant.png", "000004-bat.png"]


def test_classes_stand_beside_the_images_of_an_npz(model: str, tmp_path: Path) -> None:
    main([model, "--seeds", "2,4", "--npz", str(tmp_path / "a.npz")])
    with np.load(tmp_path / "a.npz") as arrays:
        assert arrays["class_names"][arrays["labels"]].tolist() == ["cat", "bat"]
    assert len(NpzImages(tmp_path / "a.npz")) == 2


def test_class_names_make_no_paths(tmp_path: Path) -> None:
    spec = GeneratorSpec(
        resolution=16, num_classes=2, class_names=("../up", "café & Co" + "é" * 200), generator=KINDS["vit"]
    )
    model = save(build_generator(spec, seed=1).eval().requires_grad_(False), tmp_path / "m")
    main([str(model), "--count", "2", "--folder", str(tmp_path / "s")])
    assert sorted(p.name for p in (tmp_path / "s").glob("*.png")) == [
        "000000-_up.png",
        "000001-café_Co" + "é" * 33 + ".png",
    ]


def test_seeds_stand_below_the_images_of_a_grid(model: str, tmp_path: Path) -> None:
    options = ["--seeds", "3,14", "--enlarge", "4"]
    main([model, *options, "--grid", str(tmp_path / "plain.png")])
    main([model, *options, "--captions", "--grid", str(tmp_path / "named.png")])
    plain, named = (np.asarray(Image.open(tmp_path / name).convert("L")) for name in ("plain.png", "named.png"))
    assert plain.shape == (64, 128)
    assert named.shape[1] == 128
    assert np.array_equal(named[:64], plain)
    left, right = named[64:, :64] < 128, named[64:, 64:] < 128
    assert 0 < left.sum() < right.sum()  # a digit, and two


def test_a_second_set_of_images_takes_the_place_of_the_first(model: str, tmp_path: Path) -> None:
    for count in (5, 3):
        main([model, "--count", str(count), "--folder", str(tmp_path / "s")])
        assert sorted(p.name for p in (tmp_path / "s").glob("*.png")) == NAMES[:count]
    assert [p.name for p in tmp_path.iterdir()] == ["s"]


def test_other_images_are_left_alone(model: str, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "000000.png").write_bytes(b"mine")
    with refused(tmp_path / "s", MARKER):
        main([model, "--count", "2", "--folder", str(tmp_path / "s")])
    assert [(p.name, p.read_bytes()) for p in (tmp_path / "s").iterdir()] == [("000000.png", b"mine")]


def test_a_picture_that_nobody_named_replaces_none(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    main([model, "--count", "1"])
    first = Path("samples.png").read_bytes()
    with refused(parameter="grid"):
        main([model, "--count", "4"])
    assert Path("samples.png").read_bytes() == first
    main([model, "--count", "4", "--grid", "samples.png"])
    assert Path("samples.png").read_bytes() != first


@pytest.mark.parametrize(("num_classes", "words", "expected"), [(10, [], 60), (10, ["--count", "64"], 64), (0, [], 64)])
def test_how_many_images_there_are_unless_somebody_says(tmp_path: Path, num_classes: int, words, expected: int) -> None:
    model = save(make("vit", num_classes=num_classes), tmp_path / "model")
    main([str(model), *words, "--npz", str(tmp_path / "images.npz")])
    with np.load(tmp_path / "images.npz") as arrays:
        assert len(arrays["images"]) == expected
