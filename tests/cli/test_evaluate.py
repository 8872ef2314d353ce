import io
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import vitgan
from refusals import refused
from tiny import TINY_GENERATOR, newest, tiny_run
from toy_features import toy_extractor
from vitgan.cli.main import dispatch
from vitgan.data.prepare import prepare
from vitgan.data.sources.folder import ImageFolder
from vitgan.data.store import ImageStore
from vitgan.data.writer import StoreWriter
from vitgan.errors import UserError
from vitgan.files.pictures import to_array
from vitgan.metrics import PROTOCOLS
from vitgan.models.build import GeneratorSpec, build_generator
from vitgan.models.vit_generator import ViTGeneratorConfig
from vitgan.pretrained.generators import load, save, weights_digest
from vitgan.runs.evaluation import measure
from vitgan.runs.sources import in_channels, notes_on_classes, open_images, open_reference

COUNT = 40


def main(arguments: list[str]) -> None:
    dispatch(["evaluate", *arguments])


def pixels(count: int, seed: int, side: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 3, side, side), dtype=np.uint8)


def write_store(path: Path, images: np.ndarray, **description: Any) -> None:
    with StoreWriter(path, resolution=images.shape[2], channels=3) as writer:
        writer.append(images)
        writer.finish(source="test", **description)


