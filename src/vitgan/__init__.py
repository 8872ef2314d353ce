"""vitgan: train, study and use GANs made of Vision Transformers.

The public names, each listed once; they are imported when first used, so that `import vitgan` takes no time.
"""

import importlib
import os
from typing import TYPE_CHECKING

__version__ = "0.1.0"

# Nothing leaves the machine unasked: onnxruntime and the Hub's client report on their use unless told not to, and read
# these when they are imported. A value that is set already stays.
for _switch in ("ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY"):
    os.environ[_switch] = os.environ.get(_switch) or "1"

if TYPE_CHECKING:
    from vitgan.config import RunConfig
    from vitgan.errors import UserError
    from vitgan.models.build import GeneratorSpec, ModelConfig, build_discriminator, build_generator
    from vitgan.presets import preset
    from vitgan.pretrained.generators import load, save
    from vitgan.runs.train import train

_HOMES = {
    "GeneratorSpec": "vitgan.models.build",
    "ModelConfig": "vitgan.models.build",
    "RunConfig": "vitgan.config",
    "UserError": "vitgan.errors",
    "build_discriminator": "vitgan.models.build",
    "build_generator": "vitgan.models.build",
    "load": "vitgan.pretrained.generators",
    "preset": "vitgan.presets",
    "save": "vitgan.pretrained.generators",
    "train": "vitgan.runs.train",
}

__all__ = [
    "GeneratorSpec",
    "ModelConfig",
    "RunConfig",
    "UserError",
    "build_discriminator",
    "build_generator",
    "load",
    "preset",
    "save",
    "train",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'vitgan' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
