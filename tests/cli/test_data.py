import json
import shlex
import signal
import subprocess
import sys

import lmdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from data.samples import encoded, make_store, random_pixels, write_image
from refusals import refused
from vitgan.cli.main import dispatch
from vitgan.data.prepare import prepare
from vitgan.data.store import ImageStore
from vitgan.errors import UserError


def main(arguments: list[str]) -> None:
    dispatch(["data", *arguments])


def test_a_folder_becomes_a_store_with_a_summary(tmp_path, capsys):
    for number in range(6):
        write_image(tmp_path / "in" / f"class{number % 2}" / f"{number}.png", number)
    (tmp_path / "in" / "class0" / "broken.png").write_bytes(b"")
    main(["folder", "--source", str(tmp_path / "in"), "--resolution", "8", "--out", str(tmp_path / "store")])
    store = ImageStore.open(tmp_path / "store")
    assert len(store) == 6
    printed = capsys.readouterr().out
    size = sum(file.stat().st_size for file in store.path.iterdir())
    planned = 7 * 3 * 8 * 8 + 7 * 8 + 2 * 128
    assert f"at most {planned:,} bytes" in printed
    assert f"6 RGB images of 8×8, 2 classes, {size:,} bytes" in printed
    assert "skipped: 1" in printed
    assert "class0/broken.png: empty file" in printed
    assert f"--data {tmp_path / 'store'}" in printed


def test_what_is_taken_is_said_before_the_work_and_recorded(tmp_path, capsys, monkeypatch):
    for number, name in enumerate(["Train/cat/1.png", "Train/dog/2.png", "Train/dog/3.png", "Test/cat/4.png"]):
        write_image(tmp_path / "in" / name, number)
    arguments = ["folder", "--source", str(tmp_path / "in"), "--resolution", "8", "--out", str(tmp_path / "store")]
    with refused(tmp_path / "in", "Test, Train", parameter="split"):
        main(arguments)
    said = []
    monkeypatch.setattr(
        "vitgan.cli.data.prepare",
        lambda *given, **options: said.append(capsys.readouterr().out) or prepare(*given, **options),
    )
    main([*arguments, "--split", "train"])
    assert "split: train (the folder Train)" in said[0]
    assert "labels: 2 classes from class folders (cat, dog), 1 to 2 images each" in said[0]
    description = ImageStore.open(tmp_path / "store").description
    assert (description.split, description.split_from) == ("train", "the folder Train")
    assert description.labels_from == "class folders (cat, dog)"
    capsys.readouterr()
    main(["show", str(tmp_path / "store")])
    assert "labels: class folders (cat, dog)" in capsys.readouterr().out


def test_labels_are_settled_by_an_option(tmp_path, capsys):
    for number, name in enumerate(["cat/1.png", "cat/2.png", "dog/3.png", "stray.png"]):
        write_image(tmp_path / "in" / name, number)
    table = tmp_path / "breeds.csv"
    table.write_text("file,label\n1.png,pug\n2.png,beagle\n3.png,pug\nstray.png,boxer\n")
    arguments = [
        "folder",
        "--source",
        str(tmp_path / "in"),
        "--resolution",
        "8",
        "--overwrite",
        "--out",
        str(tmp_path / "s"),
    ]
    with pytest.raises(UserError):
        main(arguments)
    assert not (tmp_path / "s").exists()
    for labels, expected in (("folders", [0, 0, 1]), ("none", None), (str(table), [2, 0, 2, 1])):
        main([*arguments, "--labels", labels])
        found = ImageStore.open(tmp_path / "s").labels
        assert (None if found is None else found.tolist()) == expected
    assert "; 1 images have none and are left out" in capsys.readouterr().out


def describe(path):
    description = ImageStore.open(path).description
    return description.source, description.split, description.count, description.resolution


def hub_file(path, column):
    path.parent.mkdir(parents=True)
    table = pa.table({column: [{"bytes": encoded(random_pixels(number, 200, 180))} for number in range(3)]})
    pq.write_table(table, path)


