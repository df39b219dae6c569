"""What a kind of design is: some numbers, what they make, and what is good about it.

A new kind is one file with a class as `Design` says, and a line in musegen/design/registry.py. The
optimisers (musegen/design/search.py) and the taste of a designer (musegen/design/taste.py) know
nothing but this file.

Letters: N numbers of a design.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

__all__ = ["Constraint", "Design", "Evaluation", "Space"]


@dataclass(frozen=True)
class Constraint:
    """One thing that must hold: a value is at most its limit, or with `least` at least it."""

    name: str
    """What is measured, with its unit: `thickness_mm`."""
    value: float
    limit: float
    scale: float
    """How large a miss counts as 1, in the value's unit; above 0."""
    least: bool = False

    def excess(self, margin: float = 0.0) -> float:
        """How far beyond the limit it is, in scales, where `margin` scales inside still miss.

        0 or less: it holds.
        """
        beyond = self.limit - self.value if self.least else self.value - self.limit
        return beyond / self.scale + margin

    def text(self) -> str:
        """`thickness_mm 3.2 is below 4`."""
        word = "below" if self.least else "above"
        return f"{self.name} {self.value:.4g} is {word} {self.limit:.4g}"


@dataclass(frozen=True)
class Evaluation:
    """What is known of one design."""

    objective: float
    """What is minimised; its unit is the kind's `objective`."""
    constraints: tuple[Constraint, ...] = ()
    features: Mapping[str, float] = field(default_factory=dict)
    """What a designer may like or not, each about -1 to 1; the same names for all of a kind."""

    def excess(self, margin: float = 0.0) -> float:
        """The sum of what is beyond the limits, in scales; 0: feasible."""
        return sum(max(0.0, one.excess(margin)) for one in self.constraints)

    def broken(self) -> tuple[Constraint, ...]:
        """The constraints that do not hold."""
        return tuple(one for one in self.constraints if one.excess() > 0)


class Design(Protocol):
    """A kind of design with its request: what a search needs to know of it."""

    name: str
    """Of the kind, as in the registry."""
    objective: str
    """What is minimised, with its unit: `worst_partial_cents`."""
    bounds: np.ndarray
    """(N, 2) float64: lowest and highest of each number."""
    start: np.ndarray | None
    """(N,) where a search begins, where something is known to be sound; None: in the middle."""

    def decode(self, numbers: np.ndarray) -> Any:
        """(N,) within the bounds -> the design, as an object of its own."""
        ...

    def evaluate(self, made: Any, fine: bool = False) -> Evaluation:
        """What is good about it. `fine`: by a finer evaluator, which no search ever sees."""
        ...

    def export(self, made: Any, facts: Mapping[str, Any]) -> Mapping[str, bytes]:
        """Its files, by suffix (`.svg`); the same design and facts give the same bytes."""
        ...


class Space(Protocol):
    """Where a search looks: points that are turned into numbers of a design."""

    size: int
    """Coordinates of a point."""
    bounded: bool
    """Whether points lie from 0 to 1; else they are as of a standard normal."""
    start: np.ndarray
    """(size,) the point that a search begins with."""
    step: float
    """How far it looks around at first: a standard deviation of each coordinate."""

    def numbers(self, points: np.ndarray) -> np.ndarray:
        """(P, size) -> (P, N), within the bounds."""
        ...
