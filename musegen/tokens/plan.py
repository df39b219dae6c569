"""What is asked of a composition, before any ids: bars, tracks, and what is already there.

planning.py makes a `CompositionPlan`; a tokenizer turns it into a `Guide`; the guide's result is an
array of `WRITTEN_DTYPE`, which `musegen.tokens.assemble` puts into a score. Both sides speak of
bars and quarter notes only, so that they serve every preset.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from musegen.guide import Guide
from musegen.music.score import Bar, Score

__all__ = ["WRITTEN_DTYPE", "BarPlan", "CompositionPlan", "PlanGuide", "TrackPlan", "Written"]

WRITTEN_DTYPE = np.dtype(
    [
        ("track", "<i4"),  # index into CompositionPlan.tracks
        ("bar", "<i4"),  # index into CompositionPlan.bars
        ("onset_q", "<f8"),  # quarter notes after the barline
        ("duration_q", "<f8"),  # quarter notes
        ("pitch", "u1"),
        ("velocity", "u1"),
    ]
)
"""Notes that a guide has written, sorted by (track, bar, onset_q, pitch)."""


@dataclass(frozen=True)
class TrackPlan:
    """A track to write."""

    program: int
    """0..127, General MIDI from 0; for drums the kit."""
    is_drum: bool = False
    seed_track: int | None = None
    """Which track of the seed it goes on from; None for a new one."""
    lowest_pitch: int = 0
    highest_pitch: int = 127


@dataclass(frozen=True)
class BarPlan:
    """A bar to write."""

    numerator: int = 4
    denominator: int = 4
    tempo_us: int = 500_000
    """Microseconds a quarter note."""


@dataclass(frozen=True)
class CompositionPlan:
    """What to write: `bars` of `tracks`, after `seed`."""

    tracks: tuple[TrackPlan, ...]
    bars: tuple[BarPlan, ...]
    seed: Score | None = None
    """The music before the first bar to write; None to write from nothing."""
    seed_bars: tuple[Bar, ...] = ()
    """Its bar grid; the first bar to write starts where the last of these ends."""
    key: int = 0
    """0 unknown, else 1 + pitch class of the tonic (+ 12 in minor)."""
    style: str = ""
    """One of the preset's style words, or empty."""
    ends: bool = True
    """Whether the piece ends with the last bar asked for (a cadence is in place)."""
    max_notes_per_cell: int = 96
    """Bound on the notes of one track in one bar."""


@dataclass(frozen=True, eq=False)
class Written:
    """What a guide has written so far."""

    notes: np.ndarray
    """`WRITTEN_DTYPE`, only notes of finished bars."""
    finished_bars: int
    """How many of the plan's bars are complete."""


class PlanGuide(Guide, Protocol):
    """A guide that composes a plan; its `result()` is a `Written`."""

    @property
    def rows_drawn(self) -> int:
        """Rows that the model has drawn."""
        ...

    @property
    def bars_done(self) -> int:
        """Bars of the plan that are complete."""
        ...

    @property
    def warnings(self) -> Sequence[str]:
        """What of the seed the preset could not hold, in words."""
        ...
