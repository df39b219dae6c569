"""Sections of pieces for the verbs over bars, and bars back into scores.

Letters: K bars, J tracks.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from musegen.bar_model import BarModel, BarNotes
from musegen.errors import UsageError
from musegen.music.bars import meters_on_barlines
from musegen.music.piece import Piece
from musegen.music.score import NOTE_DTYPE, Bar, Score, Track
from musegen.tokens.bars import BarShape
from musegen.tokens.grid import Grid
from musegen.tokens.regions import Roster
from musegen.tokens.vocabulary import DRUM_PROGRAM, FIRST_POSITION, PITCH

__all__ = ["Section", "aligned", "fresh", "parse_range", "section", "shapes_of", "with_bars"]

MOST_BARS = 64
"""Of a section."""


@dataclass(frozen=True, eq=False)
class Section:
    """Some bars of a piece, over a list of tracks."""

    name: str
    score: Score
    bars: tuple[Bar, ...]
    """Of the score: the K bars."""
    tracks: tuple[int | None, ...]
    """(J,) which track of the score each is; None where the score has none."""
    grid: Grid
    """K bars, J tracks."""
    mended: tuple[str, ...] = ()
    """What reading the file repaired or left out."""

    def notes(self, bar: int) -> BarNotes:
        return [self.grid.cell(bar, track) for track in range(self.grid.num_tracks)]


def parse_range(text: str) -> tuple[int, int]:
    """`5-8` or `5` as (first, last), both counted from 1 and inclusive.

    Raises UsageError for anything else, and where the last comes before the first.
    """
    match = re.fullmatch(r"\s*(\d{1,6})(?:\s*-\s*(\d{1,6}))?\s*", text)
    if match is None:
        raise UsageError(f"bars {text!r}: give whole numbers, as in 5-8 or 5")
    first = int(match[1])
    last = int(match[2] or first)
    if first < 1 or last < first:
        raise UsageError(f"bars {text!r}: bars count from 1, and the last is not before the first")
    return first, last


def _named(score: Score, names: str, text: str) -> set[int]:
    """The tracks that names mean, as `compose` reads them; UsageError where there is none."""
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    if not wanted:
        raise UsageError(f"bars {text!r}: no track is named after the @")
    roster = Roster(score)
    return {
        index
        for name in wanted
        for index, _ in roster.find(name, f"bars {text!r}")
        if index is not None
    }


def section(model: BarModel, source: Any, bars: str | None) -> Section:
    """Bars of a piece, as in `5-8`, or of some of its tracks, as in `5-8@bass,drums` or `@bass`.

    All bars without a range, all tracks that sound there without names.

    Raises:
        MidiError: the file cannot be read.
        UsageError: no such bars or tracks, or too many; no note in them.
    """
    piece = Piece.of(source)
    score = piece.score.replace(meters=meters_on_barlines(piece.score)[0])
    name = os.fspath(source) if isinstance(source, str | os.PathLike) else "the piece"
    if not score.num_notes:
        raise UsageError(f"{name} has no notes: there is no idea in it")
    every = score.bars()
    span, at, names = (bars or "").partition("@")
    chosen = _named(score, names, str(bars)) if at else None
    first, last = (1, len(every)) if bars is None or (at and not span) else parse_range(span)
    if last > len(every):
        raise UsageError(f"{name} has {len(every)} bars, not {last}")
    if last - first + 1 > MOST_BARS:
        raise UsageError(
            f"{name}: {last - first + 1} bars at once are more than {MOST_BARS}; name some of them"
        )
    vocabulary = model.tokenizer.vocabulary
    for number, bar in enumerate(every[first - 1 : last], first):
        if not vocabulary.holds_bar(bar.numerator, bar.denominator):
            raise UsageError(
                f"bar {number} of {name} is in {bar.numerator}/{bar.denominator}, which the model "
                "has not; leave it out"
            )
    order = model.tokenizer.track_order(score)
    whole = model.tokenizer.grid_of(score, every)[0]
    grid = whole.part(first - 1, last, np.arange(whole.num_tracks))
    if not len(grid.notes):
        raise UsageError(f"bars {first}-{last} of {name} are empty: there is no idea in them")
    sounding = np.flatnonzero(grid.counts.sum(0))
    if chosen is not None:
        sounding = np.array([index for index in sounding.tolist() if order[index] in chosen], int)
        if not len(sounding):
            raise UsageError(f"bars {bars!r} of {name}: nothing sounds there in these tracks")
    grid = grid.part(0, grid.num_bars, sounding)
    return Section(
        name,
        score,
        tuple(every[first - 1 : last]),
        tuple(order[index] for index in sounding.tolist()),
        grid,
        tuple(f"{name}: {note}" for note in piece.notes),
    )


def _over(one: Section, voices: Sequence[tuple[int, int]]) -> Section:
    """The section over these (program, instance); silent where it has no such track."""
    own = list(zip(one.grid.programs.tolist(), one.grid.instances.tolist(), strict=True))
    bars, cells = one.grid.num_bars, []
    for bar in range(bars):
        for voice in voices:
            known = voice in own
            cells.append(one.grid.cell(bar, own.index(voice)) if known else np.zeros((0, 4), int))
    programs, instances = np.array(voices, dtype=np.int64).T
    grid = Grid(
        meters=one.grid.meters,
        tempos=one.grid.tempos,
        programs=programs,
        instances=instances,
        notes=np.concatenate([np.zeros((0, 4), np.int64), *cells]),
        offsets=np.concatenate(([0], np.cumsum([len(cell) for cell in cells]))).astype(np.int64),
    )
    tracks = tuple(one.tracks[own.index(voice)] if voice in own else None for voice in voices)
    return replace(one, tracks=tracks, grid=grid)


def aligned(sections: Sequence[Section]) -> tuple[list[Section], list[str]]:
    """The sections over the tracks of all, and what had to be done for that.

    Raises UsageError: nothing but drums meets pitched tracks alone.
    """
    voices: list[tuple[int, int]] = []
    for one in sections:
        own = zip(one.grid.programs.tolist(), one.grid.instances.tolist(), strict=True)
        voices += [voice for voice in own if voice not in voices]
    voices.sort()
    kinds = [{p == DRUM_PROGRAM for p in one.grid.programs.tolist()} for one in sections]
    if not set.intersection(*kinds):
        raise UsageError(
            f"{sections[0].name} and {sections[-1].name} have nothing in common: drums alone on "
            "one side, pitched tracks alone on the other"
        )
    notes = [
        f"{one.name} lacks {len(voices) - one.grid.num_tracks} of the {len(voices)} tracks: "
        "silent there"
        for one in sections
        if one.grid.num_tracks < len(voices)
    ]
    notes += [note for one in sections for note in one.mended]
    return [_over(one, voices) for one in sections], notes


def shapes_of(one: Section) -> list[BarShape]:
    grid = one.grid
    return [
        BarShape(
            int(grid.meters[bar]),
            int(grid.tempos[bar]),
            tuple(grid.programs.tolist()),
            tuple(grid.instances.tolist()),
        )
        for bar in range(grid.num_bars)
    ]


# --- Bars back into scores ------------------------------------------------------------------------


def fresh(
    sections: Sequence[Section],
    model: BarModel,
    shapes: Sequence[BarShape],
    bars: Sequence[BarNotes],
) -> Score:
    """Bars as a score of their own, with names, tempo and key of the first section's."""
    score = model.score(shapes, bars)
    units = model.tokenizer.vocabulary.bar_units[[shape.meter for shape in shapes]]
    end_tick = int(units.sum()) * score.ppq // model.tokenizer.vocabulary.grid
    first = sections[0]
    begin = first.bars[0].start_tick
    tempo = [each for each in first.score.tempos if each.tick <= begin][-1]
    keys = [each for each in first.score.keys if each.tick <= begin][-1:]
    tracks = []
    for index, track in enumerate(score.tracks):
        owners = [one for one in sections if one.tracks[index] is not None]
        place = owners[0].tracks[index] if owners else None
        known = owners[0].score.tracks[place] if owners and place is not None else None
        track = replace(track, notes=_cut(track.notes, end_tick))
        if known is not None:
            track = replace(track, name=known.name, program=known.program, bank=known.bank)
        tracks.append(track)
    return score.replace(
        tracks=tuple(tracks),
        tempos=(tempo._replace(tick=0),),
        keys=tuple(each._replace(tick=0) for each in keys),
    )


