"""Scores to the flat tokens of the `remi` preset: MidiTok's REMI ids by array arithmetic.

`write_ids` gives exactly the ids of MidiTok 3.1 for the same preset, without MidiTok or symusic.
MidiTok walks event by event; here a note is one 64-bit number, so that sorting the numbers sorts
the piece and puts doubled notes side by side, and one scatter writes the ids.

A piece is laid on `positions` ticks for the shortest beat among its meters, as MidiTok does it.

Letters: N notes, M tempo changes, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from musegen.errors import TokenError
from musegen.music.score import NOTE_DTYPE, Score
from musegen.tokens.remi import DEFAULT_METER, DRUMS, RemiVocabulary
from musegen.tokens.tokenizer import RoundTripLoss

__all__ = ["MAX_BARS", "Laid", "Parts", "account", "write_ids"]

MAX_BARS = 100_000
"""A file that claims more bars is damaged or hostile; refusing it bounds time and memory."""

# A note as one number, from high bits to low: tick | rank of its track | pitch | duration |
# velocity. Rank 0 is a tempo change (its class in the bits of pitch and below), so that a tempo
# comes before the notes of its tick, as in MidiTok.
_VELOCITY_BITS, _DURATION_BITS, _PITCH_BITS, _RANK_BITS = 7, 9, 7, 8
_PITCH_SHIFT = _VELOCITY_BITS + _DURATION_BITS
_RANK_SHIFT = _PITCH_SHIFT + _PITCH_BITS
_TICK_SHIFT = _RANK_SHIFT + _RANK_BITS


@dataclass(frozen=True, eq=False)
class Parts:
    """A piece as plain columns, in ticks of `ppq`: what `write_ids` reads."""

    ppq: int
    meters: Sequence[tuple[int, int, int]]
    """(tick, numerator, denominator), sorted by tick."""
    tempo_tick: np.ndarray
    """(M,) integers, ascending."""
    tempo_us: np.ndarray
    """(M,) microseconds a quarter note."""
    start_tick: np.ndarray
    """(N,) integers."""
    duration_tick: np.ndarray
    pitch: np.ndarray
    velocity: np.ndarray
    rank: np.ndarray
    """(N,) int64: 1 + the place of the note's program in `programs`."""
    programs: Sequence[int]
    """0..127 or `DRUMS`, in the order of the first tracks that have them."""

    @classmethod
    def from_score(cls, score: Score) -> Parts:
        """The columns of a score; tracks of one program become one part."""
        programs: dict[int, int] = {}
        ranks, arrays = [], []
        for track in score.tracks:
            program = DRUMS if track.is_drum else track.program
            rank = programs.setdefault(program, len(programs) + 1)
            if len(track.notes):
                arrays.append(track.notes)
                ranks.append(rank)
        notes = np.concatenate(arrays) if arrays else np.empty(0, NOTE_DTYPE)
        return cls(
            ppq=score.ppq,
            meters=score.meters,
            tempo_tick=np.array([tempo.tick for tempo in score.tempos], dtype=np.int64),
            tempo_us=np.array([tempo.tempo_us for tempo in score.tempos], dtype=np.float64),
            start_tick=notes["start_tick"],
            duration_tick=notes["duration_tick"],
            pitch=notes["pitch"],
            velocity=notes["velocity"],
            rank=np.repeat(np.array(ranks, dtype=np.int64), [len(array) for array in arrays]),
            programs=tuple(programs),
        )

    @classmethod
    def from_symusic(cls, score: Any) -> Parts:
        """The columns of a symusic `Score` in ticks (symusic itself is not imported)."""
        programs: dict[int, int] = {}
        ranks, columns = [], []
        for track in score.tracks:
            program = DRUMS if track.is_drum else track.program
            rank = programs.setdefault(program, len(programs) + 1)
            if len(track.notes):
                columns.append(track.notes.numpy())
                ranks.append(rank)
        tempos = score.tempos.numpy()

        def joined(name: str) -> np.ndarray:
            return np.concatenate([column[name] for column in columns] or [np.empty(0, np.int32)])

        return cls(
            ppq=score.ticks_per_quarter,
            meters=[(m.time, m.numerator, m.denominator) for m in score.time_signatures],
            tempo_tick=np.asarray(tempos["time"], dtype=np.int64),
            tempo_us=np.asarray(tempos["mspq"], dtype=np.float64),
            start_tick=joined("time"),
            duration_tick=joined("duration"),
            pitch=joined("pitch"),
            velocity=joined("velocity"),
            rank=np.repeat(
                np.array(ranks, dtype=np.int64), [len(column["time"]) for column in columns]
            ),
            programs=tuple(programs),
        )


