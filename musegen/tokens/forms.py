"""What is asked of each cell: from the plan's rules, in beats and names, to a `CellForm` in units.

Range, scale, onsets, limits, and the notes of the seed that stay and must not be touched. Those are
taken from the seed's ticks, not from the grid: rounded outwards, so that no written note cuts one.

Letters: U grid units of a bar.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from musegen.errors import TokenError
from musegen.tokens.canvas import Canvas
from musegen.tokens.cell import CellForm, Row, Slot
from musegen.tokens.plan import CellRule, Classes
from musegen.tokens.vocabulary import DRUM_PITCH, DRUM_PROGRAM, FIRST_POSITION, PITCH

__all__ = ["CellForms"]

DRUM_RANGE = (27, 87)
"""General MIDI level 2 percussion: what a drum track may be given."""


class CellForms:
    """Makes the form of a cell when its turn comes."""

    def __init__(self, canvas: Canvas) -> None:
        self.canvas, self.plan, self.vocabulary = canvas, canvas.plan, canvas.vocabulary
        self._cell_bars = [
            np.flatnonzero(~canvas.given[:, place]) for place in range(canvas.num_tracks)
        ]
        self._fixed = {
            place: self._fixed_notes(index)
            for place, index in enumerate(canvas.plan_track)
            if index >= 0
        }

    def form(self, bar: int, place: int, *, begun: bool, must_sound: bool) -> CellForm:
        """What is asked of a cell.

        Args:
            bar, place: which cell.
            begun: whether the track has a written note already.
            must_sound: whether the cell must not stay empty.
        """
        vocabulary, index = self.vocabulary, self.canvas.plan_track[place]
        track, rule = self.plan.tracks[index], self.plan.rule(index, bar)
        units, room = self._units_of(bar), self._room(bar, place)
        slots = self._slots(index, bar, units) if rule.lock == "rhythm" else None
        start_tick = self.canvas.bars[bar].start_tick
        notes, own = self._fixed[place]
        begin = np.floor(self.canvas.units(notes[:, 0] - start_tick)).astype(np.int64)
        end = np.ceil(self.canvas.units(notes[:, 1] - start_tick)).astype(np.int64)
        # Locked notes keep their length, beyond the region too.
        near = (end > 0) & (begin < max([room, *(slot.end for slot in slots or ())]))
        begin, end, pitch, own = begin[near], end[near], notes[near, 2], own[near]
        begin, end, pitch, own = self._with_other_drums(place, start_tick, begin, end, pitch, own)

        allowed = self._allowed(index, bar, units)
        for first, last, which in zip(begin.tolist(), end.tolist(), pitch.tolist(), strict=True):
            allowed[max(first, 0) : last, which] = False
        onsets = self._onsets(rule.grid_q, units)
        window = min(room, units + int(vocabulary.duration_units[-1]))
        rung = [
            (which, math.ceil(self.canvas.units(np.array(stop - start_tick))))
            for _, stop, which in self.canvas.rung.get(place, [])
            if stop > start_tick
        ]
        sounding = np.zeros(0, dtype=np.int64)
        if rule.max_polyphony:
            sounding = np.zeros(window, dtype=np.int64)
            for first, last in zip(begin[own].tolist(), end[own].tolist(), strict=True):
                sounding[max(first, 0) : last] += 1
            for _, last in rung:
                sounding[:last] += 1
        last_cell = bar == self._cell_bars[place][-1]
        ends_here = track.last_pitch is not None and bool(last_cell)
        must = must_sound or ends_here
        must = must or (track.first_pitch is not None and not begun and bool(last_cell))
        pinned = self._pinned(index, bar, units)
        # Of two notes that stay and fall on one place of the grid, one row is shown; both count.
        hidden = len(self.plan.kept.get((index, bar), ())) - len(pinned)
        most = max(0, min(rule.most_notes, self.plan.max_notes_per_cell) - hidden)
        least = max(0, rule.least_notes - hidden)
        if must and not least:
            may_begin = (
                allowed if begun or track.first_pitch is None else allowed[:, [track.first_pitch]]
            )
            least = 1 if ends_here or self._has_room(may_begin, onsets, rule, sounding) else 0
        return CellForm(
            allowed=allowed,
            onsets=onsets,
            room=window,
            base=self._base(place),
            least=min(least, most),
            most=most,
            limit=rule.max_polyphony,
            sounding=sounding,
            fixed=np.stack((begin, pitch), axis=1),
            ringing=tuple(rung),
            pinned=pinned,
            slots=slots,
            tune=self._tune(index, bar) if rule.lock == "pitch" else None,
            first_pitch=None if begun else track.first_pitch,
            last_pitch=track.last_pitch if ends_here else None,
            preferred=self._by_class(rule.wished, units) if rule.wished else None,
        )

    def _fixed_notes(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """(n, 3) start tick, end tick, pitch of what stays in a track's channel; (n,) own."""
        item = self.plan.tracks[index]
        found, own = [np.zeros((0, 3), dtype=np.int64)], [np.zeros(0, dtype=bool)]
        for other, track in enumerate(self.canvas.seed.tracks):
            mine = other == item.seed_track
            # Drum tracks of one kit share a channel: what one plays the other must not cut.
            if not mine and not (item.is_drum and track.is_drum and track.program == item.program):
                continue
            keep = np.ones(len(track), dtype=bool)
            for planned, gone in self.canvas.removed.items():
                if self.plan.tracks[planned].seed_track == other:
                    keep &= ~gone
                    for (who, _), kept in self.plan.kept.items():
                        if who == planned:
                            keep[list(kept)] = True
            notes = track.notes[keep]
            start = notes["start_tick"].astype(np.int64)
            found.append(np.stack((start, start + notes["duration_tick"], notes["pitch"]), axis=1))
            own.append(np.full(len(notes), mine))
        return np.concatenate(found), np.concatenate(own)

    def _units_of(self, bar: int) -> int:
        """Positions of a bar that notes may begin at: a bar that is cut short has fewer."""
        place = self.canvas.bars[bar]
        exact = math.floor(self.canvas.units(np.array(place.end_tick - place.start_tick)))
        return max(1, min(int(self.canvas.bar_units[bar]), exact))

    @staticmethod
    def _has_room(
        allowed: np.ndarray, onsets: np.ndarray, rule: CellRule, sounding: np.ndarray
    ) -> bool:
        """Whether any note may begin in a cell."""
        able = onsets & allowed.any(axis=1)
        if rule.max_polyphony:
            able = able & (sounding[: len(onsets)] < rule.max_polyphony)
        return bool(able.any())

    def _room(self, bar: int, place: int) -> int:
        """Units from a bar's start to the end of its region, or to a bar that needs its voices."""
        end = bar + 1
        while end < self.canvas.num_bars and not self.canvas.given[end, place]:
            if self._needs_voices(end, bar, place):
                break
            end += 1
        ticks = self.canvas.bars[end - 1].end_tick - self.canvas.bars[bar].start_tick
        return max(1, math.floor(self.canvas.units(np.array(ticks))))

    def _needs_voices(self, bar: int, before: int, place: int) -> bool:
        """Whether notes of the bar `before` must not ring into a bar: it owes notes of its own."""
        index = self.canvas.plan_track[place]
        track, rule = self.plan.tracks[index], self.plan.rule(index, bar)
        if not rule.max_polyphony:
            return False
        ends = bar == self._cell_bars[place][-1] and (
            track.first_pitch is not None or track.last_pitch is not None
        )
        other = self.plan.rule(index, before).max_polyphony != rule.max_polyphony
        return bool(rule.least_notes or rule.lock or ends or other)

    def _base(self, place: int) -> int:
        return DRUM_PITCH if self.canvas.programs[place] == DRUM_PROGRAM else PITCH

    def _with_other_drums(self, place: int, start_tick: int, *columns: np.ndarray) -> tuple:
        """The obstacles and what other drum tracks of the kit have been given so far."""
        index = self.canvas.plan_track[place]
        if not self.plan.tracks[index].is_drum:
            return columns
        extra = []
        for other, rung in self.canvas.rung.items():
            item = self.plan.tracks[self.canvas.plan_track[other]]
            if other == place or not item.is_drum:
                continue
            if item.program != self.plan.tracks[index].program:
                continue
            extra += [
                (
                    math.floor(self.canvas.units(np.array(begin - start_tick))),
                    math.ceil(self.canvas.units(np.array(end - start_tick))),
                    pitch,
                    False,
                )
                for begin, end, pitch in rung
                if end > start_tick
            ]
        if not extra:
            return columns
        added = np.array(extra, dtype=np.int64)
        return tuple(
            np.concatenate((column, added[:, i].astype(column.dtype)))
            for i, column in enumerate(columns)
        )

    def _allowed(self, index: int, bar: int, units: int) -> np.ndarray:
        """(U, 128) booleans by range and pitch classes."""
        track, rule = self.plan.tracks[index], self.plan.rule(index, bar)
        low, high = rule.pitch_range or (track.lowest_pitch, track.highest_pitch)
        if track.is_drum:
            low, high = max(low, DRUM_RANGE[0]), min(high, DRUM_RANGE[1])
        if low > high:
            raise TokenError(f"track {index + 1}: no pitch lies between {low} and {high}")
        allowed = np.zeros((units, 128), dtype=bool)
        allowed[:, low : high + 1] = True
        if rule.classes and not track.is_drum:
            allowed &= self._by_class(rule.classes, units)
        return allowed

    def _by_class(self, classes: Classes, units: int) -> np.ndarray:
        """(U, 128) booleans: the pitch classes in force at each unit."""
        table = np.zeros((units, 128), dtype=bool)
        for start_q, wanted in classes:
            first = math.ceil(start_q * self.vocabulary.grid - 1e-6)
            table[first:] = np.isin(np.arange(128) % 12, sorted(wanted))
        return table

    def _onsets(self, steps: Iterable, units: int) -> np.ndarray:
        """(U,) booleans: the units that are multiples of a step of the grid."""
        steps = tuple(steps)
        if not steps:
            return np.ones(units, dtype=bool)
        grid = self.vocabulary.grid
        return np.array([any((unit / (step * grid)).denominator == 1 for step in steps)
                         for unit in range(units)])  # fmt: skip

    def _rows(self, index: int, bar: int, notes: np.ndarray, units: int) -> np.ndarray:
        """(n, 4): notes of a plan track's seed track as rows of a bar."""
        item = self.plan.tracks[index]
        chosen = self.canvas.seed.tracks[item.seed_track or 0].notes[notes]
        place = self.canvas.units(chosen["start_tick"] - self.canvas.bars[bar].start_tick)
        position = np.clip(np.round(place).astype(np.int64), 0, units - 1)
        base = DRUM_PITCH if item.is_drum else PITCH
        return np.stack(
            (
                FIRST_POSITION + position,
                base + chosen["pitch"].astype(np.int64),
                self.vocabulary.velocity_class(chosen["velocity"]),
                self.vocabulary.duration_class(self.canvas.units(chosen["duration_tick"])),
            ),
            axis=1,
        )

    def _pinned(self, index: int, bar: int, units: int) -> tuple[Row, ...]:
        kept = np.array(self.plan.kept.get((index, bar), ()), dtype=np.int64)
        rows = self._rows(index, bar, kept, units) if len(kept) else np.zeros((0, 4), np.int64)
        first = {(row[0], row[1]): row for row in sorted(rows.tolist(), reverse=True)}
        return tuple((row[0], row[1], row[2], row[3]) for row in sorted(first.values()))

    def _slots(self, index: int, bar: int, units: int) -> tuple[Slot, ...]:
        """The locked notes of a cell by place, then from low to high."""
        notes = self.plan.seed_notes(index, bar)
        rows = self._rows(index, bar, notes, units)
        chosen = self.canvas.seed.tracks[self.plan.tracks[index].seed_track or 0].notes[notes]
        start = self.canvas.units(chosen["start_tick"] - self.canvas.bars[bar].start_tick)
        stop = self.canvas.units(
            chosen["start_tick"].astype(np.int64)
            + chosen["duration_tick"]
            - self.canvas.bars[bar].start_tick
        )
        slots = [
            Slot((*row,), math.floor(begin), math.ceil(end), int(source))
            for row, begin, end, source in zip(
                rows.tolist(), start.tolist(), stop.tolist(), notes.tolist(), strict=True
            )
        ]
        return tuple(sorted(slots, key=lambda slot: (slot.row[0], slot.row[1], slot.source)))

    def _tune(self, index: int, bar: int) -> tuple[int, ...]:
        """The locked pitches of a cell in their order."""
        notes = self.plan.seed_notes(index, bar)
        chosen = self.canvas.seed.tracks[self.plan.tracks[index].seed_track or 0].notes[notes]
        return tuple(chosen["pitch"].tolist())
