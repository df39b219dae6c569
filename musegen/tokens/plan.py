"""What is asked of a composition, before any ids: bars, tracks, and what is already there.

planning.py makes a `CompositionPlan`; a tokenizer turns it into a `Guide`; the guide's result is an
array of `WRITTEN_DTYPE`, which `musegen.tokens.assemble` puts into a score. Both sides speak of
bars and quarter notes only, so that they serve every preset.

Bars are counted from 0 over the whole piece: the seed's, then the new ones behind them. A *region*
is a run of bars of one track that is written; everything outside the regions is given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from fractions import Fraction
from functools import cached_property
from typing import Literal, Protocol

import numpy as np

from musegen.guide import Guide
from musegen.music.score import Bar, Score

__all__ = [
    "MAX_NOTES",
    "WRITTEN_DTYPE",
    "Alike",
    "BarPlan",
    "CellRule",
    "CompositionPlan",
    "PlanGuide",
    "Region",
    "Told",
    "TrackPlan",
    "Written",
]

WRITTEN_DTYPE = np.dtype(
    [
        ("track", "<i4"),  # index into CompositionPlan.tracks
        ("bar", "<i4"),  # of the piece, from 0
        ("onset_q", "<f8"),  # quarter notes after the barline
        ("duration_q", "<f8"),  # quarter notes
        ("pitch", "u1"),
        ("velocity", "u1"),
        ("source", "<i4"),  # the note of the seed's track whose place in time it has, or -1
    ]
)
"""Notes that a guide has written, sorted by (track, bar, onset_q, pitch)."""

MAX_NOTES = 96
"""Bound on the notes of one track in one bar."""


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
    first_pitch: int | None = None
    """Pitch of the first note written (the lowest, where several begin it)."""
    last_pitch: int | None = None
    """Pitch of the last note written (the highest, where several end it)."""
    longest_rest: int | None = None
    """So many bars in a row may stay silent, and not all of them; None for as many as come."""


@dataclass(frozen=True)
class BarPlan:
    """A bar to write."""

    numerator: int = 4
    denominator: int = 4
    tempo_us: int = 500_000
    """Microseconds a quarter note."""


@dataclass(frozen=True)
class Region:
    """Bars `first_bar` .. `end_bar` - 1 of one track, to be written."""

    track: int
    """Index into the plan's tracks."""
    first_bar: int
    end_bar: int


Classes = tuple[tuple[float, frozenset[int]], ...]
"""Pitch classes in force from a place in the bar on (quarter notes), ascending, the first at 0."""


@dataclass(frozen=True)
class Told:
    """Learned controls of a cell, as what would be measured of it; None is "not told"."""

    notes: int | None = None
    polyphony: float | None = None
    """Mean notes an onset."""
    length: float | None = None
    """Mean duration in quarter notes."""
    register: float | None = None
    """Mean pitch."""
    loudness: float | None = None
    """Mean velocity."""

    def names(self) -> tuple[str, ...]:
        """The side channels that are told (musegen/tokens/controls.py)."""
        channels = {"notes": "notes_left"}
        told = [item.name for item in fields(self) if getattr(self, item.name) is not None]
        return tuple(channels.get(name, name) for name in told)


@dataclass(frozen=True, eq=False)
class Alike:
    """A bar that a cell should be like (musegen/likeness.py)."""

    vector: np.ndarray
    """(D,): what the model is told of it, added to the embeddings of the cell's rows."""
    notes: np.ndarray
    """(n, 2) float64: onset in quarter notes after the barline, and pitch; to measure by."""


@dataclass(frozen=True)
class CellRule:
    """What holds in one cell, by construction: the grammar never lets go of it."""

    least_notes: int = 0
    most_notes: int = MAX_NOTES
    pitch_range: tuple[int, int] | None = None
    """(lowest, highest); None for the range of the track."""
    classes: Classes = ()
    """Pitch classes that may begin; empty for all."""
    wished: Classes = ()
    """Pitch classes that are preferred, not required."""
    grid_q: tuple[Fraction, ...] = ()
    """Onsets are multiples of one of these, in quarter notes from the barline; empty for all."""
    max_polyphony: int = 0
    """Notes of the track that may sound at once; 0 for no limit."""
    lock: Literal["", "rhythm", "pitch"] = ""
    """`rhythm`: the seed's notes with other pitches; `pitch`: its pitches at other times."""
    told: Told = Told()
    like: tuple[str, int] | None = None
    """A file, and which of its bars (from 1) the cell should be like."""
    harmony: Mapping[str, tuple[Classes, bool]] = field(default_factory=dict)
    """By kind, `scale` and `chords`: what was asked, and whether it is law; to measure it by."""
    origins: Mapping[str, str] = field(default_factory=dict)
    """For messages: what was typed, by kind of rule."""


