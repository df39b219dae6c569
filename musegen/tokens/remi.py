"""The flat tokens of the `remi` preset: MidiTok's REMI ids as array arithmetic, both ways.

A piece is ``{ Bar TimeSig { Position [Tempo] { Program Pitch Velocity Duration } } }``: REMI with
programs, tempi and time signatures in one stream (Huang and Yang, 2020; Von Rütte et al., 2022).
`write_ids` gives exactly the ids of MidiTok 3.1 for the same preset, `read_ids` what they mean.
MidiTok walks event by event; here a note is one 64-bit number, so that sorting the numbers sorts
the piece, drops doubled notes, and leaves one scatter to do. Neither needs MidiTok or symusic.

The grid: a beat is the meter's own (an eighth in 6/8) and has `positions` places in it. A piece is
laid on `positions` ticks for the shortest beat among its meters; a decoded score has `ppq` ticks a
quarter note, which serves every meter of the preset.

Letters: N notes, T tokens, V ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from musegen.errors import TokenError
from musegen.music.score import NOTE_DTYPE, Meter, Score, Tempo, Track

__all__ = ["DRUMS", "MAX_BARS", "Laid", "Parts", "RemiVocabulary", "read_ids", "write_ids"]

DRUMS = -1
"""MidiTok's program of drum tracks."""

MAX_BARS = 100_000
"""A file that claims more bars is damaged or hostile; refusing it bounds time and memory."""

_DEFAULT_METER = (4, 4)
_DEFAULT_BPM = 120.0

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


