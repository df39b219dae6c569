"""Optimisers behind one call: random search and CMA-ES, in the numbers themselves or in a latent.

Feasible designs go before all others, and among those that are not the least broken ones
(Deb 2000, section 3); every constraint is searched with a margin, and every winner is judged by the
finer evaluator, which no search sees.

Letters: N numbers of a design, P points.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from musegen.design.base import Design, Evaluation, Space
from musegen.errors import OutputError, UsageError

__all__ = ["METHODS", "Box", "Found", "Proposal", "search"]

METHODS = ("cma", "random")

MARGIN = 0.05
"""Scales inside its limit that a constraint must hold during a search."""

APART = 0.05
"""Least distance of two proposals, as a share of the bounds' widths, mean over the numbers."""

INFEASIBLE = 1e9
"""What a broken design counts as, before how broken it is."""

OnProgress = Callable[[float, float | None, str], None]


class Box:
    """The numbers themselves: each coordinate is a share of its bounds' width."""

    bounded = True

    def __init__(self, bounds: np.ndarray, start: np.ndarray | None = None) -> None:
        """`start` (N,) are numbers; the middle by default."""
        self.low, self.high = np.asarray(bounds, dtype=np.float64).T
        self.size = len(self.low)
        width = np.maximum(self.high - self.low, 1e-12)
        self.start, self.step = np.full(self.size, 0.5), 0.2
        if start is not None:
            self.step = 0.05  # near what is known to be sound
            self.start = np.clip((start - self.low) / width, 0.02, 0.98)

    def numbers(self, points: np.ndarray) -> np.ndarray:
        """(P, N) from 0 to 1 -> (P, N) within the bounds."""
        return self.low + np.clip(points, 0.0, 1.0) * (self.high - self.low)


@dataclass(frozen=True, eq=False)
class Proposal:
    """One design that a search found."""

    numbers: np.ndarray
    """(N,)."""
    made: Any
    """What `Design.decode` makes of them."""
    searched: Evaluation
    """By the evaluator that the search used."""
    judged: Evaluation
    """By the finer one."""

    @property
    def feasible(self) -> bool:
        """Whether every constraint holds, by both evaluators."""
        return not self.searched.broken() and not self.judged.broken()


@dataclass(frozen=True, eq=False)
class Found:
    """What a search found."""

    proposals: tuple[Proposal, ...]
    """The best, unlike each other, best first by the finer evaluator."""
    best: np.ndarray
    """(evaluations,): the best feasible objective so far; infinity before the first."""
    evaluations: int
    interrupted: bool = False
    """Whether Ctrl-C ended it early: the proposals are those found until then."""


