"""Holds what a model wrote against what humans wrote in the same place.

Figures of music are of the requests that gave any, and say of how many; requests that failed count
in the shares of what is valid.

Letters: N requests, D distances. The first axis of every array is (held-out, generated, shuffled).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from musegen.evaluation.bar_similarity import DISTANCES, by_distance, shuffled_bars
from musegen.evaluation.generation import CHECKS, Outcome
from musegen.evaluation.intervals import Estimate, closeness_interval, mean_interval
from musegen.evaluation.music_metrics import (
    METRICS,
    drum_pattern_correlation,
    key_correlation,
    measure_music,
)
from musegen.evaluation.originality import Originality, OriginalityIndex
from musegen.evaluation.report import Comparison, Curve, OriginalityFacts, TaskResult, Timing
from musegen.music.score import Score

__all__ = ["Figures", "closer", "result_of"]

PAIRED = (
    ("key_correlation", "correlation with what is given"),
    ("drum_pattern_correlation", "correlation with the bars before"),
)
"""Figures of new notes and their context together."""

SHAPE = (("bar_similarity", "share of notes in common"), ("exact_copies", "share of bar pairs"))


@dataclass(frozen=True, eq=False)
class Figures:
    """All figures of the requests of a task; NaN where one is undefined, or the request failed."""

    names: tuple[str, ...]
    """(N,) of the pieces that the requests are from."""
    columns: Mapping[str, np.ndarray]
    """Each (3, N)."""
    curves: Mapping[str, np.ndarray]
    """Each (3, N, D)."""
    units: Mapping[str, str]

    @classmethod
    def of(cls, task: str, outcomes: Sequence[Outcome], seed: int = 0) -> Figures:
        """Measures the references, the results, and the references with their bars shuffled."""
        count = len(outcomes)
        units = {metric.name: metric.unit for metric in METRICS} | dict(SHAPE)
        units |= {name: unit for name, unit in PAIRED if task == "continue" or name[0] != "d"}
        columns = {name: np.full((3, count), np.nan) for name in units}
        curves = {name: np.full((3, count, DISTANCES), np.nan) for name, _ in SHAPE}
        for number, outcome in enumerate(outcomes):
            if outcome.music is None:
                continue
            human = outcome.request.reference
            mixed = shuffled_bars(human, outcome.request.excerpt.rng(seed, "shuffled"))
            for row, score in enumerate((human, outcome.music, mixed)):
                found = measure_music(score) | _with_context(outcome.request.context, score)
                for (name, _), line in zip(SHAPE, by_distance(score), strict=True):
                    curves[name][row, number] = line
                    found[name] = float(np.nanmean(line)) if (line == line).any() else np.nan
                for name in columns:
                    columns[name][row, number] = found[name]
        names = tuple(outcome.request.excerpt.name for outcome in outcomes)
        return cls(names, columns, curves, units)

    def gaps(self, name: str) -> np.ndarray:
        """(N,): generated minus held-out."""
        return self.columns[name][1] - self.columns[name][0]


def _with_context(context: Score | None, score: Score) -> dict[str, float]:
    """The figures of `PAIRED`."""
    if context is None:
        return {name: np.nan for name, _ in PAIRED}
    found = (key_correlation(context, score), drum_pattern_correlation(context, score))
    return {name: value for (name, _), value in zip(PAIRED, found, strict=True)}


def closer(own: Figures, other: Figures, seed: int = 0) -> dict[str, Estimate]:
    """By figure: how much further from held-out music the first is, paired by request.

    |mean gap of the first| - |mean gap of the second| over the requests that both have: below 0 the
    first is closer.
    """
    count = min(len(own.names), len(other.names))
    found = {}
    for name in own.columns:
        gaps = (own.gaps(name)[:count], other.gaps(name)[:count])
        estimate = closeness_interval(*gaps, own.names[:count], seed=seed)
        if estimate is not None:
            found[name] = estimate
    return found


def result_of(
    task: str,
    bars: int,
    outcomes: Sequence[Outcome],
    figures: Figures,
    index: OriginalityIndex | None = None,
    seed: int = 0,
) -> TaskResult:
    """The figures of a task with their intervals; `outcomes` must not be empty."""
    asked = len(outcomes)
    done = [outcome for outcome in outcomes if outcome.music is not None]
    music = [
        _comparison(name, figures.units[name], column, figures.names, seed)
        for name, column in figures.columns.items()
    ]
    return TaskResult(
        task=task,
        bars=bars,
        asked=asked,
        done=len(done),
        pieces=len({*figures.names}),
        validity={
            **{name: sum(one.checks[name] for one in outcomes) / asked for name in CHECKS},
            "valid": sum(all(one.checks.values()) for one in outcomes) / asked,
        },
        failures=tuple(outcome.failure for outcome in outcomes if outcome.failure),
        music=tuple(each for each in music if each.held_out is not None),
        curves=tuple(
            _curve(name, curve, figures.names, seed) for name, curve in figures.curves.items()
        ),
        originality=_originality(done, index, seed) if index is not None else None,
        timing=_timing(done),
    )


def _comparison(
    name: str,
    unit: str,
    column: np.ndarray,
    names: Sequence[str],
    seed: int,
) -> Comparison:
    held_out, generated, shuffled = column
    human = mean_interval(held_out, names, seed=seed)
    model = mean_interval(generated, names, seed=seed)
    return Comparison(
        name,
        unit,
        human,
        model,
        mean_interval(shuffled, names, seed=seed),
        gap=mean_interval(generated - held_out, names, seed=seed),
        within=None if human is None or model is None else human.holds(model.value),
    )


def _curve(name: str, curve: np.ndarray, names: Sequence[str], seed: int) -> Curve:
    lines: list[tuple[Estimate | None, ...]] = [
        tuple(
            mean_interval(values[:, distance], names, seed=seed)
            for distance in range(values.shape[1])
        )
        for values in curve
    ]

    def error(line: tuple[Estimate | None, ...]) -> float | None:
        gaps = [
            abs(one.value - human.value)
            for one, human in zip(line, lines[0], strict=True)
            if one is not None and human is not None
        ]
        return float(np.mean(gaps)) if gaps else None

    return Curve(name, lines[0], lines[1], lines[2], error(lines[1]), error(lines[2]))


def _originality(done: Sequence[Outcome], index: OriginalityIndex, seed: int) -> OriginalityFacts:
    names = [outcome.request.excerpt.name for outcome in done]

    def checked(scores: Sequence[Score | None]) -> list[Originality | None]:
        return [index.check(score) if score is not None else None for score in scores]

    def unusual(found: Sequence[Originality | None]) -> Estimate | None:
        values = [np.nan if one is None else float(one.unusual) for one in found]
        return mean_interval(np.array(values, np.float64), names, seed=seed)

    def runs(found: Sequence[Originality | None]) -> list[int]:
        return [one.notes for one in found if one is not None] or [0]

    model = checked([outcome.music for outcome in done])
    human = checked([outcome.request.reference for outcome in done])
    return OriginalityFacts(
        checked=sum(one is not None for one in model),
        unusual=unusual(model),
        human_unusual=unusual(human),
        longest=max(runs(model)),
        percentile_95=float(np.percentile(runs(model), 95)),
        human_percentile_95=float(np.percentile(runs(human), 95)),
        human_longest=max(runs(human)),
        copies=tuple(
            f"{name}: {one.line()}"
            for name, one in zip(names, model, strict=True)
            if one is not None and one.unusual
        ),
    )


def _timing(done: Sequence[Outcome]) -> Timing:
    seconds = sum(outcome.seconds for outcome in done)
    notes = sum(outcome.notes for outcome in done)
    return Timing(seconds, notes, notes / seconds if seconds else 0.0)
