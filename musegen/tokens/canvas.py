"""The piece that a composition is written into: its bars, tracks and cells.

A `Canvas` holds the notes of every cell in grid units, the seed's and the written ones, and lays
out any stretch of them as a document.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from musegen.errors import TokenError
from musegen.music.score import Bar, Score, Track
from musegen.tokens.cell import OpenCell, Row
from musegen.tokens.controls import CellControls, PieceControls, estimate_key, told_class
from musegen.tokens.grid import Grid
from musegen.tokens.plan import CompositionPlan
from musegen.tokens.schedule import Layout, Steps, layout
from musegen.tokens.vocabulary import FIRST_POSITION

if TYPE_CHECKING:
    from musegen.tokens.events import EventTokenizer

__all__ = ["Canvas"]

_LISTEN_BARS = 32
"""So many bars before and after a place tell its key."""

_BARS_WANTED = 4
"""Where given tracks are so many that fewer bars than this fit the context, some are not shown."""


class Canvas:
    """Letters: K bars, J tracks in canonical order ("places"), U units of a bar."""

    def __init__(self, tokenizer: EventTokenizer, plan: CompositionPlan, limit: int) -> None:
        """`limit` is how many rows of context there are.

        Raises:
            TokenError: the plan asks for what the preset cannot hold.
        """
        self.tokenizer, self.plan = tokenizer, plan
        self.vocabulary = vocabulary = tokenizer.vocabulary
        if not plan.tracks or not plan.written_bars:
            raise TokenError("nothing to write: the plan has no tracks or no bars")
        self.seed = plan.seed or Score()
        self.bars = self._all_bars()
        self.num_bars = len(self.bars)
        self.removed = self._removed_notes()
        """By plan track: booleans over its seed track's notes, those of written cells."""
        shown = self._shown(limit)
        parts = [self._planned_part(index) for index in range(len(plan.tracks))]
        parts += [self.seed.tracks[index] for index in shown]
        whole = self.seed.replace(tracks=tuple(parts))
        order = tokenizer.track_order(whole, keep_silent=True)
        grid, self.loss = tokenizer.grid_of(whole, self.bars, keep_silent=True)
        self.num_tracks = grid.num_tracks
        self.programs, self.instances = grid.programs, grid.instances
        self.meters, self.tempos = grid.meters, grid.tempos.copy()
        self.tempos[len(plan.seed_bars) :] = [
            int(vocabulary.tempo_class(6e7 / bar.tempo_us)) for bar in plan.bars
        ]
        self.plan_track = [index if index < len(plan.tracks) else -1 for index in order]
        self.given = np.ones((self.num_bars, self.num_tracks), dtype=bool)
        for place, index in enumerate(self.plan_track):
            if index >= 0:
                self.given[:, place] = ~plan.open_cells[:, index]
        nothing = np.zeros((0, 4), dtype=np.int64)
        self.notes = [
            grid.cell(bar, place) if self._holds_seed(bar, place) else nothing
            for bar in range(self.num_bars)
            for place in range(self.num_tracks)
        ]
        """The note rows of each cell, bar by bar."""
        self.sources: dict[tuple[int, int], list[int]] = {}
        """Of written cells: for each row what `OpenCell.sources` says."""
        self.bar_units = vocabulary.bar_units[self.meters]
        self.bar_start = np.concatenate(([0], np.cumsum(self.bar_units)))
        self.rung: dict[int, list[tuple[int, int, int]]] = {}
        """By place: start tick, end tick and pitch of written notes that may still ring."""
        self.controls = self._told()

    # --- The piece -----------------------------------------------------------------------------

    def _all_bars(self) -> list[Bar]:
        """The seed's bars and the new ones behind them, in the seed's ticks."""
        plan, vocabulary = self.plan, self.vocabulary
        bars, unit = list(plan.seed_bars), 4 * self.seed.ppq
        tick = bars[-1].end_tick if bars else 0
        for bar in plan.bars:
            length = max(1, round(unit * bar.numerator / bar.denominator))
            bars.append(Bar(tick, tick + length, bar.numerator, bar.denominator))
            tick += length
            if not vocabulary.holds_bar(bar.numerator, bar.denominator):
                raise TokenError(
                    f"meter {bar.numerator}/{bar.denominator} is not in the preset "
                    f"{self.tokenizer.name!r}; its longest bar has {vocabulary.longest_bar_q} "
                    "quarter notes over 2, 4, 8 or 16: ask for such a time signature"
                )
        return bars

    def _removed_notes(self) -> dict[int, np.ndarray]:
        """For each plan track: booleans over its seed track's notes, those of written cells."""
        removed = {}
        for index, item in enumerate(self.plan.tracks):
            if item.seed_track is None:
                continue
            gone = np.zeros(len(self.seed.tracks[item.seed_track]), dtype=bool)
            for bar in np.flatnonzero(self.plan.open_cells[: len(self.plan.seed_bars), index]):
                gone[self.plan.seed_notes(index, int(bar))] = True
            removed[index] = gone
        return removed

    def _planned_part(self, index: int) -> Track:
        """A plan's track as it sounds outside its regions."""
        item = self.plan.tracks[index]
        notes = Track().notes
        if item.seed_track is not None:
            notes = self.seed.tracks[item.seed_track].notes[~self.removed[index]]
        return Track(notes=notes, program=item.program, is_drum=item.is_drum)

    def _holds_seed(self, bar: int, place: int) -> bool:
        # A note of the seed that quantises onto the seam, or into a region, is not shown there.
        return bar < len(self.plan.seed_bars) and bool(self.given[bar, place])

    def _shown(self, limit: int) -> list[int]:
        """The seed's tracks that are shown besides the plan's: all, or those there is room for."""
        plan = self.plan
        planned = {track.seed_track for track in plan.tracks}
        others = [
            index
            for index, track in enumerate(self.seed.tracks)
            if index not in planned and len(track) and plan.seed_bars
        ]
        first, last = plan.written_bars[0], plan.written_bars[-1]
        near = self.bars[max(0, first - _LISTEN_BARS) : last + 1]
        start, end = near[0].start_tick, near[-1].end_tick

        def rows_a_bar(track: Track) -> float:
            ticks = track.notes["start_tick"]
            return 1 + float(np.count_nonzero((ticks >= start) & (ticks < end))) / len(near)

        used = 1.0 + sum(
            rows_a_bar(self.seed.tracks[item.seed_track]) if item.seed_track is not None else 9.0
            for item in plan.tracks
        )
        cost = {index: rows_a_bar(self.seed.tracks[index]) for index in others}
        if (used + sum(cost.values())) * _BARS_WANTED <= limit:
            return others
        chosen: list[int] = []
        # Those that say most in few rows first; tracks that rest here say nothing.
        for index in sorted(others, key=lambda i: (cost[i] <= 1.0, cost[i], i)):
            if (used + cost[index]) * _BARS_WANTED > limit:
                break
            used += cost[index]
            chosen.append(index)
        return sorted(chosen)

    def piece_controls(self, bar: int) -> PieceControls:
        """Key, style and length as they are told around a bar."""
        plan, seed_bars = self.plan, len(self.plan.seed_bars)
        first, end = max(0, seed_bars - 2 * _LISTEN_BARS), seed_bars
        if plan.open_cells[:seed_bars].any():
            first, end = max(0, bar - _LISTEN_BARS), bar + _LISTEN_BARS
        cells = self.notes[first * self.num_tracks : end * self.num_tracks]
        heard = [cell for cell in cells if len(cell)]
        notes = np.concatenate(heard) if heard else np.zeros((0, 4), dtype=np.int64)
        return PieceControls(
            key=plan.key or estimate_key(notes, self.vocabulary),
            style=self.vocabulary.style_id(plan.style),
            tell_bars_left=plan.ends,
        )

    def _told(self) -> CellControls | None:
        """The learned controls of every cell; None where none is told."""
        told = CellControls.none(self.num_bars, self.num_tracks)
        anything = False
        for place, index in enumerate(self.plan_track):
            for bar in np.flatnonzero(~self.given[:, place]).tolist():
                rule = self.plan.rule(index, bar)
                notes = rule.told.notes
                if rule.lock:
                    notes = len(self.plan.seed_notes(index, bar))
                if notes is not None:
                    told.notes_left[bar, place] = 1 + notes
                    anything = True
                for name in ("polyphony", "length", "register", "loudness"):
                    value = getattr(rule.told, name)
                    if value is not None:
                        getattr(told, name)[bar, place] = told_class(name, value)
                        anything = True
        return told if anything else None

    # --- Documents -----------------------------------------------------------------------------

    def document(
        self,
        steps: Steps,
        *,
        opening: bool,
        origin_bar: int,
        first_index: int,
        piece: PieceControls,
        previous_tempo: int = -1,
    ) -> Layout:
        """Steps as rows, with times counted from the bar `origin_bar`."""
        first, last = int(steps.bar.min()), int(steps.bar.max()) + 1
        cells = self.notes[first * self.num_tracks : last * self.num_tracks]
        grid = Grid(
            meters=self.meters[first:last],
            tempos=self.tempos[first:last],
            programs=self.programs,
            instances=self.instances,
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
            piece=piece,
            total_bars=self.num_bars - first,
            at_start=first == 0,
            first_index=first_index,
            opening=opening,
            previous_tempo=previous_tempo,
        )
        shift = self.bar_start[first] - self.bar_start[origin_bar]
        document.coordinates[:, 1] += shift / self.vocabulary.grid
        document.cells[document.cells >= 0] += first * self.num_tracks
        return document

    def index(self, bar: int, place: int) -> int:
        """Where in `notes` a cell lies."""
        return bar * self.num_tracks + place

    def vectors_of(self, cells: np.ndarray) -> np.ndarray | None:
        """(n, D): what is told of the cells of some rows besides ids; None where nothing is."""
        told = self.plan.likeness
        if not told:
            return None
        found = np.zeros((len(cells), len(next(iter(told.values())).vector)))
        for cell in np.unique(cells[cells >= 0]).tolist():
            bar, place = divmod(cell, self.num_tracks)
            alike = told.get((self.plan_track[place], bar))
            if alike is not None:
                found[cells == cell] = alike.vector
        return found

    def bar_is_silent(self, bar: int) -> bool:
        """Whether nothing sounds in a bar so far."""
        cells = self.notes[self.index(bar, 0) : self.index(bar + 1, 0)]
        return not any(len(cell) for cell in cells)

    def store(self, bar: int, place: int, rows: list[Row], sources: list[int]) -> None:
        """Takes over the rows of a cell that is being written."""
        self.notes[self.index(bar, place)] = np.array(rows, dtype=np.int64).reshape(-1, 4)
        self.sources[bar, place] = sources

    def close(self, bar: int, place: int) -> None:
        """A cell is finished: its notes may ring on."""
        start = self.bars[bar].start_tick
        ends = self.rung.setdefault(place, [])
        ends[:] = [note for note in ends if note[1] > start]
        index = self.plan.tracks[self.plan_track[place]].seed_track
        rows = self.notes[self.index(bar, place)].tolist()
        for (head, pitch, _, duration), source in zip(rows, self.sources[bar, place], strict=True):
            if source == OpenCell.PINNED:
                continue  # one of the notes that stay: they are known by their ticks
            begin = head - FIRST_POSITION
            end = begin + int(self.vocabulary.duration_units[duration - 1])
            first, last = start + self._ticks(begin), start + self._ticks(end)
            if source >= 0 and index is not None:
                note = self.seed.tracks[index].notes[source]
                first = int(note["start_tick"])
                last = first + int(note["duration_tick"])
            ends.append((first, last, (pitch - 1) % 128))

    def _ticks(self, units: int) -> int:
        return round(units * self.seed.ppq / self.vocabulary.grid)

    def units(self, ticks: np.ndarray) -> np.ndarray:
        """Ticks in grid units, float64, free of the noise of division."""
        return np.round(np.asarray(ticks, float) * self.vocabulary.grid / self.seed.ppq, 6)
