"""The one sampling loop, for every family of generative models.

It owns batching, progress, stopping and what becomes of an interrupted run; the model brings
`begin`, `step`, `done` and `finish` (musegen/models/base.py), and a family that needs no torch to
sample is sampled without it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from musegen.sampling.draw import Draw

__all__ = ["Samples", "sample"]


@dataclass(frozen=True)
class Samples:
    """What sampling gave."""

    results: list[Any]
    """One a request, in order; of an interrupted run, what had been finished by then."""
    steps: int
    """How often the model stepped."""
    interrupted: bool = False
    """Whether Ctrl-C, or `stop`, ended it early."""


class Steps(Protocol):
    """The sampling half of a `GenerativeModel` (musegen/models/base.py)."""

    def sampling(self) -> AbstractContextManager[None]: ...

    def begin(self, requests: Sequence[Any], draw: Any) -> Any: ...

    def step(self, state: Any, draw: Any) -> Any: ...

    def done(self, state: Any) -> bool: ...

    def finish(self, state: Any) -> list[Any]: ...


def sample(
    model: Steps,
    requests: Sequence[Any],
    draw: Draw,
    *,
    batch_size: int = 8,
    on_step: Callable[[int], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Samples:
    """Samples each request once.

    Args:
        model: any family.
        requests: what the family's `begin` takes, one a sample.
        draw: the randomness; sample i draws from stream i, whatever the batch size.
        batch_size: how many samples go side by side.
        on_step: called after every step with the number of steps so far.
        stop: asked after every step; true ends the run as Ctrl-C does.

    Returns:
        The results; on Ctrl-C those finished so far, `interrupted` true.
    """
    results: list[Any] = []
    steps, interrupted = 0, False
    with model.sampling():
        for first in range(0, len(requests), max(1, batch_size)):
            state, own_draw = None, draw.shifted(first)
            batch = requests[first : first + max(1, batch_size)]
            try:
                state = model.begin(batch, own_draw)
                while not model.done(state):
                    state = model.step(state, own_draw)
                    steps += 1
                    if on_step is not None:
                        on_step(steps)
                    if stop is not None and stop():
                        interrupted = True
                        break
            except KeyboardInterrupt:
                interrupted = True
            if state is not None:
                results += model.finish(state)
            if interrupted:
                break
    return Samples(results, steps, interrupted)
