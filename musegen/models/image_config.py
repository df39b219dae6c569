"""The shapes of image models, as data; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from musegen.errors import ConfigError

__all__ = ["DiffusionConfig", "ImageConfig"]

SIZES = (8, 16, 32, 64, 128, 256)


@dataclass(frozen=True)
class ImageConfig:
    """What every model of pictures is told by its data."""

    size: int
    """Pixels of a side."""
    styles: int = 0
    """How many styles there are; 0: it is told none."""
    words: int = 0
    """How many words there are."""

    def __post_init__(self) -> None:
        """Cross checks. Raises ConfigError."""
        if self.size not in SIZES:
            raise ConfigError(f"size = {self.size}: pictures are {SIZES} pixels wide")
        if not 0 <= self.styles <= 4096 or not 0 <= self.words <= 65536:
            raise ConfigError(
                f"styles = {self.styles}, words = {self.words}: too many, or negative"
            )


@dataclass(frozen=True)
class DiffusionConfig(ImageConfig):
    """Everything that decides the parameters of a `Diffusion` and what they mean."""

    process: Literal["flow", "ddpm"] = "flow"
    """Straight lines between noise and pictures, or a chain that adds noise."""
    prediction: Literal["auto", "velocity", "eps", "v", "x0"] = "auto"
    """What the network says: of a flow its velocity, else noise, v, or the clean picture. auto:
    velocity, or v."""
    schedule: Literal["linear", "cosine"] = "cosine"
    """How the chain adds noise."""
    chain: int = 1000
    """Steps of the chain (T); how often the model is trained, or evaluated, is not said here."""
    width: int = 32
    """Channels at full size."""
    multiples: tuple[int, ...] = (1, 2, 4)
    """Channels at each level, as multiples of `width`; each has half the pixels of the last."""
    blocks: int = 1
    """Residual blocks of a level on the way down; on the way up it is one more."""
    attention: int = 8
    """Levels of so many pixels a side or fewer have self-attention; 0: none has."""
    embedding: int = 128
    """Numbers of the embedding of time and conditions."""
    dropout: float = 0.0

    def __post_init__(self) -> None:
        """Cross checks. Raises ConfigError."""
        super().__post_init__()
        says_velocity = self.prediction == "velocity"
        if self.prediction != "auto" and (self.process == "flow") != says_velocity:
            raise ConfigError(
                f"process = '{self.process}' with prediction = '{self.prediction}': a flow says "
                "velocity; a ddpm says eps, v or x0"
            )
        if not self.multiples or min(self.multiples) < 1 or self.width < 8 or self.width % 8:
            raise ConfigError("width must be a multiple of 8, multiples 1 or more")
        if self.size % 2 ** (len(self.multiples) - 1) or len(self.multiples) > 6:
            raise ConfigError(
                f"size = {self.size} cannot be halved {len(self.multiples) - 1} times"
            )
        if self.blocks < 1 or self.embedding < 8 or self.embedding % 2 or self.chain < 2:
            raise ConfigError("blocks must be 1 or more, embedding even, chain 2 or more")
        if not 0.0 <= self.dropout < 1.0:
            raise ConfigError(f"dropout = {self.dropout}: must be from 0 to below 1")

    @property
    def says(self) -> str:
        """`prediction`, in which auto is resolved."""
        if self.prediction != "auto":
            return self.prediction
        return "velocity" if self.process == "flow" else "v"
