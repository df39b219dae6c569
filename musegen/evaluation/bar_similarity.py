"""How alike the bars of a piece are, by how far apart they stand; and bars in random order.

Music repeats: the bar before, the bar four or eight bars ago. The curve of likeness over distance
shows form where single figures do not. The control beside it has the same bars in random order: it
keeps every bar and loses the form, so a curve that lies on it has none.

Letters: K bars, D distances.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from musegen.evaluation.music_metrics import GRID
from musegen.music.score import Score

__all__ = ["DISTANCES", "bar_matrix", "by_distance", "shuffled_bars"]

DISTANCES = 32
"""Bars apart, at most."""


def bar_matrix(score: Score) -> tuple[np.ndarray, np.ndarray]:
    """(K, K) similarity of every two bars, and (K, K) booleans: one is the other's exact copy.

    Common notes over the union of the notes of two bars, 0 to 1; notes are the same when track,
    onset within the bar, pitch and duration (both on a grid of 12 a quarter note) are. Velocity
    does not count. Two bars in which nothing begins are NaN and no copies. Yu et al., Museformer
    (NeurIPS 2022), where tracks are not told apart.
    """
    bars = score.bars()
    edges = np.array([bar.start_tick for bar in bars] + [bars[-1].end_tick if bars else 0])
    places, codes = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for number, track in enumerate(score.tracks):
        start = track.notes["start_tick"].astype(np.int64)
        bar = np.clip(np.searchsorted(edges, start, side="right") - 1, 0, max(0, len(bars) - 1))
        onset = np.round((start - edges[bar]) * (GRID / score.ppq)).astype(np.int64)
        length = np.round(track.notes["duration_tick"] * (GRID / score.ppq)).astype(np.int64)
        length = np.clip(length, 1, 2**16 - 1)
        pitch = track.notes["pitch"].astype(np.int64)
        places.append(bar)
        codes.append(((number * 4096 + np.minimum(onset, 4095)) * 128 + pitch) * 65536 + length)
    _, code = np.unique(np.concatenate(codes), return_inverse=True)
    has = np.zeros((len(bars), int(code.max(initial=-1)) + 1), dtype=np.float32)
    has[np.concatenate(places), code] = 1
    size = has.sum(1, dtype=np.float64)
    common = (has @ has.T).astype(np.float64)
    union = size[:, None] + size - common
    alike = np.divide(common, union, out=np.full_like(common, np.nan), where=union > 0)
    return alike, (union > 0) & (common == union)


def by_distance(score: Score, most: int = DISTANCES) -> tuple[np.ndarray, np.ndarray]:
    """Mean similarity, and share of exact copies, of bars 1..`most` apart; both (D,).

    Pairs of which neither bar has a note are left out; NaN where there is no other pair.
    """
    alike, copies = bar_matrix(score)
    similarity, copied = np.full(most, np.nan), np.full(most, np.nan)
    for distance in range(1, min(most, len(alike) - 1) + 1):
        values = np.diagonal(alike, distance)
        there = ~np.isnan(values)
        if there.any():
            similarity[distance - 1] = values[there].mean()
            copied[distance - 1] = np.diagonal(copies, distance)[there].mean()
    return similarity, copied


def shuffled_bars(score: Score, rng: np.random.Generator) -> Score:
    """The same bars in random order; bars of unlike length or meter do not change places.

    A note goes with the bar that it begins in, and is cut only where the score ends.
    """
    bars = score.bars()
    starts = np.array([bar.start_tick for bar in bars], dtype=np.int64)
    kinds: dict[tuple[int, int, int], list[int]] = {}
    for index, bar in enumerate(bars):
        length = bar.end_tick - bar.start_tick
        kinds.setdefault((length, bar.numerator, bar.denominator), []).append(index)
    goes_to = np.arange(len(bars))
    for places in kinds.values():
        goes_to[places] = rng.permutation(places)
    tracks = []
    for track in score.tracks:
        notes = track.notes.copy()
        if len(notes):
            bar_of = np.searchsorted(starts, notes["start_tick"], side="right") - 1
            notes["start_tick"] += (starts[goes_to] - starts)[bar_of].astype(np.int32)
            rest = bars[-1].end_tick - notes["start_tick"]
            notes["duration_tick"] = np.minimum(notes["duration_tick"], rest)
        tracks.append(replace(track, notes=notes))
    return score.replace(
        tracks=tuple(tracks), length_tick=bars[-1].end_tick if bars else score.length_tick
    )
