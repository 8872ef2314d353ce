"""A whole step against the resolution: time and memory as tokens grow, with patches of D larger or smaller than G's."""

import json
import os
import subprocess
import sys
from typing import NamedTuple

import tyro

from benchmarks import PLAIN_ALLOCATOR
from benchmarks.peak_memory import peak_mib, resident_mib
from benchmarks.players import Precision, configuration, precisions, steps, trainer_of
from benchmarks.table import Table, say
from benchmarks.timing import seconds_of
from vitgan.config import RunConfig
from vitgan.models.vit_discriminator import ViTDiscriminatorConfig
from vitgan.models.vit_generator import ViTGeneratorConfig
from vitgan.presets import replaced, with_model

WIDTH, HEADS, DEPTH = 128, 2, 2
"""A third of the presets' width, and heads of the same size."""


class Case(NamedTuple):
    """A step of one image.

    Attributes:
        preset: Whose objective and kinds of layers.
        resolution: Of the images.
        generator_patch: Its patches' side.
        discriminator_patch: The same of D.
    """

    preset: str
    resolution: int
    generator_patch: int = 4
    discriminator_patch: int = 4

    def configuration(self, precision: Precision) -> RunConfig:
        """The preset, small, at this resolution."""
        config = configuration(self.preset, 1, precision)
        model = config.model
        assert isinstance(model.generator, ViTGeneratorConfig)
        assert isinstance(model.discriminator, ViTDiscriminatorConfig)
        sizes = {"dim": WIDTH, "num_heads": HEADS, "depth": DEPTH}
        generator = replaced(model.generator, **sizes, patch_size=self.generator_patch)
        discriminator = replaced(model.discriminator, **sizes, patch_size=self.discriminator_patch)
        return with_model(replaced(config, model=replaced(model, resolution=self.resolution)), generator, discriminator)

    @property
    def tokens(self) -> tuple[int, int]:
        """Of G and D."""
        sides = self.generator_patch, self.discriminator_patch
        return (self.resolution // sides[0]) ** 2, (self.resolution // sides[1]) ** 2


def measure(
    presets: tuple[str, ...] = ("cifar10", "cifar10-modern"),
    resolutions: tuple[int, ...] = (32, 64, 128, 256),
    patches: tuple[tuple[int, int], ...] = ((4, 4), (4, 8), (8, 4), (8, 8)),
    rounds: int = 2,
) -> Table:
    """Times steps of one image in turns, the best of some rounds after a first one, and takes their memory elsewhere.

    Args:
        presets: Whose objectives.
        resolutions: Of the images; the last two also with other patches than the first.
        patches: Of G and of D.
        rounds: How often each is timed.
    """
    precision = precisions()[-1]
    columns = ("preset", "resolution", "patches, G / D", "tokens, G / D", "ms", "× the first patches", "MiB")
    table = Table("Resolution", columns)
    for preset in presets:
        cases = [Case(preset, resolution, *patches[0]) for resolution in resolutions]
        cases += [Case(preset, resolution, *pair) for resolution in resolutions[-2:] for pair in patches[1:]]
        works = {case: steps(trainer_of(case.configuration(precision))) for case in cases}
        times: dict[Case, list[float]] = {case: [] for case in cases}
        for number in range(rounds + 1):
            for case, work in works.items():
                say(f"resolution: {preset}, {case.resolution}, patches {case[2:]}, round {number}")
                times[case].append(seconds_of(work))
        for case in sorted(cases):
            milliseconds, (g, d) = min(times[case][1:]) * 1000, case.tokens
            first = min(times[Case(preset, case.resolution, *patches[0])][1:]) * 1000
            ratio = f"× {milliseconds / first:.2f}"
            patch = f"{case.generator_patch} / {case.discriminator_patch}"
            row = (f"{g} / {d}", f"{milliseconds:.0f}", ratio, _memory(case, precision))
            table.add(preset, str(case.resolution), patch, *row)
    table.remarks.append(
        f"{WIDTH} wide, {HEADS} heads, {DEPTH} blocks each, one image, {precision}; MiB that a step adds."
    )
    return table


def _memory(case: Case, precision: Precision) -> str:
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    command = [sys.executable, "-m", "benchmarks.resolution", "--memory", json.dumps([*case, precision])]
    done = subprocess.run(command, capture_output=True, text=True, env=environment | {PLAIN_ALLOCATOR: "1"})
    return done.stdout.splitlines()[-1] if done.returncode == 0 else "—"


def added_mib(arguments: str) -> str:
    """What the second step of a new process adds to it."""
    *case, precision = json.loads(arguments)
    step = steps(trainer_of(Case(*case).configuration(precision)))
    step()
    before = resident_mib()
    peak = peak_mib(step)
    return "—" if before is None or peak is None else f"{peak - before:.0f}"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--memory"]:
        print(added_mib(sys.argv[2]))
    else:
        print(tyro.cli(measure))
