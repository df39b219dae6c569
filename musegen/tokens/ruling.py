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
from musegen.tokens.wishes import Wish

__all__ = ["kept_notes", "rule_cells"]

_ALL = frozenset(range(12))

_REGIONS = ("fill", "add", "keep")
_OF_TRACKS = ("first_pitch", "last_pitch")


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
            cells.setdefault(cell, _Wishes()).by_kind[wish.kind] = wish
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
    return replace(plan, rules=rules)


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
    if not scope.tracks and wish.kind in ("scale", "chords", "register", "length"):
        chosen = [track for track in chosen if not plan.tracks[track].is_drum]
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
        origins=origins,
    )


def _check_cell(
    plan: CompositionPlan, track: int, bar: int, rule: CellRule, wished: _Wishes, length_q: float
) -> None:
    """Raises UsageError, naming both, where two rules of a cell cannot both hold."""

    def clash(one: str, other: str, why: str) -> UsageError:
        texts = [wished.text(kind) for kind in (one, other) if kind in wished.by_kind]
        return UsageError(f"{' and '.join(texts)} clash in bar {bar + 1}: {why}")

    item = plan.tracks[track]
    by_scale = "scale" if "scale" in wished.by_kind else "chords"
    spans = _pitches(item, rule)
    if not all(spans_pitches for _, spans_pitches in spans):
        other = "pitch_range" if "pitch_range" in wished.by_kind else "chords"
        raise clash(by_scale, other, "no pitch is left")
    anywhere = set().union(*(pitches for _, pitches in spans))
    for kind in _ends_in(plan, track, bar, rule, anywhere):
        pitch = getattr(item, kind)
        low, high = rule.pitch_range or (item.lowest_pitch, item.highest_pitch)
        if low <= pitch <= high:
            raise clash(kind, by_scale, f"pitch {pitch} is not in it")
        if "pitch_range" in wished.by_kind:
            raise clash(kind, "pitch_range", f"pitch {pitch} is outside {low} to {high}")
        raise UsageError(
            f"{wished.text(kind)}: the instrument reaches from {low} to {high}; "
            "--pitch-range widens it"
        )
    if rule.lock:
        _check_lock(plan, track, bar, rule, wished, clash)
        return
    if rule.least_notes:
        places = _places(rule.grid_q, length_q)
        voices = min(rule.max_polyphony or MAX_CHORD, MAX_CHORD)
        if rule.least_notes > places * min(voices, len(anywhere)):
            narrow = next(
                (
                    kind
                    for kind in ("max_polyphony", "grid", "scale", "chords", "pitch_range")
                    if kind in wished.by_kind
                ),
                "",
            )
            raise clash("density", narrow, f"there are {places} places for notes in the bar")
    ends = {item.first_pitch, item.last_pitch} - {None}
    if rule.most_notes < len(ends) and len(list(_written(plan, track))) == 1:
        raise clash("density", "last_pitch", f"the part needs {len(ends)} notes")
    last_bar = bar == np.flatnonzero(plan.open_cells[:, track])[-1]
    if rule.most_notes < 1 and item.last_pitch is not None and last_bar:
        raise clash("density", "last_pitch", "its last bar must have a note")


def _ends_in(
    plan: CompositionPlan, track: int, bar: int, rule: CellRule, pitches: set[int]
) -> Iterator[str]:
    """Which ends of its part a cell would have to hold, and cannot."""
    item, bars = plan.tracks[track], np.flatnonzero(plan.open_cells[:, track])
    if item.last_pitch is not None and bar == bars[-1] and item.last_pitch not in pitches:
        yield "last_pitch"
    # The part begins where it may; the first bar that must have notes must have that one.
    begins = bar == bars[0] and (rule.least_notes or len(bars) == 1)
    if item.first_pitch is not None and begins and item.first_pitch not in pitches:
        yield "first_pitch"


def _pitches(item: TrackPlan, rule: CellRule) -> list[tuple[float, set[int]]]:
    """What a cell allows from each place on."""
    low, high = rule.pitch_range or (item.lowest_pitch, item.highest_pitch)
    if item.is_drum:
        low, high = max(low, 27), min(high, 87)
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


def _check_lock(
    plan: CompositionPlan, track: int, bar: int, rule: CellRule, wished: _Wishes, clash: Any
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
        return
    place: Bar = plan.seed_bars[bar]
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
