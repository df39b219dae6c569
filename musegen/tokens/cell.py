"""One open cell: what may be written in it, note by note, whatever the logits.

The rules are masks over the fields of the next row, applied before any filter; besides the order
of notes (positions never go back, pitches of one position rise) they hold what was asked of the
cell: how many notes, which pitches where, which onsets, how many at once, which notes stay, and how
the part begins and ends. A bound from below is kept by looking ahead: a note is allowed only where
the notes that are still owed have room after it.

Letters: U grid units of the bar, R grid units from the barline to the end of the region.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from musegen.tokens.vocabulary import BAR, END, FIRST_POSITION, TEMPO, TRACK, EventVocabulary

__all__ = ["MAX_CHORD", "CellForm", "OpenCell", "Row", "Slot"]

MAX_CHORD = 12
"""Notes of one track at one position."""

_CELL_ENDS = [BAR, TRACK, TEMPO, END]

Row = tuple[int, int, int, int]
"""Head, pitch, velocity, duration."""


@dataclass(frozen=True)
class Slot:
    """A note whose place in time is kept, while its pitch is written anew."""

    row: Row
    """The old note; its pitch field says nothing."""
    start: int
    """Where it begins, in units, rounded down."""
    end: int
    """Where it ends, rounded up."""
    source: int
    """Which note of the seed's track it is."""


@dataclass(frozen=True, eq=False)
class CellForm:
    """What is asked of a cell, in grid units from its barline."""

    allowed: np.ndarray
    """(U, 128) booleans: the pitches that may begin at each unit."""
    onsets: np.ndarray
    """(U,) booleans: where notes may begin."""
    room: int
    """R: every note ends by here."""
    base: int
    """The id of pitch 0."""
    least: int = 0
    most: int = 96
    limit: int = 0
    """Notes of the track that may sound at once; 0 for no limit."""
    sounding: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    """(R,) int64, only with a limit: how many other notes of the track sound at each unit."""
    fixed: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    """(n, 2) int64: start and pitch of notes that stay; a new note of the pitch ends there."""
    ringing: tuple[tuple[int, int], ...] = ()
    """(pitch, end) of written notes that ring into the cell and end when struck again."""
    pinned: tuple[Row, ...] = ()
    """Rows that stay, ascending; the new notes are written around them."""
    slots: tuple[Slot, ...] | None = None
    """A locked rhythm: these notes, in this order, with other pitches (musegen/tokens/locks.py)."""
    tune: tuple[int, ...] | None = None
    """Locked pitches: these, in this order, at other places."""
    first_pitch: int | None = None
    """Pitch of the first note of the cell."""
    last_pitch: int | None = None
    """Pitch of the last note of the cell; the cell must not stay empty."""
    preferred: np.ndarray | None = None
    """(U, 128) booleans: pitches that are wished for at each unit."""


