"""Barlines by arithmetic: `Score.bars()` lists them, this finds one among millions."""

from __future__ import annotations

import math

from musegen.errors import MidiError
from musegen.music.score import Meter, Score

MAX_BARS = 100_000
"""Bars of a score; a day of music has about 40,000."""


def barline_after(score: Score, tick: int) -> int:
    """The first barline at or after a tick, on the same grid as `Score.bars()`."""
    for index, (start, numerator, denominator) in enumerate(score.meters):
        last = index + 1 == len(score.meters)
        if not last and score.meters[index + 1].tick <= tick:
            continue
        length = 4 * score.ppq * numerator / denominator
        line = start + round(math.ceil(max(0, tick - start) / length - 1e-9) * length)
        return max(tick, line if last else min(line, score.meters[index + 1].tick))
    return tick


def require_bars(score: Score, until_tick: int, name: str = "score") -> None:
    """Raises `MidiError` where the bar grid up to a tick has more than `MAX_BARS` bars."""
    count = 0.0
    for index, (start, numerator, denominator) in enumerate(score.meters):
        last = index + 1 == len(score.meters)
        stop = until_tick if last else min(until_tick, score.meters[index + 1].tick)
        count += max(0, stop - start) / (4 * score.ppq * numerator / denominator)
    if count > MAX_BARS:
        raise MidiError(
            f"{name}: {count:,.0f} bars up to tick {until_tick:,}; at most {MAX_BARS:,} are read"
            " and written"
        )


def cut_bars_written_out(score: Score) -> tuple[tuple[Meter, ...], int]:
    """Meters such that every change stands on a barline, and how many were added.

    A change inside a bar cuts the bar short (`Score.bars()`); here the short bar gets the meter
    that says so: 4/4 cut after one beat becomes 1/4. The grid stays as it is. Where no meter says
    it (a bar of 17 ticks), the change stays where it stands.
    """
    meters = list(score.meters[:1])
    added = 0
    for meter in score.meters[1:]:
        start, numerator, denominator = meters[-1]
        length = 4 * score.ppq * numerator / denominator
        whole = math.floor((meter.tick - start) / length + 1e-9)
        line = start + round(whole * length)
        if abs(line - meter.tick) > 0:
            short = _short_meter(meter.tick - line, score.ppq, denominator)
            if short is not None:
                if line == start:
                    meters.pop()
                meters.append(Meter(line, *short))
                added += 1
        meters.append(meter)
    return tuple(meters), added


def _short_meter(ticks: int, ppq: int, preferred: int) -> tuple[int, int] | None:
    for denominator in (preferred, 4, 8, 16, 32, 64, 128):
        numerator, rest = divmod(ticks * denominator, 4 * ppq)
        if not rest and 1 <= numerator <= 255:
            return numerator, denominator
    return None
