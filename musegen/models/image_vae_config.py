"""The shape and the objective of an autoencoder of pictures, as data; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from musegen.errors import ConfigError
from musegen.models.image_config import ImageConfig

__all__ = ["ImageVaeConfig"]

MOST_MULTIPLE = 4
"""The smallest maps have at most so many times the channels of the largest."""


@dataclass(frozen=True)
class ImageVaeConfig(ImageConfig):
    """Everything that decides the parameters of an `ImageVae` and what they are trained for."""

    latent: int = 64
    """Numbers that a picture is put into (Z)."""
    width: int = 32
    """Channels at full size; maps of half the side have twice as many, up to 4 times."""
    beta: float = 1.0
    """Weight of the KL beside the reconstruction; 1 is the bound of the likelihood."""
    embedding: int = 64
    """Numbers of what the decoder's blocks are told: of latent, style and words."""

    def __post_init__(self) -> None:
        """Cross checks. Raises ConfigError."""
        super().__post_init__()
        if self.width < 8 or self.width % 8:
            raise ConfigError(f"width = {self.width}: must be a multiple of 8")
        if self.latent < 1 or self.embedding < 1:
            raise ConfigError(
                f"latent = {self.latent}, embedding = {self.embedding}: must be 1 or more"
            )
        if self.beta < 0:
            raise ConfigError(f"beta = {self.beta:g}: must not be negative")

    @property
    def channels(self) -> tuple[int, ...]:
        """Of the maps, from the picture's side down to 4 pixels."""
        levels = (self.size // 4).bit_length()
        return tuple(self.width * min(2**level, MOST_MULTIPLE) for level in range(levels))
