"""Airfoils: a benchmark of searches in a learned latent, on real shapes.

About 2,170 known airfoils come with the package aerosandbox, each as 18 numbers (Kulfan 2008: eight
weights a side, one of the leading edge, the thickness at the trailing edge); neuralfoil says lift,
drag and moment. The search uses its `large` network, the judge its `xxxlarge` one. Both packages
are the extra `airfoil`; what they say is a prediction, and no wind tunnel.

Letters: N numbers of a design (18), M known shapes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from musegen.design.base import Constraint, Evaluation
from musegen.errors import OutputError
from musegen.picture_files import svg_metadata

__all__ = ["Airfoil", "AirfoilShape", "known_airfoils"]

SIDE = 8
"""Weights of a side."""

PLACES = 121
"""Places along the chord at which shapes are compared."""


def _aerosandbox() -> Any:
    try:
        import aerosandbox
    except ImportError:
        raise OutputError('airfoils need aerosandbox: pip install "musegen[airfoil]"') from None
    return aerosandbox


def _neuralfoil() -> Any:
    try:
        import neuralfoil
    except ImportError:
        raise OutputError('airfoils need neuralfoil: pip install "musegen[airfoil]"') from None
    return neuralfoil


@dataclass(frozen=True, eq=False)
class AirfoilShape:
    """A shape with a chord of 1."""

    lower: np.ndarray
    upper: np.ndarray
    leading_edge: float
    trailing_edge: float

    @classmethod
    def of(cls, numbers: np.ndarray) -> AirfoilShape:
        """From (18,) numbers."""
        return cls(numbers[:SIDE], numbers[SIDE : 2 * SIDE], float(numbers[-2]), float(numbers[-1]))

    def numbers(self) -> np.ndarray:
        """(18,)."""
        return np.array([*self.lower, *self.upper, self.leading_edge, self.trailing_edge])

    def parameters(self) -> dict[str, Any]:
        """As neuralfoil and aerosandbox name them."""
        return {
            "lower_weights": self.lower,
            "upper_weights": self.upper,
            "leading_edge_weight": self.leading_edge,
            "TE_thickness": self.trailing_edge,
        }

    def sides(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Places along the chord (P,), and the heights of the upper and of the lower side (P,).

        Kulfan 2008: sqrt(x) (1 - x) times Bernstein polynomials, with aerosandbox's term for the
        leading edge.
        """
        x = 0.5 - 0.5 * np.cos(np.linspace(0, np.pi, PLACES))
        degree = SIDE - 1
        choose = np.cumprod([1.0, *((degree - k) / (k + 1) for k in range(degree))])
        powers = np.arange(SIDE)
        basis = choose * x[:, None] ** powers * (1 - x[:, None]) ** (degree - powers)
        body = np.sqrt(x) * (1 - x)
        front = self.leading_edge * x * (1 - x) ** (SIDE + 0.5)
        rear = x * self.trailing_edge / 2
        upper = body * (basis @ self.upper) + front + rear
        return x, upper, body * (basis @ self.lower) + front - rear


def known_airfoils(on_progress: Any = None) -> Iterator[tuple[str, AirfoilShape]]:
    """The shapes of aerosandbox's database by name; what cannot be read as numbers is left out."""
    asb = _aerosandbox()
    folder = Path(asb.__file__).parent / "geometry" / "airfoil" / "airfoil_database"
    files = sorted(folder.glob("*.dat"))
    for number, path in enumerate(files):
        if on_progress is not None:
            on_progress(number, len(files), path.stem)
        try:
            fitted = asb.Airfoil(name=path.stem, coordinates=path).to_kulfan_airfoil(
                n_weights_per_side=SIDE
            )
        except (ValueError, RuntimeError, TypeError, IndexError):
            continue
        shape = AirfoilShape(
            np.asarray(fitted.lower_weights, dtype=np.float64),
            np.asarray(fitted.upper_weights, dtype=np.float64),
            float(fitted.leading_edge_weight),
            float(fitted.TE_thickness),
        )
        if np.isfinite(shape.numbers()).all():
            yield path.stem, shape


