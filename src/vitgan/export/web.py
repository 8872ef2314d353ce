"""One static folder that generates in the browser: page, ONNX models and onnxruntime-web, no other files, no server code.

The runtime (14 MB of WebAssembly) is not part of this package: it is fetched once with npm, checked by digest and cached.
"""

import json
import shutil
import subprocess
import tarfile
import tempfile
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vitgan.errors import UserError
from vitgan.export.onnx import (
    check_difference,
    check_samples,
    example_inputs,
    images_decoder,
    known_classes,
    open_session,
    write_graph,
)
from vitgan.files import sha256, user_error, write_json
from vitgan.files.folders import new_folder
from vitgan.layers.pixel_mapping import ImplicitPatchDecoder
from vitgan.models.draws import latents_of_seeds
from vitgan.models.generator import Generator
from vitgan.models.vit_generator import ViTGenerator

RUNTIME_PACKAGE = "onnxruntime-web@1.30.0"
RUNTIME_FILES = {
    "ort.wasm.min.mjs": "219e6a1fc8a9938268d18efca3c91d310bd2f4a59bbd13744df5b2b7fc6cee3b",
    "ort-wasm-simd-threaded.mjs": "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
"""File in the package's folder `dist` -> SHA-256."""

PAGE_FILES = ("index.html", "style.css", "app.js", "latents.js")
WEB_PAGE = "web page"
"""What a folder's marker (`vitgan.files.folders`) calls it."""
ZOOM = 4
NPM_SECONDS = 300
TYPICAL_SEEDS, TRIED_SEEDS = 24, 512
"""How many images the page opens on, and the seeds that they are chosen from."""
LARGEST_DECODER = 64 << 20
"""Bytes of a VAE's decoder. Stable Diffusion's has 198 MB, and would take one thread of a browser a minute an image."""


class WebReport(NamedTuple):
    """What was written.

    Attributes:
        folder: The page.
        megabytes: Size of all files.
        largest_difference: Of the page's models under onnxruntime from PyTorch's images in [-1, 1].
    """

    folder: Path
    megabytes: float
    largest_difference: float


class MappingGraph(nn.Module):
    """Latents -> one truncated style."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, z: Tensor, truncation: Tensor, labels: Tensor | None = None) -> Tensor:
        """z (B, z_dim), truncation (1,), labels (B,) -> w (B, w_dim)."""
        labels = known_classes(self.generator, labels)
        return self.generator.styles(self.generator.mapping(z, labels), truncation, labels)[:, 0]


class SynthesisGraph(nn.Module):
    """Styles -> images, decoded by a VAE where G makes latents.

    Where the page can zoom also the tokens that `ZoomGraph` renders again: no weight is stored twice.
    """

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator
        self.to_images = images_decoder(generator)

    def forward(self, w: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """w (B, num_styles, w_dim) -> images (B, C, H, W), with an implicit decoder also tokens (B, L, dim)."""
        decoder = _decoder(self.generator)
        if decoder is None:
            return self.to_images(self.generator.synthesis(w))
        assert isinstance(self.generator, ViTGenerator)
        tokens, _ = self.generator.tokens(w)
        return decoder(tokens), tokens


class ZoomGraph(nn.Module):
    """Tokens -> images of ZOOM times the pixels per axis."""

    def __init__(self, decoder: ImplicitPatchDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens (B, L, dim) -> images (B, C, ZOOM · H, ZOOM · W)."""
        return self.decoder(tokens, ZOOM)


def export_web(generator: Generator, folder: Path, runtime: Path, title: str = "vitgan") -> WebReport:
    """Writes the page.

    Args:
        generator: The model, on the CPU.
        folder: Where to; it must be new, empty, or an earlier page as it was written (`vitgan.files.folders`).
        runtime: Folder with onnxruntime-web's files, from `find_runtime`.
        title: Shown on the page.

    Raises:
        UserError: If the folder may not be replaced or cannot be written, the model cannot be exported, or its files draw
            other images than PyTorch.
    """
    with new_folder(folder, WEB_PAGE) as place:
        (place / "runtime").mkdir()
        differences = write_models(generator, place)
        check_difference(differences.max().item(), differences.mean().item())
        for name in PAGE_FILES:
            text = resources.files("vitgan.export").joinpath("page", name).read_text(encoding="utf-8")
            (place / name).write_text(text, encoding="utf-8")
        for name in RUNTIME_FILES:
            shutil.copyfile(runtime / name, place / "runtime" / name)
        write_json(place / "model.json", page_description(generator, title))
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return WebReport(folder, size / 1e6, differences.max().item())


def page_description(generator: Generator, title: str) -> dict[str, object]:
    """What the page must know of the model."""
    classes = list(generator.class_names or map(str, range(generator.num_classes)))
    return {
        "title": title,
        "resolution": generator.image_size,
        "channels": generator.image_channels,
        "classNames": classes,
        "classesInTurn": generator.known_classes if classes else [],
        "typicalSeeds": typical_seeds(generator),
        "zDim": generator.z_dim,
        "wDim": generator.w_dim,
        "numStyles": generator.num_styles,
        "zoom": ZOOM if _decoder(generator) is not None else 1,
    }


@torch.no_grad()
def typical_seeds(generator: Generator) -> list[int]:
    """Seeds whose styles are nearest to the mean one, that of their class if there are classes, which come in turn.

    Truncation pulls all images there: few of these are odd.
    """
    seeds = range(TRIED_SEEDS)
    labels = generator.classes_of_seeds(seeds)
    w = generator.mapping(latents_of_seeds(seeds, generator.z_dim), labels)
    mean = generator.w_mean if labels is None else generator.class_means()[labels]
    nearest = (w - mean).square().sum(dim=1).argsort().tolist()
    classes = 1 if labels is None else len(generator.known_classes)
    of_class = [[seed for seed in nearest if seed % classes == index] for index in range(min(classes, TRIED_SEEDS))]
    return [seed for turn in zip(*of_class, strict=False) for seed in turn][:TYPICAL_SEEDS]


@torch.no_grad()
def write_models(generator: Generator, folder: Path) -> Tensor:
    """Writes mapping.onnx, synthesis.onnx and, for implicit decoders, zoom.onnx.

    Returns:
        (values,): absolute differences of the images from PyTorch's.
    """
    decoder, graph = _decoder(generator), SynthesisGraph(generator)
    _check_size(graph.to_images)
    check_samples(generator)
    inputs = example_inputs(generator, 2, truncation=0.7)
    w = MappingGraph(generator)(**inputs)
    write_graph(MappingGraph(generator), inputs, folder / "mapping.onnx", ["w"], fixed=("truncation",))
    styles = {"w": w.unsqueeze(1).repeat(1, generator.num_styles, 1)}
    outputs = ["images", "tokens"] if decoder else ["images"]
    write_graph(graph, styles, folder / "synthesis.onnx", outputs)
    arrays = {name: tensor.numpy() for name, tensor in inputs.items()}
    made_w = open_session(folder / "mapping.onnx").run(None, arrays)[0]
    made = open_session(folder / "synthesis.onnx").run(
        None, {"w": made_w[:, None].repeat(generator.num_styles, axis=1)}
    )
    expected = generator.images_of(styles["w"])
    differences = (torch.from_numpy(made[0]) - expected).abs().flatten()
    if decoder is None:
        return differences
    tokens = {"tokens": torch.from_numpy(made[1])}
    write_graph(ZoomGraph(decoder), tokens, folder / "zoom.onnx", ["images"])
    zoomed = open_session(folder / "zoom.onnx").run(None, {"tokens": made[1]})[0]
    of_zoom = (torch.from_numpy(zoomed) - ZoomGraph(decoder)(**tokens)).abs().flatten()
    return torch.cat([differences, of_zoom])


def _decoder(generator: Generator) -> ImplicitPatchDecoder | None:
    if not isinstance(generator, ViTGenerator) or generator.vae is not None:
        return None
    return generator.continuous_decoder


def _check_size(decoder: nn.Module) -> None:
    size = 4 * sum(parameter.numel() for parameter in decoder.parameters())
    if size > LARGEST_DECODER:
        raise UserError(
            f"the page cannot hold the VAE's decoder: its weights have {size / 1e6:,.0f} MB, and "
            f"{LARGEST_DECODER / 1e6:,.0f} MB are what a browser takes: use `vitgan export onnx`"
        )


def find_runtime(cache: Path, given: Path | None = None) -> Path:
    """A folder with onnxruntime-web's files: the given one, else the cache, else fetched with npm into the cache.

    Raises:
        UserError: If files are missing or not those that this version knows, or npm cannot bring them.
    """
    folder = given or cache / RUNTIME_PACKAGE.replace("@", "-")
    if given is None and not folder.is_dir():
        _fetch_runtime(folder)
    _check_runtime(folder)
    return folder


def _check_runtime(folder: Path) -> None:
    for name, digest in RUNTIME_FILES.items():
        if not (folder / name).is_file():
            raise UserError(f"{folder} has no {name}: pass the folder `dist` of the npm package {RUNTIME_PACKAGE}")
        if sha256(folder / name) != digest:
            raise UserError(
                f"{folder / name} is not that of {RUNTIME_PACKAGE}: remove it, or pass that version's `dist`"
            )


def _fetch_runtime(folder: Path) -> None:
    npm = shutil.which("npm")
    how = f"on a machine with npm run `npm pack {RUNTIME_PACKAGE}`, unpack it and pass its folder `dist` as runtime"
    if npm is None:
        raise UserError(
            f"the page needs {RUNTIME_PACKAGE}, and npm is not installed to fetch it: install npm, or {how}"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".runtime") as place:
        command = [npm, "pack", RUNTIME_PACKAGE, "--json", "--ignore-scripts"]
        kinds = subprocess.SubprocessError, OSError, ValueError, LookupError, tarfile.TarError
        with user_error(f"npm could not bring {RUNTIME_PACKAGE} (is there a network?)", *kinds, advice=how):
            answer = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=NPM_SECONDS, check=True)
            archive = Path(place) / json.loads(answer.stdout)[0]["filename"]
            (Path(place) / "dist").mkdir()
            with tarfile.open(archive) as tar:
                for name in RUNTIME_FILES:
                    member = tar.extractfile(f"package/dist/{name}")
                    if member is None:
                        raise KeyError(name)
                    (Path(place) / "dist" / name).write_bytes(member.read())
        _check_runtime(Path(place) / "dist")
        (Path(place) / "dist").replace(folder)
