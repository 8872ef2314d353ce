"""On an NVIDIA GPU: what the CPU computes, and a run from its start to its evaluation. Skipped where there is none."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor

import vitgan
from reference.draws import normal
from tiny import TINY_GENERATOR, newest, tiny_model, tiny_run, write_images
from vitgan.config import RunConfig
from vitgan.data.prepare import prepare
from vitgan.data.sources.folder import ImageFolder
from vitgan.errors import UserError
from vitgan.files.tensors import read_tensors
from vitgan.models.build import ModelConfig, build_discriminator, build_generator
from vitgan.models.projected_discriminator import ProjectedDiscriminatorConfig
from vitgan.models.stylegan2_discriminator import StyleGAN2DiscriminatorConfig
from vitgan.models.stylegan2_generator import StyleGAN2GeneratorConfig
from vitgan.presets import gat_positions, modern, replaced, scaled_levels, summed_levels, with_model
from vitgan.runs.evaluation import measure
from vitgan.training.copies import DeviceCopies
from vitgan.training.hooks import Hooks
from vitgan.training.loop import Trainer
from vitgan.training.randomness import StepRandomness

DEVICE = "cuda"
pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")]

STYLEGAN2 = with_model(
    tiny_run("unused"),
    StyleGAN2GeneratorConfig(channel_base=64, z_dim=8, w_dim=8, mapping_layers=2),
    StyleGAN2DiscriminatorConfig(channel_base=64),
)
TWO_BLOCKS = with_model(tiny_run("unused"), replaced(TINY_GENERATOR, depth=2))
CONFIGS: dict[str, RunConfig] = {
    "paper": tiny_run("unused"),
    "modern": modern(tiny_run("unused")),
    "summed": summed_levels(gat_positions(modern(TWO_BLOCKS))),
    "scaled": scaled_levels(TWO_BLOCKS),
    "stylegan2": STYLEGAN2,
    "projected": with_model(tiny_run("unused"), discriminator=ProjectedDiscriminatorConfig(input_size=32, width=4)),
}


@pytest.fixture(autouse=True)
def _without_tf32() -> Iterator[None]:
    """Products in true float32, as on the CPU."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("data")
    prepare(ImageFolder(write_images(folder / "images", 120)), folder / "store", resolution=8, workers=0)
    return str(folder / "store")


def trainer(config: RunConfig, device: str, folder: Path, precision: str = "no") -> Trainer:
    AcceleratorState._reset_state()
    accelerator = Accelerator(cpu=device == "cpu", mixed_precision=precision)
    return Trainer(config.model, config.objective, config.augment, config.training, accelerator, folder)


def forward_and_backward(model: ModelConfig, device: str) -> dict[str, Tensor]:
    """Images, logits, and every gradient of G and D, on the CPU."""
    generator, discriminator = build_generator(model.generator_spec()), build_discriminator(model, 1)
    generator.to(device)
    discriminator.to(device)
    z = normal(4, generator.z_dim, dtype=torch.float32).to(device)
    images = generator.levels(generator.styles(generator.mapping(z)))
    logits = discriminator(images)
    logits.square().mean().backward()
    players = {"generator": generator, "discriminator": discriminator}
    gradients = {f"{n}.{k}": p.grad for n, m in players.items() for k, p in m.named_parameters() if p.grad is not None}
    return {name: value.detach().cpu() for name, value in {"images": images, "logits": logits, **gradients}.items()}


@pytest.mark.parametrize("name", CONFIGS)
def test_forward_and_backward_are_those_of_the_cpu(name: str) -> None:
    expected, found = (forward_and_backward(CONFIGS[name].model, device) for device in ("cpu", DEVICE))
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-3, atol=1e-4 * value.abs().max().item(), msg=key)


def test_draws_are_those_of_the_cpu() -> None:
    for kind in ("uniform", "normal"):
        expected, found = (
            getattr(StepRandomness(3, 7, device=device), kind)("x", 16, 1001) for device in ("cpu", DEVICE)
        )
        assert found.device.type == DEVICE
        torch.testing.assert_close(found.cpu(), expected, rtol=1e-5, atol=1e-6)


def test_a_copy_does_not_wait_for_the_steps_and_the_steps_wait_for_it() -> None:
    copies = DeviceCopies(torch.device(DEVICE))
    array = np.full((64, 3, 64, 64), 7, np.uint8)
    copies(array)
    busy = torch.rand(4096, 4096, device=DEVICE)
    copied, stepped = (torch.cuda.Event() for _ in range(2))
    torch.cuda.synchronize()
    for _ in range(50):
        busy = (busy @ busy).clamp(0, 1)  # the step before, still running
    stepped.record()
    stream = copies._stream
    assert stream is not None
    copies(array)
    copied.record(stream)
    copied.synchronize()
    assert not stepped.query()

    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        for _ in range(50):
            busy = (busy @ busy).clamp(0, 1)  # now the copy is late
    assert copies(array).double().sum().item() == float(array.astype(np.int64).sum())


