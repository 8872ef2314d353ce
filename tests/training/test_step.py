"""The options of a step that save memory change nothing but rounding."""

import pytest
import torch
from accelerate import Accelerator

from reference.draws import normal
from vitgan.config import RunConfig
from vitgan.errors import UserError
from vitgan.models.build import ModelConfig
from vitgan.models.stylegan2_discriminator import StyleGAN2DiscriminatorConfig
from vitgan.models.stylegan2_generator import StyleGAN2GeneratorConfig
from vitgan.presets import replaced
from vitgan.training.augment import AugmentConfig
from vitgan.training.compiler import compiled
from vitgan.training.config import TrainingConfig
from vitgan.training.loop import Trainer
from vitgan.training.objective import ObjectiveConfig
from vitgan.training.randomness import StepRandomness


@pytest.fixture(autouse=True)
def _in_float64():
    """Draws and weights of a test are float64, so that only real differences remain."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


PAPER = ObjectiveConfig()
EXACT_PENALTIES = ObjectiveConfig(r1_gamma=0.1, r2_gamma=0.1, wgan_gp=10, penalty_interval=2)
RELATIVISTIC = ObjectiveConfig(loss="relativistic", bcr_real=0, bcr_fake=0, r1_gamma=0.1, penalty="finite_difference")


def trained(
    model: ModelConfig, objective: ObjectiveConfig, tmp_path, augment: AugmentConfig | None = None, **options
) -> tuple[dict, dict[str, torch.Tensor]]:
    """What three steps in float64 say and leave behind, Adam's first moments included (they are the gradients)."""
    training = TrainingConfig(batch_size=8, trackers=(), precision="float32", learning_rate=1e-3, **options)
    config = RunConfig(model=model, objective=objective, augment=augment or AugmentConfig(), training=training)
    trainer = Trainer(model, objective, config.augment, training, Accelerator(cpu=True), tmp_path)
    state = trainer.state
    real = normal(8, model.channels, model.resolution, model.resolution).tanh()
    said = {}
    for step in range(3):
        said = trainer.step(real, None, StepRandomness(0, step))
    players = {
        "objective": state.objective,
        "generator": state.generator,
        "discriminator": state.discriminator,
        "average": state.generator_ema,
    }
    left = {f"{name}.{key}": value for name, player in players.items() for key, value in player.state_dict().items()}
    return {name: value.item() for name, value in said.items()}, left | state.optimizer_tensors()


def assert_same(ours: tuple[dict, dict], theirs: tuple[dict, dict]) -> None:
    assert ours[0] == pytest.approx(theirs[0], rel=1e-6)
    assert ours[1].keys() == theirs[1].keys()
    for name, value in ours[1].items():
        torch.testing.assert_close(
            value, theirs[1][name], rtol=1e-5, atol=1e-9, msg=lambda m, name=name: f"{name}: {m}"
        )


@pytest.mark.parametrize("objective", [PAPER, EXACT_PENALTIES, RELATIVISTIC], ids=["paper", "exact", "relativistic"])
@pytest.mark.parametrize("size", [2, 4])
def test_micro_batches_make_the_update_of_the_whole_batch(tiny_model, objective, size: int, tmp_path) -> None:
    whole = trained(tiny_model, objective, tmp_path)
    assert_same(trained(tiny_model, objective, tmp_path, micro_batch_size=size), whole)


@pytest.mark.parametrize("size", [2, 4])
def test_micro_batches_move_the_adaptive_probability_as_the_whole_batch(tiny_model, size: int, tmp_path) -> None:
    augment = AugmentConfig(adaptive=0.1, adaptive_kimg=0.02)
    whole = trained(tiny_model, PAPER, tmp_path, augment)
    assert_same(trained(tiny_model, PAPER, tmp_path, augment, micro_batch_size=size), whole)
    assert whole[1]["objective.probability"] > 0


@pytest.mark.parametrize("levels", ["summed", "scaled"])
def test_micro_batches_draw_the_noise_of_the_whole_batchs_levels(tiny_model, levels: str, tmp_path) -> None:
    generator = replaced(tiny_model.generator, num_levels=2, levels=levels)
    model = replaced(tiny_model, resolution=16, generator=generator)
    whole = trained(model, RELATIVISTIC, tmp_path)
    assert_same(trained(model, RELATIVISTIC, tmp_path, micro_batch_size=2), whole)


