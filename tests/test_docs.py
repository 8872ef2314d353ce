"""What the documents show is there: commands are commands, and links lead somewhere."""

import re
import shlex
from pathlib import Path

import pytest

from vitgan.cli.main import command_tree
from vitgan.cli.parsing import parse

ROOT = Path(__file__).parent.parent
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "experiments").glob("*.md")]
PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def commands(page: Path) -> list[list[str]]:
    """The words behind `vitgan` in a page's shell blocks. A resume is left out: it reads its run before its options.

    A training becomes a dry run, which refuses options that contradict each other or do nothing.
    """
    blocks = re.findall(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    lines = [shlex.split(line, comments=True) for block in blocks for line in block.replace("\\\n", "").splitlines()]
    found = [words[words.index("vitgan") + 1 :] for words in lines if "vitgan" in words]
    found = [words for words in found if words and not {"--resume", "PRESET"} & {*words}]
    return [[*words, "--dry-run"] if words[0] == "train" and "--dry-run" not in words else words for words in found]


@PAGE
def test_the_commands_of_a_page_are_read(page: Path) -> None:
    for words in commands(page):
        tree = command_tree(words)
        known = tree.commands["data"].commands if words[0] == "data" else ()  # pyright: ignore
        run = parse(tree, ["data", "auto", *words[1:]] if words[0] == "data" and words[1] not in known else words)
        if words[0] == "train" and "--dry-run" in words:
            run()


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as GitHub and MkDocs make them."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@PAGE
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://|<)([^)\s]+)\)", page.read_text(encoding="utf-8"))
    for link in links:
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link
