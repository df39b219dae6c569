"""A tuned bar: marimba, vibraphone, xylophone, glockenspiel.

A uniform bar's partials are 1 : 2.76 : 5.40. Cutting an arch out of its underside brings them to
1 : 4 : 10 (Henrique & Antunes 2003), which is heard as a note. A bar is six numbers: how thick its
ends are for its length, and how thick it is at five places from there to the middle, each as a
share of the place before: so it never grows thicker towards the middle, which is how bars are cut.

How long it is follows from the note: a bar that is larger in every direction by a factor has all
its partials lower by that factor, and keeps their ratios. So the first partial is exact by
construction, and only the ratios are searched for.

Letters: N numbers of a design (6), E elements of half a bar, K partials.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from musegen.design.base import Constraint, Evaluation
from musegen.design.beam import Modes, free_bar
from musegen.design.materials import Material, material_named
from musegen.errors import UsageError

__all__ = ["Bar", "BarShape", "Workshop", "cents", "note_number", "note_text", "ratios_of"]

COARSE, FINE = 30, 120
"""Elements of half a bar: 60 of a whole one for the search, 240 for the judge."""

KNOTS = np.array([0.0, 0.3, 0.5, 0.68, 0.85, 1.0])
"""Where thickness is given, from the end (0) to the middle (1); the first is the end itself."""

NOTES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}


def cents(frequency_hz: float, wanted_hz: float) -> float:
    """How much higher one frequency is, in hundredths of a semitone."""
    return 1200 * math.log2(frequency_hz / wanted_hz)


def note_number(text: str) -> int:
    """`A3`, `C#5`, `Bb4` or `57` as a MIDI note; C4 is 60. Raises UsageError."""
    found = re.fullmatch(r"([A-Ga-g])([#b♯♭]?)(-?\d)", text.strip())
    if found:
        letter, sign, octave = found.groups()
        shift = {"": 0, "#": 1, "♯": 1, "b": -1, "♭": -1}[sign]
        number = NOTES[letter.upper()] + shift + 12 * (int(octave) + 1)
    elif text.strip().isdigit():
        number = int(text)
    else:
        raise UsageError(f"note '{text}': a name as A3 or C#5, or a MIDI number (60 is C4)")
    if not 0 <= number <= 127:
        raise UsageError(f"note '{text}' is {number}: MIDI has 0 to 127")
    return number


def note_text(number: int) -> str:
    """60 as `C4`."""
    name = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")[number % 12]
    return f"{name}{number // 12 - 1}"


def ratios_of(text: str) -> tuple[float, ...]:
    """`1:4:10` as numbers. Raises UsageError."""
    try:
        found = tuple(float(part) for part in text.split(":"))
    except ValueError:
        raise UsageError(f"ratios '{text}': say them as 1:4:10") from None
    if not 2 <= len(found) <= 3 or found[0] != 1 or any(np.diff(found) <= 0):
        raise UsageError(f"ratios '{text}': 1, then one or two that rise, as 1:4:10")
    if not all(map(math.isfinite, found)):
        raise UsageError(f"ratios '{text}': they must be finite")
    return found


@dataclass(frozen=True)
class Workshop:
    """What can be made, and played."""

    shortest_mm: float = 60.0
    longest_mm: float = 620.0
    thinnest_mm: float = 2.5
    """At any place: thinner, a bar breaks or rattles."""
    thickest_mm: float = 30.0
    """Of the plank."""
    steepest: float = 0.6
    """Of the arch: millimetres of depth a millimetre along the bar."""
    heaviest_g: float = 2500.0
    width_mm: float = 50.0

    def __post_init__(self) -> None:
        """Cross checks. Raises UsageError, which names the two that contradict each other."""
        for low, high in (("shortest_mm", "longest_mm"), ("thinnest_mm", "thickest_mm")):
            least, most = getattr(self, low), getattr(self, high)
            if not 0 < least < most:
                raise UsageError(
                    f"{low} {least:g} and {high} {most:g} contradict each other: the first is to "
                    "be above 0 and below the second"
                )
        for name in ("steepest", "heaviest_g", "width_mm"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name} {getattr(self, name):g}: must be above 0")


@dataclass(frozen=True, eq=False)
class BarShape:
    """A bar."""

    length_m: float
    end_m: float
    """Thickness of its ends."""
    shares: tuple[float, ...]
    """Thickness at `KNOTS`, as shares of the ends'; the first is 1."""
    width_m: float
    material: Material

    def thickness_m(self, places: np.ndarray) -> np.ndarray:
        """At places from 0, the end, to 1, the middle.

        Between knots a cubic whose slopes keep it from overshooting (Fritsch & Butland 1984), and
        which is level at the middle.
        """
        y, steps = np.array(self.shares), np.diff(KNOTS)
        rises = np.diff(y) / steps
        slopes = np.zeros(len(y))
        for k in range(1, len(y) - 1):
            a, b = rises[k - 1], rises[k]
            if a * b > 0:
                alpha = (steps[k - 1] + 2 * steps[k]) / (3 * (steps[k - 1] + steps[k]))
                slopes[k] = a * b / (alpha * b + (1 - alpha) * a)
        index = np.clip(np.searchsorted(KNOTS, places, side="right") - 1, 0, len(steps) - 1)
        wide = steps[index]
        t = (places - KNOTS[index]) / wide
        value = (
            (1 + 2 * t) * (1 - t) ** 2 * y[index]
            + t * (1 - t) ** 2 * wide * slopes[index]
            + t**2 * (3 - 2 * t) * y[index + 1]
            + t**2 * (t - 1) * wide * slopes[index + 1]
        )
        return self.end_m * value

    def modes(self, elements: int = COARSE, partials: int = 3, thin: bool = False) -> Modes:
        """Its bending modes; each element is as thick as its middle."""
        places = (np.arange(elements) + 0.5) / elements
        thickness = self.thickness_m(places)
        return free_bar(self.length_m, thickness, self.material, partials=partials, thin=thin)

    @property
    def mass_kg(self) -> float:
        places = (np.arange(200) + 0.5) / 200
        volume = float(self.thickness_m(places).mean()) * self.length_m * self.width_m
        return volume * self.material.density_kg_m3

    @property
    def steepest(self) -> float:
        """The steepest slope of the arch."""
        places = np.linspace(0, 1, 201)
        return float(np.abs(np.diff(self.thickness_m(places))).max() * 400 / self.length_m)

    @property
    def thinnest_m(self) -> float:
        return float(self.thickness_m(np.linspace(0, 1, 201)).min())


