import os
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import pytest

from data.samples import PngSource, random_pixels
from vitgan.data.decode import Framing
from vitgan.data.labels import LARGEST_LABEL
from vitgan.data.workers import decode_in_order, run_isolated, start_processes


def test_the_result_comes_from_another_process():
    assert run_isolated(pow, 2, 10) == 1024
    assert run_isolated(os.getpid) != os.getpid()


def test_exceptions_pass():
    with pytest.raises(ValueError, match="'x'"):
        run_isolated(int, "x")


def test_a_death_is_told_from_an_exception():
    with pytest.raises(BrokenProcessPool):
        run_isolated(os.abort)


def test_the_processes_leave_interruption_to_this_one():
    with start_processes(1) as pool:
        assert pool.submit(signal.getsignal, signal.SIGINT).result() == signal.SIG_IGN


def test_path_of_temporary_files_may_be_long(tmp_path: Path):
    """Longer than the path of a socket can be."""
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    code = "from vitgan.data.workers import run_isolated; assert run_isolated(pow, 2, 10) == 1024"
    subprocess.run([sys.executable, "-c", code], env=os.environ | {"TMPDIR": str(folder)}, check=True, timeout=60)


PARENT = """
    import os, sys, time
    from vitgan.data.workers import start_processes

    if __name__ == "__main__":
        pool = start_processes(2)
        print(*{pool.submit(os.getpid).result() for _ in range(20)}, flush=True)
        pool.submit(time.sleep, 600)
        time.sleep(600)
"""


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_the_processes_end_with_a_killed_parent(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(textwrap.dedent(PARENT))
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    children = [int(number) for number in parent.stdout.readline().split()]
    assert children
    assert all(map(is_running, children))
    parent.kill()
    parent.wait()
    for _ in range(200):
        if not any(map(is_running, children)):
            break
        time.sleep(0.05)
    assert not any(map(is_running, children))


@pytest.mark.parametrize("workers", [0, 2])
def test_parts_are_in_order_and_account_for_every_item(workers):
    source = PngSource(1000, damaged=frozenset([0, 300, 999]))
    order = np.arange(999, -1, -1)
    parts = list(decode_in_order(source, Framing(4, 3), order, workers))
    assert len(parts) > 2
    assert sum(len(part.images) + len(part.skipped) for part in parts) == 1000
    labels = np.concatenate([part.labels for part in parts if part.labels is not None])
    assert labels.tolist() == [number % 5 for number in order.tolist() if number not in source.damaged]
    assert [name for part in parts for name, _ in part.skipped] == ["999.png", "300.png", "0.png"]


def test_treatments_are_counted():
    (part,) = decode_in_order(PngSource(10), Framing(16, 3), np.arange(10), 0)
    assert part.converted == {"enlarged": 10}


def test_large_images_come_in_small_parts():
    parts = list(decode_in_order(PngSource(3), Framing(1024, 3), np.arange(3), 0))
    assert [len(part.images) for part in parts] == [1, 1, 1]


def test_leaving_early_ends_the_workers():
    parts = decode_in_order(PngSource(5000), Framing(8, 3), np.arange(5000), 2)
    first = next(parts)
    assert np.array_equal(first.images[7], random_pixels(7).transpose(2, 0, 1))
    parts.close()
    assert list(parts) == []


def test_images_without_a_label_or_with_one_out_of_range_are_skipped():
    source = PngSource(5)
    source.labels = np.array([0, -1, LARGEST_LABEL + 1, -7, LARGEST_LABEL])
    (part,) = decode_in_order(source, Framing(8, 3), np.arange(5), 0)
    assert part.labels is not None
    assert part.labels.tolist() == [0, LARGEST_LABEL]
    reasons = dict(part.skipped)
    assert list(reasons) == ["1.png", "2.png", "3.png"]
    for name, label in (("2.png", "1048576"), ("3.png", "-7")):
        assert f" {label} " in reasons[name]
        assert "0 to 1,048,575" in reasons[name]
