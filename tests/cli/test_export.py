import json
from pathlib import Path

import pytest

from generators import make
from refusals import refused
from vitgan.cli.main import dispatch
from vitgan.export import web
from vitgan.export.onnx import OnnxReport
from vitgan.export.web import WEB_PAGE
from vitgan.files.folders import MARKER, new_folder
from vitgan.models.generator import Generator
from vitgan.pretrained.generators import locate, save, weights_digest


def main(arguments: list[str]) -> None:
    dispatch(["export", *arguments])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("export") / "model"
    return str(save(make("vit"), folder))


def test_onnx_prints_what_it_is_worth(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def exported(generator: Generator, path: Path, precision: str, interface: str) -> OnnxReport:
        asked.append(f"{precision} {interface}")
        return OnnxReport(path, 1.5, 2e-6, 1e-7, 120.0, 100.0)

    monkeypatch.setattr("vitgan.export.onnx.export_onnx", exported)  # slow, and tested by itself
    main(["onnx", model, "--precision", "int8", "--interface", "torch-fidelity", "--out", str(tmp_path / "g.onnx")])
    shown = capsys.readouterr().out
    assert asked == ["int8 torch-fidelity"]
    assert "1.5 MB" in shown
    assert "at most 2e-06" in shown
    assert "120 images/s under onnxruntime, 100 in PyTorch" in shown


def test_hub(model: str, tmp_path: Path) -> None:
    main(["hub", model, "--title", "Shirts", "--out", str(tmp_path / "m")])
    assert "# Shirts" in (tmp_path / "m" / "README.md").read_text()


@pytest.mark.parametrize("trained_on", [False, True])
def test_metrics_of_other_weights_are_said_to_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], trained_on: bool
) -> None:
    """Those of a run's earlier checkpoint, say: its name is the same."""
    generator = make("vit")
    measured = {
        "source": str(tmp_path / "model"),
        "weights_sha256": weights_digest(generator),
        "metrics": {"FID": 3.0},
        "features": {"name": "inception"},
        "protocol": {"name": "p", "truncation": 1, "seed": 0},
        "images": {"generated": 9, "reference": 9},
    }
    (tmp_path / "fid.json").write_text(json.dumps(measured))
    if trained_on:
        next(generator.parameters()).add_(0.1)
    save(generator, tmp_path / "model")
    moved = (tmp_path / "model").rename(tmp_path / "moved")
    main(["hub", str(moved), "--metrics", str(tmp_path / "fid.json"), "--out", str(tmp_path / "m")])
    assert ("weights" in capsys.readouterr().err) == trained_on


def test_all_of_an_export_is_of_one_checkpoint(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that trains has a newer one when its newest is asked for again."""
    asked: list[str] = []

    def located(name: str | Path, networks: bool = False) -> object:
        asked.append(str(name))
        return locate(model if name == "run" else name, networks)

    for module in ("generators", "hub"):
        monkeypatch.setattr(f"vitgan.pretrained.{module}.locate", located)
    main(["hub", "run", "--out", str(tmp_path / "m")])
    assert asked.count("run") == 1


@pytest.mark.parametrize("place", ["m", "elsewhere/../m", "link/m"])
def test_a_model_is_not_replaced_by_less_of_itself(tmp_path: Path, place: str) -> None:
    """The copy has no networks, or half the digits."""
    source = save(make("vit"), tmp_path / "m")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path)
    before = {path.name: path.read_bytes() for path in source.iterdir()}
    with refused(tmp_path / place, parameter="out"):
        main(["hub", str(source), "--storage", "float16", "--out", str(tmp_path / place)])
    assert {path.name: path.read_bytes() for path in source.iterdir()} == before


def test_a_folder_that_nobody_named_replaces_none(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("model").mkdir()
    main(["hub", model, "--title", "Shirts"])
    with new_folder(Path("web"), WEB_PAGE) as page:
        (page / "index.html").write_text("a page")
    for kind, folder in (("hub", "model"), ("web", "web")):
        with refused(folder, parameter="out"):
            main([kind, model, "--title", "Shoes"])
    assert "# Shirts" in Path("model/README.md").read_text()
    assert Path("web/index.html").read_text() == "a page"
    main(["hub", model, "--title", "Shoes", "--out", "model"])
    assert "# Shoes" in Path("model/README.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "named", "parameter"),
    [
        (["gguf"], ["gguf", "onnx, hub, web"], None),
        (["onnx", "MODEL", "--out", "g.txt"], ["g.txt", ".onnx"], None),
        (["onnx", "MODEL", "--precision", "int3"], ["int3"], "precision"),
        (["hub", "MODEL", "--metrics", "nowhere.json"], ["nowhere.json"], None),
        (["web", "MODEL", "--runtime", "nowhere"], ["nowhere", next(iter(web.RUNTIME_FILES))], None),
        (["onnx", "MODEL", "--out", "mine"], ["mine", ".onnx"], None),
        (["onnx", "MODEL", "--out", "."], ["."], None),
        (["onnx", "MODEL", "--out", "mine/below.onnx"], ["mine/below.onnx"], None),
        (["onnx", "MODEL"], ["generator.onnx"], "out"),
        (["hub", "MODEL", "--out", "mine"], ["mine"], None),
        (["hub", "MODEL", "--out", "."], [MARKER], None),
        (["hub", "MODEL", "--metrics", "mine"], ["mine"], None),
        (["hub", "MODEL", "--push", "not a name"], ["not a name"], None),
        (["hub", "MODEL", "--push", "me/shirts"], ["me/shirts"], None),
        (["web", "MODEL", "--out", "."], [MARKER], None),
        (["web", "nowhere"], ["nowhere"], None),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], named: list[str], parameter
) -> None:
    def no_network(self: object, *given: object, **options: object) -> None:
        raise OSError("no route\nto the hub")

    monkeypatch.setattr("huggingface_hub.HfApi.whoami", no_network)
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "generator.onnx", "model.json", "README.md"):
        Path(name).write_text("mine")
    given = [model if a == "MODEL" else a for a in arguments]
    with refused(*named, parameter=parameter):
        main(given)
    assert len(list(tmp_path.iterdir())) == 4
    assert {p.read_text() for p in tmp_path.iterdir()} == {"mine"}


@pytest.mark.parametrize("port", ["-1", "65536", "x", ""])
def test_a_port_that_is_none_is_refused_first(model: str, port: str) -> None:
    with refused(parameter="port"):
        dispatch(["serve", model, "--port", port])
