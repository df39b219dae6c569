"""What is wrong with a MIDI file: one small function a line of the checklist.

It reads the bytes with mido, independently of our reader and of `Score`, so that it checks files
and not our idea of them. The checklist (a file that every program opens alike):

1. Format 1, a sensible ppq.
2. Track 0 is the conductor, without channel messages; tempi, meters, markers only there. Every
   end_of_track stands at one barline. Meters change at barlines.
3. One instrument a track, one channel a track, unique names; bank and program at tick 0, before
   the notes. Drums on channel 10, which drum tracks of one kit may share.
4. The conductor's key signatures also in every pitched track.
5. No hanging, orphan, zero-length or overlapping notes; note_off before note_on at one tick;
   velocities from 1; the sustain pedal up at the end.
6. Texts are UTF-8.
"""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from musegen.errors import MidiError
from musegen.music import smf
from musegen.music.files import Source, read_source

DRUM_CHANNEL = 9
SUSTAIN, BANK_SELECTS = 64, (0, 32)
_CONDUCTOR_ONLY = ("set_tempo", "time_signature", "marker", "copyright")


class Defect(NamedTuple):
    """One thing that is wrong; `code` is short and stable, `message` is for people."""

    code: str
    message: str
    track: int = 0
    tick: int = 0


class _Event(NamedTuple):
    tick: int
    message: Any


@dataclass(frozen=True)
class _File:
    format: int
    ppq: int
    tracks: list[list[_Event]]

    @property
    def instruments(self) -> Iterator[tuple[int, list[_Event]]]:
        return ((index, self.tracks[index]) for index in range(1, len(self.tracks)))


def check_midi(source: Source) -> list[Defect]:
    """All defects of a file (a path, bytes or an open binary file), in the checklist's order.

    A file that cannot be read as MIDI has one defect, `unreadable`. Raises `MidiError` where there
    is no such file, or it is larger than what is read at all.
    """
    name, data = read_source(source, smf.MAX_FILE_BYTES)
    try:
        smf.parse(data, name, smf.Findings())  # the limits, before mido takes its time
        file = _read(data)
    except MidiError as error:
        return [Defect("unreadable", str(error))]
    except (OSError, EOFError, ValueError, LookupError, KeyError) as error:
        return [Defect("unreadable", f"{name}: a strict reader refuses it: {error}")]
    return [defect for check in CHECKS for defect in check(file)]


def check_path(path: str | os.PathLike) -> list[Defect]:
    """`check_midi` for a path, where a missing file is a defect as well."""
    try:
        return check_midi(path)
    except MidiError as error:
        return [Defect("unreadable", str(error))]


def _read(data: bytes) -> _File:
    import mido
    from mido.midifiles.meta import KeySignatureError

    # Latin-1 keeps every byte of a text, so that the check of UTF-8 can look at them.
    try:
        midi = mido.MidiFile(file=io.BytesIO(data), charset="latin-1", clip=False)
    except KeySignatureError as error:  # a bare Exception of mido's
        raise ValueError(error) from error
    tracks = []
    for track in midi.tracks:
        tick, events = 0, []
        for message in track:
            tick += message.time
            events.append(_Event(tick, message))
        tracks.append(events)
    return _File(midi.type, midi.ticks_per_beat, tracks)


# --- 1 --------------------------------------------------------------------------------------------


def _format(file: _File) -> Iterator[Defect]:
    if file.format != 1:
        yield Defect("format", f"format {file.format}; sequencers expect format 1")


def _ppq(file: _File) -> Iterator[Defect]:
    if not 24 <= file.ppq <= 32767:
        yield Defect("ppq", f"{file.ppq} ticks a quarter note; 24 to 32767 is sensible, 480 usual")


# --- 2 --------------------------------------------------------------------------------------------


def _conductor(file: _File) -> Iterator[Defect]:
    if not file.tracks:
        yield Defect("conductor", "there are no tracks")
        return
    for tick, message in file.tracks[0]:
        if not message.is_meta:
            text = f"{message.type} in track 0, which is the conductor's"
            yield Defect("conductor", text, 0, tick)
            break
    kinds = {message.type for _, message in file.tracks[0]}
    for kind in ("set_tempo", "time_signature"):
        if kind not in kinds:
            yield Defect("conductor", f"no {kind} in track 0, which is the conductor's")
    for index, track in file.instruments:
        for tick, message in track:
            if message.type in _CONDUCTOR_ONLY:
                text = f"{message.type} belongs into track 0, the conductor's"
                yield Defect("conductor", text, index, tick)
                break


