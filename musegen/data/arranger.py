"""A small arranger of our own: a lead sheet and human drumming become a band.

What our corpora lack are bands that play pop, swing, funk and latin music. The tunes and chords
here come from hymns and songs (lead_sheets.py), the drumming from human performances, bar by bar;
bass and chords follow the patterns of a style (band_styles.py). It is filler for training, not art:
what it teaches is who plays when, and that patterns stay. The same draws give the same score.

Letters: N notes, (onset, duration, pitch, velocity) each, in units of 1/12 quarter note.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from musegen.data.band_styles import Style
from musegen.data.lead_sheets import BAR, HALF, KINDS, UNIT, LeadSheet
from musegen.music.ranges import instrument_range
from musegen.music.score import Meter, Score, Tempo, Track, note_array

__all__ = ["Drumming", "arranged"]

PPQ = 480
INTRO = 4
"""Bars before the tune: its last four chords."""

COMFORT = {"bass": (28, 50), "chords": (52, 76)}
"""Where the bass and the chords mostly lie."""

TUNE_CENTRE = 69
"""Mean pitch of a tune, before the instrument's range is seen."""

Notes = list[tuple[int, int, int, int]]


@dataclass(frozen=True, eq=False)
class Drumming:
    """A human performance in bars of 4/4."""

    name: str
    tempo_bpm: float
    bars: tuple[np.ndarray, ...]
    """Each (N, 4): place in the bar and duration in units, pitch, velocity."""

    def busiest(self, among: range) -> int:
        """The bar with the most strokes: the likeliest fill."""
        return max(among, key=lambda index: len(self.bars[index % len(self.bars)]))


def arranged(sheet: LeadSheet, style: Style, drumming: Drumming, rng: np.random.Generator) -> Score:
    """The tune played by a band: introduction, the tune twice, an ending.

    The second time another instrument may have the tune, and bass and chords other patterns.
    """
    low, high = style.tempo_bpm
    tempo_bpm = float(np.clip(drumming.tempo_bpm * rng.uniform(0.95, 1.05), low, high))
    shift = int(rng.integers(-5, 7))
    roots = [(root + shift) % 12 for root, _ in sheet.chords]
    kinds = [_coloured(kind, style) for _, kind in sheet.chords]
    chords = list(zip(roots, kinds, strict=True))
    song = chords[-2 * INTRO :] + chords + chords + [chords[-1]] * 2
    total = len(song) // 2
    bass: Notes = []
    strikes: Notes = []
    lead: Notes = []
    second: Notes = []
    programs = rng.choice(style.lead_programs, 2, replace=False).tolist()
    spans = ((0, INTRO), (INTRO, INTRO + sheet.bars), (INTRO + sheet.bars, total - 1))
    voicing: tuple[int, ...] = ()
    for number, (first, last) in enumerate(spans):
        pattern = style.bass[int(rng.integers(len(style.bass)))] if style.bass else None
        struck = style.strikes[int(rng.integers(len(style.strikes)))]
        other = style.strikes[int(rng.integers(len(style.strikes)))]
        for bar in range(first, last):
            bass += _bass_bar(song, bar, pattern, rng)
            answer = other if bar % 4 == 3 else struck
            notes, voicing = _chord_bar(song, bar, answer, voicing, style, rng)
            strikes += notes
        if number:
            tune = _tune(sheet.tune, shift, programs[(number - 1) % 2], first * BAR, style, rng)
            (lead if number == 1 else second).extend(tune)
    end = (total - 1) * BAR
    root, kind = song[-1]
    low_root = _near(root, 36, COMFORT["bass"])
    bass.append((end, BAR, low_root, 84))
    voicing = _voicing(root, kind, voicing)
    strikes += [(end, BAR, pitch, 76) for pitch in voicing]
    drums = _drums(drumming, spans, rng)
    drums += [(end, UNIT, 49, 100), (end, UNIT, 36, 100)]
    if style.swing:
        bass, strikes = _swung(bass), _swung(strikes)
    if rng.random() < 0.5:  # one singer for both times
        lead, second = lead + _same_range(second, programs), []
    own = rng.choice(style.chord_programs), rng.choice(style.bass_programs)
    parts = ((lead, programs[0]), (second, programs[1]), (strikes, own[0]), (bass, own[1]))
    return Score(
        ppq=PPQ,
        tracks=(
            *(Track(_ticks(notes), program=int(program)) for notes, program in parts if notes),
            Track(_ticks(drums), is_drum=True),
        ),
        tempos=(Tempo(0, round(6e7 / tempo_bpm)),),
        meters=(Meter(0, 4, 4),),
    )


