"""Greys to outlines: a small picture as one SVG path that can be drawn at any size."""

from __future__ import annotations

from typing import Any

import numpy as np

from musegen.errors import OutputError

__all__ = ["traced"]

FINER = 8
"""Places that a pixel is divided into before its outline is taken."""

SMALLEST = 0.6
"""Areas below so many square pixels are specks, and left out."""


def traced(picture: np.ndarray, threshold: float = 0.5) -> str:
    """The ink of a picture (S, S) uint8, 255 for paper, as the data of an SVG path.

    Coordinates are in pixels, y downward; fill it by the even-odd rule. The picture is made finer
    by Lanczos' filter, and lines of equal grey are drawn through it by contourpy.
    """
    try:
        from contourpy import FillType, contour_generator
        from PIL import Image
    except ImportError:
        raise OutputError('tracing needs contourpy: pip install "musegen[image]"') from None
    size = len(picture)
    framed = np.pad(255 - picture.astype(np.uint8), 1)
    side = (size + 2) * FINER
    fine = Image.fromarray(framed).resize((side, side), Image.Resampling.LANCZOS)
    ink = np.asarray(fine, dtype=np.float64) / 255
    places = (np.arange(side) + 0.5) / FINER - 1
    lines = contour_generator(places, places, ink, fill_type=FillType.OuterOffset)
    found: Any = lines.filled(threshold, 2.0)
    polygons, offsets = found[:2]
    parts = []
    for points, starts in zip(polygons, offsets, strict=True):
        for first, last in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
            ring = points[first:last]
            if abs(_area(ring)) < SMALLEST:
                continue
            kept = _simpler(ring[:-1])
            told = " ".join(f"{x:.2f},{y:.2f}" for x, y in kept.tolist())
            parts.append(f"M{told}Z")
    return "".join(parts)


def _area(ring: np.ndarray) -> float:
    x, y = ring.T
    return float(0.5 * np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]))


def _simpler(ring: np.ndarray, within: float = 0.01, passes: int = 4) -> np.ndarray:
    """A ring of points without those that its neighbours say as well.

    In each pass only every other point may go, one that is no further than `within` from the line
    between its neighbours, which stay: so what goes adds up to `passes` times that at most.
    """
    for turn in range(passes):
        before, after = np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0)
        along, apart = after - before, ring - before
        length = np.maximum(np.hypot(*along.T), 1e-9)
        away = np.abs(along[:, 0] * apart[:, 1] - along[:, 1] * apart[:, 0]) / length
        kept = (away > within) | (np.arange(len(ring)) % 2 == turn % 2)
        kept[0] = True
        if kept.sum() < 4:
            break
        ring = ring[kept]
    return ring
