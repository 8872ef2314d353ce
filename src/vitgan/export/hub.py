"""A model folder for others: weights, configuration, sample grid and a card; also as a Hub repository."""

import json
from pathlib import Path
from typing import Any

from vitgan.commands import command
from vitgan.errors import UserError
from vitgan.files import one_line, read_json
from vitgan.folders import MARKER, new_folder
from vitgan.grid import enlargement, image_grid, save_image
from vitgan.models.build import GeneratorSpec
from vitgan.models.generator import Generator
from vitgan.pretrained import MODEL_FOLDER, Storage, load, write_model, write_networks

SAMPLES = 64


def export_hub(
    generator: Generator,
    spec: GeneratorSpec,
    folder: Path,
    figures: dict[str, Any] | None = None,
    title: str = "",
    storage: Storage = "float32",
    name: str = "",
    trained: str = "",
    about: str = "",
    networks_of: Path | None = None,
) -> Path:
    """Writes model.safetensors, config.json, samples.png and README.md, the model card.

    Args:
        generator: The model.
        spec: Its description.
        folder: Where to; it must be new, empty, or a model folder as it was written (`vitgan.folders`).
        figures: What `vitgan evaluate --json` wrote, for the card's table.
        title: Of the card; default the folder's name.
        storage: Of the weights, see `vitgan.save`.
        name: What the card tells `vitgan.load` to open; default a path.
        trained: Sentences for the card on how the model was trained; default none.
        about: Sentences for the card on what the model shows and cannot do; default none.
        networks_of: A checkpoint whose G and D, as they were trained, go along (`vitgan.pretrained.write_networks`).

    Raises:
        UserError: If the folder may not be replaced or cannot be written, or the figures are no evaluation.
    """
    card = model_card(spec, figures, title or folder.resolve().name, name or "path/to/this/folder", trained, about)
    with new_folder(folder, MODEL_FOLDER) as place:
        write_model(generator, spec, place, storage)
        if networks_of is not None:
            write_networks(networks_of, place, storage)
        (place / "README.md").write_text(card, encoding="utf-8")
        stored = load(place).sample(SAMPLES)  # what others will get, in the stored precision
        save_image(image_grid(stored, enlarge=enlargement(generator.resolution)), place / "samples.png")
    return folder


def model_card(
    spec: GeneratorSpec,
    figures: dict[str, Any] | None,
    title: str,
    name: str = "path/to/this/folder",
    trained: str = "",
    about: str = "",
) -> str:
    """The card's text: what the model is, its figures with their protocol, and how to use it."""
    generator = spec.generator
    classes = f", {spec.num_classes} classes" if spec.num_classes else ""
    kind = "Vision Transformer (ViTGAN)" if generator.kind == "vit" else "StyleGAN2"
    images = f"{spec.resolution}×{spec.resolution} {'grey' if spec.channels == 1 else 'RGB'} images"
    sizes = ", ".join(f"{name} {value}" for name, value in generator.model_dump().items() if name != "kind")
    return f"""---
library_name: vitgan
pipeline_tag: unconditional-image-generation
tags: [gan, vitgan]
---
# {title}

A {kind} generator of {images}{classes}.{about and f" {about}"}

![64 samples, seed 0, not chosen](samples.png)

## Figures

{figures_table(figures)}
{
        trained
        and f'''
## Training

{trained}
'''
    }
## Use

```python
import vitgan

generator = vitgan.load({json.dumps(name, ensure_ascii=False)})
images = generator.sample(64, seed=0, truncation=1.0)  # (64, {spec.channels}, {spec.resolution}, {spec.resolution})
```

or `{command("sample", name, "--count", 64, "--grid", "grid.png")}`. The grid above is that of seed 0.

## Sizes

{sizes}
"""


def figures_table(figures: dict[str, Any] | None) -> str:
    """An evaluation as a Markdown table with its protocol.

    Raises:
        UserError: If it is not one.
    """
    if figures is None:
        return "Not measured."
    try:
        protocol, images, features = figures["protocol"], figures["images"], figures["features"]
        rows = "\n".join(f"| {name} | {value:.4g} |" for name, value in figures["figures"].items())
        return (
            f"| figure | value |\n| --- | --: |\n{rows}\n\n"
            f"Protocol `{protocol['name']}`: {images['generated']:,} images against {images['reference']:,}, features "
            f"{features['name']}, truncation {protocol['truncation']:g}, seed {protocol['seed']}. Figures of other "
            "protocols or features are not comparable."
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError("the figures are no evaluation: pass the file that `vitgan evaluate --json` wrote") from error


def read_figures(path: Path) -> dict[str, Any]:
    """The JSON file of an evaluation.

    Raises:
        UserError: If it cannot be read.
    """
    return read_json(path, "figures")


def check_push(repository: str) -> None:
    """Refuses a repository that `push` could not upload to, before there is anything to upload.

    Raises:
        UserError: If its name is none, nobody is logged in, it is another's, or the Hub cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repository)
        known = HfApi().whoami()
        own = {known["name"], *(organisation["name"] for organisation in known.get("orgs", []))}
    except Exception as error:  # whatever a network does to the Hub's client
        raise _refused(
            repository, error, "nothing was written; log in with `hf auth login`, or leave out the push"
        ) from error
    owner, _, _ = repository.rpartition("/")
    if owner and owner not in own:
        raise UserError(
            f"cannot push to {repository}: you are {known['name']}, who may not write there; choose your own"
        )


def push(folder: Path, repository: str) -> str:
    """Uploads a folder to a Hub repository, made if need be (private); returns its address.

    Raises:
        UserError: If the Hub refuses or cannot be reached.
    """
    from huggingface_hub import HfApi

    try:
        api = HfApi()
        address = api.create_repo(repository, exist_ok=True, private=True)
        api.upload_folder(repo_id=repository, folder_path=str(folder), ignore_patterns=[MARKER])
    except Exception as error:  # whatever a network does to the Hub's client
        raise _refused(repository, error, f"the folder {folder} is whole, try again") from error
    return str(address)


def _refused(repository: str, error: Exception, advice: str) -> UserError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return UserError(one_line(f"cannot push to {repository}: {reason}; {advice}"))
