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
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from musegen.data.grams import (
    ONSET_UNITS,
    hash_grams,
    in_units,
    line_grams,
    top_or_bottom,
)
from musegen.data.spill import Spill
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

TOTAL_GRAMS = 400_000_000
"""All grams compared at once (5 GB on the disk); with very many pieces each sketch is cut to fit:
266 grams a piece of 1.5 million."""


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


_GRAM = np.dtype([("hash", "<u8"), ("piece", "<u4")])
_PAIR = np.dtype([("spread", "<u8"), ("pair", "<u8")])

Sketches = Callable[[], Iterable[np.ndarray]]
"""The sketches of all pieces in order, from the start each time it is called."""


def sketch_size(pieces: int) -> int:
    """How many grams of a piece are compared when there are so many pieces."""
    return min(SKETCH, max(MIN_GRAMS, TOTAL_GRAMS // max(1, pieces)))


def near_duplicates(
    sketches: Sketches, pieces: int, folder: Path, threshold: float = NEAR_DUPLICATE
) -> Iterator[tuple[int, int, float]]:
    """Pairs (i, j, share) with i < j whose smaller gram set is shared to at least `threshold`.

    `sketches` gives sorted distinct uint64 hashes a piece, and is called twice. Where a sketch was
    cut, both pieces are compared below the hash up to which both are whole, which is a fair sample
    of their grams. Grams and pairs lie in files in `folder` meanwhile, and memory holds one of them
    at a time, some bytes a piece, and the pairs that are found.
    """
    size = sketch_size(pieces)
    limits = np.full(pieces, 0xFFFFFFFFFFFFFFFF, np.uint64)
    with Spill(folder, "grams", _GRAM, "hash", pieces * size) as grams:
        for number, whole in enumerate(sketches()):
            sketch = whole[:size]
            if len(sketch) >= size:
                limits[number] = sketch[-1]  # below it the sketch holds every gram of its piece
            records = np.empty(len(sketch), _GRAM)
            records["hash"], records["piece"] = sketch, number
            grams.add(records)
        with Spill(folder, "pairs", _PAIR, "spread", pieces * size) as pairs:
            common = [_pair_up(bucket, pairs) for bucket in grams.buckets()]
            least = max(1, int(np.ceil(MIN_GRAMS * threshold)))
            counted = [_counted(bucket, least) for bucket in pairs.buckets()]
    found = np.concatenate([keys for keys, _ in counted])
    shared = np.concatenate([counts for _, counts in counted])
    order = np.argsort(found)
    found, shared = found[order], shared[order]
    first, second = (found >> np.uint64(32)).astype(np.int64), (found & _LOW).astype(np.int64)
    smaller = _smaller(sketches, size, limits, np.sort(np.concatenate(common)), first, second)
    share = shared / np.maximum(1, smaller)
    for one in np.flatnonzero((smaller >= MIN_GRAMS) & (share >= threshold)).tolist():
        yield int(first[one]), int(second[one]), float(share[one])


_LOW = np.uint64(0xFFFFFFFF)


def _pair_up(grams: np.ndarray, pairs: Spill) -> np.ndarray:
    """Puts away the pairs of pieces that share a gram; gives the commonplaces, sorted."""
    grams = grams[np.argsort(grams["hash"], kind="stable")]  # within one hash, pieces ascend
    hashes, pieces = grams["hash"], grams["piece"].astype(np.uint64)
    starts = np.flatnonzero(np.concatenate(([True], hashes[1:] != hashes[:-1])))[: len(hashes)]
    counts = np.diff(np.append(starts, len(hashes)))
    rare = np.repeat((counts <= COMMON) & (counts > 1), counts)
    common = hashes[starts[counts > COMMON]]
    hashes, pieces = hashes[rare], pieces[rare]
    for offset in range(1, COMMON):
        same = np.flatnonzero(hashes[:-offset] == hashes[offset:])
        if not len(same):
            break
        records = np.empty(len(same), _PAIR)
        records["pair"] = (pieces[same] << np.uint64(32)) | pieces[same + offset]
        records["spread"] = records["pair"] * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(32)
        pairs.add(records)
    return common


def _counted(pairs: np.ndarray, least: int) -> tuple[np.ndarray, np.ndarray]:
    """The pairs that are there at least so many times, and how many times."""
    keys, counts = np.unique(pairs["pair"], return_counts=True)
    enough = counts >= least
    return keys[enough], counts[enough]


def _smaller(
    sketches: Sketches,
    size: int,
    limits: np.ndarray,
    common: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
) -> np.ndarray:
    """Of each pair, the grams of the piece that has fewer, commonplaces and cut ones left out."""
    limit = np.minimum(limits[first], limits[second])
    found = np.full(len(first), np.iinfo(np.int64).max)
    sides = np.concatenate((first, second))
    order = np.argsort(sides, kind="stable")
    owners, starts = np.unique(sides[order], return_index=True)
    ends = np.append(starts[1:], len(order)).tolist()
    wanted = iter(zip(owners.tolist(), starts.tolist(), ends, strict=False))
    owner, start, end = next(wanted, (-1, 0, 0))
    for number, sketch in enumerate(sketches() if len(owners) else ()):
        if number == owner:
            own = sketch[:size]
            own = own[~_known(own, common)]
            here = order[start:end] % len(first)
            np.minimum.at(found, here, np.searchsorted(own, limit[here], "right"))
            owner, start, end = next(wanted, (-1, 0, 0))
    return found


def _known(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Which of `values` are in `known`, which is sorted."""
    if not len(known):
        return np.zeros(len(values), bool)
    places = np.minimum(np.searchsorted(known, values), len(known) - 1)
    return known[places] == values


def resembling(
    melodies: Iterable[np.ndarray], held_out: Sequence[np.ndarray], threshold: float = SAME_TUNE
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
        for gram in melody[_known(melody, known)].tolist():
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


def connected(size: int, pairs: Iterable[tuple[int, int]]) -> np.ndarray:
    """For each of `size` items the smallest index of its connected group (union-find); int64."""
    parent = array("q", range(size))

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for first, second in pairs:
        low, high = sorted((root(first), root(second)))
        parent[high] = low
    for item in range(size):  # parents come first
        parent[item] = parent[parent[item]]
    return np.array(parent, np.int64)
