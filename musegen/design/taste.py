"""A designer's taste: what is liked, learned from which of two is preferred.

Bradley & Terry 1952: P(a over b) = sigmoid(w . (f(a) - f(b))), with a Gaussian prior on the weights
w of the features f. The weights are found by L-BFGS, how sure they are by Laplace's approximation
(MacKay 2003, chapter 27), and which two are shown next by Thompson sampling: each is the best of
weights drawn from what is known, so that what is unsure is asked about, and what is bad is not.

Features are numbers of about -1 to 1 by name (`Evaluation.features`), of designs as of pieces and
covers: one taste serves them all.

Letters: K features, R ratings, M candidates.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from musegen.errors import DataError, UsageError

__all__ = ["Rating", "Taste", "add_rating", "read_ratings"]

PRIOR = 2.0
"""Standard deviation of a weight: a feature that goes from -1 to 1 may well settle a choice."""

LAPSE = 0.1
"""Share of answers that are a coin's: a slip of the hand weighs no more than that."""

CONVERGED = 1e-6
"""Largest part of the gradient at which a fit has converged."""


@dataclass(frozen=True)
class Rating:
    """One comparison: self-contained, so that it can be carried to another job."""

    kind: str
    """Of what: `sleeve`, `bar`, `piece`, `cover`."""
    liked: Mapping[str, float]
    """Features of the one that was preferred."""
    other: Mapping[str, float]
    names: tuple[str, str] = ("", "")
    """Of both, for people: file names."""

    def __post_init__(self) -> None:
        """Cross checks. Raises UsageError."""
        if not self.kind or not self.liked or set(self.liked) != set(self.other):
            raise UsageError("a rating needs a kind and the same features of both")
        if not all(math.isfinite(v) for one in (self.liked, self.other) for v in one.values()):
            raise UsageError("features of a rating must be finite numbers")

    def to_line(self) -> str:
        """A line of JSON."""
        told = {"format": 1, "kind": self.kind, "liked": dict(self.liked)}
        told |= {"other": dict(self.other), "names": list(self.names)}
        return json.dumps(told, sort_keys=True, ensure_ascii=True)


