"""What made pictures are measured by, beside held-out ones.

Functions of features, pixels and labels; whose features they are is the caller's business. The
Frechet distance here is "FD-small", on a small network of our own: it is only to be compared with
its own floors, never with a published FID.

Letters: N and M pictures, D features, S pixels of a side.
"""

from __future__ import annotations

import numpy as np

__all__ = [
    "copies",
    "frechet",
    "neighbours",
]

NEAREST = 5
"""Neighbours that say how large the surroundings of a point are."""


def frechet(one: np.ndarray, other: np.ndarray) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of features (N, D), (M, D).

    The squared Frechet distance of two Gaussians (Dowson & Landau 1982; Heusel et al. 2017). The
    root is that of C1^(1/2) C2 C1^(1/2), which is symmetric and has the same trace.
    """
    means = [features.mean(0, dtype=np.float64) for features in (one, other)]
    first, second = (np.cov(features.astype(np.float64), rowvar=False) for features in (one, other))
    values, vectors = np.linalg.eigh(np.atleast_2d(first))
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    both = np.linalg.eigvalsh(root @ np.atleast_2d(second) @ root)
    trace = np.trace(np.atleast_2d(first)) + np.trace(np.atleast_2d(second))
    apart = float(((means[0] - means[1]) ** 2).sum())
    return apart + float(trace) - 2 * float(np.sqrt(np.maximum(both, 0)).sum())


def _distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(N, M) float64."""
    one, other = one.astype(np.float64), other.astype(np.float64)
    squared = (one**2).sum(1)[:, None] + (other**2).sum(1) - 2 * one @ other.T
    return np.sqrt(np.maximum(squared, 0))


def _radii(points: np.ndarray, k: int) -> np.ndarray:
    """(N,): how far the k-th neighbour of each point is."""
    apart = _distances(points, points)
    np.fill_diagonal(apart, np.inf)
    return np.partition(apart, k - 1, axis=1)[:, k - 1]


def neighbours(real: np.ndarray, made: np.ndarray, k: int = NEAREST) -> dict[str, float]:
    """How made features (M, D) lie among real ones (N, D).

    Precision is the share of made points within the surroundings of a real one, recall the share of
    real ones within those of a made one (Kynkaanniemi et al. 2019, equations 1 and 2). Density
    counts the surroundings that each made point lies in, over k; coverage is the share of real
    points that have a made one in theirs (Naeem et al. 2020, equations 5 and 6): they are not led
    astray by outliers. A point's surroundings reach to its k-th neighbour of the same kind.
    """
    apart = _distances(real, made)  # (N, M)
    of_real, of_made = _radii(real, k), _radii(made, k)
    inside = apart <= of_real[:, None]
    return {
        "precision": float(inside.any(0).mean()),
        "recall": float((apart <= of_made).any(1).mean()),
        "density": float(inside.sum(0).mean() / k),
        "coverage": float(inside.any(1).mean()),
    }


def copies(
    pictures: np.ndarray, training: np.ndarray, below: float = 0.02, block: int = 256
) -> tuple[np.ndarray, float]:
    """How near each picture (N, S, S) uint8 is to its nearest training picture, and the copy rate.

    Returns:
        (N,) mean absolute differences, of 1 for black against white; the share of them under
        `below`. It says something beside the same share of held-out pictures.
    """
    pixels = training[0].size
    known = training.reshape(len(training), -1).astype(np.float32) / 255
    square = (known**2).sum(1)
    nearest = np.empty(len(pictures))
    for start in range(0, len(pictures), block):
        rows = pictures[start : start + block].reshape(-1, pixels).astype(np.float32) / 255
        apart = (rows**2).sum(1)[:, None] + square - 2 * rows @ known.T
        # The nearest by mean difference is among the nearest by mean square.
        few = np.argpartition(apart, min(16, len(known) - 1), axis=1)[:, :16]
        for index, row in enumerate(rows):
            nearest[start + index] = np.abs(known[few[index]] - row).mean(1).min()
    return nearest, float((nearest < below).mean())