# --- Chords --------------------------------------------------------------------------------------


def _coloured(kind: str, style: Style) -> tuple[int, ...]:
    """The steps of a chord as the style plays it."""
    steps = KINDS[kind]
    if not style.sevenths or len(steps) > 3:
        return steps
    return {"major": (0, 4, 7, 11), "minor": (0, 3, 7, 10)}.get(kind, (*steps, 9))


def _near(pitch_class: int, pitch: int, bounds: tuple[int, int]) -> int:
    """The pitch of that class nearest to `pitch` within bounds of an octave at least."""
    low, high = bounds
    every = range(low + (pitch_class - low) % 12, high + 1, 12)
    return min(every, key=lambda one: abs(one - pitch))


def _voicing(root: int, steps: Sequence[int], before: tuple[int, ...]) -> tuple[int, ...]:
    """The chord in close position, the one that moves least from the voicing before.

    Three notes: where there are four, the root is the bass's.
    """
    own = [(root + step) % 12 for step in (steps[1:] if len(steps) > 3 else steps)]
    low, high = COMFORT["chords"]
    centre = float(np.mean(before)) if before else (low + high) / 2 - 1
    found = []
    for turn in range(len(own)):
        order = own[turn:] + own[:turn]
        for bottom in range(low + (order[0] - low) % 12, high, 12):
            pitches = [bottom]
            for pitch_class in order[1:]:
                pitches.append(pitches[-1] + 1 + (pitch_class - pitches[-1] - 1) % 12)
            if pitches[-1] <= high:
                found.append(tuple(pitches))
    return min(found, key=lambda one: abs(float(np.mean(one)) - centre))


def _chord_bar(
    song: Sequence[tuple[int, Any]],
    bar: int,
    pattern: Sequence[tuple[int, int]],
    voicing: tuple[int, ...],
    style: Style,
    rng: np.random.Generator,
) -> tuple[Notes, tuple[int, ...]]:
    notes: Notes = []
    heard: tuple[int, Any] | None = None
    for step, (place, length) in enumerate(pattern):
        # What is struck just before a chord belongs to it already.
        at = 2 * bar + (place + 3) // HALF
        chord = song[min(at, len(song) - 1)]
        if chord != heard:
            voicing, heard = _voicing(*chord, voicing), chord
        strength = 68 + (6 if place % HALF == 0 else 0) + int(rng.integers(-5, 6))
        if style.broken and len(pattern) > 2:
            chosen = [voicing[(0, 2, 1, 2)[step % 4]]]
        else:
            chosen = list(voicing)
        notes += [(bar * BAR + place, length, pitch, strength) for pitch in chosen]
    return notes, voicing


# --- Bass ----------------------------------------------------------------------------------------


