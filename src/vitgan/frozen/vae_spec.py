"""What is known of a VAE where its latents are kept and learnt."""

from typing import Annotated, Literal

from pydantic import Field

from vitgan.schema import Config

Numbers = tuple[Annotated[float, Field(allow_inf_nan=False)], ...]


class VaeSpec(Config):
    """Which VAE latents are of, and how they were scaled. A latent store carries it, and a model trained on one."""

    name: str = Field(pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")
    """Folder, or Hub repository user/name, a subfolder behind it; `VITGAN_VAE` names another place."""
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    """Of its weights: no other VAE is taken in its place."""
    factor: int = Field(ge=1, le=256)
    """Image pixels for each latent's, along an axis."""
    channels: Literal[1, 3]
    """Of the images: 1 (grey) or 3 (RGB)."""
    shift: Numbers
    """For each latent channel, what is taken away from the VAE's latents first."""
    scale: Numbers
    """What they are multiplied by then."""
