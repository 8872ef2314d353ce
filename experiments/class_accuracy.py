"""How often a linear classifier that never met the generator tells the class of its images.

The classifier sees the frozen maps of EfficientNet-Lite0, which no discriminator here looks through. It learns from 10,000
real images; 2,000 others say how good it is. Each generator draws 100 images of each class.

example: python experiments/class_accuracy.py cifar10 runs/00000-cifar10-tiny-projected --data data/cifar10
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from torch import Tensor

import vitgan
from vitgan.data.store import ImageStore
from vitgan.frozen.features import Fields, FrozenFeatures, load_frozen
from vitgan.models.discriminator import Classifier

TRAINING, HELD_OUT, PER_CLASS = 10_000, 2_000, 100


@dataclass
class Question:
    """Whose images are told, by whom.

    Attributes:
        models: Runs, checkpoints or bundled models, with classes.
        data: Image store with labels.
        truncation: psi of the truncation trick.
        seed: Of the latents, and of the classifier's training.
    """

    models: Annotated[list[str], tyro.conf.Positional]
    data: Path = Path("data/cifar10")
    truncation: float = 1.0
    seed: int = 0


def main() -> None:
    question = tyro.cli(Question)
    network = load_frozen("lite0", 96, Fields("features", "size"))
    store = ImageStore.open(question.data)
    assert store.labels is not None
    rng = np.random.default_rng(question.seed)
    indices = rng.permutation(len(store))[: TRAINING + HELD_OUT]
    real = torch.from_numpy(store.read(indices)).float() / 127.5 - 1
    labels = torch.from_numpy(store.labels[indices].astype(np.int64))
    features = features_of(network, real)
    torch.manual_seed(question.seed)
    classifier = trained(features[:TRAINING], labels[:TRAINING], store.label_count)
    print(f"real images: {accuracy(classifier, features[TRAINING:], labels[TRAINING:]).mean():.2f}")
    for name in question.models:
        wanted = torch.arange(store.label_count).repeat(PER_CLASS)
        generator = vitgan.load(name)
        fakes = generator.sample(len(wanted), seed=question.seed, truncation=question.truncation, labels=wanted)
        assert isinstance(fakes, Tensor)
        told = accuracy(classifier, features_of(network, fakes), wanted)
        each = [f"{told[wanted == index].mean():.2f}" for index in range(store.label_count)]
        print(f"{name}: {told.mean():.2f}; each class: {', '.join(each)}")


@torch.inference_mode()
def features_of(network: FrozenFeatures, images: Tensor) -> Tensor:
    """What a classifier of D sees of images (N, C, H, W) in [-1, 1]: normalised means of the frozen maps, (N, F)."""
    batches = []
    for batch in images.split(100):
        means = [maps.mean(dim=(2, 3)) for maps in network(batch)]
        batches.append(torch.cat([F.layer_norm(x, x.shape[1:]) for x in means], dim=1))
    return torch.cat(batches)


def trained(features: Tensor, labels: Tensor, num_classes: int) -> Classifier:
    classifier = Classifier(features.shape[1], num_classes)
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=1e-3, weight_decay=0.1)
    for _ in range(30):
        for rows in torch.randperm(len(labels)).split(250):
            F.cross_entropy(classifier(features[rows]), labels[rows]).backward()
            optimizer.step()
            optimizer.zero_grad()
    return classifier


@torch.no_grad()
def accuracy(classifier: Classifier, features: Tensor, labels: Tensor) -> Tensor:
    """1 where an image's class is told, else 0: (N,)."""
    return (classifier(features).argmax(dim=1) == labels).float()


if __name__ == "__main__":
    main()
