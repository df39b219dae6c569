"""The score: what every other part of musegen means by "music".

A `Score` is immutable data in ticks. Notes, controllers and bends live in numpy structured
arrays (a column a field), so that a symphony costs a few hundred kilobytes and encoding it is
vector arithmetic. Everything else is a handful of small tuples.

Units are in the names: `*_tick` in ticks (`ppq` of them a quarter note), `*_us` in microseconds a
quarter note, `*_s` in seconds, `*_bpm` in quarter notes a minute.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

NOTE_DTYPE = np.dtype(
    [("start_tick", "<i4"), ("duration_tick", "<i4"), ("pitch", "u1"), ("velocity", "u1")]
)
"""A column a field; pitch 0..127 (60 is middle C), velocity 1..127, duration at least 1 tick."""

CONTROL_DTYPE = np.dtype([("tick", "<i4"), ("number", "u1"), ("value", "u1")])
"""Control changes; number 64 is the sustain pedal."""

BEND_DTYPE = np.dtype([("tick", "<i4"), ("value", "<i2")])
"""Pitch bends, -8192..8191."""

PRESSURE_DTYPE = np.dtype([("tick", "<i4"), ("pitch", "u1"), ("value", "u1")])
"""Aftertouch; `pitch` names a key, or is `CHANNEL_PRESSURE` for the whole channel."""

CHANNEL_PRESSURE = 255

DEFAULT_TEMPO_US = 500_000
"""Microseconds a quarter note where a file names no tempo: 120 bpm (Standard MIDI Files 1.0)."""

DEFAULT_PPQ = 480
"""Ticks a quarter note of what we write: divisible by 2, 3, 4, 5, 6, 8, 10, 12, 16."""


class Note(NamedTuple):
    """One note, for people: `Track.notes` holds the same as columns."""

    start_tick: int
    duration_tick: int
    pitch: int
    velocity: int


class Tempo(NamedTuple):
    """From `tick` on, a quarter note lasts `tempo_us` microseconds."""

    tick: int
    tempo_us: int


class Meter(NamedTuple):
    """From `tick` on, a bar is `numerator` notes of 1/`denominator`."""

    tick: int
    numerator: int
    denominator: int


class Key(NamedTuple):
    """From `tick` on: `fifths` sharps (negative: flats), -7..7; `minor` says the mode."""

    tick: int
    fifths: int
    minor: bool


class Text(NamedTuple):
    """A text at a tick: a marker, a lyric, a comment."""

    tick: int
    text: str


class ProgramChange(NamedTuple):
    """A later change of sound within a track; the first one is `Track.program`."""

    tick: int
    program: int


class Bar(NamedTuple):
    """One bar of a score's bar grid, `end_tick` exclusive."""

    start_tick: int
    end_tick: int
    numerator: int
    denominator: int


def bars_until(ticks: int, length: float) -> int:
    """The smallest number of bars of `length` ticks, each barline rounded, that reach `ticks`."""
    count = max(0, math.ceil(ticks / length - 1e-9))
    return count - 1 if count and round((count - 1) * length) >= ticks else count


def note_array(notes: Iterable[tuple[int, int, int, int]] = ()) -> np.ndarray:
    """Notes as a structured array of `NOTE_DTYPE`, shape (N,)."""
    return np.array([tuple(note) for note in notes], dtype=NOTE_DTYPE)


def _frozen(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    array = np.ascontiguousarray(array, dtype=dtype)
    view = array.view()
    view.flags.writeable = False
    return view


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """One instrument's part.

    `notes` has dtype `NOTE_DTYPE` and is kept sorted by (start_tick, pitch); `controls` has
    `CONTROL_DTYPE`, `bends` `BEND_DTYPE`. `program` is 0..127 (General MIDI, counted from 0);
    with `is_drum` it names a drum kit and the part goes to channel 10.
    """

    notes: np.ndarray = field(default_factory=note_array)
    program: int = 0
    is_drum: bool = False
    name: str = ""
    bank: int = 0
    """14-bit bank number (MSB * 128 + LSB); 0 where the file selects none."""
    controls: np.ndarray = field(default_factory=lambda: np.empty(0, CONTROL_DTYPE))
    bends: np.ndarray = field(default_factory=lambda: np.empty(0, BEND_DTYPE))
    program_changes: tuple[ProgramChange, ...] = ()
    lyrics: tuple[Text, ...] = ()
    pressures: np.ndarray = field(default_factory=lambda: np.empty(0, PRESSURE_DTYPE))

    def __post_init__(self) -> None:
        notes = _frozen(self.notes, NOTE_DTYPE)
        order = np.lexsort((notes["pitch"], notes["start_tick"]))
        if len(notes) and np.any(order[1:] < order[:-1]):
            notes = _frozen(notes[order], NOTE_DTYPE)
        object.__setattr__(self, "notes", notes)
        object.__setattr__(self, "controls", _frozen(self.controls, CONTROL_DTYPE))
        object.__setattr__(self, "bends", _frozen(self.bends, BEND_DTYPE))
        object.__setattr__(self, "pressures", _frozen(self.pressures, PRESSURE_DTYPE))

    def __iter__(self) -> Iterator[Note]:
        for row in self.notes.tolist():
            yield Note(*row)

    def __len__(self) -> int:
        return len(self.notes)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Track):
            return NotImplemented
        return (
            (self.program, self.is_drum, self.name, self.bank)
            == (other.program, other.is_drum, other.name, other.bank)
            and (self.program_changes, self.lyrics) == (other.program_changes, other.lyrics)
            and np.array_equal(self.notes, other.notes)
            and np.array_equal(self.controls, other.controls)
            and np.array_equal(self.bends, other.bends)
            and np.array_equal(self.pressures, other.pressures)
        )

    __hash__ = None  # type: ignore[assignment]

    @property
    def end_tick(self) -> int:
        """Where the last note ends; 0 without notes."""
        if not len(self.notes):
            return 0
        return int(np.max(self.notes["start_tick"] + self.notes["duration_tick"]))


