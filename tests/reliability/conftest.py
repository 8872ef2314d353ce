"""One server of children for all tests of this folder: its imports take seconds."""

from collections.abc import Iterator

import pytest

from reliability.children import Children


@pytest.fixture(scope="session")
def children() -> Iterator[Children]:
    with Children() as running:
        yield running