def test_longer_gradients_are_scaled_down_to_the_bound(tiny_model, tmp_path) -> None:
    """Adam's first moments are the gradients that it was given; the log has the length before."""
    said, left = trained(tiny_model, PAPER, tmp_path)
    norms = {player: said[f"gradient_norm/{player}"] for player in ("discriminator", "generator")}
    bound = sum(norms.values()) / 2  # between the two, so that one is clipped in the last of three steps
    said, left = trained(tiny_model, PAPER, tmp_path, gradient_clip=bound)
    for player in norms:
        moments = [value for name, value in left.items() if name.startswith(player) and name.endswith("/exp_avg")]
        length = torch.stack([moment.square().sum() for moment in moments]).sum().sqrt()
        assert length.item() == pytest.approx(min(said[f"gradient_norm/{player}"], bound), rel=1e-4)
    assert max(said[f"gradient_norm/{player}"] for player in norms) > bound


@pytest.mark.parametrize("objective", [PAPER, RELATIVISTIC], ids=["paper", "relativistic"])
def test_micro_batches_of_whole_groups_make_the_same_update_with_minibatch_statistics(
    tiny_model, objective, tmp_path
) -> None:
    model = tiny_model.model_copy(
        update={"resolution": 16, "discriminator": StyleGAN2DiscriminatorConfig(channel_base=64)}
    )
    whole = trained(model, objective, tmp_path)
    assert_same(trained(model, objective, tmp_path, micro_batch_size=4), whole)


