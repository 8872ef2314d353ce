"""A data set of the Hub by its address, from a Hub of one's own."""

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from data.samples import encoded, random_pixels
from hub import running_hub
from vitgan.data.prepare import prepare
from vitgan.data.sources.guess import guess_source
from vitgan.data.sources.hub import fetch_data_set
from vitgan.errors import UserError
from vitgan.runs.images import holds_images_to_prepare


def table(first: int) -> bytes:
    rows = [
        {"image": {"bytes": encoded(random_pixels(first + number)), "path": None}, "label": number} for number in (0, 1)
    ]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


FILES = {"data/train-00000-of-00001.parquet": table(0), "data/test-00000-of-00001.parquet": table(5), "run.py": b"x"}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))


def test_its_parquet_files_are_fetched_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    with running_hub({"someone/pets": FILES}) as (address, asked):
        folder = fetch_data_set("hf://someone/pets", address)
        monkeypatch.setattr("vitgan.data.sources.guess.fetch_data_set", lambda _: folder)
    assert not any("run.py" in path for path in asked)
    source = guess_source("hf://someone/pets", "test")
    assert (len(source), source.split) == (2, "test")
    assert source.read(0) == encoded(random_pixels(5))
    assert holds_images_to_prepare("hf://someone/pets")


@pytest.mark.parametrize("address", ["hf://someone/else", "hf://someone/pets@v9", "hf://no name", "hf://someone/text"])
def test_what_is_not_there_is_one_line(address: str) -> None:
    with (
        running_hub({"someone/pets": FILES, "someone/text": {"a.txt": b"x"}}) as (hub, _),
        pytest.raises(UserError) as error,
    ):
        fetch_data_set(address, hub)
    assert "\n" not in str(error.value)
    assert error.value.parameter == "data"


def test_imagenet_as_the_hub_keeps_it(tmp_path, monkeypatch) -> None:
    """Shards, JPEGs of any size and colour space, names of several words, two classes of one name, a test split without."""
    names = ["tench, Tinca tinca", "crane", "cardigan, Cardigan Welsh corgi", "crane"]

    def shard(*labels: int) -> bytes:
        rows = []
        for number, label in enumerate(labels):
            file = io.BytesIO()
            image = Image.new("CMYK" if number else "L", (40 + number, 30), 90)
            image.save(file, "JPEG")
            rows.append({"image": {"bytes": file.getvalue(), "path": f"{number}.JPEG"}, "label": label})
        features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
        table = pa.Table.from_pylist(rows)
        buffer = io.BytesIO()
        pq.write_table(
            table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})}), buffer
        )
        return buffer.getvalue()

    files = {
        "data/train-00000-of-00002.parquet": shard(3, 0),
        "data/train-00001-of-00002.parquet": shard(1, 2, 3),
        "data/validation-00000-of-00001.parquet": shard(2),
        "data/test-00000-of-00001.parquet": shard(-1, -1),
    }
    with running_hub({"someone/imagenet": files}) as (address, _):
        folder = fetch_data_set("hf://someone/imagenet", address)
        monkeypatch.setattr("vitgan.data.sources.guess.fetch_data_set", lambda _: folder)
    store = prepare(guess_source("hf://someone/imagenet", "train"), tmp_path / "store", resolution=16, workers=0)
    assert store.images.shape == (5, 3, 16, 16)
    assert store.labels is not None
    assert store.labels.tolist() == [3, 0, 1, 2, 3]
    assert store.description.label_names == [
        "tench, Tinca tinca",
        "crane (1)",
        "cardigan, Cardigan Welsh corgi",
        "crane (3)",
    ]
    test = guess_source("hf://someone/imagenet", "test")
    assert (len(test), test.labels) == (2, None)