def search(
    design: Design,
    *,
    method: str = "cma",
    space: Space | None = None,
    evaluations: int = 600,
    num: int = 1,
    margin: float = MARGIN,
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> Found:
    """Looks for designs with a low objective; the same seed finds the same ones.

    Args:
        design: the kind of design, with its request.
        method: a name of `METHODS`.
        space: where to look; the numbers within their bounds (`Box`), or a latent space.
        evaluations: how many designs are evaluated.
        num: how many proposals to keep. They differ from each other by `APART` at least.
        margin: scales inside its limit that each constraint is to hold.
        seed: of everything random.
        on_progress: called as `on_progress(done, total, text)`.

    Raises:
        UsageError: an unknown method, or nothing to evaluate.
        OutputError: CMA-ES is asked for, and `cma` is not installed.
    """
    if method not in METHODS:
        raise UsageError(f"method '{method}': there are {', '.join(METHODS)}")
    if evaluations < 1 or num < 1:
        raise UsageError(f"{evaluations} evaluations, num {num}: 1 or more of each")
    used = space if space is not None else Box(design.bounds, design.start)
    log = _Log(design, used, evaluations, margin, on_progress)
    rng = np.random.default_rng(seed)
    interrupted = False
    try:
        (_cma if method == "cma" else _random)(log, rng)
    except KeyboardInterrupt:
        interrupted = True
        if not log.scores:
            raise
    return Found(log.winners(num), np.array(log.best), len(log.scores), interrupted)


class _Log:
    """Everything that was evaluated."""

    def __init__(
        self,
        design: Design,
        space: Space,
        total: int,
        margin: float,
        on_progress: OnProgress | None,
    ) -> None:
        self.design, self.space, self.total, self.margin = design, space, total, margin
        self.on_progress = on_progress
        self.numbers: list[np.ndarray] = []
        self.found: list[Evaluation] = []
        self.scores: list[float] = []
        self.best: list[float] = []

    @property
    def left(self) -> int:
        return self.total - len(self.scores)

    def scored(self, points: np.ndarray) -> list[float]:
        """The scores of points (P, size), lower is better; no more of them than are left."""
        scores = []
        for numbers in self.space.numbers(points[: self.left]):
            one = self.design.evaluate(self.design.decode(numbers))
            excess = one.excess(self.margin)
            score = one.objective if excess <= 0 else INFEASIBLE * (1 + excess)
            if not math.isfinite(score):
                score = INFEASIBLE**2
            scores.append(score)
            self.numbers.append(numbers)
            self.found.append(one)
            self.scores.append(score)
            feasible = score if score < INFEASIBLE else math.inf
            self.best.append(min(feasible, self.best[-1] if self.best else math.inf))
        if self.on_progress is not None:
            text = f"best {self.best[-1]:.4g}" if math.isfinite(self.best[-1]) else "none holds yet"
            self.on_progress(len(self.scores), self.total, text)
        return scores

    def winners(self, num: int) -> tuple[Proposal, ...]:
        """The best `num` that are unlike each other."""
        width = np.maximum(self.design.bounds[:, 1] - self.design.bounds[:, 0], 1e-12)
        chosen: list[int] = []
        for index in np.argsort(self.scores, kind="stable").tolist():
            own = self.numbers[index]
            if all(np.abs((own - self.numbers[k]) / width).mean() >= APART for k in chosen):
                chosen.append(index)
            if len(chosen) == num:
                break
        made = [self.design.decode(self.numbers[index]) for index in chosen]
        proposals = [
            Proposal(self.numbers[k], one, self.found[k], self.design.evaluate(one, fine=True))
            for k, one in zip(chosen, made, strict=True)
        ]
        return tuple(
            sorted(proposals, key=lambda one: (one.judged.excess() > 0, one.judged.objective))
        )


def _random(log: _Log, rng: np.random.Generator) -> None:
    """Points anywhere in the space."""
    while log.left > 0:
        shape = (min(log.left, 32), log.space.size)
        log.scored(rng.random(shape) if log.space.bounded else rng.standard_normal(shape))


def _cma(log: _Log, rng: np.random.Generator) -> None:
    """CMA-ES (Hansen 2016) by the `cma` package; what has settled begins anew, from elsewhere."""
    try:
        import cma
    except ImportError:
        raise OutputError('CMA-ES needs cma: pip install "musegen[design]"') from None
    size, bounded = log.space.size, log.space.bounded
    first = True
    while log.left > 0:
        start = log.space.start
        if not first:
            start = rng.random(size) if bounded else rng.standard_normal(size)
        options = {
            "verbose": -9,
            "verb_log": 0,
            "verb_disp": 0,
            "seed": math.nan,  # it would seed numpy's own generator, which is not ours
            "randn": lambda *shape: rng.standard_normal(shape),
            "tolfunhist": 0.0,
            "tolflatfitness": 30,
        }
        if bounded:
            options["bounds"] = [0.0, 1.0]
        strategy = cma.CMAEvolutionStrategy(start, log.space.step, options)
        while log.left > 0 and not strategy.stop():
            points = np.asarray(strategy.ask())
            scores = log.scored(points)
            if len(scores) < len(points):
                return
            strategy.tell(points, scores)
        first = False
