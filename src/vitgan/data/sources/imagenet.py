"""ImageNet as it is unpacked: a folder for each synset, called n01440764, and a file that says which words these are."""

from collections import Counter
from pathlib import Path

from vitgan.data.sources.folder import ImageFolder
from vitgan.data.sources.source import Provenance
from vitgan.errors import UserError
from vitgan.files import read_bytes

WORDS_FILES = ("LOC_synset_mapping.txt", "words.txt")
FOLDERS_ABOVE = 4


class ImageNet(ImageFolder):
    """Images in folders of synsets. A class is called by the first of its words; of two that share it, with the synset.

    Args:
        path: The folder, zip or tar, all of ImageNet or some synsets.
        words: A file of lines such as "n01440764 tench, Tinca tinca"; None to look for one in `path` and above.

    Raises:
        UserError: See `ImageFolder`; or there is no such file, or it lacks a synset.
    """

    provenance = Provenance(
        "imagenet", licence="non-commercial research and education", url="https://www.image-net.org", resolution=64
    )

    def __init__(self, path: str | Path, words: str | Path | None = None) -> None:
        super().__init__(path, split="all", labels="folders")
        file = Path(words) if words is not None else _find_words(Path(path).resolve())
        assert self.label_names is not None
        self.label_names = _name_synsets(self.label_names, file)
        self.labels_from = f"{self.labels_from}, named by {file.name}"


def _find_words(path: Path) -> Path:
    for folder in (path, *path.parents[:FOLDERS_ABOVE]):
        for name in WORDS_FILES:
            if (folder / name).is_file():
                return folder / name
    raise UserError(f"no {' or '.join(WORDS_FILES)} in or above {path}: pass the file of the classes' words", "words")


def _name_synsets(synsets: list[str], file: Path) -> list[str]:
    lines = read_bytes(file, "file of words", 1 << 26).decode(errors="replace").splitlines()
    words = {line[:9]: line[9:].split(",")[0].strip() for line in lines}
    if missing := [synset for synset in synsets if not words.get(synset)]:
        raise UserError(f"{file} has no words for {missing[0]}: pass another file of words", "words")
    shared = Counter(words[synset] for synset in synsets)
    return [words[synset] if shared[words[synset]] == 1 else f"{words[synset]} ({synset})" for synset in synsets]
