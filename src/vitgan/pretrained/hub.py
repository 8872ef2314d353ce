"""A model folder for others: weights, configuration, sample grid and a card; also as a Hub repository."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from huggingface_hub import EvalResult, HfApi, ModelCard, ModelCardData, ModelHubMixin
from huggingface_hub.utils import validate_repo_id

from vitgan.errors import UserError, command
from vitgan.files import read_json, user_error
from vitgan.files.folders import MARKER, new_folder
from vitgan.files.pictures import enlargement, image_grid, save_image
from vitgan.models.generator import Generator
from vitgan.pretrained.generators import MODEL_FOLDER, Storage, load, locate, write_model, write_networks
from vitgan.pretrained.names import NETWORKS, NETWORKS_CONFIG, VAE, WEIGHTS, for_others

SAMPLES = 64
TASK = "unconditional-image-generation"
TEMPLATE = Path(__file__).with_name("card.md.jinja")
SECTION = r"^## {}\n\n((?:.|\n)+?)\n+(?=## (?:Training|Use)$)"
ABOUT = r"^A .*? generator of .*?\. ((?:.|\n)+?)\n+(?=!\[\d+ samples, seed 0)"


@dataclass
class HubModel(ModelHubMixin):
    """A generator with all that a repository says of it; `save_pretrained` and `push_to_hub` are the Hub's own.

    Attributes:
        generator: The model.
        metrics: What `vitgan evaluate --json` wrote, for the card's table.
        title: Of the card; default the folder's or the repository's name.
        name: What the card tells `vitgan.load` to open; default a path.
        trained: Sentences for the card on how the model was trained; default none.
        about: Sentences for the card on what the model shows and cannot do; default none.
        storage: Of the weights, see `vitgan.save`.
        networks_of: A folder whose G and D, as they were trained, go along (`write_networks`).
        licence: Of the weights, as the Hub names it, e.g. "mit".
        datasets: On the Hub, that the model was trained on.
        earlier: The card that the model came with: what nothing above says is taken from there.
    """

    generator: Generator
    metrics: dict[str, Any] | None = None
    title: str = ""
    name: str = ""
    trained: str = ""
    about: str = ""
    storage: Storage = "float32"
    networks_of: Path | None = None
    licence: str = ""
    datasets: tuple[str, ...] = ()
    earlier: ModelCard | None = None

    def __post_init__(self) -> None:
        metrics_table(self.metrics)  # says what is wrong with them

    @classmethod
    def from_pretrained(cls, name: str | Path, /, **fields: Any) -> Self:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Any model that `vitgan.load` opens, by the same rules: a stranger's files are not trusted.

        Args:
            name: See `vitgan.load`.
            fields: For the card.

        Raises:
            UserError: If there is no such model, or it cannot be loaded.
        """
        fields.setdefault("earlier", card_of(name))
        return cls(load(name), **fields)

    def save(self, folder: Path) -> Path:
        """Writes model.safetensors, config.json, samples.png and README.md, the model card.

        Args:
            folder: Where to; it must be new, empty, or a model folder as it was written (`vitgan.files.folders`).

        Raises:
            UserError: If the folder may not be replaced or cannot be written.
        """
        self.save_pretrained(folder)
        return folder

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> str | None:
        """`save` by the Hub's name and with its options: nothing of an earlier model stays beside the new one."""
        folder = Path(save_directory)
        self._settle_title(folder)
        with new_folder(folder, MODEL_FOLDER) as place:
            usual: dict[str, Any] = {"repo_id": folder.name}
            return super().save_pretrained(place, **usual | options)

    def push(self, repository: str) -> None:
        """Uploads what `save` writes to a Hub repository, made if need be (private).

        Raises:
            UserError: If the Hub refuses or cannot be reached.
        """
        with user_error(f"cannot push to {repository}", Exception, advice="try again"):
            self.push_to_hub(repository, private=True)

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """The Hub's own; networks and a VAE that an earlier model left in the repository go."""
        usual: dict[str, Any] = {
            "ignore_patterns": [MARKER],
            "delete_patterns": [NETWORKS, NETWORKS_CONFIG, f"{VAE}/*"],
        }
        return super().push_to_hub(repo_id, **usual | options)

    def _settle_title(self, folder: Path) -> None:
        self.title = self.title or self._said(r"^# (.+)$") or folder.resolve().name

    def _said(self, pattern: str) -> str:
        """What the earlier card says in a place; nothing if there is none."""
        found = re.search(pattern, self.earlier.text, re.MULTILINE) if self.earlier else None
        return found[1] if found else ""

    def _save_pretrained(self, save_directory: Path) -> None:
        self._settle_title(save_directory)
        write_model(self.generator, save_directory, self.storage)
        if self.networks_of is not None:
            write_networks(self.networks_of, save_directory, self.storage)
        stored = load(save_directory)  # what others will get, in the stored precision
        count, columns = stored.grid(SAMPLES)
        grid = image_grid(stored.sample(count), columns, enlargement(stored.image_size))
        save_image(grid, save_directory / "samples.png")

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """The card: what the model is, its metrics with their protocol, and how to use it."""
        spec, generator = self.generator.spec, self.generator.spec.generator
        size = f"{spec.image_size}×{spec.image_size}"
        vae = (
            f", as latents of the VAE `{for_others(spec.vae.name)}` (`pip install 'vitgan[latent]'`)"
            if spec.vae
            else ""
        )
        name = self.name or "path/to/this/folder"
        samples, _ = self.generator.grid(SAMPLES)
        return ModelCard.from_template(
            card_data=self._card_data(),
            template_path=str(TEMPLATE),
            title=self.title,
            kind={"vit": "Vision Transformer (ViTGAN)", "stylegan2": "StyleGAN2"}.get(
                generator.kind, "network of its own"
            ),
            images=f"{size} {'grey' if spec.image_channels == 1 else 'RGB'} images{vae}",
            classes=f", {spec.num_classes} classes" if spec.num_classes else "",
            about=self.about or self._said(ABOUT),
            metrics=(self._said(SECTION.format("Metrics")) if self.metrics is None else "")
            or metrics_table(self.metrics),
            trained=self.trained or self._said(SECTION.format("Training")),
            name=json.dumps(name, ensure_ascii=False),
            shape=(SAMPLES, spec.image_channels, spec.image_size, spec.image_size),
            samples=samples,
            command=command("sample", name, "--count", samples, "--grid", "grid.png"),
            sizes=", ".join(f"{key} {value}" for key, value in generator.model_dump().items() if key != "kind"),
        )

    def _card_data(self) -> ModelCardData:
        """What the Hub itself reads, metrics among it."""
        before = self.earlier.data if self.earlier else ModelCardData()
        results = getattr(before, "eval_results", None) or []
        if self.metrics is not None:
            protocol = self.metrics["protocol"]["name"]
            results = [
                EvalResult(TASK, "image-folder", protocol, name, value)
                for name, value in self.metrics["metrics"].items()
            ]
        return ModelCardData(
            library_name="vitgan",
            pipeline_tag=TASK,
            tags=["gan", "vitgan"],
            license=self.licence or getattr(before, "license", None),
            datasets=[*self.datasets] or getattr(before, "datasets", None),
            model_name=self.title if results else None,
            eval_results=results or None,
        )


