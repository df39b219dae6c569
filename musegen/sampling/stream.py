"""Finished bars, handed over while the rest is still being written.

`BarStream` watches the guides and tells of each bar once, as an array. `EventStream` makes events
with seconds and names of it, for whoever plays or prints them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple, Protocol

import numpy as np

__all__ = [
    "BarEvent",
    "BarStream",
    "BarTimes",
    "EventStream",
    "NoteEvent",
    "OnBar",
    "OnEvent",
    "TrackFacts",
]

OnBar = Callable[[int, int, np.ndarray], None]
"""`on_bar(sample, bar, notes)`: bar `bar` of piece `sample` is finished, both from 0; its notes as
a structured array (track, bar, onset_q, duration_q, pitch, velocity), times in quarter notes."""


class NoteEvent(NamedTuple):
    """A note of a bar that has just been finished."""

    sample: int
    """Which piece, from 0."""
    bar: int
    """Bar of the piece, from 1."""
    track: int
    """Which of the tracks that are being written, from 0."""
    name: str
    program: int
    """General MIDI from 0; of drums the kit."""
    is_drum: bool
    start_s: float
    """Seconds from the beginning of the piece."""
    duration_s: float
    onset_q: float
    """Quarter notes after the barline."""
    duration_q: float
    pitch: int
    velocity: int

    def to_dict(self) -> dict[str, Any]:
        """Its fields by name, led by `event: note`."""
        return {"event": "note", **self._asdict()}


class BarEvent(NamedTuple):
    """A bar is finished: all its notes, perhaps none, have been told."""

    sample: int
    bar: int
    """Bar of the piece, from 1."""
    start_s: float
    """Seconds from the beginning of the piece, as is `end_s`, where the next bar begins."""
    end_s: float
    quarter_s: float
    """Seconds a quarter note."""
    notes: int
    """How many were told."""

    def to_dict(self) -> dict[str, Any]:
        """Its fields by name, led by `event: bar`."""
        return {"event": "bar", **self._asdict()}


OnEvent = Callable[[NoteEvent | BarEvent], None]
"""`on_event(event)`: the notes of a bar in the order of time, then the bar; then the next bar."""


@dataclass(frozen=True)
class BarTimes:
    """When the bars of a piece are, all of them, those that are not being written too."""

    start_s: Sequence[float]
    """Where each bar begins, in seconds, and one more: where the last one ends."""
    quarter_s: Sequence[float]
    """Seconds a quarter note, one a bar; the mean where the tempo changes within the bar."""

    def __post_init__(self) -> None:
        if len(self.start_s) != len(self.quarter_s) + 1:
            raise ValueError(
                f"{len(self.start_s)} barlines for {len(self.quarter_s)} bars; one more is needed"
            )

    def second(self, bar: int, place_q: float) -> float:
        """When something is, `place_q` quarter notes behind the barline of `bar` (from 0).

        It may lie in a later bar, which has a tempo of its own; behind the last bar its tempo goes
        on.
        """
        last = len(self.quarter_s) - 1
        while bar < last:
            length_q = (self.start_s[bar + 1] - self.start_s[bar]) / self.quarter_s[bar]
            if place_q <= length_q:
                break
            place_q -= length_q
            bar += 1
        return self.start_s[bar] + place_q * self.quarter_s[bar]

    @classmethod
    def of(cls, length_q: Sequence[float], quarter_s: Sequence[float]) -> BarTimes:
        """From the length of each bar in quarter notes, and the seconds of a quarter note in it."""
        lengths_s = [quarters * s for quarters, s in zip(length_q, quarter_s, strict=True)]
        return cls(tuple(accumulate(lengths_s, initial=0.0)), tuple(quarter_s))


class TrackFacts(NamedTuple):
    """What an event says of its track."""

    name: str
    program: int
    is_drum: bool


class _Source(Protocol):
    @property
    def bars_done(self) -> int: ...

    def result(self) -> Any: ...


class BarStream:
    """Called after each step of the sampler; calls `on_bar` once for every finished bar.

    `bars` names the bars that are written, in the order in which they are finished, as the column
    `bar` of the notes counts them; by default 0, 1, 2 and so on.
    """

    def __init__(
        self, guides: Sequence[_Source], on_bar: OnBar, bars: Sequence[int] | None = None
    ) -> None:
        self._guides, self._on_bar, self._bars = guides, on_bar, bars
        self._told = [0] * len(guides)

    def __call__(self) -> None:
        """Hands over what has been finished since the last call, in order."""
        for sample, guide in enumerate(self._guides):
            done = guide.bars_done
            if done == self._told[sample]:
                continue
            notes = guide.result().notes
            for index in range(self._told[sample], done):
                bar = index if self._bars is None else self._bars[index]
                self._told[sample] = index + 1
                self._on_bar(sample, bar, notes[notes["bar"] == bar])


class EventStream:
    """An `OnBar` that calls `on_event` for every note of the bar, then for the bar itself."""

    def __init__(self, on_event: OnEvent, times: BarTimes, tracks: Sequence[TrackFacts]) -> None:
        self._on_event, self._times, self._tracks = on_event, times, tracks

    def __call__(self, sample: int, bar: int, notes: np.ndarray) -> None:
        """Tells of one bar, counted from 0 over the whole piece."""
        start_s, end_s = self._times.start_s[bar : bar + 2]
        quarter_s = self._times.quarter_s[bar]
        order = np.lexsort((notes["pitch"], notes["track"], notes["onset_q"]))
        for row in notes[order]:
            track, onset_q, duration_q = (
                row[name].item() for name in ("track", "onset_q", "duration_q")
            )
            begin_s = start_s + onset_q * quarter_s
            silent_s = self._times.second(bar, onset_q + duration_q)
            self._on_event(
                NoteEvent(
                    sample,
                    bar + 1,
                    track,
                    name=self._tracks[track].name,
                    program=self._tracks[track].program,
                    is_drum=self._tracks[track].is_drum,
                    start_s=begin_s,
                    duration_s=silent_s - begin_s,
                    onset_q=onset_q,
                    duration_q=duration_q,
                    pitch=int(row["pitch"]),
                    velocity=int(row["velocity"]),
                )
            )
        self._on_event(BarEvent(sample, bar + 1, start_s, end_s, quarter_s, len(notes)))
