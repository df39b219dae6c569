"""Finished bars, handed over while the rest is still being written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

__all__ = ["BarStream", "OnBar"]

OnBar = Callable[[int, int, np.ndarray], None]
"""`on_bar(sample, bar, notes)`: bar `bar` of piece `sample` is finished, both from 0; its notes as
a structured array (track, bar, onset_q, duration_q, pitch, velocity), times in quarter notes."""


class _Source(Protocol):
    @property
    def bars_done(self) -> int: ...

    def result(self) -> Any: ...


class BarStream:
    """Called after each step of the sampler; calls `on_bar` once for every finished bar."""

    def __init__(self, guides: Sequence[_Source], on_bar: OnBar) -> None:
        self._guides, self._on_bar = guides, on_bar
        self._told = [0] * len(guides)

    def __call__(self) -> None:
        """Hands over what has been finished since the last call, in order."""
        for sample, guide in enumerate(self._guides):
            done = guide.bars_done
            if done == self._told[sample]:
                continue
            notes = guide.result().notes
            for bar in range(self._told[sample], done):
                self._told[sample] = bar + 1
                self._on_bar(sample, bar, notes[notes["bar"] == bar])
