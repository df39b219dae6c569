"""The kinds of designs, by name: each is a file of its own."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

__all__ = ["DESIGNS", "Kind"]


@dataclass(frozen=True)
class Kind:
    """One kind of design."""

    name: str
    description: str
    design: str
    """Where its class is, as "module:name": imported when it is first needed."""

    def design_class(self) -> Any:
        """The class, which a request is given to."""
        module, _, name = self.design.partition(":")
        return getattr(import_module(module), name)


DESIGNS: dict[str, Kind] = {
    "bar": Kind("bar", "bars that are tuned to a note", "musegen.design.bar:Bar"),
    "airfoil": Kind(
        "airfoil", "airfoils with much lift for little drag", "musegen.design.airfoil:Airfoil"
    ),
    "sleeve": Kind("sleeve", "sleeves and posters for a song", "musegen.design.sleeve:Sleeve"),
}
"""Every kind of design that musegen knows."""
