"""The same music otherwise: rows of the events presets in another key, tempo, loudness, on other
instruments.

What augmentation draws from (musegen/data/augment.py); each is a function from plain rows (T, 4) to
plain rows.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from musegen.tokens.grid import Grid
from musegen.tokens.vocabulary import (
    DRUM_PITCH,
    FIRST_POSITION,
    PITCH,
    TEMPO,
    TRACK,
    EventVocabulary,
)

__all__ = ["instances_of", "jittered", "louder", "reinstrumented", "stretched", "transposed"]


def transposed(rows: np.ndarray, semitones: int, vocabulary: EventVocabulary) -> np.ndarray | None:
    """Moved by semitones, drums untouched; None if an instrument cannot play it."""
    rows = np.asarray(rows)
    if not semitones:
        return rows
    head, pitch = rows[:, 0], rows[:, 1].astype(np.int64)
    moved = (head >= FIRST_POSITION) & (pitch < DRUM_PITCH)
    if not moved.any():
        return rows
    new = pitch + semitones * moved
    if not _playable(rows, pitch, new, moved, vocabulary):
        return None
    result = rows.copy()
    result[:, 1] = new
    return result


def _playable(
    rows: np.ndarray,
    pitch: np.ndarray,
    new: np.ndarray,
    moved: np.ndarray,
    vocabulary: EventVocabulary,
) -> bool:
    """Whether the moved pitches stay in range (or no further out than the music already is)."""
    from musegen.music.ranges import instrument_range

    is_track = rows[:, 0] == TRACK
    programs = rows[is_track, 1].astype(np.int64) - vocabulary.first_program
    program = programs[np.maximum(np.cumsum(is_track) - 1, 0)]
    for value in np.unique(program[moved]).tolist():
        here = moved & (program == value)
        low, high = instrument_range(value)
        if new[here].min() - PITCH < min(low, pitch[here].min() - PITCH):
            return False
        if new[here].max() - PITCH > max(high, pitch[here].max() - PITCH):
            return False
    return True


def reinstrumented(
    rows: np.ndarray, programs: Mapping[int, int], vocabulary: EventVocabulary
) -> np.ndarray:
    """With other instruments: program -> program, of those that can play all of the part.

    Tracks come back in canonical order, by program, and are counted anew.
    """
    from musegen.music.ranges import instrument_range

    grid = Grid.from_rows(rows, vocabulary)
    bars, tracks = grid.num_bars, grid.num_tracks
    track = np.repeat(np.arange(bars * tracks) % tracks, grid.counts.ravel())
    new = grid.programs.copy()
    for old, other in programs.items():
        pitch = grid.notes[np.isin(track, np.flatnonzero(grid.programs == old)), 1] - PITCH
        low, high = instrument_range(other)
        if len(pitch) and low <= pitch.min() and pitch.max() <= high:
            new[grid.programs == old] = other
    order = np.argsort(new, kind="stable")
    cells = (np.arange(bars)[:, None] * tracks + order).ravel()
    counts = grid.counts.ravel()[cells]
    offsets = np.concatenate(([0], np.cumsum(counts)))
    notes = np.repeat(grid.offsets[cells] - offsets[:-1], counts) + np.arange(len(grid.notes))
    moved = Grid(
        meters=grid.meters,
        tempos=grid.tempos,
        programs=new[order],
        instances=instances_of(new[order], vocabulary),
        notes=grid.notes[notes],
        offsets=offsets,
    )
    return moved.rows(vocabulary)


def instances_of(programs: np.ndarray, vocabulary: EventVocabulary) -> np.ndarray:
    """(J,): how many tracks of the same program stand before each, at most instances - 1."""
    seen: dict[int, int] = {}
    result = np.zeros(len(programs), dtype=np.int64)
    for index, program in enumerate(programs.tolist()):
        result[index] = min(seen.get(program, 0), vocabulary.instances - 1)
        seen[program] = seen.get(program, 0) + 1
    return result


def stretched(rows: np.ndarray, factor: float, vocabulary: EventVocabulary) -> np.ndarray:
    """With every tempo times `factor`, within the preset's tempi."""
    rows = np.asarray(rows)
    is_tempo = rows[:, 0] == TEMPO
    classes = rows[is_tempo, 1].astype(np.int64) - vocabulary.first_tempo
    result = rows.copy()
    bpm = vocabulary.tempo_bpm[np.clip(classes, 0, vocabulary.tempos - 1)] * factor
    result[is_tempo, 1] = vocabulary.first_tempo + vocabulary.tempo_class(bpm)
    return result


def louder(rows: np.ndarray, by: float, vocabulary: EventVocabulary) -> np.ndarray:
    """Every velocity plus `by` (of 1 to 127), within the preset's classes."""
    result = np.array(rows)
    is_note = result[:, 0] >= FIRST_POSITION
    moved = vocabulary.velocity_of(result[is_note, 2].astype(np.int64)) + by
    result[is_note, 2] = vocabulary.velocity_class(np.clip(np.round(moved), 1, 127))
    return result


def jittered(
    rows: np.ndarray, share: float, rng: np.random.Generator, vocabulary: EventVocabulary
) -> np.ndarray:
    """Drums a little otherwise: a share of the strokes one velocity class up or down.

    The velocity alone: a step of the grid, a twelfth of a quarter note, is far more than a hand
    misses by.
    """
    result = np.array(rows)
    drums = (result[:, 0] >= FIRST_POSITION) & (result[:, 1] >= DRUM_PITCH)
    step = rng.integers(0, 2, len(result)) * 2 - 1
    moved = drums & (rng.random(len(result)) < share)
    classes = result[moved, 2].astype(np.int64) + step[moved]
    result[moved, 2] = np.clip(classes, 1, vocabulary.velocities)
    return result
