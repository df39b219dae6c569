"""What the tracks of a MIDI file do on its channels, and how that becomes `Track`s.

In a file the state of an instrument belongs to a channel, which tracks may share; in a `Score` it
belongs to the track. Here the one is turned into the other without a change to the sound.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from musegen.music.instruments import program_name
from musegen.music.normal import BANK_LSB, BANK_MSB
from musegen.music.score import (
    BEND_DTYPE,
    CHANNEL_PRESSURE,
    CONTROL_DTYPE,
    NOTE_DTYPE,
    PRESSURE_DTYPE,
    ProgramChange,
    Text,
    Track,
)
from musegen.music.smf import MAX_EVENTS, MAX_TICK, Findings, RawTrack

DRUM_CHANNEL = 9
"""Channel 10 as musicians count: General MIDI's drums."""

HANGING_QUARTERS = 4
"""A note that is never switched off ends with its track, or after so many quarter notes."""

PORT_META = 0x21
NOTE_OFF, NOTE_ON, KEY_PRESSURE, CONTROL, PROGRAM, PRESSURE, BEND = range(0x8, 0xF)
SOUND_OFF, NOTES_OFF = 120, 123


@dataclass(eq=False)
class Part:
    """What one track chunk does on one channel."""

    track: int
    place: tuple[int, int]
    """Port and channel."""
    notes: np.ndarray
    events: np.ndarray
    """Packed as in `RawTrack.events`, without the notes."""
    name: str = ""

    @property
    def is_drum(self) -> bool:
        return self.place[1] == DRUM_CHANNEL

    @property
    def has_program(self) -> bool:
        return bool(np.any(_kind(self.events) == PROGRAM))

    @property
    def first_tick(self) -> int:
        return int(self.notes["start_tick"].min()) if len(self.notes) else MAX_TICK

    def program(self) -> tuple[int, int]:
        """The program of its first note, and the index of the event that chose it (-1: none)."""
        chosen = np.flatnonzero(
            (_kind(self.events) == PROGRAM) & (self.events >> 24 <= self.first_tick)
        )
        if not len(chosen):
            return 0, -1
        return int(self.events[chosen[-1]] >> 8 & 0x7F), int(chosen[-1])

    def instrument_name(self) -> str:
        return program_name(self.program()[0], self.is_drum)


def _kind(events: np.ndarray) -> np.ndarray:
    return events >> 20 & 0xF


def read_parts(raw: RawTrack, index: int, ppq: int, findings: Findings) -> list[Part]:
    """The parts of one chunk, by channel."""
    port = next((data[0] for _, kind, data in raw.metas if kind == PORT_META and data), 0)
    channels = raw.events >> 16 & 0xF
    parts = []
    for channel in np.unique(channels).tolist():
        events = raw.events[channels == channel]
        notes = _paired(events, raw.end_tick, ppq, findings)
        parts.append(Part(index, (port, channel), notes, events[_kind(events) > NOTE_ON]))
    return parts


def _paired(events: np.ndarray, end_tick: int, ppq: int, findings: Findings) -> np.ndarray:
    """Notes of one channel: each note-off ends the oldest note of its pitch that still sounds."""
    silence = (_kind(events) == CONTROL) & np.isin(events >> 8 & 0x7F, (SOUND_OFF, NOTES_OFF))
    silenced = events[silence] >> 24
    events = events[_kind(events) <= NOTE_ON]
    pitch, value = events >> 8 & 0x7F, events & 0x7F
    is_on = (_kind(events) == NOTE_ON) & (value > 0)
    order = np.argsort(pitch, kind="stable")
    pitch, is_on, tick, value = pitch[order], is_on[order], (events >> 24)[order], value[order]
    # Notes that sound after each event, counted within the pitch: pitches start afresh at 0.
    steps = np.where(is_on, 1, -1)
    sounding = np.cumsum(steps)
    group_start = np.flatnonzero(np.diff(pitch, prepend=-1))
    base = np.repeat(
        np.concatenate([[0], sounding[group_start[1:] - 1]])[: len(group_start)],
        np.diff(np.append(group_start, len(pitch))),
    )
    depth = sounding - base
    # A note-off that takes the depth to a new low below 0 has nothing to end: an orphan.
    span = len(pitch) + 1
    low = np.minimum.accumulate(np.minimum(depth, 0) - pitch * span) + pitch * span
    before = np.append(0, low[:-1])
    before[group_start] = 0
    orphan = ~is_on & (low < before)
    findings.add("a note-off without a note was dropped", int(orphan.sum()))
    on, off = np.flatnonzero(is_on), np.flatnonzero(~is_on & ~orphan)
    # The k-th note of a pitch ends with its k-th note-off.
    on_rank, off_rank = _rank(pitch[on]), _rank(pitch[off])
    on_code, off_code = pitch[on] * span + on_rank, pitch[off] * span + off_rank
    found = np.searchsorted(off_code, on_code)
    matched = np.zeros(len(on), bool)
    inside = found < len(off_code)
    matched[inside] = off_code[found[inside]] == on_code[inside]
    start = tick[on]
    end = np.minimum(end_tick, start + HANGING_QUARTERS * ppq)
    end = np.where(end > start, end, start + ppq)
    end[matched] = tick[off[found[matched]]]
    hanging = ~matched
    if hanging.any() and len(silenced):
        stop = np.searchsorted(silenced, start, side="right")
        has_stop = hanging & (stop < len(silenced))
        end[has_stop] = silenced[stop[has_stop]]
        hanging &= ~has_stop
    findings.add("a hanging note was closed", int(hanging.sum()))
    release = value[off]
    speaks = (_kind(events)[order][off] == NOTE_OFF) & (release != 64) & (release != 0)
    findings.add("a release velocity was dropped", int(speaks.sum()))
    notes = np.empty(len(on), NOTE_DTYPE)
    notes["start_tick"], notes["duration_tick"] = start, end - start
    notes["pitch"], notes["velocity"] = pitch[on], value[on]
    return notes


