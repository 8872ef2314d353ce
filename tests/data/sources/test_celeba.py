import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from data.samples import encoded, random_pixels
from vitgan.data.prepare import prepare
from vitgan.data.sources.celeba import CelebA
from vitgan.errors import UserError

PARTITION = "000001.jpg 0\n000002.jpg 1\n000003.jpg 0\n000004.jpg 2\n000005.jpg 0\n"
TRAIN = [1, 3, 5]


def jpeg(number):
    return encoded(random_pixels(number, 218, 178), "JPEG", quality=95)


def cropped(number, top, left, side):
    image = Image.open(io.BytesIO(jpeg(number))).crop((left, top, left + side, top + side))
    return np.asarray(image.resize((64, 64), Image.Resampling.LANCZOS)).transpose(2, 0, 1)


def official_layout(path, zipped):
    """Img/img_align_celeba(.zip) and Eval/list_eval_partition.txt."""
    (path / "Img").mkdir(parents=True)
    (path / "Eval").mkdir()
    (path / "Eval" / "list_eval_partition.txt").write_text(PARTITION)
    files = {f"img_align_celeba/{number:06}.jpg": jpeg(number) for number in range(1, 6)}
    if zipped:
        with zipfile.ZipFile(path / "Img" / "img_align_celeba.zip", "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return path / "Img" / "img_align_celeba.zip"
    (path / "Img" / "img_align_celeba").mkdir()
    for name, data in files.items():
        (path / "Img" / name).write_bytes(data)
    return path / "Img" / "img_align_celeba"


@pytest.mark.parametrize("zipped", [False, True])
def test_the_official_layout_and_both_customary_crops(tmp_path, zipped):
    images = official_layout(tmp_path / "celeba", zipped)
    store = prepare(CelebA(images), tmp_path / "178")
    assert np.array_equal(store.images, np.stack([cropped(number, 20, 0, 178) for number in TRAIN]))
    assert "178×178 centre crop" in store.description.framing
    assert store.description.split == "train"
    store = prepare(CelebA(images), tmp_path / "148", crop=148)
    assert np.array_equal(store.images, np.stack([cropped(number, 35, 15, 148) for number in TRAIN]))


def test_splits(tmp_path):
    images = official_layout(tmp_path / "celeba", zipped=False)
    names = {split: CelebA(images, split) for split in ("train", "valid", "test", "all")}
    assert {split: len(source) for split, source in names.items()} == {"train": 3, "valid": 1, "test": 1, "all": 5}
    assert names["test"].item_name(0) == "000004.jpg"


def test_the_partition_beside_the_images_or_as_csv(tmp_path):
    images = official_layout(tmp_path / "celeba", zipped=False)
    (tmp_path / "celeba" / "Eval" / "list_eval_partition.txt").unlink()
    with pytest.raises(UserError, match="pass it with --partition"):
        CelebA(images)
    assert len(CelebA(images, "all")) == 5
    table = "image_id,partition\n" + PARTITION.replace(" ", ",")
    (tmp_path / "celeba" / "Img" / "list_eval_partition.csv").write_text(table)
    assert len(CelebA(images)) == 3
    (tmp_path / "elsewhere.txt").write_text("000002.jpg  0\r\n")
    assert CelebA(images, partition=tmp_path / "elsewhere.txt").item_name(0) == "000002.jpg"


def test_images_that_the_partition_lists_and_that_are_not_there_are_counted(tmp_path):
    images = official_layout(tmp_path / "celeba", zipped=False)
    (images / "000003.jpg").unlink()
    store = prepare(CelebA(images), tmp_path / "store")
    assert len(store) == 2
    assert [(entry.name, entry.reason) for entry in store.description.skipped] == [
        ("000003.jpg", "in the partition file, but not there")
    ]


@pytest.mark.parametrize("content", [b"", b"hello", b"000001.jpg 3\n", b"\xff\xfe\x00"])
def test_other_files_are_no_partition(tmp_path, content):
    images = official_layout(tmp_path / "celeba", zipped=False)
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(UserError, match=r"no partition file|cannot read"):
        CelebA(images, partition=tmp_path / "file")


def test_missing_images(tmp_path):
    with pytest.raises(UserError, match="no images under"):
        CelebA(tmp_path)
    images = official_layout(tmp_path / "celeba", zipped=False)
    (tmp_path / "other.txt").write_text("999999.jpg 0\n")
    with pytest.raises(UserError, match="none of the images"):
        CelebA(images, partition=tmp_path / "other.txt")
