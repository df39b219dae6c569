"""The `events` presets: a note is one row of four fields, a piece a grid of bars x tracks.

Quantising is arithmetic on the score's columns: no note is looped over in Python. The vocabulary
is in vocabulary.py, the grid in grid.py, the order of documents in schedule.py, the controls in
controls.py, the rules of sampling in grammar.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from musegen.errors import TokenError
from musegen.music.bars import meters_on_barlines
from musegen.music.score import NOTE_DTYPE, Bar, Meter, Score, Tempo, Track
from musegen.tokens.controls import (
    PieceControls,
    channel_specs,
    drop_controls,
    estimate_key,
    measure_cells,
)
from musegen.tokens.grid import Grid
from musegen.tokens.schedule import Layout, Steps, layout, schedule
from musegen.tokens.tokenizer import (
    DocumentMix,
    Encoding,
    PieceInfo,
    RoundTripLoss,
    Sample,
    Tokenizer,
)
from musegen.tokens.variants import (
    instances_of,
    jittered,
    louder,
    reinstrumented,
    stretched,
    transposed,
)
from musegen.tokens.vocabulary import (
    DRUM_PITCH,
    DRUM_PROGRAM,
    FIRST_POSITION,
    PITCH,
    EventVocabulary,
)

if TYPE_CHECKING:
    from musegen.tokens.plan import CompositionPlan, PlanGuide

__all__ = ["EventTokenizer"]

_MAX_TRACKS = 32


class EventTokenizer(Tokenizer):
    """Rows of four fields over an `EventVocabulary`."""

    def __init__(self, name: str = "events", vocabulary: EventVocabulary | None = None) -> None:
        self.name = name
        self.vocabulary = vocabulary or EventVocabulary()
        self.styles = self.vocabulary.styles
        self.field_names = ("head", "pitch", "velocity", "duration")
        self.field_sizes = self.vocabulary.field_sizes
        self.channels = channel_specs(self.vocabulary)
        self.axes = ("index", "time")

    # --- Scores to rows ------------------------------------------------------------------------

    def encode(self, score: Score) -> Encoding:
        # A bar that a change of meter cuts short is read under a meter of its own length.
        score = score.replace(meters=meters_on_barlines(score)[0])
        grid, loss = self.grid_of(score, score.bars())
        return Encoding(grid.rows(self.vocabulary), loss)

    def grid_of(
        self, score: Score, bars: list[Bar], keep_silent: bool = False
    ) -> tuple[Grid, RoundTripLoss]:
        """The cells of a score over a bar grid, tracks in canonical order.

        `keep_silent` keeps tracks without notes (a composition names its tracks itself).
        """
        vocabulary = self.vocabulary
        if not bars:
            raise TokenError("the score has no notes: there is nothing to encode")
        starts = np.array([bar.start_tick for bar in bars], dtype=np.int64)
        ends = np.array([bar.end_tick for bar in bars], dtype=np.int64)
        bar_units = np.maximum(np.round((ends - starts) * vocabulary.grid / score.ppq), 1)
        meters = np.array(
            [vocabulary.nearest_meter(bar.numerator, bar.denominator) for bar in bars]
        )
        mapped = sorted(
            {
                (bar.numerator, bar.denominator)
                for bar in bars
                if vocabulary.meter_index(bar.numerator, bar.denominator) is None
            }
        )
        messages = tuple(
            "meter {}/{} is not in the preset: read as {}/{}".format(
                *meter, *vocabulary.meters[vocabulary.nearest_meter(*meter)]
            )
            for meter in mapped
        )
        tempo_ticks = np.array([tempo.tick for tempo in score.tempos])
        tempo_us = np.array([tempo.tempo_us for tempo in score.tempos], dtype=np.float64)
        in_force = np.maximum(np.searchsorted(tempo_ticks, starts, side="right") - 1, 0)
        tempos = vocabulary.tempo_class(6e7 / np.maximum(tempo_us[in_force], 1))

        order = self.track_order(score, keep_silent)
        tables, dropped, onset_errors, duration_errors = [], 0, [], []
        for place, index in enumerate(order):
            track = score.tracks[index]
            notes = track.notes
            tick = notes["start_tick"].astype(np.int64)
            bar = np.maximum(np.searchsorted(starts, tick, side="right") - 1, 0)
            exact = (tick - starts[bar]) * (vocabulary.grid / score.ppq)
            position = np.round(exact).astype(np.int64)
            over = position >= bar_units[bar]
            moves = over & (bar + 1 < len(bars))
            onset_errors.append(np.abs(np.where(moves, bar_units[bar], position) - exact))
            bar = bar + moves
            position = np.where(
                moves, 0, np.where(over, np.maximum(bar_units[bar] - 1, 0), position)
            ).astype(np.int64)
            units = notes["duration_tick"] * (vocabulary.grid / score.ppq)
            duration = vocabulary.duration_class(units)
            duration_errors.append(np.abs(vocabulary.duration_units[duration - 1] - units))
            held = position < vocabulary.positions
            dropped += int(np.count_nonzero(~held))
            base = DRUM_PITCH if track.is_drum else PITCH
            table = np.stack(
                [
                    bar * len(order) + place,
                    FIRST_POSITION + position,
                    base + notes["pitch"].astype(np.int64),
                    vocabulary.velocity_class(notes["velocity"]),
                    duration,
                ],
                axis=1,
            )
            tables.append(table[held])
        table = np.concatenate(tables) if tables else np.zeros((0, 5), dtype=np.int64)
        # Of several notes at one place the longest, then the loudest, stays.
        table = table[
            np.lexsort((-table[:, 3], -table[:, 4], table[:, 2], table[:, 1], table[:, 0]))
        ]
        first = np.ones(len(table), dtype=bool)
        first[1:] = np.any(table[1:, :3] != table[:-1, :3], axis=1)
        table, before = table[first], len(table)
        cells = len(bars) * max(len(order), 1)
        sizes = np.bincount(table[:, 0], minlength=cells)
        programs = np.array(
            [DRUM_PROGRAM if score.tracks[i].is_drum else score.tracks[i].program for i in order],
            dtype=np.int64,
        )
        grid = Grid(
            meters=meters,
            tempos=np.asarray(tempos, dtype=np.int64),
            programs=programs,
            instances=self.instances_of(programs),
            notes=table[:, 1:],
            offsets=np.concatenate(([0], np.cumsum(sizes))),
        )
        onset = np.concatenate(onset_errors) if onset_errors else np.zeros(1)
        length = np.concatenate(duration_errors) if duration_errors else np.zeros(1)
        loss = RoundTripLoss(
            notes_in=score.num_notes,
            notes_out=len(table),
            notes_merged=before - len(table),
            notes_dropped=dropped,
            onset_error_max_q=float(onset.max(initial=0.0)) / vocabulary.grid,
            onset_error_mean_q=float(onset.mean()) / vocabulary.grid if len(onset) else 0.0,
            duration_error_mean_q=float(length.mean()) / vocabulary.grid if len(length) else 0.0,
            tempo_changes_moved=len(
                set(tempo_ticks[tempo_ticks < ends[-1]]) - set(starts.tolist())
            ),
            events_dropped=sum(
                len(track.controls)
                + len(track.bends)
                + len(track.lyrics)
                + len(track.program_changes)
                for track in score.tracks
            ),
            messages=messages,
        )
        return grid, loss

    def track_order(self, score: Score, keep_silent: bool = False) -> list[int]:
        """Indices of the score's tracks in canonical order: by program, drums last.

        Raises:
            TokenError: no track has notes.
        """
        tracks = score.tracks
        order = sorted(
            (index for index, track in enumerate(tracks) if keep_silent or len(track)),
            key=lambda i: (DRUM_PROGRAM if tracks[i].is_drum else tracks[i].program, i),
        )
        if not order:
            raise TokenError("the score has no notes: there is nothing to encode")
        return order

    def instances_of(self, programs: np.ndarray) -> np.ndarray:
        """(J,): how many tracks of the same program stand before each, at most instances - 1."""
        return instances_of(programs, self.vocabulary)

    # --- Rows to scores ------------------------------------------------------------------------

    def decode(self, rows: np.ndarray) -> Score:
        vocabulary = self.vocabulary
        grid = Grid.from_rows(rows, vocabulary)
        ppq = vocabulary.grid * max(1, 480 // vocabulary.grid)
        unit = ppq // vocabulary.grid
        starts = (grid.bar_starts_q(vocabulary) * ppq).round().astype(np.int64)
        cells = np.repeat(np.arange(len(grid.offsets) - 1), np.diff(grid.offsets))
        bar, track = np.divmod(cells, grid.num_tracks)
        notes = np.zeros(len(grid.notes), dtype=NOTE_DTYPE)
        notes["start_tick"] = starts[bar] + (grid.notes[:, 0] - FIRST_POSITION) * unit
        notes["duration_tick"] = vocabulary.duration_units[grid.notes[:, 3] - 1] * unit
        notes["pitch"] = (grid.notes[:, 1] - PITCH) % 128
        notes["velocity"] = vocabulary.velocity_of(grid.notes[:, 2])
        tracks = tuple(
            Track(
                notes=notes[track == index],
                program=0 if program == DRUM_PROGRAM else program,
                is_drum=program == DRUM_PROGRAM,
            )
            for index, program in enumerate(grid.programs.tolist())
        )
        changes = np.flatnonzero(np.diff(grid.tempos, prepend=-1))
        new_meters = np.flatnonzero(np.diff(grid.meters, prepend=-1))
        return Score(
            ppq=ppq,
            tracks=tracks,
            tempos=tuple(
                Tempo(int(starts[k]), round(6e7 / vocabulary.tempo_bpm[grid.tempos[k]]))
                for k in changes
            ),
            meters=tuple(
                Meter(int(starts[k]), *vocabulary.meters[grid.meters[k]]) for k in new_meters
            ),
        )

    # --- Training windows ----------------------------------------------------------------------

    def sample(
        self,
        rows: np.ndarray,
        length: int,
        rng: np.random.Generator,
        info: PieceInfo,
        mix: DocumentMix = DocumentMix(),
    ) -> Sample:
        vocabulary = self.vocabulary
        grid = Grid.from_rows(rows, vocabulary)
        counts = grid.counts
        from_start = rng.random() < 0.2
        first = 0 if from_start else int(rng.integers(grid.num_bars))
        tracks = self._some_tracks(counts, first, length, rng)
        last = self._last_bar(counts[:, tracks], grid.tempos, first, length)
        # Tracks that rest for the whole window are not named, as in sampling.
        sounding = counts[first:last, tracks].sum(0) > 0
        if sounding.any():
            tracks = tracks[sounding]
            last = self._last_bar(counts[:, tracks], grid.tempos, first, length)
        window = grid.part(first, last, tracks)
        steps = _training_steps(window, mix.masked, rng)
        piece = PieceControls(
            key=estimate_key(window.notes, vocabulary) if rng.random() < 0.6 else 0,
            style=vocabulary.style_id(info.style) if rng.random() < 0.6 else 0,
            tell_bars_left=bool(rng.random() < 0.6),
        )
        document = layout(
            window,
            steps,
            vocabulary,
            cells=drop_controls(measure_cells(window, vocabulary), rng, mix.told),
            piece=piece,
            total_bars=grid.num_bars - first,
            at_start=first == 0,
            at_end=last == grid.num_bars,
        )
        return _as_sample(document[:length], window, first, tracks, grid.num_tracks)

    def windows(self, rows: np.ndarray, length: int, info: PieceInfo) -> list[Sample]:
        grid = Grid.from_rows(rows, self.vocabulary)
        counts = grid.counts
        samples, first = [], 0
        while first < grid.num_bars:
            tracks = np.arange(grid.num_tracks)
            last = self._last_bar(counts, grid.tempos, first, length)
            sounding = counts[first:last].sum(0) > 0
            tracks = tracks[sounding] if sounding.any() else tracks[:1]
            window = grid.part(first, last, tracks)
            document = layout(
                window,
                schedule(np.zeros((window.num_bars, window.num_tracks), dtype=bool)),
                self.vocabulary,
                at_start=first == 0,
                at_end=last == grid.num_bars,
            )
            # A bar longer than the window is scored in pieces; each begins with the row before it,
            # which predicts its first.
            for begin in range(0, max(1, len(document) - 1), length - 1):
                part = document[begin : begin + length]
                samples.append(_as_sample(part, window, first, tracks, grid.num_tracks))
            first = last
        return samples

    def _some_tracks(
        self, counts: np.ndarray, first: int, length: int, rng: np.random.Generator
    ) -> np.ndarray:
        """Tracks of a window: those that sound near it; a part of them where they are many."""
        near = counts[first : first + 16]
        sounding = np.flatnonzero(near.sum(0) > 0)
        if not len(sounding):
            sounding = np.arange(counts.shape[1])
        keep = min(len(sounding), _MAX_TRACKS)
        if keep > 1 and rng.random() < 0.3:
            keep = int(rng.integers(1, keep + 1))
        chosen = rng.permutation(sounding)[:keep]
        # At least four bars should fit, else the window holds no form.
        wanted = length / min(4, len(near))
        cost = np.cumsum(1 + near.mean(0)[chosen])
        fits = max(1, int(np.searchsorted(cost, wanted)))
        return np.sort(chosen[:fits])

    def _last_bar(self, counts: np.ndarray, tempos: np.ndarray, first: int, length: int) -> int:
        """One past the last bar such that bars first.. fit `length` rows; at least one bar."""
        bars = slice(first, min(len(counts), first + length))
        changes = np.ones(bars.stop - bars.start, dtype=np.int64)
        changes[1:] = tempos[bars][1:] != tempos[bars][:-1]
        sizes = 1 + changes + counts.shape[1] + counts[bars].sum(1)
        fits = int(np.searchsorted(np.cumsum(sizes), length - 2, side="right"))
        return first + max(1, fits)

    # --- The rest of the protocol --------------------------------------------------------------

    def note_rows(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray(rows)[:, 0] >= FIRST_POSITION

    def transpose(self, rows: np.ndarray, semitones: int) -> np.ndarray | None:
        return transposed(rows, semitones, self.vocabulary)

    def stretch_tempo(self, rows: np.ndarray, factor: float) -> np.ndarray:
        return stretched(rows, factor, self.vocabulary)

    def shift_velocities(self, rows: np.ndarray, by: float) -> np.ndarray:
        return louder(rows, by, self.vocabulary)

    def change_programs(self, rows: np.ndarray, programs: Mapping[int, int]) -> np.ndarray:
        return reinstrumented(rows, programs, self.vocabulary)

    def programs_of(self, rows: np.ndarray) -> tuple[int, ...]:
        return tuple(Grid.from_rows(rows, self.vocabulary).programs.tolist())

    def jitter_drums(self, rows: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
        return jittered(rows, share, rng, self.vocabulary)

    def meter_for(self, numerator: int, denominator: int) -> tuple[int, int]:
        if self.vocabulary.holds_bar(numerator, denominator):
            return numerator, denominator
        return self.vocabulary.meters[self.vocabulary.nearest_meter(numerator, denominator)]

    def guide(self, plan: CompositionPlan, max_positions: int) -> PlanGuide:
        from musegen.tokens.grammar import EventGuide

        return EventGuide(self, plan, max_positions)

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": "events",
            "name": self.name,
            "format": 1,
            "vocabulary": self.vocabulary.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> EventTokenizer:
        """Raises TokenError for another format or an unknown setting."""
        if data.get("format") != 1:
            raise TokenError(
                f"events preset of format {data.get('format')!r}: this musegen reads 1"
            )
        vocabulary = data.get("vocabulary", {})
        if not isinstance(vocabulary, dict):
            raise TokenError("events preset: 'vocabulary' must be an object")
        return cls(str(data.get("name", "events")), EventVocabulary.from_dict(vocabulary))


def _training_steps(grid: Grid, masked: float, rng: np.random.Generator) -> Steps:
    """A document order: plain, or with whole tracks, single cells, or a window's rest given."""
    shape = (grid.num_bars, grid.num_tracks)
    given = np.zeros(shape, dtype=bool)
    if grid.num_tracks > 1 and rng.random() >= 1 - masked:
        kind = rng.integers(3)
        if kind == 0:  # accompany: whole tracks are given
            told = rng.permutation(grid.num_tracks)[: rng.integers(1, grid.num_tracks)]
            given[:, told] = True
        elif kind == 1:  # cells here and there
            given = rng.random(shape) < rng.uniform(0.1, 0.9)
        else:  # a window of some tracks is open, all else is given
            start = int(rng.integers(grid.num_bars))
            stop = int(rng.integers(start + 1, grid.num_bars + 1))
            open_tracks = rng.permutation(grid.num_tracks)[: rng.integers(1, grid.num_tracks)]
            given[:] = True
            given[start:stop, open_tracks] = False
    if not given.any() or given.all():
        given[:] = False
        return schedule(given)
    return schedule(given, bars_after=int(rng.choice([0, 4])))


def _as_sample(
    document: Layout, window: Grid, first_bar: int, tracks: np.ndarray, all_tracks: int
) -> Sample:
    """A document over a window of a piece; its cells are counted as the piece's."""
    bar, track = np.divmod(document.cells, window.num_tracks)
    of_piece = (first_bar + bar) * all_tracks + tracks[track]
    return Sample(
        rows=document.rows,
        channels=document.channels,
        coordinates=document.coordinates.astype(np.float32),
        weights=np.ones(len(document), dtype=np.float32),
        cells=np.where(document.cells < 0, -1, of_piece),
    )
