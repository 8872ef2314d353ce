"""The container: what it copies is there, and, where docker or podman answers, it is built, used and stopped.

VITGAN_IMAGE_OPTIONS holds more options of the build, such as `--build-arg BASE=...` or `--build-arg TORCH_INDEX=...`.
TORCH_INDEX asks for the image for a CPU; without it the image is to have CUDA.
"""

import os
import re
import shlex
import shutil
import subprocess
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
IMAGE = "vitgan-test"
OPTIONS = shlex.split(os.environ.get("VITGAN_IMAGE_OPTIONS", ""))
ROOTLESS = os.getuid() != 0
USER, GROUP = (os.getuid(), os.getgid()) if ROOTLESS else (1234, 1235)


def test_what_the_image_is_made_of_is_there_and_not_ignored() -> None:
    kept = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines()}
    copied = [name for line in re.findall(r"^COPY (.+) \S+$", DOCKERFILE, re.MULTILINE) for name in line.split()]
    for name in copied:
        assert (ROOT / name).exists()
        assert name in kept
    (extras,) = re.findall(r"/src\[(.+)\]", DOCKERFILE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert set(extras.split(",")) == project["optional-dependencies"].keys() - {"dev"}
    assert any(line.startswith("torch==") for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines())


def answers(engine: str) -> bool:
    try:
        return subprocess.run([engine, "info"], capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def build(engine: str, image: str, context: Path) -> None:
    subprocess.run([engine, "build", "-t", image, *OPTIONS, context], check=True)


@pytest.fixture(scope="module")
def engine() -> Iterator[str]:
    """docker or podman, with the image built; the image is removed at the end."""
    name = next(filter(answers, ["docker", "podman"]), None)
    if name is None:
        pytest.skip("neither docker nor podman answers")
    build(name, IMAGE, ROOT)
    yield name
    subprocess.run([name, "rmi", IMAGE], check=True)


@pytest.fixture
def run(engine: str, tmp_path: Path) -> list[str]:
    """The command that the Dockerfile's header shows, with a folder of USER's at /project."""
    if not ROOTLESS:
        os.chown(tmp_path, USER, GROUP)
    keep = ["--userns", "keep-id"] if ROOTLESS and engine == "podman" else []
    return [engine, "run", "--rm", *keep, "--user", f"{USER}:{GROUP}", "-v", f"{tmp_path}:/project"]


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_the_image_shows_help_to_a_user_who_is_not_root(engine: str) -> None:
    shown = subprocess.run([engine, "run", "--rm", IMAGE], check=True, capture_output=True, text=True).stdout
    assert "vitgan train quickstart" in shown
    who = [engine, "run", "--rm", "--entrypoint", "sh", IMAGE, "-c", "touch /project/mine && id -u && ls -A /"]
    user, *top = subprocess.run(who, check=True, capture_output=True, text=True).stdout.split()
    assert user != "0"
    assert "src" not in top


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_the_image_has_cuda_unless_torchs_cpu_wheels_are_asked_for(engine: str) -> None:
    look = [engine, "run", "--rm", "--entrypoint", "python", IMAGE, "-c"]
    said = "import torch; print(torch.__version__, torch.version.cuda)"
    version, cuda = subprocess.run([*look, said], check=True, capture_output=True, text=True).stdout.split()
    assert (cuda == "None") == any("TORCH_INDEX=" in option for option in OPTIONS)
    shown = subprocess.run([engine, "run", "--rm", IMAGE, "env"], check=True, capture_output=True, text=True).stdout
    assert dict(line.split(maxsplit=1) for line in shown.splitlines())["torch"] == version


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_change_of_src_is_in_the_next_image(engine: str, tmp_path: Path) -> None:
    for name in ["Dockerfile", ".dockerignore", "constraints.txt", "pyproject.toml", "README.md", "LICENSE"]:
        shutil.copy2(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "src", tmp_path / "src")
    (tmp_path / "src/vitgan/added.py").touch()
    changed = f"{IMAGE}-changed"
    build(engine, changed, tmp_path)
    try:
        look = [engine, "run", "--rm", "--entrypoint", "python", changed, "-c", "import vitgan.added"]
        subprocess.run(look, check=True)
    finally:
        subprocess.run([engine, "rmi", changed], check=True)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_files_and_caches_lie_in_the_mounted_folder_and_are_the_users(run: list[str], tmp_path: Path) -> None:
    subprocess.run([*run, IMAGE, "sample", "fashion-mnist", "--grid", "grid.png"], check=True)
    subprocess.run([*run, IMAGE, "train", "quickstart", "--training.total-kimg", "0.1"], check=True)
    assert (tmp_path / "grid.png").is_file()
    assert list(tmp_path.glob("runs/*-quickstart/checkpoints/*/generator_ema.safetensors"))
    assert (tmp_path / ".cache/vitgan").is_dir()
    assert {(path.stat().st_uid, path.stat().st_gid) for path in tmp_path.rglob("*")} == {(USER, GROUP)}


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_stopping_the_container_saves_the_run(engine: str, run: list[str], tmp_path: Path) -> None:
    name = f"{IMAGE}-{os.getpid()}"
    with subprocess.Popen([*run, "--name", name, IMAGE, "train", "quickstart"]) as training:
        try:
            while not any(log.stat().st_size for log in tmp_path.glob("runs/*/metrics.jsonl")):
                assert training.poll() is None
                time.sleep(1)
            subprocess.run([engine, "stop", "-t", "120", name], check=True)
            assert training.wait() == 128 + 15  # SIGTERM
        finally:
            subprocess.run([engine, "rm", "-f", name], capture_output=True)
    (run_folder,) = tmp_path.glob("runs/*-quickstart")
    assert list(run_folder.glob("checkpoints/*/state.json"))
    subprocess.run([*run, IMAGE, "sample", f"runs/{run_folder.name}", "--grid", "grid.png"], check=True)
    assert (tmp_path / "grid.png").is_file()
