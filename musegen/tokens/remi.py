"""The flat tokens of the `remi` preset: what each id means, and ids to a score.

A piece is ``{ Bar TimeSig { Position [Tempo] { Program Pitch Velocity Duration } } }``: REMI with
programs, tempi and time signatures in one stream (Huang and Yang, 2020; Von Rütte et al., 2022),
in MidiTok's words and ids. Scores to ids is in remi_encoder.py. MidiTok itself is not needed here.

The grid: a beat is the meter's own (an eighth in 6/8) and has `positions` places in it. A decoded
score has `ppq` ticks a quarter note, which serves every meter of the preset.

Letters: T tokens, V ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from musegen.errors import TokenError
from musegen.music.score import NOTE_DTYPE, Meter, Score, Tempo, Track

__all__ = ["DEFAULT_METER", "DRUMS", "RemiVocabulary", "read_ids"]

DRUMS = -1
"""MidiTok's program of drum tracks."""

DEFAULT_METER = (4, 4)
_DEFAULT_BPM = 120.0


def nearest(table: np.ndarray, values: np.ndarray) -> np.ndarray:
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
        if DEFAULT_METER not in self.meter_index:
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

    def meter_id(self, meter: tuple[int, int]) -> int:
        """The id of a meter of the preset; KeyError for another."""
        return int(self.meter_ids[self.meter_index[meter]])

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
            found = nearest(ticks, np.arange(ticks[-1] + 1))
            self._duration_classes[ticks_per_beat] = found
        return found

    @cached_property
    def velocity_class(self) -> np.ndarray:
        """(256,): class of each velocity."""
        return nearest(self.velocities, np.arange(256))

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

    @cached_property
    def is_pitch(self) -> np.ndarray:
        """(V,) bool: the ids of pitches and drum pitches, one a note."""
        return np.isin(self.kinds, ("Pitch", "PitchDrum"))

    def tempo_class(self, tempo_us: np.ndarray | float) -> np.ndarray:
        """Microseconds a quarter note as tempo classes, as MidiTok rounds them."""
        values = np.atleast_1d(np.asarray(tempo_us, dtype=np.float64))
        return len(self.bpm) - 1 - nearest(self.tempo_us[::-1], values)


def read_ids(ids: np.ndarray, vocabulary: RemiVocabulary) -> Score:
    """The score that ids mean, as MidiTok decodes them; `ppq` is the vocabulary's.

    Never fails on ids of the vocabulary, in whatever order: a note is Pitch, Velocity, Duration in
    a row, and what stands out of place is skipped. Tracks come in the order of their first notes.
    `length_tick` is the end of the last bar.
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
    first = v.meter_index[DEFAULT_METER]
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

    length = int(bar_start[-1] + bar_ticks[meter[-1]]) if len(bars) or is_place.any() else 0
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
        length_tick=length,
        meters=(
            Meter(0, *v.meters[first]),
            *(Meter(int(tick[i]), *v.meters[values[i]]) for i in changed.tolist()),
        ),
        tempos=tuple(
            Tempo(int(tick[i]), round(float(v.tempo_us[values[i]]))) for i in tempo_at.tolist()
        ),
    )
