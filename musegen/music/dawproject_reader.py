"""DAWprojects to scores, whichever program wrote them.

Tracks of notes come back with all their clips put end to end; what a score cannot hold (audio,
plug-ins, the mixer) is dropped and named. Our own files (musegen/music/dawproject.py) come back as
the scores that they were made of. Others are read as their programs play them: a clip cuts the
notes that ring beyond it, loops are written out, ramps of tempo and controllers become steps.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from musegen.errors import MidiError, UsageError
from musegen.music.dawproject import AUDIO_MEMBER, PRIVATE, SEPARATOR
from musegen.music.dawproject_archive import MAX_METADATA_BYTES, Node, open_archive
from musegen.music.dawproject_timeline import Content, Frame, TempoMap, Timelines, finite
from musegen.music.files import Source
from musegen.music.instruments import parse_instrument
from musegen.music.normal import BANK_LSB, BANK_MSB, MAX_PPQ, settle
from musegen.music.parts import DRUM_CHANNEL
from musegen.music.score import (
    BEND_DTYPE,
    CHANNEL_PRESSURE,
    CONTROL_DTYPE,
    DEFAULT_PPQ,
    DEFAULT_TEMPO_US,
    NOTE_DTYPE,
    PRESSURE_DTYPE,
    Key,
    Meter,
    ProgramChange,
    Score,
    Tempo,
    Text,
    Track,
)
from musegen.music.smf import MAX_TICK, MAX_TRACKS, Findings

FINE_PPQ = 960
"""Ticks a quarter note of a project whose times do not lie on 480 a quarter note."""
_RAMP_BEATS = 0.25
"""A ramp of tempo becomes steps of at least so many beats, at most `_RAMP_STEPS` of them."""
_RAMP_STEPS = 256
_MAX_TEMPOS = 50_000
"""With so many steps of tempo, no further ramp is written out."""
_INSTRUMENT = re.compile(r"MIDI (program|drum kit) (\d{1,3})(?:, bank (\d{1,5}))?:")
_CREDITS = (
    *("Artist", "Album", "OriginalArtist", "Composer", "Songwriter", "Producer", "Arranger"),
    *("Year", "Genre", "Website"),
)
"""What metadata.xml says besides, and a score has no place for: it becomes comments."""


def read_dawproject(source: Source, name: str = "") -> tuple[Score, tuple[str, ...]]:
    """Reads a DAWproject: a path, its bytes, or an open binary file.

    Gives the score, in normal form, and what was dropped or changed, a line each. `name` stands in
    messages in place of the file's. Raises `MidiError` where there is nothing to be read, and
    beyond the limits of musegen/music/dawproject_archive.py and dawproject_timeline.py.
    """
    findings = Findings()
    with open_archive(source, name) as archive:
        name = archive.name
        project = archive.xml("project.xml", "Project")
        if project is None:
            raise MidiError(f"{name}: no DAWproject, for there is no project.xml in it")
        metadata = archive.xml("metadata.xml", "MetaData", MAX_METADATA_BYTES)
    arrangement = project.find("Arrangement") or Node("Arrangement", {})
    if any(node.tag == "Note" for scene in project.find("Scenes") or () for node in _below(scene)):
        findings.add("the clips of the launcher were dropped")
    tempo_map = _tempo_map(project, arrangement, findings)
    timelines = Timelines(arrangement, tempo_map, name, findings)
    meters = _meters(project, arrangement, tempo_map, findings)
    facts = _facts(arrangement.get("comment"))
    ppq = _ppq(facts, timelines, findings)

    def tick(beat: float) -> int:
        return min(MAX_TICK, max(0, round(beat * ppq)))

    score = Score(
        ppq=ppq,
        tracks=tuple(_tracks(project, timelines, ppq, name, findings)),
        tempos=tuple(Tempo(tick(beat), _tempo_us(bpm)) for beat, bpm in tempo_map.steps),
        meters=tuple(Meter(tick(beat), above, below) for beat, above, below in meters),
        keys=tuple(_keys(facts)),
        markers=tuple(Text(tick(beat), text) for beat, text in timelines.markers),
        title=_metadata(metadata, "Title"),
        comments=tuple(_comments(metadata, facts)),
        copyright=_metadata(metadata, "Copyright"),
        length_tick=_whole(facts.get("length"), 0, MAX_TICK) or 0,
    )
    score = settle(score, name, findings)
    if not score.num_notes:
        findings.add("there are no notes in it")
    return score, findings.lines()


def read_preview(source: Source, name: str = "") -> bytes | None:
    """The WAV file that `write_dawproject` put into a project; None where there is none."""
    with open_archive(source, name) as archive:
        return archive.stored(AUDIO_MEMBER)


def _below(node: Node) -> Iterable[Node]:
    stack = [node]
    while stack:
        node = stack.pop()
        yield node
        stack.extend(node.children)


# --- Tempo and meter ------------------------------------------------------------------------------


def _tempo_us(bpm: float) -> int:
    return min(2**24 - 1, max(1, round(60e6 / bpm)))


def _bpm(text: str, findings: Findings) -> float | None:
    bpm = finite(text)
    if bpm is None or not 60e6 / 2**24 <= bpm <= 60e6:
        findings.add("a tempo that makes no sense was dropped")
        return None
    return bpm


def _tempo_map(project: Node, arrangement: Node, findings: Findings) -> TempoMap:
    """The tempo automation, or the tempo of the transport where there is none."""
    points: list[tuple[float, float, bool]] = []
    automation = arrangement.find("TempoAutomation") or Node("TempoAutomation", {})
    unit = automation.get("timeUnit") or arrangement.get("timeUnit")
    for point in automation:
        time = finite(point.get("time"))
        if point.tag != "RealPoint" or time is None:
            continue
        bpm = _bpm(point.get("value"), findings)
        if bpm is not None:
            points.append((max(0.0, time), bpm, point.get("interpolation") == "linear"))
    points.sort(key=lambda point: point[0])
    if not points:
        transport = project.find("Transport", "Tempo")
        bpm = _bpm(transport.get("value"), findings) if transport is not None else None
        return TempoMap([(0.0, bpm or 60e6 / DEFAULT_TEMPO_US)])
    steps: list[tuple[float, float]] = [(0.0, points[0][1])]  # it holds before its first point too
    for (time, bpm, is_ramp), following in zip(points, [*points[1:], None], strict=True):
        steps.append((time, bpm))
        if not is_ramp or following is None or following[1] == bpm:
            continue
        later, goal, _ = following
        findings.add("a ramp of tempo was read as steps")
        parts = min(_RAMP_STEPS, math.floor((later - time) / _RAMP_BEATS))
        parts = parts if len(steps) < _MAX_TEMPOS else 0
        for part in range(parts):  # each at the tempo of its middle
            share = part / parts
            middle = bpm + (share + 0.5 / parts) * (goal - bpm)
            steps.append((time + share * (later - time), middle))
    if unit == "seconds":
        beat, spans = 0.0, [later - time for (time, _), (later, _) in pairwise(steps)]
        in_beats = []
        for (_, bpm), span in zip(steps, [*spans, 0.0], strict=True):
            in_beats.append((beat, bpm))
            beat += span * bpm / 60
        steps = in_beats
    latest = dict(steps)  # of two at one beat, the last one holds
    return TempoMap(sorted(latest.items()))


def _meters(
    project: Node, arrangement: Node, tempo_map: TempoMap, findings: Findings
) -> list[tuple[float, int, int]]:
    """(beat, numerator, denominator) of each meter."""
    meters: list[tuple[float, int, int]] = []

    def add(beat: float | None, node: Node) -> None:
        above, below = finite(node.get("numerator")), finite(node.get("denominator"))
        if (
            beat is None
            or above is None
            or below is None
            or above not in range(1, 256)
            or below not in (1, 2, 4, 8, 16, 32, 64, 128)
        ):
            findings.add("a meter that makes no sense was dropped")
        else:
            meters.append((beat, int(above), int(below)))

    transport = project.find("Transport", "TimeSignature")
    if transport is not None:
        add(0.0, transport)
    automation = arrangement.find("TimeSignatureAutomation")
    if automation is not None:
        unit = automation.get("timeUnit") or arrangement.get("timeUnit")
        frame = Frame(tempo_map).unit(unit)
        for point in automation:
            if point.tag == "TimeSignaturePoint":
                time = finite(point.get("time"))
                add(None if time is None else frame.beat(time), point)
    return meters


# --- What our own files say besides ---------------------------------------------------------------


def _facts(comment: str) -> dict[str, Any]:
    """The JSON of a comment; empty for a comment of somebody else's."""
    if not comment.startswith(PRIVATE):
        return {}
    try:
        facts = json.loads(comment.removeprefix(PRIVATE))
    except (ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _whole(value: Any, low: int, high: int) -> int | None:
    """An integer within its limits; None for anything else, as JSON may hold anything."""
    return value if type(value) is int and low <= value <= high else None


def _rows(facts: dict[str, Any], name: str, length: int) -> list[list[Any]]:
    rows = facts.get(name)
    if not isinstance(rows, list):
        return []
    return [
        row
        for row in rows
        if isinstance(row, list) and len(row) == length and _whole(row[0], 0, MAX_TICK) is not None
    ]


def _keys(facts: dict[str, Any]) -> Iterable[Key]:
    for tick, fifths, minor in _rows(facts, "keys", 3):
        if _whole(fifths, -7, 7) is not None:
            yield Key(tick, fifths, bool(minor))


def _metadata(metadata: Node | None, tag: str) -> str:
    node = metadata.find(tag) if metadata is not None else None
    return node.text if node is not None else ""


def _comments(metadata: Node | None, facts: dict[str, Any]) -> Iterable[Text]:
    text = _metadata(metadata, "Comment")
    spans = [(tick, size) for tick, size in _rows(facts, "comments", 2) if type(size) is int]
    if spans and sum(size for _, size in spans) + len(SEPARATOR) * (len(spans) - 1) == len(text):
        position = 0
        for tick, size in spans:
            yield Text(tick, text[position : position + size])
            position += size + len(SEPARATOR)
    elif text:
        yield Text(0, text)
    for tag in _CREDITS:
        if credit := _metadata(metadata, tag).strip():
            yield Text(0, f"{tag}: {credit}")


def _ppq(facts: dict[str, Any], timelines: Timelines, findings: Findings) -> int:
    """Ticks a quarter note: as our file says, else 480 where all times lie on that, else 960."""
    own = _whole(facts.get("ppq"), 1, MAX_PPQ)
    if own is not None:
        return own
    times = np.array(
        [
            time
            for content in timelines.tracks.values()
            for note in content.notes
            for time in (note.start_beat, note.end_beat)
        ]
    )
    for ppq in (DEFAULT_PPQ, FINE_PPQ):
        ticks = times * ppq
        if np.all(np.abs(ticks - np.round(ticks)) < 0.01):
            return ppq
    findings.add(f"times were rounded to {FINE_PPQ} ticks a quarter note")
    return FINE_PPQ


# --- Tracks ---------------------------------------------------------------------------------------


@dataclass
class _Place:
    """A track of the project's structure."""

    name: str
    comment: str = ""
    kinds: tuple[str, ...] = ("notes",)
    role: str = "regular"
    muted: bool = False


def _places(project: Node) -> dict[str, _Place]:
    """The tracks by id, groups and what is in them in the order of the file."""
    places: dict[str, _Place] = {}
    stack = list(reversed((project.find("Structure") or Node("", {})).children))
    while stack:
        node = stack.pop()
        if node.tag != "Track":
            continue
        channel = node.find("Channel") or Node("Channel", {})
        mute = channel.find("Mute")
        places[node.get("id") or f"\0{len(places)}"] = _Place(
            node.get("name"),
            node.get("comment"),
            tuple(node.get("contentType").split()),
            channel.get("role") or "regular",
            mute is not None and mute.get("value") in ("true", "1"),
        )
        stack.extend(child for child in reversed(node.children) if child.tag == "Track")
    return places


def _tracks(
    project: Node, timelines: Timelines, ppq: int, name: str, findings: Findings
) -> Iterable[Track]:
    places = _places(project)
    for track_id, content in timelines.tracks.items():
        if track_id not in places and (content.notes or content.clip_comments):
            places[track_id] = _Place("")
    if len(places) > MAX_TRACKS:
        raise MidiError(f"{name}: more than {MAX_TRACKS:,} tracks, the most that are read")
    for track_id, place in places.items():
        content = timelines.tracks.get(track_id, Content())
        rests = "notes" in place.kinds and place.role == "regular" and place.name
        if not content.notes and not rests:
            if "audio" in place.kinds and place.role == "regular":
                findings.add("an audio track was dropped")
            continue
        if place.muted:
            findings.add("a muted track was read all the same")
        yield _track(place, content, ppq, findings)


def _track(place: _Place, content: Content, ppq: int, findings: Findings) -> Track:
    notes = _notes(content, ppq, findings)
    controls, bends, pressures, programs = _automation(content, ppq)
    all_facts = [_facts(comment) for comment in content.clip_comments]
    lyrics = tuple(
        Text(tick, text)
        for facts in all_facts
        for tick, text in _rows(facts, "lyrics", 2)
        if isinstance(text, str)
    )
    said = _INSTRUMENT.match(place.comment)
    on_drums = sum(note.channel == DRUM_CHANNEL for note in content.notes) * 2 > len(content.notes)
    is_drum, program, bank = on_drums, 0, 0
    if said:
        is_drum = said[1] == "drum kit"
        program, bank = min(127, int(said[2])), min(2**14 - 1, int(said[3] or 0))
        if programs and programs[0].tick == 0:  # it may have been changed since
            program = programs.pop(0).program
        if bank:
            controls = _without_bank(controls)
        order = {
            tick: numbers for facts in all_facts for tick, numbers in _rows(facts, "controls", 2)
        }
        controls = _in_order(controls, order)
    elif not programs and not lyrics:
        program, is_drum = _guessed(place.name, is_drum, findings)
    return Track(
        notes=notes,
        program=program,
        is_drum=is_drum,
        name=place.name,
        bank=bank,
        controls=controls,
        bends=bends,
        program_changes=tuple(programs),
        lyrics=lyrics,
        pressures=pressures,
    )


def _notes(content: Content, ppq: int, findings: Findings) -> np.ndarray:
    played = np.array(
        [(note.start_beat, note.end_beat, note.key, note.velocity) for note in content.notes]
    ).reshape(-1, 4)
    ticks = np.round(played[:, :2] * ppq)
    good = (ticks[:, 0] >= 0) & (ticks[:, 1] <= MAX_TICK)
    findings.add("a note before the beginning or beyond all bounds was dropped", int((~good).sum()))
    played, ticks = played[good], ticks[good].astype(np.int64)
    notes = np.empty(len(ticks), NOTE_DTYPE)
    notes["start_tick"] = ticks[:, 0]
    notes["duration_tick"] = np.maximum(0, ticks[:, 1] - ticks[:, 0])
    notes["pitch"], notes["velocity"] = played[:, 2], played[:, 3]
    return notes


def _automation(
    content: Content, ppq: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[ProgramChange]]:
    """Controls, bends, pressures and programs, each in order of time."""
    controls, bends, pressures, programs = [], [], [], []
    for (expression, number), points in content.automation.items():
        for beat, value in points:
            if not 0 <= beat * ppq <= MAX_TICK:
                continue
            tick = round(beat * ppq)
            if expression == "channelController":
                controls.append((tick, number, value))
            elif expression == "pitchBend":
                bends.append((tick, value))
            elif expression == "programChange":
                programs.append(ProgramChange(tick, value))
            else:
                whole = expression == "channelPressure"
                pressures.append((tick, CHANNEL_PRESSURE if whole else number, value))
    programs.sort(key=lambda change: change.tick)

    def column(rows: list[tuple], dtype: np.dtype) -> np.ndarray:
        made = np.array(rows, dtype)
        return made[np.argsort(made["tick"], kind="stable")]

    return (
        column(controls, CONTROL_DTYPE),
        column(bends, BEND_DTYPE),
        column(pressures, PRESSURE_DTYPE),
        programs,
    )


def _without_bank(controls: np.ndarray) -> np.ndarray:
    """Without the two controllers at tick 0 that say the bank, which the comment has said."""
    drop = []
    for select in (BANK_MSB, BANK_LSB):
        found = np.flatnonzero((controls["number"] == select) & (controls["tick"] == 0))
        drop += found[:1].tolist()
    return np.delete(controls, drop)


def _in_order(controls: np.ndarray, by_tick: dict[int, Any]) -> np.ndarray:
    """Controllers of one tick in the order of their numbers, where that is about the same ones."""
    order = np.arange(len(controls))
    for tick, numbers in by_tick.items():
        first, last = np.searchsorted(controls["tick"], (tick, tick + 1)).tolist()
        waiting: dict[int, list[int]] = {}
        for index in range(last - 1, first - 1, -1):
            waiting.setdefault(int(controls["number"][index]), []).append(index)
        if isinstance(numbers, list) and len(numbers) == last - first:
            found = [waiting[one].pop() for one in numbers if type(one) is int and waiting.get(one)]
            if len(found) == last - first:
                order[first:last] = found
    return controls[order]


def _guessed(name: str, is_drum: bool, findings: Findings) -> tuple[int, bool]:
    """The program that a track's name says, for DAWs name plug-ins and not programs."""
    if is_drum:
        return 0, True
    plain = name.strip().rstrip("0123456789 #-")[:60]
    try:
        instrument = parse_instrument(plain)
    except UsageError:
        findings.add("a track without a program plays the piano")
        return 0, False
    findings.add("a track without a program plays the instrument of its name")
    return instrument.program, instrument.is_drum
