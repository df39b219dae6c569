"""The side channels of the events presets: what each row may know besides the rows before it.

Controls are channels, not tokens: they cost no position, and a bound channel is obeyed by small
models where one token after the prompt is ignored. 0 always means "not told"; training drops each
control at random, so that each is optional. Cell controls are known from the cell's TRACK row on,
piece controls from the first row.

Letters: K bars, J tracks.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from musegen.music.analysis import key_fits
from musegen.tokens.grid import Grid
from musegen.tokens.tokenizer import ChannelSpec
from musegen.tokens.vocabulary import DRUM_PITCH, DRUM_PROGRAM, EventVocabulary

__all__ = [
    "CELL_CONTROLS",
    "GIVEN",
    "TO_WRITE",
    "CellControls",
    "PieceControls",
    "channel_specs",
    "drop_controls",
    "estimate_key",
    "measure_cells",
    "told_class",
]

TO_WRITE, GIVEN = 1, 2
"""Values of the `given` channel; 0 stands at rows outside cells. A cell is GIVEN only where it is
shown out of the plain order (other cells of its bar are to be written after it): bars before the
first cell to write are laid out, and flagged, like any plain document."""

MAX_NOTES_LEFT = 32
MAX_BARS_LEFT = 16

CELL_CONTROLS = ("notes_left", "polyphony", "length", "register", "loudness")

_POLYPHONY_EDGES = np.array([1.05, 1.5, 2.25, 3.25, 4.5])
_LENGTH_EDGES_Q = np.array([0.2, 0.3, 0.45, 0.7, 1.1, 2.2])
_REGISTER_EDGES = np.arange(30, 96, 6)
_LOUDNESS_EDGES = np.arange(16, 128, 16)
_EDGES = {
    "polyphony": _POLYPHONY_EDGES,
    "length": _LENGTH_EDGES_Q,
    "register": _REGISTER_EDGES,
    "loudness": _LOUDNESS_EDGES,
}


def channel_specs(vocabulary: EventVocabulary) -> tuple[ChannelSpec, ...]:
    """The channels in the order of the columns that `layout` fills."""
    return (
        ChannelSpec("given", 3),
        ChannelSpec("program", 130),
        ChannelSpec("instance", 1 + vocabulary.instances),
        ChannelSpec("meter", 1 + len(vocabulary.meters)),
        ChannelSpec("tempo", 1 + vocabulary.tempos),
        ChannelSpec("bars_left", 2 + MAX_BARS_LEFT),
        ChannelSpec("key", 25),
        ChannelSpec("style", 32),
        ChannelSpec("notes_left", 2 + MAX_NOTES_LEFT, "target"),
        ChannelSpec("polyphony", 2 + len(_POLYPHONY_EDGES), "target"),
        ChannelSpec("length", 2 + len(_LENGTH_EDGES_Q), "target"),
        ChannelSpec("register", 2 + len(_REGISTER_EDGES), "target"),
        ChannelSpec("loudness", 2 + len(_LOUDNESS_EDGES), "target"),
    )


@dataclass(frozen=True)
class PieceControls:
    """Controls that hold for a whole document; 0 is "not told"."""

    key: int = 0
    """1 + pitch class of the tonic, + 12 in minor."""
    style: int = 0
    """`EventVocabulary.style_id`."""
    tell_bars_left: bool = False
    """Whether rows know how many bars the piece still has."""


@dataclass(frozen=True, eq=False)
class CellControls:
    """Controls of each cell, each (K, J) int64; 0 is "not told"."""

    notes_left: np.ndarray
    """1 + the number of notes in the cell (not clipped): the countdown's first value."""
    polyphony: np.ndarray
    length: np.ndarray
    register: np.ndarray
    loudness: np.ndarray

    @classmethod
    def none(cls, bars: int, tracks: int) -> CellControls:
        """Nothing told."""
        return cls(*(np.zeros((bars, tracks), dtype=np.int64) for _ in CELL_CONTROLS))

    def columns(self) -> tuple[np.ndarray, ...]:
        return tuple(getattr(self, item.name) for item in fields(self))


def measure_cells(grid: Grid, vocabulary: EventVocabulary) -> CellControls:
    """What each cell's controls are in the music itself.

    Polyphony is the mean number of notes that sound while any does (total duration over covered
    time, by onsets: notes an onset); length the mean duration in quarter notes; register the mean
    pitch; loudness the mean velocity. A silent cell has a countdown and nothing else.
    """
    counts = grid.counts.ravel()
    cells = np.repeat(np.arange(len(counts)), counts)
    filled = np.maximum(counts, 1)

    def mean(values: np.ndarray) -> np.ndarray:
        return np.bincount(cells, weights=values, minlength=len(counts)) / filled

    def classes(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
        return np.where(counts > 0, 1 + np.searchsorted(edges, values, side="right"), 0)

    head, pitch, velocity, duration = grid.notes.T if len(grid.notes) else np.zeros((4, 0), int)
    new_onset = np.ones(len(head), dtype=np.int64)
    new_onset[1:] = (head[1:] != head[:-1]) | (cells[1:] != cells[:-1])
    onsets = np.maximum(np.bincount(cells, weights=new_onset, minlength=len(counts)), 1)
    is_drum = np.tile(grid.programs == DRUM_PROGRAM, grid.num_bars)
    shape = (grid.num_bars, grid.num_tracks)
    length_q = vocabulary.duration_units[np.maximum(duration, 1) - 1] / vocabulary.grid
    register = np.where(is_drum, 0, classes(mean((pitch - 1) % 128), _REGISTER_EDGES))
    return CellControls(
        notes_left=(1 + counts).reshape(shape),
        polyphony=classes(counts / onsets, _POLYPHONY_EDGES).reshape(shape),
        length=np.where(is_drum, 0, classes(mean(length_q), _LENGTH_EDGES_Q)).reshape(shape),
        register=register.reshape(shape),
        loudness=classes(mean(vocabulary.velocity_of(velocity)), _LOUDNESS_EDGES).reshape(shape),
    )


def drop_controls(
    measured: CellControls, rng: np.random.Generator, told: float = 0.5
) -> CellControls:
    """Controls dropped at random, as in training.

    A share `told` of the documents knows some; there each kind is told with probability 0.5, and
    then for each cell with probability 0.7: so that each control, and each cell, is optional.
    """
    shape = measured.notes_left.shape
    if rng.random() < 1 - told:
        return CellControls.none(*shape)
    kept = []
    for column in measured.columns():
        told = rng.random() < 0.5
        kept.append(np.where(told & (rng.random(shape) < 0.7), column, 0))
    return CellControls(*kept)


def estimate_key(notes: np.ndarray, vocabulary: EventVocabulary) -> int:
    """The key of note rows (N, 4): 1 + tonic (+ 12 in minor), 0 without enough pitched notes.

    Krumhansl and Schmuckler's algorithm, as in `musegen.music.analysis`.
    """
    pitched = notes[(notes[:, 1] >= 1) & (notes[:, 1] < DRUM_PITCH)]
    if len(pitched) < 8:
        return 0
    length = vocabulary.duration_units[np.maximum(pitched[:, 3], 1) - 1]
    histogram = np.bincount((pitched[:, 1] - 1) % 12, weights=length, minlength=12)
    fits = key_fits(histogram)
    return 1 + int(np.argmax(fits)) if fits.any() else 0


def told_class(name: str, value: float) -> int:
    """The class of a cell control's value, as `measure_cells` would give it."""
    return 1 + int(np.searchsorted(_EDGES[name], value, side="right"))
