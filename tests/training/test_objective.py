"""The GAN step with players that record what they see: who gets which images, weights and gradients."""

from functools import partial

import pytest
import torch
from torch import Tensor

from reference import naive
from reference import vitgan as reference
from reference.draws import normal
from vitgan.models.build import build_discriminator, build_generator
from vitgan.models.discriminator import Discriminator, Judgement
from vitgan.models.generator import Generator, Noise
from vitgan.models.levels import shown
from vitgan.models.projected_discriminator import ProjectedDiscriminator, ProjectedDiscriminatorConfig
from vitgan.models.stylegan2_discriminator import StyleGAN2Discriminator, StyleGAN2DiscriminatorConfig
from vitgan.models.vit_discriminator import ViTDiscriminator, ViTDiscriminatorConfig
from vitgan.training.augment import AugmentConfig, augment
from vitgan.training.losses import LOSSES, energy_distance
from vitgan.training.objective import Batch, Objective, ObjectiveConfig
from vitgan.training.randomness import StepRandomness

SIZE = 8
PLAIN = ObjectiveConfig(diffaugment=False, bcr_real=0, bcr_fake=0)


class RecordingDiscriminator(Discriminator):
    """D(x) = w·x + sum x³ / 100, remembering each call's images and labels."""

    def __init__(self) -> None:
        super().__init__(SIZE, 3, num_classes=0)
        self.weight = torch.nn.Parameter(normal(3, SIZE, SIZE, dtype=torch.float32) / 20)
        self.seen: list[Tensor] = []
        self.labels: list[Tensor | None] = []

    def forward(self, images: Tensor, labels: Tensor | None = None, num_sets: int = 1) -> Tensor:
        self.seen.append(images.detach().clone())
        self.labels.append(labels)
        return (images * self.weight + images**3 / 100).sum(dim=(1, 2, 3))