def _bass_bar(
    song: Sequence[tuple[int, Any]],
    bar: int,
    pattern: Sequence[tuple[int, int, str]] | None,
    rng: np.random.Generator,
) -> Notes:
    if pattern is None:
        return _walk(song, bar, rng)
    notes: Notes = []
    for place, length, what in pattern:
        root, steps = song[2 * bar + place // HALF]
        if what == "N":
            root, steps = song[min(2 * bar + 2, len(song) - 1)]
        low = _near(root, 35, COMFORT["bass"])
        above = {"R": 0, "N": 0, "8": 12, "5": 7, "3": steps[1]}
        above["5"] = steps[2]
        above["7"] = steps[3] if len(steps) > 3 else 12
        strength = 84 + (8 if place == 0 else 0) + int(rng.integers(-5, 6))
        notes.append((bar * BAR + place, length, low + above[what], strength))
    return notes


def _walk(song: Sequence[tuple[int, Any]], bar: int, rng: np.random.Generator) -> Notes:
    """Four quarters: roots where the chord is new, chord notes, and a step into the next root."""
    first, second = song[2 * bar], song[2 * bar + 1]
    coming = song[min(2 * bar + 2, len(song) - 1)]
    bounds = COMFORT["bass"]
    one = _near(first[0], 38, bounds)
    inner = first[0] + first[1][int(rng.choice((1, 2)))]
    two = _near(inner % 12, one + int(rng.integers(-4, 8)), bounds)
    if second != first:
        two = _near(second[0], one, bounds) + int(rng.choice((-1, 1)))
        three = _near(second[0], two, bounds)
    else:
        three = _near((first[0] + first[1][2]) % 12, two, bounds)
        if three == two:
            three = _near(first[0], two + 7, bounds)
    goal = _near(coming[0], three, bounds)
    four = goal + int(rng.choice((-1, 1, 2, -2)))
    strength = rng.integers(80, 96, 4).tolist()
    pitches = (one, two, three, four)
    notes = [
        (bar * BAR + UNIT * beat, UNIT - 1, pitches[beat], strength[beat]) for beat in range(4)
    ]
    if rng.random() < 0.15:  # a skip before the third beat
        notes.insert(2, (bar * BAR + 18, 4, two, strength[1] - 14))
    return notes


# --- Tune and drums ------------------------------------------------------------------------------


def _tune(
    tune: np.ndarray,
    shift: int,
    program: int,
    begin: int,
    style: Style,
    rng: np.random.Generator,
) -> Notes:
    """The tune on an instrument, moved by octaves to where it sounds well."""
    pitch = tune[:, 2] + shift
    low, high = instrument_range(program)
    centre = float(np.clip(TUNE_CENTRE, low + 8, high - 8))
    pitch = pitch + 12 * round((centre - float(pitch.mean())) / 12)
    while pitch.min() < low and pitch.max() + 12 <= high:
        pitch = pitch + 12
    while pitch.max() > high and pitch.min() - 12 >= low:
        pitch = pitch - 12
    inside = (pitch >= low) & (pitch <= high)
    accent = np.where(tune[:, 0] % BAR == 0, 8, np.where(tune[:, 0] % UNIT == 0, 3, 0))
    strength = np.clip(86 + accent + rng.integers(-6, 7, len(tune)), 1, 127)
    onset = tune[:, 0] + begin
    notes = np.stack([onset, np.maximum(tune[:, 1] - 1, 1), pitch, strength], axis=1)[inside]
    listed: Notes = [tuple(one) for one in notes.tolist()]
    return _swung(listed) if style.swing else listed


def _same_range(notes: Notes, programs: Sequence[int]) -> Notes:
    """The notes of the second instrument that the first can play too."""
    low, high = instrument_range(programs[0])
    return [note for note in notes if low <= note[2] <= high]


def _swung(notes: Notes) -> Notes:
    """Off-beat eighths at two thirds of the beat; the sixteenths around them are left alone."""
    result: Notes = []
    for onset, duration, pitch, strength in notes:
        ends = onset + duration
        late = onset + 2 if onset % UNIT == UNIT // 2 else onset
        ends = ends + 2 if ends % UNIT == UNIT // 2 else ends
        result.append((late, max(1, ends - late), pitch, strength))
    return result


def _drums(drumming: Drumming, spans: Sequence[tuple[int, int]], rng: np.random.Generator) -> Notes:
    """Bars of the performance: a loop of two or four of them for each part of the song, and its
    busiest one at the end of every eight bars and of each part.
    """
    count = len(drumming.bars)
    loop = min(int(rng.choice((2, 4))), count)
    notes: Notes = []
    for first, last in spans:
        start = int(rng.integers(max(1, count - loop + 1)))
        fill = drumming.busiest(range(count))
        for bar in range(first, last):
            ends = bar == last - 1 or (bar - first) % 8 == 7
            own = drumming.bars[fill if ends else (start + (bar - first) % loop) % count]
            notes += [
                (bar * BAR + int(place), int(duration), int(pitch), int(strength))
                for place, duration, pitch, strength in own
            ]
    return notes


def _ticks(notes: Notes) -> np.ndarray:
    """In ticks; a note ends where the next of its pitch begins, and equal ones are one."""
    scale = PPQ // UNIT
    found: dict[tuple[int, int], tuple[int, int]] = {}
    for onset, duration, pitch, strength in notes:
        known = found.get((pitch, onset), (0, 0))
        found[pitch, onset] = (max(duration, known[0]), max(strength, known[1]))
    result = []
    keys = sorted(found)
    for number, (pitch, onset) in enumerate(keys):
        duration, strength = found[pitch, onset]
        if number + 1 < len(keys) and keys[number + 1][0] == pitch:
            duration = min(duration, keys[number + 1][1] - onset)
        result.append((onset * scale, duration * scale, pitch, int(np.clip(strength, 1, 127))))
    return note_array(result)
