"""Sampling: what it depends on, and how many images go through the network at once."""

import io
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

import vitgan.devices
from generators import KINDS, make
from refusals import refused
from vitgan.errors import UserError
from vitgan.files.pictures import to_array
from vitgan.models.build import GeneratorSpec, build_generator
from vitgan.models.draws import W_MEAN_SAMPLES, classes_in_turn, draw_latents
from vitgan.models.generator import CUDA_SHARE, LARGEST_BATCH
from vitgan.models.stylegan2_generator import StyleGAN2GeneratorConfig
from vitgan.models.vit_generator import ViTGeneratorConfig


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_an_image_does_not_depend_on_the_batch_it_is_made_in(kind: str) -> None:
    generator = make(kind, num_classes=3)
    chosen = generator.sample(40, seed=7, truncation=0.8)
    for batch_size in (1, 7, 40):
        again = generator.sample(40, seed=7, truncation=0.8, batch_size=batch_size)
        torch.testing.assert_close(again, chosen, atol=1e-5, rtol=0)
    torch.testing.assert_close(generator.sample(5, seed=7, truncation=0.8), chosen[:5], atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_styles_and_images_are_float32_under_autocast(kind: str) -> None:
    """The mapping gives the very styles; the image's values are not those that bf16 has."""
    generator = make(kind, num_classes=3)
    z, labels = draw_latents(16, generator.z_dim, seed=0), torch.arange(16) % 3
    w = generator.mapping(z, labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(generator.mapping(z, labels), w)
        images = generator.synthesis(generator.styles(w))
    assert images.dtype == torch.float32
    assert (images != images.bfloat16().float()).float().mean() > 0.9
    exact = generator.synthesis(generator.styles(w))
    assert (images - exact).square().mean().sqrt() < 0.05 * exact.std()


def test_the_chosen_batch_is_the_one_that_is_used() -> None:
    generator = make("vit")
    size = generator.fast_batch()
    batches = [len(images) for images in generator.batches(2 * size + 1)]
    assert batches == [size, size, 1]


@pytest.mark.parametrize(
    ("resolution", "width", "float32", "bf16", "kept"),
    # 32² pixels of 96 float32 values are 384 KiB: 32 images fill 12 MiB, 256 images 96 MiB.
    [(32, 96, 32, 64, 256), (32, 128, 16, 32, 128), (32, 384, 8, 16, 64), (128, 384, 8, 8, 8), (4, 8, 256, 256, 256)],
)
def test_a_batch_fits_the_cache_of_a_processor(
    resolution: int, width: int, float32: int, bf16: int, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a larger part of its memory where freed memory is kept (float32)."""
    monkeypatch.setattr(vitgan.devices, "_kept", False)
    config = ViTGeneratorConfig(dim=8, depth=1, num_heads=1, w_dim=width, z_dim=8, mapping_layers=1, patch_size=4)
    generator = build_generator(GeneratorSpec(resolution=resolution, generator=config))
    assert generator.fast_batch() == float32
    with torch.autocast("cpu", torch.bfloat16):
        assert generator.fast_batch() == bf16
    monkeypatch.setattr(vitgan.devices, "_kept", True)
    assert generator.fast_batch() == kept


@pytest.mark.parametrize("free", [1 << 20, 1 << 28, 1 << 30, 1 << 36])
def test_a_batch_fits_the_free_memory_of_a_gpu(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    config = StyleGAN2GeneratorConfig(w_dim=256, z_dim=16, mapping_layers=1, channel_base=512)
    generator = build_generator(GeneratorSpec(resolution=64, generator=config), device="meta")
    generator._buffers["w_mean"] = SimpleNamespace(device=torch.device("cuda"))  # pyright: ignore[reportArgumentType]
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 1 << 40))
    batch, image = generator.fast_batch(), 64 * 64 * 256 * 4
    assert 1 <= batch <= LARGEST_BATCH
    assert batch == 1 or batch * image * CUDA_SHARE <= free
    assert batch == LARGEST_BATCH or 2 * batch * image * CUDA_SHARE > free


@pytest.mark.parametrize("counts", [(1, 1, 1), (70, 20, 10), (5, 0, 3), (1000, 1), (7,), tuple(range(1, 60))])
def test_classes_come_in_their_shares_however_many_are_drawn(counts: tuple[int, ...]) -> None:
    labels = classes_in_turn(1500, counts)
    shares = torch.tensor(counts, dtype=torch.float64) / sum(counts)
    for count in (1, 2, 3, 10, 77, 1500):
        assert torch.equal(classes_in_turn(count, counts), labels[:count])
        drawn = labels[:count].bincount(minlength=len(counts))
        assert (drawn - count * shares).abs().max() < 1  # as near as whole numbers come
        assert (drawn[shares == 0] == 0).all()


def test_equal_classes_come_in_turn() -> None:
    assert classes_in_turn(7, (5000, 5000, 5000)).tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert make("vit", num_classes=3).labels(4).tolist() == [0, 1, 2, 0]  # pyright: ignore[reportOptionalMemberAccess]
    assert make("vit").labels(4) is None


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_everything_that_is_drawn_has_the_shares_of_the_training_images(kind: str) -> None:
    counts = (90, 9, 1)
    spec = GeneratorSpec(resolution=16, num_classes=3, class_counts=counts, generator=KINDS[kind])
    generator = build_generator(spec, seed=1).eval().requires_grad_(False)
    expected = classes_in_turn(20, counts)
    assert expected.bincount().tolist() == [18, 2]
    torch.testing.assert_close(generator.sample(20, seed=3), generator.sample(20, seed=3, labels=expected))
    together = torch.cat(list(generator.batches(20, seed=3, batch_size=7)))
    torch.testing.assert_close(together, generator.sample(20, seed=3, labels=expected), atol=1e-5, rtol=0)

    generator.update_w_mean()
    z = draw_latents(W_MEAN_SAMPLES, generator.z_dim, seed=0)
    mean = torch.zeros(generator.w_dim)
    for label, count in enumerate(counts):  # by all latents of each class, which differ little from a share of them
        mean += generator.mapping(z, torch.full((len(z),), label)).mean(dim=0) * count / 100
    spread = generator.mapping(z, torch.zeros(len(z), dtype=torch.long)).std()
    assert (generator.w_mean - mean).abs().max() < 0.05 * spread


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_truncation_pulls_an_image_to_the_mean_of_its_class(kind: str) -> None:
    spec = GeneratorSpec(resolution=16, num_classes=3, class_counts=(90, 9, 1), generator=KINDS[kind])
    generator = build_generator(spec, seed=1).eval().requires_grad_(False)
    z = draw_latents(W_MEAN_SAMPLES // 3, generator.z_dim, seed=0)
    means = torch.stack([generator.mapping(z, torch.full((len(z),), label)).mean(dim=0) for label in range(3)])
    torch.testing.assert_close(generator.class_means(), means, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(means[0], means[1], atol=1e-3)

    labels = torch.tensor([2, 0, 1, 2])
    expected = generator.synthesis(generator.styles(means[labels])).clamp(-1, 1)
    found = generator.sample(4, 5, truncation=0, labels=labels)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    w = generator.mapping(draw_latents(4, generator.z_dim, seed=5), labels)
    half = generator.styles(w, 0.5, labels)[:, 0]
    torch.testing.assert_close(half, (w + means[labels]) / 2, rtol=1e-4, atol=1e-5)

    # Other weights have other means.
    other = build_generator(spec, seed=2).requires_grad_(False)
    assert not torch.allclose(other.class_means(), means, atol=1e-3)
    other.load_state_dict(generator.state_dict())
    torch.testing.assert_close(other.class_means(), means, rtol=1e-4, atol=1e-5)
    for parameter in other.parameters():
        parameter.mul_(2)
    other.update_w_mean()
    assert not torch.allclose(other.class_means(), means, atol=1e-3)


@pytest.mark.parametrize("counts", [(1, 2), (0, 0, 0), (1, -1, 3), (1, 2, 1 << 60)])
def test_impossible_shares_are_refused(counts: tuple[int, ...]) -> None:
    with pytest.raises(ValidationError) as error:
        GeneratorSpec(num_classes=3, class_counts=counts)
    assert "class_counts" in str(error.value)


@pytest.mark.parametrize("asked", [1, "1", "dog"])
def test_a_class_without_images_is_refused(asked: int | str) -> None:
    """Its embedding was never trained: the images would be of no class."""
    generator = build_generator(named().model_copy(update={"class_counts": (5, 0, 5)}), seed=0)
    with refused(parameter="labels"):
        generator.sample(2, labels=asked)
    assert generator.class_of("7") == 2


def named() -> GeneratorSpec:
    return GeneratorSpec(resolution=16, num_classes=3, class_names=("cat", "dog", "7"), generator=KINDS["vit"])


def test_classes_are_given_by_number_or_name_for_all_images_or_for_each() -> None:
    generator = build_generator(named())
    expected = generator.sample(4, labels=torch.tensor([1, 1, 1, 1]))
    for labels in (
        1,
        "1",
        "dog",
        ["dog"] * 4,
        (1, "1", "dog", 1),
        torch.tensor([1, 1, 1, 1], dtype=torch.int32),
        np.ones(4, np.int64),
    ):
        assert generator.sample(4, labels=labels).equal(expected)  # pyright: ignore[reportArgumentType]
    assert generator.indices_of(["cat", "7", 1], 3).tolist() == [0, 2, 1]  # pyright: ignore[reportOptionalMemberAccess]


@pytest.mark.parametrize(
    "labels", [3, -1, "bird", [0, 1], [[0], [1]], torch.tensor([0.5, 1.0, 1.0]), torch.zeros(3, 1), 1.0]
)
def test_classes_that_a_model_has_not_are_refused(labels: object) -> None:
    with refused(parameter="labels"):
        build_generator(named()).sample(3, labels=labels)  # pyright: ignore[reportCallIssue, reportArgumentType]
    with pytest.raises(UserError):
        make("vit").sample(3, labels=0)


@pytest.mark.parametrize(
    ("option", "value"), [("count", 0), ("count", 2.0), ("count", "2"), ("output", "png"), ("truncation", float("nan"))]
)
def test_other_values_that_do_not_fit_are_named(option: str, value: object) -> None:
    with refused(parameter=option):
        make("vit").sample(**{"count": 1} | {option: value})  # pyright: ignore[reportArgumentType, reportCallIssue]


@pytest.mark.parametrize("channels", [1, 3])
def test_images_as_people_use_them(channels: int) -> None:
    spec = GeneratorSpec(resolution=16, channels=channels, generator=KINDS["vit"])  # pyright: ignore[reportArgumentType]
    generator = build_generator(spec)
    arrays = to_array(generator.sample(2, seed=3))
    images = generator.sample(2, seed=3, output="pil")
    assert [image.mode for image in images] == [{1: "L", 3: "RGB"}[channels]] * 2
    assert all(image.tobytes() == array.tobytes() for image, array in zip(images, arrays, strict=True))
    shown = Image.open(io.BytesIO(generator._repr_png_()))
    assert shown.size == (5 * 64, 4 * 64)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_half_precision_changes_images_little_and_moves_where_it_is_told(kind: str) -> None:
    generator = make(kind, num_classes=3)
    expected = generator.sample(8, truncation=0.9)
    halved = generator.half()
    assert {p.dtype for p in halved.parameters()} == {torch.bfloat16}
    again = halved.sample(8, truncation=0.9)
    assert again.dtype == torch.float32
    assert (again - expected).square().mean().sqrt() < 0.1 * expected.std()
    halved.update_w_mean()
    assert halved.device == torch.device("cpu")
    assert halved.to("meta").device == torch.device("meta")
    with pytest.raises(UserError):  # whose range is too small: images would be of no numbers
        make(kind).to(torch.float16).sample(1)


@pytest.mark.parametrize(
    ("num_classes", "arguments", "parameter"),
    [
        (0, {"count": 0}, "count"),
        (0, {"count": 2, "batch_size": 0}, "batch_size"),
        (0, {"count": 2, "batch_size": 1.5}, "batch_size"),
        (0, {"count": 2, "labels": torch.tensor([0, 0])}, "labels"),
    ],
)
def test_arguments_of_sampling_that_cannot_be_followed_are_refused(num_classes: int, arguments, parameter: str) -> None:
    with refused(parameter=parameter):
        make("vit", num_classes=num_classes).sample(**arguments)


def test_a_generator_that_has_diverged_makes_no_black_images() -> None:
    generator = make("vit")
    with torch.no_grad():
        next(generator.parameters()).fill_(torch.nan)
    with refused(cause=type(None)):
        generator.sample(2)


def test_a_grid_has_a_column_for_each_of_a_few_classes() -> None:
    def grid(class_counts: tuple[int, ...] | None, count: int) -> tuple[int, int | None]:
        generator = make("vit", num_classes=len(class_counts or ()))
        generator.class_counts = class_counts
        shown, columns = generator.grid(count)
        labels = generator.labels(shown)
        if columns is not None and labels is not None:
            rows = labels.view(-1, columns)
            assert (rows == rows[:1]).all()
            assert len(set(rows[0].tolist())) == columns
        return shown, columns

    assert grid((5,) * 10, 64) == (60, 10)
    assert grid((5, 0, 5, 5, 5), 9) == (8, 4)  # a class without images has no column
    assert grid((5,) * 10, 9) == (9, None)  # not one row
    assert grid((5,) * 3, 64) == (64, None)
    assert grid((5,) * 30, 64) == (64, None)
    assert grid((50, 5, 5, 5), 64) == (64, None)  # not in turn
    assert grid(None, 64) == (64, None)


@pytest.mark.parametrize("seed", [-1, 2**63, 2**64 - 1, 1.0, None])
def test_a_seed_out_of_range_is_no_other_seeds_alias(seed: Any) -> None:
    """torch takes -1 for 2^64 - 1."""
    generator = make("vit")
    with pytest.raises(UserError) as error:
        generator.sample(1, seed=seed)
    assert error.value.parameter == "seed"
    with pytest.raises(UserError) as error:
        list(generator.of_seeds([0, seed]))
    assert error.value.parameter == "seeds"


@pytest.mark.parametrize("classes", [0, 3])
def test_seeds_of_numpy_and_torch_are_those_of_python(classes: int) -> None:
    generator = make("vit", classes)
    expected = torch.cat([*generator.of_seeds([0, 1, 4])])
    for seeds in (np.array([0, 1, 4]), torch.tensor([0, 1, 4]), list(np.array([0, 1, 4], np.uint8))):
        assert torch.cat([*generator.of_seeds(seeds)]).equal(expected)  # pyright: ignore[reportArgumentType]
    assert generator.sample(2, seed=np.int64(3)).equal(generator.sample(2, seed=3))  # pyright: ignore[reportArgumentType]


def test_classes_may_be_scalars_of_any_library() -> None:
    generator = make("vit", num_classes=3)
    expected = generator.sample(2, labels=[1, 2])
    scalars: Any = ((torch.tensor(1), torch.tensor(2)), (np.int64(1), np.int32(2)))
    for one, other in scalars:
        torch.testing.assert_close(generator.sample(2, labels=[one, other]), expected)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_seed_names_the_same_image_whatever_torchs_defaults_are(kind: str) -> None:
    generator = make(kind, num_classes=3)

    def made() -> list[torch.Tensor]:
        generator.update_w_mean()
        return [generator.sample(3, seed=5, truncation=0.7), *generator.of_seeds([7]), generator.w_mean.clone()]

    expected = made()
    try:
        for dtype in (torch.float64, torch.bfloat16):
            torch.set_default_dtype(dtype)
            assert all(map(torch.equal, made(), expected))
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.device("meta"):  # where another default than the CPU shows
        assert all(map(torch.equal, made(), expected))


def test_seeds_may_be_anything_that_is_read_once() -> None:
    generator = make("vit", num_classes=3)
    assert torch.equal(*(torch.cat([*generator.of_seeds(seeds)]) for seeds in (range(4), iter(range(4)))))


def test_autocast_to_float16_is_refused_like_weights_in_it() -> None:
    """Its numbers overflow, as if training had diverged."""
    generator = make("vit")
    with refused("float16"), torch.autocast("cpu", torch.float16):
        generator.sample(1)
