import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from data.samples import encoded, random_pixels
from refusals import refused
from vitgan.data.decode import decode_unframed
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


ALIGNED = {
    f"{number:06}.jpg": encoded(np.full((218, 178, 3), (0, 100 + number, 0), np.uint8)) for number in range(1, 6)
}
WILD = {name: encoded(np.full((400, 300, 3), (200, 0, 0), np.uint8)) for name in ALIGNED}
TABLE = "image_id,partition\n" + PARTITION.replace(" ", ",")


def tree(path, files):
    """Writes files; the content of a name that ends with "/" is a folder's, and of one with ".zip" an archive's."""
    for name, content in files.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            tree(file, content)
        elif isinstance(content, dict):
            with zipfile.ZipFile(file, "w") as archive:
                for member, data in content.items():
                    archive.writestr(member, data)
        else:
            file.write_bytes(content.encode() if isinstance(content, str) else content)


def below(folder, files):
    return {f"{folder}/{name}": data for name, data in files.items()}


PNG = {name.replace("jpg", "png"): data for name, data in ALIGNED.items()}
DRIVE = {"C/Img/img_align_celeba/": ALIGNED, "C/Eval/list_eval_partition.txt": PARTITION}
ZIPPED = {"C/Img/img_align_celeba.zip": below("img_align_celeba", ALIGNED), "C/Eval/list_eval_partition.txt": PARTITION}
BOTH = DRIVE | {"C/Img/img_celeba/": WILD, "C/Img/grid.png": WILD["000001.jpg"]}
KAGGLE = {"a/img_align_celeba/img_align_celeba/": ALIGNED, "a/list_eval_partition.csv": TABLE}
KAGGLE_ZIP = {"a.zip": below("img_align_celeba/img_align_celeba", ALIGNED) | {"list_eval_partition.csv": TABLE}}
TORCHVISION = {"celeba/img_align_celeba/": ALIGNED, "celeba/list_eval_partition.txt": PARTITION}
OTHER_COPY = TORCHVISION | {"zz_small/": {name: encoded(random_pixels(0, 64, 64)) for name in ALIGNED}}
WITHIN_WILD = {"img_celeba/": {}, "img_celeba/img_align_celeba/": ALIGNED, "list_eval_partition.txt": PARTITION}
LAYOUTS = [
    (DRIVE, ["", "C", "C/Img", "C/Img/img_align_celeba"]),
    (ZIPPED, ["", "C", "C/Img", "C/Img/img_align_celeba.zip"]),
    (BOTH, ["", "C", "C/Img", "C/Img/img_align_celeba"]),
    (KAGGLE, ["", "a", "a/img_align_celeba", "a/img_align_celeba/img_align_celeba"]),
    (KAGGLE_ZIP, ["a.zip"]),
    (TORCHVISION, ["", "celeba", "celeba/img_align_celeba"]),
    (OTHER_COPY, ["", "celeba"]),
    (WITHIN_WILD, ["", "img_celeba"]),
    (
        {"C/Img/img_align_celeba_png/": PNG, "C/Eval/list_eval_partition.txt": PARTITION},
        ["", "C/Img/img_align_celeba_png"],
    ),
    ({"pics/": ALIGNED, "list_eval_partition.csv": TABLE}, ["", "pics"]),
    ({"pics/": {f"{name[5]}/{name}": data for name, data in ALIGNED.items()}, "list_eval_partition.csv": TABLE}, [""]),
]


@pytest.mark.parametrize(("files", "names"), LAYOUTS)
def test_every_layout_gives_the_aligned_images_of_the_split(tmp_path, monkeypatch, files, names):
    tree(tmp_path, files)
    for name in names:
        place = tmp_path / name
        forms = [(tmp_path, place), (place.parent, place.name), (place if place.is_dir() else place.parent, None)]
        for folder, path in forms:
            monkeypatch.chdir(folder)
            source = CelebA(path or (place.name if place.is_file() else "."))
            stems = [source.name(index)[-10:-4] for index in range(len(source))]
            assert stems == ["000001", "000003", "000005"], name
            greens = [decode_unframed(source.read(index), 3, "#ffffff")[0][1, 0, 0] for index in range(3)]
            assert greens == [101, 103, 105]
            assert "list_eval_partition" in source.split_from
            assert len(CelebA(path or (place.name if place.is_file() else "."), "all")) == 5


def test_a_link_to_the_images_leads_to_the_partition(tmp_path):
    tree(tmp_path, DRIVE)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "faces").symlink_to(tmp_path / "C" / "Img" / "img_align_celeba")
    assert len(CelebA(tmp_path / "elsewhere" / "faces")) == 3


