"""A GAN in the latents of a VAE, from a store of images to a web page, at the smallest size."""

import hashlib
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import load_file

import vitgan
from refusals import refused
from tiny import newest, tiny_model, tiny_run, write_images, write_vae
from vitgan.cli.main import dispatch
from vitgan.config import RunConfig
from vitgan.data.encode import encode_store
from vitgan.data.prepare import prepare
from vitgan.data.sources.folder import ImageFolder
from vitgan.data.store import ImageStore
from vitgan.errors import UserError
from vitgan.explore.invert import invert
from vitgan.explore.latents import render, styles_of
from vitgan.export import web
from vitgan.export.onnx import export_onnx, open_session
from vitgan.export.web import export_web
from vitgan.frozen import vae
from vitgan.frozen.vae import VAE_VARIABLE, load_decoder
from vitgan.models.draws import draw_latents
from vitgan.models.projected_discriminator import ProjectedDiscriminatorConfig
from vitgan.presets import replaced
from vitgan.pretrained.generators import save
from vitgan.runs.folder import config_of_run
from vitgan.training.hooks import Hooks

COUNT, SIDE = 24, 16


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Images of 16×16, a VAE that makes a latent of 2×2 pixels, their latents, a protocol, and a run that used them."""
    folder = tmp_path_factory.mktemp("latent")
    images = write_images(folder / "images", COUNT, SIDE)
    pixels = prepare(ImageFolder(images), folder / "pixels", resolution=SIDE, workers=0)
    vae = write_vae(folder / "vae")
    dispatch(["data", "encode", str(pixels.path), "--vae", str(vae), "--out", str(folder / "latents"), "--flips"])
    protocol = {"name": "small", "purpose": "test", "features": "lite0", "generated_images": 20}
    protocol |= {"least_store_images": 20, "splits": 2, "kernel_subsets": 2, "manifold_images": 20}
    (folder / "small.json").write_text(json.dumps(protocol))
    config = tiny_run(str(folder / "latents"))
    config = replaced(config, model=tiny_model(channels=4), protocol=str(folder / "small.json"), evaluate_every_kimg=1)
    run = vitgan.train(config, folder / "runs")
    return SimpleNamespace(folder=folder, pixels=pixels.path, vae=vae, config=config, run=run)


def test_a_run_learns_latents_and_shows_and_judges_images(place: SimpleNamespace) -> None:
    spec = config_of_run(place.run).model.vae
    assert spec is not None
    assert spec == ImageStore.open(place.folder / "latents").vae
    for picture in (place.run / "samples").glob("*.png"):
        with Image.open(picture) as image:
            assert (image.size, image.mode) == ((2 * 64, 2 * 64), "RGB")
    records = [json.loads(line) for line in (place.run / "metrics.jsonl").read_text().splitlines()]
    assert any(name.startswith("eval") for name in records[-1])


def test_info_tells_of_latents(place: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for shown in (place.run, save(vitgan.load(place.run), tmp_path / "model")):
        dispatch(["info", str(shown)])
        assert "latents of 4 channels" in capsys.readouterr().out


def test_resume_is_exact(place: SimpleNamespace, tmp_path: Path) -> None:
    counted = iter(range(1, 1_000))
    run = vitgan.train(place.config, tmp_path, hooks=Hooks(should_stop=lambda: next(counted) >= 3))
    assert newest(run).name != newest(place.run).name
    vitgan.train(config_of_run(run), resume=run)
    whole, resumed = newest(place.run), newest(run)
    assert whole.name == resumed.name
    for file in whole.glob("*.safetensors"):
        first, second = load_file(file), load_file(resumed / file.name)
        assert first.keys() == second.keys()
        assert all(torch.equal(tensor, second[name]) for name, tensor in first.items()), file.name
    grids = [sorted((place_ / "samples").glob("*.png"))[-1].read_bytes() for place_ in (place.run, run)]
    assert grids[0] == grids[1]


def test_the_command_line_goes_on_with_a_run(place: SimpleNamespace, tmp_path: Path) -> None:
    run = shutil.copytree(place.run, tmp_path / "run")
    dispatch(["train", "--resume", str(run), "--training.total-kimg", "0.032", "--evaluate-every-kimg", "None"])
    assert newest(run).name == "000000k032"


def test_samples_are_decoded_latents(place: SimpleNamespace, tmp_path: Path) -> None:
    generator = vitgan.load(place.run)
    assert (generator.image_size, generator.image_channels) == (SIDE, 3)
    images = generator.sample(3, seed=1)
    assert images.shape == (3, 3, SIDE, SIDE)
    assert generator.vae is not None
    z = draw_latents(3, generator.z_dim, seed=1)
    expected = load_decoder(generator.vae)(generator(z)).clamp(-1, 1)
    torch.testing.assert_close(images, expected)
    torch.testing.assert_close(render(generator, styles_of(generator, [0])), generator.sample(1))
    dispatch(
        ["sample", str(place.run), "--count", "4", "--grid", str(tmp_path / "g.png"), "--npz", str(tmp_path / "g.npz")]
    )
    assert np.load(tmp_path / "g.npz")["images"].shape == (4, SIDE, SIDE, 3)


def test_evaluation_is_against_the_images_that_were_encoded(place: SimpleNamespace, tmp_path: Path) -> None:
    common = ["--protocol", str(place.folder / "small.json"), "--json", str(tmp_path / "result.json")]
    dispatch(["evaluate", str(place.run), *common])
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["data"]["sha256"] == ImageStore.open(place.pixels).description.sha256
    records = [json.loads(line) for line in (place.run / "metrics.jsonl").read_text().splitlines()]
    shown = {name.partition("/")[2]: value for name, value in records[-1].items() if name.startswith("eval")}
    assert shown
    for name, value in shown.items():
        assert result["metrics"][name] == pytest.approx(value, rel=1e-3, abs=1e-4)
    # The latents themselves are measured as the images that the VAE makes of them.
    dispatch(["evaluate", str(place.folder / "latents"), "--data", str(place.pixels), *common])
    assert json.loads((tmp_path / "result.json").read_text())["metrics"]


def test_every_look_at_a_model_decodes(place: SimpleNamespace, tmp_path: Path) -> None:
    run, out = str(place.run), str(tmp_path / "out.png")
    maps = str(tmp_path / "maps.png")
    for words in (
        ["truncate", run, "--seeds", "0", "--psis", "0.5", "1", "--out", out],
        ["interpolate", run, "--seeds", "0", "1", "--steps", "2", "--out", str(tmp_path / "walk.png")],
        ["attention", run, "--out", maps, "--discriminator-out", str(tmp_path / "d.png")],
        ["grow", run, "--count", "2", "--out", str(tmp_path / "grow.png")],
        ["invert", run, str(place.folder / "images" / "00.png"), "--steps", "2", "--out", str(tmp_path / "i.png")],
    ):
        dispatch(["explore", *words])
    with pytest.raises(UserError):
        dispatch(["explore", "zoom", run, "--out", str(tmp_path / "zoom.png")])
    dispatch(["data", "show", str(place.folder / "latents"), "--grid", str(tmp_path / "store.png"), "--rows", "2"])
    dispatch(["info", run])


def test_inversion_goes_through_the_decoder(place: SimpleNamespace) -> None:
    generator = vitgan.load(place.run)
    target = generator.sample(1, seed=3)
    assert invert(generator, target, None, steps=1).psnr < invert(generator, target, None, steps=30).psnr


def test_onnx_and_the_page_hold_the_decoder(
    place: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = vitgan.load(place.run)
    report = export_onnx(generator, tmp_path / "g.onnx")
    assert report.largest_difference < 1e-3
    (tmp_path / "dist").mkdir()
    for name in web.RUNTIME_FILES:
        (tmp_path / "dist" / name).write_text(name)
    monkeypatch.setattr(web, "RUNTIME_FILES", {n: hashlib.sha256(n.encode()).hexdigest() for n in web.RUNTIME_FILES})
    page = export_web(generator, tmp_path / "page", tmp_path / "dist")
    assert page.largest_difference < 1e-3
    said = json.loads((page.folder / "model.json").read_text())
    assert (said["resolution"], said["channels"], said["zoom"]) == (SIDE, 3, 1)
    w = np.zeros((1, said["numStyles"], said["wDim"]), np.float32)
    assert open_session(page.folder / "synthesis.onnx").run(None, {"w": w})[0].shape == (1, 3, SIDE, SIDE)
    monkeypatch.setattr(web, "LARGEST_DECODER", 1000)
    with refused("vitgan export onnx"):
        export_web(generator, tmp_path / "large", tmp_path / "dist")
    assert not (tmp_path / "large").exists()


def test_a_model_for_others_brings_its_vae(place: SimpleNamespace, tmp_path: Path) -> None:
    dispatch(["export", "hub", str(place.run), "--networks", "--out", str(tmp_path / "model")])
    (tmp_path / "model").rename(tmp_path / "moved")
    for file in [*(tmp_path / "moved").glob("*.json"), tmp_path / "moved" / "README.md"]:
        assert str(place.folder) not in file.read_text(), file.name
    assert "latent" in (tmp_path / "moved" / "README.md").read_text()
    model = vitgan.load(tmp_path / "moved")
    assert model.vae is not None
    assert model.vae.name == str(tmp_path / "moved" / "vae")
    torch.testing.assert_close(model.sample(2), vitgan.load(place.run).sample(2))
    vitgan.save(model, tmp_path / "again")
    torch.testing.assert_close(vitgan.load(tmp_path / "again").sample(2), model.sample(2))
    vitgan.train(replaced(place.config, init_from=str(tmp_path / "moved")), tmp_path / "runs")


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("training.horizontal_flip", lambda c: replaced(c, training=replaced(c.training, horizontal_flip=True))),
        (
            "model.generator.bounded",
            lambda c: replaced(c, model=replaced(c.model, generator=replaced(c.model.generator, bounded=True))),
        ),
        ("objective.out_of_range", lambda c: replaced(c, objective=replaced(c.objective, out_of_range=0.1))),
        (
            "model.discriminator.kind",
            lambda c: replaced(c, model=replaced(c.model, discriminator=ProjectedDiscriminatorConfig(input_size=32))),
        ),
        ("model.channels", lambda c: replaced(c, model=tiny_model())),
        ("model.resolution", lambda c: replaced(c, model=tiny_model(channels=4, resolution=16))),
    ],
)
def test_what_makes_no_sense_in_latents_is_refused_before_a_run(
    place: SimpleNamespace, tmp_path: Path, field: str, change
) -> None:
    with refused(parameter=field):
        vitgan.train(change(place.config), tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_run_whose_vae_is_gone_or_another_makes_nothing(
    place: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vae._decoder.cache_clear()
    monkeypatch.setenv(VAE_VARIABLE, str(write_vae(tmp_path / "other", seed=1)))
    with pytest.raises(UserError):
        vitgan.train(place.config, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
    with pytest.raises(UserError):
        vitgan.load(place.run).sample(1)
    with pytest.raises(UserError):
        vitgan.train(config_of_run(place.run), resume=place.run)


def test_a_run_goes_on_with_latents_of_no_other_vae(place: SimpleNamespace, tmp_path: Path) -> None:
    """Also where the latents' bytes are the same: a copy of the store that names another VAE."""
    run = shutil.copytree(place.run, tmp_path / "run")
    other = write_vae(tmp_path / "other", seed=1)
    made = encode_store(ImageStore.open(place.pixels), str(other), tmp_path / "others")
    store = shutil.copytree(place.folder / "latents", tmp_path / "latents")
    said = json.loads((store / "dataset.json").read_text())
    assert made.vae is not None
    (store / "dataset.json").write_text(json.dumps(said | {"vae": made.vae.model_dump(mode="json")}))
    config = config_of_run(run)
    for data in (made.path, store):
        with pytest.raises(UserError):
            vitgan.train(config.model_copy(update={"data": str(data)}), resume=run)


def test_a_model_that_names_no_vae_shows_nothing() -> None:
    generator = vitgan.build_generator(tiny_model(channels=4).generator_spec())
    with pytest.raises(UserError):
        generator.sample(1)


def test_a_vae_of_other_channels_is_no_configuration(place: SimpleNamespace) -> None:
    model = config_of_run(place.run).model
    with pytest.raises(ValidationError):
        RunConfig.model_validate({"model": model.model_dump() | {"channels": 3}})
