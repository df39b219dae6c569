"""From wishes to the rules of each cell; wishes that clash are refused before anything is sampled.

A later wish of a kind takes the place of an earlier one in the cells of both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import numpy as np

from musegen.errors import UsageError
from musegen.music.score import Bar
from musegen.tokens.cell import MAX_CHORD
from musegen.tokens.plan import MAX_NOTES, CellRule, Classes, CompositionPlan, Told, TrackPlan
from musegen.tokens.regions import Roster
from musegen.tokens.wishes import Like, Wish

__all__ = ["kept_notes", "rule_cells"]

_ALL = frozenset(range(12))

_DRUM_SOUNDS = (27, 87)
"""Lowest and highest pitch of General MIDI 2 percussion."""

_REGIONS = ("fill", "add", "keep")
_OF_TRACKS = ("first_pitch", "last_pitch")

_OF_PITCHES = ("scale", "chords", "register", "length", "pitch_range", *_OF_TRACKS)
"""What says nothing to drums, unless they are named."""


@dataclass
class _Wishes:
    """The wishes of one cell by kind."""

    by_kind: dict[str, Wish] = field(default_factory=dict)

    def value(self, kind: str) -> Any:
        wish = self.by_kind.get(kind)
        return wish.value if wish is not None else None

    def text(self, kind: str) -> str:
        return self.by_kind[kind].text


def rule_cells(
    plan: CompositionPlan,
    roster: Roster,
    wishes: Sequence[Wish],
    lengths_q: Sequence[float],
    *,
    strict_scale: bool = False,
    strict_chords: bool = False,
    variation: str = "",
) -> CompositionPlan:
    """The plan with what is wished for as rules of its cells and ends of its tracks.

    Args:
        plan: regions and tracks, no rules yet.
        roster: the same tracks by their names.
        wishes: those that are no regions are taken.
        lengths_q: quarter notes of each bar of the piece.
        strict_scale, strict_chords: whether scale and chords are law, or preferred.
        variation: what was typed of it, where old notes are to be kept.

    Raises:
        UsageError: a scope in which nothing is written; two wishes that clash, named both.
    """
    cells: dict[tuple[int, int], _Wishes] = {}
    tracks = list(plan.tracks)
    firsts: dict[int, dict[str, Wish]] = {}
    for wish in wishes:
        if wish.kind in _REGIONS:
            continue
        scope = list(_cells_of(plan, roster, wish))
        if wish.kind in _OF_TRACKS:
            if wish.scope.first_bar:
                raise UsageError(f"{wish.text}: it holds for a whole part: leave the bars out")
            for track in {track for track, _ in scope}:
                tracks[track] = replace(tracks[track], **{wish.kind: wish.value})
                firsts.setdefault(track, {})[wish.kind] = wish
            continue
        for cell in scope:
            before = cells.setdefault(cell, _Wishes()).by_kind.get(wish.kind)
            if wish.kind == "lock" and before is not None and before.value != wish.value:
                raise UsageError(
                    f"{before.text} and {wish.text} clash in bar {cell[1] + 1}: "
                    "with both there is nothing to write"
                )
            cells[cell].by_kind[wish.kind] = wish
    for track, ends in firsts.items():
        for _, bar in _written(plan, track):
            cells.setdefault((track, bar), _Wishes()).by_kind.update(ends)
    plan = replace(plan, tracks=tuple(tracks))
    rules = {}
    for (track, bar), wished in cells.items():
        rule = _rule(plan, track, bar, wished, lengths_q[bar], strict_scale, strict_chords)
        _check_cell(plan, track, bar, rule, wished, lengths_q[bar])
        if variation and rule.lock:
            raise UsageError(f"{wished.text('lock')} and {variation} clash: one keeps whole notes")
        if variation and firsts.get(track):
            end = next(iter(firsts[track].values()))
            raise UsageError(f"{end.text} and {variation} clash: an old note may begin or end it")
        rules[track, bar] = rule
    plan = replace(plan, rules=rules)
    for track, ends in firsts.items():
        if "first_pitch" in ends:
            _check_beginning(
                plan, track, {bar: cells[track, bar] for _, bar in _written(plan, track)}
            )
    return plan


def _written(plan: CompositionPlan, track: int) -> Iterator[tuple[int, int]]:
    for bar in np.flatnonzero(plan.open_cells[:, track]).tolist():
        yield track, bar


def _cells_of(plan: CompositionPlan, roster: Roster, wish: Wish) -> Iterator[tuple[int, int]]:
    """The written cells that a wish is about. Raises UsageError where there are none."""
    scope = wish.scope
    if scope.last_bar > plan.num_bars:
        raise UsageError(f"{wish.text}: the piece has {plan.num_bars} bars")
    first, end = max(scope.first_bar - 1, 0), scope.last_bar or plan.num_bars
    chosen = roster.written(scope.tracks, wish.text)
    if not scope.tracks and wish.kind in _OF_PITCHES:
        pitched = [track for track in chosen if not plan.tracks[track].is_drum]
        if chosen and not pitched:
            raise UsageError(f"{wish.text}: only drums are written; name them, if they are meant")
        chosen = pitched
    found = [
        (track, bar) for track in chosen for _, bar in _written(plan, track) if first <= bar < end
    ]
    if wish.kind in ("scale", "chords") and any(plan.tracks[track].is_drum for track in chosen):
        raise UsageError(f"{wish.text}: drums have no scale and no chords")
    if not found:
        raise UsageError(f"{wish.text}: nothing is written there")
    yield from found


def _rule(
    plan: CompositionPlan,
    track: int,
    bar: int,
    wished: _Wishes,
    length_q: float,
    strict_scale: bool,
    strict_chords: bool,
) -> CellRule:
    """The rule of one cell."""
    density, chords = wished.value("density"), wished.value("chords")
    scale = wished.value("scale")
    spans: list[tuple[float, frozenset[int] | None]] = [(0.0, None)]
    if chords:
        first = wished.by_kind["chords"].scope.first_bar - 1
        if first < 0:
            first = plan.written_bars[0]
        names = chords[(bar - first) % len(chords)].chords
        spans = [
            (float(place) * length_q, chord.pitch_classes if chord is not None else None)
            for place, chord in names
        ]
    of_scale = scale.pitch_classes if scale is not None else None
    law: Classes = ()
    wish: Classes = ()
    if (strict_scale and of_scale) or (strict_chords and chords):
        law = tuple(
            (
                place,
                (chord if strict_chords and chord is not None else _ALL)
                & (of_scale if strict_scale and of_scale is not None else _ALL),
            )
            for place, chord in spans
        )
    if (of_scale and not strict_scale) or (chords and not strict_chords):
        wish = tuple(
            (
                place,
                chord
                if chord is not None and not strict_chords
                else (of_scale if of_scale is not None and not strict_scale else _ALL),
            )
            for place, chord in spans
        )
    harmony: dict[str, tuple[Classes, bool]] = {}
    if of_scale:
        harmony["scale"] = (((0.0, of_scale),), strict_scale)
    if chords:
        classes = tuple((place, _ALL if chord is None else chord) for place, chord in spans)
        harmony["chords"] = (classes, strict_chords)
    like: Like | None = wished.value("like")
    begun = wished.by_kind["like"].scope.first_bar - 1 if like is not None else 0
    if begun < 0:
        begun = next(bar for _, bar in _written(plan, track))
    origins = {kind: one.text for kind, one in wished.by_kind.items()}
    return CellRule(
        least_notes=density[0] if density else 0,
        most_notes=density[1] if density else MAX_NOTES,
        pitch_range=wished.value("pitch_range"),
        classes=law,
        wished=wish,
        grid_q=wished.value("grid") or (),
        max_polyphony=wished.value("max_polyphony") or 0,
        lock=wished.value("lock") or "",
        told=Told(
            notes=round(sum(density) / 2) if density else None,
            polyphony=wished.value("polyphony"),
            length=wished.value("length"),
            register=wished.value("register"),
            loudness=wished.value("loudness"),
        ),
        like=(like.file, like.bar(bar - begun)) if like is not None else None,
        harmony=harmony,
        origins=origins,
    )


def _check_cell(
    plan: CompositionPlan, track: int, bar: int, rule: CellRule, wished: _Wishes, length_q: float
) -> None:
    """Raises UsageError, naming both, where two rules of a cell cannot both hold."""

    def clash(one: str, other: str, why: str) -> UsageError:
        return _clash(wished, bar, (one, other), why)

    item = plan.tracks[track]
    by_scale = "scale" if "scale" in wished.by_kind else "chords"
    spans = _pitches(item, rule)
    if not all(spans_pitches for _, spans_pitches in spans):
        if item.is_drum:
            low, high = _DRUM_SOUNDS
            raise UsageError(
                f"{wished.text('pitch_range')}: the sounds of drums are pitches {low} to {high}"
            )
        other = "pitch_range" if "pitch_range" in wished.by_kind else "chords"
        raise clash(by_scale, other, "no pitch is left")
    anywhere = set().union(*(pitches for _, pitches in spans))
    last_bar = bar == np.flatnonzero(plan.open_cells[:, track])[-1]
    if item.last_pitch is not None and last_bar and item.last_pitch not in anywhere:
        raise _outside(item, bar, rule, wished, "last_pitch")
    if rule.lock:
        _check_lock(plan, track, bar, rule, wished, length_q, clash)
        return
    if rule.least_notes:
        places = _places(rule.grid_q, length_q)
        voices = min(rule.max_polyphony or MAX_CHORD, MAX_CHORD)
        if rule.least_notes > places * min(voices, len(anywhere)):
            enough = {
                "max_polyphony": places * min(MAX_CHORD, len(anywhere)),
                "grid": _places((), length_q) * min(voices, len(anywhere)),
                "scale": places * voices,
                "chords": places * voices,
                "pitch_range": places * voices,
            }
            there = [kind for kind in enough if kind in wished.by_kind]
            # The one without which it would fit; where none alone is to blame, the first.
            alone = [kind for kind in there if enough[kind] >= rule.least_notes]
            most = places * min(voices, len(anywhere))
            raise clash("density", (alone or there or [""])[0], f"it has room for {most} notes")
    ends = {item.first_pitch, item.last_pitch} - {None}
    if rule.most_notes < len(ends) and len(list(_written(plan, track))) == 1:
        raise clash("density", "last_pitch", f"the part needs {len(ends)} notes")
    if rule.most_notes < 1 and item.last_pitch is not None and last_bar:
        raise clash("density", "last_pitch", "its last bar must have a note")


def _clash(wished: _Wishes, bar: int, kinds: Sequence[str], why: str) -> UsageError:
    """The error that names the wishes of these kinds that there are."""
    texts = [wished.text(kind) for kind in kinds if kind in wished.by_kind]
    if len(texts) == 1:
        return UsageError(f"{texts[0]} cannot be in bar {bar + 1}: {why}")
    return UsageError(f"{' and '.join(texts)} clash in bar {bar + 1}: {why}")


def _outside(item: TrackPlan, bar: int, rule: CellRule, wished: _Wishes, kind: str) -> UsageError:
    """The error for a first or last pitch that a cell does not allow."""
    pitch = getattr(item, kind)
    low, high = rule.pitch_range or (item.lowest_pitch, item.highest_pitch)
    if item.is_drum:
        low, high = max(low, _DRUM_SOUNDS[0]), min(high, _DRUM_SOUNDS[1])
    if low <= pitch <= high:
        by_scale = "scale" if "scale" in wished.by_kind else "chords"
        return _clash(wished, bar, (kind, by_scale), f"pitch {pitch} is not in it")
    why = f"pitch {pitch} is outside {low} to {high}"
    if "pitch_range" in wished.by_kind:
        return _clash(wished, bar, (kind, "pitch_range"), why)
    return UsageError(
        f"{wished.text(kind)}: the instrument reaches from {low} to {high}; --pitch-range widens it"
    )


def _check_beginning(plan: CompositionPlan, track: int, wished: Mapping[int, _Wishes]) -> None:
    """Raises UsageError where a part cannot begin on its first pitch.

    It begins in the first bar that allows it, behind bars that may stay silent.
    """
    item = plan.tracks[track]
    bars = [bar for _, bar in _written(plan, track)]
    for bar in bars:
        rule = plan.rule(track, bar)
        allowed = set().union(*(pitches for _, pitches in _pitches(item, rule)))
        if item.first_pitch in allowed and rule.most_notes:
            return
        if rule.least_notes or bar == bars[-1]:
            if item.first_pitch in allowed:
                raise _clash(wished[bar], bar, ("first_pitch", "density"), "no note may be there")
            raise _outside(item, bar, rule, wished[bar], "first_pitch")


def _pitches(item: TrackPlan, rule: CellRule) -> list[tuple[float, set[int]]]:
    """What a cell allows from each place on."""
    low, high = rule.pitch_range or (item.lowest_pitch, item.highest_pitch)
    if item.is_drum:
        low, high = max(low, _DRUM_SOUNDS[0]), min(high, _DRUM_SOUNDS[1])
    spans: Classes = rule.classes if rule.classes and not item.is_drum else ((0.0, _ALL),)
    return [
        (place, {pitch for pitch in range(low, high + 1) if pitch % 12 in classes})
        for place, classes in spans
    ]


def _places(steps: Sequence[Fraction], length_q: float) -> int:
    """How many onsets a bar has, on a grid of twelve units a quarter note."""
    units = max(1, math.floor(length_q * 12 + 1e-6))
    if not steps:
        return units
    return sum(
        any((Fraction(unit, 12) / step).denominator == 1 for step in steps) for unit in range(units)
    )


def _positions_needed(tune: Sequence[int], voices: int) -> int:
    """At how many onsets pitches begin at least, in this order: rising ones may share one."""
    limit = min(voices or MAX_CHORD, MAX_CHORD)
    count, stacked, last = 0, limit, 128
    for pitch in tune:
        if pitch > last and stacked < limit:
            stacked += 1
        else:
            count, stacked = count + 1, 1
        last = pitch
    return count


def _check_chords(
    item: TrackPlan,
    rule: CellRule,
    wished: _Wishes,
    bar: int,
    notes: np.ndarray,
    bar_tick: int,
    ppq: int,
) -> None:
    """Raises UsageError where a locked rhythm has more notes at once than there are pitches."""
    spans = _pitches(item, rule)
    anywhere = set().union(*(pitches for _, pitches in spans))
    start = notes["start_tick"].astype(np.int64)
    end = start + notes["duration_tick"]
    for at in np.unique(start).tolist():
        onset = (at - bar_tick) / ppq
        here = [pitches for place, pitches in spans if place <= onset + 1e-6][-1]
        begin, sound = int(np.sum(start == at)), int(np.sum((start <= at) & (end > at)))
        if begin > len(here) or sound > len(anywhere):
            kinds = [kind for kind in ("pitch_range", "scale", "chords") if kind in wished.by_kind]
            most, room = (begin, len(here)) if begin > len(here) else (sound, len(anywhere))
            why = f"{most} locked notes sound at once, and {room} pitches are left"
            raise _clash(wished, bar, ("lock", *kinds[:1]), why)


def _check_lock(
    plan: CompositionPlan,
    track: int,
    bar: int,
    rule: CellRule,
    wished: _Wishes,
    length_q: float,
    clash: Any,
) -> None:
    """The old notes of a locked cell against its other rules."""
    item, lock = plan.tracks[track], wished.text("lock")
    if item.seed_track is None or plan.seed is None or bar >= len(plan.seed_bars):
        raise UsageError(f"{lock}: bar {bar + 1} has no old notes to lock; it is new")
    notes = plan.seed.tracks[item.seed_track].notes[plan.seed_notes(track, bar)]
    if not rule.least_notes <= len(notes) <= rule.most_notes:
        raise clash("lock", "density", f"the bar has {len(notes)} notes")
    if rule.lock == "pitch":
        for kind in _OF_TRACKS:
            if getattr(item, kind) is not None:
                raise clash("lock", kind, "locked pitches begin and end as they are")
        allowed = set.intersection(*(pitches for _, pitches in _pitches(item, rule)))
        outside = sorted(set(notes["pitch"].tolist()) - allowed)
        if outside:
            other = next(
                (kind for kind in ("scale", "chords", "pitch_range") if kind in wished.by_kind), ""
            )
            if other:
                raise clash("lock", other, f"the locked pitch {outside[0]} is outside it")
        needed = _positions_needed(notes["pitch"].tolist(), rule.max_polyphony)
        places = _places(rule.grid_q, length_q)
        if needed > places:
            other = "grid" if rule.grid_q else "max_polyphony"
            why = f"the locked pitches need {needed} places, there are {places}"
            raise _clash(wished, bar, ("lock", other), why)
        return
    place: Bar = plan.seed_bars[bar]
    _check_chords(item, rule, wished, bar, notes, place.start_tick, plan.seed.ppq)
    if rule.grid_q:
        for start in notes["start_tick"].tolist():
            onset = Fraction(start - place.start_tick, plan.seed.ppq)
            if not any((onset / step).denominator == 1 for step in rule.grid_q):
                raise clash("lock", "grid", f"a locked onset at {float(onset):g} is off the grid")
    if rule.max_polyphony:
        start = notes["start_tick"].astype(np.int64)
        end = start + notes["duration_tick"]
        most = max((int(np.sum((start <= at) & (end > at))) for at in start), default=0)
        if most > rule.max_polyphony:
            raise clash("lock", "max_polyphony", f"{most} locked notes sound at once")


def kept_notes(
    plan: CompositionPlan, variation: float, rng: np.random.Generator
) -> Mapping[tuple[int, int], tuple[int, ...]]:
    """Which old notes of the filled cells stay: a share 1 - `variation`, of those the rules allow.

    A note that would break a rule of its cell (its scale, range, grid, number or voices) is not
    kept.
    """
    kept: dict[tuple[int, int], tuple[int, ...]] = {}
    seed = plan.seed
    if seed is None or variation >= 1:
        return kept
    for track, item in enumerate(plan.tracks):
        if item.seed_track is None:
            continue
        notes = seed.tracks[item.seed_track].notes
        bars = [bar for _, bar in _written(plan, track)]
        touched = [plan.seed_notes(track, bar) for bar in bars]
        gone = np.concatenate([*touched, np.zeros(0, np.int64)])
        stays = np.setdiff1d(np.arange(len(notes)), gone).tolist()
        for bar, able in zip(bars, touched, strict=True):
            rule = plan.rule(track, bar)
            if not len(able):
                continue
            start = plan.seed_bars[bar].start_tick
            count = min(round((1 - variation) * len(able)), rule.most_notes)
            chosen: list[int] = []
            for index in rng.permutation(able).tolist():
                if len(chosen) == count:
                    break
                if _may_stay(item, rule, notes, index, [*stays, *chosen], start, seed.ppq):
                    chosen.append(index)
            if chosen:
                kept[track, bar] = tuple(sorted(chosen))
                stays += chosen
    return kept


def _may_stay(
    item: TrackPlan,
    rule: CellRule,
    notes: np.ndarray,
    index: int,
    chosen: Sequence[int],
    bar_tick: int,
    ppq: int,
) -> bool:
    note = notes[index]
    begin, end = int(note["start_tick"]), int(note["start_tick"]) + int(note["duration_tick"])
    onset = Fraction(begin - bar_tick, ppq)
    spans = _pitches(item, rule)
    here = [pitches for place, pitches in spans if place <= float(onset) + 1e-6][-1]
    if (rule.classes or rule.pitch_range) and int(note["pitch"]) not in here:
        return False
    if rule.grid_q and not any((onset / step).denominator == 1 for step in rule.grid_q):
        return False
    if rule.max_polyphony:
        others = notes[list(chosen)]
        starts = others["start_tick"].astype(np.int64)
        ends = starts + others["duration_tick"]
        overlapping = int(np.sum((starts < end) & (ends > begin)))
        return overlapping < rule.max_polyphony
    return True