@pytest.mark.parametrize(
    ("files", "facts"),
    [
        ({"img_celeba/": WILD, "list_eval_partition.txt": PARTITION}, ["img_align_celeba.zip"]),
        ({"img_celeba.zip": below("img_celeba", WILD)}, [".jpg"]),
        ({"pictures/": WILD, "list_eval_partition.txt": PARTITION}, ["300×400", "178×218"]),
        ({"one/": ALIGNED, "two/": ALIGNED, "list_eval_partition.txt": PARTITION}, ["one, two"]),
        (
            {"img_align_celeba/": ALIGNED, "img_align_celeba_png/": PNG},
            ["img_align_celeba, img_align_celeba_png"],
        ),
        (
            {"x/img_align_celeba.zip": below("a", ALIGNED), "y/img_align_celeba.zip": below("a", ALIGNED)},
            ["x/img_align_celeba.zip, y/img_align_celeba.zip"],
        ),
    ],
)
def test_what_is_not_one_set_of_aligned_images_is_refused(tmp_path, files, facts):
    tree(tmp_path, files)
    with refused(tmp_path, *facts):
        CelebA(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        "\ufeff" + PARTITION,
        PARTITION.replace("\n", "\r\n"),
        PARTITION.replace(" ", "\t  "),
        "5\n" + PARTITION,
        TABLE,
        TABLE.replace(",", ";"),
        '"image_id","partition"\n' + "".join(f'"{line[:10]}","{line[11]}"\n' for line in PARTITION.splitlines()),
        ",image_id,partition\n" + "".join(f"{line[2:6]},{line[:10]},{line[11]}.0\n" for line in PARTITION.splitlines()),
        "row,image_id,partition\n"
        + "".join(f"{line[2:6]},{line[:10]},{line[11]}\n" for line in PARTITION.splitlines()),
        PARTITION.replace(" 0", " train").replace(" 1", " val").replace(" 2", " test"),
    ],
)
def test_forms_of_the_partition(tmp_path, content):
    tree(tmp_path, {"img_align_celeba/": ALIGNED, "partition.txt": content})
    source = CelebA(tmp_path / "img_align_celeba", partition=tmp_path / "partition.txt")
    assert [source.name(index) for index in range(3)] == ["000001.jpg", "000003.jpg", "000005.jpg"]


def test_splits(tmp_path):
    images = official_layout(tmp_path / "celeba", zipped=False)
    names = {split: CelebA(images, split) for split in ("train", "valid", "test", "all")}
    assert {split: len(source) for split, source in names.items()} == {"train": 3, "valid": 1, "test": 1, "all": 5}
    assert names["test"].name(0) == "000004.jpg"


def test_the_partition_beside_the_images_or_as_csv(tmp_path):
    images = official_layout(tmp_path / "celeba", zipped=False)
    (tmp_path / "celeba" / "Eval" / "list_eval_partition.txt").unlink()
    with refused("list_eval_partition.txt", images, parameter="partition"):
        CelebA(images)
    assert len(CelebA(images, "all")) == 5
    table = "image_id,partition\n" + PARTITION.replace(" ", ",")
    (tmp_path / "celeba" / "Img" / "list_eval_partition.csv").write_text(table)
    assert len(CelebA(images)) == 3
    (tmp_path / "elsewhere.txt").write_text("000002.jpg  0\r\n")
    assert CelebA(images, partition=tmp_path / "elsewhere.txt").name(0) == "000002.jpg"


def test_images_that_the_partition_lists_and_that_are_not_there_are_counted(tmp_path):
    images = official_layout(tmp_path / "celeba", zipped=False)
    (images / "000003.jpg").unlink()
    store = prepare(CelebA(images), tmp_path / "store")
    assert len(store) == 2
    assert [(entry.name, entry.reason) for entry in store.description.skipped] == [
        ("000003.jpg", "in the partition file, but not there")
    ]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        b"000001.jpg 3\n",
        b"\xff\xfe\x00",
        b"000001.jpg 0\n000001.jpg 1\n",
        b"000001.jpg -1  1  1 -1\n000002.jpg  1 -1 -1  1\n",
        b"000001.jpg,0\n000002.jpg\n",
    ],
)
def test_other_files_are_no_partition(tmp_path, content):
    images = official_layout(tmp_path / "celeba", zipped=False)
    (tmp_path / "file").write_bytes(content)
    with refused(tmp_path / "file", parameter="partition"):
        CelebA(images, partition=tmp_path / "file")


def test_a_missing_partition_is_named_once(tmp_path):
    images = official_layout(tmp_path / "celeba", zipped=False)
    with pytest.raises(UserError) as error:
        CelebA(images, partition=tmp_path / "file")
    assert error.value.parameter == "partition"
    assert str(error.value).count(str(tmp_path / "file")) == 1


def test_missing_images(tmp_path):
    with refused(tmp_path, ".jpg"):
        CelebA(tmp_path)
    images = official_layout(tmp_path / "celeba", zipped=False)
    (tmp_path / "other.txt").write_text("999999.jpg 0\n")
    with refused(tmp_path / "other.txt", images):
        CelebA(images, partition=tmp_path / "other.txt")
