"""Means with intervals over pieces, and rank correlations: the statistics of every evaluation.

Pieces are resampled, never notes or windows: notes of one piece resemble each other, and an
interval over notes would be far too narrow. Everything random is seeded, so that the same
evaluation run twice gives the same figures.

Letters: N entries, P pieces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = [
    "Estimate",
    "closeness_interval",
    "mean_interval",
    "ranked",
    "ratio_interval",
    "spearman",
]

DRAWS = 4000
"""Resamples of the bootstrap."""

LEVEL = (0.025, 0.975)
"""A 95% interval."""


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95% interval over pieces."""

    value: float
    low: float
    high: float
    pieces: int
    """What was resampled; with one piece the interval is a point, and says nothing."""

    def holds(self, value: float) -> bool:
        """Whether a value lies within the interval."""
        return self.low <= value <= self.high

    def to_dict(self) -> dict[str, Any]:
        return {"value": self.value, "low": self.low, "high": self.high, "pieces": self.pieces}


def ratio_interval(
    values: np.ndarray,
    weights: np.ndarray,
    pieces: Sequence[object] | None = None,
    *,
    seed: int = 0,
) -> Estimate | None:
    """sum(values) / sum(weights), and its interval by the percentile bootstrap.

    Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.

    Args:
        values: (N,), for instance nats.
        weights: (N,), for instance notes.
        pieces: (N,) what each entry belongs to; entries of one piece are drawn together. By default
            each entry is a piece of its own.
        seed: of the resampling.

    Returns:
        None where all weights are 0: nothing was measured.
    """
    values, weights = np.asarray(values, np.float64), np.asarray(weights, np.float64)
    if not len(values) or not weights.sum() > 0:
        return None
    if pieces is not None:
        names: dict[object, int] = {}
        of = np.array([names.setdefault(piece, len(names)) for piece in pieces])
        values = np.bincount(of, weights=values, minlength=len(names))
        weights = np.bincount(of, weights=weights, minlength=len(names))
    kept = weights > 0
    values, weights = values[kept], weights[kept]
    draws = np.random.default_rng(seed).integers(len(values), size=(DRAWS, len(values)))
    low, high = np.quantile(values[draws].sum(1) / weights[draws].sum(1), LEVEL)
    return Estimate(float(values.sum() / weights.sum()), float(low), float(high), len(values))


def mean_interval(
    values: np.ndarray, pieces: Sequence[object] | None = None, *, seed: int = 0
) -> Estimate | None:
    """The mean of (N,) values and its interval; NaN entries are left out. None without any."""
    values = np.asarray(values, np.float64)
    there = ~np.isnan(values)
    own = (
        None
        if pieces is None
        else [piece for piece, kept in zip(pieces, there, strict=True) if kept]
    )
    return ratio_interval(values[there], np.ones(int(there.sum())), own, seed=seed)


def closeness_interval(
    own: np.ndarray, other: np.ndarray, pieces: Sequence[object], *, seed: int = 0
) -> Estimate | None:
    """|mean of own| - |mean of other| and its interval: below 0 the first is nearer to zero.

    Both are (N,) gaps of the same entries, drawn together; entries where one is NaN are left out.
    None without any.
    """
    there = ~np.isnan(own) & ~np.isnan(other)
    if not there.any():
        return None
    names: dict[object, int] = {}
    of = np.array([names.setdefault(piece, len(names)) for piece in np.array(pieces)[there]])
    sums = np.array([np.bincount(of, weights=gaps[there]) for gaps in (own, other)])
    counts = np.bincount(of)
    draws = np.random.default_rng(seed).integers(len(counts), size=(DRAWS, len(counts)))
    means = np.abs(sums[:, draws].sum(-1) / counts[draws].sum(-1))
    low, high = np.quantile(means[0] - means[1], LEVEL)
    whole = np.abs(sums.sum(-1) / counts.sum())
    return Estimate(float(whole[0] - whole[1]), float(low), float(high), len(counts))


def ranked(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, equal values at their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def spearman(asked: np.ndarray, found: np.ndarray) -> float:
    """Spearman's rank correlation; 0 where one side is constant or there are fewer than 3."""
    a, b = ranked(np.asarray(asked)), ranked(np.asarray(found))
    if len(a) < 3 or not a.std() or not b.std():
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])
