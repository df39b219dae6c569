"""The shape of a pair of networks that contend, as data; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from musegen.errors import ConfigError
from musegen.models.image_config import ImageConfig

__all__ = ["GanConfig"]

LOSSES = ("nonsaturating", "wgan", "wgan_gp", "relativistic")

MOST_MULTIPLE = 16
"""The smallest maps have at most so many times the channels of the largest."""


@dataclass(frozen=True)
class GanConfig(ImageConfig):
    """Everything that decides the parameters of a `Gan` and what they are trained for."""

    loss: Literal["nonsaturating", "wgan", "wgan_gp", "relativistic"] = "relativistic"
    """What critic and generator contend about; see the functions of musegen/models/gan.py."""
    noise: int = 64
    """Numbers that a picture is made of (z)."""
    width: int = 32
    """Channels of the largest map inside; maps of half the side have twice as many."""
    embedding: int = 64
    """Numbers of the embedding of style and words that the generator is told."""
    critic_steps: int = 0
    """Updates of the critic for one of the generator; 0: 5 for wgan and wgan_gp, else 1."""
    penalty: float = 0.0
    """Weight of the penalty on gradients: lambda of wgan_gp, gamma of relativistic. 0: 10, and
    (S / 32)^2, for the squared gradient of a picture is a sum over its pixels."""
    clip: float = 0.01
    """Largest weight of the critic of wgan, of either sign; the other losses clip none."""

    def __post_init__(self) -> None:
        """Cross checks. Raises ConfigError."""
        super().__post_init__()
        if self.loss not in LOSSES:
            raise ConfigError(f"loss = '{self.loss}': one of {', '.join(LOSSES)}")
        if self.width < 8 or self.width % 8:
            raise ConfigError(f"width = {self.width}: must be a multiple of 8")
        if self.noise < 1 or self.embedding < 1:
            raise ConfigError(
                f"noise = {self.noise}, embedding = {self.embedding}: must be 1 or more"
            )
        if not 0 <= self.critic_steps <= 100:
            raise ConfigError(f"critic_steps = {self.critic_steps}: must be from 0 to 100")
        if self.penalty < 0:
            raise ConfigError(f"penalty = {self.penalty:g}: must not be negative")
        if self.penalty and not self.second_order:
            raise ConfigError(
                f"penalty = {self.penalty:g} with loss = '{self.loss}': only wgan_gp and "
                "relativistic have a penalty"
            )
        if self.clip <= 0:
            raise ConfigError(f"clip = {self.clip:g}: must be above 0")

    @property
    def second_order(self) -> bool:
        """Whether the critic's loss holds gradients, so that it needs second derivatives."""
        return self.loss in ("wgan_gp", "relativistic")

    @property
    def updates(self) -> int:
        """Updates of the critic in a step of the trainer."""
        return self.critic_steps or (5 if self.loss in ("wgan", "wgan_gp") else 1)

    @property
    def penalty_weight(self) -> float:
        """The weight of the penalty; 0 where the loss has none."""
        if self.penalty or not self.second_order:
            return self.penalty
        return 10.0 if self.loss == "wgan_gp" else (self.size / 32) ** 2

    @property
    def channels(self) -> tuple[int, ...]:
        """Of the maps inside, from 4 pixels a side up to half the picture's."""
        halvings = (self.size // 4).bit_length() - 1
        return tuple(
            self.width * min(2**level, MOST_MULTIPLE) for level in reversed(range(halvings))
        )
