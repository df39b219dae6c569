"""Ways from bar to bar in even steps: of many points between two, those that lie evenly in music.

A decoder that takes the likeliest notes turns an even way of latents into an uneven one of notes:
nothing for a while, then much at once. So more points are written than are asked for, some of them
with a part of the bar ahead of the others (`shares`), and `even_steps` chooses.

Letters: M points that were written, S steps that are asked for, P slots of a latent (each tells of
an equal part of the bar).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["BarNotes", "even_steps", "f1", "notes_of", "shares"]

HASTE = 0.4
"""Of the whole way, the stretch in which one slot goes all of its own."""

BACK = 4.0
"""What a step costs that goes back (nearer to the start, or farther from the end), beside the
square of its length, which is 1 at most."""

BarNotes = Sequence[np.ndarray]
"""The note rows (n, 4) of a bar, one array a track."""


def notes_of(bar: BarNotes, durations: bool = False) -> set[tuple[int, ...]]:
    """The notes of a bar as a set: track, head and pitch, and with `durations` the duration."""
    columns = [0, 1, 3] if durations else [0, 1]
    return {(track, *row) for track, rows in enumerate(bar) for row in rows[:, columns].tolist()}


def f1(one: set[Any], other: set[Any]) -> float:
    """2 |A and B| / (|A| + |B|); 1 where both are empty."""
    return 2 * len(one & other) / (len(one) + len(other)) if one or other else 1.0


def shares(slots: int, count: int) -> np.ndarray:
    """(6 * count, P): how far each slot is on points between two latents.

    `count` points with all slots together, and as many with the slots one after another (each takes
    `HASTE` of the way) in each of five orders: as time goes, backwards, every other one first, and
    two that were drawn once.
    """
    time = np.arange(slots)
    drawn = [np.random.default_rng(seed).permutation(slots) for seed in (1, 2)]
    turns = np.argsort(np.concatenate((time[::2], time[1::2])))
    along = np.linspace(0.0, 1.0, count + 2)[1:-1, None]
    found = [np.repeat(along, slots, axis=1)]
    for order in (time, time[::-1], turns, *drawn):
        late = order / max(slots - 1, 1)
        found.append(np.clip((along * (1 + HASTE) - late) / HASTE, 0.0, 1.0))
    return np.concatenate(found)


def even_steps(points: Sequence[set[Any]], steps: int) -> list[int]:
    """Which S of M points make the most even way: indices, first 0 and last M - 1.

    The first and the last point are the ends; those between are taken in the order of how far they
    are (the distance from the first less that from the last). The sum of the squares of the
    distances (1 - F1 of the notes) from step to step is least, where a step back counts as `BACK`
    more. Found by dynamic programming over (step, point) in O(S M^2).
    """
    count = len(points)
    from_first = np.array([1 - f1(points[0], each) for each in points])
    from_last = np.array([1 - f1(points[-1], each) for each in points])
    inner = 1 + np.argsort((from_first - from_last)[1:-1], kind="stable")
    order = np.concatenate(([0], inner, [count - 1]))
    if steps >= count:
        return [int(point) for point in order]
    away, left = from_first[order], from_last[order]
    cost = np.full((count, count), np.inf)
    for one, other in itertools.combinations(range(count), 2):
        back = away[other] < away[one] - 1e-9 or left[other] > left[one] + 1e-9
        step = 1 - f1(points[order[one]], points[order[other]])
        cost[one, other] = step**2 + BACK * back
    best = np.full(count, np.inf)
    best[0] = 0.0
    came: list[np.ndarray] = []
    for _ in range(steps - 1):
        through = best[:, None] + cost
        came.append(through.argmin(axis=0))
        best = through.min(axis=0)
    chosen = [count - 1]
    for before in reversed(came):
        chosen.append(int(before[chosen[-1]]))
    return [int(order[place]) for place in chosen[::-1]]
