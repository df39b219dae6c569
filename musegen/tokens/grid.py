"""A piece as a grid of cells, bar x track, and its plain rows.

The plain rows of a piece are `START, { BAR [TEMPO] { TRACK notes... } } END`: every bar names every
track, silent or not, in one canonical order. They are what shards hold; a `Grid` is the same in a
form from which windows, tasks and controls are cut with array arithmetic.

Letters: N notes, K bars, J tracks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from musegen.errors import TokenError
from musegen.tokens.vocabulary import (
    BAR,
    DRUM_PROGRAM,
    END,
    FIRST_POSITION,
    START,
    TEMPO,
    TRACK,
    EventVocabulary,
)

__all__ = ["Grid"]


@dataclass(frozen=True, eq=False)
class Grid:
    """Cells of notes under headers of bars and tracks."""

    meters: np.ndarray
    """(K,) int64: meter class of each bar."""
    tempos: np.ndarray
    """(K,) int64: tempo class of each bar."""
    programs: np.ndarray
    """(J,) int64: program of each track, 128 for drums."""
    instances: np.ndarray
    """(J,) int64: 0 for the first track of a program, 1 for the second, ..."""
    notes: np.ndarray
    """(N, 4) int64 note rows, sorted by cell, position, pitch."""
    offsets: np.ndarray
    """(K * J + 1,) int64: the notes of cell (k, j) are notes[offsets[k*J+j]:offsets[k*J+j+1]]."""

    @property
    def num_bars(self) -> int:
        return len(self.meters)

    @property
    def num_tracks(self) -> int:
        return len(self.programs)

    @property
    def counts(self) -> np.ndarray:
        """(K, J) int64: notes in each cell."""
        return np.diff(self.offsets).reshape(self.num_bars, self.num_tracks)

    def cell(self, bar: int, track: int) -> np.ndarray:
        """(n, 4): the note rows of one cell."""
        index = bar * self.num_tracks + track
        return self.notes[self.offsets[index] : self.offsets[index + 1]]

    def bar_starts_q(self, vocabulary: EventVocabulary) -> np.ndarray:
        """(K + 1,) float64: where each bar begins, in quarter notes, by its meter."""
        units = vocabulary.bar_units[self.meters]
        return np.concatenate(([0], np.cumsum(units))) / vocabulary.grid

    def part(self, first: int, last: int, tracks: np.ndarray) -> Grid:
        """Bars first..last-1 of some tracks, as a grid of its own."""
        cells = (np.arange(first, last)[:, None] * self.num_tracks + tracks[None]).ravel()
        sizes = (self.offsets[1:] - self.offsets[:-1])[cells]
        offsets = np.concatenate(([0], np.cumsum(sizes)))
        source = np.repeat(self.offsets[:-1][cells] - offsets[:-1], sizes) + np.arange(offsets[-1])
        return Grid(
            meters=self.meters[first:last],
            tempos=self.tempos[first:last],
            programs=self.programs[tracks],
            instances=self.instances[tracks],
            notes=self.notes[source],
            offsets=offsets,
        )

    def rows(self, vocabulary: EventVocabulary) -> np.ndarray:
        """The plain rows, (T, 4) uint16."""
        bars, tracks = self.num_bars, self.num_tracks
        new_tempo = np.ones(bars, dtype=bool)
        new_tempo[1:] = self.tempos[1:] != self.tempos[:-1]
        counts = self.counts
        bar_rows = 1 + new_tempo + tracks + counts.sum(1)
        bar_at = 1 + np.concatenate(([0], np.cumsum(bar_rows)))
        rows = np.zeros((bar_at[-1] + 1, 4), dtype=np.uint16)
        rows[0, 0] = START
        rows[-1, 0] = END
        rows[bar_at[:-1], 0] = BAR
        rows[bar_at[:-1], 1] = vocabulary.first_meter + self.meters
        at = bar_at[:-1][new_tempo] + 1
        rows[at, 0] = TEMPO
        rows[at, 1] = vocabulary.first_tempo + self.tempos[new_tempo]
        before = np.cumsum(1 + counts, axis=1) - (1 + counts)
        track_at = (bar_at[:-1] + 1 + new_tempo)[:, None] + before
        rows[track_at, 0] = TRACK
        rows[track_at, 1] = (vocabulary.first_program + self.programs)[None]
        rows[track_at, 2] = (vocabulary.first_instance + self.instances)[None]
        cells = np.repeat(np.arange(bars * tracks), counts.ravel())
        note_at = (
            track_at.ravel()[cells] + 1 + np.arange(len(self.notes)) - self.offsets[:-1][cells]
        )
        rows[note_at] = self.notes
        return rows

    @classmethod
    def from_rows(cls, rows: np.ndarray, vocabulary: EventVocabulary) -> Grid:
        """The inverse of `rows`.

        Raises:
            TokenError: the rows are not the plain rows of a piece.
        """
        rows = np.asarray(rows).astype(np.int64)
        if rows.ndim != 2 or rows.shape[1] != 4 or not len(rows):
            raise TokenError(f"rows of shape {rows.shape}: the events presets have rows of 4 ids")
        if np.any(rows < 0) or np.any(rows >= np.array(vocabulary.field_sizes)):
            bad = int(np.argmax(np.any((rows < 0) | (rows >= vocabulary.field_sizes), axis=1)))
            raise TokenError(f"row {bad} is {rows[bad].tolist()}: an id outside the preset")
        head = rows[:, 0]
        is_bar, is_track, is_note = head == BAR, head == TRACK, head >= FIRST_POSITION
        bar = np.cumsum(is_bar) - 1
        tracks_before = np.cumsum(is_track)
        bars = int(bar[-1]) + 1
        if not bars or np.any(bar[is_track | is_note] < 0):
            raise TokenError("these rows hold no bar, or notes before the first bar")
        track_rows = np.flatnonzero(is_track)
        per_bar = np.bincount(bar[track_rows], minlength=bars)
        if per_bar.min() != per_bar.max() or not per_bar[0]:
            raise TokenError("these rows do not name the same tracks in every bar")
        tracks = int(per_bar[0])
        programs = rows[track_rows[:tracks], 1] - vocabulary.first_program
        instances = rows[track_rows[:tracks], 2] - vocabulary.first_instance
        named = rows[track_rows, 1].reshape(bars, tracks) - vocabulary.first_program
        if np.any(named != programs) or programs.min() < 0 or programs.max() > DRUM_PROGRAM:
            raise TokenError("these rows do not name the same tracks in every bar")
        meters = rows[is_bar, 1] - vocabulary.first_meter
        if meters.min() < 0 or meters.max() >= len(vocabulary.meters):
            raise TokenError("a bar of these rows has no meter of the preset")
        tempo_rows = np.flatnonzero(head == TEMPO)
        tempos = np.full(bars, -1, dtype=np.int64)
        tempos[bar[tempo_rows]] = rows[tempo_rows, 1] - vocabulary.first_tempo
        known = np.maximum.accumulate(np.where(tempos >= 0, np.arange(bars), 0))
        tempos = np.maximum(tempos[known], 0)
        cell = tracks_before[is_note] - 1
        if np.any(cell // tracks != bar[is_note]):
            raise TokenError("a note stands before the first track of its bar")
        sizes = np.bincount(cell, minlength=bars * tracks)
        return cls(
            meters=meters,
            tempos=tempos,
            programs=programs,
            instances=np.maximum(instances, 0),
            notes=rows[is_note],
            offsets=np.concatenate(([0], np.cumsum(sizes))),
        )
