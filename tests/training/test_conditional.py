"""Class-conditional training: labels reach both players, every pair of players can do it, and sampling chooses a class."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

import vitgan
import vitgan.runs.evaluation
from refusals import refused
from tiny import newest, tiny_run, write_images
from vitgan.cli.main import dispatch
from vitgan.config import RunConfig
from vitgan.data.prepare import prepare
from vitgan.data.sources.folder import ImageFolder
from vitgan.files.pictures import to_uint8
from vitgan.models.draws import classes_in_turn
from vitgan.models.stylegan2_discriminator import StyleGAN2DiscriminatorConfig
from vitgan.models.stylegan2_generator import StyleGAN2GeneratorConfig
from vitgan.runs.folder import config_of_run
from vitgan.training.hooks import Hooks


@pytest.mark.parametrize("generator", ["vit", "stylegan2"])
@pytest.mark.parametrize("discriminator", ["vit", "stylegan2"])
def test_conditional_training_and_sampling(
    labelled_store: str, tmp_path: Path, generator: str, discriminator: str
) -> None:
    config = tiny_run(labelled_store, total_kimg=0.008)
    changes: dict[str, object] = {"conditional": True}
    if generator == "stylegan2":
        changes["generator"] = StyleGAN2GeneratorConfig(channel_base=64, z_dim=8, w_dim=8, mapping_layers=2)
    if discriminator == "stylegan2":
        changes["discriminator"] = StyleGAN2DiscriminatorConfig(channel_base=64, label_mapping_layers=1)
    config = config.model_copy(update={"model": config.model.model_copy(update=changes)})
    run = vitgan.train(config, tmp_path)
    trained = vitgan.load(run)
    assert trained.num_classes == 3
    z = torch.randn(1, trained.z_dim, generator=torch.Generator().manual_seed(0)).expand(3, -1)
    images = trained(z, torch.arange(3))
    assert not torch.allclose(images[0], images[1])
    assert trained.sample(2, labels=torch.tensor([1, 1])).shape == (2, 3, 8, 8)
    longer = config.model_copy(update={"training": config.training.model_copy(update={"total_kimg": 0.012})})
    vitgan.train(longer, resume=run)
    assert newest(run).name == "000000k012"


def test_sample_chooses_a_class_or_says_why_not(labelled_store: str, tmp_path: Path) -> None:
    config = tiny_run(labelled_store, total_kimg=0.004)
    model = config.model.model_copy(update={"conditional": True})
    run = vitgan.train(config.model_copy(update={"model": model}), tmp_path)
    dispatch(["sample", str(run), "--count", "2", "--label", "2", "--grid", str(tmp_path / "grid.png")])
    with refused(3, 0, 2, parameter="label"):
        dispatch(["sample", str(run), "--label", "3"])
    unconditional = vitgan.train(config, tmp_path)
    with refused("unconditional", parameter="label"):
        dispatch(["sample", str(unconditional), "--label", "1"])


def test_images_without_labels_are_refused(tmp_path: Path) -> None:
    images = ImageFolder(write_images(tmp_path / "images"))
    prepare(images, tmp_path / "store", resolution=8, workers=0)
    config = tiny_run(str(tmp_path / "store"))
    config = config.model_copy(update={"model": config.model.model_copy(update={"conditional": True})})
    with refused(tmp_path / "store", parameter="model.conditional"):
        vitgan.train(config, tmp_path / "runs")


def test_classes_beyond_those_of_the_images_are_told_of(labelled_store: str, tmp_path: Path) -> None:
    config = conditional(labelled_store, total_kimg=0.004)
    for classes, lines in ((5, 1), (3, 0)):
        said: list[str] = []
        model = config.model.model_copy(update={"num_classes": classes})
        run = vitgan.train(config.model_copy(update={"model": model}), tmp_path, hooks=Hooks(on_notice=said.append))
        assert vitgan.load(run).known_classes == [0, 1, 2]
        assert len(said) == lines
        names = config_of_run(run).model.class_names
        assert names is not None
        assert len(names) == classes
        dispatch(["sample", str(run), "--label", names[1], "--count", "1", "--grid", str(tmp_path / f"{classes}.png")])


def conditional(data: str, **training: object) -> RunConfig:
    config = tiny_run(data, **training)
    return config.model_copy(update={"model": config.model.model_copy(update={"conditional": True})})


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> str:
    """18, 5 and 1 images of three classes."""
    folder = tmp_path_factory.mktemp("uneven")
    for name, count in (("cat", 18), ("dog", 5), ("fox", 1)):
        write_images(folder / "images" / name, count)
    prepare(ImageFolder(folder / "images"), folder / "store", resolution=8, workers=0)
    return str(folder / "store")


def test_a_model_knows_the_shares_of_its_classes_in_all_its_homes(uneven: str, tmp_path: Path) -> None:
    run = vitgan.train(conditional(uneven, total_kimg=0.008), tmp_path / "runs")
    dispatch(["export", "hub", str(run), "--out", str(tmp_path / "model")])
    for home in (run, newest(run), tmp_path / "model"):
        generator = vitgan.load(home)
        assert generator.class_counts == (18, 5, 1), home
        assert generator.class_names == ("cat", "dog", "fox"), home
        labels = generator.labels(24)
        assert labels is not None
        assert labels.bincount().tolist() == [18, 5, 1]
    mean = generator.w_mean.clone()
    generator.update_w_mean()
    torch.testing.assert_close(generator.w_mean, mean)


def test_a_run_that_noted_no_shares_or_names_goes_on_and_notes_them(uneven: str, tmp_path: Path) -> None:
    run = vitgan.train(conditional(uneven, total_kimg=0.008), tmp_path)
    file = run / "config.json"
    config = json.loads(file.read_text())
    del config["model"]["class_counts"], config["model"]["class_names"]
    file.write_text(json.dumps(config))
    assert vitgan.load(run).class_counts is None
    vitgan.train(conditional(uneven, total_kimg=0.012), resume=run)
    assert vitgan.load(run).class_counts == (18, 5, 1)
    assert vitgan.load(run).class_names == ("cat", "dog", "fox")


def test_evaluations_draw_classes_in_the_shares_of_the_images(
    uneven: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the images that reach the measurement, not of labels asked for."""
    drawn: list[Tensor] = []

    def evaluate(images: Iterator[Tensor], *arguments: object, **options: object) -> dict[str, object]:
        drawn.append(torch.cat(list(images)))
        return {"metrics": {}, "score": {"name": "FD", "value": 1.0}}

    fields = {"name": "tiny", "purpose": "", "features": "lite0", "generated_images": 24, "splits": 2}
    fields |= {"least_store_images": 20, "manifold_images": 20, "kernel_subsets": 2, "kernel_subset_size": 8}
    (tmp_path / "tiny.json").write_text(json.dumps(fields))
    monkeypatch.setattr(vitgan.runs.evaluation, "evaluate", evaluate)
    config = conditional(uneven, total_kimg=0.008)
    config = config.model_copy(update={"evaluate_every_kimg": 1.0, "protocol": str(tmp_path / "tiny.json")})
    generator = vitgan.load(vitgan.train(config, tmp_path / "runs"))
    expected = to_uint8(generator.sample(24, labels=classes_in_turn(24, (18, 5, 1))))
    assert (drawn[0].int() - expected.int()).abs().max() <= 1
    even = to_uint8(generator.sample(24, labels=torch.arange(24) % 3))
    assert (even.int() - expected.int()).abs().max() > 1


def test_a_conditional_runs_configuration_trains_without_classes(uneven: str, tmp_path: Path) -> None:
    """Where that is asked for, and on images that have no labels: nothing of the classes stays behind."""
    run = vitgan.train(conditional(uneven, total_kimg=0.004), tmp_path / "conditional")
    plain = write_images(tmp_path / "plain")
    for number, words in enumerate((["--model.no-conditional"], ["--data", str(plain)])):
        out = tmp_path / str(number)
        dispatch(["train", "--config", str(run / "config.json"), *words, "--out", str(out)])
        (other,) = out.glob("00000-*")
        model = config_of_run(other).model
        assert (model.conditional, model.num_classes, model.class_counts, model.class_names) == (False, 0, None, None)
        assert vitgan.load(other).num_classes == 0
