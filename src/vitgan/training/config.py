"""How long, how fast and how carefully a run trains."""

from typing import Literal

from pydantic import Field

from vitgan.schema import Config


class TrainingConfig(Config):
    """How long, how fast, and what is written. The defaults are the paper's where it states them."""

    batch_size: int = Field(default=128, ge=1, le=65_536)
    """Images per step, over all processes."""
    micro_batch_size: int | None = Field(default=None, ge=1)
    """Images that go through G and D at once. The gradients of all parts are added: the same update with less memory.
    None takes all images of a process at once."""
    checkpoint_activations: bool = False
    """Keep only the blocks' inputs for the backward pass, and compute the rest again: less memory, a third more work."""
    compile: Literal["never", "always", "auto"] = "never"
    """torch.compile both losses as a whole: training waits for some minutes, then steps are faster (docs/performance.md).
    auto does it after the first steps, if more than an hour is left of the run."""
    cuda_graphs: bool = False
    """With `compile`, on CUDA: replay the losses' kernels as CUDA graphs. It helps small models, whose kernels take longer
    to launch than to run. It needs more memory; on other devices it does nothing."""
    total_kimg: float = Field(default=25_000, ge=0.001, le=1e9)
    """Length of the run in thousands of real images shown to D."""
    max_minutes: float | None = Field(default=None, gt=0)
    """End after this many minutes of training, even if `total_kimg` is not reached. Evaluations and sample grids do not
    count. A resume goes on counting, and a rollback goes back to the minutes of its checkpoint."""
    max_cpu_minutes: float | None = Field(default=None, gt=0)
    """The same in processor time of the main process, which other work on the machine does not use up."""
    learning_rate: float = Field(default=0.002, gt=0)
    """Adam's learning rate for G and D."""
    discriminator_learning_rate: float | None = Field(default=None, gt=0)
    """Learning rate of D, if it differs."""
    freeze_d: int = Field(default=0, ge=0)
    """Number of D's first blocks that are not trained, with what comes before them (FreezeD, Mo et al. 2020). Needs
    `init_from`."""
    adam_beta1: float = Field(default=0.0, ge=0, lt=1)
    adam_beta2: float = Field(default=0.99, ge=0, lt=1)
    gradient_clip: float | None = Field(default=None, gt=0)
    """Largest norm of an update's gradient; a larger one is scaled down to it. GAT's is 1. None does not clip."""
    lr_warmup_images: int = Field(default=0, ge=0)
    """The learning rate rises linearly from 0 over this many images."""
    lr_decay: float = Field(default=0.0, ge=0, le=1)
    """Last share of the run, in which the learning rates fall linearly to 0: 0.5 is the last half, 0 none. The run's length
    is in images or in minutes, whichever is nearer its end. In minutes, the rates depend on the machine's speed: the same
    seed gives another run. If a run is made longer, its rates change."""
    ema_half_life_images: float = Field(default=10_000, gt=0)
    """Half-life of the averaged generator: StyleGAN2's."""
    ema_warmup: float = Field(default=0.05, ge=0)
    """The half-life is at most this share of the images seen so far; 0 sets no limit."""
    horizontal_flip: bool = False
    """Flip each real image with probability 1/2."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """bf16 autocast or float32; auto takes bf16 if the processor supports it."""
    device: Literal["auto", "cpu"] = "auto"
    """auto takes a GPU where there is one."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    log_every_kimg: float = Field(default=1.0, gt=0)
    samples_every_kimg: float = Field(default=50.0, gt=0)
    checkpoint_every_kimg: float = Field(default=200.0, gt=0)
    keep_checkpoints: int = Field(default=3, ge=0)
    """How many of the newest checkpoints stay; 0 is all."""
    instruments: bool = True
    """Measure spectral norms and attention entropies of D with every log record."""
    sample_count: int = Field(default=64, ge=1, le=10_000)
    """Largest number of images in a sample grid. With a column for each class, only full rows are drawn."""
    on_divergence: Literal["stop", "skip", "rollback"] = "stop"
    """What to do after a bad update: its loss or gradient is not finite, or D's logits are beyond the bound. It is never
    applied. stop ends the run; skip takes the next batch; rollback goes to the last checkpoint with lower rates."""
    logit_bound: float = Field(default=10_000, gt=0)
    """Largest absolute value of D's mean logits; beyond it an update is bad."""
    rollback_rate: float = Field(default=0.5, gt=0, lt=1)
    """The learning rates are multiplied by this at each rollback."""
    trackers: tuple[str, ...] = ("tensorboard",)
    """Where the log goes besides metrics.jsonl: tensorboard, wandb, mlflow, trackio."""
