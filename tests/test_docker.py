"""The container: what it copies is there, and, where asked for (VITGAN_DOCKER=1), it is built and makes images."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")


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


@pytest.mark.skipif("VITGAN_DOCKER" not in os.environ, reason="builds an image: minutes and gigabytes")
@pytest.mark.timeout(3600)
def test_the_image_is_built_and_makes_images(tmp_path: Path) -> None:
    index = os.environ.get("TORCH_INDEX", "")
    subprocess.run(["docker", "build", "-t", "vitgan-test", "--build-arg", f"TORCH_INDEX={index}", ROOT], check=True)
    here = ["docker", "run", "--rm", "--user", str(os.getuid()), "-v", f"{tmp_path}:/work", "vitgan-test"]
    subprocess.run([*here, "sample", "cifar10", "--count", "4", "--grid", "grid.png"], check=True)
    assert (tmp_path / "grid.png").stat().st_uid == os.getuid()
    subprocess.run([*here, "train", "quickstart", "--training.total-kimg", "0.1"], check=True)
    assert any((tmp_path / "runs").iterdir())
