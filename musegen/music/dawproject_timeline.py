"""The timelines of a DAWproject, unrolled: notes and automation by track, in beats.

Timelines lie in each other: lanes in lanes, clips in clips. Each has a unit of time, beats or
seconds, its own or that of what it lies in, and a clip shows a window of its content, shifted
(`playStart`), in a loop, or by reference to another clip's. Here all that is followed down to
notes and points. What is met on the way is counted, since aliases of aliases and short loops make
millions of notes out of a few lines.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import NamedTuple

from musegen.errors import MidiError
from musegen.music.dawproject_archive import MAX_DEPTH, Node
from musegen.music.dawproject_clips import BEND_CENTRE, BEND_STEPS
from musegen.music.smf import Findings

MAX_STEPS = 1_000_000
"""Notes, points, clips and turns of loops that are followed."""
MAX_TIME = 1e9
"""In beats or seconds, and the greatest number that is read at all."""
STEP_CHARACTERS = 100
"""A long text counts as a step per so many characters, for an alias repeats it."""
NEAR_BEATS = 1e-6
"""Times nearer than this are equal: programs write six decimals."""
MIN_LOOP = 1e-3
"""A shorter loop, in its own unit, is not meant."""
RAMP_POINTS = 64
"""The most points that a ramp between two points becomes."""
DEFAULT_VELOCITY = 100


def finite(text: str) -> float | None:
    """A number up to MAX_TIME; None for what is none and for a missing attribute."""
    try:
        value = float(text) if len(text) <= 40 else math.nan
    except ValueError:
        return None
    return value if abs(value) <= MAX_TIME else None


class TempoMap:
    """Beats to seconds and back; from each (beat, bpm) on that tempo holds, the first at beat 0."""

    def __init__(self, steps: Sequence[tuple[float, float]]) -> None:
        self.steps = list(steps)
        self._beats = [beat for beat, _ in steps]
        self._rates = [bpm / 60 for _, bpm in steps]
        lengths = [
            (later - beat) / rate
            for (beat, later), rate in zip(pairwise(self._beats), self._rates, strict=False)
        ]
        self._seconds = [0.0, *accumulate(lengths)]

    def seconds(self, beat: float) -> float:
        index = max(0, bisect_right(self._beats, beat) - 1)
        return self._seconds[index] + (beat - self._beats[index]) / self._rates[index]

    def beats(self, second: float) -> float:
        index = max(0, bisect_right(self._seconds, second) - 1)
        return self._beats[index] + (second - self._seconds[index]) * self._rates[index]


@dataclass(frozen=True, slots=True)
class Frame:
    """Where the times of a timeline lie: its zero in the piece, and the window that is seen."""

    tempo_map: TempoMap
    in_seconds: bool = False
    zero: float = 0.0
    """In its own unit, from the beginning of the piece."""
    low_beat: float = -math.inf
    high_beat: float = math.inf

    def beat(self, time: float) -> float:
        """A time of the timeline as a beat of the piece."""
        return self.tempo_map.beats(self.zero + time) if self.in_seconds else self.zero + time

    def unit(self, name: str) -> Frame:
        """The same in another unit of time, where `name` is one."""
        if name not in ("beats", "seconds") or (name == "seconds") == self.in_seconds:
            return self
        change = self.tempo_map.seconds if name == "seconds" else self.tempo_map.beats
        return Frame(
            self.tempo_map, not self.in_seconds, change(self.zero), self.low_beat, self.high_beat
        )

    def window(self, zero: float, low: float, high: float) -> Frame:
        """The content of a clip that is seen from `low` to `high`; all in this frame's unit."""
        beats = self.tempo_map.beats if self.in_seconds else float
        return Frame(
            self.tempo_map,
            self.in_seconds,
            zero,
            max(self.low_beat, beats(low)),
            min(self.high_beat, beats(high) if high < math.inf else high),
        )


class PlayedNote(NamedTuple):
    """A note as it sounds in the piece."""

    start_beat: float
    end_beat: float
    key: int
    velocity: int
    channel: int


Target = tuple[str, int]
"""What is automated: the expression, and the controller's number or the key."""

_SEVEN_BITS = frozenset({"channelController", "channelPressure", "polyPressure", "programChange"})


@dataclass
class Content:
    """What was found for one track."""

    notes: list[PlayedNote] = field(default_factory=list)
    automation: dict[Target, list[tuple[float, int]]] = field(default_factory=dict)
    """(beat, value) as in MIDI: 0 to 127, bends -8192 to 8191."""
    clip_comments: list[str] = field(default_factory=list)