@pytest.mark.parametrize(
    ("source", "column", "split", "resolution"),
    [("cifar10", "img", "train", 32), ("celeba", "image", "test", 64), ("lsun", "image", None, 64)],
)
def test_hub_copies_keep_their_data_sets_customs(tmp_path, source, column, split, resolution):
    hub_file(tmp_path / "hub" / f"{split or 'train'}-00000-of-00001.parquet", column)
    arguments = [source, "--source", str(tmp_path / "hub"), "--out", str(tmp_path / "store")]
    main(arguments + (["--split", split] if split else []))
    assert describe(tmp_path / "store") == (source, split or "train", 3, resolution)


def test_any_parquet_lsun_and_celeba(tmp_path):
    hub_file(tmp_path / "hub" / "a.parquet", "photo")
    main(["parquet", "--source", str(tmp_path / "hub"), "--resolution", "8", "--out", str(tmp_path / "parquet")])
    assert describe(tmp_path / "parquet") == ("parquet", None, 3, 8)

    (tmp_path / "in" / "bedroom_val_lmdb").mkdir(parents=True)
    with (
        lmdb.open(str(tmp_path / "in" / "bedroom_val_lmdb")) as environment,
        environment.begin(write=True) as transaction,
    ):
        transaction.put(b"key", encoded(random_pixels(0, 80, 90)))
    main(["lsun", "--source", str(tmp_path / "in"), "--split", "val", "--out", str(tmp_path / "lsun")])
    assert describe(tmp_path / "lsun") == ("lsun", "val", 1, 64)

    write_image(tmp_path / "faces" / "000001.jpg", 0, height=218, width=178)
    main(
        ["celeba", "--source", str(tmp_path / "faces"), "--split", "all", "--crop", "148", "--out", str(tmp_path / "c")]
    )
    assert describe(tmp_path / "c") == ("celeba", "all", 1, 64)
    assert "148×148" in ImageStore.open(tmp_path / "c").description.framing


def test_verify(tmp_path, capsys):
    store = make_store(tmp_path / "store", 9)
    main(["verify", str(store.path)])
    assert "9 images are as they were prepared" in capsys.readouterr().out
    data = bytearray((store.path / "images.npy").read_bytes())
    data[-1] ^= 1
    (store.path / "images.npy").write_bytes(data)
    with refused(store.path):
        main(["verify", str(store.path)])


def test_show(tmp_path, capsys):
    store = make_store(tmp_path / "store", 15, labelled=True, resolution=8, channels=3)
    main(["show", str(store.path), "--grid", str(tmp_path / "grid.png"), "--rows", "3", "--columns", "2"])
    printed = capsys.readouterr().out
    mean = np.asarray(store.images)[:, 0].mean()
    assert f"red: mean {mean:.1f}" in printed
    assert "  0: 3 images" in printed
    assert "  6: 2 images" in printed
    assert "  0- 15" in printed
    with Image.open(tmp_path / "grid.png") as grid:
        assert grid.size == (16, 24)
    with refused(tmp_path / "grid.png" / "grid.png"):
        main(["show", str(store.path), "--grid", str(tmp_path / "grid.png" / "grid.png")])
    with refused(parameter="rows"):
        main(["show", str(store.path), "--grid", str(tmp_path / "grid.png"), "--rows", "0"])


DYING_COMMAND = """
import os, signal, sys
from vitgan.cli.main import dispatch
from vitgan.data import writer

append = writer.StoreWriter.append

def append_and_die(unfinished, *images, **more):
    append(unfinished, *images, **more)
    if unfinished.done >= 20:
        os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    if sys.argv[1] == "die":
        writer.StoreWriter.append = append_and_die
    dispatch(["data", *sys.argv[2:]])
"""


