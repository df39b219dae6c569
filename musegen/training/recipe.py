"""A recipe: the settings that made a model, kept beside its weights, to make it again.

Imports no torch. Recipes are `recipe.toml` in a model's folder, or a file of the same form.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from musegen.assets import weights, weights_path
from musegen.config import from_dict, read_toml
from musegen.errors import ConfigError

__all__ = ["RECIPE_FILE", "Recipe", "Stint"]

RECIPE_FILE = "recipe.toml"
"""In a model's folder."""


@dataclass(frozen=True)
class Stint:
    """What depends on the device: how much music a step takes, and how many steps."""

    max_steps: int = 0
    """Steps of the run; 0: as the trainer's settings have it."""
    settings: tuple[str, ...] = ()
    """`key=value`, after those of the recipe."""

    def __post_init__(self) -> None:
        """Cross checks. Raises ConfigError."""
        if self.max_steps < 0:
            raise ConfigError(f"max_steps = {self.max_steps}: must not be negative")


@dataclass(frozen=True)
class Recipe:
    """What `musegen.train` is called with."""

    data: str
    """A data card."""
    family: str = "transformer"
    """An entry of the registry."""
    tokenizer: str = "events"
    """How music becomes ids."""
    preset: str = "small"
    """The size that the settings change."""
    seed: int = 0
    """Of everything random."""
    settings: tuple[str, ...] = ()
    """`key=value`, as `--set` takes them."""
    gpu: Stint = field(default_factory=Stint)
    """On a GPU."""
    cpu: Stint = field(default_factory=Stint)
    """On a CPU."""

    @classmethod
    def open(cls, name: str | os.PathLike[str]) -> Recipe:
        """By the name of an installed model, from a model's folder, or from a file.

        Raises:
            CheckpointError: there is no such model.
            ConfigError: the model has no recipe, or the file is none.
        """
        path = Path(name).expanduser()
        if os.fspath(name) in weights() or not path.is_file():
            path = weights_path(name) / RECIPE_FILE
            if not path.is_file():
                raise ConfigError(
                    f"{path.parent} has no {RECIPE_FILE}: how that model was made is not recorded"
                )
        return from_dict(cls, read_toml(path), str(path))

    def arguments(self, device: str) -> dict[str, Any]:
        """Keyword arguments of `musegen.train` for a kind of device (`cpu`, `cuda`, `mps`)."""
        stint = self.cpu if device == "cpu" else self.gpu
        return {
            "data": self.data,
            "family": self.family,
            "preset": self.tokenizer,
            "size": self.preset,
            "seed": self.seed,
            "max_steps": stint.max_steps or None,
            "overrides": [*self.settings, *stint.settings],
        }
