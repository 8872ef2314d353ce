"""Nothing leaves the machine unasked: what libraries that report on their use do once vitgan is imported."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SWITCHES = ("ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY", "DISABLE_TELEMETRY", "DO_NOT_TRACK")

RUN_A_MODEL = """
import sys
import onnx
import vitgan
from onnx import TensorProto, helper
from vitgan.export.onnx import open_session

value = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"}
graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value["x"]], [value["y"]])
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), sys.argv[1])
open_session(sys.argv[1])
"""


def environment(home: Path, **more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k not in SWITCHES and not k.startswith("XDG_")}
    return kept | {"HOME": str(home)} | more


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="the extra onnx is not installed",
)
def test_onnxruntime_writes_nothing_at_home_and_asks_nobody(tmp_path: Path) -> None:
    home, trace = tmp_path / "home", tmp_path / "trace"
    home.mkdir()
    command = [sys.executable, "-c", RUN_A_MODEL, str(tmp_path / "model.onnx")]
    watch = ["strace", "-f", "-qq", "-o", str(trace), "-e", "trace=connect,sendto,sendmsg,sendmmsg"]
    if shutil.which("strace") and subprocess.run([*watch, "true"], capture_output=True).returncode == 0:
        command = watch + command
    subprocess.run(command, check=True, env=environment(home), capture_output=True)
    assert [path for path in home.rglob("*") if path.is_file()] == []
    if trace.exists():
        assert "AF_INET" not in trace.read_text()


@pytest.mark.parametrize(("given", "found"), [("", "True"), ("1", "True"), ("0", "False")])
def test_the_hubs_client_is_told_so_unless_the_user_says_otherwise(tmp_path: Path, given: str, found: str) -> None:
    code = "import vitgan, huggingface_hub.constants as c; print(c.HF_HUB_DISABLE_TELEMETRY)"
    env = environment(tmp_path, HF_HUB_DISABLE_TELEMETRY=given)
    shown = subprocess.run([sys.executable, "-c", code], check=True, env=env, capture_output=True, text=True).stdout
    assert shown.strip() == found