def png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store, a small protocol, and the same images as folder, zip, .npz and store."""
    place = tmp_path_factory.mktemp("evaluate")
    write_store(place / "real", pixels(50, seed=1))
    images = pixels(COUNT, seed=2)
    write_store(place / "store", images)
    np.savez(place / "images.npz", images=images.transpose(0, 2, 3, 1))
    (place / "folder").mkdir()
    with zipfile.ZipFile(place / "images.zip", "w") as archive:
        for index, image in enumerate(images):
            (place / "folder" / f"{index}.png").write_bytes(png(image))
            archive.writestr(f"{index}.png", png(image))
    protocol = {"name": "small", "purpose": "test", "features": "lite0", "generated_images": COUNT}
    protocol |= {"least_store_images": 20, "splits": 2, "kernel_subsets": 2, "manifold_images": 20}
    (place / "small.json").write_text(json.dumps(protocol))
    sizes = ViTGeneratorConfig(
        patch_size=4, dim=16, depth=1, num_heads=2, z_dim=8, w_dim=8, mapping_layers=1, inr_dim=8
    )
    spec = GeneratorSpec(resolution=8, generator=sizes)
    save(build_generator(spec, seed=0), place / "model")
    return place


@pytest.fixture
def toy_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """Features that cost nothing, for what does not depend on them."""
    monkeypatch.setattr("vitgan.runs.evaluation.load_extractor", lambda name, *_, **__: toy_extractor(name))


def measured(place: Path, source: str, *options: str) -> dict[str, Any]:
    file = place / f"{source}.result.json"
    common = ["--data", str(place / "real"), "--protocol", str(place / "small.json"), "--json", str(file)]
    main([str(place / source), *common, *options])
    return json.loads(file.read_text())


def test_all_homes_of_images_hold_the_same(place: Path) -> None:
    for name in ("folder", "images.zip", "images.npz", "store"):
        source = open_images(place / name)
        assert len(source) == COUNT
        assert np.array_equal(torch.cat(list(source.batches(np.arange(COUNT)))).numpy(), pixels(COUNT, seed=2)), name


def awkward_files(folder: Path) -> None:
    """Images that decoders differ on: EXIF rotation, transparency, a palette, 16 bits, grey, JPEG, an odd suffix."""
    folder.mkdir()
    for index, image in enumerate(pixels(8, seed=3)):
        picture = Image.fromarray(image.transpose(1, 2, 0))
        exif = Image.Exif()
        exif[0x0112] = index + 1
        picture.save(folder / f"{index}.exif.jpg", exif=exif)
        layer = picture.copy()
        layer.putalpha(Image.fromarray(image[0]))
        layer.save(folder / f"{index}.alpha.png")
        picture.quantize(7).save(folder / f"{index}.palette.gif")
        picture.convert("L").save(folder / f"{index}.grey.pgm")
        Image.fromarray(image[1].astype(np.uint16) * 257).save(folder / f"{index}.deep.png")


@pytest.mark.parametrize("channels", [1, 3])
def test_files_are_decoded_as_the_store_of_them_was(tmp_path: Path, channels: int) -> None:
    awkward_files(tmp_path / "in")
    source = ImageFolder(tmp_path / "in")
    store = prepare(source, tmp_path / "store", resolution=8, channels=channels, background="#204060", workers=0)
    images = open_images(tmp_path / "in", channels, "#204060")
    assert np.array_equal(torch.cat(list(images.batches(np.arange(len(images))))).numpy(), store.images)


@pytest.mark.usefixtures("toy_features")
def test_a_folder_against_the_store_of_it_has_no_distance(place: Path, tmp_path: Path) -> None:
    awkward_files(tmp_path / "in")
    prepare(
        ImageFolder(tmp_path / "in"),
        tmp_path / "store",
        resolution=8,
        channels=1,
        background="#204060",
        workers=0,
    )
    options = ["--data", str(tmp_path / "store"), "--protocol", str(place / "small.json")]
    main([str(tmp_path / "in"), *options, "--json", str(tmp_path / "result.json")])
    result = json.loads((tmp_path / "result.json").read_text())
    assert abs(result["metrics"]["FD-lite0"]) < 1e-6
    assert any("alpha composited" in note for note in result["notes"])


@pytest.mark.usefixtures("toy_features")
@pytest.mark.parametrize("channels", [1, 3])
def test_grey_and_colour_are_one_rule_for_all_homes(place: Path, tmp_path: Path, channels: int) -> None:
    """Images of the other kind than the store's: files, arrays, stores and models are made of its kind, with a note."""
    images = pixels(COUNT, seed=2) if channels == 1 else pixels(COUNT, seed=2)[:, :1]
    grey = [np.asarray(Image.fromarray(image.transpose(1, 2, 0)).convert("L"))[None] for image in pixels(50, seed=1)]
    with StoreWriter(tmp_path / "real", resolution=8, channels=channels) as writer:
        writer.append(np.stack(grey) if channels == 1 else pixels(50, seed=1))
        writer.finish(source="test")
    with StoreWriter(tmp_path / "store", resolution=8, channels=images.shape[1]) as writer:
        writer.append(images)
        writer.finish(source="test")
    np.savez(tmp_path / "images.npz", images)
    (tmp_path / "folder").mkdir()
    for index, image in enumerate(images):
        Image.fromarray(image.transpose(1, 2, 0).squeeze()).save(tmp_path / "folder" / f"{index:03d}.png")
    spec = GeneratorSpec(resolution=8, channels=images.shape[1], generator=TINY_GENERATOR)
    save(build_generator(spec, seed=0), tmp_path / "model")
    results = {
        name: measure(tmp_path / name, str(tmp_path / "real"), str(place / "small.json"))
        for name in ("folder", "images.npz", "store", "model")
    }
    assert results["folder"]["metrics"] == results["images.npz"]["metrics"] == results["store"]["metrics"]
    for name, result in results.items():
        assert any("grey" in note for note in result["notes"]), name
    real = measure(tmp_path / "real", str(tmp_path / "real"), str(place / "small.json"))
    assert not any("grey" in note for note in real["notes"])


def test_arrays_become_grey_as_files_do() -> None:
    images = pixels(100, seed=1, side=32)
    expected = [np.asarray(Image.fromarray(image.transpose(1, 2, 0)).convert("L"))[None] for image in images]
    (made,) = in_channels([torch.from_numpy(images)], 1, set())
    assert np.array_equal(made, np.stack(expected))


@pytest.mark.parametrize("content", [b"", b"\x89PNG", b"GIF89a"])
def test_files_that_cannot_be_decoded_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "1.png").write_bytes(png(pixels(1, seed=0)[0]))
    (tmp_path / "2.png").write_bytes(content)
    with refused("2.png", tmp_path):
        list(open_images(tmp_path).batches(np.arange(2)))


