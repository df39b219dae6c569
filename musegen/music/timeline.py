"""Music in seconds: what goes to a MIDI port, and when, a passage (mostly a bar) at a time.

The player (musegen/music/player.py) takes passages; they are made of a score, or of notes that are
still being written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from musegen.errors import MidiError
from musegen.music.normal import BANK_LSB, BANK_MSB, SUSTAIN, is_words_only, normal_form
from musegen.music.score import Score, Track
from musegen.music.writer import (
    CONTROL,
    DRUM_CHANNEL,
    HEAD,
    MELODIC_CHANNELS,
    OFF,
    ON,
    track_events,
)

__all__ = [
    "CLOCK",
    "CLOCKS_A_QUARTER",
    "Channels",
    "Cue",
    "Passage",
    "TimedNote",
    "looped",
    "note_passage",
    "score_passages",
]

CLOCKS_A_QUARTER = 24
"""MIDI 1.0, timing clock."""

CLOCK = -1
"""The order of a clock: before everything else of its instant; `HEAD` to `ON` follow."""

_LEVELS = (7, 11)
"""Volume and expression."""
_FADED, _AUDIBLE = 20, 40
"""Music that ends below the one is faded out; the last value above the other comes back."""


class TimedNote(NamedTuple):
    """A note on a channel."""

    start_s: float
    duration_s: float
    channel: int
    """0..15; 9 for drums."""
    pitch: int
    velocity: int


class Cue(NamedTuple):
    """A message and its time."""

    time_s: float
    order: int
    """What goes first at one instant: `CLOCK`, then `HEAD` .. `ON` of musegen/music/writer.py."""
    message: Any
    """A `mido.Message`; a note_on is ended by the player."""
    duration_s: float = 0.0
    """Of a note_on."""


@dataclass(frozen=True)
class Passage:
    """A stretch of music that is known as a whole."""

    bar: int
    """Which bar of the piece, from 1."""
    start_s: float
    end_s: float
    """Where the next one begins."""
    cues: tuple[Cue, ...]
    """From `start_s` on, before `end_s`; notes may sound longer."""
    setup: tuple[Any, ...] = ()
    """Messages that set up channels: sent before anything else of the passage."""
    start_q: float = 0.0
    """Quarter notes from the beginning of the piece, for the song position."""

    def later(self, seconds: float) -> Passage:
        """The same, played later."""
        return replace(
            self,
            start_s=self.start_s + seconds,
            end_s=self.end_s + seconds,
            cues=tuple(cue._replace(time_s=cue.time_s + seconds) for cue in self.cues),
        )


class Channels:
    """Which track plays on which of the 16 channels of a port, drums on channel 10 (index 9).

    A track beyond the 15th shares the channel of one that has the same program; where there is
    none it is not played, and its name is in `unplayed`.
    """

    def __init__(self) -> None:
        self._free = list(MELODIC_CHANNELS)
        self._programs: dict[int, tuple[int, int]] = {}
        self._named: dict[tuple[str, bool], int] = {}
        self.unplayed: list[str] = []

    @property
    def used(self) -> tuple[int, ...]:
        """The channels that are taken."""
        return tuple(sorted(self._programs))

    def take(self, name: str, program: int, is_drum: bool, bank: int = 0) -> int | None:
        """A channel for one more track; None where none is left."""
        if is_drum:
            channel: int | None = DRUM_CHANNEL
            if self._programs.setdefault(DRUM_CHANNEL, (program, bank)) != (program, bank):
                channel = None
        elif self._free:
            channel = self._free.pop(0)
            self._programs[channel] = program, bank
        else:
            same = (c for c, sound in self._programs.items() if sound == (program, bank))
            channel = next((c for c in same if c != DRUM_CHANNEL), None)
        if channel is None:
            self.unplayed.append(name)
        else:
            self._named[name, is_drum] = channel
        return channel

    def resume(self, name: str, program: int, is_drum: bool) -> tuple[int | None, tuple[Any, ...]]:
        """The channel where a track of this name plays already, once, else a new one; its setup."""
        from mido import Message

        channel = self._named.pop((name, is_drum), None)
        if channel is not None and self._programs[channel][0] == program:
            return channel, ()
        if channel is None:
            channel = self.take(name, program, is_drum)
            self._named.pop((name, is_drum), None)
        if channel is None:
            return None, ()
        return channel, (Message("program_change", channel=channel, program=program),)

    def sounds(self, channel: int, program: int) -> None:
        """Notes the program that a channel has changed to."""
        self._programs[channel] = program, self._programs[channel][1]


def note_passage(
    bar: int,
    start_s: float,
    end_s: float,
    quarter_s: float,
    notes: Iterable[TimedNote],
    setup: Iterable[Any] = (),
) -> Passage:
    """A bar of notes in an even tempo.

    Args:
        bar: its number in the piece, from 1.
        start_s, end_s: where it and the next one begin.
        quarter_s: seconds a quarter note.
        notes: those that begin in it.
        setup: messages that set up channels, program changes.
    """
    clocks = np.arange(0, end_s - start_s - 1e-6, quarter_s / CLOCKS_A_QUARTER)
    cues = [*_clock_cues((start_s + clocks).tolist()), *map(_note_cue, notes)]
    return Passage(bar, start_s, end_s, _in_order(cues), tuple(setup))


def score_passages(
    score: Score, channels: Channels, first_bar: int = 1, start_q: float = 0.0
) -> Iterator[Passage]:
    """The bars of a score, one after another, from tick 0.

    At its end pedals are up, bends centred, and a fade-out is taken back, so that what is played
    next is heard as it is meant.

    Args:
        score: what to play; its tick 0 is second 0.
        channels: takes a channel for each track.
        first_bar: the number of its first bar, for messages.
        start_q: where that is in a longer piece, in quarter notes, for the song position.

    Raises:
        MidiError: there are no notes in it.
    """
    score, _ = normal_form(score)
    if not score.num_notes:
        raise MidiError("no notes to play")
    seconds = _clock_of(score)
    bars = score.bars()
    lines = seconds([*(bar.start_tick for bar in bars), bars[-1].end_tick])
    setup: list[Any] = []
    cues: list[Cue] = []
    for track in score.tracks:
        if is_words_only(track):
            continue
        channel = channels.take(track.name, track.program, track.is_drum, track.bank)
        if channel is not None:
            setup += _setup(track, channel)
            cues += _track_cues(score, track, channel, seconds)
            cues += _released(track, channel, float(lines[-1]))
            if track.program_changes:
                channels.sounds(channel, track.program_changes[-1].program)
    cues.sort(key=lambda cue: cue[:2])
    return _cut(score, cues, tuple(setup), (first_bar, start_q), seconds, lines)


def _cut(
    score: Score,
    cues: list[Cue],
    setup: tuple[Any, ...],
    begin: tuple[int, float],
    seconds: Callable[[Any], np.ndarray],
    lines: np.ndarray,
) -> Iterator[Passage]:
    """Cues by bar; the clocks are made when their bar's turn comes."""
    bars = score.bars()
    places = np.searchsorted([cue.time_s for cue in cues], lines).tolist()
    places[-1] = (
        len(cues)
        if not cues
        else int(np.searchsorted([cue.time_s for cue in cues], lines[-1], side="right"))
    )
    per_tick = CLOCKS_A_QUARTER / score.ppq
    for index, bar in enumerate(bars):
        first, end = np.ceil(np.array([bar.start_tick, bar.end_tick]) * per_tick - 1e-9)
        clocks = _clock_cues(seconds(np.arange(first, end) / per_tick).tolist())
        own = cues[places[index] : places[index + 1]]
        yield Passage(
            begin[0] + index,
            float(lines[index]),
            float(lines[index + 1]),
            _in_order([*clocks, *own]),
            setup if index == 0 else (),
            begin[1] + bar.start_tick / score.ppq,
        )


