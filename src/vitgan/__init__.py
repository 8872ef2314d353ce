"""vitgan: train, study and use GANs made of Vision Transformers.

    vitgan.train("quickstart", data="my_photos")        # a run of a preset on your images
    generator = vitgan.load("cifar10")                  # a trained generator: bundled, a run, a folder, from the Hub
    generator.sample(16, labels="cat", output="pil")    # images

The public names are imported when first used, so that `import vitgan` takes no time.
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
    from vitgan.config import RunConfig as RunConfig
    from vitgan.errors import UserError as UserError
    from vitgan.models.build import GeneratorSpec as GeneratorSpec
    from vitgan.models.build import ModelConfig as ModelConfig
    from vitgan.models.build import build_discriminator as build_discriminator
    from vitgan.models.build import build_generator as build_generator
    from vitgan.models.generator import Generator as Generator
    from vitgan.presets import preset as preset
    from vitgan.pretrained.generators import load as load
    from vitgan.pretrained.generators import save as save
    from vitgan.pretrained.hub import HubModel as HubModel
    from vitgan.runs.train import train as train
    from vitgan.training.hooks import Hooks as Hooks

_HOMES = {
    "Generator": "vitgan.models.generator",
    "GeneratorSpec": "vitgan.models.build",
    "Hooks": "vitgan.training.hooks",
    "HubModel": "vitgan.pretrained.hub",
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
__all__ = [*_HOMES]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'vitgan' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return ["__version__", *_HOMES]
