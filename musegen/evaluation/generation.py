"""Runs the requests of a task, and holds what comes out against what humans wrote there.

Nothing that fails is dropped: it counts as not valid, with its reason. Figures of music are of the
requests that gave any, and say of how many.

Letters: N requests, D distances.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from musegen.errors import MusegenError
from musegen.evaluation.bar_similarity import by_distance, shuffled_bars
from musegen.evaluation.intervals import Estimate, mean_interval
from musegen.evaluation.music_metrics import (
    METRICS,
    drum_pattern_correlation,
    key_correlation,
    measure_music,
)
from musegen.evaluation.originality import Originality, OriginalityIndex
from musegen.evaluation.report import Comparison, Curve, OriginalityFacts, TaskResult, Timing
from musegen.evaluation.tasks import Request
from musegen.evaluation.validity import opens, unchanged
from musegen.music.piece import Piece
from musegen.music.score import Score

__all__ = ["Composer", "Outcome", "generate", "result_of"]

Composer = Callable[..., Any]
"""`musegen.compose` with a model."""

CHECKS = ("composed", "opens", "asked_bars", "rest_unchanged", "rules_hold")
"""What must be true of each piece; it is valid where all of it is."""

PAIRED = (
    ("key_correlation", "correlation with what is given"),
    ("drum_pattern_correlation", "correlation with the bars before"),
)
"""Figures of new notes and their context together."""

SHAPE = (("bar_similarity", "share of notes in common"), ("exact_copies", "share of bar pairs"))


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came of one request."""

    request: Request
    music: Score | None
    """The written notes; None where it failed."""
    checks: dict[str, bool]
    failure: str = ""
    seconds: float = 0.0
    notes: int = 0


def generate(
    requests: Sequence[Request],
    compose: Composer,
    seed: int = 0,
    on_done: Callable[[int], None] | None = None,
) -> tuple[list[Outcome], bool]:
    """The outcomes, and whether Ctrl-C ended it: those finished by then are there.

    Request number i is composed with the random seed `seed + i`.
    """
    outcomes: list[Outcome] = []
    try:
        for number, request in enumerate(requests):
            begin = time.perf_counter()
            source = None if request.seed is None else Piece(request.seed)
            try:
                piece = compose(source, random_seed=seed + number, **request.options)
            except MusegenError as error:
                failure = f"{request.excerpt.name}: {error}"
                outcomes.append(Outcome(request, None, dict.fromkeys(CHECKS, False), failure))
                continue
            if piece.info["interrupted"]:
                return outcomes, True
            outcomes.append(_checked(request, piece, time.perf_counter() - begin))
            if on_done is not None:
                on_done(number + 1)
    except KeyboardInterrupt:
        return outcomes, True
    return outcomes, False


def _checked(request: Request, piece: Piece, seconds: float) -> Outcome:
    spans = piece.info["stretches"]
    checks = {
        "composed": True,
        "opens": opens(piece),
        "asked_bars": piece.info["bars"] == request.bars and piece.bars >= request.last_bar,
        "rest_unchanged": request.seed is None or unchanged(piece.score, request.seed, spans),
        "rules_hold": all(line["holds"] is not False for line in piece.info["controls"]),
    }
    wrong = [name for name, holds in checks.items() if not holds]
    failure = f"{request.excerpt.name}: not {', '.join(wrong)}" if wrong else ""
    music = request.written(piece) if checks["asked_bars"] else None
    return Outcome(request, music, checks, failure, seconds, int(piece.info["notes"]))


def result_of(
    task: str,
    bars: int,
    outcomes: Sequence[Outcome],
    index: OriginalityIndex | None,
    seed: int = 0,
) -> TaskResult:
    """The figures of a task; `outcomes` must not be empty."""
    asked = len(outcomes)
    done = [outcome for outcome in outcomes if outcome.music is not None]
    names = [outcome.request.excerpt.name for outcome in done]
    human = [outcome.request.reference for outcome in done]
    model = [outcome.music for outcome in done if outcome.music is not None]
    mixed = [
        shuffled_bars(score, outcome.request.excerpt.rng(seed, "shuffled"))
        for score, outcome in zip(human, done, strict=True)
    ]
    measured = [[measure_music(score) for score in scores] for scores in (human, model, mixed)]

    def compared(name: str, unit: str, columns: Sequence[Sequence[float]]) -> Comparison:
        return _comparison(name, unit, columns, names, seed)

    music = [
        compared(
            metric.name, metric.unit, [[row[metric.name] for row in rows] for rows in measured]
        )
        for metric in METRICS
    ]
    curves = [
        np.array([by_distance(score) for score in scores]) for scores in (human, model, mixed)
    ]
    curves = [each.reshape(-1, 2, each.shape[-1] if each.ndim == 3 else 1) for each in curves]
    for place, (name, unit) in enumerate(SHAPE):
        music.append(compared(name, unit, [_means(each[:, place]) for each in curves]))
    for (name, unit), correlate in zip(
        PAIRED, (key_correlation, drum_pattern_correlation), strict=True
    ):
        if name.startswith("drum") and task != "continue":
            continue
        columns = [
            [
                np.nan if o.request.context is None else correlate(o.request.context, score)
                for o, score in zip(done, scores, strict=True)
            ]
            for scores in (human, model, mixed)
        ]
        music.append(compared(name, unit, columns))
    return TaskResult(
        task=task,
        bars=bars,
        asked=asked,
        done=len(done),
        pieces=len({outcome.request.excerpt.name for outcome in outcomes}),
        validity={
            **{name: sum(one.checks[name] for one in outcomes) / asked for name in CHECKS},
            "valid": sum(all(one.checks.values()) for one in outcomes) / asked,
        },
        failures=tuple(outcome.failure for outcome in outcomes if outcome.failure),
        music=tuple(each for each in music if each.held_out is not None),
        curves=tuple(
            _curve(name, [each[:, place] for each in curves], names, seed)
            for place, (name, _) in enumerate(SHAPE)
        ),
        originality=_originality(done, index, names, seed) if index is not None else None,
        timing=_timing(done),
    )


def _means(rows: np.ndarray) -> list[float]:
    """The mean of each row's defined entries; NaN where there are none."""
    return [float(np.nanmean(row)) if (~np.isnan(row)).any() else np.nan for row in rows]


def _comparison(
    name: str,
    unit: str,
    columns: Sequence[Sequence[float]],
    names: Sequence[str],
    seed: int,
) -> Comparison:
    held_out, generated, shuffled = (np.array(column, np.float64) for column in columns)
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


def _curve(name: str, columns: Sequence[np.ndarray], names: Sequence[str], seed: int) -> Curve:
    """From three (N, D) arrays: held-out, generated, shuffled."""
    lines: list[tuple[Estimate | None, ...]] = [
        tuple(
            mean_interval(values[:, distance], names, seed=seed)
            for distance in range(values.shape[1])
        )
        for values in columns
    ]

    def error(line: tuple[Estimate | None, ...]) -> float | None:
        gaps = [
            abs(one.value - human.value)
            for one, human in zip(line, lines[0], strict=True)
            if one is not None and human is not None
        ]
        return float(np.mean(gaps)) if gaps else None

    return Curve(name, lines[0], lines[1], lines[2], error(lines[1]), error(lines[2]))


def _originality(
    done: Sequence[Outcome], index: OriginalityIndex, names: Sequence[str], seed: int
) -> OriginalityFacts:
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
