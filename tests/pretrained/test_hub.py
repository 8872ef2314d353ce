import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard, ModelCardData, RepoUrl
from huggingface_hub.utils import filter_repo_objects
from PIL import Image

import vitgan
from generators import KINDS, make
from refusals import refused
from vitgan.files.folders import MARKER
from vitgan.files.pictures import to_array
from vitgan.models.build import GeneratorSpec
from vitgan.pretrained.hub import HubModel, check_push, read_metrics

METRICS = {
    "metrics": {"FID": 6.6612, "IS": 9.3},
    "protocol": {"name": "cifar10-train-50k", "truncation": 1.0, "seed": 0},
    "images": {"generated": 50000, "reference": 50000},
    "features": {"name": "inception"},
}
SPEC = GeneratorSpec(resolution=16, generator=KINDS["vit"])


def test_the_folder_is_a_model_with_a_card(tmp_path: Path) -> None:
    generator = make("vit")
    (tmp_path / "figures.json").write_text(json.dumps(METRICS))
    folder = HubModel(generator, read_metrics(tmp_path / "figures.json")).save(tmp_path / "my-model")
    assert sorted(p.name for p in folder.iterdir()) == [
        ".vitgan.json",
        "README.md",
        "config.json",
        "model.safetensors",
        "samples.png",
    ]
    assert torch.equal(vitgan.load(folder).sample(2), generator.sample(2))
    card = (folder / "README.md").read_text()
    assert card.startswith("---\n")
    for said in ("# my-model", "| FID | 6.661 |", "cifar10-train-50k", "50,000 images", "samples.png", "16×16"):
        assert said in card


def test_the_card_says_how_to_load_it_and_where_it_comes_from(tmp_path: Path) -> None:
    model = HubModel(make("vit"), name="me/shirts", trained="Trained on shirts.", about="It knows no trousers.")
    folder = model.save(tmp_path / "m")
    card = (folder / "README.md").read_text()
    assert 'vitgan.load("me/shirts")' in card
    assert "vitgan sample me/shirts" in card
    assert "RGB images. It knows no trousers.\n" in card
    assert "\n\n## Training\n\nTrained on shirts.\n\n## Use\n" in card


def test_the_samples_are_those_of_the_stored_weights(tmp_path: Path) -> None:
    folder = HubModel(make("vit"), storage="float16").save(tmp_path / "m")
    with Image.open(folder / "samples.png") as grid:
        shown = np.asarray(grid)[:16, :16]
    assert np.array_equal(shown, to_array(vitgan.load(folder).sample(1))[0].repeat(4, 0).repeat(4, 1)[:16, :16])


def test_without_figures_the_card_says_so(tmp_path: Path) -> None:
    folder = HubModel(make("vit"), title="Shirts").save(tmp_path / "m")
    assert "Not measured." in (folder / "README.md").read_text()


@pytest.mark.parametrize("figures", [{}, {"metrics": 3}, []])
def test_other_json_is_no_evaluation(tmp_path: Path, figures: object) -> None:
    with refused(parameter="metrics"):
        HubModel(make("vit"), figures)  # pyright: ignore[reportArgumentType]
    (tmp_path / "broken.json").write_text("{")
    with refused(tmp_path / "broken.json", cause=ValueError):
        read_metrics(tmp_path / "broken.json")


class Api:
    """Takes the place of the Hub's client, and keeps what it is told."""

    asked: ClassVar[list[tuple[str, dict[str, object]]]] = []
    uploaded: ClassVar[set[str]] = set()

    def __init__(self, **options: object) -> None:
        pass

    def create_repo(self, repo_id: str, **options: object) -> RepoUrl:
        self.asked.append((repo_id, options))
        return RepoUrl(f"https://huggingface.co/{repo_id}")

    def upload_folder(self, *, repo_id: str, folder_path: Path, **options: object) -> None:
        self.asked.append((repo_id, options))
        self.uploaded.update(path.name for path in folder_path.iterdir())


def test_push_uploads_the_folder_privately(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Api)
    HubModel(make("vit")).push("me/shirts")
    (created, options), (filled, upload) = Api.asked
    assert created == filled == "me/shirts"
    assert (options["private"], options["exist_ok"]) == (True, True)
    kept: Any = filter_repo_objects(Api.uploaded, ignore_patterns=upload["ignore_patterns"])  # pyright: ignore
    assert {*kept} == {"README.md", "config.json", "model.safetensors", "samples.png"}
    earlier = ["README.md", "networks.json", "networks.safetensors", "vae/config.json", "mine.txt"]
    gone: Any = filter_repo_objects(earlier, allow_patterns=upload["delete_patterns"])  # pyright: ignore
    assert [*gone] == ["networks.json", "networks.safetensors", "vae/config.json"]  # they were another model's


