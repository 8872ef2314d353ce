"""`vitgan evaluate`: metrics of a generator's images, or any images, against a store."""

import sys
from pathlib import Path
from typing import Annotated, Any

import tyro
from pydantic import Field

from vitgan.cli.arguments import Batch, Device, OutputFile, PictureFile, check_different
from vitgan.cli.progress import progress_bar
from vitgan.errors import UserError
from vitgan.files import whole_file, write_json


def evaluate(
    source: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")] = None,
    data: str | None = None,
    protocol: str = "quick-5k",
    features: str = "auto",
    inception_weights: Path | None = None,
    class_images: Annotated[int, Field(ge=2)] | None = None,
    path_pairs: Annotated[int, Field(ge=2)] | None = None,
    json: OutputFile | None = None,
    neighbours: PictureFile | None = None,
    device: Device = "auto",
    batch_size: Batch | None = None,
    cache: bool = True,
    list_protocols: bool = False,
) -> None:
    """Measures FID and its relatives, by a named protocol that the output repeats.

    example: vitgan evaluate runs/00000-cifar10 --protocol cifar10-train-50k

    Args:
        source: What is measured: a run, checkpoint or model folder, a bundled model's name or a Hub repository
            user/name; a store; a folder, zip or tar of image files; or an array of images in a file .npz.
        data: The store it is measured against ("fashion-mnist": the bundled images); default for a run: its own data.
        protocol: Name of a protocol, or a .json file with the fields of one.
        features: inception, lite0, lite2, or a folder or Hub repository with DINOv2's or CLIP's weights. "auto" takes the
            protocol's, or lite0 where Inception's weights are missing.
        inception_weights: File with the weights of the 2015 Inception network.
        class_images: Also measure each class by this many of its images (intra-class FID, a mean over classes).
        path_pairs: Also measure the perceptual path length of a model, over this many pairs (papers take 50,000).
        json: Write the result to this file.
        neighbours: Write a PNG of generated images beside their nearest real ones (one more pass over the reference).
        batch_size: Images that go through the networks at once; default: what is fast on the device.
        cache: Keep the reference's statistics in the store's folder `evaluation` and use those found there.
        list_protocols: Print the protocols and end.
    """
    if list_protocols:
        print_protocols()
        return
    if source is None:
        raise UserError(
            "what shall be evaluated? pass a model, run, folder, zip or .npz, or --list-protocols", "source"
        )
    read = (*map(Path, (source, protocol, *([data] if data else []))), inception_weights)
    check_different(*read, json=json, neighbours=neighbours)
    from vitgan.runs.evaluation import measure  # torch takes longer than all the rest

    result = measure(
        source,
        data,
        protocol,
        features=features,
        inception_weights=inception_weights,
        class_images=class_images,
        path_pairs=path_pairs,
        neighbours=neighbours,
        device=device,
        batch_size=batch_size,
        cache=cache,
        progress=progress_bar,
        on_notice=lambda line: print(f"vitgan: {line}", file=sys.stderr),
    )
    if json is not None:  # first: a terminal that fails loses nothing
        with whole_file(json) as temporary:
            write_json(temporary, result)
    print_result(result)


def print_result(result: dict[str, Any]) -> None:
    """Prints the metrics, the protocol they were measured by, and what to know about them."""
    from rich.console import Console
    from rich.table import Column, Table

    arrows = {"lower": "↓", "higher": "↑", "real": "as real", "": ""}
    columns = "metric", Column("value", justify="right"), Column("real images", justify="right"), "better"
    table = Table(*columns, title=f"{result['source']} against {result['data']['path']}")
    for name, value in result["metrics"].items():
        real = f"{result['real'][name]:.5g}" if name in result["real"] else ""
        table.add_row(name, f"{value:.5g}", real, arrows[result["better"][name]])
    protocol, features, images = result["protocol"], result["features"], result["images"]
    console = Console(highlight=False, markup=False, emoji=False)  # names and texts are a stranger's
    console.print(table)
    console.print(
        f"protocol {protocol['name']}: {protocol['purpose']}\n"
        f"{images['generated']:,} images against {images['reference']:,}; features {features['name']} "
        f"({features['resizing']}); truncation {protocol['truncation']:g}, seed {protocol['seed']}\n"
        f"pixels of {images['texture_generated']:,} against {images['texture_reference']:,} images, patches of "
        f"{result['patch_size']}×{result['patch_size']}"
    )
    if classes := result.get("classes"):
        console.print("by class: " + ", ".join(f"{name} {value:.5g}" for name, value in classes.items()))
    for note in result["notes"]:
        console.print(f"note: {note}")


def print_protocols() -> None:
    """Prints every protocol with what it fixes: a line of facts, and below it what the protocol is for."""
    import textwrap

    from vitgan.metrics import PROTOCOLS

    for protocol in PROTOCOLS.values():
        wanted = protocol.exact_store_images or protocol.reference_images
        against = f"{wanted:,} {protocol.split or ''}".strip() if wanted else "all"
        size = f"{protocol.resolution}×{protocol.resolution}" if protocol.resolution else "any size"
        every = "all " if protocol.exact_store_images else ""
        print(
            f"{protocol.name:<19} {protocol.generated_images:,} images against {every}{against}, {size}, {protocol.features}"
        )
        print(textwrap.fill(protocol.purpose, 79, initial_indent="    ", subsequent_indent="    "))
    all_fields = [protocol.to_dict() for protocol in PROTOCOLS.values()]
    common = {name: value for name, value in all_fields[0].items() if all(f[name] == value for f in all_fields)}
    print(textwrap.fill("common to all: " + ", ".join(f"{name} {value}" for name, value in common.items()), 79))