def _nearest(table: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Index of the nearest entry of an ascending table, the larger of two equally near.

    MidiTok's `np_get_closest`, ties and all.
    """
    index = np.searchsorted(table, values, side="left")
    before = np.abs(values - table[np.maximum(index - 1, 0)])
    after = np.abs(values - table[np.minimum(index, len(table) - 1)])
    return index - ((index == len(table)) | (before < after))


class RemiVocabulary:
    """What each id means, and tables from values to ids; built from the tokens' names alone.

    Raises:
        TokenError: the tokens are not those of a REMI vocabulary that this encoder can write.
    """

    def __init__(self, tokens: Sequence[str]) -> None:
        self.tokens = tuple(tokens)
        self.index = {token: id_ for id_, token in enumerate(self.tokens)}
        if len(self.index) != len(self.tokens) or len(self.tokens) > 2**16:
            raise TokenError("a REMI vocabulary has up to 65536 tokens, each once")
        by_type: dict[str, dict[str, int]] = {}
        for id_, token in enumerate(self.tokens):
            kind, _, value = token.partition("_")
            by_type.setdefault(kind, {})[value] = id_
        try:
            self._build(by_type)
        except (KeyError, ValueError) as error:
            raise TokenError(f"not a REMI vocabulary that musegen can write: {error!r}") from error

    def _build(self, by_type: dict[str, dict[str, int]]) -> None:
        if self.tokens[0] != "PAD_None":
            raise ValueError("PAD_None must be id 0")
        self.bos, self.eos = by_type["BOS"]["None"], by_type["EOS"]["None"]
        self.bar = by_type["Bar"]["None"]

        def table(kind: str, size: int, first: int = 0) -> np.ndarray:
            found = by_type[kind]
            return np.array([found[str(value)] for value in range(first, first + size)])

        self.position_ids = table("Position", len(by_type["Position"]))
        self.pitch_ids = table("Pitch", 128)
        self.drum_ids = table("PitchDrum", 128)
        self.program_ids = table("Program", 129, DRUMS)
        """Index is 1 + program: drums first."""
        self.velocities = np.array(sorted(map(int, by_type["Velocity"])))
        self.velocity_ids = np.array([by_type["Velocity"][str(v)] for v in self.velocities])
        self.bpm = np.array(sorted(map(float, by_type["Tempo"])))
        self.tempo_ids = np.array([by_type["Tempo"][str(bpm)] for bpm in self.bpm.tolist()])
        self.meters = tuple(
            (int(numerator), int(denominator))
            for numerator, denominator in (name.split("/") for name in by_type["TimeSig"])
        )
        self.meter_ids = np.array(list(by_type["TimeSig"].values()))
        self.meter_index = {meter: index for index, meter in enumerate(self.meters)}
        if _DEFAULT_METER not in self.meter_index:
            raise ValueError("the meter 4/4 is missing")
        names = list(by_type["Duration"])
        parts = [tuple(map(int, name.split("."))) for name in names]
        self.positions = max(resolution for _, _, resolution in parts)
        """Places in a beat."""
        beats = [beat + place / resolution for beat, place, resolution in parts]
        order = np.argsort(beats, kind="stable")
        self.duration_ids = np.array([by_type["Duration"][names[i]] for i in order])
        self._duration_parts = np.array([parts[i] for i in order])
        self.max_denominator = max(denominator for _, denominator in self.meters)
        for _, denominator in self.meters:
            if self.max_denominator % denominator or denominator & (denominator - 1):
                raise ValueError(f"denominator {denominator}")
        self.ppq = self.positions * self.max_denominator // 4
        """Ticks a quarter note of decoded scores: whole for every place of every meter."""
        if len(self.position_ids) < self.positions * max(n for n, _ in self.meters):
            raise ValueError("too few positions for the longest meter")

    @property
    def size(self) -> int:
        return len(self.tokens)

    def duration_ticks(self, ticks_per_beat: int) -> np.ndarray:
        """(durations,) int64, ascending: each duration class where a beat has so many ticks."""
        beat, place, resolution = self._duration_parts.T
        return (beat * resolution + place) * ticks_per_beat // resolution

    @cached_property
    def _duration_classes(self) -> dict[int, np.ndarray]:
        return {}

    def duration_class(self, ticks_per_beat: int) -> np.ndarray:
        """A table from a duration in ticks (the last entry: and beyond) to its class."""
        found = self._duration_classes.get(ticks_per_beat)
        if found is None:
            ticks = self.duration_ticks(ticks_per_beat)
            found = _nearest(ticks, np.arange(ticks[-1] + 1))
            self._duration_classes[ticks_per_beat] = found
        return found

    @cached_property
    def velocity_class(self) -> np.ndarray:
        """(256,): class of each velocity."""
        return _nearest(self.velocities, np.arange(256))

    @cached_property
    def tempo_us(self) -> np.ndarray:
        """(tempos,) float64: microseconds a quarter note of each tempo class, descending."""
        return 60_000_000 / self.bpm

    @cached_property
    def default_tempo(self) -> int:
        """The class nearest to 120 bpm, which holds where a file names no tempo."""
        return int(np.argmin(np.abs(self.bpm - _DEFAULT_BPM)))

    @cached_property
    def kinds(self) -> np.ndarray:
        """(V,) str: the type of each id, e.g. `Pitch`."""
        return np.array([token.partition("_")[0] for token in self.tokens])

    @cached_property
    def values(self) -> np.ndarray:
        """(V,) int64: pitch, velocity, program, position, or class; 0 where there is none."""
        values = np.zeros(self.size, dtype=np.int64)
        values[self.position_ids] = np.arange(len(self.position_ids))
        values[self.pitch_ids] = values[self.drum_ids] = np.arange(128)
        values[self.program_ids] = np.arange(DRUMS, 128)
        values[self.velocity_ids] = self.velocities
        for ids in (self.tempo_ids, self.meter_ids, self.duration_ids):
            values[ids] = np.arange(len(ids))
        return values

    def ids_of(self, *kinds: str) -> np.ndarray:
        """(V,) bool: the ids of some types."""
        return np.isin(self.kinds, kinds)

    def tempo_class(self, tempo_us: np.ndarray | float) -> np.ndarray:
        """Microseconds a quarter note as tempo classes, as MidiTok rounds them."""
        values = np.atleast_1d(np.asarray(tempo_us, dtype=np.float64))
        return len(self.bpm) - 1 - _nearest(self.tempo_us[::-1], values)


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
        meters.insert(0, (0, *_DEFAULT_METER))
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


def read_ids(ids: np.ndarray, vocabulary: RemiVocabulary) -> Score:
    """The score that ids mean, as MidiTok decodes them; `ppq` is the vocabulary's.

    Never fails on ids of the vocabulary, in whatever order: a note is Pitch, Velocity, Duration in
    a row, and what stands out of place is skipped. Tracks come in the order of their first notes.
    """
    v = vocabulary
    ids = np.asarray(ids, dtype=np.int64)
    kinds, values = v.kinds[ids], v.values[ids]
    is_bar, is_place, is_meter = kinds == "Bar", kinds == "Position", kinds == "TimeSig"
    is_pitch = (kinds == "Pitch") | (kinds == "PitchDrum")
    where = np.arange(len(ids))

    def latest(flags: np.ndarray) -> np.ndarray:
        """(T,): the last place up to here where the flag stood, -1 if none did."""
        return np.maximum.accumulate(np.where(flags, where, -1)) if len(ids) else where

    # the first meter holds from the start, unless notes come before it
    meter_at = latest(is_meter)
    first = v.meter_index[_DEFAULT_METER]
    found, sound = np.flatnonzero(is_meter), np.flatnonzero(is_pitch)
    if len(found) and (not len(sound) or found[0] < sound[0]):
        first = int(values[found[0]])
    meter = np.where(meter_at >= 0, values[meter_at], first)
    numerator, denominator = np.array(v.meters, dtype=np.int64).T
    beat_ticks = 4 * v.ppq // denominator
    bar_ticks = numerator * beat_ticks

    # a barline closes the bar before it, whose length is that of the last meter named in it
    bars = np.flatnonzero(is_bar)
    early = bool(len(bars)) and bool(is_place[: bars[0]].any())
    steps = np.zeros(len(ids), dtype=np.int64)
    closing = bars if early else bars[1:]
    steps[closing] = bar_ticks[meter[closing - 1]]
    bar_start = np.cumsum(steps)
    tick = bar_start + np.where(is_place, values * (beat_ticks[meter] // v.positions), 0)
    anchor = latest(is_bar | is_place)
    tick = np.where(anchor >= 0, tick[anchor], 0)

    head = np.flatnonzero(is_pitch[:-2]) if len(ids) > 2 else where[:0]
    head = head[(kinds[head + 1] == "Velocity") & (kinds[head + 2] == "Duration")]
    program_at = latest(kinds == "Program")[head]
    program = np.where(program_at >= 0, values[program_at], 0)
    notes = np.empty(len(head), NOTE_DTYPE)
    notes["start_tick"], notes["pitch"] = tick[head], values[head]
    notes["velocity"] = values[head + 1]
    beat, place, resolution = v._duration_parts[values[head + 2]].T
    notes["duration_tick"] = (beat * resolution + place) * beat_ticks[meter[head]] // resolution
    tracks = []
    seen, first_at = np.unique(program, return_index=True)
    for one in seen[np.argsort(first_at)].tolist():
        drum = one == DRUMS
        part = notes[program == one]
        tracks.append(Track(notes=part, program=0 if drum else one, is_drum=drum))
    changed = found[np.concatenate(([True], np.diff(values[found]) != 0))] if len(found) else found
    tempo_at = np.flatnonzero(kinds == "Tempo")
    return Score(
        ppq=v.ppq,
        tracks=tuple(tracks),
        meters=(
            Meter(0, *v.meters[first]),
            *(Meter(int(tick[i]), *v.meters[values[i]]) for i in changed.tolist()),
        ),
        tempos=tuple(
            Tempo(int(tick[i]), round(float(v.tempo_us[values[i]]))) for i in tempo_at.tolist()
        ),
    )