@dataclass(frozen=True, slots=True)
class Score:
    """A piece of music: tracks over one tempo map, one list of meters, keys and markers.

    `tempos` and `meters` are sorted and never empty, their first entry at tick 0 (the defaults of
    Standard MIDI Files, 120 bpm and 4/4, are filled in). `keys` and `markers` may be empty.
    """

    ppq: int = DEFAULT_PPQ
    tracks: tuple[Track, ...] = ()
    tempos: tuple[Tempo, ...] = (Tempo(0, DEFAULT_TEMPO_US),)
    meters: tuple[Meter, ...] = (Meter(0, 4, 4),)
    keys: tuple[Key, ...] = ()
    markers: tuple[Text, ...] = ()
    title: str = ""
    comments: tuple[Text, ...] = ()
    """Text meta events of the conductor track: provenance lives here."""
    copyright: str = ""
    length_tick: int = 0
    """The piece lasts at least so long; 0 where it ends with the bar of its last event.

    It keeps the silent bars at the end that a composer asked for or that a file holds.
    """

    def __post_init__(self) -> None:
        def settled(items: Iterable, first) -> tuple:
            latest = {item[0]: item for item in items}  # of several at one tick, the last one holds
            if 0 not in latest:
                latest[0] = first
            return tuple(latest[tick] for tick in sorted(latest))

        object.__setattr__(self, "tracks", tuple(self.tracks))
        object.__setattr__(self, "tempos", settled(self.tempos, Tempo(0, DEFAULT_TEMPO_US)))
        object.__setattr__(self, "meters", settled(self.meters, Meter(0, 4, 4)))
        object.__setattr__(self, "keys", tuple(sorted(self.keys, key=lambda key: key.tick)))
        object.__setattr__(self, "markers", tuple(sorted(self.markers, key=lambda text: text.tick)))

    @property
    def end_tick(self) -> int:
        """Where the last note ends; 0 without notes."""
        return max((track.end_tick for track in self.tracks), default=0)

    @property
    def num_notes(self) -> int:
        return sum(len(track) for track in self.tracks)

    def replace(self, **changes) -> Score:
        """A copy with some fields changed."""
        return replace(self, **changes)

    def bars(self, until_tick: int | None = None) -> list[Bar]:
        """The bar grid from tick 0 to the first barline at or after `until_tick`.

        `until_tick` is `end_tick`, or `length_tick` where that is later, by default. A meter that
        changes inside a bar cuts that bar short, as notation programs do. Bars whose length is no
        whole number of ticks (11/32 at an odd ppq) keep their exact place: each barline is rounded
        by itself, the error never adds up.
        """
        until = max(self.end_tick, self.length_tick) if until_tick is None else until_tick
        bars: list[Bar] = []
        for index, (start, numerator, denominator) in enumerate(self.meters):
            last = index + 1 == len(self.meters)
            stop = until if last else min(self.meters[index + 1].tick, until)
            length = 4 * self.ppq * numerator / denominator
            count = bars_until(stop - start, length) if length > 0 else 0
            for bar in range(count):
                begin = start + round(bar * length)
                end = start + round((bar + 1) * length)
                if not last:
                    end = min(end, self.meters[index + 1].tick)
                if end > begin:
                    bars.append(Bar(begin, end, numerator, denominator))
            if stop >= until and (last or self.meters[index + 1].tick >= until):
                break
        return bars

    def seconds_at(self, tick: int) -> float:
        """Time of a tick in seconds, through the tempo map."""
        seconds = 0.0
        for index, (start, tempo_us) in enumerate(self.tempos):
            stop = self.tempos[index + 1].tick if index + 1 < len(self.tempos) else tick
            if tick <= start:
                break
            seconds += (min(stop, tick) - start) * tempo_us / (self.ppq * 1e6)
        return seconds

    @property
    def duration_s(self) -> float:
        """Seconds from tick 0 to the end of the last note."""
        return self.seconds_at(self.end_tick)
