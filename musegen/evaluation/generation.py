"""Runs the requests of a task, and checks what comes out.

Nothing that fails is dropped: it counts as not valid, with its reason.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from musegen.errors import MusegenError
from musegen.evaluation.tasks import Request
from musegen.evaluation.validity import opens, unchanged
from musegen.music.piece import Piece
from musegen.music.score import Score

__all__ = ["CHECKS", "Composer", "Outcome", "generate"]

Composer = Callable[..., Any]
"""`musegen.compose` with a model."""

CHECKS = ("composed", "opens", "asked_bars", "rest_unchanged", "rules_hold")
"""What must be true of each piece; it is valid where all of it is."""


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