class LinearGenerator(Generator):
    """w = z R, G(w) = tanh of the sum of A w over places. Remembers its styles, and whether each call built a graph."""

    def __init__(self) -> None:
        super().__init__(SIZE, 3, num_classes=0, z_dim=4, w_dim=4, num_styles=3)
        self.rotation = torch.nn.Parameter(normal(4, 4, seed=8, dtype=torch.float32))
        self.matrix = torch.nn.Parameter(normal(4, 3 * SIZE * SIZE, seed=9, dtype=torch.float32))
        self.graphs: list[bool] = []
        self.styles_seen: list[Tensor] = []

    def mapping(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        return z @ self.rotation

    def synthesis(self, w: Tensor, noise: Noise | None = None) -> Tensor:
        self.graphs.append(torch.is_grad_enabled())
        self.styles_seen.append(w.detach())
        return torch.tanh(w.sum(dim=1) @ self.matrix / 3).unflatten(1, (3, SIZE, SIZE))


class Players:
    """Both recording players, a batch of real images and the objective under test."""

    def __init__(self, config: ObjectiveConfig, augmentation: AugmentConfig | None = None) -> None:
        self.generator, self.discriminator = LinearGenerator(), RecordingDiscriminator()
        self.real = normal(6, 3, SIZE, SIZE, seed=5, dtype=torch.float32).clamp(-1, 1)
        self.objective = Objective(config, augmentation or AugmentConfig(probability=1))

    def batch(self, step: int, labels: Tensor | None) -> Batch:
        return self.objective.batch(self.real, labels, StepRandomness(0, step), step, step * 6)

    def discriminator_loss(self, step: int = 0, labels: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        return self.objective.discriminator_loss(self.generator, self.discriminator, self.batch(step, labels))

    def generator_loss(self, step: int = 0, labels: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        return self.objective.generator_loss(self.generator, self.discriminator, self.batch(step, labels))

    def fakes(self, purpose: str, step: int = 0) -> Tensor:
        z = StepRandomness(0, step).normal(f"{purpose} latents", 6, 4)
        return self.generator(z).detach()

    def views(self) -> list[Tensor]:
        """What D saw, in pieces of a batch; those whose gradients are penalised come last."""
        return [view for call in self.discriminator.seen for view in call.split(6)]


def shows(views: list[Tensor], images: Tensor) -> bool:
    return any(torch.equal(view, images) for view in views)


CONFIGS = {
    "adversarial alone": (PLAIN, 2),
    "DiffAugment": (PLAIN.model_copy(update={"diffaugment": True}), 2),
    "the paper's": (ObjectiveConfig(), 4),
    "bCR without DiffAugment": (ObjectiveConfig(diffaugment=False), 4),
    "bCR on real images": (PLAIN.model_copy(update={"bcr_real": 1.0}), 3),
    "exact R1 and R2": (PLAIN.model_copy(update={"r1_gamma": 1.0, "r2_gamma": 1.0}), 2),
    "first-order R1 and R2": (
        PLAIN.model_copy(update={"r1_gamma": 1.0, "r2_gamma": 1.0, "penalty": "finite_difference"}),
        4,
    ),
    "WGAN-GP and LeCam": (PLAIN.model_copy(update={"wgan_gp": 10.0, "lecam": 0.3, "loss": "wasserstein"}), 3),
    "everything": (ObjectiveConfig(r1_gamma=1, r2_gamma=1, wgan_gp=1, lecam=1, penalty="finite_difference"), 7),
}
CALLS = {"WGAN-GP and LeCam": 2, "everything": 2}
"""Where some of the views, not all, are differentiated twice: those are a batch of their own."""


@pytest.mark.parametrize("name", CONFIGS)
def test_all_views_go_through_d_once_as_one_batch(name: str) -> None:
    config, count = CONFIGS[name]
    players = Players(config)
    loss, _ = players.discriminator_loss()
    views = players.views()
    assert len(views) == count
    for i, view in enumerate(views):  # no view twice
        assert not shows(views[:i], view)
    loss.backward()
    assert len(players.discriminator.seen) == CALLS.get(name, 1)  # nor another time in the backward pass


def test_only_penalised_views_are_differentiated_twice() -> None:
    """The paper's views with exact R1: D's second derivative runs over the real view that R1 is taken at alone."""
    players = Players(ObjectiveConfig(r1_gamma=1.0))
    loss, _ = players.discriminator_loss()
    calls = players.discriminator.seen
    assert [len(call) for call in calls] == [18, 6]
    parameters = StepRandomness(0, 0).augmentation("discriminator real", AugmentConfig(probability=1), 6, SIZE)
    torch.testing.assert_close(calls[1], augment(players.real, parameters, AugmentConfig(probability=1)))
    loss.backward()


@pytest.mark.parametrize("batch", [1, 6, 8])
@pytest.mark.parametrize("penalty", ["exact", "finite_difference"])
def test_a_discriminator_that_compares_images_compares_those_of_one_view(
    penalty: str, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """StyleGAN2's, in groups of 4: every view's logits are those that it has alone, and other fakes change no real one."""
    config = ObjectiveConfig(r1_gamma=1, r2_gamma=1, wgan_gp=1, penalty=penalty)  # pyright: ignore[reportArgumentType]
    torch.manual_seed(0)
    discriminator = StyleGAN2Discriminator(StyleGAN2DiscriminatorConfig(channel_base=64), SIZE, 3)
    players = Players(config)
    players.real = normal(batch, 3, SIZE, SIZE, seed=1, dtype=torch.float32)
    logits: list[dict[str, Tensor]] = []

    judged = players.objective.judged

    def judge_each(_: Discriminator, views: dict[str, Tensor], labels: Tensor | None) -> dict[str, Judgement]:
        judgements = judged(discriminator, views, labels)
        logits.append({name: judgement.logits for name, judgement in judgements.items()})
        for name, images in views.items():
            torch.testing.assert_close(judgements[name].logits, discriminator(images), rtol=1e-4, atol=1e-5)
        return judgements

    monkeypatch.setattr(players.objective, "judged", judge_each)
    for scale in (1.0, 3.0):
        players.generator.matrix.data.mul_(scale)
        players.discriminator_loss()
    for name in ("real", "real_pair"):
        torch.testing.assert_close(logits[0][name], logits[1][name], rtol=1e-4, atol=1e-5)
        if batch > 1:
            assert not torch.allclose(logits[0][name][:1], discriminator(players.real[:1]))  # within a view it compares


def test_labels_go_with_every_view() -> None:
    players, labels = Players(ObjectiveConfig()), torch.arange(6)
    players.discriminator_loss(labels=labels)
    assert torch.equal(players.discriminator.labels[0], labels.repeat(4))  # pyright: ignore[reportArgumentType]
    players.generator_loss(labels=labels)
    assert torch.equal(players.discriminator.labels[1], labels)  # pyright: ignore[reportArgumentType]


def test_without_diffaugment_adversarial_terms_see_plain_images() -> None:
    players = Players(PLAIN)
    _, parts = players.discriminator_loss()
    views = players.views()
    assert shows(views, players.real)
    assert shows(views, players.fakes("discriminator"))
    d = players.discriminator
    expected = LOSSES["non_saturating"].discriminator(d(players.real), d(players.fakes("discriminator")))
    torch.testing.assert_close(parts["loss/adversarial"], expected.detach())
    d.seen.clear()
    loss, _ = players.generator_loss()
    assert shows(players.views(), players.fakes("generator"))
    torch.testing.assert_close(
        loss.detach(), LOSSES["non_saturating"].generator(None, d(players.fakes("generator"))).detach()
    )


def test_with_diffaugment_both_players_adversarial_terms_see_augmented_images_alone() -> None:
    players = Players(PLAIN.model_copy(update={"diffaugment": True}))
    _, parts = players.discriminator_loss()
    real, fake = players.views()
    for view, plain in ((real, players.real), (fake, players.fakes("discriminator"))):
        assert not (view == plain).flatten(1).all(dim=1).any()
    d = players.discriminator
    expected = LOSSES["non_saturating"].discriminator(d(real), d(fake))
    torch.testing.assert_close(parts["loss/adversarial"], expected.detach())
    d.seen.clear()
    loss, _ = players.generator_loss()
    (seen,) = players.views()
    assert not (seen == players.fakes("generator")).flatten(1).all(dim=1).any()
    torch.testing.assert_close(loss.detach(), LOSSES["non_saturating"].generator(None, d(seen)).detach())


def test_augmentations_differ_between_images_players_and_steps() -> None:
    config = AugmentConfig(probability=1, color=False, scaling=0, translation=0)  # cutout alone: zeros tell where
    players = Players(PLAIN.model_copy(update={"diffaugment": True, "loss": "relativistic"}), config)
    players.real = torch.ones_like(players.real)
    players.generator.matrix.data.fill_(5.0)  # its images have no zeros but the cut ones
    players.discriminator_loss()
    players.generator_loss()
    players.discriminator_loss(step=1)
    masks = [view == 0 for seen in players.discriminator.seen for view in seen.split(6)]
    assert len(masks) == 6  # real and fake, three times
    for i in range(6):
        assert masks[i].any()
        for j in range(i):
            assert not torch.equal(masks[i], masks[j])


@pytest.mark.parametrize("diffaugment", [True, False])
def test_bcr_ties_d_of_x_to_d_of_t_of_x(diffaugment: bool) -> None:
    """On real and fake images, with its own weights; the augmented view is the one that DiffAugment shows."""
    players = Players(ObjectiveConfig(diffaugment=diffaugment, bcr_real=3, bcr_fake=5))
    loss, parts = players.discriminator_loss()
    views = players.views()
    d, fake = players.discriminator, players.fakes("discriminator")
    assert shows(views, players.real)
    assert shows(views, fake)
    augmented = [view for view in views if not torch.equal(view, players.real) and not torch.equal(view, fake)]
    assert len(augmented) == 2
    logits = {"real": d(players.real), "fake": d(fake)}
    penalties = {
        name: [(logits[name] - d(view)).square().mean().item() for view in augmented] for name in ("real", "fake")
    }
    pairs = [penalties["real"][0], penalties["fake"][1]], [penalties["real"][1], penalties["fake"][0]]
    measured = [parts["loss/bcr_real"].item(), parts["loss/bcr_fake"].item()]
    order = 0 if measured == pytest.approx(pairs[0], rel=1e-4) else 1
    assert measured == pytest.approx(pairs[order], rel=1e-4)
    seen = [d(view) for view in (augmented if order == 0 else augmented[::-1])]
    adversarial = LOSSES["non_saturating"].discriminator(*(seen if diffaugment else logits.values()))
    torch.testing.assert_close(parts["loss/adversarial"], adversarial.detach())
    assert loss.item() == pytest.approx(adversarial.item() + 3 * measured[0] + 5 * measured[1], rel=1e-4)
    torch.testing.assert_close(parts["loss/discriminator"], loss.detach())


def test_bcr_is_zero_where_nothing_is_augmented() -> None:
    players = Players(ObjectiveConfig(), AugmentConfig(probability=0))
    loss, parts = players.discriminator_loss()
    assert parts["loss/bcr_real"] == 0
    assert parts["loss/bcr_fake"] == 0
    assert loss.item() == parts["loss/adversarial"].item()


def test_bcr_rises_with_the_images_seen() -> None:
    """Batches of 6 that rise over 60 images: nothing at first, a tenth after 6, all of it from 60 on."""
    rising = Players(ObjectiveConfig(bcr_real=3, bcr_fake=5, bcr_ramp_images=60))
    for step, share in ((0, 0.0), (1, 0.1), (5, 0.5), (10, 1.0), (500, 1.0)):
        loss, parts = rising.discriminator_loss(step=step)
        bcr = 3 * parts["loss/bcr_real"] + 5 * parts["loss/bcr_fake"]
        assert bcr > 0
        torch.testing.assert_close(loss.detach(), parts["loss/adversarial"] + share * bcr)


def test_adaptive_probability_follows_how_sure_d_is_of_real_images() -> None:
    def sureness(value: float) -> dict[str, Tensor]:
        return {"augment/sureness": torch.tensor(value)}

    players = Players(PLAIN, AugmentConfig(probability=0.8, adaptive=0.6, adaptive_kimg=0.1))
    objective = players.objective
    assert "probability" not in Players(PLAIN).objective.state_dict()  # old checkpoints have none
    values = []
    for told in (sureness(1.0), sureness(0.65), {}, sureness(0.55), *[sureness(1.0)] * 4, *[sureness(-1.0)] * 5):
        objective.follow_sureness(told, images=25)
        values.append(objective.state_dict()["probability"].item())
    expected = [0.25, 0.5, 0.5, 0.25, 0.5, 0.75, 0.8, 0.8, 0.55, 0.3, 0.05, 0, 0]
    assert values == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("loss", ["non_saturating", "relativistic"])
def test_adaptive_augmentation_acts_on_what_both_players_see(loss: str) -> None:
    config = ObjectiveConfig(loss=loss, bcr_real=0, bcr_fake=0)
    players = Players(config, AugmentConfig(adaptive=0.6))
    _, parts = players.discriminator_loss()
    assert shows(players.views(), players.real)  # the probability starts at 0
    real, fake = (players.discriminator(images) for images in (players.real, players.fakes("discriminator")))
    answers = real if loss == "non_saturating" else real - fake
    assert parts["augment/sureness"] == answers.sign().mean()
    assert parts["augment/probability"] == 0
    players.objective.load_state_dict(players.objective.state_dict() | {"probability": torch.tensor(1.0)})
    players.discriminator.seen.clear()
    players.discriminator_loss()
    players.generator_loss()
    assert not shows(players.views(), players.real)
    assert not shows(players.views(), players.fakes("generator"))
    assert all(not shows(players.views(), images) for images in (players.real, players.fakes("discriminator")))


def augmented_by_hand(source: str, images: Tensor) -> Tensor:
    """T(x) of step 0 in float64, written literally."""
    drawn = StepRandomness(0, 0).augmentation(
        f"discriminator {source}", AugmentConfig(probability=1), len(images), SIZE
    )
    return naive.diffaugment(images.double(), naive.Augmentation(*(value.double() for value in drawn)))


@pytest.mark.parametrize("diffaugment", [True, False])
def test_exact_penalties_are_taken_at_the_images_through_the_augmentation(diffaugment: bool) -> None:
    """||J_T(x)^T (w + 3 T(x)² / 100)||² with T's Jacobian column by column: T is affine in x."""
    players = Players(PLAIN.model_copy(update={"r1_gamma": 4.0, "r2_gamma": 6.0, "diffaugment": diffaugment}))
    loss, parts = players.discriminator_loss()
    weight = players.discriminator.weight.detach().double()
    pixels = torch.eye(3 * SIZE * SIZE, dtype=torch.float64).view(-1, 1, 3, SIZE, SIZE)
    expected = {}
    for source, x in (("real", players.real), ("fake", players.fakes("discriminator"))):
        apply = partial(augmented_by_hand, source) if diffaugment else Tensor.double
        seen, columns = apply(x), torch.stack([apply(x + pixel) for pixel in pixels]) - apply(x)  # (pixels, B, C, H, W)
        gradient = (columns * (weight + 3 * seen**2 / 100)).sum(dim=(2, 3, 4))  # (pixels, B)
        expected[source] = gradient.square().sum(dim=0).mean().item()
    assert parts["loss/r1"].item() == pytest.approx(expected["real"], rel=1e-4)
    assert parts["loss/r2"].item() == pytest.approx(expected["fake"], rel=1e-4)
    total = parts["loss/adversarial"].item() + 4 / 2 * expected["real"] + 6 / 2 * expected["fake"]
    assert loss.item() == pytest.approx(total, rel=1e-4)
    loss.backward()
    assert players.discriminator.weight.grad is not None


@pytest.mark.parametrize("source", ["real", "fake"])
def test_finite_differences_add_noise_to_the_images_before_the_augmentation(source: str) -> None:
    """T(x) and T(x + s n), the same T: a cut square hides the noise too."""
    change = {"r1_gamma" if source == "real" else "r2_gamma": 2.0, "diffaugment": True}
    players = Players(PLAIN.model_copy(update=change | {"penalty": "finite_difference", "penalty_noise": 0.05}))
    players.discriminator_loss()
    x = players.real if source == "real" else players.fakes("discriminator")
    clean, noisy = players.views()[0 if source == "real" else 1], players.views()[2]
    noise = StepRandomness(0, 0).normal(f"penalty noise {source}_augmented_noisy", *x.shape)
    torch.testing.assert_close(clean.double(), augmented_by_hand(source, x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(noisy.double(), augmented_by_hand(source, x + 0.05 * noise), rtol=1e-4, atol=1e-5)


def test_finite_difference_views_carry_noise_of_the_stated_size() -> None:
    config = PLAIN.model_copy(update={"r1_gamma": 2.0, "penalty": "finite_difference", "penalty_noise": 0.05})
    players = Players(config)
    _, parts = players.discriminator_loss()
    real, _, noisy = players.views()
    noise = (noisy - real) / 0.05
    assert abs(noise.mean().item()) < 0.15
    assert abs(noise.std().item() - 1) < 0.1
    d = players.discriminator
    expected = ((d(noisy) - d(real)) / 0.05).square().mean().item()
    assert parts["loss/r1"].item() == pytest.approx(expected, rel=1e-3)


def test_a_lazy_term_runs_every_kth_step_and_weighs_k_times_as_much() -> None:
    gamma, interval = 3.0, 4
    players = Players(PLAIN.model_copy(update={"r1_gamma": gamma, "penalty_interval": interval}))
    for step in range(9):
        loss, parts = players.discriminator_loss(step)
        if step % interval:
            assert "loss/r1" not in parts
            assert loss.item() == parts["loss/adversarial"].item()
        else:
            expected = parts["loss/adversarial"] + gamma / 2 * interval * parts["loss/r1"]
            torch.testing.assert_close(loss.detach(), expected)


def test_views_of_a_term_that_is_not_due_are_not_computed() -> None:
    config = PLAIN.model_copy(update={"r1_gamma": 1.0, "penalty": "finite_difference", "penalty_interval": 2})
    players = Players(config)
    for step in range(4):
        players.discriminator_loss(step)
    assert [len(seen) // 6 for seen in players.discriminator.seen] == [3, 2, 3, 2]


@pytest.mark.parametrize("diffaugment", [True, False])
def test_wgan_gp_looks_at_random_points_between_real_and_fake(diffaugment: bool) -> None:
    """Between the images that the adversarial term sees, with another share for each pair."""
    config = PLAIN.model_copy(update={"wgan_gp": 10.0, "loss": "wasserstein", "diffaugment": diffaugment})
    players = Players(config)
    loss, parts = players.discriminator_loss()
    real, fake, mixed = players.views()
    shares = ((mixed - real) * (fake - real)).sum((1, 2, 3)) / (fake - real).square().sum((1, 2, 3))
    torch.testing.assert_close(mixed, real + shares.view(-1, 1, 1, 1) * (fake - real))
    assert ((shares > 0) & (shares < 1)).all()
    assert shares.std() > 0.1
    slopes = (players.discriminator.weight.detach() + 3 * mixed**2 / 100).flatten(1).norm(dim=1)
    penalty = (slopes - 1).square().mean().item()
    assert parts["loss/wgan_gp"].item() == pytest.approx(penalty, rel=1e-4)
    assert loss.item() == pytest.approx(parts["loss/adversarial"].item() + 10 * penalty, rel=1e-4)


def test_lecam_follows_running_means_over_all_processes() -> None:
    config = PLAIN.model_copy(update={"lecam": 0.3, "lecam_decay": 0.9})
    players = Players(config)
    # A second process whose logits are larger by 1 and 3.
    others = torch.tensor([1.0, 3.0])
    players.objective = Objective(config, AugmentConfig(), lambda means: means + others / 2)
    d, average = players.discriminator, torch.zeros(2)
    for step in range(3):
        loss, parts = players.discriminator_loss(step)
        real, fake = (d(images).detach() for images in (players.real, players.fakes("discriminator", step)))
        average = 0.9 * average + 0.1 * (torch.stack([real.mean(), fake.mean()]) + others / 2)
        expected = (real - average[1]).square().mean() + (fake - average[0]).square().mean()
        torch.testing.assert_close(parts["loss/lecam"], expected)
        torch.testing.assert_close(loss.detach(), parts["loss/adversarial"] + 0.3 * expected)
    state = players.objective.state_dict()
    torch.testing.assert_close(torch.stack([state["real_average"], state["fake_average"]]), average)


def test_path_length_penalty_is_lazy_and_remembers_its_mean() -> None:
    """Lengths by hand: the Jacobian of tanh(sum of A w / 3), on half of the batch."""
    players = Players(PLAIN.model_copy(update={"path_length": 2.0, "path_length_interval": 3}))
    average, g = torch.zeros(()), players.generator
    for step in range(7):
        loss, parts = players.generator_loss(step)
        if step % 3:
            assert "loss/path_length" not in parts
            torch.testing.assert_close(loss.detach(), parts["loss/generator"])
            continue
        randomness = StepRandomness(0, step)
        w = g.mapping(randomness.normal("path length latents", 3, 4)).detach()
        noise = randomness.normal("path length noise", 3, 3, SIZE, SIZE).flatten(1)
        slope = 1 - torch.tanh(w @ g.matrix.detach()) ** 2
        gradient = (noise * slope) @ g.matrix.detach().t() / 3 / SIZE  # for each of three equal places
        lengths = gradient.norm(dim=1)
        average = 0.99 * average + 0.01 * lengths.mean()
        penalty = (lengths - average).square().mean()
        torch.testing.assert_close(parts["loss/path_length"], penalty)
        torch.testing.assert_close(loss.detach(), parts["loss/generator"] + 2 * 3 * penalty)
        assert torch.autograd.grad(loss, g.rotation)[0].abs().max() > 0
    torch.testing.assert_close(players.objective.path_average, average)


def test_path_lengths_pair_latents_and_labels_alike_in_every_share() -> None:
    """Half of each share's images, drawn as half of the batch."""
    pairs: list[Tensor] = []

    class Recording(LinearGenerator):
        def mapping(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
            assert labels is not None
            pairs.append(torch.cat([z, labels[:, None]], dim=1))
            return super().mapping(z)

    generator, objective, labels = Recording(), Objective(PLAIN, AugmentConfig()), torch.arange(8)
    objective.path_length(generator, labels, 4, StepRandomness(0, 0))
    for rank in range(2):
        objective.path_length(generator, labels[4 * rank :][:4], 2, StepRandomness(0, 0, rank, 2))
    assert torch.equal(torch.cat(pairs[1:]), pairs[0])


@pytest.mark.parametrize("probability", [0.0, 0.5, 1.0])
def test_style_mixing_changes_later_styles_with_its_probability(probability: float) -> None:
    players = Players(PLAIN.model_copy(update={"style_mixing": probability}))
    players.real = players.real.repeat(100, 1, 1, 1)
    players.generator_loss()
    (styles,) = players.generator.styles_seen  # (600, 3, 4)
    latents = StepRandomness(0, 0).normal("generator latents", 600, 4)
    torch.testing.assert_close(styles[:, 0], players.generator.mapping(latents).detach())
    changed = (styles != styles[:, :1]).any(dim=2)
    assert not (changed[:, 1] & ~changed[:, 2]).any()  # from some place on, to the end
    torch.testing.assert_close(styles[changed[:, 1], 1], styles[changed[:, 1], 2])
    assert changed[:, 2].float().mean().item() == pytest.approx(probability, abs=0.08)
    assert changed[:, 1].float().mean().item() == pytest.approx(probability / 2, abs=0.08)  # one of two places


def test_which_objectives_need_second_derivatives() -> None:
    for change in ({"r1_gamma": 1.0}, {"r2_gamma": 1.0}, {"wgan_gp": 10.0}, {"path_length": 2.0}):
        assert PLAIN.model_copy(update=change).needs_double_backward
    for change in ({}, {"bcr_real": 1.0}, {"lecam": 1.0}, {"r1_gamma": 1.0, "penalty": "finite_difference"}):
        assert not PLAIN.model_copy(update=change).needs_double_backward


@pytest.mark.parametrize("name", LOSSES)
def test_the_generator_sees_real_images_where_the_loss_is_relativistic(name) -> None:
    players = Players(PLAIN.model_copy(update={"loss": name}))
    loss, _ = players.generator_loss()
    relativistic = name == "relativistic"
    assert shows(players.discriminator.seen, players.real) == relativistic
    assert sum(len(seen) for seen in players.discriminator.seen) == (12 if relativistic else 6)
    d = players.discriminator
    expected = LOSSES[name].generator(d(players.real), d(players.fakes("generator")))
    torch.testing.assert_close(loss.detach(), expected.detach())


def test_only_the_phase_of_a_player_builds_its_graph() -> None:
    """No memory is kept for gradients that nobody takes."""
    players = Players(ObjectiveConfig(loss="relativistic"))
    players.discriminator_loss()
    players.generator_loss()
    assert players.generator.graphs == [False, True]


def test_players_draw_latents_of_their_own() -> None:
    players = Players(PLAIN)
    assert not torch.equal(players.fakes("generator"), players.fakes("discriminator"))
    assert not torch.equal(players.fakes("generator"), players.fakes("generator", step=1))


def test_reported_logits_are_means_of_the_adversarial_views() -> None:
    players = Players(ObjectiveConfig(diffaugment=False))
    _, parts = players.discriminator_loss()
    d = players.discriminator
    torch.testing.assert_close(parts["logits/real"], d(players.real).mean().detach())
    torch.testing.assert_close(parts["logits/fake"], d(players.fakes("discriminator")).mean().detach())
    assert not any(value.requires_grad for value in parts.values())


@pytest.mark.parametrize(
    "config",
    [ObjectiveConfig(), PLAIN, ObjectiveConfig(loss="relativistic", r1_gamma=1, r2_gamma=1)],
    ids=["the paper's", "plain", "relativistic with exact penalties"],
)
def test_each_phase_gives_gradients_to_its_own_player(tiny_model, config: ObjectiveConfig) -> None:
    """With the real players; D is frozen for G's phase, as the loop does."""
    generator = build_generator(tiny_model.generator_spec())
    discriminator = build_discriminator(tiny_model, 1)
    objective = Objective(config, AugmentConfig())
    real = normal(4, 3, 12, 12, dtype=torch.float32).clamp(-1, 1)

    loss, _ = objective.discriminator_loss(
        generator, discriminator, objective.batch(real, None, StepRandomness(0, 0), 0, 0)
    )
    loss.backward()
    assert all(p.grad is None for p in generator.parameters())
    for name, p in discriminator.named_parameters():
        if not (name == "head.bias" and config.loss == "relativistic"):  # it cancels in differences of logits
            assert p.grad is not None, name
            assert p.grad.abs().max() > 0, name

    discriminator.zero_grad()
    discriminator.requires_grad_(False)
    loss, _ = objective.generator_loss(
        generator, discriminator, objective.batch(real, None, StepRandomness(0, 0), 0, 0)
    )
    loss.backward()
    assert all(p.grad is None for p in discriminator.parameters())
    for name, p in generator.named_parameters():
        assert p.grad is not None, name
        assert p.grad.abs().max() > 0, name
    assert real.grad is None


def test_a_step_of_gradient_descent_lowers_both_losses(tiny_model) -> None:
    """The signs, all the way through: a small step against the gradient on the same draws."""
    generator, discriminator = build_generator(tiny_model.generator_spec()), build_discriminator(tiny_model, 1)
    objective = Objective(ObjectiveConfig(), AugmentConfig())
    real = normal(8, 3, 12, 12, dtype=torch.float32).clamp(-1, 1)
    for phase, player in (
        (objective.discriminator_loss, discriminator),
        (objective.generator_loss, generator),
    ):
        losses = []
        for _ in range(2):
            loss, _ = phase(generator, discriminator, objective.batch(real, None, StepRandomness(0, 0), 0, 0))
            gradients = torch.autograd.grad(loss, list(player.parameters()))
            norm = sum(g.square().sum() for g in gradients) ** 0.5
            with torch.no_grad():
                for p, g in zip(player.parameters(), gradients, strict=True):
                    p -= 0.01 * g / norm
            losses.append(loss.item())
        assert losses[1] < losses[0]


def test_energy_compares_what_d_is_shown_of_fakes_and_real_images_in_frozen_features() -> None:
    """Loss and gradient of G with the energy are the adversarial ones and those of the energy, weighted."""
    torch.manual_seed(0)
    discriminator = ProjectedDiscriminator(ProjectedDiscriminatorConfig(input_size=32, width=4), SIZE, 3, num_classes=2)
    discriminator.requires_grad_(False)
    labels = torch.tensor([0, 1, 0, 1, 0, 0])
    players = Players(PLAIN.model_copy(update={"loss": "hinge", "energy": 3.0, "diffaugment": True}))
    batch = players.objective.batch(players.real, labels, StepRandomness(0, 0), 0, 0)
    loss, parts = players.objective.generator_loss(players.generator, discriminator, batch)
    (gradient,) = torch.autograd.grad(loss, players.generator.matrix)

    fake = players.generator(StepRandomness(0, 0).normal("generator latents", 6, 4))
    seen = [
        augment(
            images, StepRandomness(0, 0).augmentation(purpose, AugmentConfig(probability=1), 6, SIZE), AugmentConfig()
        )
        for purpose, images in (("generator fake", fake), ("generator real", players.real))
    ]
    energy = energy_distance(discriminator.features(seen[0]), discriminator.features(seen[1]), labels)
    logits = discriminator(seen[0], labels)
    assert isinstance(logits, Tensor)
    expected = 3 * energy - logits.mean()
    torch.testing.assert_close(parts["loss/energy"], energy.detach())
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradient, *torch.autograd.grad(expected, players.generator.matrix))


def test_a_classifier_learns_from_real_images_alone_and_g_is_to_please_it() -> None:
    torch.manual_seed(0)
    config = ProjectedDiscriminatorConfig(input_size=32, width=4, classifier=True)
    discriminator = ProjectedDiscriminator(config, SIZE, 3, num_classes=2)
    classifier = discriminator.classifier
    assert classifier is not None
    for parameter in classifier.parameters():
        torch.nn.init.normal_(parameter)
    labels = torch.tensor([0, 1, 0, 1, 0, 0])
    players = Players(PLAIN.model_copy(update={"loss": "hinge", "classification": 3.0}))
    batch = players.objective.batch(players.real, labels, StepRandomness(0, 0), 0, 0)

    def cross_entropy(images: Tensor) -> Tensor:
        classes = discriminator.judge(images, labels).classes
        assert classes is not None
        return -classes.log_softmax(1)[torch.arange(6), labels].mean()

    looked_at: list[int] = []
    handle = discriminator.features.register_forward_pre_hook(lambda _, args: looked_at.append(len(args[0])))
    loss, _ = players.objective.discriminator_loss(players.generator, discriminator, batch)
    handle.remove()
    assert looked_at == [12]  # real and fake, once each
    of_heads, of_classifier = list(discriminator.heads.parameters()), list(classifier.parameters())
    found = torch.autograd.grad(loss, of_heads + of_classifier)
    without = Players(PLAIN.model_copy(update={"loss": "hinge"})).objective
    loss, _ = without.discriminator_loss(players.generator, discriminator, batch)
    torch.testing.assert_close(found[: len(of_heads)], torch.autograd.grad(loss, of_heads))
    expected = torch.autograd.grad(cross_entropy(players.real), of_classifier)
    torch.testing.assert_close(found[len(of_heads) :], expected)

    blind = ProjectedDiscriminator(ProjectedDiscriminatorConfig(input_size=32, width=4), SIZE, 3)
    unlabelled = batch._replace(labels=None)
    for loss_of in ("discriminator_loss", "generator_loss"):  # what a preset leaves behind, on images without classes
        both = (getattr(each, loss_of)(players.generator, blind, unlabelled) for each in (players.objective, without))
        (loss, parts), (expected, _) = both
        torch.testing.assert_close(loss, expected)
        assert not any("classification" in name for name in parts)

    discriminator.requires_grad_(False)
    loss, parts = players.objective.generator_loss(players.generator, discriminator, batch)
    (gradient,) = torch.autograd.grad(loss, players.generator.matrix)
    fake = players.generator(StepRandomness(0, 0).normal("generator latents", 6, 4))
    expected = 3 * cross_entropy(fake) - discriminator(fake, labels).mean()
    torch.testing.assert_close(parts["loss/classification"], cross_entropy(fake).detach())
    torch.testing.assert_close(gradient, *torch.autograd.grad(expected, players.generator.matrix))


def test_a_vit_learns_classes_in_its_own_tokens() -> None:
    """What the classifier says of real images trains all of D, and what it says of fakes trains G alone."""
    torch.manual_seed(0)
    config = ViTDiscriminatorConfig(dim=16, depth=1, num_heads=2, mlp_ratio=2, classifier=True)
    discriminator = ViTDiscriminator(config, SIZE, 3, num_classes=2)
    assert discriminator.classifier is not None
    torch.nn.init.normal_(discriminator.classifier.weight)
    labels = torch.tensor([0, 1, 0, 1, 0, 0])
    players = Players(PLAIN.model_copy(update={"classification": 3.0}))
    without = Players(PLAIN).objective
    batch = players.objective.batch(players.real, labels, StepRandomness(0, 0), 0, 0)

    def cross_entropy(images: Tensor) -> Tensor:
        classes = discriminator.judge(images, labels).classes
        assert classes is not None
        return -classes.log_softmax(1)[torch.arange(6), labels].mean()

    trained = [*discriminator.parameters()]
    loss, parts = players.objective.discriminator_loss(players.generator, discriminator, batch)
    adversarial, _ = without.discriminator_loss(players.generator, discriminator, batch)
    torch.testing.assert_close(parts["loss/classification_real"], cross_entropy(players.real).detach())
    found = torch.autograd.grad(loss, trained)
    expected = torch.autograd.grad(adversarial + cross_entropy(players.real), trained)
    torch.testing.assert_close(found, expected)

    discriminator.requires_grad_(False)
    loss, parts = players.objective.generator_loss(players.generator, discriminator, batch)
    adversarial, _ = without.generator_loss(players.generator, discriminator, batch)
    fake = players.generator(StepRandomness(0, 0).normal("generator latents", 6, 4))
    torch.testing.assert_close(parts["loss/classification"], cross_entropy(fake).detach())
    torch.testing.assert_close(loss, adversarial + 3 * cross_entropy(fake))


class UnboundedGenerator(LinearGenerator):
    """Images of twice the range."""

    def synthesis(self, w: Tensor, noise: Noise | None = None) -> Tensor:
        return 2 * super().synthesis(w, noise)


@pytest.mark.parametrize("weight", [0.5, 2.0])
def test_what_g_makes_out_of_range_is_added_to_its_loss(weight: float) -> None:
    alone, with_range = (Players(PLAIN.model_copy(update={"out_of_range": w})) for w in (0.0, weight))
    alone.generator = with_range.generator = UnboundedGenerator()
    (loss, parts), (expected, _) = with_range.generator_loss(), alone.generator_loss()
    beyond = sum(max(abs(value) - 1, 0) ** 2 for value in alone.fakes("generator").flatten().tolist()) / 6
    assert beyond > 0.1
    assert parts["loss/out_of_range"].item() == pytest.approx(beyond, rel=1e-4)
    assert (loss - expected).item() == pytest.approx(weight * beyond, rel=1e-4)


class LeveledGenerator(LinearGenerator):
    """Three levels: the image, and what it is times 0.2 and 0.6, before noise or at a quarter and half of the resolution."""

    def __init__(self, kind) -> None:
        super().__init__()
        self.kind, self.num_levels = kind, 3
        self.factors = torch.nn.Parameter(torch.tensor([0.2, 0.6, 1.0]))

    def levels(self, w: Tensor, noise: Noise | None = None) -> Tensor:
        return shown(self.synthesis(w).unsqueeze(1) * self.factors.view(-1, 1, 1, 1), self.kind, noise)

    def levels_of(self, images: Tensor, noise: Noise | None = None) -> Tensor:
        return shown(images.unsqueeze(1).expand(-1, 3, -1, -1, -1), self.kind, noise)


class LeveledDiscriminator(RecordingDiscriminator):
    """The same logit of each level, (B, 3)."""

    def forward(self, images: Tensor, labels: Tensor | None = None, num_sets: int = 1) -> Tensor:
        self.seen.append(images.detach().clone())
        return (images * self.weight + images**3 / 100).sum(dim=(2, 3, 4))


class LeveledPlayers(Players):
    """With three levels."""

    def __init__(self, kind, config: ObjectiveConfig) -> None:
        super().__init__(config)
        self.generator: LeveledGenerator = LeveledGenerator(kind)
        self.discriminator = LeveledDiscriminator()


@pytest.mark.parametrize("kind", ["summed", "scaled"])
def test_d_is_shown_all_levels_of_real_images_and_fakes_with_noise_of_their_own(kind) -> None:
    players = LeveledPlayers(kind, PLAIN.model_copy(update={"loss": "relativistic"}))
    players.discriminator_loss()
    loss, parts = players.generator_loss()
    generator, randomness, seen = players.generator, StepRandomness(0, 0), players.discriminator.seen

    def noise(purpose: str) -> Tensor:
        return randomness.normal(f"{purpose} noise levels", 6, 3, 3, SIZE, SIZE)

    for views, player in ((seen[0].split(6), "discriminator"), (seen[1:], "generator")):
        w = generator.styles(generator.mapping(randomness.normal(f"{player} latents", 6, 4)))
        real = generator.levels_of(players.real, lambda *_, player=player: noise(f"{player} real"))
        fake = generator.levels(w, lambda *_, player=player: noise(player))
        assert torch.equal(views[0], real)
        assert torch.equal(views[1], fake)
    d_real, d_fake = (players.discriminator(x) for x in (real, fake))  # (6, 3)
    expected = torch.stack([LOSSES["relativistic"].generator(d_real[:, i], d_fake[:, i]) for i in range(3)]).mean()
    torch.testing.assert_close(loss, expected)
    assert "loss/level_consistency" not in parts


@pytest.mark.parametrize("penalty", ["exact", "finite_difference"])
def test_penalties_are_means_over_levels(penalty) -> None:
    """D's slope at each level is w + 3 x² / 100: the first-order estimate is near it."""
    players = LeveledPlayers(
        "scaled", PLAIN.model_copy(update={"r1_gamma": 2.0, "penalty": penalty, "penalty_noise": 1e-2})
    )
    players.real = players.real.repeat(200, 1, 1, 1)
    _, parts = players.discriminator_loss()
    slope = players.discriminator.weight.detach() + 3 * players.generator.levels_of(players.real) ** 2 / 100
    expected = slope.square().sum(dim=(2, 3, 4)).mean()
    assert parts["loss/r1"].item() == pytest.approx(expected.item(), rel=1e-4 if penalty == "exact" else 0.1)


def test_consistency_pulls_lower_levels_to_the_last_image_and_not_the_other_way() -> None:
    players = LeveledPlayers("scaled", PLAIN.model_copy(update={"level_consistency": 7.0}))
    loss, parts = players.generator_loss()
    image = players.fakes("generator").double()
    anchors = torch.stack(
        [torch.stack([reference.blocky(x, side) for side in (4, 2)]) for x in image]
    )  # (6, 2, 3, SIZE, SIZE)
    factors = players.generator.factors.detach().double()[:2].view(-1, 1, 1, 1)
    expected = ((factors - 1) * anchors).square().mean()
    assert parts["loss/level_consistency"].item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(loss.detach(), parts["loss/generator"] + 7 * parts["loss/level_consistency"])

    gradients = []
    for weight in (7.0, 0.0):
        again = LeveledPlayers("scaled", PLAIN.model_copy(update={"level_consistency": weight}))
        gradients.append(torch.autograd.grad(again.generator_loss()[0], again.generator.factors)[0].double())
    slope = 7 * (2 * (factors - 1) * anchors.square()).sum(dim=(0, 2, 3, 4)) / anchors.numel()
    torch.testing.assert_close(gradients[0] - gradients[1], torch.cat([slope, torch.zeros(1)]), rtol=1e-4, atol=1e-6)
