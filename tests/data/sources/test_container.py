import errno
import io
import os
import pickle
import tarfile
import tempfile
import zipfile
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.samples import encoded, files_of_at_most, random_pixels
from refusals import refused
from vitgan.data.names import natural_order
from vitgan.data.prepare import prepare
from vitgan.data.sources.container import open_container
from vitgan.data.sources.folder import ImageFolder
from vitgan.data.sources.source import UnreadableImage
from vitgan.errors import UserError

FILES = {"b/10.txt": b"ten", "b/9.txt": b"nine" * 100, "a.txt": b"", "b/c/d.txt": bytes(range(256)) * 50}
ORDER = ["a.txt", "b/9.txt", "b/10.txt", "b/c/d.txt"]


def make_folder(path):
    for name, data in FILES.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    (path / "b" / ".hidden.txt").write_text("x")
    (path / "other.bin").write_text("x")


def make_zip(path, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.mkdir("b")
        for name, data in FILES.items():
            archive.writestr(name, data)
        archive.writestr("__MACOSX/a.txt", "x")


def make_tar(path, mode="w", prefix=""):
    with tarfile.open(path, mode) as archive:  # pyright: ignore[reportCallIssue, reportArgumentType]
        for name, data in FILES.items():
            member = tarfile.TarInfo(prefix + name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def text(name):
    return name.endswith(".txt")


def contents(container):
    return {name: container.read(index) for index, name in enumerate(container.names)}


@pytest.mark.parametrize(
    "make",
    [
        lambda path: make_folder(path),
        lambda path: make_zip(path),
        lambda path: make_zip(path, zipfile.ZIP_STORED),
        lambda path: make_tar(path),
        lambda path: make_tar(path, "w:gz"),
        lambda path: make_tar(path, "w:bz2"),
        lambda path: make_tar(path, "w:xz"),
        lambda path: make_tar(path, prefix="./"),
    ],
)
def test_folders_and_archives_are_read_alike(tmp_path, make):
    path = tmp_path / "images"  # no suffix: the content decides
    make(path)
    container = open_container(path, text)
    assert container.names == ORDER
    assert contents(container) == FILES
    assert container.read_named("b/9.txt") == FILES["b/9.txt"]
    assert container.refused == []
    copy = pickle.loads(pickle.dumps(container))
    assert contents(copy) == FILES


def test_a_zip_with_something_before_it_and_with_longer_local_headers(tmp_path):
    """As self-extracting archives and some writers make them."""
    make_zip(tmp_path / "plain.zip")
    (tmp_path / "prefixed.zip").write_bytes(b"#!/bin/sh\n" + (tmp_path / "plain.zip").read_bytes())
    assert contents(open_container(tmp_path / "prefixed.zip", text)) == FILES

    class Unseekable(io.RawIOBase):
        """Makes zipfile write data descriptors and zip64 local fields."""

        def __init__(self, file):
            self.file = file

        def writable(self):
            return True

        def write(self, data):
            return self.file.write(data)

    with (
        (tmp_path / "streamed.zip").open("wb") as file,
        zipfile.ZipFile(Unseekable(file), "w", zipfile.ZIP_DEFLATED) as archive,  # pyright: ignore[reportArgumentType]
    ):
        for name, data in FILES.items():
            archive.writestr(name, data)
    assert contents(open_container(tmp_path / "streamed.zip", text)) == FILES


@given(st.lists(st.integers(0, 10**20), unique=True))
def test_numbers_in_names_are_ordered_by_value(numbers):
    names = sorted((f"image{number}.png" for number in numbers), key=natural_order)
    assert names == [f"image{number}.png" for number in sorted(numbers)]


@given(st.lists(st.text("ab01٣²/.-", max_size=6)))
def test_any_names_have_an_order_that_does_not_depend_on_the_start(names):
    assert sorted(sorted(names), key=natural_order) == sorted(sorted(names, reverse=True), key=natural_order)


LEADING_OUT = ["../evil.txt", "a/../../x.txt", "/evil.txt", "a\\..\\x.txt", "C:\\x.txt", "C:x.txt"]
STAYING = ["a/b.txt", "a/x..y/z.txt", "C-x.txt"]


def test_archive_members_that_lead_out_or_are_links_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        for name in LEADING_OUT:
            archive.writestr(name, "x")
        link = zipfile.ZipInfo("link.txt")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
        for name in STAYING:
            archive.writestr(name, "good")
    container = open_container(tmp_path / "evil.zip", text)
    assert contents(container) == dict.fromkeys(container.names, b"good")
    assert sorted(container.names) == sorted(STAYING)
    assert sorted(name for name, _ in container.refused) == sorted([*LEADING_OUT, "link.txt"])

    with tarfile.open(tmp_path / "evil.tar", "w") as archive:
        for name, kind in [
            ("soft.txt", tarfile.SYMTYPE),
            ("hard.txt", tarfile.LNKTYPE),
            ("fifo.txt", tarfile.FIFOTYPE),
        ]:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
        for name in ("../evil.txt", "good.txt"):
            member = tarfile.TarInfo(name)
            member.size = 4
            archive.addfile(member, io.BytesIO(b"good"))
    container = open_container(tmp_path / "evil.tar", text)
    assert contents(container) == {"good.txt": b"good"}
    assert sorted(name for name, _ in container.refused) == ["../evil.txt", "fifo.txt", "hard.txt", "soft.txt"]


def backslashed(name):
    return name.replace("/", "\\")


def test_a_zip_with_backslashes_in_all_its_names_is_read_as_with_slashes(tmp_path):
    with zipfile.ZipFile(tmp_path / "windows.zip", "w") as archive:
        archive.writestr("b\\", "")
        for name, data in FILES.items():
            archive.writestr(backslashed(name), data)
        for name in ("b\\.hidden.txt", "__MACOSX\\a.txt", "..\\evil.txt", "\\evil.txt"):
            archive.writestr(name, "x")
    container = open_container(tmp_path / "windows.zip", text)
    assert container.names == ORDER
    assert contents(container) == contents(pickle.loads(pickle.dumps(container))) == FILES
    assert container.read_named("b/9.txt") == FILES["b/9.txt"]
    assert sorted(name for name, _ in container.refused) == ["../evil.txt", "/evil.txt"]


def test_a_backslash_beside_slashes_is_part_of_a_name(tmp_path):
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        for name in ("a/1.txt", "b\\2.txt"):
            archive.writestr(name, name)
    container = open_container(tmp_path / "other.zip", text)
    assert contents(container) == {"a/1.txt": b"a/1.txt", "b\\2.txt": b"b\\2.txt"}


def test_links_that_leave_the_folder_are_refused_unless_asked_for(tmp_path):
    outside = tmp_path / "outside"
    make_folder(outside)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "real.txt").write_text("real")
    (folder / "same.txt").symlink_to("real.txt")
    (folder / "file.txt").symlink_to(outside / "b" / "9.txt")
    (folder / "deep").symlink_to(outside)
    (folder / "circle").symlink_to(folder)
    (folder / "broken.txt").symlink_to("nowhere")
    (outside / "back").symlink_to(outside)

    container = open_container(folder, text)
    assert contents(container) == {"real.txt": b"real", "same.txt": b"real"}
    assert {name for name, _ in container.refused} == {"file.txt", "deep", "broken.txt"}

    followed = open_container(folder, text, follow_links=True)
    assert followed.names == [*(f"deep/{name}" for name in ORDER), "file.txt", "real.txt", "same.txt"]
    assert [name for name, _ in followed.refused] == ["broken.txt"]


def test_special_files_are_left_alone(tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "a.txt").write_text("a")
    assert open_container(tmp_path, text).names == ["a.txt"]


def test_a_zip_entry_that_inflates_beyond_its_stated_size_is_stopped(tmp_path):
    """The index says 10 bytes; the data would inflate to 50 MB."""
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.txt", bytes(50_000_000))
    data = (tmp_path / "bomb.zip").read_bytes()
    (tmp_path / "bomb.zip").write_bytes(data.replace((50_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    with refused(kind=UnreadableImage):
        open_container(tmp_path / "bomb.zip", text).read(0)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_tar_that_ends_early_gives_what_came_before(tmp_path, mode):
    make_tar(tmp_path / "images.tar", mode)
    data = (tmp_path / "images.tar").read_bytes()
    (tmp_path / "images.tar").write_bytes(data[: -len(data) // 2] if mode == "w" else data[:-60])
    container = open_container(tmp_path / "images.tar", text)
    readable = {}
    for index, name in enumerate(container.names):
        with suppress(UnreadableImage):
            readable[name] = container.read(index)
    assert readable
    assert readable.items() <= FILES.items()
    assert len(readable) < len(FILES)


@pytest.mark.parametrize(
    "make", [lambda path: None, lambda path: path.write_bytes(b"neither"), lambda path: path.write_bytes(b"")]
)
def test_what_is_no_container_is_refused(tmp_path, make):
    make(tmp_path / "thing")
    with refused(tmp_path / "thing", cause=type(None)):
        open_container(tmp_path / "thing", text)


def test_a_file_that_vanishes_is_unreadable(tmp_path):
    make_folder(tmp_path)
    container = open_container(tmp_path, text)
    (tmp_path / "a.txt").unlink()
    with refused(kind=UnreadableImage, cause=FileNotFoundError):
        container.read(0)


IMAGES = {f"class{number % 2}/{number}.png": encoded(random_pixels(number, 16, 16)) for number in range(12)}


def packed(kind, names=IMAGES):
    buffer = io.BytesIO()
    if kind.startswith("zip"):
        method = zipfile.ZIP_DEFLATED if kind == "zip.deflated" else zipfile.ZIP_STORED
        with zipfile.ZipFile(buffer, "w", method) as archive:
            for name, data in names.items():
                archive.writestr(name, data)
    else:
        formats = {"tar": tarfile.USTAR_FORMAT, "tar.gnu": tarfile.GNU_FORMAT, "tar.pax": tarfile.PAX_FORMAT}
        with tarfile.open(fileobj=buffer, mode="w", format=formats[kind]) as archive:
            for name, data in names.items():
                member = tarfile.TarInfo(name)
                member.size, member.mtime = len(data), 1.5  # which the pax format keeps in an extended header
                archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["zip.stored", "zip.deflated", "tar"])
def test_damage_to_one_member_costs_only_that_member(tmp_path, kind):
    sound, path = packed(kind), tmp_path / "archive"
    generator = np.random.default_rng(1)
    for number, data in enumerate(IMAGES.values()):
        if kind == "zip.deflated":
            with zipfile.ZipFile(io.BytesIO(sound)) as archive:
                entry = archive.infolist()[number]
            start, size = entry.header_offset + 30 + len(entry.filename), entry.compress_size
        else:
            start, size = sound.index(data), len(data)
        content = bytearray(sound)
        content[start : start + size] = generator.bytes(size)
        path.write_bytes(content)
        store = prepare(ImageFolder(path), tmp_path / "store", resolution=16, overwrite=True)
        assert store.description.skipped_count == 1
        assert [entry.name for entry in store.description.skipped] == [list(IMAGES)[number]]
        others = [random_pixels(other, 16, 16).transpose(2, 0, 1) for other in range(12) if other != number]
        natural = sorted(range(11), key=lambda position: [p % 2 for p in range(12) if p != number][position])
        assert np.array_equal(store.images, np.stack(others)[natural])


FEW = {name: IMAGES[name] for name in list(IMAGES)[:3]} | {"readme.txt": b"x"}
LONG = {"x" * 60 + "/" + "y" * 60 + "/" + name: data for name, data in FEW.items()}


def check_no_silent_loss(path, content, exact):
    """Every image is there, or counted as refused or unreadable; `exact`: as it was, under its name."""
    path.write_bytes(content)
    try:
        container = open_container(path, lambda name: name.endswith(".png"))
    except UserError:
        return
    read, lost = [], len(container.refused)
    for index, name in enumerate(container.names):
        try:
            read.append((name.split("/")[-1], container.read(index)))
        except UnreadableImage:
            lost += 1
    truth = [(name.split("/")[-1], data) for name, data in FEW.items() if name.endswith(".png")]
    assert lost or len(read) == len(truth)
    assert lost or not exact or sorted(read) == sorted(truth)


@pytest.mark.parametrize(
    ("kind", "names"),
    [("tar", FEW), ("tar.pax", FEW), ("tar.gnu", LONG), ("tar.pax", LONG), ("zip.stored", FEW), ("zip.deflated", FEW)],
)
def test_no_flipped_bit_outside_the_images_loses_one_silently(tmp_path, kind, names):
    sound, path = packed(kind, names), tmp_path / "archive"
    inside = set()
    for data in FEW.values() if kind != "zip.deflated" else ():
        inside |= set(range(sound.index(data), sound.index(data) + len(data)))
    end = len(sound.rstrip(b"\0")) + 1024 if kind.startswith("tar") else len(sound)
    for place in sorted(set(range(0, end, 17)) - inside):
        content = bytearray(sound)
        content[place] ^= 1 << (place % 8)
        check_no_silent_loss(path, bytes(content), exact=names is FEW)  # long names are under no checksum


@pytest.mark.parametrize("kind", ["tar", "tar.pax", "zip.stored"])
def test_no_cut_and_no_lost_block_loses_an_image_silently(tmp_path, kind):
    sound, path = packed(kind, FEW), tmp_path / "archive"
    for place in range(0, len(sound.rstrip(b"\0")) + 512, 256):
        check_no_silent_loss(path, sound[:place], exact=False)
        check_no_silent_loss(path, sound[:place] + bytes(512) + sound[place + 512 :], exact=False)
        check_no_silent_loss(path, sound[:place] + bytes(1024) + sound[place + 1024 :], exact=False)


@pytest.mark.parametrize("damage", ["flip", "cut"])
def test_strict_refuses_a_tar_with_a_damaged_header_or_end(tmp_path, damage):
    content = bytearray(packed("tar"))
    second = content.index(list(IMAGES)[1].encode())
    content[second] ^= damage == "flip"
    (tmp_path / "images.tar").write_bytes(content if damage == "flip" else content[:second])
    source = ImageFolder(tmp_path / "images.tar", labels="none")
    with refused(tmp_path / "images.tar", parameter="strict"):
        prepare(source, tmp_path / "store", resolution=16, strict=True)
    store = prepare(source, tmp_path / "store", resolution=16)
    assert len(store) == (11 if damage == "flip" else 1)
    assert store.description.skipped_count == 1


def test_an_index_that_is_shorter_than_announced_is_counted(tmp_path):
    """The comment of one entry, one bit longer, swallows the next entry of the index."""
    names = {f"{'n' * 13}{number}.png": data for number, data in enumerate(FEW.values())}  # 64 bytes each
    content = bytearray(packed("zip.stored", names))
    content[content.index(b"PK\x01\x02") + 32] ^= 64
    (tmp_path / "images.zip").write_bytes(content)
    container = open_container(tmp_path / "images.zip", lambda name: name.endswith(".png"))
    assert len(container.names) == len(FEW) - 1
    assert len(container.refused) == 1
    assert "announces 4" in container.refused[0][1]


def test_a_fifo_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "images.zip")
    with refused(tmp_path / "images.zip", cause=errno.EINVAL):
        open_container(tmp_path / "images.zip", text)


def test_a_zip_that_was_cut_off_is_called_one(tmp_path):
    (tmp_path / "images.zip").write_bytes(packed("zip.stored")[:-100])
    with refused(tmp_path / "images.zip", "zip"):
        open_container(tmp_path / "images.zip", text)


@pytest.mark.parametrize("size", [0, 512, 8192])
@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_a_disk_too_full_to_decompress_is_no_damage_of_the_archive(tmp_path, monkeypatch, mode, size):
    """Otherwise the images behind that place would be missing from the data set."""
    make_tar(tmp_path / "images.tar.gz", mode)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    with refused(tmp_path / "images.tar.gz", "TMPDIR"), files_of_at_most(size):
        open_container(tmp_path / "images.tar.gz", text)
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.parametrize("kind", ["zip.stored", "tar.pax", "folder"])
def test_files_in_hundreds_of_folders_inside_each_other_are_refused_and_listed(tmp_path, kind):
    image = next(iter(IMAGES.values()))
    deep = {"a/" * 400 + "deep.png": image, "a/1.png": image, "b/2.png": image}
    if kind == "folder":
        path = tmp_path
        for name in deep:
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(image)
    else:
        path = tmp_path / "archive"
        path.write_bytes(packed(kind, deep))
    source = ImageFolder(path, labels="none")
    assert source.names() == ["a/1.png", "b/2.png"]
    assert [name.startswith("a/a/") for name, _ in source.refused] == [True]


def test_a_file_that_is_not_there_is_unreadable(tmp_path):
    make_zip(tmp_path / "images.zip")
    with pytest.raises(UnreadableImage):
        open_container(tmp_path / "images.zip", text).read_named("z.txt")
