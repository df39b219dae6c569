"""Lead sheets: a tune and its chords, found in hymns and songs.

Times are in units of 1/12 quarter note (`UNIT`), bars are 4/4, chords change on half bars.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from musegen.music.score import Score, Track

__all__ = ["BAR", "HALF", "KINDS", "UNIT", "LeadSheet", "lead_sheet"]

UNIT = 12
"""Units of a quarter note: the grid of the events preset."""

BAR, HALF = 4 * UNIT, 2 * UNIT

KINDS: dict[str, tuple[int, ...]] = {
    "major": (0, 4, 7),
    "minor": (0, 3, 7),
    "dominant": (0, 4, 7, 10),
    "minor7": (0, 3, 7, 10),
    "diminished": (0, 3, 6),
}
"""Semitones above the root."""

FOREIGN = 0.8
"""How much a note outside of a chord speaks against it, where one inside speaks 1 for it."""

MOST_BARS, LEAST_BARS = 32, 8
SINGLE = 0.05
"""A tune is a track of which at most this share of the notes begins together with another."""


@dataclass(frozen=True, eq=False)
class LeadSheet:
    """A tune and its chords."""

    name: str
    tune: np.ndarray
    """(N, 3) int64: onset and duration in units from the first barline, and pitch."""
    chords: tuple[tuple[int, str], ...]
    """Of each half bar: the root's pitch class and a key of `KINDS`."""

    @property
    def bars(self) -> int:
        return len(self.chords) // 2


def lead_sheet(score: Score, name: str = "") -> LeadSheet | None:
    """The longest stretch of 4/4 of a score as tune and chords; None where there is no such thing.

    The tune is the highest track with one voice; it must sound in most bars. At most 32 bars, cut
    to a multiple of four.
    """
    begin, count = _longest(score)
    count = min(count, MOST_BARS) // 4 * 4
    if count < LEAST_BARS:
        return None
    first, last = begin, begin + 4 * score.ppq * count
    table = {
        index: _in_units(track, score.ppq, first, last)
        for index, track in enumerate(score.tracks)
        if not track.is_drum and len(track.notes)
    }
    voices = [own for own in table.values() if len(own) >= 2 * count and _single(own)]
    if not voices:
        return None
    tune = max(voices, key=lambda own: float(own[:, 2].mean()))
    sounding = np.unique(tune[:, 0] // BAR)
    if len(sounding) < 0.8 * count:
        return None
    every = np.concatenate([own for own in table.values() if len(own)])
    chords = [_chord(every, place) for place in range(0, count * BAR, HALF)]
    known = [chord for chord in chords if chord is not None]
    if len(known) < 0.8 * len(chords):
        return None
    filled: list[tuple[int, str]] = []
    for chord in chords:
        filled.append(chord or (filled[-1] if filled else known[0]))
    return LeadSheet(name, tune, tuple(filled))


def _longest(score: Score) -> tuple[int, int]:
    """Where the longest run of whole 4/4 bars begins (tick), and how many they are."""
    best, run = (0, 0), (0, 0)
    for bar in score.bars():
        whole = bar.end_tick - bar.start_tick == 4 * score.ppq
        if whole and (bar.numerator, bar.denominator) in ((4, 4), (2, 2)):
            run = (run[0] if run[1] else bar.start_tick, run[1] + 1)
            best = max(best, run, key=lambda one: one[1])
        else:
            run = (0, 0)
    return best


def _in_units(track: Track, ppq: int, first: int, last: int) -> np.ndarray:
    """The notes that begin in [first, last), (N, 3)."""
    notes = track.notes
    notes = notes[(notes["start_tick"] >= first) & (notes["start_tick"] < last)]
    onset = np.round((notes["start_tick"] - first) * UNIT / ppq).astype(np.int64)
    duration = np.maximum(np.round(notes["duration_tick"] * UNIT / ppq), 1).astype(np.int64)
    return np.stack([onset, duration, notes["pitch"].astype(np.int64)], axis=1)


def _single(notes: np.ndarray) -> bool:
    return len(np.unique(notes[:, 0])) >= (1 - SINGLE) * len(notes)


def _chord(notes: np.ndarray, place: int) -> tuple[int, str] | None:
    """What sounds in the half bar from `place`, by template; None in silence or without a third.

    Each pitch class weighs as long as it sounds; the lowest note speaks for its own root.
    """
    over = np.minimum(notes[:, 0] + notes[:, 1], place + HALF) - np.maximum(notes[:, 0], place)
    here = over > 0
    if not here.any():
        return None
    sums = np.bincount(notes[here, 2] % 12, weights=over[here], minlength=12)
    weight = (sums / sums.sum()).tolist()
    lowest = int(notes[here, 2].min()) % 12
    best, found = 0.0, None
    for kind, steps in KINDS.items():
        for root in range(12):
            inside = sum(weight[(root + step) % 12] for step in steps)
            fit = inside - FOREIGN * (1 - inside) + 0.15 * (root == lowest) - 0.02 * len(steps)
            if weight[root] > 0 and weight[(root + steps[1]) % 12] > 0 and fit > best:
                best, found = fit, (root, kind)
    return found
