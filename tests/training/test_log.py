import errno
import json

from refusals import refused
from vitgan.training.log import MetricsFile, append_event, read_metrics


def write(path, *lines):
    path.write_bytes(
        b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines) + b"\n"
    )


ODD = [b"\xff\xfe", b"{", b"null", b"3", b"[" * 50_000, {"images": "x"}, {"images": None}, {"step": 1}, {"images": True},
       b'{"images": NaN}', {"images": 8, "loss": "x"}, b'{"images": 1' + b"0" * 400 + b"}", b""]  # fmt: skip


def test_lines_that_are_no_records_are_left_out(tmp_path):
    records = [{"images": 4, "loss": 0.5}, {"images": 8, "loss": 0.25}]
    write(tmp_path / "metrics.jsonl", records[0], *ODD, records[1])
    assert read_metrics(tmp_path / "metrics.jsonl") == records
    MetricsFile(tmp_path / "metrics.jsonl", images_seen=4)
    assert read_metrics(tmp_path / "metrics.jsonl") == records[:1]


def test_a_log_that_is_no_file_is_one_line(tmp_path):
    (tmp_path / "metrics.jsonl").mkdir()
    for read in (read_metrics, lambda path: MetricsFile(path, 0), lambda path: append_event(path, {})):
        with refused(tmp_path / "metrics.jsonl", cause=errno.EINVAL):
            read(tmp_path / "metrics.jsonl")
    assert read_metrics(tmp_path / "absent.jsonl") == []
