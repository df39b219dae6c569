"""The shape of the network that moves style from picture to picture; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from musegen.errors import ConfigError
from musegen.models.image_config import ImageConfig

__all__ = ["StylizerConfig"]


@dataclass(frozen=True)
class StylizerConfig(ImageConfig):
    """Everything that decides the parameters of a `Stylizer` and what it is trained for."""

    width: int = 24
    """Channels of the encoder at full size: those of the `image_features` it describes with."""
    depth: int = 2
    """How often the encoder halves a picture before statistics are exchanged."""
    style_weight: float = 10.0
    """Of the distance of statistics from the style's, beside that of maps from the content's."""

    def __post_init__(self) -> None:
        """Cross checks. Raises ConfigError."""
        super().__post_init__()
        if self.width < 8 or self.width % 8:
            raise ConfigError(f"width = {self.width}: must be a multiple of 8")
        if not 1 <= self.depth <= 4 or self.size < 2 * 2**self.depth:
            raise ConfigError(
                f"depth = {self.depth}: 1 to 4, and {self.size} pixels must become 2 or more"
            )
        if self.style_weight <= 0:
            raise ConfigError(f"style_weight = {self.style_weight:g}: must be above 0")

    @property
    def channels(self) -> tuple[int, ...]:
        """Of the encoder's levels, from the picture's side down."""
        return tuple(self.width * min(2**level, 4) for level in range(self.depth + 1))
