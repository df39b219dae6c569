"""What a taste sees of pieces and of covers: measured facts, on scales of their own.

So the one taste (musegen/design/taste.py) that ranks designs ranks what is composed and drawn, too.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from musegen.art.mood import mood_of
from musegen.design.taste import Taste, read_ratings
from musegen.music.score import Score

__all__ = ["COVER", "PIECE", "features_of_cover", "features_of_piece", "in_order"]

PIECE, COVER = "piece", "cover"
"""The kinds that ratings are of."""

SCALES = {
    "tempo": (110.0, 60.0),
    "density": (4.0, 4.0),
    "range": (30.0, 20.0),
    "register": (60.0, 15.0),
    "tension": (0.2, 0.2),
    "loudness": (75.0, 30.0),
}
"""Of facts of `Mood`: what is 0, and how far from it is 1. They are fixed, so that a taste of one
batch is that of another."""


def features_of_piece(score: Score) -> dict[str, float]:
    """What may be liked of a piece, -1 to 1 each."""
    mood = mood_of(score)
    found = {
        name: float(np.clip((getattr(mood, name) - middle) / apart, -1, 1))
        for name, (middle, apart) in SCALES.items()
    }
    sounding = [track for track in score.tracks if len(track)]
    notes = [track.notes for track in sounding if not track.is_drum]
    long = np.concatenate([one["duration_tick"] for one in notes]) if notes else np.ones(1)
    found["minor"] = 2 * mood.minor - 1
    found["tracks"] = float(np.clip((len(sounding) - 3) / 3, -1, 1))
    found["drums"] = 1.0 if any(track.is_drum for track in sounding) else -1.0
    found["held"] = float(np.clip(np.log2(np.mean(long) / score.ppq), -1, 1))
    return found


def features_of_cover(pixels: np.ndarray, backdrop: str) -> dict[str, float]:
    """What may be liked of a cover, by its emblem's pixels (S, S) uint8 and its backdrop.

    Covers of one song have its colours: what differs is the drawing.
    """
    ink = 1 - pixels.astype(float) / 255
    mass = max(float(ink.sum()), 1e-9)
    mirrored = float(np.abs(ink - ink[:, ::-1]).sum()) / (2 * mass)
    edges = np.abs(np.diff(ink, axis=0)).sum() + np.abs(np.diff(ink, axis=1)).sum()
    rows = np.arange(len(ink)) @ ink.sum(1) / mass / max(1, len(ink) - 1)
    found = {
        "ink": float(np.clip(4 * ink.mean() - 1, -1, 1)),
        "symmetric": 1 - 2 * mirrored,
        "detailed": float(np.clip(edges / mass - 1, -1, 1)),
        "low": float(np.clip(4 * rows - 2, -1, 1)),
    }
    return found | {name: 1.0 if backdrop == name else -1.0 for name in ("rings", "hills", "bars")}


def in_order(
    made: Sequence[Any],
    features: Sequence[Mapping[str, float]],
    kind: str,
    ratings: str | os.PathLike[str],
) -> list[Any]:
    """Things of a kind by the taste of a file of ratings, the best liked first.

    Raises DataError, UsageError: the file cannot be used for them.
    """
    taste = Taste.fit(read_ratings(ratings, kind))
    return [made[k] for k in taste.order(features)]