def card_of(name: str | Path) -> ModelCard | None:
    """The card in a model's folder, if there is one and it is of ours."""
    weights, _ = locate(name)
    if weights.name != WEIGHTS or not weights.with_name("README.md").is_file():
        return None
    try:
        card = ModelCard.load(weights.with_name("README.md"))
    except Exception:  # whatever a stranger wrote into it
        return None
    return card if getattr(card.data, "library_name", "") == "vitgan" else None


def metrics_table(metrics: dict[str, Any] | None) -> str:
    """An evaluation as a Markdown table with its protocol.

    Raises:
        UserError: If it is not one.
    """
    if metrics is None:
        return "Not measured."
    try:
        protocol, images, features = metrics["protocol"], metrics["images"], metrics["features"]
        rows = "\n".join(f"| {name} | {value:.4g} |" for name, value in metrics["metrics"].items())
        return (
            f"| metric | value |\n| --- | --: |\n{rows}\n\n"
            f"Protocol `{protocol['name']}`: {images['generated']:,} images against {images['reference']:,}, features "
            f"{features['name']}, truncation {protocol['truncation']:g}, seed {protocol['seed']}. Metrics of other "
            "protocols or features are not comparable."
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(
            "the metrics are no evaluation: pass the file that `vitgan evaluate --json` wrote", "metrics"
        ) from error


def read_metrics(path: Path) -> dict[str, Any]:
    """The JSON file of an evaluation.

    Raises:
        UserError: If it cannot be read, or is no evaluation.
    """
    metrics = read_json(path, "metrics")
    metrics_table(metrics)
    return metrics


def check_push(repository: str) -> None:
    """Refuses a repository that `HubModel.push` could not upload to, before there is anything to upload.

    Raises:
        UserError: If its name is none, nobody is logged in, it is another's, or the Hub cannot be reached.
    """
    advice = "nothing was written; log in with `hf auth login`, or leave out the push"
    with user_error(f"cannot push to {repository}", Exception, advice=advice):
        validate_repo_id(repository)
        known = HfApi().whoami()
        own = {known["name"], *(organisation["name"] for organisation in known.get("orgs", []))}
    owner, _, _ = repository.rpartition("/")
    if owner and owner not in own:
        raise UserError(
            f"cannot push to {repository}: you are {known['name']}, who may not write there; choose your own"
        )