def _barlines(file: _File) -> tuple[list[tuple[int, float]], list[int]]:
    """Meters as (tick, bar length in ticks), and the ticks of those that are off a barline."""
    meters: dict[int, float] = {0: 4.0 * file.ppq}
    for tick, message in file.tracks[0] if file.tracks else ():
        if message.type == "time_signature" and message.numerator:
            meters[tick] = 4 * file.ppq * message.numerator / message.denominator
    grid, astray = sorted(meters.items()), []
    for (start, length), (tick, _) in itertools.pairwise(grid):
        if not _on_barline(tick - start, length):
            astray.append(tick)
    return grid, astray


def _on_barline(ticks: int, length: float) -> bool:
    return abs(ticks - round(ticks / length) * length) <= 0.5


def _meters(file: _File) -> Iterator[Defect]:
    for tick in _barlines(file)[1]:
        yield Defect("meter", "the meter changes inside a bar", 0, tick)
    for tick, message in file.tracks[0] if file.tracks else ():
        if message.type == "time_signature" and not message.numerator:
            yield Defect("meter", f"the meter 0/{message.denominator} has no beats", 0, tick)


def _ends(file: _File) -> Iterator[Defect]:
    ends = []
    for index, track in enumerate(file.tracks):
        if not track or track[-1].message.type != "end_of_track":
            yield Defect("end", "no end_of_track", index)
        else:
            ends.append((track[-1].tick, index))
    if not ends:
        return
    last = max(ends)[0]
    for tick, index in ends:
        if tick != last:
            yield Defect("end", f"ends at tick {tick}, other tracks at {last}", index, tick)
    start, length = max(meter for meter in _barlines(file)[0] if meter[0] <= last)
    if not _on_barline(last - start, length):
        yield Defect("end", f"ends at tick {last}, which is no barline", 0, last)


# --- 3 --------------------------------------------------------------------------------------------


def _channels_of(track: list[_Event]) -> list[int]:
    return sorted({message.channel for _, message in track if hasattr(message, "channel")})


def _port_of(track: list[_Event]) -> int:
    return next((message.port for _, message in track if message.type == "midi_port"), 0)


def _kit_of(track: list[_Event]) -> tuple:
    """Bank and program that a track begins with."""
    setup: list[Any] = []
    for _, message in track:
        if message.type == "control_change" and message.control in BANK_SELECTS:
            setup.append((message.control, message.value))
        elif message.type == "program_change":
            return (*setup, message.program)
        elif message.type == "note_on":
            break
    return ()


def _channels(file: _File) -> Iterator[Defect]:
    users: dict[tuple[int, int], list[int]] = {}
    for index, track in file.instruments:
        channels = _channels_of(track)
        if len(channels) > 1:
            listed = ", ".join(str(channel + 1) for channel in channels)
            yield Defect("channel", f"uses several channels: {listed}", index)
        for channel in channels:
            users.setdefault((_port_of(track), channel), []).append(index)
    for (_, channel), tracks in users.items():
        kits = {_kit_of(file.tracks[index]) for index in tracks}
        if len(tracks) > 1 and (channel != DRUM_CHANNEL or len(kits) > 1):
            listed = ", ".join(map(str, tracks))
            text = f"channel {channel + 1} is shared by tracks {listed}"
            yield Defect("channel", text, tracks[1])


def _names(file: _File) -> Iterator[Defect]:
    seen: dict[str, int] = {}
    for index, track in file.instruments:
        names = [message.name for _, message in track if message.type == "track_name"]
        if not names or not names[0].strip():
            yield Defect("name", "has no name", index)
        elif names[0] in seen:
            text = f"has the name of track {seen[names[0]]}, {_shown(names[0])!r}"
            yield Defect("name", text, index)
        else:
            seen[names[0]] = index


def _shown(text: str) -> str:
    return text.encode("latin-1").decode("utf-8", "replace")


def _programs(file: _File) -> Iterator[Defect]:
    for index, track in file.instruments:
        first = next((message for _, message in track if message.type == "note_on"), None)
        program = next((event for event in track if event.message.type == "program_change"), None)
        if program is None:
            if first is not None:
                yield Defect("program", "no program change", index)
            continue
        at = track.index(program)
        if program.tick:
            yield Defect(
                "program", "the first program change is not at tick 0", index, program.tick
            )
        elif any(event.message.type == "note_on" for event in track[:at]):
            yield Defect("program", "notes before the program change", index, program.tick)


