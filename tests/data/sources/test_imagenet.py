"""ImageNet's folders of synsets: classes in their order, called by their words."""

from pathlib import Path

import pytest

from data.samples import write_image
from vitgan.data.sources.guess import guess_source
from vitgan.data.sources.imagenet import ImageNet
from vitgan.errors import UserError

WORDS = """n01440764 tench, Tinca tinca
n02012849 crane
n02099601 golden retriever
n03126707 crane
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    train = tmp_path / "ILSVRC" / "Data" / "CLS-LOC" / "train"
    for number, synset in enumerate(("n03126707", "n01440764", "n02012849")):
        for image in range(2):
            write_image(train / synset / f"{synset}_{image}.png", 10 * number + image)
    return train


@pytest.mark.parametrize("place", ["LOC_synset_mapping.txt", "ILSVRC/words.txt", "elsewhere.txt"])
def test_classes_have_the_first_of_their_words_and_no_two_the_same(tmp_path: Path, folder: Path, place: str) -> None:
    file = tmp_path / place
    file.write_text(WORDS.replace(" ", "\t", 1) if file.name == "words.txt" else WORDS)
    source = ImageNet(folder, file if file.name == "elsewhere.txt" else None)
    assert source.label_names == ["tench", "crane (n02012849)", "crane (n03126707)"]
    assert source.labels is not None
    assert source.labels.tolist() == [0, 0, 1, 1, 2, 2]
    if place != "elsewhere.txt":
        assert isinstance(guess_source(folder), ImageNet)


def test_a_synset_without_words_or_no_words_at_all_is_refused(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(UserError) as error:
        ImageNet(folder)
    assert error.value.parameter == "words"
    (tmp_path / "words.txt").write_text(WORDS.replace("n01440764", "n01440765"))
    with pytest.raises(UserError) as error:
        ImageNet(folder)
    assert error.value.parameter == "words"
