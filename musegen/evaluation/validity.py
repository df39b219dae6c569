"""Whether a composition is what was asked for: a file that opens, the bars, the rest unchanged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from musegen.music.check import check_midi
from musegen.music.piece import Piece
from musegen.music.score import Score

__all__ = ["opens", "outside", "same_notes", "unchanged"]


def opens(piece: Piece) -> bool:
    """Whether its file has no defect for MIDI programs, and is read back with the same notes."""
    data = piece.to_bytes(ports=True)
    return not check_midi(data) and same_notes(Piece.of(data).score, piece.score)


def same_notes(one: Score, other: Score) -> bool:
    """Whether the notes of all tracks that have any are the same."""
    both = [
        [track.notes.tolist() for track in score.tracks if len(track)] for score in (one, other)
    ]
    return sorted(both[0]) == sorted(both[1])


def unchanged(result: Score, seed: Score, spans: Sequence[tuple[int, int, int]]) -> bool:
    """Whether nothing of the seed but the notes in the spans differs, by a tick.

    A span is (track, start tick, end tick). Behind the seed's end everything may be new.
    """
    bars = seed.bars()
    seam = max(seed.length_tick, bars[-1].end_tick if bars else 0)
    count = len(seed.tracks)
    if outside(result, spans, count) != outside(seed, spans, count):
        return False
    for name in ("tempos", "meters", "keys"):
        old, new = getattr(seed, name), getattr(result, name)
        if new[: len(old)] != old or any(event[0] < seam for event in new[len(old) :]):
            return False
    for old_track, new_track in zip(seed.tracks, result.tracks, strict=False):
        for name in ("controls", "bends"):
            old, new = getattr(old_track, name), getattr(new_track, name)
            if new[new["tick"] < seam].tolist() != old[old["tick"] < seam].tolist():
                return False
    return True


def outside(score: Score, spans: Sequence[tuple[int, int, int]], tracks: int) -> list[Any]:
    """Everything of the first tracks but their notes in the spans (track, start, end)."""
    found: list[Any] = []
    for number, track in enumerate(score.tracks[:tracks]):
        start = track.notes["start_tick"]
        keep = np.ones(len(start), dtype=bool)
        for place, first, end in spans:
            if place == number:
                keep &= (start < first) | (start >= end)
        found.append((track.program, track.is_drum, track.name, track.notes[keep].tolist()))
    return found