@dataclass(frozen=True)
class CompositionPlan:
    """What to write: regions of `tracks`, in the seed's bars and in `bars` behind them."""

    tracks: tuple[TrackPlan, ...]
    bars: tuple[BarPlan, ...]
    """New bars, behind the seed's; may be empty where something of the seed is written anew."""
    seed: Score | None = None
    """The music that is there already; None to write from nothing."""
    seed_bars: tuple[Bar, ...] = ()
    """Its bar grid; the first new bar starts where the last of these ends."""
    regions: tuple[Region, ...] = ()
    """What is written; empty for all tracks in all new bars."""
    rules: Mapping[tuple[int, int], CellRule] = field(default_factory=dict)
    """By (track, bar); cells without one are free."""
    likeness: Mapping[tuple[int, int], Alike] = field(default_factory=dict)
    """By (track, bar): the bar that a written cell should be like."""
    kept: Mapping[tuple[int, int], tuple[int, ...]] = field(default_factory=dict)
    """By (track, bar): which notes of the seed's track stay in a written cell."""
    key: int = 0
    """0 unknown, else 1 + pitch class of the tonic (+ 12 in minor)."""
    style: str = ""
    """One of the preset's style words, or empty."""
    ends: bool = True
    """Whether the piece ends with the last bar asked for (a cadence is in place)."""
    max_notes_per_cell: int = MAX_NOTES
    """Bound on the notes of one track in one bar."""
    bars_after: int = 0
    """So many given bars after a region are shown before it is written."""

    @property
    def num_bars(self) -> int:
        """Bars of the piece, the seed's and the new ones."""
        return len(self.seed_bars) + len(self.bars)

    @cached_property
    def spans(self) -> tuple[Region, ...]:
        """The regions, also where `regions` leaves them to the default."""
        if self.regions:
            return self.regions
        first = len(self.seed_bars)
        return tuple(Region(track, first, self.num_bars) for track in range(len(self.tracks)))

    @cached_property
    def open_cells(self) -> np.ndarray:
        """(bars, tracks) booleans: which cells are written."""
        cells = np.zeros((self.num_bars, len(self.tracks)), dtype=bool)
        for region in self.spans:
            cells[region.first_bar : region.end_bar, region.track] = True
        return cells

    @cached_property
    def written_bars(self) -> tuple[int, ...]:
        """The bars in which something is written, ascending."""
        return tuple(np.flatnonzero(self.open_cells.any(axis=1)).tolist())

    @property
    def continues(self) -> bool:
        """Whether it only writes new bars, all tracks in all of them, without further rules."""
        first = len(self.seed_bars)
        plain = not (self.rules or self.kept or self.bars_after or self.likeness)
        tracks = all(item.first_pitch is None and item.last_pitch is None for item in self.tracks)
        return plain and tracks and not self.open_cells[:first].any() and bool(self.bars)

    def rule(self, track: int, bar: int) -> CellRule:
        """What holds in a cell."""
        return self.rules.get((track, bar), _FREE)

    def seed_notes(self, track: int, bar: int) -> np.ndarray:
        """Indices of the notes of a plan track's seed track that begin in a bar of the seed."""
        seed_track = self.tracks[track].seed_track
        if self.seed is None or seed_track is None or bar >= len(self.seed_bars):
            return np.zeros(0, dtype=np.int64)
        start = self.seed.tracks[seed_track].notes["start_tick"]
        place = self.seed_bars[bar]
        first, end = np.searchsorted(start, (place.start_tick, place.end_tick))
        return np.arange(first, end)


_FREE = CellRule()


@dataclass(frozen=True, eq=False)
class Written:
    """What a guide has written so far."""

    notes: np.ndarray
    """`WRITTEN_DTYPE`, only notes of finished bars."""
    finished_bars: int
    """How many of the plan's `written_bars`, in their order, are complete."""


class PlanGuide(Guide, Protocol):
    """A guide that composes a plan; its `result()` is a `Written`."""

    plan: CompositionPlan

    @property
    def rows_drawn(self) -> int:
        """Rows that the model has drawn."""
        ...

    @property
    def bars_done(self) -> int:
        """How many of the plan's `written_bars` are complete."""
        ...

    @property
    def warnings(self) -> Sequence[str]:
        """What of the seed the preset could not hold, in words."""
        ...
