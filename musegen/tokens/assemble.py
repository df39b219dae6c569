"""Written notes back into a score: the seed as it was, the new notes in it and behind it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

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

__all__ = [
    "SEAM_MARKER",
    "Stretch",
    "assemble",
    "bar_ticks",
    "only_written",
    "result_tracks",
    "seam_tick",
    "stretches",
]

SEAM_MARKER = "Generated"
"""The marker at the first written bar of a continuation, and what those of regions begin with."""

_SUSTAIN = 64
_LEVELS = (7, 11)
"""Volume and expression."""
_FADED, _AUDIBLE = 20, 40
"""A seed that ends below the one is faded out; the last value above the other comes back."""


def seam_tick(plan: CompositionPlan) -> int:
    """Where the first new bar begins, in ticks of the result."""
    return plan.seed_bars[-1].end_tick if plan.seed_bars else 0


@dataclass(frozen=True)
class Stretch:
    """A stretch of the result that was written."""

    track: int
    """Of the result, from 0."""
    start_tick: int
    end_tick: int


def bar_ticks(plan: CompositionPlan) -> np.ndarray:
    """(bars + 1,) int64: where each bar of the result begins, and where the last one ends."""
    ppq = plan.seed.ppq if plan.seed is not None and plan.seed_bars else DEFAULT_PPQ
    lengths = [max(1, round(4 * ppq * bar.numerator / bar.denominator)) for bar in plan.bars]
    new = seam_tick(plan) + np.concatenate(([0], np.cumsum(lengths)))
    return np.concatenate(([bar.start_tick for bar in plan.seed_bars], new)).astype(np.int64)


def stretches(plan: CompositionPlan, finished_bars: int) -> tuple[Stretch, ...]:
    """What of the result was written: a stretch a run of finished bars of one track."""
    places, ticks = result_tracks(plan), bar_ticks(plan)
    done = set(plan.written_bars[:finished_bars])
    found = []
    for index in range(len(plan.tracks)):
        bars = [bar for bar in np.flatnonzero(plan.open_cells[:, index]).tolist() if bar in done]
        for _, run in itertools.groupby(enumerate(bars), key=lambda pair: pair[1] - pair[0]):
            run_bars = [bar for _, bar in run]
            found.append(
                Stretch(places[index], int(ticks[run_bars[0]]), int(ticks[run_bars[-1] + 1]))
            )
    return tuple(sorted(found, key=lambda one: (one.track, one.start_tick)))


def result_tracks(plan: CompositionPlan) -> list[int]:
    """For each track of the plan, which track of the result it is: new ones come last."""
    seed_tracks = len(plan.seed.tracks) if plan.seed is not None and plan.seed_bars else 0
    places = []
    for item in plan.tracks:
        if item.seed_track is not None and plan.seed_bars:
            places.append(item.seed_track)
        else:
            places.append(seed_tracks)
            seed_tracks += 1
    return places


def assemble(
    plan: CompositionPlan,
    written: Written,
    *,
    names: tuple[str, ...] = (),
    key: Key | None = None,
    title: str = "",
) -> Score:
    """The seed with the finished bars of `written` in it and behind it, at the seed's own ppq.

    In a written cell of the seed the old notes make way, but for those that are kept; nothing else
    of the seed changes by a tick. A pedal that is held and a bend that is not centred at the seam
    to the new bars are released there, so that they do not colour them.

    Args:
        plan: what was asked.
        written: what a guide has written.
        names: names of the plan's new tracks, one a track (those of seed tracks are kept).
        key: a key signature for the new bars, where it is not in force already.
        title: title of a piece without seed.
    """
    seed = plan.seed if plan.seed is not None and plan.seed_bars else None
    base = seed or Score(ppq=DEFAULT_PPQ)
    seam, ticks = seam_tick(plan), bar_ticks(plan)
    done = plan.written_bars[: written.finished_bars]
    new_bars = sum(bar >= len(plan.seed_bars) for bar in done)
    end = int(ticks[len(plan.seed_bars) + new_bars])

    tracks = [_released(track, seam) for track in base.tracks] if new_bars else list(base.tracks)
    for index, item in enumerate(plan.tracks):
        mine = written.notes[written.notes["track"] == index]
        if item.seed_track is not None and seed is not None:
            old = tracks[item.seed_track]
            notes = _notes(mine, ticks, base.ppq, end, old.notes)
            stays = np.ones(len(old), dtype=bool)
            for bar in done:
                if plan.open_cells[bar, index]:
                    stays[plan.seed_notes(index, bar)] = False
                    stays[list(plan.kept.get((index, bar), ()))] = True
            notes = np.concatenate((old.notes[stays], notes))
            tracks[item.seed_track] = replace(old, notes=notes)
        else:
            notes = _notes(mine, ticks, base.ppq, end)
            name = names[index] if index < len(names) else ""
            tracks.append(Track(notes=notes, program=item.program, is_drum=item.is_drum, name=name))

    tempos, meters = list(base.tempos), list(base.meters)
    if seed is None:
        tempos, meters = [], []
    starts = ticks[len(plan.seed_bars) :]
    for new, tick in zip(plan.bars[:new_bars], starts.tolist(), strict=False):
        if not tempos or tempos[-1].tempo_us != new.tempo_us:
            tempos.append(Tempo(tick, new.tempo_us))
        if not meters or meters[-1][1:] != (new.numerator, new.denominator):
            meters.append(Meter(tick, new.numerator, new.denominator))
    keys = base.keys
    if new_bars and key is not None and (not keys or keys[-1][1:] != key[1:]):
        keys = (*keys, key._replace(tick=seam))
    result = base.replace(
        tracks=tuple(tracks),
        tempos=tuple(tempos),
        meters=tuple(meters),
        keys=keys,
        title=base.title if seed is not None else title,
        length_tick=end if new_bars else base.length_tick,
    )
    if seed is None:
        return result
    marks = _markers(plan, written.finished_bars, result)
    return result.replace(markers=(*base.markers, *marks))


def only_written(score: Score, spans: Sequence[Stretch]) -> Score:
    """The result without the notes that begin outside the written stretches."""
    tracks = []
    for index, track in enumerate(score.tracks):
        start = track.notes["start_tick"]
        inside = np.zeros(len(start), dtype=bool)
        for span in spans:
            if span.track == index:
                inside |= (start >= span.start_tick) & (start < span.end_tick)
        tracks.append(replace(track, notes=track.notes[inside]))
    return score.replace(tracks=tuple(tracks))


def _markers(plan: CompositionPlan, finished_bars: int, result: Score) -> list[Text]:
    """One at the seam; one at the beginning of each written stretch of the seed's bars."""
    seam, names = seam_tick(plan), dict[int, list[str]]()
    for one in stretches(plan, finished_bars):
        if one.start_tick < seam:
            names.setdefault(one.start_tick, []).append(result.tracks[one.track].name)
    marks = [
        Text(tick, f"{SEAM_MARKER}: {', '.join(name for name in found if name)}".rstrip(": "))
        for tick, found in sorted(names.items())
    ]
    if any(bar >= len(plan.seed_bars) for bar in plan.written_bars[:finished_bars]):
        marks.append(Text(seam, SEAM_MARKER))
    return marks


