"""What a track becomes in a DAWproject: clips of notes, and automation.

A note belongs to the clip in which it begins, and stays whole. Hosts play a clip as a window on its
notes: what rings beyond it is cut. So a section does not cut a track on which a note rings on for
more than a 16th note; and where a cut has to be, because a stretch was generated, the clip is as
long as its last note: clips may overlap in Studio One and Cubase, while Bitwig lets the earlier one
end there.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from musegen.music.bars import barline_after, barline_before
from musegen.music.normal import BANK_LSB, BANK_MSB, is_words_only
from musegen.music.score import CHANNEL_PRESSURE, Score, Track

GENERATED = "Generated"
"""The name of the clips that musegen wrote, and of the marker where a continuation begins; where
parts of a seed were written, the marker is `Generated: TRACKS` (musegen/tokens/assemble.py)."""
BEND_CENTRE, BEND_STEPS = 8192, 16384
"""A bend of 0 is exactly 0.5, which hosts take for the middle."""


class Clip(NamedTuple):
    """A stretch of one track; `name` is empty where no section names it."""

    start_tick: int
    end_tick: int
    name: str
    is_generated: bool
    notes: np.ndarray


def says_generated(marker: str) -> bool:
    """Whether a marker is musegen's own."""
    return marker == GENERATED or marker.startswith(f"{GENERATED}: ")


def sections_of(score: Score) -> list[tuple[int, str]]:
    """Where sections begin: the barline nearest to each marker, and the first marker's name.

    Our own markers begin none: they speak of some tracks only, and say nothing of an end.
    """
    sections: dict[int, str] = {}
    for tick, name in score.markers:
        if says_generated(name):
            continue
        before, after = barline_before(score, tick), barline_after(score, tick)
        sections.setdefault(before if tick - before <= after - tick else after, name)
    return sorted(sections.items())


def clips_of(
    track: Track,
    sections: Sequence[tuple[int, str]],
    stretches: Sequence[tuple[int, int]],
    end_tick: int,
    tolerance_tick: int,
) -> list[Clip]:
    """The clips of a track in order of time; every note is in exactly one.

    Args:
        track: in normal form.
        sections: as `sections_of` gives them.
        stretches: (start, end) of what was generated, in order and apart from each other.
        end_tick: where the piece ends.
        tolerance_tick: how long a note may ring into a section without forbidding the cut.
    """
    notes = track.notes
    starts = notes["start_tick"].astype(np.int64)
    ends = starts + notes["duration_tick"]
    latest = np.maximum.accumulate(ends)  # where all notes up to this one have ended

    def rings_on(tick: int) -> bool:
        before = int(np.searchsorted(starts, tick))
        return before > 0 and int(latest[before - 1]) - tick > tolerance_tick

    last_tick = max(1, end_tick, track.end_tick, *(end for _, end in stretches))
    borders = {0, last_tick}
    borders.update(tick for stretch in stretches for tick in stretch)
    borders.update(tick for tick, _ in sections if tick < last_tick and not rings_on(tick))
    section_ticks = [tick for tick, _ in sections]
    clips = []
    for start, end in pairwise(sorted(borders)):
        first, last = np.searchsorted(starts, (start, end)).tolist()
        is_generated = any(begin <= start and end <= stop for begin, stop in stretches)
        if first == last and not is_generated:
            continue
        section = int(np.searchsorted(section_ticks, start, side="right")) - 1
        name = sections[section][1] if section >= 0 else ""
        until = max(end, int(ends[first:last].max(initial=0)))
        name = GENERATED if is_generated else name
        clips.append(Clip(start, until, name, is_generated, notes[first:last]))
    return clips


class Automation(NamedTuple):
    """One thing that changes with time; `points` are (tick, value).

    Values are 0 to 1, but for programs, which are their numbers.
    """

    expression: str
    points: list[tuple[int, float]]
    controller: int | None = None
    key: int | None = None


def automations_of(track: Track) -> list[Automation]:
    """All that a track does besides its notes, in the order in which each first occurs.

    The bank's two controllers and the program stand at tick 0, before the controllers of the track.
    """
    found: dict[tuple, Automation] = {}

    def add(
        tick: int,
        value: float,
        expression: str,
        controller: int | None = None,
        key: int | None = None,
    ) -> None:
        target = (expression, controller, key)
        automation = found.setdefault(target, Automation(expression, [], controller, key))
        automation.points.append((tick, value))

    if not is_words_only(track):
        if track.bank:
            add(0, (track.bank >> 7) / 127, "channelController", BANK_MSB)
            add(0, (track.bank & 127) / 127, "channelController", BANK_LSB)
        for tick, program in ((0, track.program), *track.program_changes):
            add(tick, program, "programChange")
    for tick, number, value in track.controls.tolist():
        add(tick, value / 127, "channelController", number)
    for tick, value in track.bends.tolist():
        add(tick, (value + BEND_CENTRE) / BEND_STEPS, "pitchBend")
    for tick, pitch, value in track.pressures.tolist():
        if pitch == CHANNEL_PRESSURE:
            add(tick, value / 127, "channelPressure")
        else:
            add(tick, value / 127, "polyPressure", key=pitch)
    return list(found.values())


def control_order(track: Track) -> list[list]:
    """Where controllers of one tick do not come lane by lane: [tick, their numbers in order].

    It matters: registered parameters (the range of bends) are three controllers in a row.
    """
    controls = track.controls
    lanes = [BANK_MSB, BANK_LSB] if track.bank else []
    ranks: dict[int, int] = {}
    for number in (*lanes, *controls["number"].tolist()):
        ranks.setdefault(number, len(ranks))
    rank = np.array([ranks[number] for number in controls["number"].tolist()], np.int64)
    by_lanes = np.lexsort((rank, controls["tick"]))
    moved = controls["tick"][by_lanes != np.arange(len(controls))]
    order = []
    for tick in np.unique(moved).tolist():
        first, last = np.searchsorted(controls["tick"], (tick, tick + 1)).tolist()
        order.append([tick, controls["number"][first:last].tolist()])
    return order
