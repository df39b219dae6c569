"""Barlines by arithmetic: `Score.bars()` lists them, this finds one among millions."""

from __future__ import annotations

import math

from musegen.errors import MidiError
from musegen.music.score import Meter, Score, bars_until

MAX_BARS = 100_000
"""Bars of a score; a day of music has about 40,000."""


def barline_after(score: Score, tick: int) -> int:
    """The first barline at or after a tick, on the same grid as `Score.bars()`."""
    for index, (start, numerator, denominator) in enumerate(score.meters):
        last = index + 1 == len(score.meters)
        if not last and score.meters[index + 1].tick <= tick:
            continue
        length = 4 * score.ppq * numerator / denominator
        count = bars_until(max(0, tick - start), length)
        line = start + round(count * length)
        return max(tick, line if last else min(line, score.meters[index + 1].tick))
    return tick


def barline_before(score: Score, tick: int) -> int:
    """The last barline at or before a tick, on the same grid as `Score.bars()`."""
    start, numerator, denominator = next(
        meter for meter in reversed(score.meters) if meter.tick <= max(0, tick)
    )
    length = 4 * score.ppq * numerator / denominator
    bars = math.floor((tick - start + 1) / length)  # one too many where a barline is rounded up
    line = start + round(bars * length)
    return line if line <= tick else max(start, start + round((bars - 1) * length))


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


def meters_on_barlines(score: Score) -> tuple[tuple[Meter, ...], int, int]:
    """Meters such that every change stands on a barline; how many were added and how many moved.

    A change inside a bar cuts the bar short (`Score.bars()`); here the short bar gets the meter
    that says so: 4/4 cut after one beat becomes 1/4, and the grid stays as it is. A change that
    misses a barline by a 128th note or less is moved onto it (some programs write it a tick late),
    and so is one that makes a bar of no whole number of 128th notes: the short bar is rounded down,
    so that the notes of the next bar do not fall into it.
    """
    near = max(1, score.ppq // 32)
    meters = list(score.meters[:1])
    added = moved = 0
    for meter in score.meters[1:]:
        start, numerator, denominator = meters[-1]
        length = 4 * score.ppq * numerator / denominator
        meter = meter._replace(tick=max(start, meter.tick))  # the one before may have moved past it
        whole = math.floor((meter.tick - start) / length + 1e-9)
        line, following = start + round(whole * length), start + round((whole + 1) * length)
        late, early = meter.tick - line, following - meter.tick
        astray = min(late, early)
        if 0 < astray <= near:
            meter = meter._replace(tick=line if late <= early else following)
            moved += 1
        elif astray > near:
            short = _short_meter(late, score.ppq, denominator)
            meters.append(Meter(line, *short))
            added += 1
            end = line + round(4 * score.ppq * short[0] / short[1])
            if end != meter.tick:
                meter = meter._replace(tick=end)
                moved += 1
        meters.append(meter)
    latest = {meter.tick: meter for meter in meters}
    return tuple(latest.values()), added, moved


def _short_meter(ticks: int, ppq: int, preferred: int) -> tuple[int, int]:
    for denominator in (preferred, 4, 8, 16, 32, 64, 128):
        numerator, rest = divmod(ticks * denominator, 4 * ppq)
        if not rest and 1 <= numerator <= 255:
            return numerator, denominator
    for denominator in (128, 64, 32, 16, 8, 4, 2, 1):  # rounded down, as finely as a byte allows
        numerator = ticks * denominator // (4 * ppq)
        if 1 <= numerator <= 255:
            break
    return min(255, max(1, numerator)), denominator
