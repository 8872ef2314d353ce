"""Evaluation: images a second of the offline features, and where the time of measuring a generator goes."""

import dataclasses
import time

import numpy as np
import torch
import tyro
from torch import Tensor

from benchmarks.table import Table, say
from vitgan.errors import UserError
from vitgan.files.pictures import to_uint8
from vitgan.metrics import evaluate, find_protocol, load_extractor, reference_statistics
from vitgan.metrics.features import FeatureExtractor
from vitgan.metrics.image_sources import ArrayImages
from vitgan.metrics.protocol import Protocol
from vitgan.models.build import build_generator
from vitgan.presets import preset


class Stopwatch:
    """Adds up the seconds spent in the calls of a function."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timing(self, function):
        """The function, timed."""

        def timed(*arguments):
            start = time.perf_counter()
            try:
                return function(*arguments)
            finally:
                self.seconds += time.perf_counter() - start

        return timed


def measure(name: str = "cifar10", features: str = "lite0", count: int = 500) -> Table:
    """Evaluates `count` images of an untrained generator against as many of noise.

    Args:
        name: Preset whose generator is measured.
        features: Feature extractor.
        count: Images on each side.
    """
    table = Table("Evaluation", ("part", "seconds", "share", "images/s"))
    say(f"evaluation: {count} images of {name}, features {features}")
    try:
        extractor = load_extractor(features)
    except UserError as error:
        table.remarks.append(f"Not measured: {error}")
        return table
    seconds = _parts(name, extractor, _protocol(features, count), count)
    total = sum(seconds.values())
    for part, spent in seconds.items():
        table.add(part, f"{spent:.2f}", f"{spent / total:.0%}", "—" if part == "figures" else f"{count / spent:.0f}")
    table.add("in all", f"{total:.2f}", "100%", f"{count / total:.0f}")
    table.remarks.append(
        f"{count} images of an untrained {name} generator, features {features}; the reference's statistics are cached "
        "in a run. The figures take the same time for any number of images."
    )
    return table


def _protocol(features: str, count: int) -> Protocol:
    return dataclasses.replace(
        find_protocol("quick-5k"), features=features, generated_images=count, reference_images=count, split=None
    )


def _parts(name: str, extractor: FeatureExtractor, protocol: Protocol, count: int) -> dict[str, float]:
    """Seconds by part of one evaluation."""
    model = preset(name).model
    shape = (count, model.channels, model.resolution, model.resolution)
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    reference = reference_statistics(ArrayImages(noise).batches, count, "0" * 64, protocol, extractor)
    generator = build_generator(model.generator_spec()).eval()
    network, sampling = Stopwatch(), Stopwatch()
    timed = dataclasses.replace(extractor, network=network.timing(extractor.network))
    images = generator.batches(count)
    draw = sampling.timing(lambda: next(images, None))

    def batches():
        while isinstance(batch := draw(), Tensor):
            yield to_uint8(batch)

    start = time.perf_counter()
    with torch.inference_mode():
        evaluate(batches(), reference, protocol, timed)
    total = time.perf_counter() - start
    rest = total - network.seconds - sampling.seconds
    return {"sampling, float32": sampling.seconds, "features network": network.seconds, "figures": rest}


if __name__ == "__main__":
    print(tyro.cli(measure))
