"""Which pieces are the same music: exactly, in another key, or nearly.

Two fingerprints a piece:

- `exact`: a hash of all onsets and pitches, both relative (onsets to the first, in 1/24 of a
  quarter; pitches to the lowest), drums kept as they are. Equal hash, equal notes, in whatever key,
  tempo, resolution, instrument or dynamics: all but the first are dropped.
- `grams`: hashes of all runs of 8 steps in the upper and lower line of every pitched track
  (grams.py). Two pieces that share at least `NEAR_DUPLICATE` of the smaller one's grams are
  versions of one piece: both stay, but in the same split.

A third one, `melody`, is runs of 8 moves of the top line from beat to beat, without repeated notes:
it recognises a tune under other harmonies and ornaments (a hymn against a benchmark's chorale).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from musegen.data.grams import (
    ONSET_UNITS,
    hash_grams,
    in_units,
    line_grams,
    top_or_bottom,
)
from musegen.music.score import Score

NEAR_DUPLICATE = 0.2
"""Share of the smaller piece's grams that makes two pieces versions of one.

Measured on 2,320 pieces of nine corpora: two editions of one work share 0.4 to 1, settings of one
tune and movements with common themes 0.2 to 0.4; of 2.7 million pairs, 45 that have nothing in
common but figuration lie between 0.1 and 0.2.
"""

SAME_TUNE = 0.08
"""Share of the shorter melody's grams that makes a piece resemble a benchmark's.