def add_rating(path: str | os.PathLike[str], rating: Rating) -> None:
    """Adds a line to a file of ratings, which is made where it is not there.

    A line is written at once: what was rated before is never lost.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("a", encoding="utf-8") as file:
        file.write(rating.to_line() + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_ratings(path: str | os.PathLike[str], kind: str | None = None) -> list[Rating]:
    """The ratings of a file, of one kind alone where it is named.

    Raises:
        DataError: no such file, an empty one, a damaged line (by number), or none of the kind.
    """
    try:
        lines = Path(path).read_text("utf-8").splitlines()
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file of ratings") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as ratings ({error})") from None
    found = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            data = json.loads(line)
            if data["format"] != 1:
                raise ValueError(f"format {data['format']}")
            first, second = data["names"]
            liked, other = (
                {str(k): float(v) for k, v in data[side].items()} for side in ("liked", "other")
            )
            found.append(Rating(str(data["kind"]), liked, other, (str(first), str(second))))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path}:{number}: no rating ({error}); remove the line") from None
    if not found:
        raise DataError(f"{path} holds no ratings yet: `musegen design rate` adds them")
    kept = [one for one in found if kind is None or one.kind == kind]
    if not kept:
        kinds = ", ".join(sorted({one.kind for one in found}))
        raise DataError(f"{path} holds ratings of {kinds}, none of {kind}")
    return kept


@dataclass(frozen=True, eq=False)
class Taste:
    """What is known of a taste."""

    names: tuple[str, ...]
    """Of the features."""
    weights: np.ndarray
    """(K,) the likeliest."""
    precision: np.ndarray
    """(K, K): of the Gaussian around them."""
    ratings: int
    gradient: float
    """Its largest part where the fit stopped."""

    @property
    def converged(self) -> bool:
        """Whether the fit is at its end; else `note` says what to do."""
        return self.gradient < CONVERGED

    @property
    def note(self) -> str:
        """What a user should know; empty where all is well."""
        if self.converged:
            return ""
        return (
            f"the fit of the taste has not converged (gradient {self.gradient:.1e} after "
            f"{self.ratings} ratings): its order is rough; remove features of huge values"
        )

    @classmethod
    def prior(cls, names: Sequence[str]) -> Taste:
        """Before the first rating."""
        size = len(names)
        return cls(tuple(names), np.zeros(size), np.eye(size) / PRIOR**2, 0, 0.0)

    @classmethod
    def fit(cls, ratings: Iterable[Rating], iterations: int = 200) -> Taste:
        """The likeliest weights after ratings, which must name the same features.

        Raises UsageError: no ratings, or of other features.
        """
        given = list(ratings)
        if not given:
            raise UsageError("no ratings to learn a taste from")
        names = tuple(sorted(given[0].liked))
        for one in given:
            if set(one.liked) != set(names):
                odd = sorted(set(one.liked) ^ set(names))
                raise UsageError(
                    f"ratings of other features: {', '.join(odd[:3])}; keep those of one kind"
                )
        apart = np.array([[one.liked[n] - one.other[n] for n in names] for one in given])
        weights, gradient = _fitted(apart, iterations)
        margin = apart @ weights
        chance = 1 / (1 + np.exp(-margin))
        curved = (apart * (chance * (1 - chance))[:, None]).T @ apart
        precision = curved + np.eye(len(names)) / PRIOR**2
        return cls(names, weights, precision, len(given), gradient)

    def matrix(self, candidates: Sequence[Mapping[str, float]]) -> np.ndarray:
        """(M, K) features of candidates. Raises UsageError where one lacks a feature."""
        for one in candidates:
            if lacking := [name for name in self.names if name not in one]:
                raise UsageError(
                    f"the ratings are of other things: these have no {', '.join(lacking[:3])}"
                )
        return np.array([[one[name] for name in self.names] for one in candidates])

    def scores(self, candidates: Sequence[Mapping[str, float]]) -> np.ndarray:
        """(M,): higher is liked better."""
        return self.matrix(candidates) @ self.weights

    def order(self, candidates: Sequence[Mapping[str, float]]) -> list[int]:
        """The numbers of candidates, the best liked first."""
        return np.argsort(-self.scores(candidates), kind="stable").tolist()

    @cached_property
    def _spread(self) -> np.ndarray:
        """(K, K): what turns standard normal numbers into draws of weights."""
        return np.linalg.inv(np.linalg.cholesky(self.precision)).T

    def drawn(self, rng: np.random.Generator) -> np.ndarray:
        """(K,) weights from what is known."""
        return self.weights + self._spread @ rng.standard_normal(len(self.names))

    def next_pair(
        self, candidates: Sequence[Mapping[str, float]], rng: np.random.Generator
    ) -> tuple[int, int]:
        """Two candidates to show: the best of two draws of weights, unlike each other.

        Raises UsageError for fewer than two.
        """
        if len(candidates) < 2:
            raise UsageError("two designs at least are needed to compare")
        matrix = self.matrix(candidates)
        first, second = (matrix @ self.drawn(rng) for _ in range(2))
        one = int(np.argmax(first))
        second[one] = -np.inf
        return one, int(np.argmax(second))


def _fitted(apart: np.ndarray, iterations: int) -> tuple[np.ndarray, float]:
    """The likeliest weights for differences (R, K), and the largest part of the gradient there.

    Minus the log likelihood, of sigmoid mixed with a coin, and w^2 / (2 PRIOR^2).
    """
    import torch

    rows = torch.as_tensor(apart, dtype=torch.float64)
    weights = torch.zeros(rows.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weights],
        max_iter=iterations,
        tolerance_grad=CONVERGED / 10,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Any:
        optimizer.zero_grad()
        chance = LAPSE / 2 + (1 - LAPSE) * torch.sigmoid(rows @ weights)
        value = -chance.log().sum() + weights.square().sum() / (2 * PRIOR**2)
        value.backward()
        return value

    optimizer.step(closure)
    closure()
    gradient = float(weights.grad.abs().max()) if weights.grad is not None else math.nan
    return weights.detach().numpy().copy(), gradient
