"""Flat ids as training sees them: windows from a barline on, and pieces moved in pitch."""

from __future__ import annotations

import numpy as np

from musegen.music.ranges import instrument_range
from musegen.tokens.remi import RemiVocabulary
from musegen.tokens.tokenizer import Sample

__all__ = ["document", "sample_of", "transposed", "with_tempo"]


def document(
    ids: np.ndarray, bars: np.ndarray, first: int, stop: int, v: RemiVocabulary
) -> tuple[np.ndarray, np.ndarray]:
    """Ids of a piece from bar `first` up to row `stop` as a document, and their loss weights.

    A piece's own beginning is opened by BOS, its end closed by EOS. A window from later on gets the
    tempo in force into its header, without weight: nothing can be learnt from what is forced.
    `bars` are the rows of the Bars of the piece.
    """
    begin = int(bars[first])
    body = ids[begin:stop]
    weights = np.ones(len(body), dtype=np.float32)
    if first == 0:
        body = np.concatenate(([v.bos], body))
        weights = np.concatenate(([1.0], weights))
    else:
        before = np.flatnonzero(v.kinds[ids[:begin]] == "Tempo")
        tempo = ids[before[-1]] if len(before) else v.tempo_ids[v.default_tempo]
        body, at, added = with_tempo(body, int(tempo), v)
        weights = np.insert(weights, [at] * added, 0.0)
    if stop == len(ids):
        body = np.append(body, v.eos)
        weights = np.append(weights, 1.0)
    return body, weights.astype(np.float32)


def with_tempo(ids: np.ndarray, tempo_id: int, v: RemiVocabulary) -> tuple[np.ndarray, int, int]:
    """Ids that begin with Bar TimeSig, with the tempo in force; where and how many were added.

    The result is what the encoder writes where a piece begins at that bar: ``Bar TimeSig Position_0
    Tempo``. Nothing is added where the bar begins with a tempo of its own.
    """
    start = int(v.position_ids[0])
    follows = ids[2:4].tolist()
    if follows[:1] == [start]:
        if len(follows) > 1 and v.kinds[follows[1]] == "Tempo":
            return ids, 3, 0
        return np.concatenate((ids[:3], [tempo_id], ids[3:])), 3, 1
    return np.concatenate((ids[:2], [start, tempo_id], ids[2:])), 2, 2


def sample_of(ids: np.ndarray, weights: np.ndarray) -> Sample:
    """Flat ids as a `Sample`: no side channels, and the index as the only axis."""
    count = len(ids)
    return Sample(
        rows=np.asarray(ids, dtype=np.int64)[:, None],
        channels=np.zeros((count, 0), dtype=np.int64),
        coordinates=np.arange(count, dtype=np.float32)[:, None],
        weights=np.asarray(weights, dtype=np.float32),
    )


def transposed(ids: np.ndarray, semitones: int, v: RemiVocabulary) -> np.ndarray | None:
    """Ids moved by semitones, drums untouched.

    None where an instrument would leave its range further than the music already does.
    """
    where = np.flatnonzero(v.kinds[ids] == "Pitch")
    pitch = v.values[ids[where]]
    moved = pitch + semitones
    if len(where) and (moved.min() < 0 or moved.max() > 127):
        return None
    is_program = v.kinds[ids] == "Program"
    latest = np.maximum.accumulate(np.where(is_program, np.arange(len(ids)), 0))
    program = v.values[ids[latest[where]]]
    for one in np.unique(program).tolist():
        low, high = instrument_range(one)
        here = program == one
        # no further out of range than the music already is
        if moved[here].min() < min(low, int(pitch[here].min())):
            return None
        if moved[here].max() > max(high, int(pitch[here].max())):
            return None
    result = ids.copy()
    result[where] = v.pitch_ids[moved]
    return result
