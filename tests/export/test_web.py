import hashlib
import importlib.util
import io
import json
import math
import shutil
import subprocess
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from generators import make, make_shallow
from refusals import refused
from vitgan.errors import UserError
from vitgan.explore.zoom import zoom
from vitgan.export import web
from vitgan.export.onnx import open_session
from vitgan.export.web import (
    PAGE_FILES,
    TYPICAL_SEEDS,
    ZOOM,
    export_web,
    find_runtime,
    page_description,
    typical_seeds,
)
from vitgan.files.folders import MARKER
from vitgan.models.draws import draw_latents, latents_of_seeds

needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="the extra onnx is not installed",
)
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
PAGE = Path(web.__file__).parent / "page"


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files that stand for onnxruntime-web's, and their digests."""
    folder = tmp_path / "dist"
    folder.mkdir()
    for name in web.RUNTIME_FILES:
        (folder / name).write_text(name)
    monkeypatch.setattr(web, "RUNTIME_FILES", {n: hashlib.sha256(n.encode()).hexdigest() for n in web.RUNTIME_FILES})
    return folder


@needs_onnx
@pytest.mark.parametrize("kind", ["vit", "stylegan2", "scaled"])
def test_the_pages_models_make_pytorchs_images(tmp_path: Path, runtime: Path, kind: str) -> None:
    classes = 3 if kind == "vit" else 0
    generator = make_shallow(kind, classes)
    report = export_web(generator, tmp_path / "page", runtime, title="Shirts")
    assert report.largest_difference < 1e-4
    said = json.loads((report.folder / "model.json").read_text())
    assert said["title"] == "Shirts"
    inputs: dict[str, Any] = {"z": draw_latents(1, 8, seed=3).numpy(), "truncation": np.array([0.7], np.float32)}
    labels = torch.tensor([2]) if classes else None
    mapping = open_session(report.folder / "mapping.onnx")
    if labels is not None:
        for label in (-1, classes):
            with pytest.raises(Exception, match="out of data bounds"):
                mapping.run(None, inputs | {"labels": np.array([label])})
        inputs["labels"] = labels.numpy()
    w = mapping.run(None, inputs)[0]
    assert w.shape == (1, said["wDim"])
    made = open_session(report.folder / "synthesis.onnx").run(None, {"w": w[:, None].repeat(said["numStyles"], 1)})
    expected = generator.sample(1, 3, 0.7, labels)
    torch.testing.assert_close(torch.from_numpy(made[0]).clamp(-1, 1), expected, atol=1e-4, rtol=0)
    if kind in ("vit", "scaled"):
        zoomed = open_session(report.folder / "zoom.onnx").run(None, {"tokens": made[1]})[0]
        assert zoomed.shape == (1, 3, 16 * ZOOM, 16 * ZOOM)
        styles = generator.styles(generator.mapping(torch.from_numpy(inputs["z"]), labels), 0.7, labels)
        torch.testing.assert_close(
            torch.from_numpy(zoomed).clamp(-1, 1), zoom(generator, styles, ZOOM), atol=1e-4, rtol=0
        )
    else:
        assert said["zoom"] == page_description(make("summed"), "")["zoom"] == 1
        assert not (report.folder / "zoom.onnx").exists()


def test_a_page_is_replaced_but_nothing_else_is(tmp_path: Path, runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "write_models", lambda generator, folder: torch.zeros(1))  # slow, and tested above
    folder = tmp_path / "page"
    export_web(make("vit"), folder, runtime)
    export_web(make("vit"), folder, runtime)
    assert {p.name for p in folder.iterdir()} == {*PAGE_FILES, "model.json", "runtime", ".vitgan.json"}
    (folder / "notes").write_text("mine")
    with refused(folder, "'notes'"):
        export_web(make("vit"), folder, runtime)
    assert (folder / "notes").read_text() == "mine"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("")
    with refused(tmp_path / "other", MARKER):
        export_web(make("vit"), tmp_path / "other", runtime)


