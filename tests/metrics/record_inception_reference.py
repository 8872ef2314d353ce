"""Records what torch-fidelity's Inception makes of seeded weights and images, for test_inception.py.

Needs torch-fidelity 0.4.0; its dependency torchvision is not needed, since only the network's own file is imported:

    pip install --no-deps --target FOLDER_WITH_TORCH_FIDELITY torch-fidelity==0.4.0
    PYTHONPATH=tests:FOLDER_WITH_TORCH_FIDELITY python tests/metrics/record_inception_reference.py
"""

import importlib
import importlib.util
import sys
import tempfile
import types
from pathlib import Path

import numpy as np
import torch

from seeded_inception import seeded_images, seeded_weights
from vitgan.metrics.inception import Inception

REFERENCE = Path(__file__).with_name("inception_reference.npz")
STEP = 8  # every 8th value is recorded; the logits depend on all features


def main() -> None:
    found = importlib.util.find_spec("torch_fidelity")
    assert found is not None
    package = types.ModuleType("torch_fidelity")
    package.__path__ = list(found.submodule_search_locations or [])
    sys.modules["torch_fidelity"] = package
    network = importlib.import_module("torch_fidelity.feature_extractor_inceptionv3").FeatureExtractorInceptionV3
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "weights.pth"
        torch.save(seeded_weights({name: value.shape for name, value in Inception().state_dict().items()}), file)
        extractor = network("reference", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(file))
    with torch.inference_mode():
        outputs = [extractor(images) for images in seeded_images()]
    features, logits = (torch.cat(parts)[:, ::STEP].numpy() for parts in zip(*outputs, strict=True))
    np.savez_compressed(REFERENCE, features=features, logits=logits)
    print(features.shape, features.mean(), features.std(), logits.shape, logits.std())


if __name__ == "__main__":
    main()
