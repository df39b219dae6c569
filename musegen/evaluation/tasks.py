"""What is asked of a model: to continue, to fill, to accompany, to compose.

A request is made of an excerpt of held-out music: some of it is given, some is asked for, and what
a human wrote in its place is the reference. So generated and human music are compared in pairs,
bar for bar and track for track.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from musegen.config import nearest
from musegen.errors import UsageError
from musegen.evaluation.excerpts import Excerpt
from musegen.music.analysis import estimate_key
from musegen.music.instruments import program_name
from musegen.music.names import key_name
from musegen.music.piece import Piece
from musegen.music.score import Score
from musegen.music.transform import slice_bars
from musegen.tokens.assemble import Stretch, only_written

__all__ = ["LEAD_BARS", "TASKS", "Request", "check_tasks", "excerpt_bars", "request_of"]

TASKS = {
    "likelihood": "what held-out music costs, in nats",
    "continue": "from the first four bars of an excerpt on",
    "fill": "one track anew in the middle half of an excerpt",
    "accompany": "a track of an excerpt written anew, from what the others play",
    "compose": "from nothing but the instruments, meter, tempo and key of an excerpt",
    "controls": "what is asked of the notes against what is measured",
}
"""What can be evaluated, and what each is."""

LEAD_BARS = 4
"""Bars that a continuation is given."""


@dataclass(frozen=True, eq=False)
class Request:
    """What is asked, and what a human wrote there."""

    task: str
    excerpt: Excerpt
    seed: Score | None
    """What the model is given."""
    options: Mapping[str, Any]
    """Of `musegen.compose`."""
    reference: Score
    """The human's notes where the model writes: only those bars and tracks."""
    context: Score | None
    """What the new notes must fit: the bars before, or the other tracks. None from nothing."""
    first_bar: int
    last_bar: int
    """The written bars in the result, from 0, the last one exclusive."""

    @property
    def bars(self) -> int:
        return self.last_bar - self.first_bar

    def written(self, result: Piece) -> Score:
        """The model's notes: only the bars and tracks that it wrote."""
        spans = [Stretch(*span) for span in result.info["stretches"]]
        # Its bars are those of the whole, also where only the end was given and not written.
        score = _with_notes(result.score)
        score = score.replace(tracks=only_written(result.score, spans).tracks)
        return _with_notes(slice_bars(score, self.first_bar, self.last_bar))


def check_tasks(names: list[str]) -> tuple[str, ...]:
    """The tasks in their own order, each once. Raises UsageError with the nearest name."""
    for name in names:
        if name not in TASKS:
            raise UsageError(f"no task '{name}' of evaluate; {nearest(name, TASKS)}")
    if not names:
        raise UsageError(f"no task given; there are {', '.join(TASKS)}")
    return tuple(name for name in TASKS if name in names)


def excerpt_bars(task: str, bars: int) -> int:
    """How long an excerpt a request of `bars` bars needs."""
    return bars + LEAD_BARS if task == "continue" else bars


def request_of(task: str, excerpt: Excerpt, bars: int, seed: int = 0) -> Request | None:
    """The request; None where the excerpt does not suit (a single track, a silent beginning)."""
    made = {"continue": _continue, "fill": _fill, "accompany": _accompany, "compose": _compose}
    return made[task](excerpt, bars, excerpt.rng(seed, task))


def _continue(excerpt: Excerpt, bars: int, rng: np.random.Generator) -> Request | None:
    lead = slice_bars(excerpt.score, 0, LEAD_BARS)
    there = [bool(len(track)) for track in lead.tracks]
    lead, rest = (
        part.replace(tracks=tuple(t for t, kept in zip(part.tracks, there, strict=True) if kept))
        for part in (lead, slice_bars(excerpt.score, LEAD_BARS, LEAD_BARS + bars))
    )
    if not lead.num_notes or not rest.num_notes:
        return None
    return Request(
        "continue", excerpt, lead, {"bars": bars}, _with_notes(rest), lead,
        LEAD_BARS, LEAD_BARS + bars,
    )  # fmt: skip


def _fill(excerpt: Excerpt, bars: int, rng: np.random.Generator) -> Request | None:
    first, last = bars // 4, max(bars // 4 + 1, bars - bars // 4)
    region = slice_bars(excerpt.score, first, last)
    track = _busy_track(region, rng)
    if track is None:
        return None
    options = {"fill": f"{first + 1}-{last}@#{track + 1}"}
    return Request(
        "fill", excerpt, excerpt.score, options, _only(region, track),
        _without(region, track), first, last,
    )  # fmt: skip


def _accompany(excerpt: Excerpt, bars: int, rng: np.random.Generator) -> Request | None:
    track = _busy_track(excerpt.score, rng)
    if track is None or len(excerpt.score.tracks) < 2:
        return None
    others = _without(excerpt.score, track)
    gone = excerpt.score.tracks[track]
    options = {"add": f"{program_name(gone.program, gone.is_drum)}:1-{bars}"}
    return Request(
        "accompany", excerpt, others, options, _only(excerpt.score, track), others, 0, bars
    )


def _compose(excerpt: Excerpt, bars: int, rng: np.random.Generator) -> Request | None:
    score = excerpt.score
    meters: list[str] = []
    starts = {bar.start_tick: number for number, bar in enumerate(score.bars())}
    for tick, numerator, denominator in score.meters:
        if tick in starts:
            at = f"@{starts[tick] + 1}" if meters else ""
            meters.append(f"{numerator}/{denominator}{at}")
    options: dict[str, Any] = {
        "bars": bars,
        "instruments": [program_name(track.program, track.is_drum) for track in score.tracks],
        "time_signature": ",".join(meters),
        "tempo": round(6e7 / score.tempos[0].tempo_us),
    }
    key = estimate_key(score)
    if key is not None:
        options["key"] = key_name(key.key)
    return Request("compose", excerpt, None, options, score, None, 0, bars)


def _busy_track(score: Score, rng: np.random.Generator) -> int | None:
    """One of the tracks that begin notes in at least half of the bars."""
    bars = score.bars()
    edges = [bar.start_tick for bar in bars] + [bars[-1].end_tick]
    busy = [
        index
        for index, track in enumerate(score.tracks)
        if np.mean(np.histogram(track.notes["start_tick"], edges)[0] > 0) >= 0.5
    ]
    return int(rng.choice(busy)) if busy else None


def _only(score: Score, track: int) -> Score:
    return score.replace(tracks=(score.tracks[track],), length_tick=score.bars()[-1].end_tick)


def _without(score: Score, track: int) -> Score:
    tracks = tuple(each for index, each in enumerate(score.tracks) if index != track)
    return score.replace(tracks=tracks, length_tick=score.bars()[-1].end_tick)


def _with_notes(score: Score) -> Score:
    """Without the tracks that are silent; as long as before."""
    bars = score.bars()
    return replace(
        score,
        tracks=tuple(track for track in score.tracks if len(track)),
        length_tick=bars[-1].end_tick if bars else 0,
    )
