"""Makes docs/gallery.md and its pictures with vitgan's own commands: `python docs/make_gallery.py`.

Models are the bundled ones unless others are named. What a generator does not suit (zoom without an implicit decoder,
say) is left out. `--run` adds the history of a run.
"""

import argparse
import re
import shlex
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from vitgan.cli.main import dispatch
from vitgan.errors import UserError
from vitgan.pretrained.names import bundled_models

DOCS = Path(__file__).parent
LARGEST_PICTURE, LARGEST_GALLERY = 300_000, 3_000_000
PICTURES = "images/gallery"

INTRODUCTION = """# Gallery

Made by `python docs/make_gallery.py`; nothing is chosen. A command is its first picture's. [More](explore.md).
"""


class Picture(NamedTuple):
    """One entry of the gallery.

    Attributes:
        title: Heading.
        file: Ending of the file's name; the model's name comes before.
        command: Arguments of `vitgan`; {model} and {out} are put in.
        caption: What to look at.
    """

    title: str
    file: str
    command: str
    caption: str


OF_EACH_MODEL = (
    Picture("Samples", "samples.png", "sample {model} --count 30 --grid {out}", "30 images of seed 0."),
    Picture(
        "Interpolate",
        "interpolate.webp",
        "explore interpolate {model} --seeds 0 1 2 3 --steps 12 --size 128 --frames-per-second 12 --out {out}",
        "A loop through four images.",
    ),
    Picture(
        "Truncate",
        "truncate.png",
        "explore truncate {model} --seeds 0 1 2 --out {out}",
        "psi 0 is the mean image, psi 1 the plain one.",
    ),
    Picture(
        "Mix",
        "mix.png",
        "explore mix {model} --early 0 1 2 --late 10 11 12 13 --out {out}",
        "The last layer takes the column's style, the others the row's.",
    ),
    Picture(
        "Directions",
        "directions.png",
        "explore directions {model} --seed 1 --count 4 --amounts -1 -0.5 0 0.5 1 --out {out}",
        "One image along the four strongest directions.",
    ),
    Picture(
        "Zoom",
        "zoom.png",
        "explore zoom {model} --seeds 1 --factors 4 --out {out}",
        "4 times the pixels per axis, beside bicubic.",
    ),
    Picture(
        "Zoom, moving",
        "zoom.webp",
        "explore zoom {model} --seeds 1 --frames 40 --size 128 --largest 6 --out {out}",
        "Each frame has its own pixels.",
    ),
    Picture(
        "Attention",
        "attention.png",
        "explore attention {model} --seed 1 --out {out}",
        "What five patches (cyan) attend to (orange), a column a block.",
    ),
    Picture(
        "Invert",
        "invert.png",
        "explore invert {model} {photo} --steps 200 --out {out}",
        "A model's own picture, found from its pixels.",
    ),
)
PHOTO = "sample {model} --count 1 --seed 77 --enlarge 1 --grid {photo}"
OF_THE_RUN = Picture(
    "Grow", "grow.webp", "explore grow {model} --count 16 --out {out}", "16 latents through a run's checkpoints."
)


def main() -> None:
    """Makes all pictures, then the page; ends with 1 if a picture is too large to be committed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="*", help="default: all bundled models")
    parser.add_argument("--run", help="a run with several checkpoints, for the last picture")
    parser.add_argument("--docs", type=Path, default=DOCS, help="where gallery.md and images/gallery go")
    options = parser.parse_args()
    models = options.models or list(bundled_models())
    if not models and not options.run:
        sys.exit("make_gallery: there are no bundled models: name models, or a run with --run")
    if strangers := what_the_page_does_not_name(options.docs, [*models, *([options.run] if options.run else [])]):
        sys.exit(f"make_gallery: {strangers} was not made by this script: move it, or choose another place with --docs")
    (options.docs / PICTURES).mkdir(parents=True, exist_ok=True)
    entries = [entry(picture, models, options.docs) for picture in OF_EACH_MODEL]
    if options.run:
        entries.append(entry(OF_THE_RUN, [options.run], options.docs))
    (options.docs / "gallery.md").write_text("\n".join([INTRODUCTION, *filter(None, entries)]), encoding="utf-8")
    sys.exit(too_large(options.docs / PICTURES))


def what_the_page_does_not_name(docs: Path, models: list[str]) -> Path | None:
    """A file that would be overwritten though an earlier page does not show it; None if there is none."""
    page = docs / "gallery.md"
    before = page.read_text(encoding="utf-8") if page.is_file() else ""
    if page.exists() and not before.startswith(INTRODUCTION):
        return page
    shown = set(re.findall(rf"\]\({PICTURES}/([^)]+)\)", before))
    names = {f"{name_of(model)}-{picture.file}" for model in models for picture in (*OF_EACH_MODEL, OF_THE_RUN)}
    return next((docs / PICTURES / name for name in sorted(names - shown) if (docs / PICTURES / name).exists()), None)


def name_of(model: str) -> str:
    """The last part of a path or name."""
    return Path(model.split("@")[0]).name


def entry(picture: Picture, models: list[str], docs: Path) -> str:
    """Makes a picture of every model that it suits; returns its Markdown, "" if it suits none."""
    suited = [model for model in models if make(picture, model, docs)]
    return markdown(picture, suited) if suited else ""


def make(picture: Picture, model: str, docs: Path) -> bool:
    """Makes a model's picture; False if the model does not suit it."""
    with tempfile.TemporaryDirectory() as place:
        words = {"model": model, "out": str(docs / file_of(picture, model)), "photo": str(Path(place) / "photo.png")}
        try:
            for command in commands(picture):
                dispatch([word.format(**words) for word in command.split()])
        except UserError as error:
            print(f"left out: {picture.title} of {model}: {error}")
            return False
    return True


def markdown(picture: Picture, models: list[str]) -> str:
    """A picture's heading, caption, command and files."""
    shown = "\nvitgan ".join(commands(picture)).format(
        model=shlex.quote(models[0]), out=picture.file, photo="photo.png"
    )
    files = "\n".join(f"![{picture.title} of {name_of(model)}]({file_of(picture, model)})" for model in models)
    return f"## {picture.title}\n\n{picture.caption}\n\n```bash\nvitgan {shown}\n```\n\n{files}\n"


def commands(picture: Picture) -> list[str]:
    """What makes it: its command, behind that of the photo if it takes one."""
    return [PHOTO, picture.command] if "{photo}" in picture.command else [picture.command]


def file_of(picture: Picture, model: str) -> str:
    """Its place below the documents' folder."""
    return f"{PICTURES}/{name_of(model)}-{picture.file}"


def too_large(folder: Path) -> str | None:
    """Names what is beyond the sizes that a repository should hold; None if nothing is."""
    sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    print(f"{len(sizes)} pictures, {sum(sizes.values()) / 1e6:.2f} MB in {folder}")
    large = [f"{name} ({size / 1e3:.0f} kB)" for name, size in sizes.items() if size > LARGEST_PICTURE]
    if large or sum(sizes.values()) > LARGEST_GALLERY:
        return f"make_gallery: too large for the repository: {', '.join(large) or 'all together'}"
    return None


if __name__ == "__main__":
    main()
