"""What passes between the rules of a sequence, the model that draws it, and the engine below.

Autoregressive families sample rows of integers, one position at a time. Three sides meet here and
know each other by these protocols only:

- a `Guide` (musegen/tokens/) knows what ids mean: what may come next, what is forced, when to end;
- the model (musegen/models/autoregressive.py) draws the fields of a row, one after another;
- an `Engine` (musegen/sampling/engines/) turns rows into logits and keeps their cache.

No torch here: composing on another engine must not load it.

Letters: F fields of a row, V ids of a field, C side channels, A position axes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

__all__ = ["Advance", "Engine", "Guide", "RowRequest"]


@dataclass(frozen=True)
class Advance:
    """Rows that a sequence takes in before its next prediction; the last one predicts.

    Usually one row, the one just drawn. After a cell's end it is the forced headers and given
    cells up to the next free place; with `restart`, it is the whole context, laid out anew.
    """

    rows: np.ndarray
    """(n, F) integers, n >= 1."""
    channels: np.ndarray
    """(n, C) integers: the side channels at each of these positions; C may be 0."""
    coordinates: np.ndarray
    """(n, A) float64: the place of each row on each position axis."""
    restart: bool = False
    """Forget what came before: the cache starts empty."""
    vectors: np.ndarray | None = None
    """(n, D) float64, added to the embeddings of the rows: what a family tells besides ids."""

    def part(self, start: int, end: int) -> Advance:
        """Rows start..end-1, as rows that go on from what came before."""
        here = slice(start, end)
        vectors = None if self.vectors is None else self.vectors[here]
        return Advance(
            self.rows[here], self.channels[here], self.coordinates[here], vectors=vectors
        )

    @classmethod
    def joined(cls, advances: Sequence[Advance]) -> Advance:
        """The rows of several, one behind another; a restart if the first is one."""
        told = next((each.vectors for each in advances if each.vectors is not None), None)
        vectors = None
        if told is not None:
            vectors = np.concatenate(
                [
                    np.zeros((len(each.rows), told.shape[1]))
                    if each.vectors is None
                    else each.vectors
                    for each in advances
                ]
            )
        return cls(
            np.concatenate([each.rows for each in advances]),
            np.concatenate([each.channels for each in advances]),
            np.concatenate([each.coordinates for each in advances]),
            advances[0].restart,
            vectors,
        )


@runtime_checkable
class Guide(Protocol):
    """The rules of one sequence: what may come next, what is forced, when it ends.

    Kept by the data side (musegen/tokens/), which knows what ids mean; the model sees ids only.
    """

    def start(self) -> Advance:
        """The prompt; `restart` is true."""
        ...

    def mask(self, field: int, chosen: Sequence[int]) -> np.ndarray:
        """Booleans (V_field,): what this field of the next row may be, given the fields before."""
        ...

    def bias(self, field: int, chosen: Sequence[int]) -> np.ndarray | None:
        """Float64 (V_field,) to add to the logits of this field: wishes, where `mask` is law."""
        ...

    def accept(self, row: Sequence[int]) -> Advance | None:
        """Takes a drawn row; what to feed next, or None when the sequence is finished."""
        ...

    def result(self) -> Any:
        """What has been written, also when it is not finished."""
        ...


class Engine(Protocol):
    """The numbers behind autoregressive sampling: knows rows of ids, their cache, and nothing else.

    One slot a sequence. Everything crosses as numpy arrays, so that masks, filters and random
    numbers live in one place whatever computes the logits.
    """

    field_sizes: tuple[int, ...]
    max_positions: int

    def running(self) -> AbstractContextManager[None]:
        """Around all the sampling: what the engine wants to set for that time."""
        ...

    def open(self, slots: int) -> None:
        """An empty cache for so many sequences."""
        ...

    def extend(self, advances: Mapping[int, Advance]) -> None:
        """Takes in the rows of some slots; their next `logits` predict what follows."""
        ...

    def logits(self, slots: Sequence[int], field: int, chosen: np.ndarray) -> np.ndarray:
        """Float64 (len(slots), V_field), the same bits whatever else is in the batch.

        `chosen` is (len(slots), field): the fields of the row drawn so far.
        """
        ...


@dataclass(frozen=True)
class RowRequest:
    """A request to an autoregressive family: whose rules, computed by what."""

    guide: Guide
    engine: Engine
