import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refusals import refused
from tiny import write_vae
from vitgan.data.encode import encode_store, pixels_of
from vitgan.data.overview import channel_moments, store_grid
from vitgan.data.store import ImageStore
from vitgan.data.stream import ImageStream
from vitgan.data.writer import StoreWriter, partial_folder
from vitgan.errors import UserError
from vitgan.frozen import vae

COUNT = 10


def pixel_store(
    path: Path, resolution: int = 16, channels: int = 3, count: int = COUNT, classes: int = 3, names: str = "abc"
) -> ImageStore:
    images = np.random.default_rng(0).integers(0, 256, (count, channels, resolution, resolution), dtype=np.uint8)
    with StoreWriter(path, resolution=resolution, channels=channels, labelled=True) as writer:
        writer.append(images, np.arange(count) % classes)
        return writer.finish(source="test", split="train", label_names=[*names], licence="free")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("encode")
    pixel_store(place / "pixels")
    write_vae(place / "vae")
    return place


def encoded(place: Path, out: Path, **options: Any) -> ImageStore:
    return encode_store(ImageStore.open(place / "pixels"), str(place / "vae"), out, **options)


def test_a_latent_store_holds_scaled_means_with_the_labels(place: Path, tmp_path: Path) -> None:
    store, pixels = encoded(place, tmp_path / "latents"), ImageStore.open(place / "pixels")
    network, spec = vae.open_vae(str(place / "vae"))
    expected = vae.encode(network, spec, np.array(pixels.images)).astype(np.float16)
    np.testing.assert_array_equal(store.images, expected)
    np.testing.assert_array_equal(store.labels, pixels.labels)  # pyright: ignore[reportArgumentType]
    said = store.description
    assert (store.channels, store.resolution, store.image_size, len(store)) == (4, 8, 16, COUNT)
    assert said.vae == spec
    assert (said.split, said.label_names, said.licence) == ("train", ["a", "b", "c"], "free")
    assert (said.pixels_sha256, said.origin) == (pixels.description.sha256, str(place / "pixels"))
    store.verify()


def test_altered_images_are_not_encoded_under_their_old_checksum(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "pixels", tmp_path / "pixels")
    images = np.load(tmp_path / "pixels" / "images.npy", mmap_mode="r+")
    images[0] = 255 - images[0]
    images.flush()
    with refused("SHA-256"):
        encode_store(ImageStore.open(tmp_path / "pixels"), str(place / "vae"), tmp_path / "latents")
    assert not (tmp_path / "latents").exists()


def test_mirror_images_follow_behind_all_others(place: Path, tmp_path: Path) -> None:
    store, pixels = encoded(place, tmp_path / "latents", flips=True), ImageStore.open(place / "pixels")
    network, spec = vae.open_vae(str(place / "vae"))
    mirrored = vae.encode(network, spec, np.ascontiguousarray(pixels.images[:, :, :, ::-1]))
    np.testing.assert_allclose(store.images[COUNT:], mirrored, atol=2e-3)
    np.testing.assert_array_equal(store.labels, np.tile(np.arange(COUNT) % 3, 2))  # pyright: ignore[reportArgumentType]
    assert not np.allclose(mirrored, store.images[:COUNT, :, :, ::-1], atol=0.05)  # why there is no flip in training


def test_latents_are_streamed_as_they_are_stored(place: Path, tmp_path: Path) -> None:
    encoded(place, tmp_path / "latents")
    store = ImageStore.open(tmp_path / "latents")
    stream = ImageStream(store, 4, seed=0)
    images, labels = stream.batch(8)
    assert images.dtype == np.float16
    np.testing.assert_array_equal(images, store.images[stream.indices(8)])
    np.testing.assert_array_equal(labels, store.labels[stream.indices(8)])  # pyright: ignore


@pytest.mark.parametrize("kind", [KeyboardInterrupt, OSError])
def test_an_interrupted_encoding_is_gone_on_with(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]
) -> None:
    monkeypatch.setitem(vae.PIXELS_AT_ONCE, "cpu", 3 * 16**2)
    whole = encoded(place, tmp_path / "whole", flips=True)

    def stop(done: int, total: int) -> None:
        if done >= 6:
            raise kind

    with pytest.raises(kind):
        encoded(place, tmp_path / "latents", flips=True, on_progress=stop)
    assert not (tmp_path / "latents").exists()
    seen: list[int] = []
    store = encoded(place, tmp_path / "latents", flips=True, on_progress=lambda done, total: seen.append(done))
    assert seen[0] > 6
    assert store.description.sha256 == whole.description.sha256
    assert not partial_folder(tmp_path / "latents").exists()


