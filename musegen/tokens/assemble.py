"""Written notes back into a score: the seed as it was, the new bars behind it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from musegen.music.score import (
    BEND_DTYPE,
    CONTROL_DTYPE,
    DEFAULT_PPQ,
    NOTE_DTYPE,
    Key,
    Meter,
    Score,
    Tempo,
    Text,
    Track,
)
from musegen.tokens.plan import CompositionPlan, Written

__all__ = ["SEAM_MARKER", "assemble", "seam_tick"]

SEAM_MARKER = "Generated"
"""The marker at the first written bar of a continuation."""

_SUSTAIN = 64
_LEVELS = (7, 11)
"""Volume and expression."""
_FADED, _AUDIBLE = 20, 40
"""A seed that ends below the one is faded out; the last value above the other comes back."""


def seam_tick(plan: CompositionPlan) -> int:
    """Where the first written bar begins, in ticks of the result."""
    return plan.seed_bars[-1].end_tick if plan.seed_bars else 0


def assemble(
    plan: CompositionPlan,
    written: Written,
    *,
    names: tuple[str, ...] = (),
    key: Key | None = None,
    title: str = "",
) -> Score:
    """The seed, unchanged, with the finished bars of `written` behind it, at the seed's own ppq.

    A pedal that is held and a bend that is not centred at the seam are released there, so that
    they do not colour the new bars; nothing before the seam changes by a tick.

    Args:
        plan: what was asked.
        written: what a guide has written.
        names: names of the plan's new tracks, one a track (those of seed tracks are kept).
        key: a key signature for the new bars, where it is not in force already.
        title: title of a piece without seed.
    """
    seed = plan.seed if plan.seed is not None and plan.seed_bars else None
    base = seed or Score(ppq=DEFAULT_PPQ)
    seam = seam_tick(plan)
    lengths = [max(1, round(4 * base.ppq * bar.numerator / bar.denominator)) for bar in plan.bars]
    starts = seam + np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    end = int(starts[written.finished_bars])

    tracks = [_released(track, seam) for track in base.tracks]
    for index, item in enumerate(plan.tracks):
        notes = _notes(written.notes[written.notes["track"] == index], starts, base.ppq, end)
        if item.seed_track is not None and seed is not None:
            old = tracks[item.seed_track]
            tracks[item.seed_track] = replace(old, notes=np.concatenate((old.notes, notes)))
        else:
            name = names[index] if index < len(names) else ""
            tracks.append(Track(notes=notes, program=item.program, is_drum=item.is_drum, name=name))

    tempos, meters = list(base.tempos), list(base.meters)
    if seed is None:
        tempos, meters = [], []
    for bar, tick in zip(plan.bars[: written.finished_bars], starts.tolist(), strict=False):
        if not tempos or tempos[-1].tempo_us != bar.tempo_us:
            tempos.append(Tempo(tick, bar.tempo_us))
        if not meters or meters[-1][1:] != (bar.numerator, bar.denominator):
            meters.append(Meter(tick, bar.numerator, bar.denominator))
    markers = base.markers
    if seed is not None:
        markers = (*markers, Text(seam, SEAM_MARKER))
    keys = base.keys
    if key is not None and (not keys or keys[-1][1:] != key[1:]):
        keys = (*keys, key._replace(tick=seam))
    return base.replace(
        tracks=tuple(tracks),
        tempos=tuple(tempos),
        meters=tuple(meters),
        keys=keys,
        markers=markers,
        title=base.title or title,
        length_tick=end,
    )


def _notes(written: np.ndarray, starts: np.ndarray, ppq: int, end: int) -> np.ndarray:
    """Notes of one track in ticks: ends are cut at the next onset of the pitch, and at `end`."""
    notes = np.zeros(len(written), dtype=NOTE_DTYPE)
    start = starts[written["bar"]] + np.round(written["onset_q"] * ppq).astype(np.int64)
    stop = starts[written["bar"]] + np.round(
        (written["onset_q"] + written["duration_q"]) * ppq
    ).astype(np.int64)
    order = np.lexsort((start, written["pitch"]))
    start, stop, written = start[order], np.minimum(stop[order], end), written[order]
    same = written["pitch"][1:] == written["pitch"][:-1]
    stop[:-1] = np.where(same, np.minimum(stop[:-1], start[1:]), stop[:-1])
    notes["start_tick"], notes["duration_tick"] = start, stop - start
    notes["pitch"], notes["velocity"] = written["pitch"], written["velocity"]
    # A coarse ppq may round two places to one tick: the note that would have no length goes.
    return notes[notes["duration_tick"] > 0]


def _released(track: Track, seam: int) -> Track:
    """The track with the pedal up, the bend centred and no fade-out left over at the seam."""
    pedal = track.controls[track.controls["number"] == _SUSTAIN]
    controls, bends = track.controls, track.bends
    for number in _LEVELS:
        level = track.controls[track.controls["number"] == number]
        heard = level["value"][level["value"] >= _AUDIBLE]
        if len(heard) and level["value"][-1] < _FADED and level["tick"][-1] <= seam:
            back = np.array([(seam, number, heard[-1])], dtype=CONTROL_DTYPE)
            controls = np.concatenate((controls, back))
    if len(pedal) and pedal["value"][-1] >= 64 and pedal["tick"][-1] <= seam:
        up = np.array([(seam, _SUSTAIN, 0)], dtype=CONTROL_DTYPE)
        controls = np.concatenate((controls, up))
    if len(bends) and bends["value"][-1] != 0 and bends["tick"][-1] <= seam:
        bends = np.concatenate((bends, np.array([(seam, 0)], dtype=BEND_DTYPE)))
    if controls is track.controls and bends is track.bends:
        return track
    return replace(track, controls=controls, bends=bends)