class Timelines:
    """Follows the timelines of an arrangement; `tracks` holds what was found, by track id."""

    def __init__(self, arrangement: Node, tempo_map: TempoMap, name: str, findings: Findings):
        self.tracks: dict[str, Content] = {}
        self.markers: list[tuple[float, str]] = []
        self._name = name
        self._findings = findings
        self._steps = 0
        self._by_id = {node.get("id"): node for node in _all(arrangement) if node.get("id")}
        self._frame = Frame(tempo_map).unit(arrangement.get("timeUnit"))
        for node in arrangement:
            if node.tag in ("Lanes", "Markers", "Clips", "Notes", "Points"):
                self._follow(node, self._frame, "", 0)

    def _step(self, count: int = 1) -> None:
        self._steps += count
        if self._steps > MAX_STEPS:
            raise MidiError(
                f"{self._name}: its loops and aliases unroll to more than {MAX_STEPS:,} notes,"
                " clips and points, the most that are read"
            )

    def _content(self, track: str) -> Content:
        return self.tracks.setdefault(track, Content())

    def _follow(self, node: Node, frame: Frame, track: str, depth: int) -> None:
        self._step(1 + len(node.children))  # all of them are looked at, each time
        if depth > MAX_DEPTH:
            raise MidiError(f"{self._name}: clips that contain each other without end")
        track = node.get("track") or track
        frame = frame.unit(node.get("timeUnit"))
        if node.tag == "Lanes":
            for child in node:
                self._follow(child, frame, track, depth + 1)
        elif node.tag == "Clips":
            if comment := node.get("comment"):
                self._step(len(comment) // STEP_CHARACTERS)
                self._content(track).clip_comments.append(comment)
            for clip in node:
                if clip.tag == "Clip":
                    self._clip(clip, frame, track, depth + 1)
        elif node.tag == "Notes":
            for note in node:
                self._note(note, frame, track)
        elif node.tag == "Points":
            self._points(node, frame, track)
        elif node.tag in ("Markers", "markers"):
            for marker in node:
                time, text = finite(marker.get("time")), marker.get("name")
                self._step(len(text) // STEP_CHARACTERS)
                if time is not None:
                    self.markers.append((frame.beat(time), text))
        else:
            self._findings.add(
                {
                    "Audio": "an audio clip was dropped",
                    "Warps": "a clip of warped time was dropped",
                    "Video": "a video was dropped",
                    "ClipSlot": "a clip of the launcher was dropped",
                }.get(node.tag, "an unknown timeline was dropped")
            )

    # --- clips ------------------------------------------------------------------------------------

    def _clip(self, clip: Node, frame: Frame, track: str, depth: int) -> None:
        if clip.get("enable") in ("false", "0"):
            self._findings.add("a muted clip was dropped")
            return
        content = self._by_id.get(clip.get("reference")) if clip.get("reference") else None
        content = content or next(iter(clip), None)
        if content is None:
            return
        passes = self._passes(clip, frame)
        for number, window in enumerate(passes):
            if number:
                self._findings.add("a turn of a loop was written out")
            self._follow(content, window, track, depth)

    def _passes(self, clip: Node, frame: Frame) -> Iterator[Frame]:
        """The window of each time that the content is played."""
        time = finite(clip.get("time"))
        if time is None:
            self._findings.add("a clip without a time was dropped")
            return
        duration = finite(clip.get("duration"))
        scope = frame.unit(clip.get("contentTimeUnit"))

        def place(time: float) -> float:
            """A time of the clip's parent in the piece, in the unit of the clip's content."""
            beat = frame.beat(time)
            return frame.tempo_map.seconds(beat) if scope.in_seconds else beat

        start = place(time)
        end = place(time + duration) if duration is not None else math.inf
        play_start = finite(clip.get("playStart")) or 0.0
        play_stop = finite(clip.get("playStop"))
        loop_start = finite(clip.get("loopStart")) or 0.0
        loop_end = finite(clip.get("loopEnd"))
        if loop_end is None or not loop_end - max(loop_start, 0) >= MIN_LOOP or end == math.inf:
            loops = False
        else:
            loops = play_start < loop_end
        if not loops or loop_end is None:
            if play_stop is not None and play_stop > play_start:
                end = min(end, start + play_stop - play_start)
            yield scope.window(start - play_start, start, end)
            return
        begin = start + loop_end - play_start
        yield scope.window(start - play_start, start, min(begin, end))
        turn, length = 0, loop_end - loop_start
        while begin + turn * length < end - NEAR_BEATS:
            self._step()
            low = begin + turn * length
            yield scope.window(low - loop_start, low, min(low + length, end))
            turn += 1

    # --- notes ------------------------------------------------------------------------------------

    def _note(self, note: Node, frame: Frame, track: str) -> None:
        time, duration = finite(note.get("time")), finite(note.get("duration"))
        key = finite(note.get("key"))
        if note.tag != "Note" or time is None or duration is None or key is None:
            self._findings.add("a note without a time, a length or a key was dropped")
            return
        if not 0 <= key <= 127:
            self._findings.add("a note outside 0 to 127 was dropped")
            return
        start, end = frame.beat(time), frame.beat(time + duration)
        if not frame.low_beat - NEAR_BEATS <= start < frame.high_beat - NEAR_BEATS:
            self._findings.add("a note that begins outside its clip was dropped")
            return
        if end > frame.high_beat + NEAR_BEATS:
            self._findings.add("a note ended with its clip")
            end = frame.high_beat
        if note.children:
            self._findings.add("the expression of a note was dropped")
        velocity = finite(note.get("vel"))
        loud = DEFAULT_VELOCITY if velocity is None else round(min(1.0, max(0.0, velocity)) * 127)
        channel = int(min(15, max(0, finite(note.get("channel")) or 0)))
        self._content(track).notes.append(PlayedNote(start, end, int(key), max(1, loud), channel))

    # --- automation -------------------------------------------------------------------------------

    def _points(self, node: Node, frame: Frame, track: str) -> None:
        target = node.find("Target")
        expression = target.get("expression") if target is not None else ""
        if target is None or expression not in {*_SEVEN_BITS, "pitchBend"}:
            self._findings.add(
                f"automation of the expression {expression!r} was dropped"
                if expression in ("gain", "pan", "transpose", "timbre", "formant", "pressure")
                else "automation of a plug-in or of the mixer was dropped"
            )
            return
        which = {"channelController": "controller", "polyPressure": "key"}.get(expression)
        number = finite(target.get(which)) if which else 0.0
        if number is None or not 0 <= number <= 127:
            self._findings.add("automation of an unknown controller was dropped")
            return
        points = self._values(node, frame, expression)
        before = [value for beat, value in points if beat < frame.low_beat - NEAR_BEATS]
        seen = [
            (beat, value)
            for beat, value in points
            if frame.low_beat - NEAR_BEATS <= beat < frame.high_beat - NEAR_BEATS
        ]
        if before and (not seen or seen[0][0] > frame.low_beat + NEAR_BEATS):
            seen.insert(0, (frame.low_beat, before[-1]))  # what holds when the clip begins
        if seen:
            found = self._content(track).automation.setdefault((expression, int(number)), [])
            found.extend(seen)

    def _values(self, node: Node, frame: Frame, expression: str) -> list[tuple[float, int]]:
        """The points of a lane as (beat, MIDI value); ramps become steps."""
        raw: list[tuple[float, float, bool]] = []
        whole = False
        for point in node:
            if point.tag == "Target":
                continue
            time, text = finite(point.get("time")), point.get("value")
            value = {"true": 1.0, "false": 0.0}.get(text, finite(text))
            if time is None or value is None:
                self._findings.add("a point without a time or a value was dropped")
                continue
            whole = whole or point.tag in ("IntegerPoint", "EnumPoint")
            raw.append((frame.beat(time), value, point.get("interpolation") == "linear"))
        unit = node.get("unit")
        highest = max((abs(value) for _, value, _ in raw), default=0.0)
        is_bend = expression == "pitchBend"
        if whole or (unit not in ("normalized", "percent") and highest > 1):
            scale = 1.0  # as in a MIDI message
        elif unit == "percent":
            scale = (BEND_STEPS if is_bend else 127) / 100
        else:
            scale = BEND_STEPS if is_bend else 127
        shift = BEND_CENTRE if is_bend else 0
        if is_bend and any(value < 0 for _, value, _ in raw):  # -1 to 1, not 0 to 1
            scale, shift = (1.0, 0) if scale == 1.0 else (scale / 2, 0)
        low, high = (-BEND_CENTRE, BEND_CENTRE - 1) if is_bend else (0, 127)

        def midi(value: float) -> int:
            return min(high, max(low, round(min(1e9, max(-1e9, value * scale))) - shift))

        values: list[tuple[float, int]] = []
        for index, (beat, value, is_ramp) in enumerate(raw):
            values.append((beat, midi(value)))
            if not is_ramp or index + 1 == len(raw):
                continue
            later, goal, _ = raw[index + 1]
            difference = abs(midi(goal) - midi(value))
            parts = min(RAMP_POINTS, difference, math.floor(min(1e6, max(0.0, later - beat)) * 16))
            if parts > 1:
                self._findings.add("a ramp of automation was read as steps")
            for part in range(1, parts):
                self._step()
                share = part / parts
                values.append((beat + share * (later - beat), midi(value + share * (goal - value))))
        return values


def _all(node: Node) -> Iterator[Node]:
    stack = [node]
    while stack:
        node = stack.pop()
        yield node
        stack.extend(node.children)
