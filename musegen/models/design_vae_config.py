"""The shape of the autoencoder of designs, as data; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from musegen.errors import ConfigError

__all__ = ["DesignVaeConfig"]


@dataclass(frozen=True)
class DesignVaeConfig:
    """Everything that decides the parameters of a `DesignVae` and what it is trained for."""

    numbers: int
    """Of a design (N)."""
    conditions: int = 0
    """Numbers of a request that a design answers (C); 0: none."""
    latent: int = 8
    """Numbers that a design is made of (Z)."""
    width: int = 128
    """Of the layers inside."""
    layers: int = 2
    """Between the ends, of encoder and decoder each."""
    beta: float = 0.02
    """Weight of the divergence from the prior, beside a squared error in spreads of the data."""

    def __post_init__(self) -> None:
        """Cross checks. Raises ConfigError."""
        if not 1 <= self.numbers <= 4096 or not 0 <= self.conditions <= 256:
            raise ConfigError(
                f"numbers = {self.numbers}, conditions = {self.conditions}: 1 to 4096, 0 to 256"
            )
        if not 1 <= self.latent <= 256 or self.width < 8 or not 1 <= self.layers <= 8:
            raise ConfigError(
                f"latent = {self.latent}, width = {self.width}, layers = {self.layers}: 1 to 256, "
                "8 or more, 1 to 8"
            )
        if self.beta < 0:
            raise ConfigError(f"beta = {self.beta:g}: must not be negative")
