"""The rules of sampling the events presets: whatever the logits, the result is a valid score.

Headers of bars and tracks and everything that is given are forced; the model writes the notes of
each open cell and says, with the mass of the marker heads, when the cell ends. What may be written
in a cell is musegen/tokens/cell.py; here is the way from cell to cell, and what of the piece stands
in the model's context. The rules are masks, applied before any filter: they hold at every
temperature, from random weights too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from musegen.errors import GenerationError, TokenError
from musegen.guide import Advance
from musegen.tokens.canvas import Canvas
from musegen.tokens.cell import OpenCell
from musegen.tokens.controls import MAX_NOTES_LEFT
from musegen.tokens.forms import CellForms
from musegen.tokens.locks import open_cell
from musegen.tokens.plan import WRITTEN_DTYPE, CompositionPlan, Written
from musegen.tokens.schedule import HEADER, Layout, schedule
from musegen.tokens.vocabulary import FIRST_POSITION, PITCH

if TYPE_CHECKING:
    from musegen.tokens.events import EventTokenizer

__all__ = ["EventGuide"]

MAX_SILENT_BARS = 1
"""So many bars in a row may stay silent in all tracks; the next must have a note."""

WISH = 2.0
"""Added to the logits of pitches that are preferred: e**2, about 7 times as likely as before."""

_NOTES_LEFT = 8
"""Column of the countdown among the side channels."""


class EventGuide:
    """Composes a `CompositionPlan` cell by cell (implements `musegen.guide.Guide`)."""

    def __init__(
        self, tokenizer: EventTokenizer, plan: CompositionPlan, max_positions: int
    ) -> None:
        """Raises TokenError where the plan asks for what the preset or the model cannot hold."""
        if max_positions < 64:
            raise TokenError(f"a model of {max_positions} positions is too small to compose with")
        self.tokenizer, self.plan, self.max_positions = tokenizer, plan, max_positions
        self._limit = max(max_positions * 2 // 3, 32)  # of a context that is laid out anew
        self._canvas = canvas = Canvas(tokenizer, plan, self._limit)
        self._forms = CellForms(canvas)
        self._steps = steps = schedule(canvas.given, plan.bars_after)
        self._to_write = (steps.track != HEADER) & ~canvas.given[
            steps.bar, np.maximum(steps.track, 0)
        ]
        self._at = -1  # step being written
        self._used = 0  # rows in the model's cache
        self._origin_bar = 0  # the bar from which times in the cache are counted
        self._silent_bars = 0
        self._begun: set[int] = set()  # places that have a written note
        self._rests: dict[int, int] = {}  # by place: silent bars before the open cell
        self._channels = np.zeros(0, dtype=np.int64)
        self._cell: OpenCell
        self._finished = False
        self._piece = canvas.piece_controls(plan.written_bars[0])
        self.rows_drawn = 0
        self.warnings: tuple[str, ...] = tuple(canvas.loss.messages)

    @property
    def bars_done(self) -> int:
        """How many of the plan's written bars are complete."""
        bars = self.plan.written_bars
        if self._finished:
            return len(bars)
        return int(np.searchsorted(bars, self._bar)) if self._at >= 0 else 0

    # --- The protocol --------------------------------------------------------------------------

    def start(self) -> Advance:
        self._at = self._next_open(0)
        self._open()
        advance = self._restart()
        if not self._cell.complete:
            return advance
        ahead = self._close_cell()
        if ahead is None:  # all is there already: what is left to draw is the last cell's end
            self._finished, self._at = False, int(np.flatnonzero(self._to_write)[-1])
            return self._restart()
        return _joined([advance, ahead])

    def mask(self, field: int, chosen: Sequence[int]) -> np.ndarray:
        size, cell = self.tokenizer.field_sizes[field], self._cell
        if field == 0:
            mask = cell.head_mask(size)
        elif chosen[0] < FIRST_POSITION:  # a marker: its other fields are nothing
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
            raise GenerationError(self._stuck())
        return mask

    def bias(self, field: int, chosen: Sequence[int]) -> np.ndarray | None:
        if field != 1 or chosen[0] < FIRST_POSITION:
            return None
        position = int(chosen[0]) - FIRST_POSITION
        return self._cell.bias(position, self.tokenizer.field_sizes[1], WISH)

    def accept(self, row: Sequence[int]) -> Advance | None:
        self.rows_drawn += 1
        cell, before = self._cell, len(self._cell.rows)
        if cell.accept(row) == "end":
            return self._close_cell()
        cell.settle()
        self._store()
        advance = self._fed(before)
        if not cell.complete:
            return advance
        ahead = self._close_cell()
        return None if ahead is None else _joined([advance, ahead])

    def result(self) -> Written:
        """The new notes of the finished bars; what was kept of the old ones is not among them."""
        canvas, vocabulary = self._canvas, self.tokenizer.vocabulary
        finished = self.plan.written_bars[: self.bars_done]
        written = []
        for bar in finished:
            for place, index in enumerate(canvas.plan_track):
                if index < 0 or canvas.given[bar, place]:
                    continue
                sources = canvas.sources.get((bar, place), [])
                rows = canvas.notes[canvas.index(bar, place)].tolist()
                for (head, pitch, velocity, duration), source in zip(rows, sources, strict=True):
                    if source == OpenCell.PINNED:
                        continue
                    written.append(
                        (
                            index,
                            bar,
                            (head - FIRST_POSITION) / vocabulary.grid,
                            vocabulary.duration_units[duration - 1] / vocabulary.grid,
                            (pitch - PITCH) % 128,
                            int(vocabulary.velocity_of(np.array(velocity))),
                            source,
                        )
                    )
        notes = np.array(written, dtype=WRITTEN_DTYPE)
        notes = notes[np.lexsort((notes["pitch"], notes["onset_q"], notes["bar"], notes["track"]))]
        return Written(notes, len(finished))

    # --- From cell to cell ---------------------------------------------------------------------

    @property
    def _bar(self) -> int:
        return int(self._steps.bar[self._at])

    @property
    def _place(self) -> int:
        return int(self._steps.track[self._at])

    def _open(self) -> None:
        """Sets out the cell whose turn it is; what stays at its beginning is in already."""
        bar, place = self._bar, self._place
        form = self._forms.form(
            bar, place, begun=place in self._begun, must_sound=self._must_sound(bar, place)
        )
        self._cell = open_cell(self.tokenizer.vocabulary, form)
        self._cell.settle()
        self._store()

    def _must_sound(self, bar: int, place: int) -> bool:
        """Whether this cell must not stay empty, lest the track or all music rests too long."""
        longest = self.plan.tracks[self._canvas.plan_track[place]].longest_rest
        if longest is not None:
            last = place not in self._steps.track[self._at + 1 :][self._to_write[self._at + 1 :]]
            if self._rests.get(place, 0) >= longest or (last and place not in self._begun):
                return True
        after = self._next_open(self._at + 1)
        if after < len(self._steps) and int(self._steps.bar[after]) == bar:
            return False
        if not self._canvas.bar_is_silent(bar):
            return False
        if self._silent_bars >= MAX_SILENT_BARS:
            return True
        return after == len(self._steps) and not self._begun

    def _next_open(self, step: int) -> int:
        """The first cell to write at or after a step; the number of steps if there is none."""
        ahead = np.flatnonzero(self._to_write[step:])
        return step + int(ahead[0]) if len(ahead) else len(self._steps)

    def _store(self) -> None:
        cell = self._cell
        self._canvas.store(self._bar, self._place, cell.rows, cell.sources)
        if cell.rows:
            self._begun.add(self._place)

    def _fed(self, before: int) -> Advance:
        """The rows of the cell from index `before` on, as the model takes them in."""
        canvas, vocabulary, rows = self._canvas, self.tokenizer.vocabulary, self._cell.rows
        count = len(rows) - before
        if self._used + count > self.max_positions:
            return self._restart()
        channels = np.empty((count, len(self._channels)), dtype=np.int64)
        channels[:] = self._channels
        if self._channels[_NOTES_LEFT] and canvas.controls is not None:
            told = int(canvas.controls.notes_left[self._bar, self._place])
            left = told - np.arange(before + 1, len(rows) + 1)
            channels[:, _NOTES_LEFT] = np.clip(left, 1, MAX_NOTES_LEFT + 1)
        new = np.array(rows[before:], dtype=np.int64)
        start = int(canvas.bar_start[self._bar] - canvas.bar_start[self._origin_bar])
        coordinates = np.empty((count, 2))
        coordinates[:, 0] = range(self._used, self._used + count)
        coordinates[:, 1] = (new[:, 0] + (start - FIRST_POSITION)) / vocabulary.grid
        self._used += count
        cells = np.full(count, canvas.index(self._bar, self._place))
        return Advance(new, channels, coordinates, vectors=canvas.vectors_of(cells))

    def _close_cell(self) -> Advance | None:
        """On to the next cell that asks for a draw; None at the end."""
        canvas, fed = self._canvas, []
        while True:
            closed, bar, place = self._at, self._bar, self._place
            canvas.close(bar, place)
            self._rests[place] = 0 if self._cell.rows else self._rests.get(place, 0) + 1
            self._at = self._next_open(closed + 1)
            finished = self._at == len(self._steps)
            if finished or self._bar != bar:
                skipped = not finished and self._bar > bar + 1
                silent = canvas.bar_is_silent(bar) and not skipped
                self._silent_bars = self._silent_bars + 1 if silent else 0
            if finished:
                self._finished = True
                return None
            self._open()
            fed.append(self._fed_header(closed, bar))
            if not self._cell.complete:
                return _joined(fed)

    def _fed_header(self, closed: int, bar: int) -> Advance:
        """Headers and given cells after a closed cell, up to what stands in the open one."""
        steps = self._steps[closed + 1 : self._at + 1]
        # How much is skipped is known without laying it out: a fill may lie 100 bars further on.
        if len(steps) > self.max_positions:
            return self._restart()
        document = self._canvas.document(
            steps,
            opening=False,
            origin_bar=self._origin_bar,
            first_index=self._used,
            piece=self._piece,
            previous_tempo=int(self._canvas.tempos[bar]),
        )
        if self._used + len(document) > self.max_positions:
            return self._restart()
        self._channels = document.channels[-1]
        self._used += len(document)
        return self._advance(document)

    def _restart(self) -> Advance:
        """The context laid out anew: as many bars before the open cell as fit in two thirds."""
        canvas, limit = self._canvas, self._limit
        steps = self._steps[: self._at + 1]
        recent = slice(max(0, len(steps) - limit), len(steps))  # a step is a row at least
        sizes = 1 + np.array(
            [
                1 if track == HEADER else len(canvas.notes[canvas.index(bar, track)])
                for bar, track in zip(
                    steps.bar[recent].tolist(), steps.track[recent].tolist(), strict=True
                )
            ]
        )
        cost = np.cumsum(sizes[::-1])[::-1]  # rows from each step to the open cell
        headers = np.flatnonzero(steps.track[recent] == HEADER)
        fitting = headers[cost[headers] + 1 <= limit]
        if len(fitting):
            begin = recent.start + int(fitting[0])
        else:
            begin = int(np.flatnonzero(steps.track == HEADER)[-1])
        self._origin_bar = int(steps.bar[begin:].min())
        self._piece = canvas.piece_controls(self._bar)
        document = canvas.document(
            steps[begin:],
            opening=True,
            origin_bar=self._origin_bar,
            first_index=0,
            piece=self._piece,
        )
        if len(document) > limit:  # one bar larger than the context: its header and newest rows
            keep = np.r_[0:3, len(document) - (limit - 3) : len(document)]
            document = document[keep]
            document.coordinates[:, 0] = np.arange(len(document))
        self._channels = document.channels[-1]
        self._used = len(document)
        return self._advance(document, restart=True)

    def _advance(self, document: Layout, restart: bool = False) -> Advance:
        vectors = self._canvas.vectors_of(document.cells)
        return Advance(document.rows, document.channels, document.coordinates, restart, vectors)

    def _stuck(self) -> str:
        """Why nothing may come next, in words."""
        index = self._canvas.plan_track[self._place]
        origins = self.plan.rule(index, self._bar).origins
        asked = ", ".join(dict.fromkeys(origins.values()))
        because = f"with {asked} " if asked else ""
        return (
            f"bar {self._bar + 1}, track {index + 1} of those written: {because}no note may come "
            "next, and the bar must not end; ask for something less strict"
        )


def _joined(advances: Sequence[Advance]) -> Advance:
    """Several advances as one; what lies before a restart is forgotten."""
    first = max((i for i, advance in enumerate(advances) if advance.restart), default=0)
    return Advance.joined(advances[first:])
