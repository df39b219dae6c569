"""One bar as a document of its own: what an autoencoder of bars reads and writes.

A bar document is `LEAD x lead, BAR, { TRACK notes... }`: first some empty rows, in which a model
puts what it knows of the bar besides ids (its latent), then the header and the tracks, in canonical
order. Headers are given and bear no loss; what follows a cell's last note is one label, END,
whatever cell comes next. Rows, channels and coordinates are those of any document
(schedule.py), counted from the bar's own beginning; the tempo stands in its channel alone.

Letters: K bars, J tracks, T rows, M lead rows, C channels, U grid units of a bar.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from musegen.errors import GenerationError, TokenError
from musegen.guide import Advance
from musegen.music.ranges import instrument_range
from musegen.tokens.cell import CellForm, OpenCell
from musegen.tokens.controls import MAX_NOTES_LEFT, CellControls, PieceControls
from musegen.tokens.grid import Grid
from musegen.tokens.schedule import layout, schedule
from musegen.tokens.vocabulary import (
    BAR,
    DRUM_PITCH,
    DRUM_PROGRAM,
    END,
    FIRST_POSITION,
    PITCH,
    TEMPO,
    TRACK,
    EventVocabulary,
)

__all__ = [
    "ATTRIBUTES",
    "ATTRIBUTE_STEPS",
    "BarDocuments",
    "BarGuide",
    "BarShape",
    "bar_documents",
    "measure_bars",
]

ATTRIBUTES = ("density", "rhythm", "polyphony")
"""What `measure_bars` measures: notes a quarter note, share of the quarter beats with an onset,
mean number of notes that sound in a quarter beat (the last two: arXiv 2105.04090, section IV-C)."""

ATTRIBUTE_STEPS = (1.0, 0.25, 1.0)
"""What one step of each is: a note a quarter, an onset in one more quarter beat of four, a note
more at once."""

DRUM_RANGE = (27, 87)
"""General MIDI level 2 percussion: what a free drum cell may hold."""

_NOTES_LEFT = 8
"""Column of the countdown among the side channels."""


@dataclass(frozen=True, eq=False)
class BarDocuments:
    """Documents of K bars, one after another."""

    rows: np.ndarray
    """(T, 4) int64; lead rows are 0."""
    targets: np.ndarray
    """(T, 4) int64: the row that each row predicts; 0 where nothing is to be predicted."""
    channels: np.ndarray
    """(T, C) int64."""
    coordinates: np.ndarray
    """(T, 2) float64: index in the document, quarter notes after the barline."""
    bar: np.ndarray
    """(T,) int64: which bar each row is of, 0..K-1."""
    sizes: np.ndarray
    """(K,) int64: rows of each document."""


def bar_documents(
    grid: Grid,
    vocabulary: EventVocabulary,
    lead: int,
    cells: CellControls | None = None,
    piece: PieceControls | None = None,
) -> BarDocuments:
    """Each bar of a grid as a document; training, encoding and sampling all come through here."""
    steps = schedule(np.zeros((grid.num_bars, grid.num_tracks), dtype=bool))
    plain = layout(grid, steps, vocabulary, cells=cells, piece=piece, opening=False)
    kept = plain.rows[:, 0] != TEMPO
    head = plain.rows[kept, 0]
    bar = np.cumsum(head == BAR) - 1
    sizes = np.bincount(bar, minlength=grid.num_bars) + lead
    ends = np.cumsum(sizes)
    whole = np.repeat(np.arange(grid.num_bars), sizes)
    within = np.arange(ends[-1]) - (ends - sizes)[whole]
    body = within >= lead

    rows = np.zeros((len(whole), 4), dtype=np.int64)
    rows[body] = plain.rows[kept]
    channels = np.zeros((len(whole), plain.channels.shape[1]), dtype=np.int64)
    channels[body] = plain.channels[kept]
    coordinates = np.zeros((len(whole), 2))
    coordinates[:, 0] = within
    starts_q = grid.bar_starts_q(vocabulary)
    coordinates[body, 1] = plain.coordinates[kept, 1] - starts_q[bar]
    lengths_q = np.diff(starts_q)[whole[~body]]
    coordinates[~body, 1] = (within[~body] + 0.5) / max(lead, 1) * lengths_q

    targets = np.zeros_like(rows)
    targets[:-1] = rows[1:]
    targets[ends - 1] = 0
    is_note = targets[:, 0] >= FIRST_POSITION
    targets[~is_note] = 0
    closes = (rows[:, 0] == TRACK) | (rows[:, 0] >= FIRST_POSITION)
    targets[closes & ~is_note, 0] = END
    return BarDocuments(rows, targets, channels, coordinates, whole, sizes)


def measure_bars(grid: Grid, vocabulary: EventVocabulary) -> np.ndarray:
    """(K, 3) float64: the `ATTRIBUTES` of each bar, over all its tracks.

    A note sounds in a quarter beat when any part of it does, within its bar.
    """
    unit, bars = vocabulary.grid, grid.num_bars
    units = vocabulary.bar_units[grid.meters]
    beats = np.maximum(-(-units // unit), 1)
    bar = np.repeat(np.arange(bars * grid.num_tracks), np.diff(grid.offsets)) // grid.num_tracks
    place = grid.notes[:, 0] - FIRST_POSITION
    length = vocabulary.duration_units[np.maximum(grid.notes[:, 3], 1) - 1]
    first = np.minimum(place // unit, beats[bar] - 1)
    last = np.minimum(-(-(place + length) // unit), beats[bar])
    most = int(beats.max(initial=1))
    struck = np.zeros((bars, most), dtype=bool)
    struck[bar, first] = True
    sounding = np.bincount(bar, weights=np.maximum(last - first, 1), minlength=bars)
    counts = np.bincount(bar, minlength=bars)
    return np.stack((counts * unit / units, struck.sum(1) / beats, sounding / beats), axis=1)


@dataclass(frozen=True)
class BarShape:
    """What of a bar is given: its meter, its tempo and its tracks, in canonical order."""

    meter: int
    """Class of the meter (`EventVocabulary.meter_index`)."""
    tempo: int
    """Class of the tempo."""
    programs: tuple[int, ...]
    """By track; 128 is drums."""
    instances: tuple[int, ...]
    """By track: 0 for the first of its program."""
    key: int = 0
    """`PieceControls.key`; 0 tells none."""
    notes: tuple[int, ...] = ()
    """By track: how many notes are asked for; -1 for any number. Empty: any in all."""
    forms: tuple[CellForm | None, ...] = field(default=(), repr=False, compare=False)
    """By track: what may be written; None for what `free_form` allows."""

    def grid(self, notes: Sequence[np.ndarray] | None = None) -> Grid:
        """The bar as a grid of one bar, with the note rows (n, 4) of each track."""
        empty = np.zeros((0, 4), dtype=np.int64)
        cells = [empty for _ in self.programs] if notes is None else list(notes)
        return Grid(
            meters=np.array([self.meter]),
            tempos=np.array([self.tempo]),
            programs=np.array(self.programs, dtype=np.int64),
            instances=np.array(self.instances, dtype=np.int64),
            notes=np.concatenate([empty, *cells]),
            offsets=np.concatenate(([0], np.cumsum([len(cell) for cell in cells]))).astype(int),
        )


class BarGuide:
    """Writes one bar, cell by cell (implements `musegen.guide.Guide`).

    The result is a list of note rows (n, 4), one array a track.
    """

    def __init__(
        self,
        vocabulary: EventVocabulary,
        shape: BarShape,
        lead: int,
        max_positions: int,
        *,
        in_range: bool = True,
    ) -> None:
        """`in_range` keeps notes within what the instruments can play.

        Raises TokenError: no track, or more than the model has positions for.
        """
        self.vocabulary, self.shape, self.in_range = vocabulary, shape, in_range
        tracks = len(shape.programs)
        if not tracks:
            raise TokenError("a bar without tracks: name one instrument at least")
        document = bar_documents(shape.grid(), vocabulary, lead, self._told(), self._piece())
        self._rows, self._channels = document.rows, document.channels
        self._times_q = document.coordinates[:, 1]
        self._first = lead + 2
        """Rows before the first note: the lead, the bar, the first track."""
        self._room = max_positions - (lead + 1 + tracks)
        if self._room < tracks:
            raise TokenError(
                f"a bar of {tracks} tracks does not fit the {max_positions} positions of the "
                "model; leave some out"
            )
        self._used, self._track = 0, 0
        self.cells: list[np.ndarray] = []
        self._cell = self._open()

    def _told(self) -> CellControls | None:
        if not self.shape.notes:
            return None
        told = CellControls.none(1, len(self.shape.programs))
        told.notes_left[0] = [1 + count for count in self.shape.notes]
        return told

    def _piece(self) -> PieceControls:
        return PieceControls(key=self.shape.key)

    def free_form(self, track: int) -> CellForm:
        """Any note of the instrument's range, as many as the model has room for."""
        units = int(self.vocabulary.bar_units[self.shape.meter])
        program = self.shape.programs[track]
        drums = program == DRUM_PROGRAM
        allowed = np.ones((units, 128), dtype=bool)
        if self.in_range:
            low, high = DRUM_RANGE if drums else instrument_range(program)
            allowed[:, :low] = allowed[:, high + 1 :] = False
        longest = int(self.vocabulary.duration_units[-1])
        return CellForm(
            allowed=allowed,
            onsets=np.ones(units, dtype=bool),
            room=units + longest,
            base=DRUM_PITCH if drums else PITCH,
        )

    def _open(self) -> OpenCell:
        forms = self.shape.forms
        form = forms[self._track] if forms else None
        return OpenCell(self.vocabulary, form or self.free_form(self._track))

    def start(self) -> Advance:
        return self._header(0, self._first, restart=True)

    def _header(self, start: int, end: int, restart: bool = False) -> Advance:
        """Given rows of the document without notes, at the places that follow."""
        count = end - start
        places = np.zeros((count, 2))
        places[:, 0] = np.arange(self._used, self._used + count)
        places[:, 1] = self._times_q[start:end]
        self._used += count
        self._row_channels = self._channels[end - 1]
        return Advance(self._rows[start:end], self._channels[start:end], places, restart)

    def mask(self, field: int, chosen: Sequence[int]) -> np.ndarray:
        size, cell = self.vocabulary.field_sizes[field], self._cell
        if field == 0:
            mask = cell.head_mask(size)
            if mask[END]:  # one label for "the cell ends"
                mask[:FIRST_POSITION] = False
                mask[END] = True
            if not self._room:
                mask[:] = False
                mask[END] = True
        elif chosen[0] < FIRST_POSITION:
            mask = np.zeros(size, dtype=bool)
            mask[0] = True
        else:
            position = int(chosen[0]) - FIRST_POSITION
            if field == 1:
                mask = cell.pitch_mask(size, position)
            elif field == 2:
                mask = cell.velocity_mask(size, position, int(chosen[1]))
            else:
                mask = cell.duration_mask(size, position, int(chosen[1]))
        if not mask.any():
            raise GenerationError(
                f"track {self._track + 1}: no note may come next, and the bar must not end; "
                "ask for something less strict"
            )
        return mask

    def bias(self, field: int, chosen: Sequence[int]) -> np.ndarray | None:
        return None

    def accept(self, row: Sequence[int]) -> Advance | None:
        cell = self._cell
        if self._room and cell.accept(row) != "end":
            self._room -= 1
            return self._note(row)
        rows = cell.rows
        self.cells.append(np.array(rows, dtype=np.int64).reshape(-1, 4))
        self._track += 1
        if self._track == len(self.shape.programs):
            return None
        self._cell = self._open()
        place = self._first + self._track - 1
        return self._header(place, place + 1)

    def _note(self, row: Sequence[int]) -> Advance:
        """A note as the model takes it in."""
        channels = self._row_channels.copy()
        if channels[_NOTES_LEFT]:
            told = 1 + self.shape.notes[self._track] - len(self._cell.rows)
            channels[_NOTES_LEFT] = min(max(told, 1), MAX_NOTES_LEFT + 1)
        place = np.array([[self._used, (int(row[0]) - FIRST_POSITION) / self.vocabulary.grid]])
        self._used += 1
        return Advance(np.array([row], dtype=np.int64), channels[None], place)

    def result(self) -> list[np.ndarray]:
        done = list(self.cells)
        return done + [np.zeros((0, 4), np.int64) for _ in self.shape.programs[len(done) :]]


def sections(rows: np.ndarray) -> np.ndarray:
    """(K + 1,) int64: where each bar of a piece's plain rows begins, and where the last ends."""
    starts = np.flatnonzero(rows[:, 0] == BAR)
    last = len(rows) - (1 if len(rows) and rows[-1, 0] == END else 0)
    return np.append(starts, last)