@pytest.mark.parametrize("change", [{"seed": 1}, {"scaling_factor": 0.25}], ids=["weights", "scale"])
def test_what_another_vae_left_is_not_gone_on_with(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    monkeypatch.setitem(vae.PIXELS_AT_ONCE, "cpu", 3 * 16**2)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encoded(place, tmp_path / "latents", on_progress=stop)
    other = str(write_vae(tmp_path / "other", **change))
    seen: list[int] = []
    pixels = ImageStore.open(place / "pixels")
    encode_store(pixels, other, tmp_path / "latents", on_progress=lambda done, total: seen.append(done))
    assert seen[0] == 3


@pytest.mark.parametrize(
    ("resolution", "channels", "field"), [(15, 3, "resolution"), (16, 1, "channels")], ids=["odd", "grey"]
)
def test_images_that_do_not_fit_the_vae(
    place: Path, tmp_path: Path, resolution: int, channels: int, field: str
) -> None:
    store = pixel_store(tmp_path / "pixels", resolution, channels)
    with pytest.raises(UserError) as caught:
        encode_store(store, str(place / "vae"), tmp_path / "latents")
    assert caught.value.parameter == field
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pixels"]


def test_latents_do_not_take_the_place_of_their_images(place: Path, tmp_path: Path) -> None:
    pixels = pixel_store(tmp_path / "pixels")
    (tmp_path / "link").symlink_to(pixels.path)
    for out in (pixels.path, tmp_path / "link"):
        with pytest.raises(UserError) as caught:
            encode_store(pixels, str(place / "vae"), out, overwrite=True)
        assert caught.value.parameter == "out"
    assert ImageStore.open(pixels.path).vae is None


def test_latents_are_not_encoded_again(place: Path, tmp_path: Path) -> None:
    store = encoded(place, tmp_path / "latents")
    with pytest.raises(UserError):
        encode_store(store, str(place / "vae"), tmp_path / "twice")
    with pytest.raises(UserError) as caught:
        encoded(place, tmp_path / "latents")
    assert caught.value.parameter == "overwrite"


def test_latents_beyond_float16_are_refused(place: Path, tmp_path: Path) -> None:
    vae = write_vae(tmp_path / "vae", scaling_factor=1e9)
    with pytest.raises(UserError) as caught:
        encode_store(ImageStore.open(place / "pixels"), str(vae), tmp_path / "latents")
    assert caught.value.parameter == "vae"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["vae"]


def test_the_images_of_latents_are_found_or_asked_for(tmp_path: Path, place: Path) -> None:
    pixel_store(tmp_path / "pixels")
    store = encode_store(ImageStore.open(tmp_path / "pixels"), str(place / "vae"), tmp_path / "latents")
    assert pixels_of(store).path == tmp_path / "pixels"
    (tmp_path / "pixels").rename(tmp_path / "moved")
    for count in (None, COUNT - 1):
        if count is not None:
            pixel_store(tmp_path / "pixels", count=count)
        with pytest.raises(UserError) as caught:
            pixels_of(store)
        assert caught.value.parameter == "data"


@pytest.mark.parametrize("flips", [False, True])
@pytest.mark.parametrize("other", [{"classes": 2}, {"names": "abd"}])
def test_the_images_of_latents_have_the_same_labels(
    tmp_path: Path, place: Path, flips: bool, other: dict[str, Any]
) -> None:
    pixels = pixel_store(tmp_path / "pixels")
    store = encode_store(pixels, str(place / "vae"), tmp_path / "latents", flips=flips)
    assert pixels_of(store).path == tmp_path / "pixels"
    pixels.path.rename(tmp_path / "moved")
    assert pixel_store(tmp_path / "pixels", **other).description.sha256 == pixels.description.sha256
    with pytest.raises(UserError) as caught:
        pixels_of(store)
    assert caught.value.parameter == "data"


def test_an_overview_decodes(place: Path, tmp_path: Path) -> None:
    store = encoded(place, tmp_path / "latents")
    assert store_grid(store, rows=3, columns=2).size == (32, 48)
    moments = channel_moments(store)
    np.testing.assert_allclose(
        moments[1], (np.float32(store.images[:, 1]).mean(), np.float32(store.images[:, 1]).std())
    )
    assert len(moments) == 4


def test_an_altered_latent_store_is_noticed(place: Path, tmp_path: Path) -> None:
    encoded(place, tmp_path / "latents")
    file = tmp_path / "latents" / "images.npy"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(UserError):
        ImageStore.open(tmp_path / "latents").verify()
    (tmp_path / "latents" / "dataset.json").write_text(
        (tmp_path / "latents" / "dataset.json").read_text().replace('"channels": 4', '"channels": 2')
    )
    with pytest.raises(UserError):
        ImageStore.open(tmp_path / "latents")
