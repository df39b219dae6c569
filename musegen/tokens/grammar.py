"""The rules of sampling the events presets: whatever the logits, the result is a valid score.

Headers of bars and tracks are forced; the model writes the notes of each open cell and says, with
the mass of the marker heads, when the cell ends. Within a cell positions never go back, pitches of
one position rise (so none is doubled), and no note rings past the last bar asked for. The rules
are masks, applied before any filter: they hold at every temperature, from random weights too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from musegen.errors import TokenError
from musegen.guide import Advance
from musegen.music.score import Bar, Score, Track
from musegen.tokens.controls import MAX_NOTES_LEFT, CellControls, PieceControls, estimate_key
from musegen.tokens.grid import Grid
from musegen.tokens.plan import WRITTEN_DTYPE, CompositionPlan, Written
from musegen.tokens.schedule import HEADER, Layout, Steps, layout, schedule
from musegen.tokens.vocabulary import (
    BAR,
    DRUM_PITCH,
    DRUM_PROGRAM,
    END,
    FIRST_POSITION,
    PITCH,
    TEMPO,
    TRACK,
)

if TYPE_CHECKING:
    from musegen.tokens.events import EventTokenizer

__all__ = ["EventGuide", "cell_head_mask", "cell_pitch_mask"]

MAX_CHORD = 12
"""Notes of one track at one position."""

MAX_SILENT_BARS = 1
"""So many bars in a row may stay silent in all tracks; the next must have a note."""

_CELL_ENDS = (BAR, TRACK, TEMPO, END)
_DRUM_RANGE = (27, 87)
"""General MIDI level 2 percussion."""


def cell_head_mask(
    size: int, bar_units: int, last: tuple[int, int] | None, *, may_note: bool, may_end: bool,
    top_pitch: int, chord: int,
) -> np.ndarray:  # fmt: skip
    """Which heads may follow in an open cell: booleans (size,).

    Args:
        size: ids of the head field.
        bar_units: positions of the bar.
        last: (position, pitch id) of the cell's last note, None in an empty cell.
        may_note: whether the cell may hold another note.
        may_end: whether the cell may end here.
        top_pitch: the highest pitch id allowed; at the last note's position only higher ones are.
        chord: notes so far at the last position.
    """
    mask = np.zeros(size, dtype=bool)
    if may_end:
        mask[list(_CELL_ENDS)] = True
    if may_note:
        first = 0
        if last is not None:
            position, pitch = last
            first = position + (pitch >= top_pitch or chord >= MAX_CHORD)
        mask[FIRST_POSITION + first : FIRST_POSITION + bar_units] = True
    return mask


def cell_pitch_mask(allowed: np.ndarray, position: int, last: tuple[int, int] | None) -> np.ndarray:
    """`allowed` (V,) without the pitches that would repeat or fall at the last position."""
    if last is None or last[0] != position:
        return allowed
    mask = allowed.copy()
    mask[: last[1] + 1] = False
    return mask


class EventGuide:
    """Composes a `CompositionPlan` cell by cell (implements `musegen.guide.Guide`)."""

    def __init__(
        self,
        tokenizer: EventTokenizer,
        plan: CompositionPlan,
        max_positions: int,
        controls: CellControls | None = None,
    ) -> None:
        """Raises TokenError where the plan asks for what the preset or the model cannot hold."""
        if max_positions < 64:
            raise TokenError(f"a model of {max_positions} positions is too small to compose with")
        self.tokenizer, self.plan = tokenizer, plan
        self.vocabulary = tokenizer.vocabulary
        self.max_positions = max_positions
        self._lay_out_piece()
        self.controls = controls
        self._steps = schedule(self._given)
        flat = self._steps
        self._to_write = (flat.track != HEADER) & ~self._given[flat.bar, np.maximum(flat.track, 0)]
        self._at = -1  # step being written
        self._used = 0  # rows in the model's cache
        self._origin_bar = 0  # first bar in the cache
        self._silent_bars = 0
        self._channels = np.zeros(0, dtype=np.int64)
        self._cell: list[tuple[int, int, int, int]] = []
        self._finished = False
        self.rows_drawn = 0
        self.warnings: tuple[str, ...] = tuple(self.loss.messages)

    @property
    def bars_done(self) -> int:
        """Bars of the plan that are complete."""
        if self._finished:
            return len(self.plan.bars)
        return max(0, int(self._steps.bar[max(self._at, 0)]) - self._seed_bars)

    # --- Setting out ---------------------------------------------------------------------------

    def _lay_out_piece(self) -> None:
        """All bars and tracks of the piece, with the seed's notes in their cells."""
        plan, vocabulary = self.plan, self.vocabulary
        if not plan.tracks or not plan.bars:
            raise TokenError("nothing to write: the plan has no tracks or no bars")
        seed = plan.seed or Score()
        planned = {track.seed_track for track in plan.tracks}
        bystanders = [
            index
            for index, track in enumerate(seed.tracks)
            if index not in planned and len(track) and plan.seed_bars
        ]
        parts = [
            Track(
                notes=seed.tracks[item.seed_track].notes
                if item.seed_track is not None
                else np.zeros(0, dtype=seed.tracks[0].notes.dtype)
                if seed.tracks
                else Track().notes,
                program=item.program,
                is_drum=item.is_drum,
            )
            for item in plan.tracks
        ] + [seed.tracks[index] for index in bystanders]
        last_tick = plan.seed_bars[-1].end_tick if plan.seed_bars else 0
        unit = 4 * seed.ppq
        new_bars, tick = [], last_tick
        for bar in plan.bars:
            length = max(1, round(unit * bar.numerator / bar.denominator))
            new_bars.append(Bar(tick, tick + length, bar.numerator, bar.denominator))
            tick += length
            if not vocabulary.holds_bar(bar.numerator, bar.denominator):
                raise TokenError(
                    f"meter {bar.numerator}/{bar.denominator} is not in the preset "
                    f"{self.tokenizer.name!r}; its longest bar has {vocabulary.longest_bar_q} "
                    "quarter notes over 2, 4, 8 or 16: ask for such a time signature"
                )
        whole = seed.replace(tracks=tuple(parts))
        order = self.tokenizer.track_order(whole, keep_silent=True)
        grid, self.loss = self.tokenizer.grid_of(
            whole, [*plan.seed_bars, *new_bars], keep_silent=True
        )
        self._seed_bars, self._num_bars = len(plan.seed_bars), grid.num_bars
        self._num_tracks = grid.num_tracks
        self._meters, self._tempos = grid.meters, grid.tempos.copy()
        self._tempos[self._seed_bars :] = [
            int(vocabulary.tempo_class(6e7 / bar.tempo_us)) for bar in plan.bars
        ]
        self._programs, self._instances = grid.programs, grid.instances
        # A note of the seed that quantises onto the seam belongs to no bar that we write.
        self._notes = [
            grid.cell(k, j) if k < self._seed_bars else np.zeros((0, 4), dtype=np.int64)
            for k in range(self._num_bars)
            for j in range(self._num_tracks)
        ]
        self._plan_track = [index if index < len(plan.tracks) else -1 for index in order]
        self._given = np.ones((self._num_bars, self._num_tracks), dtype=bool)
        for place, index in enumerate(self._plan_track):
            if index >= 0:
                self._given[self._seed_bars :, place] = False
        self._bar_units = vocabulary.bar_units[self._meters]
        self._bar_start = np.concatenate(([0], np.cumsum(self._bar_units)))
        seed_cells = self._notes[: self._seed_bars * self._num_tracks]
        recent = [cell for cell in seed_cells[-64 * self._num_tracks :] if len(cell)]
        heard = np.concatenate(recent) if recent else np.zeros((0, 4), dtype=np.int64)
        self._piece = PieceControls(
            key=plan.key or estimate_key(heard, vocabulary),
            style=vocabulary.style_id(plan.style),
            tell_bars_left=plan.ends,
        )
        self._pitch_masks = [self._pitch_mask(place) for place in range(self._num_tracks)]

    def _pitch_mask(self, place: int) -> np.ndarray:
        """(V,) booleans: the pitch ids that a track may ever use."""
        mask = np.zeros(self.tokenizer.field_sizes[1], dtype=bool)
        index = self._plan_track[place]
        if index < 0:
            return mask
        track = self.plan.tracks[index]
        low, high, base = track.lowest_pitch, track.highest_pitch, PITCH
        if self._programs[place] == DRUM_PROGRAM:
            low, high, base = max(low, _DRUM_RANGE[0]), min(high, _DRUM_RANGE[1]), DRUM_PITCH
        if low > high:
            raise TokenError(f"track {index + 1}: no pitch lies between {low} and {high}")
        mask[base + low : base + high + 1] = True
        return mask

    # --- The protocol --------------------------------------------------------------------------

    def start(self) -> Advance:
        self._at = self._next_open(0)
        return self._restart()

    def mask(self, field: int, chosen: Sequence[int]) -> np.ndarray:
        step = self._steps
        bar, place = int(step.bar[self._at]), int(step.track[self._at])
        last = self._last()
        if field == 0:
            pitches = self._pitch_masks[place]
            chord = 0
            if last is not None:
                chord = sum(note[0] == self._cell[-1][0] for note in self._cell[-MAX_CHORD:])
            must = self._must_sound(bar)
            return cell_head_mask(
                self.tokenizer.field_sizes[0],
                int(self._bar_units[bar]),
                last,
                may_note=len(self._cell) < self.plan.max_notes_per_cell,
                may_end=not must,
                top_pitch=int(np.flatnonzero(pitches)[-1]),
                chord=chord,
            )
        if chosen[0] < FIRST_POSITION:  # a marker: the cell ends, its other fields are nothing
            mask = np.zeros(self.tokenizer.field_sizes[field], dtype=bool)
            mask[0] = True
            return mask
        position = int(chosen[0]) - FIRST_POSITION
        if field == 1:
            return cell_pitch_mask(self._pitch_masks[place], position, last)
        mask = np.zeros(self.tokenizer.field_sizes[field], dtype=bool)
        if field == 2:
            mask[1 : 1 + self.vocabulary.velocities] = True
        else:
            room = self._bar_start[-1] - self._bar_start[bar] - position
            mask[1:] = self.vocabulary.duration_units <= room
        return mask

    def accept(self, row: Sequence[int]) -> Advance | None:
        head = int(row[0])
        self.rows_drawn += 1
        if head < FIRST_POSITION:
            return self._close_cell()
        self._cell.append((head, int(row[1]), int(row[2]), int(row[3])))
        self._store()
        if self._used + 1 > self.max_positions:
            return self._restart()
        bar = int(self._steps.bar[self._at])
        channels = self._channels.copy()
        if channels[8]:
            told = self._notes_told()
            channels[8] = min(max(told - len(self._cell), 1), MAX_NOTES_LEFT + 1)
        units = self._bar_start[bar] - self._bar_start[self._origin_bar] + head - FIRST_POSITION
        advance = Advance(
            rows=np.array([row], dtype=np.int64),
            channels=channels[None],
            coordinates=np.array([[self._used, units / self.vocabulary.grid]]),
        )
        self._used += 1
        return advance

    def result(self) -> Written:
        done = self._seed_bars + self.bars_done
        written = []
        for bar in range(self._seed_bars, done):
            for place, index in enumerate(self._plan_track):
                if index < 0:
                    continue
                for head, pitch, velocity, duration in self._notes[
                    bar * self._num_tracks + place
                ].tolist():
                    written.append(
                        (
                            index,
                            bar - self._seed_bars,
                            (head - FIRST_POSITION) / self.vocabulary.grid,
                            self.vocabulary.duration_units[duration - 1] / self.vocabulary.grid,
                            (pitch - PITCH) % 128,
                            int(self.vocabulary.velocity_of(np.array(velocity))),
                        )
                    )
        notes = np.array(written, dtype=WRITTEN_DTYPE)
        notes = notes[np.lexsort((notes["pitch"], notes["onset_q"], notes["bar"], notes["track"]))]
        return Written(notes, done - self._seed_bars)

    # --- Inside --------------------------------------------------------------------------------

    def _last(self) -> tuple[int, int] | None:
        if not self._cell:
            return None
        return self._cell[-1][0] - FIRST_POSITION, self._cell[-1][1]

    def _must_sound(self, bar: int) -> bool:
        """Whether this cell must not end yet, lest the music stays silent for too long."""
        if self._cell or self._next_open_in_bar(bar):
            return False
        cells = self._notes[bar * self._num_tracks : (bar + 1) * self._num_tracks]
        if any(len(cell) for cell in cells):
            return False
        if self._silent_bars >= MAX_SILENT_BARS:
            return True
        everything = self._notes[self._seed_bars * self._num_tracks :]
        return bar == self._num_bars - 1 and not any(len(cell) for cell in everything)

    def _next_open_in_bar(self, bar: int) -> bool:
        after = self._next_open(self._at + 1)
        return after < len(self._steps) and int(self._steps.bar[after]) == bar

    def _next_open(self, step: int) -> int:
        """The first cell to write at or after a step; the number of steps if there is none."""
        ahead = np.flatnonzero(self._to_write[step:])
        return step + int(ahead[0]) if len(ahead) else len(self._steps)

    def _store(self) -> None:
        step = self._steps
        index = int(step.bar[self._at]) * self._num_tracks + int(step.track[self._at])
        self._notes[index] = np.array(self._cell, dtype=np.int64).reshape(-1, 4)

    def _close_cell(self) -> Advance | None:
        closed, bar = self._at, int(self._steps.bar[self._at])
        self._at = self._next_open(closed + 1)
        self._cell = []
        finished = self._at == len(self._steps)
        if finished or int(self._steps.bar[self._at]) != bar:
            cells = self._notes[bar * self._num_tracks : (bar + 1) * self._num_tracks]
            silent = not any(len(cell) for cell in cells)
            self._silent_bars = self._silent_bars + 1 if silent else 0
        if finished:
            self._finished = True
            return None
        document = self._document(
            self._steps[closed + 1 : self._at + 1],
            opening=False,
            previous_tempo=int(self._tempos[bar]),
        )
        if self._used + len(document) > self.max_positions:
            return self._restart()
        self._channels = document.channels[-1]
        self._used += len(document)
        return Advance(document.rows, document.channels, document.coordinates)

    def _restart(self) -> Advance:
        """The context laid out anew: as many bars before the open cell as fit in two thirds."""
        limit = max(self.max_positions * 2 // 3, 32)
        steps = self._steps[: self._at + 1]
        sizes = 1 + np.array(
            [
                1 if track == HEADER else len(self._notes[bar * self._num_tracks + track])
                for bar, track in zip(steps.bar.tolist(), steps.track.tolist(), strict=True)
            ]
        )
        cost = np.cumsum(sizes[::-1])[::-1]  # rows from each step to the open cell
        headers = np.flatnonzero(steps.track == HEADER)
        fitting = headers[cost[headers] + 1 <= limit]
        begin = int(fitting[0]) if len(fitting) else int(headers[-1])
        self._origin_bar, self._used = int(steps.bar[begin]), 0
        document = self._document(steps[begin:], opening=True)
        if len(document) > limit:  # one bar larger than the context: its header and newest rows
            keep = np.r_[0:3, len(document) - (limit - 3) : len(document)]
            document = Layout(
                document.rows[keep], document.channels[keep], document.coordinates[keep]
            )
            document.coordinates[:, 0] = np.arange(len(document))
        self._channels = document.channels[-1]
        self._used = len(document)
        return Advance(document.rows, document.channels, document.coordinates, restart=True)

    def _document(self, steps: Steps, *, opening: bool, previous_tempo: int = -1) -> Layout:
        """Steps as rows, with times counted from the first bar in the cache."""
        first, last = int(steps.bar.min()), int(steps.bar.max()) + 1
        cells = self._notes[first * self._num_tracks : last * self._num_tracks]
        grid = Grid(
            meters=self._meters[first:last],
            tempos=self._tempos[first:last],
            programs=self._programs,
            instances=self._instances,
            notes=np.concatenate(cells),
            offsets=np.concatenate(([0], np.cumsum([len(cell) for cell in cells]))),
        )
        controls = self.controls
        if controls is not None:
            controls = CellControls(*(column[first:last] for column in controls.columns()))
        document = layout(
            grid,
            Steps(steps.bar - first, steps.track, steps.given),
            self.vocabulary,
            cells=controls,
            piece=self._piece,
            total_bars=self._num_bars - first,
            at_start=first == 0,
            first_index=self._used,
            opening=opening,
            previous_tempo=previous_tempo,
        )
        shift = self._bar_start[first] - self._bar_start[self._origin_bar]
        document.coordinates[:, 1] += shift / self.vocabulary.grid
        return document

    def _notes_told(self) -> int:
        step = self._steps
        if self.controls is None:
            return 0
        return int(self.controls.notes_left[step.bar[self._at], step.track[self._at]])