Measured on 258 hymns against 77 chorales: of the ten above it eight are settings of the same tune
(0.08 to 0.18: Bach's ornaments break most runs). Low on purpose: a leak costs more than a hymn.
"""

MIN_SHARED_TUNE = 3
"""And at least so many grams shared: one run of 8 moves can be chance."""

MIN_GRAMS = 16
"""With fewer grams than this nothing is said: too short to tell."""

COMMON = 48
"""A gram found in more pieces than this is a commonplace (a scale, an Alberti bass): ignored."""

SKETCH = 4000
"""At most so many grams a piece are kept, the smallest hashes (a bottom-k sketch)."""

TOTAL_GRAMS = 40_000_000
"""All grams compared at once (320 MB); with very many pieces each sketch is cut to fit."""


@dataclass(frozen=True)
class Fingerprint:
    """What `near_duplicates` and the exact test need; a few kilobytes a piece."""

    exact: str
    grams: np.ndarray
    """uint64, sorted, distinct."""
    melody: np.ndarray
    """uint64, sorted, distinct; from the top line of the whole piece."""


def fingerprint(score: Score) -> Fingerprint:
    """The fingerprints of a score."""
    grams = line_grams(score)
    pitched: list[np.ndarray] = []
    drums: list[np.ndarray] = []
    for track in score.tracks:
        if len(track):
            placed = np.stack(in_units(track, score.ppq), axis=1)
            (drums if track.is_drum else pitched).append(placed)
    melody = np.empty(0, np.uint64)
    notes = np.concatenate(pitched) if pitched else np.empty((0, 2), np.int64)
    if len(notes):
        notes = notes[np.lexsort((notes[:, 1], notes[:, 0]))]
        onsets, line = top_or_bottom(notes[:, 0], notes[:, 1], True)
        moves = np.diff(line[onsets % ONSET_UNITS == 0])
        melody = np.unique(hash_grams(moves[moves != 0] + 128))
        notes = notes - np.array([0, notes[:, 1].min()])
    beats = np.concatenate(drums) if drums else np.empty((0, 2), np.int64)
    everything = np.concatenate((notes, beats + np.array([0, 256])))
    if len(everything):
        everything = np.unique(everything - np.array([everything[:, 0].min(), 0]), axis=0)
    exact = hashlib.blake2b(everything.astype("<i8").tobytes(), digest_size=16).hexdigest()
    found = np.unique(np.concatenate(grams)) if grams else np.empty(0, np.uint64)
    return Fingerprint(exact, found[:SKETCH], melody[:SKETCH])


def _limits(sketches: Sequence[np.ndarray], size: int) -> list[np.uint64]:
    """Below which hash each sketch holds every gram of its piece."""
    top = np.uint64(0xFFFFFFFFFFFFFFFF)
    return [sketch[-1] if len(sketch) >= size else top for sketch in sketches]


def near_duplicates(
    sketches: Sequence[np.ndarray], threshold: float = NEAR_DUPLICATE
) -> list[tuple[int, int, float]]:
    """Pairs (i, j, share) with i < j whose smaller gram set is shared to at least `threshold`.

    `sketches` are sorted distinct uint64 hashes a piece. Where a sketch was cut, both pieces are
    compared below the hash up to which both are whole, which is a fair sample of their grams.
    """
    size = min(SKETCH, max(MIN_GRAMS, TOTAL_GRAMS // max(1, len(sketches))))
    sketches = [sketch[:size] for sketch in sketches]
    limits = _limits(sketches, size)
    hashes = np.concatenate([*sketches, np.empty(0, np.uint64)])
    pieces = np.repeat(np.arange(len(sketches)), [len(sketch) for sketch in sketches])
    order = np.argsort(hashes, kind="stable")  # stable: within one hash, pieces ascend
    hashes, pieces = hashes[order], pieces[order]
    _, inverse, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    rare = (counts[inverse] <= COMMON) & (counts[inverse] > 1)
    sketches = [sketch[~np.isin(sketch, hashes[counts[inverse] > COMMON])] for sketch in sketches]
    hashes, pieces = hashes[rare], pieces[rare]
    keys, shared = np.empty(0, np.int64), np.empty(0, np.int64)
    for offset in range(1, COMMON):
        same = np.flatnonzero(hashes[:-offset] == hashes[offset:])
        if not len(same):
            break
        pair = pieces[same] * len(sketches) + pieces[same + offset]
        keys = np.concatenate((keys, pair))
        shared = np.concatenate((shared, np.ones(len(pair), np.int64)))
        keys, inverse = np.unique(keys, return_inverse=True)
        shared = np.bincount(inverse, weights=shared).astype(np.int64)
    pairs = []
    enough = shared >= MIN_GRAMS * threshold
    for key, count in zip(keys[enough].tolist(), shared[enough].tolist(), strict=True):
        first, second = divmod(key, len(sketches))
        limit = min(limits[first], limits[second])
        smaller = min(
            int(np.searchsorted(sketches[one], limit, "right")) for one in (first, second)
        )
        if smaller >= MIN_GRAMS and count / smaller >= threshold:
            pairs.append((first, second, count / smaller))
    return pairs


def resembling(
    melodies: Sequence[np.ndarray], held_out: Sequence[np.ndarray], threshold: float = SAME_TUNE
) -> dict[int, int]:
    """Which of `melodies` resemble one of `held_out`: index -> index of the nearest.

    The share is of the shorter melody's grams.
    """
    owners: dict[int, list[int]] = {}
    for index, melody in enumerate(held_out):
        for gram in melody.tolist():
            owners.setdefault(gram, []).append(index)
    known = np.array(sorted(owners), np.uint64)
    found: dict[int, int] = {}
    for index, melody in enumerate(melodies):
        counts: dict[int, int] = {}
        for gram in melody[np.isin(melody, known)].tolist():
            for owner in owners[gram]:
                counts[owner] = counts.get(owner, 0) + 1
        best, nearest = 0.0, -1
        for owner, count in counts.items():
            smaller = max(MIN_GRAMS // 2, min(len(melody), len(held_out[owner])))
            if count >= MIN_SHARED_TUNE and count / smaller > best:
                best, nearest = count / smaller, owner
        if best >= threshold:
            found[index] = nearest
    return found


def connected(size: int, pairs: Sequence[tuple[int, int]]) -> list[int]:
    """For each of `size` items the smallest index of its connected group (union-find)."""
    parent = list(range(size))

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for first, second in pairs:
        low, high = sorted((root(first), root(second)))
        parent[high] = low
    return [root(item) for item in range(size)]