def test_a_folder_is_measured(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = measured(place, "folder")
    assert result["metrics"]["FD-lite0"] > 0
    assert result["protocol"]["name"] == "small"
    assert result["source"] == str(place / "folder")
    assert "weights_sha256" not in result
    assert not any("changed" in note for note in result["notes"])
    assert result["data"]["path"] == str(place / "real")
    printed = capsys.readouterr().out
    assert "FD-lite0" in printed
    assert "protocol small: test" in printed
    assert "40 images against 50; features lite0" in printed
    assert len(list((place / "real" / "evaluation").iterdir())) == 1


@pytest.mark.usefixtures("toy_features")
def test_a_model_is_measured_with_its_nearest_real_images(place: Path) -> None:
    state = torch.get_rng_state()
    picture = place / "neighbours.png"
    result = measured(place, "model", "--neighbours", str(picture), "--batch-size", "16")
    assert result["images"]["generated"] == COUNT
    assert result["weights_sha256"] == weights_digest(load(place / "model"))
    assert len(result["neighbours"]) == 8
    assert all(0 <= index < 50 for row in result["neighbours"] for index in row["store_indices"])
    rows, columns, _ = np.asarray(Image.open(picture)).shape
    assert columns * 8 == rows * 10  # an image, an empty column, 8 neighbours
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.usefixtures("toy_features")
def test_texts_of_others_are_no_markup(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names, purpose = ("[new]", "[/old]"), "see [/home/x] and [new] set :smile:"
    write_classes(tmp_path / "other[v2]", pixels(80, seed=1), names, present=2)
    fields = json.loads((place / "small.json").read_text()) | {"purpose": purpose, "class_images": 30}
    (tmp_path / "marked.json").write_text(json.dumps(fields))
    main(["other[v2]", "--data", "other[v2]", "--protocol", "marked.json", "--json", "result.json"])
    printed = " ".join(capsys.readouterr().out.split())
    for text in (purpose, "other[v2]", *names):
        assert text in printed


@pytest.mark.usefixtures("toy_features")
def test_the_result_is_kept_where_it_cannot_be_printed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(result: dict[str, Any]) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("vitgan.cli.evaluate.print_result", fails)
    (place / "store.result.json").unlink(missing_ok=True)
    with pytest.raises(BrokenPipeError):
        measured(place, "store")
    assert json.loads((place / "store.result.json").read_text())["metrics"]


@pytest.mark.usefixtures("toy_features")
@pytest.mark.parametrize("kind", [str, Path])
def test_paths_and_devices_are_taken_as_words_and_as_objects(place: Path, tmp_path: Path, kind: type) -> None:
    device = "cpu" if kind is str else torch.device("cpu")
    picture = tmp_path / "neighbours.png"
    paths = [kind(place / name) for name in ("store", "real", "small.json")]
    result = measure(*paths, neighbours=kind(picture), device=device)
    assert len(result["neighbours"]) == 8
    assert picture.exists()


@pytest.mark.parametrize("kind", [str, Path])
def test_features_and_weights_are_taken_as_words_and_as_paths(place: Path, tmp_path: Path, kind: type) -> None:
    paths = [kind(place / name) for name in ("store", "real", "small.json")]
    with refused(tmp_path / "weights.pth", parameter="inception_weights"):
        measure(*paths, features="inception", inception_weights=kind(tmp_path / "weights.pth"))
    with refused(tmp_path / "dino", parameter="features"):
        measure(*paths, features=kind(tmp_path / "dino"))


@pytest.mark.parametrize("kind", [str, Path])
def test_a_picture_that_cannot_be_written_is_refused_before_the_work(
    place: Path, monkeypatch: pytest.MonkeyPatch, kind: type
) -> None:
    monkeypatch.setattr("vitgan.runs.evaluation.load_extractor", lambda *_, **__: pytest.fail("the work began"))
    with refused("n.foo"):
        measure(place / "store", str(place / "real"), str(place / "small.json"), neighbours=kind("n.foo"))


@pytest.mark.usefixtures("toy_features")
@pytest.mark.parametrize("inside", ["checkpoints/step1000", "pictures/checkpoints"])
def test_a_folder_called_checkpoints_makes_no_run_of_images(place: Path, tmp_path: Path, inside: str) -> None:
    shutil.copytree(place / "folder", tmp_path / inside)
    source = tmp_path / "checkpoints" / "step1000" if inside.startswith("checkpoints") else tmp_path / "pictures"
    result = measure(source, str(place / "real"), str(place / "small.json"))
    assert "weights_sha256" not in result
    with refused(source, parameter="data"):
        measure(source, protocol=place / "small.json")


@pytest.mark.usefixtures("toy_features")
def test_a_store_against_itself_is_at_no_distance(place: Path) -> None:
    protocol = json.loads((place / "small.json").read_text()) | {"name": "itself", "reference_images": COUNT}
    (place / "itself.json").write_text(json.dumps(protocol))
    file = place / "itself.result.json"
    arguments = [str(place / "store"), "--data", str(place / "store"), "--protocol", str(place / "itself.json")]
    main([*arguments, "--json", str(file), "--no-cache"])
    assert json.loads(file.read_text())["metrics"]["FD-lite0"] == pytest.approx(0, abs=1e-9)
    assert not (place / "store" / "evaluation").exists()


def test_without_inception_weights_lite0_stands_in_by_name(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("VITGAN_INCEPTION_WEIGHTS", raising=False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(place / "hub"))
    protocol = json.loads((place / "small.json").read_text()) | {"name": "paper", "features": "inception"}
    (place / "paper.json").write_text(json.dumps(protocol))
    file = place / "paper.result.json"
    arguments = [str(place / "store"), "--data", str(place / "real"), "--protocol", str(place / "paper.json")]
    main([*arguments, "--json", str(file)])
    result = json.loads(file.read_text())
    assert "FID" not in result["metrics"]
    assert result["protocol"]["features"] == result["features"]["name"] == "lite0"
    assert "lite0" in capsys.readouterr().err
    with refused(place / "hub", parameter="inception_weights"):
        main([*arguments, "--features", "inception"])


def test_protocols_are_listed_in_lines_that_fit_and_can_be_typed(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--list-protocols"])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.split()[0] for line in lines if line.split()[0] in PROTOCOLS] == [*PROTOCOLS]
    assert any("19,962 images" in line for line in lines)


def test_a_run_is_measured_against_its_own_images_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for project, seed in (("here", 1), ("there", 2), ("nowhere", None)):
        (tmp_path / project).mkdir()
        if seed is not None:
            write_store(tmp_path / project / "real", pixels(12, seed))
    monkeypatch.chdir(tmp_path / "here")
    run = vitgan.train(tiny_run("real", total_kimg=0.008), "runs").absolute()
    for project in ("here", "there", "nowhere"):
        monkeypatch.chdir(tmp_path / project)
        for source in (run, newest(run)):
            assert np.array_equal(open_reference(None, source).images, pixels(12, seed=1)), project
    assert np.array_equal(open_reference(str(tmp_path / "there" / "real"), run).images, pixels(12, seed=2))

    record = ImageStore.open(tmp_path / "here" / "real").description
    shutil.rmtree(tmp_path / "here" / "real")
    write_store(tmp_path / "here" / "real", pixels(12, seed=3))  # prepared anew
    for project in ("here", "there", "nowhere"):
        monkeypatch.chdir(tmp_path / project)
        with refused(run, "real", record.sha256[:12], parameter="data"):
            open_reference(None, run)


CLASSES = ("ant", "bee", "cow")


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store and a model of the same three classes, and a protocol that compares them one by one."""
    place = tmp_path_factory.mktemp("labelled")
    write_classes(place / "real", pixels(120, seed=1), CLASSES)
    spec = GeneratorSpec(resolution=8, num_classes=3, class_names=CLASSES, generator=TINY_GENERATOR)
    save(build_generator(spec, seed=0), place / "model")
    fields = {"name": "classes", "purpose": "test", "features": "lite0", "generated_images": COUNT, "splits": 2}
    fields |= {"least_store_images": 30, "kernel_subsets": 2, "manifold_images": 20, "class_images": 35}
    (place / "classes.json").write_text(json.dumps(fields))
    (place / "small.json").write_text(json.dumps(fields | {"name": "small", "class_images": 0}))
    return place


def write_classes(path: Path, images: np.ndarray, names: tuple[str, ...], present: int = 3) -> None:
    with StoreWriter(path, resolution=images.shape[2], channels=3, labelled=True) as writer:
        writer.append(images, np.arange(len(images)) % present)
        writer.finish(source="test", label_names=list(names))


@pytest.mark.usefixtures("toy_features")
def test_each_class_is_compared_with_its_own_images(
    labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Against distances between images that were sorted by hand."""
    file = tmp_path / "result.json"
    place = ["--data", str(labelled / "real"), "--protocol", str(labelled / "classes.json"), "--json", str(file)]
    main([str(labelled / "model"), *place, "--path-pairs", "8"])
    result = json.loads(file.read_text())
    extractor, generator, real = toy_extractor("lite0"), load(labelled / "model"), pixels(120, seed=1)
    for index, name in enumerate(CLASSES):
        made = torch.from_numpy(to_array(generator.sample(35, labels=name))).permute(0, 3, 1, 2)
        sides = [extractor(images)[0].double() for images in (made, torch.from_numpy(real[index::3]))]
        mean, other = (side.mean(dim=0) for side in sides)
        first, second = (side.T.cov() for side in sides)
        # tr √(AB) from the eigenvalues of the product, which the tool never forms.
        root = torch.linalg.eigvals(first @ second).real.clamp_min(0).sqrt().sum()
        expected = (mean - other).square().sum() + first.trace() + second.trace() - 2 * root
        assert result["classes"][name] == pytest.approx(expected.item(), rel=1e-3)
    assert result["metrics"]["intra-FD-lite0"] == pytest.approx(np.mean(list(result["classes"].values())))
    assert result["metrics"]["PPL-lite0"] > 0
    assert result["protocol"]["class_images"] == 35
    assert result["protocol"]["path_pairs"] == 8
    assert "ant" in capsys.readouterr().out
    main([str(labelled / "real"), *place])  # a store has classes too
    assert json.loads(file.read_text())["metrics"]["intra-FD-lite0"] > 0
    assert "PPL-lite0" not in json.loads(file.read_text())["metrics"]


@pytest.mark.parametrize(
    ("source", "data", "options", "parameter"),
    [
        ("model", "plain", "--class-images 35", "class_images"),
        ("plain", "real", "--class-images 35", "class_images"),
        ("unconditional", "real", "--class-images 35", "class_images"),
        ("model", "other", "--class-images 35", "data"),
        ("model", "two", "--class-images 35", "data"),
        ("model", "few", "--class-images 35", "class_images"),
        ("real", "real", "--class-images 41", "class_images"),
        ("model", "real", "--class-images 1", "class_images"),
        ("lacking", "real", "--class-images 35", "class_images"),
        ("real", "real", "--path-pairs 9", "path_pairs"),
        ("model", "real", "--path-pairs 0", "path_pairs"),
    ],
)
def test_classes_that_cannot_be_compared_are_refused_before_the_work(
    labelled: Path, tmp_path: Path, source: str, data: str, options: str, parameter: str
) -> None:
    write_store(labelled / "plain", pixels(120, seed=1)) if not (labelled / "plain").exists() else None
    for name, names, count, present in (
        ("other", ("ant", "cow", "bee"), 120, 3),
        ("two", ("a", "b"), 80, 2),
        ("few", CLASSES, 80, 3),
        ("lacking", CLASSES, 80, 2),
    ):
        if not (labelled / name).exists():
            write_classes(labelled / name, pixels(count, seed=1), names, present)
    if not (labelled / "unconditional").exists():
        save(build_generator(GeneratorSpec(resolution=8, generator=TINY_GENERATOR), seed=0), labelled / "unconditional")
    file = tmp_path / "result.json"
    place = ["--data", str(labelled / data), "--protocol", str(labelled / "small.json"), "--json", str(file)]
    with refused(parameter=parameter):
        main([str(labelled / source), *place, *options.split()])
    assert not file.exists()


@pytest.mark.usefixtures("toy_features")
def test_a_model_may_have_more_classes_than_the_images_that_it_learned(labelled: Path, tmp_path: Path) -> None:
    """As training says: classes without images are drawn by nobody, and compared with nothing."""
    made = {}
    for name, classes, counts in (
        ("same", 3, None),
        ("more", 5, (40, 40, 40, 0, 0)),
        ("others", 5, (40, 40, 40, 1, 0)),
    ):
        spec = GeneratorSpec(resolution=8, generator=TINY_GENERATOR, num_classes=classes, class_counts=counts)
        save(build_generator(spec, seed=0), tmp_path / name)
        made[name] = str(tmp_path / name)
    file = tmp_path / "result.json"
    place = ["--data", str(labelled / "real"), "--protocol", str(labelled / "classes.json"), "--json", str(file)]
    main([made["more"], *place])
    assert [*json.loads(file.read_text())["classes"]] == [*CLASSES]
    with refused(parameter="data"):
        main([made["others"], *place])


@pytest.mark.usefixtures("toy_features")
def test_classes_beyond_the_names_are_numbers(labelled: Path, tmp_path: Path) -> None:
    write_classes(tmp_path / "unnamed", pixels(120, seed=1), ("ant", "bee"))
    file = tmp_path / "result.json"
    place = ["--data", str(tmp_path / "unnamed"), "--protocol", str(labelled / "classes.json"), "--json", str(file)]
    main([str(labelled / "real"), *place])
    assert [*json.loads(file.read_text())["classes"]] == ["0", "1", "2"]


@pytest.mark.usefixtures("toy_features")
def test_how_classes_were_drawn_is_said(place: Path) -> None:
    spec = GeneratorSpec(resolution=8, num_classes=3, class_counts=(30, 9, 1), generator=TINY_GENERATOR)
    save(build_generator(spec, seed=0), place / "uneven")
    result = measured(place, "uneven")
    assert "classes were drawn in the shares of the training images: 75%, 22.5%, 2.5%" in result["notes"]
    assert result["patch_size"] == TINY_GENERATOR.patch_size
    spec = spec.model_copy(update={"class_counts": None})
    save(build_generator(spec, seed=0), place / "unknown")
    assert any("equally often" in note for note in notes_on_classes(load(place / "unknown")))
    assert notes_on_classes(load(place / "model")) == []


@pytest.mark.parametrize(
    ("arguments", "parameter"),
    [
        ([], "source"),
        (["folder"], "data"),
        (["absent", "--data", "real"], None),
        (["folder", "--data", "absent"], None),
        (["folder", "--data", "folder"], None),
        (["folder", "--data", "real", "--protocol", "fid"], "protocol"),
        (["folder", "--data", "real", "--protocol", "cifar10-test-10k"], "protocol"),
        (["folder", "--data", "real", "--protocol", "quick-5k"], "protocol"),
        (["folder", "--data", "real", "--protocol", "large.json"], "protocol"),
        (["wide", "--data", "real", "--protocol", "small.json"], None),
        (["wide.npz", "--data", "real", "--protocol", "small.json"], None),
        (["empty", "--data", "real", "--protocol", "small.json"], None),
        (["folder", "--data", "real", "--protocol", "small.json", "--device", "abacus"], "device"),
        (["folder", "--data", "real", "--protocol", "small.json", "--batch-size", "0"], "batch_size"),
        (["folder", "--data", "real", "--protocol", "small.json", "--features", "vgg"], "features"),
        (["folder", "--data", "real", "--protocol", "small.json", "--feature", "lite0"], "features"),
        (["folder", "--data", "real", "--protocol", "small.json", "--inception-weights", "w"], "inception_weights"),
    ],
)
def test_mistakes_are_one_line(
    place: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], parameter: str | None
) -> None:
    monkeypatch.chdir(place)
    for folder in ("wide", "empty"):
        (place / folder).mkdir(exist_ok=True)
    (place / "wide" / "1.png").write_bytes(png(np.zeros((3, 8, 9), np.uint8)))
    np.savez(place / "wide.npz", pixels(COUNT, 0, side=9))
    large = json.loads((place / "small.json").read_text()) | {"name": "large", "generated_images": 1000}
    (place / "large.json").write_text(json.dumps(large))
    with pytest.raises(UserError) as error:
        main(arguments)
    assert "\n" not in str(error.value)
    assert parameter in (None, error.value.parameter)