def test_a_saved_model_keeps_nothing_of_an_earlier_one(tmp_path: Path) -> None:
    HubModel(make("vit"), METRICS, licence="mit", title="Old").save_pretrained(tmp_path / "m")
    HubModel(make("vit", 3)).save_pretrained(tmp_path / "m")
    assert vitgan.load(tmp_path / "m").num_classes == 3
    card = (tmp_path / "m" / "README.md").read_text()
    assert "# m\n" in card
    assert "6.661" not in card


def test_a_refused_push_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing(Api):
        def create_repo(self, repo_id: str, **options: object) -> RepoUrl:
            raise OSError("no route\nto the hub")

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Refusing)
    with refused("me/shirts", cause=OSError):
        HubModel(make("vit")).push("me/shirts")


def test_the_hub_reads_the_figures(tmp_path: Path) -> None:
    card = ModelCard.load(HubModel(make("vit"), METRICS, title="A: b").save(tmp_path / "m") / "README.md")
    assert isinstance(card.data, ModelCardData)
    assert {one.metric_type: one.metric_value for one in card.data.eval_results or ()} == METRICS["metrics"]
    assert card.data.library_name == "vitgan"
    assert card.data.pipeline_tag == "unconditional-image-generation"


def test_a_copy_of_a_model_keeps_what_its_card_says(tmp_path: Path) -> None:
    about = "It knows no trousers.\n\nSecond paragraph.\n\n- A list. With dots."
    trained = "Trained on shirts.\n\n## Not a section of ours\n\nFor hours."
    given = {"title": "Shirts: a model", "trained": trained, "about": about}
    model = HubModel(make("vit"), METRICS, licence="mit", datasets=("shirts", "coats"), **given)  # pyright: ignore
    first = model.save(tmp_path / "first")
    card = (first / "README.md").read_text()
    assert "pip install vitgan\n" in card
    copied = HubModel.from_pretrained(first)
    copied.save_pretrained(tmp_path / "second")
    assert (tmp_path / "second" / "README.md").read_text() == card
    data = ModelCard.load(tmp_path / "second" / "README.md").data
    assert (data.license, data.datasets) == ("mit", ["shirts", "coats"])  # pyright: ignore
    other = HubModel.from_pretrained(first, about="It knows hats.", licence="cc0-1.0", title="Hats").save(
        tmp_path / "x"
    )
    changed = (other / "README.md").read_text()
    for said in ("# Hats\n", "It knows hats.\n", "Trained on shirts.", "| FID | 6.661 |", "license: cc0-1.0"):
        assert said in changed
    assert "trousers" not in changed


@pytest.mark.parametrize("card", ["mine", "---\n: [\n---\n", "---\nlibrary_name: other\n---\n# A\n"])
def test_a_card_of_others_is_not_taken_over(tmp_path: Path, card: str) -> None:
    folder = HubModel(make("vit")).save(tmp_path / "m")
    (folder / "README.md").write_text(card)
    HubModel.from_pretrained(folder).save_pretrained(tmp_path / "n")
    assert (tmp_path / "n" / "README.md").read_text().count("# n\n") == 1


def test_from_pretrained_opens_what_load_opens(tmp_path: Path) -> None:
    generator = make("vit")
    folder = HubModel(generator).save(tmp_path / "m")
    again = HubModel.from_pretrained(folder)
    assert again.generator.spec == SPEC
    assert torch.equal(again.generator.sample(2), generator.sample(2))


@pytest.mark.parametrize(
    ("repository", "allowed"), [("shirts", True), ("me/shirts", True), ("us/shirts", True), ("you/x", False)]
)
def test_only_a_place_of_ones_own_is_pushed_to(monkeypatch: pytest.MonkeyPatch, repository: str, allowed: bool) -> None:
    monkeypatch.setattr("vitgan.pretrained.hub.HfApi.whoami", lambda self: {"name": "me", "orgs": [{"name": "us"}]})
    if allowed:
        check_push(repository)
    else:
        with refused(repository, "me", cause=type(None)):
            check_push(repository)


@pytest.mark.parametrize("save", ["save", "save_pretrained"])
def test_what_others_put_into_the_folder_is_left_alone(tmp_path: Path, save: str) -> None:
    """A project with files of the same names."""
    for name in ("README.md", "config.json"):
        (tmp_path / name).write_text("mine")
    with refused(tmp_path, MARKER):
        getattr(HubModel(make("vit")), save)(tmp_path)
    with refused(tmp_path, MARKER):
        vitgan.save(make("vit"), tmp_path)
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"README.md": "mine", "config.json": "mine"}


def test_a_name_is_quoted_in_the_card(tmp_path: Path) -> None:
    card = (HubModel(make("vit"), name='my "best" model').save(tmp_path / "m") / "README.md").read_text()
    assert r'vitgan.load("my \"best\" model")' in card
    assert """vitgan sample 'my "best" model' --count""" in card