@dataclass(frozen=True, eq=False)
class Laid:
    """A piece laid on the grid: ids, and where everything went (for the account of losses)."""

    ids: np.ndarray
    """(T,) uint16."""
    notes_out: int
    tpq: int
    """Ticks a quarter note of the columns below."""
    start_tick: np.ndarray
    """(N,) int64, in the order of `Parts`."""
    duration_tick: np.ndarray
    """(N,) int64."""
    tempos: list[tuple[int, int]]
    """(tick, tempo class) of the tempo changes that are left."""
    num_bars: int


def _settled_meters(meters: Sequence[tuple[int, int, int]], tpq: int) -> list[tuple[int, int, int]]:
    """Meters moved to barlines: MidiTok's `_preprocess_time_signatures`, on plain tuples.

    A change inside a bar waits for the next barline; of several at one barline the last holds.
    """
    kept: list[tuple[int, int, int]] = []
    for tick, numerator, denominator in meters:
        if kept:
            last_tick, last_numerator, last_denominator = kept[-1]
            if (numerator, denominator) == (last_numerator, last_denominator):
                continue
            length = 4 * tpq * last_numerator // last_denominator
            tick = last_tick + -(-(max(tick, last_tick) - last_tick) // length) * length
            if tick == last_tick:
                kept.pop()
                if kept and kept[-1][1:] == (numerator, denominator):
                    continue
        kept.append((tick, numerator, denominator))
    return kept


def write_ids(parts: Parts, vocabulary: RemiVocabulary) -> Laid:
    """MidiTok's REMI ids of a piece.

    Meters that the preset has not are left out, as MidiTok does.

    Raises:
        TokenError: the piece claims more than `MAX_BARS` bars.
    """
    v = vocabulary
    meters = [tuple(meter) for meter in parts.meters if tuple(meter[1:]) in v.meter_index]
    if not meters or meters[0][0] != 0:
        meters.insert(0, (0, *DEFAULT_METER))
    tpq = v.positions * max(meter[2] for meter in meters) // 4
    scale = tpq / parts.ppq
    settled = _settled_meters([(int(tick * scale), n, d) for tick, n, d in meters], tpq)

    meter_tick = np.array([tick for tick, _, _ in settled], dtype=np.int64)
    beat_ticks = np.array([4 * tpq // d for _, _, d in settled], dtype=np.int64)
    bar_ticks = np.array([n for _, n, _ in settled], dtype=np.int64) * beat_ticks
    meter_bar = np.zeros(len(settled), dtype=np.int64)
    np.cumsum(np.diff(meter_tick) // bar_ticks[:-1], out=meter_bar[1:])
    one_beat = bool((beat_ticks == beat_ticks[0]).all())

    def on_grid(ticks: np.ndarray) -> np.ndarray:
        """File ticks to grid ticks: rounded half up as symusic does, then to the meter's grid."""
        if tpq != parts.ppq:
            ticks = np.floor(ticks * scale + 0.5).astype(np.int64)
        if one_beat:
            return ticks.astype(np.int64)
        section = np.searchsorted(meter_tick, ticks, side="right") - 1
        step, origin = beat_ticks[section] // v.positions, meter_tick[section]
        return np.rint((ticks - origin) / step).astype(np.int64) * step + origin

    start = on_grid(parts.start_tick)
    tempo_tick, tempo_class = _settled_tempos(
        on_grid(parts.tempo_tick), v.tempo_class(parts.tempo_us), v
    )
    last_tick = max(int(start.max(initial=0)), int(tempo_tick[-1]), int(meter_tick[-1]))
    num_bars = int(meter_bar[-1] + (last_tick - meter_tick[-1]) // bar_ticks[-1]) + 1
    if num_bars > MAX_BARS or last_tick >= 2 ** (62 - _TICK_SHIFT):
        raise TokenError(
            f"the piece claims {num_bars} bars, at most {MAX_BARS} are read: "
            "an event far behind the last note is likely; remove it"
        )

    length = parts.duration_tick
    if tpq != parts.ppq:
        length = np.maximum(np.floor(length * scale + 0.5).astype(np.int64), 1)
    if one_beat:
        table = v.duration_class(int(beat_ticks[0]))
        duration_class = table[np.minimum(length, len(table) - 1)]
        duration = v.duration_ticks(int(beat_ticks[0]))[duration_class]
    else:
        beat = beat_ticks[np.searchsorted(meter_tick, start, side="right") - 1]
        duration_class = np.zeros(len(start), dtype=np.int64)
        duration = np.zeros(len(start), dtype=np.int64)
        for ticks in np.unique(beat).tolist():
            here, table = beat == ticks, v.duration_class(ticks)
            duration_class[here] = table[np.minimum(length[here], len(table) - 1)]
            duration[here] = v.duration_ticks(ticks)[duration_class[here]]

    keys = np.empty(len(start) + len(tempo_tick), dtype=np.int64)
    notes = keys[: len(start)]
    np.left_shift(start, _RANK_BITS, out=notes)
    notes |= parts.rank
    notes <<= _PITCH_BITS
    notes |= parts.pitch
    notes <<= _DURATION_BITS
    notes |= duration_class
    notes <<= _VELOCITY_BITS
    notes |= v.velocity_class[parts.velocity]
    keys[len(start) :] = (tempo_tick << _TICK_SHIFT) | tempo_class
    keys.sort()
    # of notes alike in place, track and pitch the first stays: the shortest, then the softest
    same = keys >> _PITCH_SHIFT
    alike = same[1:] == same[:-1]
    if alike.any():
        keys = keys[np.concatenate(([True], ~alike))]
    ids = _scatter(keys, parts, v, settled, meter_tick, meter_bar, bar_ticks, beat_ticks, num_bars)
    return Laid(
        ids=ids,
        notes_out=len(keys) - len(tempo_tick),
        tpq=tpq,
        start_tick=start,
        duration_tick=duration,
        tempos=list(zip(tempo_tick.tolist(), tempo_class.tolist(), strict=True)),
        num_bars=num_bars,
    )


def _settled_tempos(
    ticks: np.ndarray, classes: np.ndarray, vocabulary: RemiVocabulary
) -> tuple[np.ndarray, np.ndarray]:
    """Of several at one tick the last; no repetition; one at tick 0 (`_preprocess_tempos`)."""
    if len(ticks):
        last = np.concatenate((ticks[1:] != ticks[:-1], [True]))
        ticks, classes = ticks[last], classes[last]
        new = np.concatenate(([True], classes[1:] != classes[:-1]))
        ticks, classes = ticks[new], classes[new]
    default = vocabulary.default_tempo
    if len(ticks) and classes[0] == default:
        ticks[0] = 0
    elif not len(ticks) or ticks[0] != 0:
        ticks = np.concatenate(([0], ticks)).astype(np.int64)
        classes = np.concatenate(([default], classes)).astype(np.int64)
    return ticks, classes


def _scatter(
    keys: np.ndarray,
    parts: Parts,
    v: RemiVocabulary,
    settled: Sequence[tuple[int, int, int]],
    meter_tick: np.ndarray,
    meter_bar: np.ndarray,
    bar_ticks: np.ndarray,
    beat_ticks: np.ndarray,
    num_bars: int,
) -> np.ndarray:
    """Sorted numbers to ids: every event's place is the width of all that comes before it."""
    meter_ids = v.meter_ids[[v.meter_index[n, d] for _, n, d in settled]]
    tick = keys >> _TICK_SHIFT
    rank = (keys >> _RANK_SHIFT) & ((1 << _RANK_BITS) - 1)
    new = np.empty(len(keys), dtype=bool)
    new[0] = True
    np.not_equal(tick[1:], tick[:-1], out=new[1:])
    if len(settled) == 1:
        bar, inside = np.divmod(tick, bar_ticks[0])
        place = inside // (beat_ticks[0] // v.positions)
    else:
        section = np.searchsorted(meter_tick, tick, side="right") - 1
        bar, inside = np.divmod(tick - meter_tick[section], bar_ticks[section])
        bar += meter_bar[section]
        place = inside // (beat_ticks[section] // v.positions)
    is_note = rank > 0
    width = np.where(is_note, 4, 1) + new
    end = np.cumsum(width)
    at = end - width + 2 * (bar + 1)
    ids = np.empty(int(end[-1]) + 2 * num_bars, dtype=np.uint16)
    # header of bar b: after all events of the bars before it
    before = np.concatenate(([0], end))[np.searchsorted(bar, np.arange(num_bars))]
    header = before + 2 * np.arange(num_bars)
    ids[header] = v.bar
    bar_section = np.searchsorted(meter_bar, np.arange(num_bars), side="right") - 1
    ids[header + 1] = meter_ids[bar_section]
    ids[at[new]] = v.position_ids[place[new]]
    at += new
    low = keys & ((1 << _RANK_SHIFT) - 1)
    ids[at[~is_note]] = v.tempo_ids[low[~is_note]]
    at, low, rank = at[is_note], low[is_note], rank[is_note]
    program = np.array([0, *parts.programs], dtype=np.int64)
    pitch = low >> _PITCH_SHIFT
    pitch_ids = v.pitch_ids[pitch]
    if DRUMS in parts.programs:
        pitch_ids = np.where(program[rank] == DRUMS, v.drum_ids[pitch], pitch_ids)
    ids[at] = v.program_ids[program + 1][rank]
    ids[at + 1] = pitch_ids
    ids[at + 2] = v.velocity_ids[low & ((1 << _VELOCITY_BITS) - 1)]
    ids[at + 3] = v.duration_ids[(low >> _VELOCITY_BITS) & ((1 << _DURATION_BITS) - 1)]
    return ids


def account(
    score: Score, plain: Score, parts: Parts, laid: Laid, messages: Sequence[str]
) -> RoundTripLoss:
    """What the grid takes away: exact places against places on the grid, in quarter notes."""
    onset = np.abs(laid.start_tick / laid.tpq - parts.start_tick / parts.ppq)
    length = np.abs(laid.duration_tick / laid.tpq - parts.duration_tick / parts.ppq)
    kept = {tick / laid.tpq for tick, _ in laid.tempos}
    moved = sum(
        not any(abs(tempo.tick / plain.ppq - tick) < 1e-6 for tick in kept)
        for tempo in plain.tempos
    )
    extra = len(score.tempos) - len(plain.tempos)
    merged = len({(track.is_drum, track.program * (not track.is_drum)) for track in score.tracks})
    doubled = len(score.tracks) - merged
    if doubled:
        messages = (*messages, f"{doubled} tracks joined to another track of the same program")
    return RoundTripLoss(
        notes_in=score.num_notes,
        notes_out=laid.notes_out,
        notes_merged=plain.num_notes - laid.notes_out,
        notes_dropped=score.num_notes - plain.num_notes,
        onset_error_max_q=float(onset.max(initial=0.0)),
        onset_error_mean_q=float(onset.mean()) if len(onset) else 0.0,
        duration_error_mean_q=float(length.mean()) if len(length) else 0.0,
        tempo_changes_moved=moved + extra,
        events_dropped=sum(
            len(track.controls) + len(track.bends) + len(track.lyrics) + len(track.program_changes)
            for track in score.tracks
        ),
        messages=tuple(messages),
    )