def test_a_killed_command_goes_on(tmp_path):
    """SIGKILL to the command while its workers decode; then the same command again."""
    (tmp_path / "in").mkdir()
    for number in range(40):
        (tmp_path / "in" / f"{number}.png").write_bytes(encoded(random_pixels(number, 300, 300), compress_level=0))
    (tmp_path / "command.py").write_text(DYING_COMMAND)
    arguments = ["folder", "--source", str(tmp_path / "in"), "--resolution", "256", "--workers", "2", "--out"]
    command = [sys.executable, str(tmp_path / "command.py")]
    died = subprocess.run([*command, "die", *arguments, str(tmp_path / "store")], capture_output=True, check=False)
    assert died.returncode == -signal.SIGKILL
    assert not (tmp_path / "store").exists()
    assert '"count":20,' in (tmp_path / ".store.partial" / "progress").read_text()
    subprocess.run([*command, "live", *arguments, str(tmp_path / "store")], capture_output=True, check=True)
    main([*arguments, str(tmp_path / "other")])
    for name in ("images.npy", "dataset.json"):
        assert (tmp_path / "store" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()
    assert not (tmp_path / ".store.partial").exists()


def test_fashion_mnist_is_bundled(tmp_path):
    main(["fashion-mnist", "--max-images", "50", "--out", str(tmp_path / "store")])
    store = ImageStore.open(tmp_path / "store")
    assert (len(store), store.resolution, store.channels) == (50, 32, 1)


@pytest.mark.parametrize(
    ("arguments", "named", "parameter"),
    [
        (["folder", "--source", "nowhere", "--resolution", "8", "--out", "store"], ["nowhere"], None),
        (["folder", "--source", "empty", "--resolution", "8", "--out", "store"], ["empty", ".png"], None),
        (["folder", "--source", "in", "--out", "store"], ["folder"], "resolution"),
        (["folder", "--source", "in", "--resolution", "8", "--out", "file/store"], ["file/store"], None),
        (["folder", "--source", "in", "--resolution", "8", "--out", "file"], ["file"], "overwrite"),
        (["folder", "--source", "in", "--resolution", "8", "--out", "store", "--strict"], ["broken.png"], "strict"),
        (["cifar10", "--source", "in", "--out", "store"], ["in", "data_batch_1"], None),
        (["fashion-mnist", "--source", "in", "--out", "store"], ["in", "train-images-idx3-ubyte"], None),
    ],
)
def test_mistakes_are_one_line(tmp_path, monkeypatch, arguments, named, parameter):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    write_image(tmp_path / "in" / "1.png", 0)
    (tmp_path / "in" / "broken.png").write_bytes(b"\x89PNG")
    with refused(*named, parameter=parameter):
        main(arguments)


@pytest.mark.parametrize(
    ("options", "parameter"),
    [
        ("--resolution 0", "resolution"),
        ("--resolution -8", "resolution"),
        ("--crop 0", "crop"),
        ("--workers -1", "workers"),
        ("--max-images 0", "max_images"),
        ("--channels 2", "channels"),
        ("--out .", None),
        ("--out ''", None),
    ],
)
def test_values_out_of_range_are_one_line_and_leave_nothing(tmp_path, monkeypatch, options, parameter):
    write_image(tmp_path / "images" / "0.png", seed=0)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        main(["folder", "--source", "images", "--out", "store", *shlex.split(options)])
    assert "\n" not in str(error.value)
    assert parameter in (None, error.value.parameter)
    assert [p.name for p in tmp_path.iterdir()] == ["images"]


@pytest.mark.parametrize(
    ("arguments", "parameter"),
    [
        ("cifar10 --source in --out store --url http://127.0.0.1/", "url"),
        ("fashion-mnist --out store --url http://127.0.0.1/", "url"),
        ("celeba --source hub --out store --partition list.txt", "partition"),
        ("lsun --source hub --out store --category tower", "category"),
        ("show in --rows 2", "rows"),
    ],
)
def test_options_that_would_do_nothing_are_refused(tmp_path, monkeypatch, arguments, parameter):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "train.parquet").write_bytes(b"")
    with refused(parameter=parameter):
        main(arguments.split())
    assert not (tmp_path / "store").exists()


def test_a_path_alone_is_guessed_and_put_into_data(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for number in range(4):
        write_image(tmp_path / "my_photos" / f"{number}.png", number)
    lines = [json.dumps({"file_name": f"{number}.png", "label": "ab"[number % 2]}) for number in range(4)]
    (tmp_path / "my_photos" / "metadata.jsonl").write_text("\n".join(lines))
    main(["my_photos"])
    store = ImageStore.open("data/my_photos")
    assert (len(store), store.resolution) == (4, 32)
    assert store.labels is not None
    assert store.labels.tolist() == [0, 1, 0, 1]
    main(["./my_photos", "--resolution", "8", "--out", "other", "--labels", "none"])
    store = ImageStore.open("other")
    assert (store.resolution, store.labels) == (8, None)
    (tmp_path / "my_photos").rename(".hidden")
    main([".hidden"])
    assert len(ImageStore.open("data/.hidden")) == 4
    with pytest.raises(UserError):
        main(["no_photos"])
    capsys.readouterr()