class OpenCell:
    """The state of a cell that is being written."""

    NEW, PINNED = -1, -2
    """What `sources` says of notes that have no source, and of those that stay."""

    def __init__(self, vocabulary: EventVocabulary, form: CellForm) -> None:
        self.vocabulary, self.form = vocabulary, form
        self.rows: list[Row] = []
        self.sources: list[int] = []
        """For each row the seed's note whose time it has, or NEW, or PINNED."""
        self._pinned = deque(form.pinned)
        self._allowed, self._onsets = form.allowed, form.onsets
        self._sounding = form.sounding.copy()
        self._active = dict(form.ringing)
        self._closing = -1
        if form.last_pitch is not None and form.slots is None:
            self._reserve(form.last_pitch)
        self._refresh()

    def _reserve(self, pitch: int) -> None:
        """Keeps the last place where the part can end on its last pitch free for that."""
        places = np.flatnonzero(self._allowed[:, pitch] & self._onsets & (self._free_voices() > 0))
        self._closing = int(places[-1]) if len(places) else 0
        self._allowed, self._onsets = self._allowed.copy(), self._onsets.copy()
        self._onsets[self._closing + 1 :] = False
        self._allowed[self._closing, pitch + 1 :] = False
        if self.form.limit:
            self._sounding[self._closing] += 1

    def _free_voices(self) -> np.ndarray:
        """(U,) int64: how many more notes may sound at each unit, MAX_CHORD at most."""
        units = len(self._onsets)
        if not self.form.limit:
            return np.full(units, MAX_CHORD, dtype=np.int64)
        return np.clip(self.form.limit - self._sounding[:units], 0, MAX_CHORD)

    def _refresh(self) -> None:
        """What depends on the voices in use: how many notes each unit still takes."""
        voices = self._free_voices()
        pitches = np.count_nonzero(self._allowed, axis=1)
        if self._closing >= 0:  # the closing note has a place of its own
            pitches[self._closing] -= 1
        self._voices = voices
        self._takes = np.where(self._onsets, np.minimum(pitches, voices), 0)
        if self._closing >= 0:
            self._takes[self._closing] += 1
        # Room after each unit: the sum of what later units take.
        self._later = np.append(np.cumsum(self._takes[::-1])[::-1], 0)[1:]

    # --- What is still owed --------------------------------------------------------------------

    @property
    def _free(self) -> int:
        """How many more notes may be drawn."""
        return self.form.most - len(self.rows) - len(self._pinned)

    @property
    def _owed(self) -> int:
        """How many more notes must be drawn."""
        owed = max(0, self.form.least - len(self.rows) - len(self._pinned))
        return owed if self._closes else max(owed, 1)

    @property
    def _closes(self) -> bool:
        """Whether the last row is one that the part may end on."""
        last = self.form.last_pitch
        return last is None or bool(self.rows and self.rows[-1][1] == self.form.base + last)

    @property
    def may_end(self) -> bool:
        """Whether the cell may end now."""
        return not self._pinned and not self._owed

    @property
    def complete(self) -> bool:
        """Whether nothing can be added, so that the cell ends without being asked."""
        return self.may_end and not self._positions().any()

    # --- Masks ---------------------------------------------------------------------------------

    def head_mask(self, size: int) -> np.ndarray:
        """(size,) booleans: which heads may follow."""
        mask = np.zeros(size, dtype=bool)
        units = len(self._onsets)
        notes = mask[FIRST_POSITION : FIRST_POSITION + units]
        notes |= self._positions()
        if self._pinned:
            place = self._pinned[0][0] - FIRST_POSITION
            notes[place + 1 :] = False
            # Whatever comes later than the pinned note means: the pinned note now.
            if self._may_pass():
                notes[place:] = True
                mask[_CELL_ENDS] = True
            elif notes[place]:
                notes[place] = self._below_pinned()
        elif self.may_end:
            mask[_CELL_ENDS] = True
        return mask

    def pitch_mask(self, size: int, position: int) -> np.ndarray:
        """(size,) booleans: which pitches may follow at a position."""
        form = self.form
        mask = np.zeros(size, dtype=bool)
        if self._is_past_pinned(position):
            mask[0] = True
            return mask
        mask[form.base : form.base + 128] = self._pitches(position)
        if self._pinned and self._pinned[0][0] == FIRST_POSITION + position:
            pinned = self._pinned[0][1]
            mask[pinned:] = False
            if not self._positions()[position]:  # drawn to pass, not to write
                mask[:] = False
            if self._may_pass():
                mask[pinned] = True
        return mask

    def velocity_mask(self, size: int, position: int, pitch_id: int) -> np.ndarray:
        """(size,) booleans: which velocity classes may follow."""
        mask = np.zeros(size, dtype=bool)
        if self.passes(position, pitch_id):
            mask[0] = True
        else:
            mask[1 : 1 + self.vocabulary.velocities] = True
        return mask

    def duration_mask(self, size: int, position: int, pitch_id: int) -> np.ndarray:
        """(size,) booleans: which duration classes may follow."""
        mask = np.zeros(size, dtype=bool)
        if self.passes(position, pitch_id):
            mask[0] = True
        else:
            most = self._longest(position, pitch_id - self.form.base)
            mask[1:] = self.vocabulary.duration_units <= most
        return mask

    def bias(self, position: int, size: int, weight: float) -> np.ndarray | None:
        """(size,) float64: what is added to the logits of the pitches that are wished for."""
        preferred = self.form.preferred
        if preferred is None:
            return None
        added = np.zeros(size)
        added[self.form.base : self.form.base + 128] = weight * preferred[position]
        return added

    # --- Rows ----------------------------------------------------------------------------------

    def passes(self, position: int, pitch_id: int) -> bool:
        """Whether a draw of these fields means "the pinned note now"."""
        if not self._pinned:
            return False
        return (FIRST_POSITION + position, pitch_id) >= self._pinned[0][:2] or not pitch_id

    def accept(self, row: Sequence[int]) -> Literal["note", "pinned", "end"]:
        """Takes a drawn row. After "pinned", `rows[-1]` is the note that stays."""
        head = int(row[0])
        if head < FIRST_POSITION and not self._pinned:
            return "end"
        if head < FIRST_POSITION or self.passes(head - FIRST_POSITION, int(row[1])):
            self._pin()
            return "pinned"
        self._add(head - FIRST_POSITION, (head, int(row[1]), int(row[2]), int(row[3])))
        return "note"

    def settle(self) -> list[Row]:
        """Pinned notes that nothing can come before any more: they are in, without being asked."""
        taken = []
        while self._pinned:
            place = self._pinned[0][0] - FIRST_POSITION
            before = self._positions()
            before[place + 1 :] = False
            if before[place]:
                before[place] = self._below_pinned()
            if before.any():
                break
            taken.append(self._pin())
        return taken

    def _pin(self) -> Row:
        row = self._pinned.popleft()
        self.rows.append(row)
        self.sources.append(self.PINNED)
        return row

    def _add(self, position: int, row: Row) -> None:
        form = self.form
        pitch = row[1] - form.base
        self.rows.append(row)
        self.sources.append(self.NEW)
        end = position + int(self.vocabulary.duration_units[row[3] - 1])
        if form.limit:
            until = self._active.get(pitch, 0)
            if until > position:  # struck again: the old one ends here
                self._sounding[position:until] -= 1
            self._sounding[position:end] += 1
            if position == self._closing and pitch == form.last_pitch:
                self._sounding[position] -= 1
            self._refresh()
        self._active[pitch] = end

    # --- Inside --------------------------------------------------------------------------------

    def _last(self) -> tuple[int, int]:
        """Position and pitch of the last row; (-1, -1) in an empty cell."""
        if not self.rows:
            return -1, -1
        return self.rows[-1][0] - FIRST_POSITION, self.rows[-1][1] - self.form.base

    def _legal(self, position: int) -> np.ndarray:
        """(128,) booleans: the pitches that may begin at a position, given the last row."""
        last_position, last_pitch = self._last()
        legal = self._allowed[position]
        if last_position == position:
            legal = legal.copy()
            legal[: last_pitch + 1] = False
        if self._closing == position and self._here(position) == 1:
            # the place that is kept for the end
            return legal & (np.arange(128) == self.form.last_pitch)
        return legal

    def _here(self, position: int) -> int:
        """How many more notes a position takes, by voices and the size of chords."""
        chord = sum(row[0] == FIRST_POSITION + position for row in self.rows[-MAX_CHORD:])
        room = int(self._voices[position])
        if not self.form.limit:
            room -= chord
        else:
            room = min(room, MAX_CHORD - chord)
        return room + (position == self._closing)

    def _only(self) -> int | None:
        """The one pitch that the next note may have, where the part's ends are asked for."""
        form = self.form
        if not self.rows and form.first_pitch is not None:
            return form.first_pitch
        if form.last_pitch is not None and self._free == 1:
            return form.last_pitch
        return None

    def _pitches(self, position: int) -> np.ndarray:
        """(128,) booleans: the pitches that may be written at a position now."""
        legal, only = self._legal(position), self._only()
        owed = self._owed - 1 - int(self._later[position])
        if owed > 0:  # so many more must fit above this pitch, at this position
            above = np.cumsum(legal[::-1])[::-1] - legal
            legal = legal & (np.minimum(above, self._here(position) - 1) >= owed)
        return legal if only is None else legal & (np.arange(128) == only)

    def _positions(self) -> np.ndarray:
        """(U,) booleans: where another note may begin."""
        last, owed, only = self._last()[0], self._owed, self._only()
        positions = self._takes > 0
        positions[: max(last, 0)] = False
        if self._free <= 0:
            positions[:] = False
            return positions
        takes = self._takes
        if only is not None:
            positions &= self._allowed[:, only]
            if owed > 1:  # what is left of each position above this pitch
                takes = np.minimum(takes, np.count_nonzero(self._allowed[:, only:], axis=1))
        if last >= 0:
            legal = self._legal(last)
            here = min(int(legal.sum()), self._here(last))
            positions[last] = bool(positions[last] and here > 0)
            if only is not None:
                positions[last] = bool(positions[last] and legal[only])
            if owed > 1 and positions[last]:
                positions[last] = here + self._later[last] >= owed
                takes = takes.copy()
                takes[last] = owed  # settled just now
        if owed > 1:
            positions &= takes + self._later >= owed
        return positions

    def _may_pass(self) -> bool:
        """Whether the notes owed still have room after the next pinned note."""
        place, pitch = self._pinned[0][0] - FIRST_POSITION, self._pinned[0][1] - self.form.base
        owed = self._owed - int(self._later[place])
        if owed <= 0:
            return True
        above = int(np.count_nonzero(self._allowed[place, pitch + 1 :])) * bool(self._onsets[place])
        return min(above, self._here(place) - 1) >= owed

    def _below_pinned(self) -> bool:
        """Whether a new note may stand at the place of the next pinned one, below it."""
        head, pitch = self._pinned[0][:2]
        return bool(self._pitches(head - FIRST_POSITION)[: pitch - self.form.base].any())

    def _is_past_pinned(self, position: int) -> bool:
        return bool(self._pinned) and FIRST_POSITION + position > self._pinned[0][0]

    def _longest(self, position: int, pitch: int) -> int:
        """Units that a new note may last."""
        form = self.form
        most = form.room - position
        ahead = form.fixed[(form.fixed[:, 1] == pitch) & (form.fixed[:, 0] > position), 0]
        if len(ahead):
            most = min(most, int(ahead.min()) - position)
        if not form.limit:
            return most
        full = np.flatnonzero(self._sounding[position + 1 : position + most] >= form.limit)
        if len(full):
            most = int(full[0]) + 1
        return self._longest_for_rest(position, pitch, most)

    def _longest_for_rest(self, position: int, pitch: int, most: int) -> int:
        """Units up to `most` that leave the notes that are owed their voices."""
        owed = self._owed - 1
        if owed > 0:
            # Each unit that this note takes a voice from may take one note less.
            units = len(self._onsets)
            rest = self._legal(position)[pitch + 1 :].sum()
            here = max(0, min(int(rest), self._here(position) - 1))
            pitches = np.count_nonzero(self._allowed, axis=1)
            less = np.minimum(pitches, np.maximum(self._voices - 1, 0))
            if self._closing >= 0:
                less[self._closing] = max(self._takes[self._closing] - 1, 1)
            lost = np.cumsum((self._takes - np.where(self._onsets, less, 0))[position + 1 : units])
            spare = here + int(self._later[position]) - owed
            over = np.flatnonzero(lost > spare)
            if len(over):
                most = min(most, int(over[0]) + 1)
        return most
