"""Scores to scores: cut, move, join. Pure functions; a score is never changed in place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from musegen.errors import UsageError
from musegen.music.bars import barline_after
from musegen.music.score import Key, ProgramChange, Score, Tempo, Text, Track


def slice_bars(score: Score, first: int, last: int) -> Score:
    """Bars `first` up to, not including, `last`, counted from 0, moved to tick 0.

    Notes that begin in these bars are kept, cut at the end; notes that sound into the first bar
    are left out. Tempo, meter, key, program, controllers and bend that hold at the start are
    kept. Raises `UsageError` where the score has no such bars.
    """
    bars = score.bars()
    if not 0 <= first < last <= len(bars):
        raise UsageError(f"bars {first} to {last} of a score that has {len(bars)}")
    start, end = bars[first].start_tick, bars[last - 1].end_tick
    sliced = score.replace(
        tracks=tuple(_slice_track(track, start, end) for track in score.tracks),
        tempos=_from_start(score.tempos, start, end),
        meters=_from_start(score.meters, start, end),
        keys=_from_start(score.keys, start, end),
        markers=_within(score.markers, start, end),
        comments=_within(score.comments, start, end),
        length_tick=0,
    )
    return sliced if sliced.end_tick == end - start else sliced.replace(length_tick=end - start)


def without_tail(score: Score, tick: int) -> Score:
    """The score without what happens after a tick at which its notes have ended."""

    def kept(items: Iterable[Any]) -> tuple[Any, ...]:
        return tuple(item for item in items if item.tick <= tick)

    def kept_track(track: Track) -> Track:
        return replace(
            track,
            program_changes=kept(track.program_changes),
            lyrics=kept(track.lyrics),
            controls=track.controls[track.controls["tick"] <= tick],
            bends=track.bends[track.bends["tick"] <= tick],
            pressures=track.pressures[track.pressures["tick"] <= tick],
        )

    return score.replace(
        tracks=tuple(kept_track(track) for track in score.tracks),
        tempos=kept(score.tempos),
        meters=kept(score.meters),
        keys=kept(score.keys),
        markers=kept(score.markers),
        comments=kept(score.comments),
    )


def _within(items: Iterable[Any], start: int, end: int) -> tuple[Any, ...]:
    return tuple(
        item._replace(tick=item.tick - start) for item in items if start <= item.tick < end
    )


def _from_start(items: Iterable[Any], start: int, end: int) -> tuple[Any, ...]:
    before = [item for item in items if item.tick < start]
    inside = _within(items, start, end)
    if before and not (inside and inside[0].tick == 0):
        inside = (before[-1]._replace(tick=0), *inside)
    return inside


def _slice_track(track: Track, start: int, end: int) -> Track:
    notes = track.notes
    notes = notes[(notes["start_tick"] >= start) & (notes["start_tick"] < end)].copy()
    notes["duration_tick"] = np.minimum(notes["duration_tick"], end - notes["start_tick"])
    notes["start_tick"] -= start
    earlier = [change for change in track.program_changes if change.tick <= start]
    return replace(
        track,
        notes=notes,
        program=earlier[-1].program if earlier else track.program,
        program_changes=tuple(
            change._replace(tick=change.tick - start)
            for change in track.program_changes
            if start < change.tick < end
        ),
        lyrics=_within(track.lyrics, start, end),
        controls=_slice_column(track.controls, start, end, ("number",)),
        bends=_slice_column(track.bends, start, end, ()),
        pressures=_slice_column(track.pressures, start, end, ("pitch",)),
    )


def _slice_column(column: np.ndarray, start: int, end: int, names: Sequence[str]) -> np.ndarray:
    """Events of a stretch, led by the last value of each controller before it."""
    tick = column["tick"]
    before = column[tick < start]
    latest: dict[Any, int] = {}
    for index, row in enumerate(before[list(names)].tolist() if names else [()] * len(before)):
        latest.pop(row, None)
        latest[row] = index
    kept = before[list(latest.values())].copy()
    kept["tick"] = start
    sliced = np.concatenate([kept, column[(tick >= start) & (tick < end)]])
    sliced["tick"] -= start
    return sliced


def transpose(score: Score, semitones: int) -> Score:
    """All pitched parts moved, drums as they are; key signatures move along.

    Raises `UsageError` where a note would leave MIDI's 128 pitches.
    """

    def moved(track: Track) -> Track:
        if track.is_drum:
            return track
        pitch = track.notes["pitch"].astype(np.int16) + semitones
        if np.any((pitch < 0) | (pitch > 127)):
            raise UsageError(
                f"transposed by {semitones:+d}, track {track.name!r} leaves the pitches 0 to 127"
            )
        notes = track.notes.copy()
        notes["pitch"] = pitch
        pressures = track.pressures.copy()
        of_key = pressures["pitch"] < 128
        pressures["pitch"][of_key] = np.clip(
            pressures["pitch"][of_key].astype(np.int16) + semitones, 0, 127
        )
        return replace(track, notes=notes, pressures=pressures)

    keys = tuple(_transposed_key(key, semitones) for key in score.keys)
    return score.replace(tracks=tuple(moved(track) for track in score.tracks), keys=keys)


def _transposed_key(key: Key, semitones: int) -> Key:
    """The key so many semitones away with the fewest signs, on the side of the old one if equal."""
    fifths = (key.fifths + 7 * semitones + 5) % 12 - 5  # -5..6
    if fifths == 6 and key.fifths < 0:
        fifths = -6
    return key._replace(fifths=key.fifths if semitones % 12 == 0 else fifths)


def with_ppq(score: Score, ppq: int) -> Score:
    """The score on another resolution.

    Each tick is rounded to the nearest new one, halves up; the ends of notes are rounded by
    themselves, and a note keeps at least one tick.
    """
    if ppq == score.ppq:
        return score
    if not 1 <= ppq <= 32767:
        raise UsageError(f"{ppq} ticks a quarter note; 1 to 32767 is valid")
    old = score.ppq

    def scaled(ticks: Any) -> Any:
        return (ticks * 2 * ppq + old) // (2 * old)

    return _mapped(score, scaled).replace(ppq=ppq)


def shift(score: Score, ticks: int) -> Score:
    """Everything `ticks` later, except what holds from the start (tempo, meter, key at tick 0)."""
    moved = _mapped(score, lambda tick: tick + ticks)
    return moved.replace(length_tick=score.length_tick + ticks if score.length_tick else 0)


def _mapped(score: Score, to_tick: Callable[[Any], Any]) -> Score:
    """A score with every tick put through a monotone function of whole numbers."""

    def mapped_all(items: Iterable[Any]) -> tuple[Any, ...]:
        return tuple(item._replace(tick=int(to_tick(int(item.tick)))) for item in items)

    def mapped_column(column: np.ndarray) -> np.ndarray:
        column = column.copy()
        column["tick"] = to_tick(column["tick"].astype(np.int64))
        return column

    def mapped_track(track: Track) -> Track:
        notes = track.notes.copy()
        start = track.notes["start_tick"].astype(np.int64)
        end = start + track.notes["duration_tick"]
        notes["start_tick"] = to_tick(start)
        notes["duration_tick"] = np.maximum(1, to_tick(end) - to_tick(start))
        return replace(
            track,
            notes=notes,
            program_changes=mapped_all(track.program_changes),
            lyrics=mapped_all(track.lyrics),
            controls=mapped_column(track.controls),
            bends=mapped_column(track.bends),
            pressures=mapped_column(track.pressures),
        )

    return score.replace(
        tracks=tuple(mapped_track(track) for track in score.tracks),
        tempos=mapped_all(score.tempos),
        meters=mapped_all(score.meters),
        keys=mapped_all(score.keys),
        markers=mapped_all(score.markers),
        comments=mapped_all(score.comments),
        length_tick=int(to_tick(score.length_tick)),
    )


def drop_tracks(score: Score, indices: Iterable[int]) -> Score:
    """The score without some of its tracks, counted from 0."""
    dropped = set(indices)
    kept = (track for index, track in enumerate(score.tracks) if index not in dropped)
    return score.replace(tracks=tuple(kept))


def merge(first: Score, second: Score) -> Score:
    """Both at once: the tracks of the second after those of the first, whose map holds."""
    second = with_ppq(second, first.ppq)
    return first.replace(
        tracks=first.tracks + second.tracks,
        markers=first.markers + second.markers,
        comments=first.comments + second.comments,
        length_tick=max(first.length_tick, second.length_tick),
    )


def concatenate(scores: Sequence[Score]) -> Score:
    """One after another, each from the barline at the end of the one before.

    Tracks of the same name, program and kind are joined. The first score gives ppq and title.
    Raises `UsageError` for an empty sequence.
    """
    if not scores:
        raise UsageError("no scores to concatenate")
    whole = scores[0]
    for score in scores[1:]:
        at = barline_after(whole, max(whole.end_tick, whole.length_tick))
        whole = _appended(whole, with_ppq(score, whole.ppq), at)
    return whole


def _appended(whole: Score, score: Score, at: int) -> Score:
    later = shift(score, at)
    tracks = list(whole.tracks)
    places = {(track.name, track.is_drum): index for index, track in enumerate(tracks)}
    for track in later.tracks:
        index = places.get((track.name, track.is_drum), -1)
        if index < 0:
            tracks.append(track)
        else:
            tracks[index] = _joined(tracks[index], track, at)
    return whole.replace(
        tracks=tuple(tracks),
        tempos=_until(whole.tempos, at) + _moved_start(score.tempos, later.tempos, at),
        meters=_until(whole.meters, at) + _moved_start(score.meters, later.meters, at),
        keys=_until(whole.keys, at) + later.keys,
        markers=whole.markers + later.markers,
        comments=whole.comments + later.comments,
        length_tick=later.length_tick or (at if not later.num_notes else 0),
    )


def _until(items: Iterable[Any], tick: int) -> tuple[Any, ...]:
    return tuple(item for item in items if item.tick < tick)


def _moved_start(items: Sequence[Any], later: Sequence[Any], at: int) -> tuple[Any, ...]:
    # `Score` has put its default at tick 0 of the shifted score: drop that one, keep the rest.
    return tuple(item for item in later if item.tick >= at) if items else ()


def _joined(first: Track, second: Track, at: int) -> Track:
    changes = first.program_changes
    if second.program != (changes[-1].program if changes else first.program):
        changes += (ProgramChange(at, second.program),)
    return replace(
        first,
        notes=np.concatenate([first.notes, second.notes]),
        program_changes=changes + second.program_changes,
        lyrics=first.lyrics + second.lyrics,
        controls=np.concatenate([first.controls, second.controls]),
        bends=np.concatenate([first.bends, second.bends]),
        pressures=np.concatenate([first.pressures, second.pressures]),
    )


def mark(score: Score, tick: int, text: str) -> Score:
    """The score with one marker more."""
    return score.replace(markers=(*score.markers, Text(tick, text)))


def constant_tempo(score: Score, bpm: float) -> Score:
    """The score at one tempo, in quarter notes a minute."""
    if not 4 <= bpm <= 1000:
        raise UsageError(f"a tempo of {bpm:g} quarter notes a minute; 4 to 1000 is valid")
    return score.replace(tempos=(Tempo(0, round(60e6 / bpm)),))