def with_bars(one: Section, model: BarModel, written: Sequence[BarNotes]) -> Score:
    """The section's score with other notes in its bars."""
    score, unit = one.score, model.tokenizer.vocabulary
    begin, end = one.bars[0].start_tick, one.bars[-1].end_tick
    tracks = list(score.tracks)
    for index, place in enumerate(one.tracks):
        if place is None:
            continue
        track: Track = tracks[place]
        start = track.notes["start_tick"]
        kept = track.notes[(start < begin) | (start >= end)]
        new = []
        for bar, notes in zip(one.bars, written, strict=True):
            rows = notes[index]
            ticks = np.zeros(len(rows), NOTE_DTYPE)
            place_units = rows[:, 0] - FIRST_POSITION
            onset = bar.start_tick + np.round(place_units * score.ppq / unit.grid).astype(int)
            length = unit.duration_units[np.maximum(rows[:, 3], 1) - 1] * score.ppq / unit.grid
            ticks["start_tick"] = np.minimum(onset, bar.end_tick - 1)
            ticks["duration_tick"] = np.maximum(np.round(length), 1)
            ticks["pitch"] = (rows[:, 1] - PITCH) % 128
            ticks["velocity"] = unit.velocity_of(rows[:, 2])
            new.append(ticks)
        fresh = _cut(np.concatenate(new), end)
        tracks[place] = replace(track, notes=_without_overlaps(kept, fresh))
    return score.replace(tracks=tuple(tracks))


def _cut(notes: np.ndarray, end_tick: int) -> np.ndarray:
    """Notes that end with the last bar at the latest."""
    cut = notes.copy()
    cut["duration_tick"] = np.minimum(cut["duration_tick"], end_tick - cut["start_tick"])
    return cut


def _without_overlaps(kept: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Both, the new notes cut where a later note of their pitch begins, none where one sounds."""
    both = np.concatenate([kept, new])
    is_new = np.arange(len(both)) >= len(kept)
    order = np.lexsort((is_new, both["start_tick"], both["pitch"]))
    both, is_new = both[order].copy(), is_new[order]
    alive = np.ones(len(both), dtype=bool)
    last = -1
    for index in range(len(both)):
        if last >= 0 and both["pitch"][last] == both["pitch"][index]:
            ends = int(both["start_tick"][last]) + int(both["duration_tick"][last])
            gap = int(both["start_tick"][index]) - int(both["start_tick"][last])
            if ends > both["start_tick"][index]:
                if is_new[last] and gap > 0:
                    both["duration_tick"][last] = gap
                elif is_new[index]:
                    alive[index] = False
                    continue
        last = index
    return both[alive]
