"""Guidance: an engine over an engine, which computes every sequence twice, told and untold.

Classifier-free guidance on logits, `uncond + w (cond - uncond)` (Ho & Salimans 2022): at w = 1 the
controls say what they say, above it they say it louder. Both logits come rounded from the engine
below, so that what is drawn is as reproducible as there.

Letters: C side channels, V ids of a field.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

import numpy as np

from musegen.errors import UsageError
from musegen.guide import Advance, Engine
from musegen.sampling.rules import guide

__all__ = ["GuidedEngine"]


class GuidedEngine:
    """An `Engine` (musegen/guide.py): slot s of it is slots s and slots + s of the one below."""

    def __init__(self, engine: Engine, columns: Sequence[int], weight: float) -> None:
        """`columns` are the side channels that the untold half is not told; nor is it any vector.

        Raises:
            UsageError: a weight below 0.
        """
        if not weight >= 0:
            raise UsageError(f"guidance {weight}: it must be 0 or more; 1 changes nothing")
        self.engine, self.weight = engine, weight
        self.field_sizes, self.max_positions = engine.field_sizes, engine.max_positions
        self._columns = list(columns)
        self._slots = 0

    def running(self) -> AbstractContextManager[None]:
        """What the engine below needs."""
        return self.engine.running()

    def open(self, slots: int) -> None:
        """An empty cache for so many sequences."""
        self._slots = slots
        self.engine.open(2 * slots)

    def extend(self, advances: Mapping[int, Advance]) -> None:
        """Takes in the rows of some slots, with the controls and without."""
        both = dict(advances)
        for slot, advance in advances.items():
            channels = advance.channels.copy()
            channels[:, self._columns] = 0
            both[self._slots + slot] = replace(advance, channels=channels, vectors=None)
        self.engine.extend(both)

    def logits(self, slots: Sequence[int], field: int, chosen: np.ndarray) -> np.ndarray:
        """Float64 (len(slots), V_field): guided logits."""
        untold = [self._slots + slot for slot in slots]
        both = self.engine.logits([*slots, *untold], field, np.concatenate((chosen, chosen)))
        return guide(both[: len(slots)], both[len(slots) :], self.weight)
