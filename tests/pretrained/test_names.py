"""Names of models: paths, bundled models, the Hub (a loopback one); every mistake in one line."""

import errno
import json
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import huggingface_hub.constants
import pytest
import torch
from huggingface_hub import errors

import vitgan
from hub import running_hub
from refusals import check_refusal, refused
from tiny import tiny_model
from vitgan.cli.main import dispatch
from vitgan.errors import UserError
from vitgan.explore.attention import load_discriminator
from vitgan.files.tensors import write_tensors
from vitgan.models.build import build_discriminator, build_generator
from vitgan.pretrained import names
from vitgan.pretrained.generators import write_networks
from vitgan.pretrained.names import bundled_models, find_model
from vitgan.pretrained.transfer import start_from
from vitgan.runs.sources import find_source

MODEL = tiny_model()
SPEC = MODEL.generator_spec()


def write_model(folder: Path, seed: int = 3) -> Path:
    spec = tiny_model().generator_spec()
    return vitgan.save(build_generator(spec, seed), folder)


def write_trained(folder: Path) -> Path:
    """A model that carries its networks: a G of seed 7 and a D of seed 8."""
    write_model(folder, seed=6)
    checkpoint = folder.with_name("run") / "checkpoints" / "000000k000"
    checkpoint.mkdir(parents=True)
    (folder.with_name("run") / "config.json").write_text(json.dumps({"model": MODEL.model_dump()}))
    write_tensors(checkpoint / "generator.safetensors", build_generator(SPEC, seed=7).state_dict())
    write_tensors(checkpoint / "discriminator.safetensors", build_discriminator(MODEL, seed=8).state_dict())
    write_networks(checkpoint, folder)
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def bundled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with the bundled models "shirts" and "emoji", seen from an empty folder."""
    home = tmp_path / "bundled"
    write_model(home / "shirts", seed=4)
    write_model(home / "emoji", seed=5)
    monkeypatch.setattr(names, "BUNDLED_MODELS", home)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return home


def use_endpoint(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """As HF_ENDPOINT would have done before the Hub's client was imported."""
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, list[str]]]:
    """A loopback Hub with someone/shirts, a repository that is no model, a gated one; and an empty cache."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    files = files_of(write_model(tmp_path / "shirts", seed=6)) | {"README.md": b"a card", "evil.py": b"raise"}
    repositories = {
        "someone/shirts": files,
        "someone/trained": files_of(write_trained(tmp_path / "trained")),
        "someone/words": {"config.json": b"{}", "notes.txt": b"words"},
    }
    with running_hub(repositories, gated=frozenset({"someone/gated"})) as (address, asked):
        use_endpoint(monkeypatch, address)
        yield address, asked


def test_a_bundled_model_is_found_by_its_name(bundled: Path) -> None:
    assert bundled_models() == {"emoji": bundled / "emoji", "shirts": bundled / "shirts"}
    expected = vitgan.load(bundled / "shirts").sample(2)
    assert torch.equal(vitgan.load("shirts").sample(2), expected)
    dispatch(["sample", "shirts", "--count", "2", "--grid", "grid.png"])
    assert Path("grid.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "file"),
    [
        ("explore truncate shirts --seeds 0 1 --out out.png", "out.png"),
        ("explore attention shirts --out out.png", "out.png"),
        ("export hub shirts --storage float16 --out out", "out/README.md"),
    ],
)
def test_every_command_takes_names(bundled: Path, arguments: str, file: str) -> None:
    dispatch(arguments.split())
    assert Path(file).is_file()


def test_evaluate_takes_names(bundled: Path) -> None:
    assert find_source(Path("shirts")) == bundled / "shirts"
    assert find_source(Path()) == Path()
    with refused("shirst", "shirts"):
        find_source(Path("shirst"))


def test_an_existing_path_comes_first(bundled: Path) -> None:
    write_model(Path("shirts"), seed=9)
    assert torch.equal(vitgan.load("shirts").sample(1), vitgan.load(Path("shirts").resolve()).sample(1))
    assert not torch.equal(vitgan.load("shirts").sample(1), vitgan.load(bundled / "shirts").sample(1))


def test_info_lists_and_shows_bundled_models(bundled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dispatch(["info"])
    shown = capsys.readouterr().out
    assert "shirts         8×8 RGB" in shown
    dispatch(["info", "emoji"])
    assert str(bundled / "emoji") in capsys.readouterr().out


def test_a_hub_repository_is_loaded_and_cached(hub: tuple[str, list[str]], tmp_path: Path) -> None:
    _, asked = hub
    expected = vitgan.load(tmp_path / "shirts").sample(2)
    assert torch.equal(vitgan.load("someone/shirts").sample(2), expected)
    assert torch.equal(vitgan.load("someone/shirts@v1").sample(2), expected)
    assert not [path for path in asked if "evil" in path or "README" in path]  # only what a model is made of
    downloads = [path for path in asked if "/resolve/" in path]
    assert len(downloads) == len({*downloads}) * 2  # HEAD and GET of each file, once for both names


def test_networks_come_from_the_hub_when_a_training_starts_from_them(
    hub: tuple[str, list[str]], tmp_path: Path
) -> None:
    """Also where an earlier `load` has left the model without them in the cache."""
    _, asked = hub
    vitgan.load("someone/trained")
    assert not [path for path in asked if "networks" in path]
    made = build_generator(SPEC), build_discriminator(MODEL), build_generator(SPEC)
    start_from("someone/trained", MODEL, *made)
    generator, discriminator = build_generator(SPEC, seed=7), build_discriminator(MODEL, seed=8)
    assert all(torch.equal(a, b) for a, b in zip(made[0].parameters(), generator.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(made[1].parameters(), discriminator.parameters(), strict=True))
    dispatch(["export", "hub", "someone/trained", "--networks", "--out", str(tmp_path / "again")])
    start_from(str(tmp_path / "again"), MODEL, *made)
    assert all(torch.equal(a, b) for a, b in zip(made[1].parameters(), discriminator.parameters(), strict=True))
    assert load_discriminator("someone/trained").state_dict().keys() == discriminator.state_dict().keys()
    for open_networks in (
        lambda name, *networks: start_from(name, MODEL, *networks),
        lambda name, *_: load_discriminator(name),
    ):
        with refused("someone/shirts", "vitgan export hub --networks"):
            open_networks("someone/shirts", *made)


def test_without_a_network_the_cache_serves(hub: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    first = vitgan.load("someone/shirts").sample(1)
    use_endpoint(monkeypatch, "http://127.0.0.1:1")  # nobody listens
    assert torch.equal(vitgan.load("someone/shirts").sample(1), first)
    with refused("someone/trousers", cause=UserError):
        vitgan.load("someone/trousers")


@pytest.mark.parametrize(
    ("name", "fault", "named"),
    [
        ("someone/trousers", errors.RepositoryNotFoundError, "hf auth login"),
        ("someone/gated", errors.GatedRepoError, "hf auth login"),
        ("someone/shirts@v7", errors.RevisionNotFoundError, "someone/shirts@v7"),
        ("someone/words", type(None), "model.safetensors"),
        ("someone/a..b", errors.HFValidationError, "hf auth login"),
    ],
)
def test_what_the_hub_refuses_is_one_line(
    hub: tuple[str, list[str]], name: str, fault: type[Exception], named: str
) -> None:
    """What its client raised lies behind the error of which this one is made."""
    with pytest.raises(UserError) as caught:
        vitgan.load(name)
    check_refusal(caught.value, name, named)
    assert caught.value.__cause__ is not None
    assert type(caught.value.__cause__.__cause__) is fault


def test_any_failure_of_the_hubs_client_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device\nor so")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", full)
    with refused("someone/shirts", "No space left on device"):
        vitgan.load("someone/shirts")


def test_a_wrong_name_names_the_nearest(bundled: Path) -> None:
    with refused("shirt", "meant shirts", "emoji, shirts"):
        vitgan.load("shirt")
    Path("runs/00000-quickstart").mkdir(parents=True)
    with refused("runs/0000-quickstart", "runs/00000-quickstart"):
        vitgan.load("runs/0000-quickstart")


@pytest.mark.parametrize(
    "name", ["../trousers", "/nowhere/shirts", "a/b/c", "some one/shirts", "x" * 5000, "a\0b", "", "a/"]
)
def test_only_names_of_repositories_go_to_the_hub(
    bundled: Path, hub: tuple[str, list[str]], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with refused():
        vitgan.load(name)
    assert hub[1] == []


def test_a_mistyped_path_into_a_folder_that_is_here_is_not_sent_to_the_hub(
    bundled: Path, hub: tuple[str, list[str]]
) -> None:
    Path("runs").mkdir()
    with refused("runs/00009-cifar10", "vitgan info", cause=type(None)):
        find_model("runs/00009-cifar10")
    assert hub[1] == []
