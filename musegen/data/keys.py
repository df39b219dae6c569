"""The key that a piece's notes suggest, for the index: a convenience, not an analysis."""

from __future__ import annotations

import numpy as np

from musegen.music.score import Score

# Krumhansl and Kessler (1982): how well each pitch class fits a major and a minor key on C.
_MAJOR = np.array([6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88])
_MINOR = np.array([6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17])

_TONICS = ("C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")


def _profiles() -> np.ndarray:
    rows = [np.roll(profile, tonic) for profile in (_MAJOR, _MINOR) for tonic in range(12)]
    table = np.array(rows)
    table -= table.mean(1, keepdims=True)
    return table / np.linalg.norm(table, axis=1, keepdims=True)


_PROFILES = _profiles()


def estimate_key(score: Score) -> str:
    """`D major`, `F# minor`: the best correlation with the pitch classes, weighted by duration.

    Empty when there are drums only.
    """
    counts = np.zeros(12)
    for track in score.tracks:
        if not track.is_drum and len(track):
            classes = track.notes["pitch"].astype(np.int64) % 12
            counts += np.bincount(classes, track.notes["duration_tick"].astype(float), 12)
    if not counts.any():
        return ""
    best = int(np.argmax(_PROFILES @ (counts - counts.mean())))
    return f"{_TONICS[best % 12]} {'minor' if best >= 12 else 'major'}"