def looped(passages: Sequence[Passage]) -> Iterator[Passage]:
    """The same passages again and again, without end; nothing for none."""
    length_s = passages[-1].end_s - passages[0].start_s if passages else 0.0
    turn = 0
    while passages:
        for passage in passages:
            yield passage.later(turn * length_s)
        turn += 1


def _clock_of(score: Score) -> Callable[[Any], np.ndarray]:
    """Ticks to seconds through the tempo map, for whole arrays."""
    ticks = np.array([tempo.tick for tempo in score.tempos], dtype=np.float64)
    tick_s = np.array([tempo.tempo_us for tempo in score.tempos]) / (score.ppq * 1e6)
    starts_s = np.concatenate(([0.0], np.cumsum(np.diff(ticks) * tick_s[:-1])))

    def seconds(at: Any) -> np.ndarray:
        at = np.asarray(at, dtype=np.float64)
        index = np.searchsorted(ticks, at, side="right") - 1
        return starts_s[index] + (at - ticks[index]) * tick_s[index]

    return seconds


def _setup(track: Track, channel: int) -> list[Any]:
    """Bank and program: always said, for the channel may hold the sound of the piece before."""
    from mido import Message

    def control(number: int, value: int) -> Any:
        return Message("control_change", channel=channel, control=number, value=value)

    return [
        control(BANK_MSB, track.bank >> 7),
        control(BANK_LSB, track.bank & 127),
        Message("program_change", channel=channel, program=track.program),
    ]