def _notes(
    written: np.ndarray, ticks: np.ndarray, ppq: int, end: int, old: np.ndarray | None = None
) -> np.ndarray:
    """Notes of one track in ticks.

    Ends are cut at the next onset of the pitch, and at `end` of the piece. A note that has a source
    among the `old` ones has its time and velocity, to the tick.
    """
    notes = np.zeros(len(written), dtype=NOTE_DTYPE)
    start = ticks[written["bar"]] + np.round(written["onset_q"] * ppq).astype(np.int64)
    stop = ticks[written["bar"]] + np.round(
        (written["onset_q"] + written["duration_q"]) * ppq
    ).astype(np.int64)
    velocity, source = written["velocity"].copy(), written["source"]
    if old is not None and np.any(source >= 0):
        timed = source >= 0
        from_old = old[source[timed]]
        start[timed] = from_old["start_tick"]
        stop[timed] = from_old["start_tick"].astype(np.int64) + from_old["duration_tick"]
        velocity[timed] = from_old["velocity"]
    order = np.lexsort((start, written["pitch"]))
    start, stop, pitch = start[order], np.minimum(stop[order], end), written["pitch"][order]
    same = pitch[1:] == pitch[:-1]
    stop[:-1] = np.where(same, np.minimum(stop[:-1], start[1:]), stop[:-1])
    notes["start_tick"], notes["duration_tick"] = start, stop - start
    notes["pitch"], notes["velocity"] = pitch, velocity[order]
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
