"""`import vitgan` costs nothing, and yet says what it has: `dir`, `help` and completion."""

import ast
import inspect
import pydoc
import rlcompleter
import subprocess
import sys
from pathlib import Path

import pytest

import vitgan


def test_every_public_name_is_there_for_dir_for_type_checkers_and_for_use() -> None:
    assert set(vitgan.__all__) <= set(dir(vitgan))
    tree = ast.parse(Path(vitgan.__file__).read_text(encoding="utf-8"))
    typed = {alias.asname for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert typed - {None} == set(vitgan.__all__)
    for name in vitgan.__all__:
        assert inspect.getdoc(getattr(vitgan, name)), name
    with pytest.raises(AttributeError):
        vitgan.trian  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]


def test_completion_and_help_show_what_can_be_done() -> None:
    completer = rlcompleter.Completer({"vitgan": vitgan})
    assert (completer.complete("vitgan.tra", 0) or "").startswith("vitgan.train")
    text = pydoc.plain(pydoc.render_doc(vitgan))
    for name in ("train(", "load(", "preset("):
        assert name in text


def test_names_are_listed_without_importing_what_they_are() -> None:
    code = (
        "import sys, vitgan; assert 'train' in dir(vitgan); assert not {'torch', 'numpy', 'pydantic'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