# --- 4 --------------------------------------------------------------------------------------------


def _keys_of(track: list[_Event]) -> list[tuple[int, str]]:
    return [(tick, message.key) for tick, message in track if message.type == "key_signature"]


def _keys(file: _File) -> Iterator[Defect]:
    expected = _keys_of(file.tracks[0]) if file.tracks else []
    for index, track in file.instruments:
        if DRUM_CHANNEL in _channels_of(track):
            continue
        found = _keys_of(track)
        if found != expected:
            text = f"key signatures {found or 'missing'}, the conductor has {expected or 'none'}"
            yield Defect("key", text, index)


# --- 5 --------------------------------------------------------------------------------------------


def _notes(file: _File) -> Iterator[Defect]:
    sounding: dict[tuple[int, int, int], tuple[int, int]] = {}
    ports = [_port_of(track) for track in file.tracks]
    merged = []
    for index, track in enumerate(file.tracks):
        begun: dict[tuple[int, int], int] = {}
        for number, (tick, message) in enumerate(track):
            if message.type not in ("note_on", "note_off"):
                continue
            place = message.channel, message.note
            is_on = message.type == "note_on" and message.velocity > 0
            # Drum tracks share a channel: at one tick, what began before it ends first.
            first = message.channel == DRUM_CHANNEL and not is_on and begun.get(place, tick) < tick
            begun[place] = tick if is_on else begun.get(place, tick)
            merged.append(((tick, not first, index, number), message))
    merged.sort(key=lambda event: event[0])
    for (tick, _, index, _), message in merged:
        key = (ports[index], message.channel, message.note)
        what = f"pitch {message.note}"
        if message.type == "note_on" and message.velocity:
            if key in sounding:
                yield Defect("overlap", f"{what} begins while it sounds", index, tick)
            sounding[key] = (tick, index)
        elif key not in sounding:
            yield Defect("orphan", f"{what} is switched off, but does not sound", index, tick)
        else:
            start, _ = sounding.pop(key)
            if start == tick:
                yield Defect("zero_length", f"{what} has no length", index, tick)
    for (_, _, pitch), (start, index) in sounding.items():
        yield Defect("hanging", f"pitch {pitch} is never switched off", index, start)


def _order(file: _File) -> Iterator[Defect]:
    for index, track in file.instruments:
        begun, at = False, -1
        for tick, message in track:
            if tick != at:
                begun, at = False, tick
            if message.type == "note_on" and message.velocity:
                begun = True
            elif begun and message.type in ("note_off", "note_on"):
                yield Defect("order", "a note_off stands after a note_on of its tick", index, tick)
                break


def _velocities(file: _File) -> Iterator[Defect]:
    for index, track in enumerate(file.tracks):
        for tick, message in track:
            if message.type == "note_on" and not message.velocity:
                text = "note_on of velocity 0 in place of a note_off"
                yield Defect("velocity", text, index, tick)
                break


def _sustain(file: _File) -> Iterator[Defect]:
    pedals: dict[tuple[int, int], tuple[int, int]] = {}
    for index, track in enumerate(file.tracks):
        for tick, message in track:
            if message.type == "control_change" and message.control == SUSTAIN:
                pedals[index, message.channel] = (tick, message.value)
    for (index, _), (tick, value) in pedals.items():
        if value >= 64:
            yield Defect("sustain", "the sustain pedal is down at the end", index, tick)


# --- 6 --------------------------------------------------------------------------------------------


def _texts(file: _File) -> Iterator[Defect]:
    for index, track in enumerate(file.tracks):
        for tick, message in track:
            text = getattr(message, "text", None) or getattr(message, "name", None)
            if not message.is_meta or not isinstance(text, str):
                continue
            try:
                text.encode("latin-1").decode("utf-8")
            except UnicodeDecodeError:
                kind = message.type
                yield Defect("text", f"the {kind} {text[:40]!r} is not UTF-8", index, tick)


CHECKS: tuple[Callable[[_File], Iterator[Defect]], ...] = (
    _format,
    _ppq,
    _conductor,
    _meters,
    _ends,
    _channels,
    _names,
    _programs,
    _keys,
    _notes,
    _order,
    _velocities,
    _sustain,
    _texts,
)
"""The checklist, in its order."""
