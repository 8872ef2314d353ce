"""How long, how fast and how carefully a run trains."""

from typing import Literal

from pydantic import Field

from vitgan.schema import Config


class TrainingConfig(Config):
    """How long, how fast, and what is written. The defaults are the paper's where it states them."""

    batch_size: int = Field(default=128, ge=1, le=65_536)
    """Images per step, over all processes."""
    micro_batch_size: int | None = Field(default=None, ge=1)
    """Images of a process that go through G and D at once; the gradients of several such parts add up to those of the
    batch. Less memory, the same update; None is a process's whole share."""
    checkpoint_activations: bool = False
    """Keep only the blocks' inputs for the backward pass, and compute the rest again: less memory, a third more work."""
    compile: bool = False
    """torch.compile the blocks of G and D: a minute or more at the start, then faster steps."""
    cuda_graphs: bool = False
    """With `compile`, on CUDA: replay the blocks' kernels as CUDA graphs, for models whose kernels take longer to launch
    than to run. Needs more memory; on other devices it does nothing."""
    total_kimg: float = Field(default=25_000, ge=0.001, le=1e9)
    """Length of the run in thousands of real images shown to D [choice]."""
    max_minutes: float | None = Field(default=None, gt=0)
    """End after this many minutes of training (evaluations and sample grids not counted), counted anew after a resume,
    even if `total_kimg` is not reached."""
    max_cpu_minutes: float | None = Field(default=None, gt=0)
    """The same in processor time of the main process: a budget that other work on the machine does not shorten."""
    learning_rate: float = Field(default=0.002, gt=0)
    """Adam's, for G and D."""
    discriminator_learning_rate: float | None = Field(default=None, gt=0)
    """D's, where it differs."""
    freeze_d: int = Field(default=0, ge=0)
    """Of a run that starts from other weights: D's first blocks, and what comes before them, that are not trained
    (FreezeD, Mo et al. 2020)."""
    adam_beta1: float = Field(default=0.0, ge=0, lt=1)
    adam_beta2: float = Field(default=0.99, ge=0, lt=1)
    gradient_clip: float | None = Field(default=None, gt=0)
    """Longest gradient of an update; longer ones are scaled down to it. GAT's is 1; None clips nothing."""
    lr_warmup_images: int = Field(default=0, ge=0)
    """The learning rate rises linearly from 0 over this many images."""
    lr_decay: float = Field(default=0.0, ge=0, le=1)
    """Share of the run's length, at its end, over which the learning rates fall linearly to 0; 0 keeps them. A run that is
    made longer has other rates from there on."""
    ema_half_life_images: float = Field(default=10_000, gt=0)
    """Half-life of the averaged generator [choice: StyleGAN2's 10 thousand]."""
    ema_warmup: float = Field(default=0.05, ge=0)
    """The half-life is at most this share of the images seen so far; 0 is no warm-up."""
    horizontal_flip: bool = False
    """Flip each real image with probability 1/2."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """bf16 autocast, or float32; auto is bf16 where the processor computes with it."""
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
    """Images in a sample grid, at most: where there is a column for each class, rows are whole."""
    on_divergence: Literal["stop", "skip", "rollback"] = "stop"
    """After an update whose loss or gradient is not finite, or whose logits are past the bound (it is never applied):
    end the run, go on with the next batch, or go back to the last checkpoint with lower learning rates."""
    logit_bound: float = Field(default=10_000, gt=0)
    """Mean logits of D beyond this, in either direction, count as divergence."""
    rollback_rate: float = Field(default=0.5, gt=0, lt=1)
    """Factor on the learning rates each time the run goes back."""
    trackers: tuple[str, ...] = ("tensorboard",)
    """Trackers besides metrics.jsonl, by accelerate's names: tensorboard, wandb, mlflow, ..."""