@pytest.mark.parametrize(
    ("batch", "micro", "processes", "parameter"),
    [
        (8, 4, 2, None),
        (2, None, 1, None),  # one smaller group, as in StyleGAN2
        (8, None, 2, None),
        (6, None, 1, "training.batch_size"),
        (8, 2, 1, "training.micro_batch_size"),
        (8, 1, 1, "training.micro_batch_size"),
        (2, 1, 1, "training.micro_batch_size"),
        (8, None, 4, "training.batch_size"),
        (2, None, 2, "training.batch_size"),
        (16, 4, 8, "training.micro_batch_size"),
    ],
)
def test_shares_that_split_a_group_of_compared_images_are_refused(batch, micro, processes, parameter) -> None:
    training = TrainingConfig(batch_size=batch, micro_batch_size=micro)
    discriminator = StyleGAN2DiscriminatorConfig(channel_base=64)
    refused = None
    try:
        config = RunConfig(model=ModelConfig(discriminator=discriminator), training=training)
        config.check_share(batch // processes)
    except UserError as error:
        refused = error.parameter
    assert refused == parameter
    RunConfig(training=training)  # a ViT compares nothing


@pytest.mark.parametrize("objective", [PAPER, EXACT_PENALTIES], ids=["paper", "exact"])
def test_recomputed_activations_change_nothing(tiny_model, objective, tmp_path) -> None:
    plain = trained(tiny_model, objective, tmp_path)
    assert_same(trained(tiny_model, objective, tmp_path, checkpoint_activations=True), plain)


def test_recomputed_activations_meet_the_same_noise_in_stylegan2(tmp_path) -> None:
    model = ModelConfig(
        resolution=16,
        channels=3,
        generator=StyleGAN2GeneratorConfig(channel_base=64, z_dim=8, w_dim=8, mapping_layers=1),
        discriminator=StyleGAN2DiscriminatorConfig(channel_base=64),
    )
    plain = trained(model, EXACT_PENALTIES, tmp_path)
    assert_same(trained(model, EXACT_PENALTIES, tmp_path, checkpoint_activations=True), plain)


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch._dynamo looks at it
def test_compiled_losses_change_nothing(tiny_model, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """Traced and differentiated as torch.compile does it; only the last stage, which would take a minute, is left out.

    Each loss is one graph, and steps and micro-batches share it: nothing in it is a step's own number.
    """
    memory = {"checkpoint_activations": True, "micro_batch_size": 4}
    generator, discriminator = (replaced(n, depth=1) for n in (tiny_model.generator, tiny_model.discriminator))
    model = replaced(tiny_model, generator=generator, discriminator=discriminator)
    plain = trained(model, RELATIVISTIC, tmp_path, **memory)
    graphs: list[bool] = []

    def traced_only(loss, cuda_graphs: bool):
        graphs.append(cuda_graphs)
        return compiled(loss, backend="aot_eager")

    monkeypatch.setattr("vitgan.training.step.compiled", traced_only)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    assert_same(trained(model, RELATIVISTIC, tmp_path, compile="always", **memory), plain)
    assert graphs == [False, False]  # there are none on a CPU
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2
    assert not torch._dynamo.utils.counters["graph_break"]


@pytest.mark.filterwarnings("ignore:The .grad attribute")
def test_a_program_that_trains_often_is_compiled_each_time(
    tiny_model, monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    """torch compiles a function for few sets of values, here for one, and then goes on uncompiled."""
    monkeypatch.setattr("vitgan.training.step.compiled", lambda loss, _: compiled(loss, backend="eager"))
    generator, discriminator = (replaced(n, depth=1) for n in (tiny_model.generator, tiny_model.discriminator))
    model = replaced(tiny_model, generator=generator, discriminator=discriminator)
    with torch._dynamo.config.patch(recompile_limit=1):
        for weight in (1.0, 2.0):
            objective = ObjectiveConfig(diffaugment=False, bcr_real=0, bcr_fake=0, out_of_range=weight)
            torch._dynamo.utils.counters.clear()
            trained(model, objective, tmp_path, compile="always")
            assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2


def test_graphs_are_asked_for_and_live_for_a_step(tiny_model, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    modes: list[str | None] = []
    monkeypatch.setattr(torch, "compile", lambda loss, mode, **_: modes.append(mode))
    compiled(print, cuda_graphs=True)
    compiled(print)
    assert modes == ["reduce-overhead", None]
    marks: list[int] = []
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: marks.append(trainer.state.step))
    training = TrainingConfig(batch_size=8, trackers=(), micro_batch_size=4)
    trainer = Trainer(tiny_model, PAPER, RunConfig().augment, training, Accelerator(cpu=True), tmp_path)
    real = normal(8, 3, tiny_model.resolution, tiny_model.resolution)
    for graphs in (True, True, False):
        trainer.step.cuda_graphs = graphs
        parts = trainer.step(real, None, StepRandomness(0, trainer.state.step))
        storages = {value.untyped_storage().data_ptr() for value in parts.values()}
        assert (len(storages) == 1) == graphs  # copied at once
    assert marks == [0, 1]


def test_recomputed_activations_are_not_kept(tiny_model, tmp_path) -> None:
    """Fewer bytes are saved for the backward pass of D."""

    def kept(checkpoint_activations: bool) -> int:
        training = TrainingConfig(batch_size=8, trackers=(), checkpoint_activations=checkpoint_activations)
        trainer = Trainer(tiny_model, PAPER, RunConfig().augment, training, Accelerator(cpu=True), tmp_path)
        saved: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            saved[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()
            return tensor

        real = normal(8, 3, tiny_model.resolution, tiny_model.resolution)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            trainer.state.discriminator(real)
        return sum(saved.values())

    assert kept(True) < kept(False) / 2


@pytest.mark.parametrize(
    ("changes", "parameter"),
    [
        ({"training": {"batch_size": 8, "micro_batch_size": 3}}, "training.micro_batch_size"),
        (
            {"training": {"batch_size": 8, "micro_batch_size": 4}, "objective": {"lecam": 1.0}},
            "training.micro_batch_size",
        ),
        (
            {"training": {"batch_size": 8, "micro_batch_size": 4}, "objective": {"path_length": 2.0}},
            "training.micro_batch_size",
        ),
        ({"training": {"compile": "always"}, "objective": {"r1_gamma": 0.1}}, "training.compile"),
        ({"training": {"cuda_graphs": True}}, "training.compile"),
        (
            {"training": {"cuda_graphs": True, "compile": "always", "checkpoint_activations": True}},
            "training.checkpoint_activations",
        ),
        ({"objective": {"energy": 1.0}}, "objective.energy"),
        (
            {
                "model": {
                    "generator": {"kind": "vit", "num_levels": 2, "levels": "scaled"},
                    "discriminator": {"kind": "vit", "classifier": True},
                }
            },
            "model.discriminator.classifier",
        ),
        (
            {
                "objective": {"energy": 1.0},
                "model": {"discriminator": {"kind": "projected"}},
                "training": {"batch_size": 8, "micro_batch_size": 1},
            },
            "training.micro_batch_size",
        ),
    ],
)
def test_options_that_contradict_each_other_are_refused(changes, parameter: str) -> None:
    with pytest.raises(UserError) as error:
        RunConfig.model_validate(changes)
    assert error.value.parameter == parameter