def test_a_copy_keeps_its_memory_until_the_steps_have_read_it() -> None:
    copies = DeviceCopies(torch.device(DEVICE))
    busy = torch.rand(4096, 4096, device=DEVICE)
    sums, expected = [], []
    for value in range(20):
        array = np.full((64, 3, 64, 64), value, np.uint8)
        for _ in range(10):
            busy = (busy @ busy).clamp(0, 1)
        sums.append(copies(array).double().sum() + 0 * busy[0, 0].double())
        expected.append(float(array.astype(np.int64).sum()))
    assert [value.item() for value in sums] == expected


@pytest.mark.parametrize("name", CONFIGS)
def test_a_step_is_that_of_the_cpu_and_bf16_comes_near(name: str, tmp_path: Path) -> None:
    real = normal(4, 3, 8, 8, dtype=torch.float32).clamp(-1, 1)

    def step(device: str, precision: str = "no") -> dict[str, float]:
        one = trainer(CONFIGS[name], device, tmp_path, precision)
        device = str(one.accelerator.device)
        parts = one.step(real.to(device), None, StepRandomness(0, 0, device=device))
        return {key: value.item() for key, value in parts.items() if key.startswith(("loss", "logits"))}

    expected = step("cpu")
    assert step(DEVICE) == pytest.approx(expected, rel=1e-3, abs=1e-4)
    if torch.cuda.is_bf16_supported():
        assert step(DEVICE, "bf16") == pytest.approx(expected, rel=0.1, abs=0.1)


@pytest.mark.filterwarnings("ignore")  # of the compiler
@pytest.mark.parametrize("options", [{"compile": "always"}, {"compile": "always", "cuda_graphs": True}], ids=str)
def test_compiled_losses_and_graphs_take_the_same_steps(options: dict[str, bool], tmp_path: Path) -> None:
    """Five of them: a graph is recorded at the second call, and played from the third on."""
    real = normal(4, 3, 8, 8, dtype=torch.float32).clamp(-1, 1).to(DEVICE)

    def steps(**options: bool) -> list[dict[str, float]]:
        torch._dynamo.reset()
        one = trainer(tiny_run("unused", device="auto", **options), DEVICE, tmp_path)
        found = [one.step(real, None, StepRandomness(0, step, device=DEVICE)) for step in range(5)]
        return [{name: value.item() for name, value in parts.items()} for parts in found]

    for expected, found in zip(steps(), steps(**options), strict=True):
        assert found == pytest.approx(expected, rel=0.02, abs=1e-3)


def test_a_run_that_is_stopped_and_resumed_is_the_run_in_one_piece(store: str, tmp_path: Path) -> None:
    config = tiny_run(store, device="auto")
    whole = vitgan.train(config, tmp_path / "whole")
    seen: list[int] = []
    stop = Hooks(on_step=lambda done, _: seen.append(done), should_stop=lambda: bool(seen) and seen[-1] >= 8)
    run = vitgan.train(config, tmp_path / "stopped", hooks=stop)
    assert newest(run).name != newest(whole).name
    vitgan.train(config, resume=run)
    for path in newest(whole).glob("*.safetensors"):
        expected, found = (read_tensors(folder / path.name) for folder in (newest(whole), newest(run)))
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-4, msg=f"{path.name} {name}")


def test_samples_and_metrics_are_those_of_the_cpu(store: str, tmp_path: Path) -> None:
    run = vitgan.train(tiny_run(store, device="auto"), tmp_path / "runs")
    on_cpu, on_gpu = (vitgan.load(run, device=device).sample(16, seed=1).cpu() for device in ("cpu", DEVICE))
    torch.testing.assert_close(on_gpu, on_cpu, rtol=1e-3, atol=1e-3)
    fields = {"name": "tiny", "purpose": "a test", "features": "lite0", "generated_images": 32, "reference_images": 100}
    fields |= {"kernel_subsets": 2, "kernel_subset_size": 8, "manifold_images": 32, "splits": 2}
    protocol = tmp_path / "tiny.json"
    protocol.write_text(json.dumps(fields))
    expected, found = (
        measure(run, protocol=str(protocol), device=device, cache=False)["metrics"] for device in ("cpu", DEVICE)
    )
    assert found["FD-lite0"] == pytest.approx(expected["FD-lite0"], rel=1e-2)
    assert found["seam"] == pytest.approx(expected["seam"], rel=1e-2)


def test_too_large_a_batch_is_one_line_with_a_way_out(store: str, tmp_path: Path) -> None:
    config = replaced(tiny_run(store, device="auto", batch_size=4096), model=tiny_model())
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1e-3)
    try:
        with pytest.raises(UserError) as caught:
            vitgan.train(config, tmp_path / "runs")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert caught.value.parameter == "training.micro_batch_size"
