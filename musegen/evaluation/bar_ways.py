"""Ways between bars: how evenly they go, beside a blend of notes and the nearest training bars.

Letters: N bars, Z numbers of a latent.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from musegen.data.shards import ShardPiece
from musegen.evaluation.likelihood import HeldOutDocuments, network_nats
from musegen.tokens.bars import BarShape
from musegen.tokens.grid import Grid
from musegen.tokens.tokenizer import PieceInfo
from musegen.tokens.ways import BarNotes, f1, notes_of

__all__ = [
    "BarSample",
    "blend",
    "interpolation",
    "latents_of",
    "way_figures",
]

POINTS = 11
"""Of a way, both ends included."""


@dataclass(frozen=True, eq=False)
class BarSample:
    """A held-out bar."""

    shape: BarShape
    notes: BarNotes
    grid: Grid
    piece: str


def latents_of(model: Any, bars: Sequence[BarSample], refine: int = 0) -> np.ndarray:
    """(N, Z): the means of the posteriors, bettered by so many steps."""
    found = [model.encode(bar.grid, refine=refine)[1] for bar in bars]
    return np.concatenate(found) if found else np.zeros((0, model.config.latent))


def way_figures(points: Sequence[BarNotes]) -> tuple[float, float]:
    """Of the bars of a way: share of monotone steps, and largest jump over mean jump.

    A step is monotone when the bar is no nearer to the first one after it, and no farther from the
    last; the distance of two bars is 1 - F1.
    """
    sets = [notes_of(bar) for bar in points]
    away = [1 - f1(sets[0], each) for each in sets]
    left = [1 - f1(sets[-1], each) for each in sets]
    jumps = [1 - f1(one, two) for one, two in itertools.pairwise(sets)]
    steps = len(sets) - 1
    good = sum(
        away[k + 1] >= away[k] - 1e-9 and left[k + 1] <= left[k] + 1e-9 for k in range(steps)
    )
    mean = sum(jumps) / steps
    return good / steps, max(jumps) / mean if mean else 1.0


def blend(one: BarNotes, other: BarNotes, share: float, rng: np.random.Generator) -> BarNotes:
    """The blend of the data: a share of the notes of `other`, and what is left of `one`.

    Notes change sides in one random order for all shares, so a way of blends goes step by step.
    """
    result = []
    for mine, theirs in zip(one, other, strict=True):
        order = rng.random(len(mine) + len(theirs))
        kept = [row for row, at in zip(mine.tolist(), order, strict=False) if at >= share]
        taken = [
            row for row, at in zip(theirs.tolist(), order[len(mine) :], strict=True) if at < share
        ]
        rows = {(row[0], row[1]): row for row in kept + taken}
        result.append(np.array(sorted(rows.values()), dtype=np.int64).reshape(-1, 4))
    return result


Point = tuple[BarSample, np.ndarray]
"""A bar and its latent (Z,)."""


def pairs(bars: Sequence[Point], count: int) -> Iterator[tuple[Point, Point]]:
    """Bars of two pieces with the same tracks and meter; the first bars come first."""
    found = 0
    for first, one in enumerate(bars):
        shape = one[0].shape
        for other in bars[first + 1 :]:
            alike = (shape.programs, shape.instances, shape.meter) == (
                other[0].shape.programs,
                other[0].shape.instances,
                other[0].shape.meter,
            )
            if alike and one[0].piece != other[0].piece:
                yield one, other
                found += 1
                break
        if found == count:
            return


def interpolation(
    model: Any,
    bars: Sequence[Point],
    pool: Sequence[BarSample],
    count: int,
    seed: int,
    language: tuple[Any, Any] | None,
) -> dict[str, Any]:
    """Ways between bars of two pieces, beside two others: blends of notes, nearest training bars.

    Args:
        model: the autoencoder.
        bars: held-out ones, with the latents that the ways begin and end with.
        pool: training bars.
        count: ways at most.
        seed: of the blends.
        language: a transformer's network and tokenizer; the nats a note that the points cost it,
            over those of the ends.
    """
    chosen = list(pairs(bars, count))
    ways: dict[str, list[list[BarNotes]]] = {"latent": [], "blend": [], "nearest": []}
    shapes: list[BarShape] = []
    pool_latents = latents_of(model, pool)
    shares = np.linspace(0, 1, POINTS)
    for number, ((one, start), (other, end)) in enumerate(chosen):
        ends = ([one.notes], [other.notes])
        way = model.way([one.shape], ends, start[None], end[None], POINTS)
        ways["latent"].append([step[0] for step in way])
        path = model.interpolate(start, end, POINTS)
        ways["blend"].append(
            [
                blend(one.notes, other.notes, share, np.random.default_rng([seed, number]))
                for share in shares
            ]
        )
        alike = [
            index
            for index, each in enumerate(pool)
            if (each.shape.programs, each.shape.meter) == (one.shape.programs, one.shape.meter)
        ]
        near = [one.notes]
        for point in path[1:-1]:
            if alike:
                gaps = np.square(pool_latents[alike] - point).sum(1)
                near.append(pool[alike[int(np.argmin(gaps))]].notes)
            else:
                near.append(one.notes)
        ways["nearest"].append([*near, other.notes])
        shapes.append(one.shape)
    result: dict[str, Any] = {"ways": len(chosen)}
    for name, each in ways.items():
        figures = np.array([way_figures(way) for way in each]) if each else np.zeros((0, 2))
        own: dict[str, float] = {}
        if len(figures):
            own["monotone"], own["largest_jump"] = figures.mean(0).tolist()
        if language is not None and each:
            own["nats_over_ends"] = _over_ends(model, each, shapes, *language)
        result[name] = own
    return result


def _over_ends(
    model: Any,
    ways: Sequence[Sequence[BarNotes]],
    shapes: Sequence[BarShape],
    network: Any,
    tokenizer: Any,
) -> float:
    """Mean nats a note of the points between, over the mean of the ends: 1 is as likely as they."""
    samples, owners = [], []
    for way, shape in zip(ways, shapes, strict=True):
        for place, notes in enumerate(way):
            if not sum(map(len, notes)):
                continue
            rows = shape.grid(notes).rows(model.tokenizer.vocabulary)
            samples.append(tokenizer.windows(rows, network.config.context + 1, PieceInfo())[0])
            owners.append(place in (0, len(way) - 1))
    piece = ShardPiece("", "", "", "", 0, 0, 0, "", "", "")
    documents = HeldOutDocuments(
        (piece,) * len(samples), tuple(samples), tuple(range(len(samples)))
    )
    nats, notes_in = network_nats(network, documents, tokenizer).by_piece()
    ends = np.array(owners)
    per_note = nats / np.maximum(notes_in, 1)
    return float(per_note[~ends].mean() / per_note[ends].mean())
