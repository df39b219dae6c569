"""The order in which cells are shown and written, and the rows that this makes.

One document format serves every task. A request marks each cell (bar x track) as given or to be
written: continuation writes the tail bars, accompaniment one track in all bars, infilling a window,
composing everything. Bars stand in time order and nothing that is to be written is ever moved;
within a bar the given cells come first, then the cells to write. With nothing given ahead this is
the plain left-to-right document, row for row, so continuation costs nothing.

Letters: K bars, J tracks, S steps, T rows, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from musegen.tokens.controls import (
    GIVEN,
    MAX_BARS_LEFT,
    MAX_NOTES_LEFT,
    TO_WRITE,
    CellControls,
    PieceControls,
)
from musegen.tokens.grid import Grid
from musegen.tokens.vocabulary import (
    BAR,
    END,
    FIRST_POSITION,
    MIDDLE,
    START,
    TEMPO,
    TRACK,
    EventVocabulary,
)

__all__ = ["HEADER", "Layout", "Steps", "layout", "schedule"]

HEADER = -1
"""In `Steps.track`: this step is the header of the bar, not a cell."""


@dataclass(frozen=True, eq=False)
class Steps:
    """The order of a document: bar headers and cells, one entry each; all (S,) int64."""

    bar: np.ndarray
    track: np.ndarray
    """HEADER or an index of a track."""
    given: np.ndarray
    """0 at headers, else TO_WRITE or GIVEN: the value of the `given` channel."""

    def __len__(self) -> int:
        return len(self.bar)

    def __getitem__(self, part: slice) -> Steps:
        return Steps(self.bar[part], self.track[part], self.given[part])


def schedule(given: np.ndarray, bars_after: int = 0) -> Steps:
    """The order for a request.

    Args:
        given: (K, J) booleans: which cells are known. A document with no cell to write, or whose
            given cells all come before the first cell to write in plain order, is plain.
        bars_after: so many wholly given bars that follow a window to write are shown before it.

    Returns:
        Every bar once, every cell once.
    """
    given = np.asarray(given, dtype=bool)
    bars, tracks = given.shape
    open_bars = np.flatnonzero(~given.all(axis=1))
    order = list(range(bars))
    ahead: set[int] = set()
    if bars_after and len(open_bars):
        for first, last in _runs(open_bars):
            after = range(last + 1, min(last + 1 + bars_after, bars))
            shown = [bar for bar in after if given[bar].all() and bar not in ahead]
            if shown:
                order = [bar for bar in order if bar not in shown]
                at = order.index(first)
                order[at:at] = shown
                ahead.update(shown)
    bar_of, track_of, given_of = [], [], []
    for bar in order:
        known = np.flatnonzero(given[bar])
        unknown = np.flatnonzero(~given[bar])
        # Only what is shown out of the plain order is flagged: see GIVEN.
        out_of_order = bool(len(unknown)) or bar in ahead
        bar_of += [bar] * (1 + tracks)
        track_of += [HEADER, *known.tolist(), *unknown.tolist()]
        flag = GIVEN if out_of_order else TO_WRITE
        given_of += [0, *([flag] * len(known)), *([TO_WRITE] * len(unknown))]
    return Steps(np.array(bar_of), np.array(track_of), np.array(given_of))


def _runs(indices: np.ndarray) -> list[tuple[int, int]]:
    """Runs of consecutive integers as (first, last)."""
    breaks = np.flatnonzero(np.diff(indices) > 1)
    firsts = indices[np.concatenate(([0], breaks + 1))]
    lasts = indices[np.concatenate((breaks, [len(indices) - 1]))]
    return list(zip(firsts.tolist(), lasts.tolist(), strict=True))


@dataclass(frozen=True, eq=False)
class Layout:
    """Rows of a document with all that the model is told about each."""

    rows: np.ndarray
    """(T, 4) int64."""
    channels: np.ndarray
    """(T, C) int64."""
    coordinates: np.ndarray
    """(T, 2) float64: index in the document; score time in quarter notes."""
    cells: np.ndarray
    """(T,) int64: which cell of the grid each row is of, bar x tracks + track; -1 for none."""

    def __getitem__(self, part: slice | np.ndarray) -> Layout:
        return Layout(
            self.rows[part], self.channels[part], self.coordinates[part], self.cells[part]
        )

    def __len__(self) -> int:
        return len(self.rows)


def layout(
    grid: Grid,
    steps: Steps,
    vocabulary: EventVocabulary,
    *,
    cells: CellControls | None = None,
    piece: PieceControls | None = None,
    total_bars: int | None = None,
    at_start: bool = True,
    at_end: bool = False,
    first_index: int = 0,
    opening: bool = True,
    previous_tempo: int = -1,
) -> Layout:
    """Steps as rows, with channels and coordinates; training and sampling both come through here.

    Args:
        grid: the piece; cells to write have whatever notes are known (all of them in training).
        steps: what to lay out, in order.
        cells, piece: the controls that are told.
        total_bars: bars of the whole piece, for `bars_left`; the grid's by default.
        at_start, at_end: whether the document opens with START (else MIDDLE), closes with END.
        first_index: the index coordinate of the first row.
        opening: whether there is an opening row at all (not when rows go on from earlier ones).
        previous_tempo: the tempo class in force before the first step; a TEMPO row stands in every
            bar that changes it.
    """
    tracks = grid.num_tracks
    bar, track = steps.bar, steps.track
    is_header = track == HEADER
    cell = bar * tracks + np.maximum(track, 0)
    note_count = np.where(is_header, 0, (grid.offsets[1:] - grid.offsets[:-1])[cell])
    tempo = grid.tempos[bar]
    header_steps = np.flatnonzero(is_header)
    before = np.concatenate(([previous_tempo], tempo[header_steps][:-1]))
    says_tempo = np.zeros(len(steps), dtype=np.int64)
    says_tempo[header_steps] = tempo[header_steps] != before
    size = 1 + np.where(is_header, says_tempo, note_count)
    lead = 1 if opening else 0
    begin = lead + np.concatenate(([0], np.cumsum(size)))
    total = int(begin[-1]) + (1 if at_end else 0)

    rows = np.zeros((total, 4), dtype=np.int64)
    step = np.repeat(np.arange(len(steps)), size)
    within = np.arange(len(step)) - (begin[:-1] - lead)[step]
    at = begin[:-1]
    rows[at[is_header], 0] = BAR
    rows[at[is_header], 1] = vocabulary.first_meter + grid.meters[bar[is_header]]
    tempo_at = at[says_tempo == 1] + 1
    rows[tempo_at, 0] = TEMPO
    rows[tempo_at, 1] = vocabulary.first_tempo + tempo[says_tempo == 1]
    in_cell = ~is_header
    rows[at[in_cell], 0] = TRACK
    rows[at[in_cell], 1] = vocabulary.first_program + grid.programs[track[in_cell]]
    rows[at[in_cell], 2] = vocabulary.first_instance + grid.instances[track[in_cell]]
    is_note = in_cell[step] & (within > 0)
    source = grid.offsets[:-1][cell[step]] + within - 1
    note_rows = grid.notes[source[is_note]]
    body = slice(lead, lead + len(step))
    rows[body][is_note] = note_rows

    channels = np.zeros((total, 13), dtype=np.int64)
    piece = piece or PieceControls()
    channels[:, 6] = piece.key
    channels[:, 7] = piece.style
    here = channels[body]
    here[:, 0] = steps.given[step]
    here[:, 1] = np.where(is_header, 0, 1 + grid.programs[np.maximum(track, 0)])[step]
    here[:, 2] = np.where(is_header, 0, 1 + grid.instances[np.maximum(track, 0)])[step]
    here[:, 3] = 1 + grid.meters[bar][step]
    here[:, 4] = 1 + tempo[step]
    if piece.tell_bars_left:
        left = (grid.num_bars if total_bars is None else total_bars) - bar - 1
        here[:, 5] = 1 + np.minimum(left, MAX_BARS_LEFT)[step]
    if cells is not None:
        columns = [np.where(is_header, 0, column.ravel()[cell]) for column in cells.columns()]
        told = columns[0][step]
        left = np.maximum(told - within, 1)  # 1 + notes still to come after this row
        here[:, 8] = np.where(told > 0, np.minimum(left, MAX_NOTES_LEFT + 1), 0)
        for index, column in enumerate(columns[1:], start=9):
            here[:, index] = column[step]

    coordinates = np.zeros((total, 2))
    coordinates[:, 0] = first_index + np.arange(total)
    starts_q = grid.bar_starts_q(vocabulary)
    time = starts_q[bar][step]
    time[is_note] += (note_rows[:, 0] - FIRST_POSITION) / vocabulary.grid
    coordinates[body, 1] = time
    if opening:
        rows[0, 0] = START if at_start else MIDDLE
        coordinates[0, 1] = starts_q[bar[0]] if len(bar) else 0.0
    if at_end:
        rows[-1, 0] = END
        channels[-1, 3:6] = channels[-2, 3:6]
        coordinates[-1, 1] = starts_q[bar.max() + 1] if len(bar) else 0.0
    cells_of = np.full(total, -1, dtype=np.int64)
    cells_of[body] = np.where(is_header, -1, cell)[step]
    return Layout(rows, channels, coordinates, cells_of)
