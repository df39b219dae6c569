"""Where all randomness of sampling comes from.

Every sample has a random stream of its own, seeded by (seed, index of the sample): it does not
depend on what else is in the batch, nor on the batch size. Ids are drawn by inverting the
cumulative distribution in float64, from logits that the engine has rounded far above its
arithmetic noise, so that the same seed gives the same ids whatever the batch size, the cache or
the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from musegen.errors import UsageError
from musegen.sampling import rules

__all__ = ["Draw"]


@dataclass(frozen=True)
class Draw:
    """How to draw (implements `musegen.models.base.DrawLike`)."""

    seed: int = 0
    """0..2**63-1; each sample's stream is seeded by this and its index."""
    temperature: float = 1.0
    """0 takes the likeliest id."""
    top_k: int = 0
    """0 is off."""
    top_p: float = 1.0
    min_p: float = 0.0
    rules: tuple[Callable[[np.ndarray], np.ndarray], ...] = ()
    """Further rules, applied before the temperature."""
    first: int = 0
    """Index of the sample in row 0 of the batch."""
    _changes: bool = field(default=False, init=False, repr=False, compare=False)
    """Whether anything but the mask changes the logits."""
    _streams: dict[int, np.random.PCG64] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise UsageError(f"random seed {self.seed}: it must be from 0 to 2**63 - 1")
        probe = np.zeros((1, 2))
        rules.temperature(probe, self.temperature)
        rules.top_k(probe, self.top_k)
        rules.top_p(probe, self.top_p)
        rules.min_p(probe, self.min_p)
        off = (self.temperature, self.top_k, self.top_p, self.min_p) == (1.0, 0, 1.0, 0.0)
        object.__setattr__(self, "_changes", bool(self.rules) or not off)

    def to_dict(self) -> dict[str, float]:
        """The filters that are not the defaults, by name."""
        default = Draw()
        names = ("temperature", "top_k", "top_p", "min_p")
        return {n: getattr(self, n) for n in names if getattr(self, n) != getattr(default, n)}

    def shifted(self, first: int) -> Draw:
        """The same for a batch that begins `first` samples later; the streams are shared."""
        return replace(self, first=self.first + first)

    def choose(self, logits: np.ndarray, allowed: np.ndarray, rows: Sequence[int]) -> np.ndarray:
        """Ids (B,) drawn from logits (B, V) where `allowed` (B, V) is true.

        Raises:
            GenerationError: a row allows nothing.
        """
        filtered = np.where(allowed, logits, -np.inf)
        highest = filtered.max(axis=-1, keepdims=True)
        if highest.min() == -np.inf:
            rules.allow(filtered, allowed)  # says what is wrong
        if self._changes:
            for rule in self.rules:
                filtered = rule(filtered)
            filtered = rules.temperature(filtered, self.temperature)
            filtered = rules.top_k(filtered, self.top_k)
            filtered = rules.top_p(filtered, self.top_p)
            filtered = rules.min_p(filtered, self.min_p)
            highest = filtered.max(axis=-1, keepdims=True)
        shares = np.exp(filtered - highest)
        # Summed one after another: what cannot come adds nothing, wherever it stands.
        cumulative = shares.cumsum(axis=-1)
        ids = np.empty(len(cumulative), dtype=np.int64)
        for b, (row, each) in enumerate(zip(rows, cumulative, strict=True)):
            ids[b] = each.searchsorted(self._uniform(row) * each[-1], "right")
        if ids.max(initial=0) == filtered.shape[-1]:
            # The last id with any mass takes what rounding leaves above the sum.
            ids = np.minimum(ids, _last_possible(filtered))
        return ids

    def only(self, allowed: np.ndarray, rows: Sequence[int]) -> np.ndarray:
        """What `choose` draws where each row of `allowed` (B, V) is true once: no logits matter."""
        for row in rows:
            self._uniform(row)
        return allowed.argmax(axis=-1)

    def noise(self, shape: Sequence[int], rows: Sequence[int]) -> np.ndarray:
        """Standard normal noise of shape (len(rows), *shape), float64."""
        generators = (np.random.Generator(self._stream(row)) for row in rows)
        return np.stack([generator.standard_normal(tuple(shape)) for generator in generators])

    def guided(self, told: Any, untold: Any, weight: float) -> Any:
        """`untold + weight (told - untold)`: of logits, of noise, of velocities."""
        return rules.guide(told, untold, weight)

    def _uniform(self, row: int) -> float:
        """The next number of a row's stream, in [0, 1): 53 bits, as in the PCG paper's doubles."""
        return (int(self._stream(row).random_raw()) >> 11) * 2.0**-53

    def _stream(self, row: int) -> np.random.PCG64:
        index = self.first + row
        if index not in self._streams:
            self._streams[index] = np.random.PCG64(np.random.SeedSequence([self.seed, index]))
        return self._streams[index]


def _last_possible(logits: np.ndarray) -> np.ndarray:
    """(B,): the last id of each row that is not forbidden."""
    possible = np.isfinite(logits)
    return logits.shape[-1] - 1 - np.argmax(possible[:, ::-1], axis=-1)
