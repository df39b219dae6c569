"""Runs of notes as hashes: what comparisons of music are made of.

A pitched track is read as two lines, its highest and its lowest note at each onset. A *step* leads
from one note of a line to the next: the interval, and the time between their onsets in 16ths. A
*gram* is a run of 8 steps (9 notes), hashed. Equal grams are equal tunes in whatever key, tempo,
resolution, octave or instrument. Drums have no intervals and are not read.
"""

from __future__ import annotations

import numpy as np

from musegen.music.score import Score, Track

GRAM = 8
"""Steps in a gram: long enough that chance matches are rare, short enough to survive edits."""

ONSET_UNITS = 24
"""Onsets are compared in 1/24 of a quarter note: 32nds and triplets keep apart."""

_MULTIPLIERS = np.array(
    [0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x27D4EB2F165667C5,
     0xD6E8FEB86659FD93, 0xA0761D6478BD642F, 0xE7037ED1A0B428DB, 0x8EBC6AF09C88C6E3],
    dtype=np.uint64,
)  # fmt: skip


def hash_grams(steps: np.ndarray) -> np.ndarray:
    """Hashes (n,) uint64 of all runs of 8 `steps`, in order.

    Runs of one or two distinct steps are left out: repeated notes and plain scales are nobody's
    own. n is at most len(steps) - 7.
    """
    if len(steps) < GRAM:
        return np.empty(0, np.uint64)
    windows = np.lib.stride_tricks.sliding_window_view(steps.astype(np.uint64), GRAM)
    ordered = np.sort(windows, axis=1)
    distinct = 1 + np.count_nonzero(ordered[:, 1:] != ordered[:, :-1], axis=1)
    windows = windows[distinct > 2]
    hashed = (windows * _MULTIPLIERS).sum(axis=1, dtype=np.uint64)
    # The finaliser of splitmix64, so that the smallest hashes are a fair sample.
    hashed = (hashed ^ (hashed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashed = (hashed ^ (hashed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return hashed ^ (hashed >> np.uint64(31))


def top_or_bottom(
    onsets: np.ndarray, pitches: np.ndarray, top: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The highest (or lowest) pitch at each onset; the input is sorted by (onset, pitch)."""
    change = np.flatnonzero(np.diff(onsets)) + 1
    first = np.concatenate(([0], change))
    last = np.concatenate((change, [len(onsets)])) - 1
    return onsets[first], pitches[last if top else first]


def steps_of(onsets: np.ndarray, pitches: np.ndarray) -> np.ndarray:
    """A line's steps as whole numbers: interval and gap in 16ths, the gap at most 63."""
    gaps = np.minimum(np.round(np.diff(onsets) * 4 / ONSET_UNITS), 63)
    return (np.diff(pitches) + 128) * 64 + gaps


def in_units(track: Track, ppq: int) -> tuple[np.ndarray, np.ndarray]:
    """Onsets in 1/24 of a quarter note and pitches of a track, sorted by both; int64."""
    onsets = np.round(track.notes["start_tick"].astype(np.float64) * ONSET_UNITS / ppq)
    pitches = track.notes["pitch"].astype(np.int64)
    order = np.lexsort((pitches, onsets))
    return onsets[order].astype(np.int64), pitches[order]


def line_grams(score: Score) -> list[np.ndarray]:
    """The grams of each line of the pitched tracks, in order.

    A track whose lines are one (a melody) gives it once.
    """
    lines: list[np.ndarray] = []
    for track in score.tracks:
        if track.is_drum or not len(track):
            continue
        onsets, pitches = in_units(track, score.ppq)
        at, top = top_or_bottom(onsets, pitches, True)
        _, bottom = top_or_bottom(onsets, pitches, False)
        lines.append(hash_grams(steps_of(at, top)))
        if not np.array_equal(top, bottom):
            lines.append(hash_grams(steps_of(at, bottom)))
    return lines
