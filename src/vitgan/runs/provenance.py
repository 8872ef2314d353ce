"""How a checkpoint's model came to be: preset, images, steps and processor time, as the run's own files tell it."""

from pathlib import Path

from vitgan.config import RunConfig, differences, flat
from vitgan.errors import UserError
from vitgan.presets import preset
from vitgan.pretrained.names import for_others, run_of_checkpoint
from vitgan.runs.folder import WITHOUT_INFLUENCE, config_of_run, data_record
from vitgan.training.checkpoint import NAME
from vitgan.training.log import read_metrics

SAID_ELSEWHERE = {"data", "training.seed", "training.precision"}
"""Fields that a list of changes to a preset leaves out, besides the VAE's and those without influence on what is learnt."""


def provenance(checkpoint: Path) -> str:
    """A paragraph on how a checkpoint was trained; nothing where `checkpoint` is no folder of a run's checkpoint."""
    run = run_of_checkpoint(checkpoint)
    name = checkpoint.resolve().name
    if run is None or not NAME.fullmatch(name):
        return ""
    config = config_of_run(run)
    training = config.training
    images = int(name.replace("k", ""))
    records = [record for record in read_metrics(run / "metrics.jsonl") if record["images"] <= images]
    steps = max((int(record["step"]) for record in records), default=0)
    hours = sum(record.get("cpu_seconds", 0.0) for record in records) / 3600
    changes = changes_to_preset(config)
    sentences = [
        f"Preset `{config.preset}`{' with ' + ', '.join(f'`{c}`' for c in changes) if changes else ''}.",
        f"{images:,} images drawn from {source(run, config)}, in {steps:,} steps of {training.batch_size}, seed "
        f"{training.seed}, {'random flips' if training.horizontal_flip else 'no flips'}.",
    ]
    if hours:
        sentences.append(f"{hours:.1f} hours of one processor (evaluations not counted).")
    return " ".join(sentences)


def source(run: Path, config: RunConfig) -> str:
    """The images of a run, in words."""
    name = f"`{Path(config.data).name}`"
    if (record := data_record(run)) is None:
        return name
    return f"the {record.count:,} images of {name} (SHA-256 {record.sha256[:12]}…)"


def changes_to_preset(config: RunConfig) -> list[str]:
    """What a run's configuration changed in its preset, as command line options ("--augment.scaling 0.0")."""
    try:
        base = preset(config.preset)
    except UserError:
        return []
    after = dict(flat(config.model_dump()))
    left_out = WITHOUT_INFLUENCE | SAID_ELSEWHERE | {name for name in after if name.startswith("model.vae")}
    return [option(name, after[name]) for name in differences(config, base) if name in after and name not in left_out]


def option(name: str, value: object) -> str:
    """A field as it is written on the command line, see `for_others`."""
    *section, field = name.replace("_", "-").split(".")
    flag = "--" + ".".join([*section, f"no-{field}" if value is False else field])
    return flag if isinstance(value, bool) else f"{flag} {for_others(value) if isinstance(value, str) else value}"