class Airfoil:
    """The kind of design, with a request: much lift for little drag."""

    name = "airfoil"
    objective = "minus_lift_to_drag"

    def __init__(
        self,
        known: np.ndarray,
        *,
        reynolds: float = 5e5,
        alpha_deg: float = 4.0,
        lift: float = 0.7,
        moment: float = -0.10,
        thickness: float = 0.12,
        confidence: float = 0.85,
    ) -> None:
        """`known` (M, 18) says in what range numbers lie, and what a shape is compared with.

        Lift and moment are coefficients (CL at least, CM at least), thickness a share of the chord,
        confidence what neuralfoil says of itself.
        """
        self.known = known
        low, high = np.percentile(known, [0.5, 99.5], axis=0)
        self.bounds = np.stack((low, high), axis=1)
        self.start: np.ndarray | None = np.median(known, axis=0)
        self.reynolds, self.alpha_deg = reynolds, alpha_deg
        self.lift, self.moment = lift, moment
        self.thickness, self.confidence = thickness, confidence

    def decode(self, numbers: np.ndarray) -> AirfoilShape:
        """(18,) -> a shape."""
        return AirfoilShape.of(np.asarray(numbers, dtype=np.float64))

    def evaluate(self, made: AirfoilShape, fine: bool = False) -> Evaluation:
        """By neuralfoil's `large`, or `fine`, by `xxxlarge`."""
        told = _neuralfoil().get_aero_from_kulfan_parameters(
            made.parameters(),
            alpha=self.alpha_deg,
            Re=self.reynolds,
            model_size="xxxlarge" if fine else "large",
        )
        lift, drag, moment, sure = (
            float(np.ravel(told[name])[0]) for name in ("CL", "CD", "CM", "analysis_confidence")
        )
        _, upper, lower = made.sides()
        thick = upper - lower
        ratio = lift / max(drag, 1e-6)
        constraints = (
            Constraint("lift_coefficient", lift, self.lift, 0.1, True),
            Constraint("moment_coefficient", moment, self.moment, 0.02, True),
            Constraint("thickness_of_chord", float(thick.max()), self.thickness, 0.02, True),
            Constraint("least_thickness_of_chord", float(thick[1:-1].min()), 0.0, 0.01, True),
            Constraint("confidence", sure, self.confidence, 0.1, True),
        )
        camber = (upper + lower) / 2
        features = {
            "thick": float(thick.max() / 0.12 - 1),
            "cambered": float(camber.max() / 0.04 - 1),
            "blunt": float(np.clip(20 * made.trailing_edge - 0.1, -1, 1)),
        }
        return Evaluation(-ratio, constraints, features)

    def nearest(self, made: AirfoilShape) -> float:
        """The distance from the nearest known shape: mean difference of heights, of the chord."""
        own = np.stack(made.sides()[1:])
        return float(np.abs(self._known_sides - own).mean((1, 2)).min())

    @cached_property
    def _known_sides(self) -> np.ndarray:
        """(M, 2, P)."""
        return np.stack([np.stack(AirfoilShape.of(one).sides()[1:]) for one in self.known])

    def export(self, made: AirfoilShape, facts: Mapping[str, Any]) -> dict[str, bytes]:
        """`.dat` (Selig's order, from the trailing edge over the upper side), `.svg`, `.json`."""
        x, upper, lower = made.sides()
        points = np.concatenate((np.stack((x, upper), 1)[::-1], np.stack((x, lower), 1)[1:]))
        lines = ["musegen airfoil", *(f"{a:.6f} {b: .6f}" for a, b in points.tolist())]
        path = " ".join(f"{1000 * a:.2f},{-1000 * b:.2f}" for a, b in points.tolist())
        svg = (
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="-50 -250 1100 500" width="1100" '
            f'height="500">{svg_metadata(facts)}<rect x="-50" y="-250" width="1100" height="500" '
            f'fill="#ffffff"/><path d="M{path}Z" fill="#dddddd" stroke="#000000" '
            'stroke-width="2"/></svg>\n'
        )
        told = {"numbers": made.numbers().tolist(), **facts}
        return {
            ".dat": ("\n".join(lines) + "\n").encode(),
            ".svg": svg.encode(),
            ".json": (json.dumps(told, indent=1, sort_keys=True) + "\n").encode(),
        }
