"""What bars are made of: a table with sources."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from musegen.config import from_dict, nearest, read_toml
from musegen.errors import ConfigError, UsageError

__all__ = ["Material", "material_named", "materials"]

OWN_TABLE = Path(__file__).with_name("materials.toml")


@dataclass(frozen=True)
class Material:
    """One material."""

    title: str
    young_pa: float
    """Young's modulus, of woods along the grain."""
    shear_pa: float
    """Shear modulus."""
    density_kg_m3: float
    loss: float
    """Of a mode at f Hz the amplitude falls by the factor e in 1 / (pi (loss f + air_hz)) s."""
    air_hz: float
    source: str

    def __post_init__(self) -> None:
        """Cross checks. Raises ConfigError."""
        for name in ("young_pa", "shear_pa", "density_kg_m3", "loss"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} = {getattr(self, name)}: must be above 0")
        if self.air_hz < 0:
            raise ConfigError(f"air_hz = {self.air_hz}: must not be negative")

    def decay_s(self, frequency_hz: float) -> float:
        """In which the amplitude falls by the factor e."""
        return 1 / (3.141592653589793 * (self.loss * frequency_hz + self.air_hz))


def materials(path: Path = OWN_TABLE) -> dict[str, Material]:
    """By name. Raises ConfigError for a damaged table."""
    found = read_toml(path)
    return {name: from_dict(Material, one, f"{path}: {name}") for name, one in found.items()}


def material_named(name: str, path: Path = OWN_TABLE) -> Material:
    """One of a table. Raises UsageError with the nearest, ConfigError for a damaged table."""
    known = materials(path)
    if name not in known:
        raise UsageError(f"material '{name}': {nearest(name, known)}")
    return known[name]
