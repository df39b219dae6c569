"""The shape of the network that pictures are measured with, as data; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from musegen.errors import ConfigError
from musegen.models.image_config import ImageConfig

__all__ = ["ImageFeaturesConfig"]


@dataclass(frozen=True)
class ImageFeaturesConfig(ImageConfig):
    """Everything that decides the parameters of `ImageFeatures`."""

    width: int = 24
    """Channels at full size; twice as many at each half, up to 4 times."""
    features: int = 128
    """Numbers that a picture is described by."""
    temperature: float = 0.2
    """Of the contrast between views: lower tells harder pairs apart."""

    def __post_init__(self) -> None:
        """Cross checks. Raises ConfigError."""
        super().__post_init__()
        if self.width < 8 or self.width % 8 or self.features < 2:
            raise ConfigError("width must be a multiple of 8, features 2 or more")
        if self.temperature <= 0:
            raise ConfigError(f"temperature = {self.temperature}: must be above 0")

    @property
    def channels(self) -> tuple[int, ...]:
        """Of the levels, from the picture's side down to 4 pixels."""
        levels = (self.size // 4).bit_length()
        return tuple(self.width * min(2**level, 4) for level in range(levels))
