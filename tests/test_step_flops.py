"""FLOPs that a benchmark counts from the models, against torch's counter around real training steps."""

from pathlib import Path

import pytest
from accelerate import Accelerator
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.flops import passes, step_flops
from reference.draws import normal
from tiny import tiny_model, tiny_run
from vitgan.config import RunConfig
from vitgan.training.loop import Trainer
from vitgan.training.objective import ObjectiveConfig
from vitgan.training.randomness import StepRandomness

PLAIN = ObjectiveConfig(diffaugment=False, bcr_real=0, bcr_fake=0)
FIRST_ORDER = {"r1_gamma": 1.0, "r2_gamma": 1.0, "penalty": "finite_difference", "penalty_interval": 2}

OBJECTIVES = {
    "adversarial alone": PLAIN,
    "the paper's": ObjectiveConfig(),
    "bCR on fakes": PLAIN.model_copy(update={"bcr_fake": 1.0}),
    "relativistic, lazy first-order penalties": PLAIN.model_copy(update={"loss": "relativistic", **FIRST_ORDER}),
}


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)
def test_flops_of_a_step_are_those_of_real_steps(objective: ObjectiveConfig, tmp_path: Path) -> None:
    config = tiny_run("").model_copy(update={"objective": objective})
    two_steps = (counted(config, 4, tmp_path) - counted(config, 2, tmp_path)) / 2
    # Not counted as the step's: DiffAugment multiplies 3×8×8 images by 8×8 matrices from both sides.
    one_augmentation = 2 * 2 * 3 * 8**3
    for_discriminator = objective.diffaugment * 2 or bool(objective.bcr_real) + bool(objective.bcr_fake)
    augmentations = for_discriminator + 2 * objective.diffaugment  # G's forward and backward
    assert two_steps == 2 * (step_flops(config) + augmentations * one_augmentation)


def counted(config: RunConfig, batch: int, folder: Path) -> int:
    """FLOPs of the first two steps at this batch."""
    training = config.training.model_copy(update={"batch_size": batch})
    accelerator = Accelerator(cpu=True)
    trainer = Trainer(config.model, config.objective, config.augment, training, accelerator, folder)
    with FlopCounterMode(display=False) as counter:
        for step in range(2):
            trainer.step(normal(batch, 3, 8, 8).float(), None, StepRandomness(0, step))
    return counter.get_total_flops()


def test_a_differentiated_gradient_costs_more_than_twice_its_forward() -> None:
    """One backward to the images, and that one's backward to weights and activations."""
    one = passes(tiny_model(), exact=True, path_length=True)
    assert one.train_discriminator < 3 * one.judge < one.penalize + 2 * one.judge
    assert one.judge < one.judge_fake < one.train_discriminator
    assert one.path_length > one.train_generator > 2 * one.generate
