"""Files from strangers: refused in one line or loaded as they are; never run, never followed, never too large.

`VITGAN_FUZZ_ROUNDS` multiplies the number of cases.
"""

import errno
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import save_file

import vitgan
from refusals import refused
from tiny import newest, tiny_model, tiny_run, write_images
from vitgan.data.prepare import prepare
from vitgan.data.sources.folder import ImageFolder
from vitgan.data.store import ImageStore
from vitgan.errors import UserError
from vitgan.files import read_model
from vitgan.files.reading import LARGEST_JSON_BYTES
from vitgan.files.tensors import TRUST_SIZES, load_weights
from vitgan.models.build import GeneratorSpec, build_generator
from vitgan.runs.folder import config_of_run
from vitgan.training.checkpoint import verify_checkpoint

ROUNDS = int(os.environ.get("VITGAN_FUZZ_ROUNDS", "1"))


def fuzz(examples: int) -> Callable[[Any], Any]:
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return settings(max_examples=examples * ROUNDS, deadline=None, suppress_health_check=checks, database=None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store, a run and a model."""
    folder = tmp_path_factory.mktemp("strangers")
    prepare(ImageFolder(write_images(folder / "images")), folder / "store", resolution=8, workers=0)
    run = vitgan.train(tiny_run(str(folder / "store"), total_kimg=0.008), folder / "runs")
    run.rename(folder / "run")
    vitgan.save(vitgan.load(folder / "run"), folder / "model")
    return folder


def outcome(action: Callable[[], Any]) -> Any:
    """What it returns, or None for one clear line; any other exception is a bug."""
    try:
        return action()
    except UserError as error:
        message = str(error)
        assert message.isprintable()
        assert len(message) < 1000
        return None


# Damage: what a stranger may write into JSON, and what may happen to bytes.

numbers = st.integers() | st.floats() | st.sampled_from([0, -1, 1, 2**31, 2**63, 10**30, 1e308, 1e-320])
leaves = (
    st.none() | st.booleans() | numbers | st.text(max_size=8) | st.sampled_from(["vit", "__import__", "../x", "inf"])
)
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3), max_leaves=6)  # fmt: skip  # noqa: E501


@st.composite
def changed_json(draw: st.DrawFn, original: Any) -> str:
    """The JSON with one to three of its values replaced, removed or added."""
    value = json.loads(json.dumps(original))
    for _ in range(draw(st.integers(1, 3))):
        places: list[tuple[dict, str]] = []
        _places(value, places)
        inner, key = draw(st.sampled_from(places))
        match draw(st.sampled_from(["replace", "replace", "replace", "remove", "add"])):
            case "replace":
                inner[key] = draw(values)
            case "remove":
                inner.pop(key, None)
            case "add":
                inner[draw(st.text(max_size=6))] = draw(values)
    return json.dumps(value)


def _places(value: Any, found: list[tuple[dict, str]]) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            found.append((value, key))
            _places(inner, found)
        if not value:
            found.append((value, "x"))


@st.composite
def damaged_bytes(draw: st.DrawFn, original: bytes) -> bytes:
    """One to three flips, cuts, insertions or overwritten places; half of them in the first 600 bytes."""
    data = bytearray(original)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, max(len(data) - 1, 0)) | st.integers(0, 600))
        match draw(st.sampled_from(["flip", "flip", "cut", "insert", "overwrite", "remove"])):
            case "flip" if place < len(data):
                data[place] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del data[place:]
            case "insert":
                data[place:place] = draw(st.binary(min_size=1, max_size=9))
            case "overwrite":
                data[place : place + 8] = draw(st.binary(min_size=8, max_size=8))
            case "remove":
                del data[place : place + draw(st.integers(1, 20))]
    return bytes(data)


def check_model(folder: Path, expected: dict[str, torch.Tensor]) -> None:
    """Refused, or the very weights."""
    generator = outcome(lambda: vitgan.load(folder))
    if generator is not None:
        found = generator.state_dict()
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)


@fuzz(75)
@given(data=st.data())
def test_fuzzed_config_of_a_model(folder: Path, data: st.DataObject) -> None:
    path = folder / "model" / "config.json"
    original = (folder / "config.sound").read_bytes() if (folder / "config.sound").exists() else path.read_bytes()
    (folder / "config.sound").write_bytes(original)
    expected = _weights(folder)
    if data.draw(st.booleans()):
        path.write_text(data.draw(changed_json(json.loads(original))))
    else:
        path.write_bytes(data.draw(damaged_bytes(original)))
    try:
        check_model(folder / "model", expected)
    finally:
        path.write_bytes(original)


@fuzz(100)
@given(data=st.data())
def test_fuzzed_safetensors(folder: Path, data: st.DataObject) -> None:
    expected, path = _weights(folder), folder / "model" / "model.safetensors"
    original = path.read_bytes()
    path.write_bytes(data.draw(damaged_bytes(original)))
    try:
        check_model(folder / "model", expected)
    finally:
        path.write_bytes(original)


@fuzz(75)
@given(data=st.data())
def test_fuzzed_state_of_a_checkpoint(folder: Path, data: st.DataObject) -> None:
    checkpoint = newest(folder / "run")
    path = checkpoint / "state.json"
    original, sound = path.read_bytes(), verify_checkpoint(checkpoint)
    damage = changed_json(json.loads(original)) if data.draw(st.booleans()) else damaged_bytes(original)
    drawn = data.draw(damage)
    path.write_bytes(drawn if isinstance(drawn, bytes) else drawn.encode())
    try:
        manifest = outcome(lambda: verify_checkpoint(checkpoint))
        # Without the digest, which a stranger may leave out, only what says nothing false about the files is read.
        assert manifest is None or manifest == sound or manifest.sha256 is None
    finally:
        path.write_bytes(original)


@fuzz(75)
@given(data=st.data())
def test_fuzzed_configuration_of_a_run(folder: Path, data: st.DataObject) -> None:
    path = folder / "run" / "config.json"
    original = path.read_bytes()
    damage = changed_json(json.loads(original)) if data.draw(st.booleans()) else damaged_bytes(original)
    drawn = data.draw(damage)
    path.write_bytes(drawn if isinstance(drawn, bytes) else drawn.encode())
    try:
        outcome(lambda: config_of_run(folder / "run"))
        outcome(lambda: vitgan.load(folder / "run"))
    finally:
        path.write_bytes(original)


@fuzz(75)
@given(data=st.data())
def test_fuzzed_description_of_a_store(folder: Path, data: st.DataObject) -> None:
    path = folder / "store" / "dataset.json"
    original = path.read_bytes()
    damage = changed_json(json.loads(original)) if data.draw(st.booleans()) else damaged_bytes(original)
    drawn = data.draw(damage)
    path.write_bytes(drawn if isinstance(drawn, bytes) else drawn.encode())
    try:
        store = outcome(lambda: ImageStore.open(folder / "store"))
        assert store is None or store.images.shape == (12, 3, 8, 8)
    finally:
        path.write_bytes(original)


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    generator = build_generator(tiny_model().generator_spec(), device="meta")
    load_weights(generator, newest(folder / "run") / "generator_ema.safetensors")
    return generator.state_dict()


def spec_with(**changes: object) -> dict[str, Any]:
    spec = tiny_model().generator_spec().model_dump(mode="json")
    generator = {k: v for k, v in changes.items() if k in spec["generator"]}
    return spec | {k: v for k, v in changes.items() if k in spec} | {"generator": spec["generator"] | generator}


@pytest.mark.parametrize(
    ("changes", "facts"),
    [
        ({"depth": 10**9}, ["generator.depth", "1e+09", 256]),
        ({"mapping_layers": 10**6}, ["generator.mapping_layers", "1e+06"]),
        ({"resolution": 2**40}, ["resolution", f"{2**40:.6g}"]),
        ({"resolution": 4096, "patch_size": 1}, ["tokens", f"{4096**2:.6g}"]),
        ({"dim": 2**20, "depth": 256}, ["weights"]),
        ({"z_dim": 2**40}, ["generator.z_dim", f"{2**40:.6g}"]),
        ({"mlp_ratio": 1e300}, ["generator.mlp_ratio", "1e+300"]),
        ({"num_classes": 10**12}, ["num_classes", "1e+12"]),
        ({"mlp_ratio": "inf"}, ["mlp_ratio", "'inf'"]),
    ],
)
def test_sizes_that_exhaust_memory_are_refused(folder: Path, tmp_path: Path, changes: dict, facts: list) -> None:
    model = shutil.copytree(folder / "model", tmp_path / "model")
    (model / "config.json").write_text(json.dumps(spec_with(**changes)))
    with refused(model, *facts):
        vitgan.load(model)


def test_sizes_can_be_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = GeneratorSpec.model_validate(spec_with(depth=257, dim=2, num_heads=1, inr_dim=2))
    vitgan.save(build_generator(spec), tmp_path)
    with refused(tmp_path / "config.json", f"{TRUST_SIZES}=1"):
        vitgan.load(tmp_path)
    monkeypatch.setenv(TRUST_SIZES, "1")
    vitgan.load(tmp_path)


def test_pickles_are_refused(folder: Path, tmp_path: Path) -> None:
    for name in ("model.pt", "model.pkl", "pytorch_model.bin"):
        (tmp_path / name).write_bytes(pickle.dumps({"a": 1}))
        with refused(tmp_path / name, "safetensors"):
            vitgan.load(tmp_path / name)
    model = shutil.copytree(folder / "model", tmp_path / "model")
    (model / "model.safetensors").write_bytes(pickle.dumps({"a": 1}))
    with refused(model / "model.safetensors", cause=SafetensorError):
        vitgan.load(model)


def test_weights_of_another_type_are_refused(folder: Path, tmp_path: Path) -> None:
    model = shutil.copytree(folder / "model", tmp_path / "model")
    tensors = vitgan.load(model).state_dict()
    save_file({name: tensor.double() for name, tensor in tensors.items()}, model / "model.safetensors")
    with refused(model / "model.safetensors", "torch.float64"):
        vitgan.load(model)


def test_messages_hold_nothing_for_the_terminal(folder: Path, tmp_path: Path) -> None:
    model = shutil.copytree(folder / "model", tmp_path / "model")
    (model / "config.json").write_text(json.dumps({"\x1b]0;gotcha\x07\n": 1}))
    with pytest.raises(UserError) as caught:
        vitgan.load(model)
    assert str(caught.value).isprintable()


def test_json_of_any_size_or_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with path.open("wb") as file:
        file.truncate(LARGEST_JSON_BYTES + 1)
    with refused(path, f"{LARGEST_JSON_BYTES >> 20} MiB"):
        read_model(path, GeneratorSpec, "model")
    path.write_text("[" * 100_000)
    with pytest.raises(UserError):
        read_model(path, GeneratorSpec, "model")
    path.unlink()
    os.mkfifo(path)  # reading it would wait for ever
    with refused(path, cause=errno.EINVAL):
        read_model(path, GeneratorSpec, "model")


AUDIT = """
import sys
import torch
import vitgan
from pathlib import Path

libraries = Path(torch.__file__).parent.parent  # torch reads lines of its own source
hostile = Path(sys.argv[1])
for sound in sys.argv[2:]:
    vitgan.load(sound)  # imports what it needs

FORBIDDEN = ("exec", "compile", "import", "pickle.find_class", "subprocess.Popen", "os.system", "os.exec", "os.fork",
             "os.posix_spawn", "socket.", "marshal.", "code.", "ctypes.dlopen", "shutil.", "os.rename", "os.remove",
             "os.mkdir", "urllib.")
seen = []

def watch(event, arguments):
    if event.startswith(FORBIDDEN):
        seen.append((event, str(arguments)[:200]))
    path = Path(str(arguments[0]) if event == "open" else hostile).resolve()
    if not path.is_relative_to(hostile.resolve()) and not path.is_relative_to(libraries):
        seen.append((event, str(arguments[0])))

sys.addaudithook(watch)
for kind in ("model", "run"):
    vitgan.load(hostile / kind)
found = list(seen)
exec("1")
open(sys.argv[0] if sys.argv[0] != "-c" else "/dev/null").close()
assert len(seen) >= len(found) + 2, "the watch does not see"
print(found)
sys.exit(bool(found))
"""


def test_loading_runs_no_code_and_touches_no_other_file(folder: Path, tmp_path: Path) -> None:
    hostile, kinds = tmp_path / "hostile", ("model", "run")
    for kind in kinds:
        shutil.copytree(folder / kind, hostile / kind)
    trap = tmp_path / "trap"

    class Trap:
        def __reduce__(self) -> tuple:
            return os.system, (f"touch {trap}",)

    code = f"open({str(trap)!r}, 'w')"
    for place in (*hostile.iterdir(), *hostile.glob("run/checkpoints/*")):
        for name in ("vitgan.py", "__init__.py", "modeling.py", "config.py", "sitecustomize.py"):
            (place / name).write_text(code)
        for name in ("model.pt", "pytorch_model.bin", "optimizer.pkl", "training_state.pt"):
            (place / name).write_bytes(pickle.dumps(Trap()))
    arguments = [str(hostile), *(str(folder / kind) for kind in kinds)]
    done = subprocess.run([sys.executable, "-c", AUDIT, *arguments], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not trap.exists()
