"""The ids of the `events` presets: four fields a row, and what each id means.

A row is `[head, pitch, velocity, duration]`. The head is a position in the bar (then the row is a
note) or a marker (start, bar, track, tempo, end) whose value stands in the next field; id 0 in a
field means that this kind of row has none there. A note is one row:

| row   | head            | pitch                  | velocity         | duration     |
| ----- | --------------- | ---------------------- | ---------------- | ------------ |
| start | START or MIDDLE | 0                      | 0                | 0            |
| bar   | BAR             | meter                  | 0                | 0            |
| tempo | TEMPO           | tempo class            | 0                | 0            |
| track | TRACK           | program, 128 for drums | which of them    | 0            |
| note  | position        | pitch, or drum pitch   | velocity class   | duration     |
| end   | END             | 0                      | 0                | 0            |

START opens a piece at its beginning, MIDDLE a window that begins later. "Which of them" counts the
tracks of one program (second violins are violin, second).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any

import numpy as np

from musegen.errors import TokenError

__all__ = [
    "BAR",
    "DRUM_PITCH",
    "DRUM_PROGRAM",
    "END",
    "FIRST_POSITION",
    "MIDDLE",
    "PITCH",
    "START",
    "TEMPO",
    "TRACK",
    "EventVocabulary",
]

START, MIDDLE, END, BAR, TRACK, TEMPO = 1, 2, 3, 4, 5, 6
FIRST_POSITION = 8
"""Heads from here on are positions in the bar, in grid units; 7 is kept free."""

PITCH, DRUM_PITCH = 1, 129
"""Pitch field: PITCH + p is pitch p of a pitched track, DRUM_PITCH + p a drum."""

DRUM_PROGRAM = 128
"""What a drum track has in place of a program."""

_METERS_PER_DENOMINATOR = {2: 12, 4: 24, 8: 32, 16: 32}

_MOST = {
    "grid": 96,
    "longest_bar_q": 64,
    "velocities": 127,
    "tempos": 1024,
    "instances": 128,
    "fine_q": 64,
    "longest_q": 1024,
}
"""The largest value of each setting that is a whole number."""


@dataclass(frozen=True)
class EventVocabulary:
    """The sizes that fix the ids; two vocabularies that are equal have equal ids."""

    grid: int = 12
    """Positions a quarter note; 12 holds 16ths and triplets."""
    longest_bar_q: int = 12
    """Quarter notes of the longest bar that has a meter id."""
    velocities: int = 32
    """Velocity classes, equally wide."""
    tempos: int = 32
    """Tempo classes, geometric from `slowest_bpm` to `fastest_bpm`."""
    slowest_bpm: float = 30.0
    fastest_bpm: float = 280.0
    instances: int = 8
    """How many tracks of one program are told apart; further ones share the last id."""
    fine_q: int = 4
    """Durations up to so many quarter notes are in single grid units; longer ones in quarters of
    a quarter note up to twice that, then in whole quarter notes."""
    longest_q: int = 24
    """Quarter notes of the longest duration."""
    styles: tuple[str, ...] = field(
        default=(
            "piano",
            "ragtime",
            "hymn",
            "song",
            "quartet",
            "orchestra",
            "rock",
            "metal",
            "ambient",
            "drums",
            "folk",
            "pop",
            "jazz",
            "chorale",
            "other",
        )
    )
    """Style words, at most 31."""

    def __post_init__(self) -> None:
        for name, most in _MOST.items():  # a file that lies must not make tables without end
            value = getattr(self, name)
            if not isinstance(value, int) or not 1 <= value <= most:
                raise TokenError(f"{name} {value!r}: a whole number from 1 to {most} is needed")
        if self.grid % 4:
            raise TokenError(f"grid {self.grid}: it must be a multiple of 4 from 4 to 96")
        if not 0 < self.slowest_bpm < self.fastest_bpm < 10_000:
            raise TokenError("slowest_bpm must be positive and below fastest_bpm, that below 10000")
        if len(self.styles) > 31:
            raise TokenError(f"{len(self.styles)} styles: at most 31 have ids")

    # --- Tables ------------------------------------------------------------------------------

    @cached_property
    def meters(self) -> tuple[tuple[int, int], ...]:
        """(numerator, denominator) of every meter with an id, in the order of their ids."""
        return tuple(
            (numerator, denominator)
            for denominator, most in _METERS_PER_DENOMINATOR.items()
            for numerator in range(1, most + 1)
            if numerator * 4 / denominator <= self.longest_bar_q
        )

    @cached_property
    def bar_units(self) -> np.ndarray:
        """(meters,) int64: the length of a bar of each meter, in grid units."""
        return np.array([n * 4 * self.grid // d for n, d in self.meters], dtype=np.int64)

    @cached_property
    def duration_units(self) -> np.ndarray:
        """(durations,) int64: the length of each duration class in grid units, ascending."""
        fine = self.fine_q * self.grid
        quarter = max(1, self.grid // 4)
        return np.array(
            [
                *range(1, fine + 1),
                *range(fine + quarter, 2 * fine + 1, quarter),
                *range(2 * fine + self.grid, self.longest_q * self.grid + 1, self.grid),
            ],
            dtype=np.int64,
        )

    @cached_property
    def tempo_bpm(self) -> np.ndarray:
        """(tempos,) float64: the middle of each tempo class."""
        return np.geomspace(self.slowest_bpm, self.fastest_bpm, self.tempos)

    @cached_property
    def positions(self) -> int:
        """How many positions a bar may have."""
        return self.longest_bar_q * self.grid

    # --- Ids ---------------------------------------------------------------------------------

    @cached_property
    def first_meter(self) -> int:
        return DRUM_PITCH + 128

    @cached_property
    def first_program(self) -> int:
        return self.first_meter + len(self.meters)

    @cached_property
    def first_tempo(self) -> int:
        return self.first_program + 129

    @cached_property
    def first_instance(self) -> int:
        """In the velocity field: ids of "which of the tracks of this program"."""
        return 1 + self.velocities

    @cached_property
    def field_sizes(self) -> tuple[int, int, int, int]:
        return (
            FIRST_POSITION + self.positions,
            self.first_tempo + self.tempos,
            self.first_instance + self.instances,
            1 + len(self.duration_units),
        )

    # --- Quantising --------------------------------------------------------------------------

    def velocity_class(self, velocity: np.ndarray) -> np.ndarray:
        """Velocities 1..127 as ids 1..velocities."""
        return 1 + (np.asarray(velocity, dtype=np.int64) * self.velocities) // 128

    def velocity_of(self, velocity_class: np.ndarray) -> np.ndarray:
        """The middle of each class, 1..127."""
        middle = (np.asarray(velocity_class, dtype=np.float64) - 0.5) * 128 / self.velocities
        return np.clip(np.round(middle), 1, 127).astype(np.int64)

    def duration_class(self, units: np.ndarray) -> np.ndarray:
        """Durations in grid units (float) as ids 1.., the nearest class (the shorter if equal)."""
        table = self.duration_units
        return 1 + np.searchsorted((table[1:] + table[:-1]) / 2, np.asarray(units), side="left")

    def tempo_class(self, bpm: np.ndarray | float) -> np.ndarray:
        """Tempi in quarter notes a minute as classes 0..tempos-1, the nearest by ratio."""
        table = np.log(self.tempo_bpm)
        value = np.log(np.maximum(np.asarray(bpm, dtype=np.float64), 1e-3))
        return np.searchsorted((table[1:] + table[:-1]) / 2, value, side="left")

    def meter_index(self, numerator: int, denominator: int) -> int | None:
        """The meter's class, or None if the preset has none."""
        return self._meter_index.get((numerator, denominator))

    def holds_bar(self, numerator: int, denominator: int) -> bool:
        """Whether a meter with an id has bars of just this length (4/4 for 1/1)."""
        near = self.meters[self.nearest_meter(numerator, denominator)]
        return near[0] * denominator == numerator * near[1]

    def nearest_meter(self, numerator: int, denominator: int) -> int:
        """The class of the meter itself, or of the one nearest in length and then in beat."""
        exact = self.meter_index(numerator, denominator)
        if exact is not None:
            return exact
        length = 4 * numerator / denominator
        return min(
            range(len(self.meters)),
            key=lambda index: (
                abs(4 * self.meters[index][0] / self.meters[index][1] - length),
                abs(self.meters[index][1] - denominator),
            ),
        )

    @cached_property
    def _meter_index(self) -> dict[tuple[int, int], int]:
        return {meter: index for index, meter in enumerate(self.meters)}

    def style_id(self, style: str) -> int:
        """1.. for a known style word, 0 otherwise."""
        return self.styles.index(style) + 1 if style in self.styles else 0

    # --- JSON --------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        data = asdict(self)
        data["styles"] = list(self.styles)
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> EventVocabulary:
        known = {item.name for item in fields(cls)}
        unknown = sorted(set(data) - known)
        if unknown:
            raise TokenError(
                f"unknown setting {unknown[0]!r} of the vocabulary; known: {sorted(known)}"
            )
        try:
            return cls(**{**data, "styles": tuple(data.get("styles", cls.styles))})
        except TypeError as error:
            raise TokenError(f"vocabulary: {error}") from error
