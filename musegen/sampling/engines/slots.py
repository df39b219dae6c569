"""Which sequence lies where in the cache of an engine, and what the cache holds of it.

Letters: F fields of a row, C side channels, A position axes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from musegen.errors import GenerationError, UsageError
from musegen.guide import Advance

__all__ = ["Slots"]


class Slots:
    """The places of so many sequences in a cache, and their lengths.

    A restart that begins with rows that are in the cache already keeps them: a fill's next window
    computes only what is new in it.
    """

    def __init__(self, count: int, max_positions: int, keep: bool = True) -> None:
        """With `keep=False` a restart computes everything again."""
        if count < 1:
            raise UsageError(f"{count} sequences: ask for one at least")
        self.max_positions, self._keep = max_positions, keep
        self.lengths = np.zeros(count, dtype=np.int64)
        self.places = np.arange(count)
        """Where in the cache each slot lies."""
        self._held: list[list[Advance]] = [[] for _ in range(count)]

    def admit(self, slot: int, advance: Advance) -> Advance:
        """What is to be computed of the rows that a slot takes in, after checking for room.

        Raises:
            UsageError: no such slot, or no row.
            GenerationError: more rows than there are positions.
        """
        count = len(advance.rows)
        if not 0 <= slot < len(self.lengths) or count == 0:
            raise UsageError(f"slot {slot}, {count} rows: open() names the slots, 1 row at least")
        if advance.restart:
            advance = self._known(slot, advance)
        used, count = int(self.lengths[slot]), len(advance.rows)
        if used + count > self.max_positions:
            raise GenerationError(
                f"sequence {slot}: {used} + {count} rows do not fit the {self.max_positions} "
                "positions of the model; the guide must restart with a shorter context"
            )
        self._held[slot].append(advance)
        return advance

    def _known(self, slot: int, advance: Advance) -> Advance:
        """The rows of a restart behind those that lie in the cache already."""
        same, held = 0, self._held[slot] if self._keep else []
        last = len(advance.rows) - 1  # one row is computed at least: it predicts
        for part in held:
            count = min(len(part.rows), last - same)
            here = slice(same, same + count)
            equal = np.ones(count, dtype=bool)
            for name in ("rows", "channels", "coordinates"):
                new, old = getattr(advance, name)[here], getattr(part, name)[:count]
                equal &= (new == old).all(axis=1)
            if advance.vectors is not None or part.vectors is not None:
                new, old = _vectors(advance, here), _vectors(part, slice(0, count))
                equal &= (new == old).all(axis=1)
            agreeing = count if equal.all() else int(equal.argmin())
            same += agreeing
            if agreeing < len(part.rows):
                break
        self.lengths[slot] = same
        self._held[slot] = [] if not same else [advance.part(0, same)]
        return advance.part(same, len(advance.rows))

    def took(self, slots: Sequence[int], counts: Sequence[int]) -> None:
        """So many rows of these slots are in the cache now."""
        self.lengths[list(slots)] += counts

    def run(self, slots: Sequence[int]) -> tuple[list[int], int, list[tuple[int, int]]]:
        """Slots in the order of their places, the first place of their run, and what must move.

        Where the places are no unbroken run, the slots move to the front: the pairs of places that
        are to be swapped, in this order. That happens once for each sequence that ends, so that
        every pass reads the cache in place.
        """
        places = self.places
        order = sorted(slots, key=places.__getitem__)
        first = int(places[order[0]])
        if int(places[order[-1]]) - first + 1 == len(order):
            return order, first, []
        moves = []
        for target, slot in enumerate(order):
            here = int(places[slot])
            if here != target:
                moves.append((target, here))
                other = int(np.flatnonzero(places == target)[0])
                places[other], places[slot] = here, target
        return order, 0, moves


def _vectors(advance: Advance, here: slice) -> np.ndarray:
    """(n, D) or (n, 1): what is added to some rows; 0 where it is nothing."""
    rows = advance.rows[here]
    return np.zeros((len(rows), 1)) if advance.vectors is None else advance.vectors[here]
