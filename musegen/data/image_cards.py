"""Cards of pictures: what a set of images holds, who allows what, where to get it.

As the cards of music (cards.py), a TOML file each, in `datasets/images/`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from musegen import assets
from musegen.config import from_dict, read_toml
from musegen.errors import ConfigError

__all__ = ["ImageCard", "ImageSplit", "Package", "load_image_card"]


@dataclass(frozen=True)
class ImageSplit:
    """Shares of the drawings; the rest is for training."""

    valid: float = 0.04
    test: float = 0.04

    def __post_init__(self) -> None:
        """Raises ConfigError for shares that leave nothing to train on."""
        if min(self.valid, self.test) < 0 or self.valid + self.test >= 1:
            raise ConfigError(
                f"split: valid {self.valid} and test {self.test} must leave some to train on"
            )


@dataclass(frozen=True)
class Package:
    """A package of the npm registry that holds drawings as SVG."""

    file: str
    """Name of the archive, as `npm pack` writes it."""
    sha256: str
    source: str
    licence: str
    styles: dict[str, str]
    """Folder within the package: name of the style of what lies in it."""
    words: str = ""
    """A JSON file in the package with words of each drawing; besides, names are words."""


@dataclass(frozen=True)
class ImageCard:
    """One TOML card; without packages it is a folder of pictures."""

    name: str
    title: str
    description: str
    licence: str
    may_ship: bool
    """Whether weights trained on it may ship in the package."""
    licence_note: str = ""
    get: str = ""
    exclude: tuple[str, ...] = ()
    """Patterns of drawings that are left out, as `*/brand-*`."""
    common_words: int = 24
    """A word is told where at least so many drawings have it."""
    split: ImageSplit = field(default_factory=ImageSplit)
    packages: tuple[Package, ...] = ()


def load_image_card(name: str) -> ImageCard:
    """The card of that name. Raises DataError with the nearest name, ConfigError."""
    path: Path = assets.image_card_path(name)
    return from_dict(ImageCard, read_toml(path), path.name)