class Bar:
    """The kind of design, with a request: a note and its partials, of a material."""

    name = "bar"
    objective = "worst_partial_cents"

    def __init__(
        self,
        note: int,
        ratios: Sequence[float] = (1.0, 4.0, 10.0),
        material: str | Material = "rosewood",
        workshop: Workshop = Workshop(),
        *,
        a4_hz: float = 440.0,
    ) -> None:
        """`note` is MIDI's; `ratios` are those of the partials to the first.

        Raises UsageError: an unknown material.
        """
        self.note, self.ratios = note, tuple(map(float, ratios))
        self.material = material if isinstance(material, Material) else material_named(material)
        self.workshop = workshop
        self.first_hz = a4_hz * 2 ** ((note - 69) / 12)
        self.wanted_hz = self.first_hz * np.array(self.ratios)
        # Thickness of the ends for the length, then of each knot for the one before.
        self.bounds = np.array([(0.03, 0.12), *[(0.35, 1.0)] * (len(KNOTS) - 1)])
        self.start: np.ndarray | None = None

    def decode(self, numbers: np.ndarray) -> BarShape:
        """(6,) -> a bar of the note."""
        slender = float(numbers[0])
        shares = tuple(np.cumprod(numbers[1:]).tolist())
        one = BarShape(1.0, slender, (1.0, *shares), self.workshop.width_mm / 1000, self.material)
        length_m = float(one.modes(partials=1).frequencies_hz[0]) / self.first_hz
        return BarShape(length_m, slender * length_m, one.shares, one.width_m, self.material)

    def partials(self, made: BarShape, fine: bool = False) -> np.ndarray:
        """(K,) in Hz."""
        return made.modes(FINE if fine else COARSE, len(self.ratios)).frequencies_hz

    def evaluate(self, made: BarShape, fine: bool = False) -> Evaluation:
        """By 60 elements, or `fine`, by 240."""
        found = self.partials(made, fine)
        errors = [abs(cents(a, b)) for a, b in zip(found, self.wanted_hz, strict=True)]
        shop = self.workshop
        length_mm, end_mm = 1000 * made.length_m, 1000 * made.end_m
        constraints = (
            Constraint("length_mm", length_mm, shop.longest_mm, 0.2 * shop.longest_mm),
            Constraint("length_mm", length_mm, shop.shortest_mm, 0.2 * shop.shortest_mm, True),
            Constraint("thickness_mm", end_mm, shop.thickest_mm, 0.2 * shop.thickest_mm),
            Constraint("thinnest_mm", 1000 * made.thinnest_m, shop.thinnest_mm, 1.0, True),
            Constraint("slope", made.steepest, shop.steepest, 0.2 * shop.steepest),
            Constraint("mass_g", 1000 * made.mass_kg, shop.heaviest_g, 0.2 * shop.heaviest_g),
        )
        shares = np.array(made.shares)
        features = {
            "thick": 2 * (made.end_m / made.length_m - 0.03) / 0.09 - 1,
            "deep": 1 - 2 * float(shares.min()),
            "wide_arch": 1 - 2 * float(shares[1:].mean()),
            "steep": 2 * min(1.0, made.steepest / shop.steepest) - 1,
            "long": 2 * min(1.0, length_mm / shop.longest_mm) - 1,
        }
        return Evaluation(max(errors), constraints, features)

    def export(self, made: BarShape, facts: Mapping[str, Any]) -> dict[str, bytes]:
        """`.svg` with dimensions, `.dxf` of the profile, `.wav`, `.json` with the partials."""
        from musegen.design.bar_files import files

        return files(self, made, facts)
