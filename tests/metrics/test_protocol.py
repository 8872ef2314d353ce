import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vitgan.errors import UserError
from vitgan.metrics.protocol import PROTOCOLS, Protocol, find_protocol


def test_every_name_finds_its_protocol() -> None:
    assert {"cifar10-train-50k", "cifar10-test-10k", "celeba64-test", "lsun-train-50k", "quick-5k"} <= set(PROTOCOLS)
    for name in PROTOCOLS:
        assert find_protocol(name).name == name


@pytest.mark.parametrize(
    ("name", "count", "resolution", "split", "complaint"),
    [
        ("cifar10-train-50k", 50_000, 64, "train", "64×64"),
        ("cifar10-train-50k", 50_000, 32, "test", "the test split"),
        ("cifar10-test-10k", 50_000, 32, None, "10,000 images, this one has 50,000"),
        ("lsun-train-50k", 49_999, 128, None, "50,000 images or more"),
        ("quick-5k", 99, 32, None, "100 images or more"),
    ],
)
def test_stores_of_something_else_are_refused(
    name: str, count: int, resolution: int, split: str | None, complaint: str
) -> None:
    with pytest.raises(UserError, match=complaint) as caught:
        PROTOCOLS[name].check_store(count, resolution, split)
    assert caught.value.parameter == "protocol"


def test_fitting_stores_pass() -> None:
    PROTOCOLS["cifar10-train-50k"].check_store(50_000, 32, "train")
    PROTOCOLS["celeba64-test"].check_store(19_962, 64, None)
    PROTOCOLS["lsun-train-50k"].check_store(3_033_042, 128, "train")
    PROTOCOLS["quick-5k"].check_store(200, 48, "test")


def test_choice_of_images() -> None:
    protocol = PROTOCOLS["quick-5k"]
    assert protocol.choose(20, None).tolist() == protocol.choose(20, 25).tolist() == list(range(20))
    chosen = protocol.choose(1000, 100)
    assert len(np.unique(chosen)) == 100
    assert np.all(np.diff(chosen) > 0)
    assert np.array_equal(chosen, protocol.choose(1000, 100))
    assert not np.array_equal(chosen, Protocol("other", "", seed=1).choose(1000, 100))


def test_a_file_describes_a_protocol(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"name": "mine", "purpose": "test", "features": "lite2", "truncation": 1}))
    assert find_protocol(str(file)) == Protocol("mine", "test", features="lite2", truncation=1)
    assert json.loads(json.dumps(find_protocol(str(file)).to_dict()))["kernel_subsets"] == 100


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("{", "mine.json"),
        ("[]", "mine.json"),
        ({"name": "mine"}, "purpose"),
        ({"name": "mine", "purpose": "", "sed": 1}, "sed"),
        ({"name": "mine", "purpose": "", "seed": "1"}, "seed"),
        ({"name": "mine", "purpose": "", "seed": True}, "seed"),
        ({"name": "mine", "purpose": "", "seed": -1}, "seed"),
        ({"name": "mine", "purpose": "", "generated_images": 5}, "generated_images"),
        ({"name": "mine", "purpose": "", "reference_images": 3}, "reference_images"),
        ({"name": "mine", "purpose": "", "features": "vgg"}, "features"),
        ({"name": "quick-5k", "purpose": ""}, "quick-5k"),
    ],
)
def test_wrong_files_are_refused(tmp_path: Path, content: Any, named: str) -> None:
    file = tmp_path / "mine.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(UserError) as caught:
        find_protocol(str(file))
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.parameter is None  # a field of the file is no option


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UserError, match="there is no protocol 'cifar': choose one of cifar10-train-50k"):
        find_protocol("cifar")
    with pytest.raises(UserError, match=r"cannot read the protocol absent\.json"):
        find_protocol("absent.json")
