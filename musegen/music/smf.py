"""Standard MIDI Files as bytes: a tolerant walk over chunks and events.

It reads whatever stands in a file and says what was wrong with it, where a strict parser would
stop at the first fault. Time and memory are bounded by the constants below; beyond them, and for
what is no MIDI file at all, there is one `MidiError`. (Source of the format: Standard MIDI Files
1.0, MIDI Manufacturers Association, RP-001.)
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

import numpy as np

from musegen.errors import MidiError

MAX_FILE_BYTES = 8 * 2**20
"""The longest file that is read. A dense orchestral file has about one megabyte."""
MAX_TRACKS = 1024
"""Track chunks in a file."""
MAX_EVENTS = 1_000_000
"""Channel events in a file, notes and controllers together."""
MAX_METAS = 200_000
"""Meta events in a file: tempi, texts, lyrics."""
MAX_TICK = 2**28 - 1
"""The last tick: the largest delta that a file can hold, so that any gap can be written."""

HEADER_WITHIN = 4096
"""The header may stand behind so many bytes of wrapping (RIFF, MacBinary)."""


class Findings:
    """Collects what a reader repaired or dropped, each kind once, with how often it was."""

    MAX_KINDS = 100

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def add(self, what: str, count: int = 1) -> None:
        """`what` happened `count` times more; nothing is said of 0 times."""
        if count and (what in self._counts or len(self._counts) < self.MAX_KINDS):
            self._counts[what] = self._counts.get(what, 0) + int(count)

    def lines(self) -> tuple[str, ...]:
        return tuple(f"{what} ({n} times)" if n > 1 else what for what, n in self._counts.items())


@dataclass
class RawTrack:
    """One track chunk. `events` (N,) int64, in file order, hold `tick << 24 | status << 16 |
    data1 << 8 | data2`; `metas` are (tick, type, data).
    """

    events: np.ndarray
    metas: list[tuple[int, int, bytes]] = field(default_factory=list)
    end_tick: int = 0
    ended: bool = False
    """Whether an end-of-track event was there."""


@dataclass
class RawFile:
    format: int
    division: int
    """As in the header: ticks a quarter note, or SMPTE when bit 15 is set."""
    tracks: list[RawTrack]


def parse(data: bytes, name: str, findings: Findings) -> RawFile:
    """The chunks and events of a file. Raises `MidiError`, which begins with `name`."""
    start = data.find(b"MThd", 0, HEADER_WITHIN)
    if start < 0:
        raise MidiError(f"{name}: {_what_is(data)}")
    header_length = int.from_bytes(data[start + 4 : start + 8], "big")
    if len(data) < start + 14:
        raise MidiError(f"{name}: the file ends inside its header; fetch or export it again")
    format_ = int.from_bytes(data[start + 8 : start + 10], "big")
    declared = int.from_bytes(data[start + 10 : start + 12], "big")
    division = int.from_bytes(data[start + 12 : start + 14], "big")
    position = start + 8 + header_length
    if header_length < 6 or position > len(data):
        findings.add("the header's length was wrong")
        position = start + 14
    tracks: list[RawTrack] = []
    events = metas = 0
    while len(data) - position >= 8:
        kind = data[position : position + 4]
        begin = position + 8
        stop = begin + int.from_bytes(data[position + 4 : begin], "big")
        if kind != b"MTrk":
            if _is_chunk_name(kind) and stop <= len(data):
                findings.add("a chunk that is no track was skipped")
                position = stop
            else:
                position = _next_track(data, position + 1)
                findings.add("stray bytes between tracks were skipped")
            continue
        if len(tracks) == MAX_TRACKS:
            raise MidiError(f"{name}: more than {MAX_TRACKS:,} tracks, the most that are read")
        if stop > len(data) or not (stop == len(data) or _is_chunk_name(data[stop : stop + 4])):
            stop = _next_track(data, begin)  # the length lies: the next track's name does not
            findings.add("a track's length was wrong or the file is cut off")
        track = _walk(data[begin:stop], name, len(tracks), MAX_METAS - metas, findings)
        tracks.append(track)
        events += len(track.events)
        metas += len(track.metas)
        if events > MAX_EVENTS:
            raise MidiError(f"{name}: more than {MAX_EVENTS:,} events, the most that are read")
        position = stop
    if len(tracks) != declared:
        findings.add(f"the header declares {declared} tracks, {len(tracks)} are there")
    return RawFile(format_, division, tracks)


def _what_is(data: bytes) -> str:
    if not data:
        return "the file is empty"
    if data.lstrip()[:5] in (b"<?xml", b"<scor") or data[:2] == b"PK":
        return "not a MIDI file; it looks like MusicXML: use `musegen midi convert` first"
    return f"not a MIDI file (it begins with {data[:4]!r}, not b'MThd')"


def _is_chunk_name(name: bytes) -> bool:
    return len(name) == 4 and all(0x20 <= byte < 0x7F for byte in name)


def _next_track(data: bytes, position: int) -> int:
    found = data.find(b"MTrk", position)
    return len(data) if found < 0 else found


class _Damaged(Exception):
    """Where a track can be followed no further."""


def _vlq(data: bytes, position: int) -> tuple[int, int]:
    """A variable-length quantity and the position behind it; at most four bytes."""
    value = 0
    for _ in range(4):
        byte = data[position]
        position += 1
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, position
    raise _Damaged("a number longer than four bytes")


_COMMON_LENGTH = {0xF1: 1, 0xF2: 2, 0xF3: 1}
"""Data bytes of the system messages that have no place in a file; the other ones have none."""


def _walk(data: bytes, name: str, index: int, metas_left: int, findings: Findings) -> RawTrack:
    packed = array("q")
    put = packed.append
    metas: list[tuple[int, int, bytes]] = []
    position = tick = running = 0
    stop = len(data)
    ended = False
    try:
        while position < stop:
            byte = data[position]
            if byte < 0x80:
                position += 1
                tick += byte
            else:
                delta, position = _vlq(data, position)
                tick += delta
            if tick > MAX_TICK:
                if data[position : position + 2] == b"\xff\x2f":
                    tick = MAX_TICK
                else:
                    raise MidiError(
                        f"{name}: track {index} goes on after tick {MAX_TICK:,}, the last that is"
                        " read"
                    )
            status = data[position]
            if status < 0x80:
                status = running
                if not status:
                    raise _Damaged("a data byte where a status is due")
            else:
                position += 1
            if status < 0xF0:
                running = status
                first = data[position]
                position += 1
                if first > 0x7F:
                    findings.add("a data byte over 127 was taken for 127")
                    first = 0x7F
                if 0xC0 <= status < 0xE0:
                    put(tick << 24 | status << 16 | first << 8)
                    continue
                second = data[position]
                position += 1
                if second > 0x7F:
                    findings.add("a data byte over 127 was taken for 127")
                    second = 0x7F
                put(tick << 24 | status << 16 | first << 8 | second)
            elif status == 0xFF:
                kind = data[position]
                length, position = _vlq(data, position + 1)
                if kind == 0x2F:
                    ended = True
                    break
                if position + length > stop:
                    raise _Damaged("a meta event longer than the track")
                if len(metas) >= metas_left:
                    raise MidiError(
                        f"{name}: more than {MAX_METAS:,} tempi, texts and other meta events, the"
                        " most that are read"
                    )
                metas.append((tick, kind, data[position : position + length]))
                position += length
            elif status in (0xF0, 0xF7):
                length, position = _vlq(data, position)
                if position + length > stop:
                    raise _Damaged("a system exclusive message longer than the track")
                findings.add("a system exclusive message was dropped")
                position += length
            else:
                findings.add(f"a message that has no place in a file was dropped (0x{status:02X})")
                position += _COMMON_LENGTH.get(status, 0)
    except IndexError:
        findings.add(
            f"track {index} is cut off in the middle of an event: what stands before was kept"
        )
    except _Damaged as damage:
        findings.add(f"track {index} is damaged ({damage}): what stands before it was kept")
    else:
        if not ended:
            findings.add("a track had no end-of-track event")
    events = np.frombuffer(packed, dtype=np.int64) if packed else np.empty(0, np.int64)
    return RawTrack(events, metas, tick, ended)
