"""Who may import whom: downwards only. Parses every import of the package, those inside functions too."""

import ast
import sys
from pathlib import Path

import pytest

import vitgan

ROOT = Path(vitgan.__file__).parent

BASE = {"errors", "schema"}
MODELS = BASE | {"devices", "frozen", "layers", "models"}
ARITHMETIC = {"training.losses", "training.augment"}
"""Files of `training` that know nothing of it."""
TRAINING = MODELS | ARITHMETIC | {"files", "training"}
LIBRARY = TRAINING | {
    "data",
    "metrics",
    "explore",
    "export",
    "config",
    "presets",
    "pretrained",
    "runs",
}

MAY_IMPORT: dict[str, set[str]] = {
    # No part of ours.
    "errors": set(),
    "schema": set(),
    "training.losses": {"layers"},
    "training.augment": {"schema", "layers"},
    # Files, images and numbers.
    "files": BASE | {"files"},
    "devices": BASE,
    # Networks know of no training and no data; of files, how images are shown.
    "layers": BASE | {"layers"},
    "frozen": BASE | {"files", "layers", "frozen"},
    "models": MODELS | {"files"},
    # Images: neither knows a model. A metric sees a callable that yields images.
    "data": BASE | {"files", "data", "frozen"},
    "metrics": BASE | {"devices", "files", "frozen", "metrics"},
    # The loop is handed hooks; it does not evaluate.
    "training": TRAINING,
    "config": TRAINING,
    "presets": TRAINING | {"config"},
    "pretrained": TRAINING | {"config", "pretrained"},
    "explore": TRAINING | {"config", "pretrained", "explore"},
    "export": TRAINING | {"config", "pretrained", "export"},
    # Where a configuration becomes a run: the loop, the images, and the metrics that the loop does not know.
    "runs": TRAINING | {"config", "presets", "data", "metrics", "pretrained", "runs"},
    "ablation": LIBRARY | {"ablation"},
    "cli": LIBRARY | {"cli", "ablation", ""},
    # `import vitgan` and `python -m vitgan`.
    "": LIBRARY,
    "__main__": {"cli"},
}

OUTSIDE: dict[str, set[str]] = {
    "training.losses": {"torch"},
    "training.augment": {"torch", "pydantic"},
    "layers": {"torch"},
    "models": {"torch", "pydantic", "PIL"},
    "schema": {"pydantic"},
    "errors": set(),
}
"""Packages of others that the inner parts may use besides the standard library."""

NO_PATHS_LOGGING_OR_RANKS = {"pathlib", "os", "shutil", "tempfile", "logging", "multiprocessing", "sys"}


def imported(source: str) -> list[str]:
    """Dotted names of all modules that a source file imports."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            # `from vitgan import runs` may name a module: keep what is imported.
            names += (
                [f"{node.module}.{alias.name}" for alias in node.names]
                if node.module == "vitgan"
                else [node.module or ""]
            )
    return names


def part_of(module: str) -> str:
    """ "models" for "vitgan.models.build"; "" for the package's own names, such as vitgan.__version__."""
    _, *names = module.split(".")
    file, room = ".".join(names[:2]), ".".join(names[:1])
    return file if file in MAY_IMPORT else "" if room.startswith("__") and room not in MAY_IMPORT else room


def files() -> list[tuple[str, Path]]:
    """(part, file) for every source file."""
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        found.append((part_of(".".join(path.relative_to(ROOT.parent).with_suffix("").parts)), path))
    return found


def violations(part: str, source: str) -> list[str]:
    """What a file of this part imports and must not."""
    wrong = []
    for name in imported(source):
        top = name.split(".")[0]
        if top == "vitgan":
            if part_of(name) not in MAY_IMPORT[part]:
                wrong.append(name)
        elif top in sys.stdlib_module_names:
            if part in ("layers", "models", *ARITHMETIC) and top in NO_PATHS_LOGGING_OR_RANKS:
                wrong.append(name)
        elif part in OUTSIDE and (top not in OUTSIDE[part] or name.startswith("torch.distributed")):
            wrong.append(name)
    return wrong


@pytest.mark.parametrize(("part", "path"), files(), ids=lambda value: value.name if isinstance(value, Path) else value)
def test_imports_go_downwards_only(part: str, path: Path) -> None:
    assert part in MAY_IMPORT, f"a new part of the package: state in {Path(__file__).name} what {part} may import"
    wrong = violations(part, path.read_text(encoding="utf-8"))
    assert not wrong, f"{path.relative_to(ROOT)} must not import {', '.join(wrong)}"


def test_the_rules_have_no_circle() -> None:
    """Each part can be put above all that it may import."""
    placed: set[str] = set()
    while len(placed) < len(MAY_IMPORT):
        ready = {part for part, allowed in MAY_IMPORT.items() if part not in placed and allowed - {part, ""} <= placed}
        assert ready, f"a circle among {sorted(set(MAY_IMPORT) - placed)}"
        placed |= ready


@pytest.mark.parametrize(
    ("part", "source"),
    [
        ("layers", "from vitgan.models.build import build_generator"),
        ("layers", "def f():\n    import logging"),
        ("models", "from pathlib import Path"),
        ("models", "import numpy as np"),
        ("models", "import torch.distributed"),
        ("training.losses", "from vitgan.schema import Config"),
        ("training", "def f():\n    from vitgan.metrics.distances import fid"),
        ("metrics", "from vitgan.models.generator import Generator"),
        ("data", "from vitgan import runs"),
        ("presets", "import vitgan.cli.train"),
    ],
)
def test_the_check_sees_what_is_forbidden(part: str, source: str) -> None:
    assert violations(part, source)
    assert not violations("cli", source)