def _track_cues(
    score: Score, track: Track, channel: int, seconds: Callable[[Any], np.ndarray]
) -> list[Cue]:
    events = [
        event
        for event in track_events(score, track, (0, channel), False)
        if event[1] not in (HEAD, OFF, ON) and not event[3].is_meta
    ]
    times = seconds([event[0] for event in events]).tolist()
    cues = [Cue(time, event[1], event[3]) for time, event in zip(times, events, strict=True)]
    start = track.notes["start_tick"].astype(np.int64)
    starts = seconds(start)
    lengths = seconds(start + track.notes["duration_tick"]) - starts
    for onset, length, pitch, velocity in zip(
        starts.tolist(),
        lengths.tolist(),
        track.notes["pitch"].tolist(),
        track.notes["velocity"].tolist(),
        strict=True,
    ):
        cues.append(_note_cue(TimedNote(onset, length, channel, pitch, velocity)))
    return cues


def _released(track: Track, channel: int, time_s: float) -> list[Cue]:
    """What undoes the last state of a track's controllers, where it would colour other music."""
    from mido import Message

    def last(number: int) -> np.ndarray:
        return track.controls["value"][track.controls["number"] == number]

    messages = []
    if len(last(SUSTAIN)) and last(SUSTAIN)[-1]:
        messages.append(Message("control_change", channel=channel, control=SUSTAIN, value=0))
    for number in _LEVELS:
        values = last(number)
        heard = values[values >= _AUDIBLE]
        if len(heard) and values[-1] < _FADED:
            messages.append(
                Message("control_change", channel=channel, control=number, value=int(heard[-1]))
            )
    if len(track.bends) and track.bends["value"][-1]:
        messages.append(Message("pitchwheel", channel=channel, pitch=0))
    return [Cue(time_s, CONTROL, message) for message in messages]


def _note_cue(note: TimedNote) -> Cue:
    from mido import Message

    message = Message(
        "note_on", channel=note.channel, note=note.pitch, velocity=max(1, note.velocity)
    )
    return Cue(note.start_s, ON, message, note.duration_s)


def _clock_cues(times_s: Iterable[float]) -> list[Cue]:
    from mido import Message

    message = Message("clock")
    return [Cue(time, CLOCK, message) for time in times_s]


def _in_order(cues: Iterable[Cue]) -> tuple[Cue, ...]:
    return tuple(sorted(cues, key=lambda cue: cue[:2]))
