import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vitgan
from generators import KINDS, make
from vitgan.errors import UserError
from vitgan.export.hub import check_push, export_hub, push, read_figures
from vitgan.files.pictures import to_array
from vitgan.models.build import GeneratorSpec

FIGURES = {
    "figures": {"FID": 6.6612, "IS": 9.3},
    "protocol": {"name": "cifar10-train-50k", "truncation": 1.0, "seed": 0},
    "images": {"generated": 50000, "reference": 50000},
    "features": {"name": "inception"},
}
SPEC = GeneratorSpec(resolution=16, generator=KINDS["vit"])


def test_the_folder_is_a_model_with_a_card(tmp_path: Path) -> None:
    generator = make("vit")
    (tmp_path / "figures.json").write_text(json.dumps(FIGURES))
    folder = export_hub(generator, SPEC, tmp_path / "my-model", read_figures(tmp_path / "figures.json"))
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
    folder = export_hub(
        make("vit"), SPEC, tmp_path / "m", name="me/shirts", trained="Trained on shirts.", about="It knows no trousers."
    )
    card = (folder / "README.md").read_text()
    assert 'vitgan.load("me/shirts")' in card
    assert "vitgan sample me/shirts" in card
    assert "RGB images. It knows no trousers.\n" in card
    assert "\n\n## Training\n\nTrained on shirts.\n\n## Use\n" in card


def test_the_samples_are_those_of_the_stored_weights(tmp_path: Path) -> None:
    folder = export_hub(make("vit"), SPEC, tmp_path / "m", storage="float16")
    with Image.open(folder / "samples.png") as grid:
        shown = np.asarray(grid)[:16, :16]
    assert np.array_equal(shown, to_array(vitgan.load(folder).sample(1))[0].repeat(4, 0).repeat(4, 1)[:16, :16])


def test_without_figures_the_card_says_so(tmp_path: Path) -> None:
    folder = export_hub(make("vit"), SPEC, tmp_path / "m", title="Shirts")
    assert "Not measured." in (folder / "README.md").read_text()


@pytest.mark.parametrize("figures", [{}, {"figures": 3}, []])
def test_other_json_is_no_evaluation(tmp_path: Path, figures: object) -> None:
    with pytest.raises(UserError, match="no evaluation"):
        export_hub(make("vit"), SPEC, tmp_path / "m", figures)  # pyright: ignore[reportArgumentType]
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(UserError, match="cannot read the figures"):
        read_figures(tmp_path / "broken.json")


def test_push_uploads_the_folder_privately(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, dict[str, object]]] = []

    class Api:
        def create_repo(self, repository: str, **options: object) -> str:
            calls.append((repository, options))
            return f"https://hub/{repository}"

        def upload_folder(self, **options: object) -> None:
            calls.append(("upload", options))

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    assert push(tmp_path, "me/shirts") == "https://hub/me/shirts"
    assert calls[0] == ("me/shirts", {"exist_ok": True, "private": True})
    assert calls[1] == (
        "upload",
        {"repo_id": "me/shirts", "folder_path": str(tmp_path), "ignore_patterns": [".vitgan.json"]},
    )


def test_a_refused_push_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Api:
        def create_repo(self, repository: str, **options: object) -> str:
            raise OSError("no route\nto the hub")

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    with pytest.raises(UserError, match="cannot push to me/shirts: no route; the folder"):
        push(tmp_path, "me/shirts")


@pytest.mark.parametrize(
    ("repository", "allowed"), [("shirts", True), ("me/shirts", True), ("us/shirts", True), ("you/x", False)]
)
def test_only_a_place_of_ones_own_is_pushed_to(monkeypatch: pytest.MonkeyPatch, repository: str, allowed: bool) -> None:
    monkeypatch.setattr("huggingface_hub.HfApi.whoami", lambda self: {"name": "me", "orgs": [{"name": "us"}]})
    if allowed:
        check_push(repository)
    else:
        with pytest.raises(UserError, match="may not write there"):
            check_push(repository)


def test_what_others_put_into_the_folder_is_left_alone(tmp_path: Path) -> None:
    """A project with files of the same names."""
    for name in ("README.md", "config.json"):
        (tmp_path / name).write_text("mine")
    with pytest.raises(UserError, match="holds other files"):
        export_hub(make("vit"), SPEC, tmp_path)
    with pytest.raises(UserError, match="holds other files"):
        vitgan.save(make("vit"), SPEC, tmp_path)
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"README.md": "mine", "config.json": "mine"}


def test_a_name_is_quoted_in_the_card(tmp_path: Path) -> None:
    card = (export_hub(make("vit"), SPEC, tmp_path / "m", name='my "best" model') / "README.md").read_text()
    assert r'vitgan.load("my \"best\" model")' in card
    assert """vitgan sample 'my "best" model' --count""" in card