def _rank(sorted_values: np.ndarray) -> np.ndarray:
    """Of each value in a sorted array, how many equal ones stand before it."""
    if not len(sorted_values):
        return sorted_values
    first = np.flatnonzero(np.diff(sorted_values, prepend=sorted_values[0] - 1))
    return np.arange(len(sorted_values)) - np.repeat(
        first, np.diff(np.append(first, len(sorted_values)))
    )


def settle_channels(kept: list[Part], setup: list[Part], findings: Findings) -> None:
    """Gives each part what others say on its channel.

    A part without a program change of its own plays with the program, controllers and bends of
    the channel, whichever track sends them; parts that are no tracks send theirs to all that play
    on their channel. The drum channel stays shared, so there only the program is passed on.
    """
    at_place: dict[tuple[int, int], list[Part]] = {}
    for part in kept:
        at_place.setdefault(part.place, []).append(part)
    for part in setup:
        if part.place not in at_place:
            findings.add("a channel without notes was dropped")
    given: list[tuple[Part, np.ndarray]] = []
    total = 0
    for place, sharers in at_place.items():
        silent = [part.events for part in setup if part.place == place]
        for part in sharers:
            donors = list(silent) if not part.is_drum or part is sharers[0] else []
            if not part.has_program:
                others = [other for other in sharers if other is not part]
                if part.is_drum:
                    donors += [other.events[_kind(other.events) == PROGRAM] for other in others[:1]]
                else:
                    donors += [other.events for other in others]
            donors = [events for events in donors if len(events)]
            if donors:
                total += sum(map(len, donors))
                merged = np.concatenate([*donors, part.events])
                given.append((part, merged[np.argsort(merged >> 24, kind="stable")]))
            if total > MAX_EVENTS:
                findings.add("so many tracks share channels that their controllers were kept apart")
                return
    for part, events in given:
        findings.add("a track shares its channel with others and got a copy of what it is sent")
        part.events = events


def track_of(part: Part, lyrics: tuple[Text, ...], findings: Findings) -> Track:
    """The track that a part becomes."""
    events = part.events
    kind, tick = _kind(events), events >> 24
    first, second = events >> 8 & 0x7F, events & 0x7F
    program, chosen = part.program()
    if chosen < 0 and not part.is_drum:
        findings.add("a track without a program change plays the piano")
    if chosen >= 0 and tick[chosen] > 0:
        findings.add("a program change before the first note was moved to the beginning")
    index = np.arange(len(events))
    is_control = kind == CONTROL
    bank = 0
    for select, shift in ((BANK_MSB, 7), (BANK_LSB, 0)):
        selects = is_control & (first == select) & (index < chosen)
        if selects.any():
            bank |= int(second[selects][-1]) << shift
        is_control &= ~selects
    controls = np.empty(int(is_control.sum()), CONTROL_DTYPE)
    controls["tick"], controls["number"] = tick[is_control], first[is_control]
    controls["value"] = second[is_control]
    is_bend = kind == BEND
    bends = np.empty(int(is_bend.sum()), BEND_DTYPE)
    bends["tick"], bends["value"] = tick[is_bend], (second << 7 | first)[is_bend] - 8192
    is_pressure = (kind == PRESSURE) | (kind == KEY_PRESSURE)
    pressures = np.empty(int(is_pressure.sum()), PRESSURE_DTYPE)
    whole = kind[is_pressure] == PRESSURE
    pressures["tick"] = tick[is_pressure]
    pressures["pitch"] = np.where(whole, CHANNEL_PRESSURE, first[is_pressure])
    pressures["value"] = np.where(whole, first[is_pressure], second[is_pressure])
    later = np.flatnonzero((kind == PROGRAM) & (index > chosen))
    changes = zip(tick[later].tolist(), first[later].tolist(), strict=True)
    return Track(
        notes=part.notes,
        program=program,
        is_drum=part.is_drum,
        name=part.name,
        bank=bank,
        controls=controls,
        bends=bends,
        program_changes=tuple(ProgramChange(*change) for change in changes),
        lyrics=lyrics,
        pressures=pressures,
    )
