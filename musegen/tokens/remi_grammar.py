"""The rules of sampling the `remi` preset: whatever the logits, the result is a valid score.

A table over token types (what may follow what) and counters: bars left, the last position, the
pitches of each program at a position, notes in a bar, room up to the end. Headers of bars (Bar,
TimeSig, and Position_0 Tempo where the tempo changes) are forced; the model says with a Bar (or, in
the last bar, with Bar or EOS alike) that a bar ends. The rules are masks, applied before any
filter: they hold at every temperature, from random weights too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from musegen.errors import GenerationError, TokenError
from musegen.guide import Advance
from musegen.music.score import Score, Track
from musegen.tokens.plan import WRITTEN_DTYPE, CompositionPlan, Written
from musegen.tokens.remi import DRUMS
from musegen.tokens.remi_documents import with_tempo
from musegen.tokens.remi_encoder import Parts, write_ids
from musegen.tokens.remi_grid import place_in_bars

if TYPE_CHECKING:
    from musegen.tokens.midi_tokenizer import MidiTokenizer

__all__ = ["RemiGuide", "prompt_ids"]

MAX_CHORD = 12
"""Notes of one track at one position."""

MAX_SILENT_BARS = 1
"""So many bars in a row may stay silent; the next must have a note."""

_DRUM_RANGE = (27, 87)
"""General MIDI level 2 percussion."""

_MIN_POSITIONS = 64

# What the next token is. HEADER: after Bar TimeSig, nothing yet; OPEN: at a position, a note may
# follow; the others: inside a note, or a position without a note yet.
_HEADER, _OPEN, _PROGRAM, _PITCH, _VELOCITY, _DURATION = range(6)


@dataclass
class _Note:
    bar: int
    place: int
    program: int
    pitch: int
    velocity: int = 0
    duration_class: int = -1


def prompt_ids(tokenizer: MidiTokenizer, plan: CompositionPlan) -> np.ndarray:
    """The seed of a plan as base ids: BOS and exactly the bars of `seed_bars`, int64.

    Tracks that the plan goes on from carry the plan's programs.
    """
    v = tokenizer.vocabulary
    if plan.seed is None or not plan.seed_bars:
        return np.array([v.bos], dtype=np.int64)
    tracks = list(plan.seed.tracks)
    for item in plan.tracks:
        if item.seed_track is not None:
            tracks[item.seed_track] = Track(
                notes=plan.seed.tracks[item.seed_track].notes,
                program=item.program,
                is_drum=item.is_drum,
            )
    seed = Score(
        ppq=plan.seed.ppq,
        tracks=tuple(tracks),
        tempos=plan.seed.tempos,
        meters=plan.seed.meters,
    )
    plain, meters, _ = place_in_bars(seed, plan.seed_bars, v)
    ids = write_ids(Parts.from_score(plain), v).ids.astype(np.int64)
    # silent bars at the seam have no ids yet; what was rounded onto the seam is not ours to play
    bars = np.flatnonzero(ids == v.bar)
    if len(bars) > len(meters):
        ids = ids[: bars[len(meters)]]
    headers = [id_ for meter in meters[len(bars) :] for id_ in (v.bar, v.meter_id(meter))]
    return np.concatenate(([v.bos], ids, headers)).astype(np.int64)


class RemiGuide:
    """Composes a `CompositionPlan` bar by bar in flat ids (implements `musegen.guide.Guide`).

    Several tracks of one program share its notes: at each position they are dealt out from high to
    low (`result`).

    Args:
        tokenizer: a `remi` preset without merges.
        plan: what to write.
        max_positions: rows that the model holds; when they are full, the context is laid out anew
            with as many of the last bars as fit in two thirds.
        max_chord: bound on the notes of one track at one position.

    Raises:
        TokenError: the plan asks for what the preset or the model cannot hold.
    """

    def __init__(
        self,
        tokenizer: MidiTokenizer,
        plan: CompositionPlan,
        max_positions: int,
        max_chord: int = MAX_CHORD,
    ) -> None:
        if tokenizer.has_merges:
            raise TokenError(
                f"preset {tokenizer.name!r} has merges, and there is no grammar over merged ids: "
                "compose with a model of the preset without merges"
            )
        if max_positions < _MIN_POSITIONS:
            raise TokenError(f"a model of {max_positions} positions is too small to compose with")
        if not plan.tracks or not plan.written_bars:
            raise TokenError("nothing to write: the plan has no tracks or no bars")
        if not plan.continues:
            raise TokenError(
                f"the preset {tokenizer.name!r} continues music and knows no regions and no "
                "controls: compose with a model of an events preset"
            )
        self.tokenizer, self.plan, self.max_positions = tokenizer, plan, max_positions
        self.vocabulary = v = tokenizer.vocabulary
        for bar in plan.bars:
            if (bar.numerator, bar.denominator) not in v.meter_index:
                raise TokenError(
                    f"meter {bar.numerator}/{bar.denominator} is not in the preset "
                    f"{tokenizer.name!r}: ask for another time signature"
                )
        self.warnings: list[str] = []
        self.rows_drawn = 0
        self.bars_done = 0
        denominators = np.array([bar.denominator for bar in plan.bars], dtype=np.int64)
        numerators = np.array([bar.numerator for bar in plan.bars], dtype=np.int64)
        self._beat_ticks = 4 * v.ppq // denominators
        self._bar_start = np.concatenate(([0], np.cumsum(numerators * self._beat_ticks)))
        self._places = (numerators * v.positions).tolist()
        self._tempos = v.tempo_class(np.array([bar.tempo_us for bar in plan.bars])).tolist()

        self._pitches: dict[int, np.ndarray] = {}
        self._players: dict[int, list[int]] = {}
        for index, track in enumerate(plan.tracks):
            program = DRUMS if track.is_drum else track.program
            low, high, table = track.lowest_pitch, track.highest_pitch, v.pitch_ids
            if track.is_drum:
                low, high = max(low, _DRUM_RANGE[0]), min(high, _DRUM_RANGE[1])
                table = v.drum_ids
            if not 0 <= low <= high <= 127:
                raise TokenError(f"track {index + 1}: no pitch lies between {low} and {high}")
            mask = self._pitches.setdefault(program, np.zeros(v.size, dtype=bool))
            mask[table[low : high + 1]] = True
            self._players.setdefault(program, []).append(index)
        self._max_notes = {
            program: plan.max_notes_per_cell * len(tracks)
            for program, tracks in self._players.items()
        }
        self._max_chord = {
            program: min(max_chord * len(tracks), int(self._pitches[program].sum()))
            for program, tracks in self._players.items()
        }

        self._ids: list[int] = prompt_ids(tokenizer, plan).tolist()
        """Everything so far, the prompt and what is written."""
        self._prompt_length = len(self._ids)
        self._bar_at = [row for row, id_ in enumerate(self._ids) if id_ == v.bar]
        tempos = [int(v.values[id_]) for id_ in self._ids if v.kinds[id_] == "Tempo"]
        self._tempo = tempos[-1] if tempos else -1
        self._used = 0
        self._bar = 0
        self._stage = _HEADER
        self._place = -1
        self._in_bar: dict[int, int] = {}
        self._chord: dict[int, set[int]] = {}
        self._notes: list[_Note] = []
        self._silent_bars = 0

    @property
    def ids(self) -> np.ndarray:
        """The ids written so far, forced headers and all, int64: they decode to the new bars."""
        return np.array(self._ids[self._prompt_length :], dtype=np.int64)

    # --- The protocol ----------------------------------------------------------------------------

    def start(self) -> Advance:
        self._open_bar()
        return self._restart()

    def mask(self, field: int, chosen: Sequence[int]) -> np.ndarray:
        v = self.vocabulary
        mask = np.zeros(v.size, dtype=bool)
        if self._stage == _PITCH:
            note = self._notes[-1]
            mask |= self._pitches[note.program]
            table = v.drum_ids if note.program == DRUMS else v.pitch_ids
            mask[table[list(self._chord.get(note.program, ()))]] = False
        elif self._stage == _VELOCITY:
            mask[v.velocity_ids] = True
        elif self._stage == _DURATION:
            beat = int(self._beat_ticks[self._bar])
            at = self._bar_start[self._bar] + self._place * (beat // v.positions)
            fits = v.duration_ticks(beat) <= self._bar_start[-1] - at
            mask[v.duration_ids[fits]] = True
        else:
            free = [p for p in self._players if self._in_bar.get(p, 0) < self._max_notes[p]]
            if self._stage != _HEADER:
                here = [p for p in free if len(self._chord.get(p, ())) < self._max_chord[p]]
                mask[v.program_ids[[1 + program for program in here]]] = True
            if self._stage != _PROGRAM:
                if free:
                    mask[v.position_ids[self._place + 1 : self._places[self._bar]]] = True
                if not (free and self._must_sound()):
                    mask[v.bar] = True
                    mask[v.eos] = self._bar == len(self.plan.bars) - 1
        return mask

    def bias(self, field: int, chosen: Sequence[int]) -> np.ndarray | None:
        return None

    def accept(self, row: Sequence[int]) -> Advance | None:
        v = self.vocabulary
        id_ = int(row[0])
        kind, value = str(v.kinds[id_]), int(v.values[id_])
        self.rows_drawn += 1
        before = len(self._ids)
        if kind in ("Bar", "EOS"):
            silent = not self._in_bar
            self._silent_bars = self._silent_bars + 1 if silent else 0
            self.bars_done = self._bar = self._bar + 1
            if self._bar == len(self.plan.bars):
                return None
            self._open_bar()
        else:
            self._ids.append(id_)
            if kind == "Position":
                self._place, self._chord, self._stage = value, {}, _PROGRAM
            elif kind == "Program":
                self._notes.append(_Note(self._bar, self._place, value, -1))
                self._stage = _PITCH
            elif kind in ("Pitch", "PitchDrum"):
                note = self._notes[-1]
                note.pitch = value
                self._chord.setdefault(note.program, set()).add(value)
                self._in_bar[note.program] = self._in_bar.get(note.program, 0) + 1
                self._stage = _VELOCITY
            elif kind == "Velocity":
                self._notes[-1].velocity, self._stage = value, _DURATION
            elif kind == "Duration":
                self._notes[-1].duration_class, self._stage = value, _OPEN
            else:
                raise GenerationError(f"{v.tokens[id_]} was drawn, which the rules do not allow")
        if self._used + len(self._ids) - before > self.max_positions:
            return self._restart()
        return self._advance(self._ids[before:])

    def result(self) -> Written:
        """The notes of the finished bars; several tracks of one program share its notes."""
        v = self.vocabulary
        done = [note for note in self._notes if note.bar < self.bars_done]
        rows = []
        for program, tracks in self._players.items():
            chords: dict[tuple[int, int], list[_Note]] = {}
            for note in done:
                if note.program == program and note.duration_class >= 0:
                    chords.setdefault((note.bar, note.place), []).append(note)
            for (bar, place), chord in chords.items():
                beat = int(self._beat_ticks[bar])
                onset_q = place * (beat // v.positions) / v.ppq
                for note, track in self._dealt(chord, tracks):
                    duration = int(v.duration_ticks(beat)[note.duration_class])
                    at = len(self.plan.seed_bars) + bar
                    row = (track, at, onset_q, duration / v.ppq, note.pitch, note.velocity, -1)
                    rows.append(row)
        notes = np.array(rows, dtype=WRITTEN_DTYPE)
        order = np.lexsort((notes["pitch"], notes["onset_q"], notes["bar"], notes["track"]))
        return Written(notes[order], self.bars_done)

    # --- Inside ----------------------------------------------------------------------------------

    def _dealt(self, chord: list[_Note], tracks: list[int]) -> list[tuple[_Note, int]]:
        """Notes of one position with a track each: in order from high to low, evenly, in range."""
        plans = self.plan.tracks
        dealt = []
        chord = sorted(chord, key=lambda note: -note.pitch)
        for index, note in enumerate(chord):
            able = [
                track
                for track in tracks
                if plans[track].lowest_pitch <= note.pitch <= plans[track].highest_pitch
            ]
            able = able or tracks
            dealt.append((note, able[min(index * len(able) // len(chord), len(able) - 1)]))
        return dealt

    def _must_sound(self) -> bool:
        """Whether this bar must not end yet, lest the music stays silent for too long."""
        if self._in_bar:
            return False
        last = self._bar == len(self.plan.bars) - 1
        return self._silent_bars >= MAX_SILENT_BARS or (last and not self._notes)

    def _open_bar(self) -> None:
        """Writes the header of the bar: Bar TimeSig, and the tempo where it changes."""
        v, bar = self.vocabulary, self.plan.bars[self._bar]
        self._bar_at.append(len(self._ids))
        self._ids += [v.bar, v.meter_id((bar.numerator, bar.denominator))]
        self._place, self._stage = -1, _HEADER
        self._in_bar, self._chord = {}, {}
        tempo = self._tempos[self._bar]
        if tempo != self._tempo:
            self._ids += [int(v.position_ids[0]), int(v.tempo_ids[tempo])]
            self._tempo, self._place, self._stage = tempo, 0, _OPEN

    def _advance(self, ids: Sequence[int], restart: bool = False) -> Advance:
        first = 0 if restart else self._used
        self._used = first + len(ids)
        return Advance(
            rows=np.array(ids, dtype=np.int64)[:, None],
            channels=np.zeros((len(ids), 0), dtype=np.int64),
            coordinates=np.arange(first, self._used, dtype=np.float64)[:, None],
            restart=restart,
        )

    def _restart(self) -> Advance:
        """The context laid out anew: as many of the last bars as fit in two thirds of it."""
        limit = self.max_positions * 2 // 3
        if len(self._ids) <= limit:
            return self._advance(self._ids, restart=True)
        fitting = [row for row in self._bar_at if len(self._ids) - row + 2 <= limit]
        begin = fitting[0] if fitting else self._bar_at[-1]
        v = self.vocabulary
        earlier = [id_ for id_ in self._ids[:begin] if v.kinds[id_] == "Tempo"]
        tempo = earlier[-1] if earlier else int(v.tempo_ids[v.default_tempo])
        body = np.array(self._ids[begin:], dtype=np.int64)
        document = with_tempo(body, tempo, v)[0]
        if len(document) > limit:  # one bar larger than the context: its header, its newest rows
            kinds = v.kinds[document]
            heads = np.flatnonzero(kinds == "Program")
            tail = int(heads[heads >= len(document) - (limit - 5)][0])
            place = document[np.flatnonzero(kinds[:tail] == "Position")[-1]]
            if kinds[tail - 1] == "Position":
                tail -= 1
            parts = (document[:4], [] if kinds[tail] == "Position" else [place], document[tail:])
            document = np.concatenate(parts).astype(np.int64)
        return self._advance(document.tolist(), restart=True)
