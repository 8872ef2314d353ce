import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refusals import refused
from vitgan.metrics.protocol import PROTOCOLS, Protocol, find_protocol


def test_every_name_finds_its_protocol() -> None:
    assert {"cifar10-train-50k", "cifar10-test-10k", "celeba64-test", "lsun-train-50k", "quick-5k"} <= set(PROTOCOLS)
    for name in PROTOCOLS:
        assert find_protocol(name).name == name


@pytest.mark.parametrize(
    ("name", "count", "resolution", "split", "facts"),
    [
        ("cifar10-train-50k", 50_000, 64, "train", ["32×32", "64×64"]),
        ("cifar10-train-50k", 50_000, 32, "test", ["train", "test"]),
        ("cifar10-test-10k", 50_000, 32, None, ["10,000", "50,000"]),
        ("lsun-train-50k", 49_999, 128, None, ["50,000", "49,999"]),
        ("quick-5k", 99, 32, None, ["100", "99"]),
    ],
)
def test_stores_of_something_else_are_refused(
    name: str, count: int, resolution: int, split: str | None, facts: list[str]
) -> None:
    with refused(name, *facts, parameter="protocol"):
        PROTOCOLS[name].check_store(count, resolution, split)


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
    ("content", "field"),
    [
        ("{", None),
        ("[]", None),
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
def test_wrong_files_are_refused(tmp_path: Path, content: Any, field: str | None) -> None:
    file = tmp_path / "mine.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    with refused(file, *[field] if field else []):  # a field of the file is no option, so it is no parameter
        find_protocol(str(file))


def test_unknown_names_are_refused() -> None:
    with refused("cifar", "cifar10-train-50k", parameter="protocol"):
        find_protocol("cifar")
    with refused("absent.json", cause=FileNotFoundError):
        find_protocol("absent.json")


def test_only_protocols_that_can_change_carry_a_digest() -> None:
    assert [protocol.identity for protocol in PROTOCOLS.values()] == [*PROTOCOLS]
    one, other = (Protocol("mine", "test", generated_images=count) for count in (1000, 2000))
    assert one.identity != other.identity
    assert one.identity == Protocol("mine", "another purpose", generated_images=1000).identity
