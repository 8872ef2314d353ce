import pytest

from generators import make
from vitgan.models.generator import Generator


@pytest.fixture
def vit() -> Generator:
    return make("vit")
