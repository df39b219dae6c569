"""Facts about a score, as numbers: key, pitch classes, density, polyphony; and about a chord."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from musegen.errors import UsageError
from musegen.music.names import MAJOR_NAMES, MINOR_NAMES
from musegen.music.score import NOTE_DTYPE, Key, Score

# How well each pitch class fits a key of tonic 0, from listening experiments: Krumhansl and
# Kessler (1982), as printed in Krumhansl, Cognitive Foundations of Musical Pitch (1990), p. 30.
_MAJOR_PROFILE = np.array([6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88])
_MINOR_PROFILE = np.array([6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17])


def _centred(rows: np.ndarray) -> np.ndarray:
    """Rows (..., 12) with mean 0 and length 1; a flat row becomes zeros."""
    rows = rows - rows.mean(axis=-1, keepdims=True)
    length = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)


_KEY_PROFILES = _centred(
    np.array([np.roll(p, tonic) for p in (_MAJOR_PROFILE, _MINOR_PROFILE) for tonic in range(12)])
)
"""(24, 12): the keys of `key_fits`."""

_PITCH_CLASS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}


CLEAR, AHEAD = 0.5, 0.15
"""Least autocorrelation that speaks for a meter, and least lead over the others."""

MOST_SIXTEENTHS = 1 << 16
"""What `estimate_beats` looks at: an hour and more."""


class KeyEstimate(NamedTuple):
    """The best key, how well it fits (a correlation, -1..1), and how far ahead of the next."""

    key: Key
    correlation: float
    margin: float


def pitched_notes(score: Score) -> np.ndarray:
    """All notes that are no drums, `NOTE_DTYPE` (N,), track by track."""
    columns = [track.notes for track in score.tracks if not track.is_drum and len(track)]
    return np.concatenate(columns) if columns else np.empty(0, NOTE_DTYPE)


def pitch_class_histogram(score: Score, *, weighted: bool = True) -> np.ndarray:
    """Share of each pitch class, float64 (12,), C first; by duration, or by number of notes.

    Drums do not count; all zeros without pitched notes.
    """
    notes = pitched_notes(score)
    weights = notes["duration_tick"].astype(np.float64) if weighted else None
    histogram = np.bincount(notes["pitch"] % 12, weights=weights, minlength=12).astype(np.float64)
    total = histogram.sum()
    return histogram / total if total else histogram


def estimate_key(score: Score) -> KeyEstimate | None:
    """The key that fits the notes best; None without pitched notes.

    Krumhansl and Schmuckler's algorithm: the correlation of the durations of the twelve pitch
    classes with the profile of each of the 24 keys (Krumhansl 1990, chapter 4).
    """
    histogram = pitch_class_histogram(score)
    if not histogram.any() or np.ptp(histogram) == 0:
        return None
    fits = key_fits(histogram)
    order = np.argsort(-fits, kind="stable")
    best, second = int(order[0]), int(order[1])
    key = _key_on(best % 12, best >= 12)
    return KeyEstimate(key, float(fits[best]), float(fits[best] - fits[second]))


def estimate_beats(score: Score) -> int | None:
    """Quarter notes in a bar, 3 to 7, where the notes of a score speak clearly for one of them.

    The autocorrelation of the weight of onsets (velocities, on a grid of sixteenths) at so many
    quarter notes (Brown 1993, J. Acoust. Soc. Am. 94); clearly: `CLEAR` at least, and `AHEAD` of
    each other number that is no multiple of it. Meant for scores without a meter.
    """
    notes = [track.notes for track in score.tracks if len(track)]
    if not notes:
        return None
    every = np.concatenate(notes)
    place = np.round(every["start_tick"] * 4 / score.ppq).astype(np.int64)
    count = min(int(place.max()) + 1, MOST_SIXTEENTHS)
    kept = place < count
    weight = np.bincount(place[kept], weights=every["velocity"][kept], minlength=count)
    weight -= weight.mean()
    power = float(np.square(weight).sum())
    if not power or count < 4 * 7 * 4:  # four bars of the longest
        return None
    fits = {
        beats: float((weight[: -4 * beats] * weight[4 * beats :]).sum()) / power
        for beats in range(3, 8)
    }
    best = max(fits, key=lambda beats: fits[beats])
    others = [fits[beats] for beats in fits if beats % best]
    return best if fits[best] >= CLEAR and fits[best] - max(others) >= AHEAD else None


def key_fits(histogram: np.ndarray) -> np.ndarray:
    """How well pitch classes (12,) fit each key, (24,): index tonic, + 12 in minor.

    The correlation with the profile of the key; zeros for a flat histogram.
    """
    return _KEY_PROFILES @ _centred(np.asarray(histogram, dtype=np.float64))


def _key_on(tonic: int, minor: bool) -> Key:
    """The key on a pitch class with the fewest signs (six flats rather than six sharps)."""
    names = MINOR_NAMES if minor else MAJOR_NAMES
    candidates = [fifths for fifths in range(-6, 6) if _pitch_class(names[fifths + 7]) == tonic]
    return Key(0, min(candidates, key=abs), minor)


def _pitch_class(name: str) -> int:
    return (_PITCH_CLASS[name[0]] + name.count("#") - name[1:].count("b")) % 12


def notes_per_bar(score: Score) -> np.ndarray:
    """How many notes begin in each bar, int64 (bars,)."""
    bars = score.bars()
    starts = [track.notes["start_tick"] for track in score.tracks]
    ticks = np.concatenate(starts) if starts else np.empty(0, np.int32)
    edges = np.array([bar.start_tick for bar in bars] + [bars[-1].end_tick] if bars else [0, 1])
    counts = np.histogram(ticks, edges)[0]
    return counts if bars else counts[:0]


def notes_per_beat(score: Score) -> float:
    """Notes a quarter note, drums and all, over the length of the score."""
    return score.num_notes * score.ppq / score.end_tick if score.end_tick else 0.0


def polyphony(score: Score) -> tuple[int, float]:
    """The most pitched notes that sound at once, and their mean number while any sounds."""
    notes = pitched_notes(score)
    if not len(notes):
        return 0, 0.0
    start = notes["start_tick"].astype(np.int64)
    tick = np.concatenate([start + notes["duration_tick"], start])
    step = np.concatenate([np.full(len(notes), -1), np.ones(len(notes), np.int64)])
    order = np.lexsort((step, tick))  # at one tick, ends before beginnings
    sounding = np.cumsum(step[order])[:-1]
    length = np.diff(tick[order])
    heard = length[sounding > 0].sum()
    return int(sounding.max()), float((sounding * length).sum() / heard) if heard else 0.0


@lru_cache(maxsize=1024)
def chord_pitch_classes(figure: str) -> frozenset[int]:
    """Pitch classes of a chord symbol in music21's own spelling: flats are `-`, minor is `m`.

    What people type is brought into that spelling by `musegen.music.figures`. Raises `UsageError`
    where music21 cannot read the figure.
    """
    from music21.harmony import ChordSymbol  # loads for some tenths of a second

    try:
        return frozenset(pitch.pitchClass for pitch in ChordSymbol(figure).pitches)
    except Exception as error:  # music21 raises anything: its own, ValueError, IndexError
        raise UsageError(f"music21 cannot read the chord {figure!r}: {error}") from None