def test_no_page_is_made_of_a_model_that_diverged(tmp_path: Path, runtime: Path) -> None:
    generator = make("vit")
    next(generator.parameters()).fill_(math.nan)
    with pytest.raises(UserError) as said:
        generator.sample(1)
    with refused(str(said.value)):
        export_web(generator, tmp_path / "page", runtime)
    assert not (tmp_path / "page").exists()


def test_the_page_opens_on_images_near_the_mean_of_their_class() -> None:
    generator = make("vit", 3)
    seeds, labels = typical_seeds(generator), generator.classes_of_seeds(range(60))
    assert labels is not None
    assert len({*seeds}) == TYPICAL_SEEDS
    assert [seed % 3 for seed in seeds[:6]] == [0, 1, 2, 0, 1, 2]
    w = generator.mapping(latents_of_seeds([*range(60), *seeds], 8), torch.cat([labels, torch.tensor(seeds) % 3]))
    distances = (w - generator.class_means()[torch.cat([labels, torch.tensor(seeds) % 3])]).norm(dim=1)
    assert distances[60:].max() < distances[:60].quantile(0.3)
    assert len(typical_seeds(make("vit"))) == TYPICAL_SEEDS


def test_the_page_asks_for_no_file_but_its_own() -> None:
    for name in PAGE_FILES:
        text = (PAGE / name).read_text()
        assert "http:" not in text
        assert "https:" not in text
    assert "default-src 'self'" in (PAGE / "index.html").read_text()


@needs_node
@pytest.mark.parametrize("size", [1, 8, 15, 16, 96, 100, 128])
def test_a_seed_is_the_same_latent_in_the_browser(tmp_path: Path, size: int) -> None:
    shutil.copyfile(PAGE / "latents.js", tmp_path / "latents.mjs")
    script = "import {latentOfSeed} from './latents.mjs';"
    script += f"console.log(JSON.stringify([0, 7, 4294967295].map((s) => Array.from(latentOfSeed(s, {size})))))"
    answer = subprocess.run(
        ["node", "--input-type=module", "-e", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    expected = torch.cat([draw_latents(1, size, seed) for seed in (0, 7, 4294967295)])
    torch.testing.assert_close(torch.tensor(json.loads(answer.stdout)), expected, atol=1e-5, rtol=0)


def pack(folder: Path) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for path in folder.iterdir():
            tar.add(path, f"package/dist/{path.name}")
    return file.getvalue()


def test_the_runtime_is_fetched_once_and_cached(tmp_path: Path, runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def npm(command: list[str], cwd: str, **_: object) -> SimpleNamespace:
        asked.append(command)
        (Path(cwd) / "ort.tgz").write_bytes(pack(runtime))
        return SimpleNamespace(stdout='[{"filename": "ort.tgz"}]')

    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    monkeypatch.setattr("subprocess.run", npm)
    first, second = find_runtime(tmp_path / "cache"), find_runtime(tmp_path / "cache")
    assert first == second
    assert {p.name for p in first.iterdir()} == set(web.RUNTIME_FILES)
    assert len(asked) == 1
    assert asked[0][1:3] == ["pack", web.RUNTIME_PACKAGE]
    assert [p.name for p in (tmp_path / "cache").iterdir()] == [first.name]


def test_no_npm_no_network_and_wrong_files_are_one_line(
    tmp_path: Path, runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with refused(f"npm pack {web.RUNTIME_PACKAGE}", cause=type(None)):
        find_runtime(tmp_path / "cache")

    def offline(*_: object, **__: object) -> None:
        raise subprocess.CalledProcessError(1, "npm")

    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    monkeypatch.setattr("subprocess.run", offline)
    with refused(f"npm pack {web.RUNTIME_PACKAGE}", cause=subprocess.CalledProcessError):
        find_runtime(tmp_path / "cache")
    assert find_runtime(tmp_path / "cache", runtime) == runtime
    (runtime / "ort.wasm.min.mjs").write_text("other")
    with refused(runtime / "ort.wasm.min.mjs", web.RUNTIME_PACKAGE):
        find_runtime(tmp_path / "cache", runtime)
    (runtime / "ort.wasm.min.mjs").unlink()
    with refused(runtime, "ort.wasm.min.mjs", web.RUNTIME_PACKAGE):
        find_runtime(tmp_path / "cache", runtime)
