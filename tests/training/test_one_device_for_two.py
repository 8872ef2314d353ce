"""Two processes that share one device by gloo take the step of one: the averaging of gradients, on one GPU.

The product gives each process a GPU of its own (NCCL asks for it); the arithmetic is the same. Rehearsed on the CPU.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tiny import tiny_run

BATCH, STEPS, LIMIT_SECONDS = 4, 3, 200
CUDA = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")]


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=CUDA)])
def test_two_processes_on_one_device_take_the_steps_of_one(device: str, tmp_path: Path) -> None:
    """Weights, moments and what is logged, after steps of two shares; both processes hold the same to the bit."""
    found = [after_steps(device, processes, tmp_path) for processes in (1, 2)]
    (whole,), (first, second) = found
    assert first.keys() == second.keys() == whole.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
        scale = whole[name].abs().max().item()
        torch.testing.assert_close(value, whole[name], rtol=1e-3, atol=1e-4 * scale + 1e-6, msg=name)


def after_steps(device: str, processes: int, folder: Path) -> list[dict[str, torch.Tensor]]:
    """What each process has in the end."""
    files = [folder / f"{rank}-of-{processes}.safetensors" for rank in range(processes)]
    paths = [str(Path(__file__).parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    running = []
    for rank, file in enumerate(files):
        place = {"WORLD_SIZE": processes, "RANK": rank, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": processes}
        command = [sys.executable, __file__, device, str(folder / f"meeting-{processes}"), str(file)]
        words = {name: str(value) for name, value in place.items()} if processes > 1 else {}
        running.append(subprocess.Popen(command, env=environment | words))
    try:
        assert [process.wait(timeout=LIMIT_SECONDS) for process in running] == [0] * processes
    finally:
        for process in running:
            process.kill()
            process.wait()
    return [load_file(file) for file in files]


def take_steps(device: str, meeting: str, file: str) -> None:
    """A child: its share of every batch."""
    from accelerate import Accelerator

    from reference.draws import normal
    from vitgan.training.loop import Trainer
    from vitgan.training.randomness import StepRandomness

    rank, processes = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if processes > 1:  # before accelerate would choose NCCL, which refuses a GPU for two
        torch.distributed.init_process_group("gloo", f"file://{meeting}", rank=rank, world_size=processes)
    accelerator = Accelerator(cpu=device == "cpu")
    assert accelerator.num_processes == processes
    assert accelerator.device.type == device
    config = tiny_run("unused", batch_size=BATCH, horizontal_flip=True)
    trainer = Trainer(config.model, config.objective, config.augment, config.training, accelerator, Path(file).parent)
    images = normal(STEPS * BATCH, 3, 8, 8, dtype=torch.float32).clamp(-1, 1).split(BATCH)
    parts, reduced = {}, []
    all_reduce = torch.distributed.all_reduce
    torch.distributed.all_reduce = lambda *args, **kwargs: (reduced.append(1), all_reduce(*args, **kwargs))[1]
    for step, batch in enumerate(images):
        share = batch.chunk(processes)[rank].to(accelerator.device)
        randomness = StepRandomness(0, step, rank, processes, accelerator.device)
        parts = trainer.step(share, None, randomness, {"rank": torch.full((), float(rank), device=accelerator.device)})
    assert len(reduced) == (2 * STEPS if processes > 1 else 0)  # one for each player and step
    assert parts.pop("rank").item() == (processes - 1) / 2
    state = trainer.state
    found = {f"log/{name}": value for name, value in parts.items()}
    for name in ("generator", "discriminator", "generator_ema"):
        found |= {f"{name}/{key}": value for key, value in getattr(state, name).state_dict().items()}
    for name in ("generator_optimizer", "discriminator_optimizer"):
        for index, moments in getattr(state, name).state_dict()["state"].items():
            found |= {f"{name}/{index}/{key}": value for key, value in moments.items()}
    save_file({name: value.detach().cpu().clone().contiguous() for name, value in found.items()}, file)


if __name__ == "__main__":
    take_steps(*sys.argv[1:])
