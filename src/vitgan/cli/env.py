"""`vitgan env`: what a bug report needs."""

import importlib.metadata
import os
import platform
import sys

from vitgan import __version__

PACKAGES = ("torch", "numpy", "accelerate", "pydantic", "tyro", "pillow", "safetensors", "huggingface_hub")
EXTRAS = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "video": ("av",),
    "lsun": ("lmdb",),
    "parquet": ("pyarrow",),
    "latent": ("diffusers",),
}


def env() -> None:
    """Prints versions, devices and threads, for a bug report.

    example: vitgan env > environment.txt
    """
    import torch

    from vitgan.devices import computes_bf16

    rows = {"vitgan": __version__, "python": sys.version.split()[0], "system": platform.platform()}
    rows |= {name: version(name) for name in PACKAGES}
    rows["torch"] = torch.__version__  # names its CUDA, which the installed version may leave out
    rows |= {f"vitgan[{extra}]": ", ".join(f"{n} {version(n)}" for n in names) for extra, names in EXTRAS.items()}
    rows["processor"] = f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
    rows["precision on it"] = "bf16" if computes_bf16(cpu=True) else "float32"
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    rows["GPUs"] = ", ".join(gpus) or ("Apple" if torch.backends.mps.is_available() else "none")
    rows |= {name: value for name, value in sorted(os.environ.items()) if name.startswith(("OMP_", "MKL_"))}
    for name, value in rows.items():
        print(f"{name:<16} {value}")


def version(package: str) -> str:
    """The installed version of a package, "not installed" without one."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
