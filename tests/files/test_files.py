import json
import os

import numpy as np
import pytest
from pydantic import BaseModel

from refusals import refused
from vitgan.errors import UserError
from vitgan.files.reading import read_array, read_bytes, read_json, read_model, stamp, user_error


class Sizes(BaseModel):
    width: int
    share: float = 0.0


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[" * 100_000, b"\xff\xfe", b'{"width": NaN}', b'{"width": 1, "share": 1e999}', b'{"width": -Infinity}',
     b'{"width": 1, "\\ud800": 2}', b"null", b"[]", b"3", b'{"width": "x"}', b'{"width": ' + b"9" * 5000 + b"}",
     b'{"share": 1}',
     b'{"width": 1}' + b" " * (1 << 24)],
)  # fmt: skip
def test_json_that_does_not_fit_is_one_line(tmp_path, content):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(UserError) as error:
        read_model(tmp_path / "x.json", Sizes, "size")
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 1000


def test_json_that_fits(tmp_path):
    (tmp_path / "x.json").write_text('{"outer": {"width": 3, "share": 1e-3}}')
    assert read_model(tmp_path / "x.json", Sizes, "size", ("outer",)) == Sizes(width=3, share=1e-3)
    assert read_json(tmp_path / "x.json", "size") == {"outer": {"width": 3, "share": 1e-3}}


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero"), lambda path: None])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path, make):
    make(tmp_path / "x")
    for read in (
        lambda path: read_bytes(path, "thing"),
        lambda path: read_json(path, "thing"),
        lambda path: read_model(path, Sizes, "thing"),
        lambda path: read_array(path, np.uint8, (1,)),
    ):
        with pytest.raises(UserError):
            read(tmp_path / "x")


def test_an_array_is_mapped(tmp_path):
    array = np.arange(24, dtype=np.int64).reshape(2, 3, 4)
    np.save(tmp_path / "a.npy", array)
    found = read_array(tmp_path / "a.npy", np.int64, (2, 3, 4))
    assert isinstance(found, np.memmap)
    assert np.array_equal(found, array)


@pytest.mark.parametrize(
    "array",
    [np.zeros((2, 3), np.int32), np.zeros((2, 3), ">i8"), np.zeros((3, 2), np.int64), np.zeros(6, np.int64),
     np.asfortranarray(np.zeros((2, 3), np.int64)), np.array([{}], object)],
)  # fmt: skip
def test_another_array_is_refused(tmp_path, array):
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with refused(tmp_path / "a.npy"):
        read_array(tmp_path / "a.npy", np.int64, (2, 3))


def test_headers_are_not_believed(tmp_path):
    """A size that the file has not is not allocated."""
    np.save(tmp_path / "a.npy", np.zeros((2, 3), np.int64))
    sound = (tmp_path / "a.npy").read_bytes()
    for shape in (b"(10000000000000, 3)", b"(-2, 3)", b"(2, 3e9)", b"(([2, 3]", b"(2, 3", b"'\\q'"):
        (tmp_path / "a.npy").write_bytes(sound.replace(b"(2, 3)", shape))
        with pytest.raises(UserError):
            read_array(tmp_path / "a.npy", np.int64, (2, 3))
    for data in (sound[:-1], sound + b"\0", sound[:20], b"PK\x03\x04" + sound):
        (tmp_path / "a.npy").write_bytes(data)
        with refused(tmp_path / "a.npy"):
            read_array(tmp_path / "a.npy", np.int64, (2, 3))


def test_a_stamp_tells_a_change_even_when_size_and_time_are_the_same(tmp_path):
    file = tmp_path / "x"
    file.write_bytes(b"a")
    before, times = stamp(file), file.stat()
    assert stamp(file) == before
    file.write_bytes(b"b")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert stamp(file) != before
    assert stamp(tmp_path / "gone") == ""


def test_a_users_error_is_told_whole_and_another_is_cut():
    with refused("x" * 600, "advice"), user_error("cannot do it", UserError, advice="advice"):
        raise UserError("x" * 600)
    with pytest.raises(UserError) as error, user_error("cannot do it", ValueError):
        raise ValueError("x" * 600)
    assert len(str(error.value)) <= 500


def test_the_message_names_the_field(tmp_path):
    (tmp_path / "x.json").write_text(json.dumps({"width": "\x1b[31m"}))
    with refused(tmp_path / "x.json", "width"):
        read_model(tmp_path / "x.json", Sizes, "size")
