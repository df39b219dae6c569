"""Cells in which something of the old notes is locked: their times, or their pitches."""

from __future__ import annotations

import numpy as np

from musegen.tokens.cell import MAX_CHORD, CellForm, OpenCell, Row, Slot
from musegen.tokens.vocabulary import FIRST_POSITION, EventVocabulary

__all__ = ["LockedPitches", "LockedRhythm", "open_cell"]


def open_cell(vocabulary: EventVocabulary, form: CellForm) -> OpenCell:
    """The cell of a form, by what is locked in it."""
    if form.slots is not None:
        return LockedRhythm(vocabulary, form)
    if form.tune is not None:
        return LockedPitches(vocabulary, form)
    return OpenCell(vocabulary, form)


class LockedRhythm(OpenCell):
    """Onsets, lengths and velocities stay, the pitches are new."""

    @property
    def _slots(self) -> tuple[Slot, ...]:
        return self.form.slots or ()

    @property
    def may_end(self) -> bool:
        """Whether every note has its new pitch."""
        return len(self.rows) == len(self._slots)

    def velocity_mask(self, size: int, position: int, pitch_id: int) -> np.ndarray:
        """(size,) booleans: the old velocity."""
        return np.arange(size) == self._slots[len(self.rows)].row[2]

    def duration_mask(self, size: int, position: int, pitch_id: int) -> np.ndarray:
        """(size,) booleans: the old duration."""
        return np.arange(size) == self._slots[len(self.rows)].row[3]

    def _positions(self) -> np.ndarray:
        positions = np.zeros(len(self._onsets), dtype=bool)
        if len(self.rows) < len(self._slots):
            positions[self._slots[len(self.rows)].row[0] - FIRST_POSITION] = True
        return positions

    def _add(self, position: int, row: Row) -> None:
        slot = self._slots[len(self.rows)]
        self.rows.append(row)
        self.sources.append(slot.source)
        self._active[row[1] - self.form.base] = slot.end

    def _legal(self, position: int) -> np.ndarray:
        last_position, last_pitch = self._last()
        legal = self._allowed[position].copy()
        if last_position == position:
            legal[: last_pitch + 1] = False
        return legal

    def _pitches(self, position: int) -> np.ndarray:
        """(128,) booleans: pitches such that the later notes of the chord can follow."""
        form, slots, index = self.form, self._slots, len(self.rows)
        slot = slots[index]
        legal = self._legal(position)
        for pitch, end in self._active.items():
            if end > slot.start:  # it would be cut short
                legal[pitch] = False
        ahead = form.fixed[(form.fixed[:, 0] >= slot.start) & (form.fixed[:, 0] < slot.end), 1]
        legal[ahead] = False
        together = sum(later.row[0] == slot.row[0] for later in slots[index + 1 :])
        if form.last_pitch is not None and slots[-1].row[0] > slot.row[0]:
            if slot.end > slots[-1].start:  # it would still sound where the part is to end on it
                legal[form.last_pitch] = False
        elif form.last_pitch is not None:
            legal[form.last_pitch + 1 :] = False
            if not together:
                legal[: form.last_pitch] = False
            elif not legal[form.last_pitch]:
                legal[:] = False
        above = np.cumsum(legal[::-1])[::-1] - legal
        legal &= above >= together
        if index == 0 and form.first_pitch is not None:
            legal &= np.arange(128) == form.first_pitch
        return legal


class LockedPitches(OpenCell):
    """The old pitches in their old order, at new times."""

    @property
    def _tune(self) -> tuple[int, ...]:
        return self.form.tune or ()

    @property
    def may_end(self) -> bool:
        """Whether every pitch has its new time."""
        return len(self.rows) == len(self._tune)

    def _reserve(self, pitch: int) -> None:
        """Nothing to keep free: the last pitch is known."""

    def _pitches(self, position: int) -> np.ndarray:
        return self._legal(position) & (np.arange(128) == self._tune[len(self.rows)])

    def _latest(self, sounding: np.ndarray) -> int:
        """The latest position of the next locked pitch such that all the others fit; -1 if none."""
        form = self.form
        rest = self._tune[len(self.rows) :]
        units = len(self._onsets)
        voices = np.full(units, MAX_CHORD)
        if form.limit:
            voices = np.clip(form.limit - sounding[:units], 0, MAX_CHORD)
        open_to = self._allowed & (self._onsets & (voices > 0))[:, None]
        place, above, stacked = units, 128, 0
        for pitch in reversed(rest):
            last = place
            if place < units and pitch < above and stacked < voices[place]:
                last = place + 1  # below the one after it, at the same position
            places = np.flatnonzero(open_to[:last, pitch])
            if not len(places):
                return -1
            stacked = stacked + 1 if int(places[-1]) == place else 1
            place, above = int(places[-1]), pitch
        return place

    def _positions(self) -> np.ndarray:
        tune, index = self._tune, len(self.rows)
        positions = np.zeros(len(self._onsets), dtype=bool)
        if index >= len(tune):
            return positions
        last, last_pitch = self._last()
        latest = self._latest(self._sounding)
        begin = last + (last >= 0 and (tune[index] <= last_pitch or self._here(last) < 1))
        if latest >= 0:
            span = slice(max(begin, 0), latest + 1)
            free = self._onsets & (self._voices > 0)
            positions[span] = (self._allowed[:, tune[index]] & free)[span]
        return positions

    def _longest_for_rest(self, position: int, pitch: int, most: int) -> int:
        """The longest duration up to `most` that leaves the other pitches room."""
        self.rows.append((FIRST_POSITION + position, self.form.base + pitch, 1, 1))
        try:
            if len(self.rows) == len(self._tune):
                return most
            after = position + (self._tune[len(self.rows)] <= pitch)
            low, high = 1, most
            while low < high:
                middle = (low + high + 1) // 2
                sounding = self._sounding.copy()
                sounding[position : position + middle] += 1
                if self._latest(sounding) >= after:
                    low = middle
                else:
                    high = middle - 1
            return low
        finally:
            self.rows.pop()
