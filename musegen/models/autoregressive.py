"""How rows are drawn: the sampling half of every autoregressive family.

Numpy and protocols only: what computes the logits is an `Engine`, what may be drawn is a
`Guide`'s business (musegen/guide.py), and the random numbers come from the `Draw`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from musegen.errors import GenerationError, UsageError
from musegen.guide import Advance, Engine, Guide, RowRequest

__all__ = ["Autoregressive", "RowState", "Rows"]


class _Draw(Protocol):
    def choose(
        self, logits: np.ndarray, allowed: np.ndarray, rows: Sequence[int]
    ) -> np.ndarray: ...

    def only(self, allowed: np.ndarray, rows: Sequence[int]) -> np.ndarray: ...


@dataclass
class RowState:
    """Sequences in the making; sequence b is slot b of the engine and stream b of the draw."""

    guides: list[Guide]
    engine: Engine
    live: list[int] = field(default_factory=list)
    """The sequences that are not finished."""
    drawn: int = 0
    """Rows drawn so far, over all sequences."""


class Autoregressive:
    """`begin`, `step`, `done` and `finish` for requests that are `RowRequest`s."""

    def begin(self, requests: Sequence[RowRequest], draw: Any) -> RowState:
        """Takes in the prompts. All requests of a batch share one engine."""
        if not requests:
            raise UsageError("nothing was asked for: give one request at least")
        engine = requests[0].engine
        if any(request.engine is not engine for request in requests):
            raise UsageError("the requests of one batch must share one engine")
        state = RowState([request.guide for request in requests], engine)
        engine.open(len(requests))
        state.live = list(range(len(requests)))
        engine.extend({slot: state.guides[slot].start() for slot in state.live})
        return state

    def step(self, state: RowState, draw: _Draw) -> RowState:
        """Draws one row of every unfinished sequence, field by field, under its guide's mask."""
        live, fields = state.live, len(state.engine.field_sizes)
        rows = np.zeros((len(live), fields), dtype=np.int64)
        for f in range(fields):
            chosen = rows[:, :f]
            before = chosen.tolist()
            allowed = np.empty((len(live), state.engine.field_sizes[f]), dtype=bool)
            several = False
            for b, slot in enumerate(live):
                allowed[b] = mask = state.guides[slot].mask(f, before[b])
                count = np.count_nonzero(mask)
                several = several or bool(count > 1)
                if not count:
                    raise GenerationError(
                        f"sample {slot}: the rules leave nothing for field {f} of the next row "
                        f"(after {state.drawn} rows); relax what was asked for"
                    )
            if not several:  # nothing to choose: the logits would change nothing
                rows[:, f] = draw.only(allowed, live)
                continue
            logits = state.engine.logits(live, f, chosen)
            for b, slot in enumerate(live):
                bias = state.guides[slot].bias(f, before[b])
                if bias is not None:
                    logits[b] += bias
            rows[:, f] = draw.choose(logits, allowed, live)
        state.drawn += len(live)
        advances: dict[int, Advance] = {}
        for slot, row in zip(live, rows.tolist(), strict=True):
            advance = state.guides[slot].accept(row)
            if advance is not None:
                advances[slot] = advance
        state.live = list(advances)
        if advances:
            state.engine.extend(advances)
        return state

    def done(self, state: RowState) -> bool:
        """Whether every sequence is finished."""
        return not state.live

    def finish(self, state: RowState) -> list[Any]:
        """What the guides have written, also when called early."""
        return [guide.result() for guide in state.guides]


class Rows(Autoregressive):
    """The sampling half by itself: all that is drawn comes from the engines of the requests."""

    def sampling(self) -> AbstractContextManager[None]:
        """Around all the steps: nothing to be set."""
        return nullcontext()
