"""From what a person asks, in words, to a `CompositionPlan`.

Everything is checked before any sampling begins: names, ranges, regions, what the seed holds, and
whether the wishes go together.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from musegen.errors import MidiError, UsageError
from musegen.music.instruments import parse_instrument
from musegen.music.names import parse_key, parse_meter
from musegen.music.normal import content_end
from musegen.music.score import Bar, Key, Meter, Score
from musegen.music.transform import slice_bars, with_ppq, without_tail
from musegen.tokens.plan import BarPlan, CompositionPlan, Region, TrackPlan, Written
from musegen.tokens.regions import (
    Roster,
    added_regions,
    filled_regions,
    planned_track,
    sounds_as,
)
from musegen.tokens.ruling import kept_notes, rule_cells
from musegen.tokens.tokenizer import Tokenizer
from musegen.tokens.wishes import Controls, Wish, parse_changes

__all__ = ["DEFAULT_BARS", "MAX_BARS", "MAX_MELODIC", "Ask", "Planned", "plan_composition"]

DEFAULT_BARS = 16
"""New bars, where nothing of the seed is written anew."""

MAX_BARS = 1024
"""Bars that one call writes at most."""

MAX_PORTS = 16
"""MIDI ports that one file is written for at most."""

MAX_MELODIC = 15
"""A MIDI port has 16 channels, one of which is the drums'."""

DEFAULT_BPM = 110.0
"""Tempo of a piece from nothing."""

_BARS_AFTER = 4
"""Given bars behind a fill that are shown before it is written. Measured (benchmarks/regions.py, 91
held-out pieces, default model): 0.09 to 0.12 nats a note less on the written cells."""

_KEPT_STREAM = 1
"""Names the random stream that chooses the notes a variation keeps; notes are drawn from others."""

_LEAST_PPQ = 12
"""Ticks a quarter note that the places of the events preset need to be told apart."""

_LISTEN_BARS = 32
"""Tracks that rest for so many bars before the seam are not gone on with."""


@dataclass(frozen=True)
class Ask:
    """What a person asks; None where the seed, or a default, decides."""

    bars: int | None = None
    """New bars; 16 by default, none where regions of the seed are asked for."""
    seed_bars: int | None = None
    instruments: Sequence[str] | None = None
    tempo: float | str | None = None
    """Quarter notes a minute, as 96 or "96,120@9" (bars of the piece, from 1)."""
    time_signature: str | None = None
    """As "3/4" or "4/4,3/4@9"."""
    key: str | None = None
    controls: Controls = field(default_factory=Controls)

    def __post_init__(self) -> None:
        if self.bars is not None and not 1 <= self.bars <= MAX_BARS:
            raise UsageError(f"bars {self.bars}: ask for 1 to {MAX_BARS}")
        if self.seed_bars is not None and self.seed_bars < 1:
            raise UsageError(f"seed bars {self.seed_bars}: use 1 or more, or leave it out for all")
        if self.instruments is not None and not [name for name in self.instruments if name.strip()]:
            raise UsageError("instruments: name at least one, as in piano,bass,drums")

    def to_dict(self) -> dict[str, Any]:
        """What is not the default, by name, as JSON holds it."""
        facts = {item.name: getattr(self, item.name) for item in fields(self)}
        facts.pop("controls")
        if self.instruments is not None:
            facts["instruments"] = list(self.instruments)
        asked = {name: value for name, value in facts.items() if value is not None}
        return asked | self.controls.to_dict()


@dataclass(frozen=True)
class Planned:
    """A plan, and what it needs besides."""

    plan: CompositionPlan
    names: tuple[str, ...]
    """Names of the plan's tracks, for new ones."""
    key: Key | None
    """The key signature of a piece from nothing."""
    warnings: tuple[str, ...]
    meter_asked: bool = False
    """Whether the meter was asked for by name: then it is not mapped to another."""
    variation: float = 1.0
    """The share of old notes in filled cells that make way."""

    def for_sample(self, random_seed: int, sample: int) -> CompositionPlan:
        """The plan of one sample: which old notes stay is drawn for each."""
        if self.variation >= 1:
            return self.plan
        sequence = np.random.SeedSequence([random_seed, sample, _KEPT_STREAM])
        rng = np.random.Generator(np.random.PCG64(sequence))
        return replace(self.plan, kept=kept_notes(self.plan, self.variation, rng))

    def told_channels(self) -> tuple[str, ...]:
        """What says what was asked for, by name: what guidance sharpens. All but `like` are side
        channels.
        """
        names = {name for rule in self.plan.rules.values() for name in rule.told.names()}
        names |= {"style"} if self.plan.style else set()
        names |= {"key"} if self.plan.key else set()
        names |= {"like"} if any(rule.like for rule in self.plan.rules.values()) else set()
        return tuple(sorted(names))

    def bar_times(self) -> tuple[list[float], list[float]]:
        """Of each bar of the piece: its quarter notes, and the seconds a quarter note lasts."""
        plan = self.plan
        lengths = [4 * bar.numerator / bar.denominator for bar in plan.bars]
        seconds = [bar.tempo_us / 1e6 for bar in plan.bars]
        if plan.seed is None:
            return lengths, seconds
        old = [(bar.end_tick - bar.start_tick) / plan.seed.ppq for bar in plan.seed_bars]
        lines = [plan.seed.seconds_at(bar.start_tick) for bar in plan.seed_bars]
        lines.append(plan.seed.seconds_at(plan.seed_bars[-1].end_tick) if plan.seed_bars else 0.0)
        pace = [
            (end - start) / quarters
            for start, end, quarters in zip(lines, lines[1:], old, strict=False)
        ]
        return old + lengths, pace + seconds

    def track_facts(self) -> list[tuple[str, int, bool]]:
        """Name, program and whether it is drums, of each track that is written."""
        pairs = zip(self.names, self.plan.tracks, strict=True)
        return [(name, item.program, item.is_drum) for name, item in pairs]

    def silent(self, written: Written, plan: CompositionPlan) -> tuple[str, ...]:
        """A line for each track that was asked for, or has lost its notes, and has none."""
        sounding = set(written.notes["track"].tolist())
        sounding |= {track for (track, _), notes in plan.kept.items() if notes}
        for index, item in enumerate(plan.tracks):
            bars = np.flatnonzero(plan.open_cells[: len(plan.seed_bars), index]).tolist()
            rested = bars and not any(len(plan.seed_notes(index, bar)) for bar in bars)
            if rested and item.seed_track is not None and item.longest_rest is None:
                sounding.add(index)
        return tuple(
            f"{name} was given no notes" for i, name in enumerate(self.names) if i not in sounding
        )

    def fitted(self, tokenizer: Tokenizer) -> Planned:
        """The plan in meters that a preset can write: a seed's own may be none of them.

        Raises:
            UsageError: a style word that the preset does not know.
        """
        style, known = self.plan.style, tokenizer.styles
        if style and style not in known:
            close = difflib.get_close_matches(style, known, n=1, cutoff=0.5)
            hint = (
                f"did you mean {close[0]}?" if close else f"there are: {', '.join(known) or 'none'}"
            )
            raise UsageError(f"--style {style}: no style word of the model; {hint}")
        if self.meter_asked or not self.plan.bars:
            return self
        bar = self.plan.bars[0]
        near = tokenizer.meter_for(bar.numerator, bar.denominator)
        if near == (bar.numerator, bar.denominator):
            return self
        bars = tuple(BarPlan(*near, each.tempo_us) for each in self.plan.bars)
        warning = (
            f"the seed's meter {bar.numerator}/{bar.denominator} is not in the preset "
            f"{tokenizer.name!r}: the new bars are in {near[0]}/{near[1]}"
        )
        return replace(self, plan=replace(self.plan, bars=bars), warnings=(*self.warnings, warning))


def plan_composition(ask: Ask, seed: Score | None, name: str = "the seed") -> Planned:
    """Checks what is asked against the seed and makes the plan.

    Raises:
        UsageError: an unknown name, a region outside the piece, wishes that clash, more
            instruments than channels, more seed bars than there are.
        MidiError: the seed (called `name`) has no notes, or more tracks than MIDI has channels.
    """
    warnings: list[str] = []
    key = parse_key(ask.key) if ask.key is not None else None
    wishes = ask.controls.wishes()
    fills, adds, keeps = (
        [wish for wish in wishes if wish.kind == kind] for kind in ("fill", "add", "keep")
    )
    seed_bars: tuple[Bar, ...] = ()
    if seed is not None:
        keep_tail = ask.bars is None and bool(fills or adds)
        seed, seed_bars = _cut_seed(seed, ask.seed_bars, name, warnings, keep_tail)
    elif ask.seed_bars is not None:
        raise UsageError("seed bars without a seed: name a MIDI file to go on from")
    in_seed = bool(fills or adds) and seed is not None
    new_bars = ask.bars if ask.bars is not None else (0 if in_seed else DEFAULT_BARS)
    _check_new(ask, new_bars, fills, adds)
    roster = Roster(seed)
    regions: list[Region] = []
    if new_bars:
        for item, called in zip(*_tracks(ask, seed, seed_bars, warnings), strict=True):
            roster.add(item, called)
        first = len(seed_bars)
        regions = [Region(i, first, first + new_bars) for i in range(len(roster.tracks))]
    regions += filled_regions(fills, keeps, roster, seed_bars)
    regions += added_regions(adds, roster, seed_bars, new_bars)
    _check_channels(roster)
    plan = CompositionPlan(
        tracks=tuple(roster.tracks),
        bars=_bars(ask, seed, len(seed_bars), new_bars),
        seed=seed,
        seed_bars=seed_bars,
        regions=tuple(regions),
        key=_key_id(key),
        style=ask.controls.style,
        bars_after=_BARS_AFTER if fills else 0,
    )
    variation = ask.controls.variation
    if variation is not None and not fills:
        raise UsageError("--variation: there is no --fill whose old notes it could keep")
    lengths_q = [
        *((bar.end_tick - bar.start_tick) / seed.ppq for bar in seed_bars if seed is not None),
        *(4 * bar.numerator / bar.denominator for bar in plan.bars),
    ]
    plan = rule_cells(
        plan,
        roster,
        wishes,
        lengths_q,
        strict_scale=ask.controls.strict_scale,
        strict_chords=ask.controls.strict_chords,
        variation=f"--variation {variation:g}" if variation is not None and variation < 1 else "",
    )
    planned = Planned(
        plan,
        tuple(roster.names),
        key,
        tuple(warnings),
        ask.time_signature is not None,
        1.0 if variation is None else variation,
    )
    if ask.controls.guidance != 1.0 and not planned.told_channels():
        text = f"--guidance {ask.controls.guidance:g} changes nothing: no learned control is asked"
        planned = replace(planned, warnings=(*planned.warnings, text))
    return planned


def _check_new(ask: Ask, new_bars: int, fills: Sequence[Wish], adds: Sequence[Wish]) -> None:
    """What says something of new bars needs some."""
    if new_bars:
        return
    region = (*fills, *adds)[0].text
    for option, value in (
        ("--tempo", ask.tempo),
        ("--time-signature", ask.time_signature),
        ("--instruments", ask.instruments),
    ):
        if value is not None:
            raise UsageError(
                f"{option} and {region} clash: the bars there have theirs already; "
                "--bars N writes new ones behind them"
            )


def _check_channels(roster: Roster) -> None:
    """Raises UsageError where the tracks are more than a port has channels."""
    new = [item for item in roster.tracks if item.seed_track is None]
    drums = sum(item.is_drum for item in new)
    if drums > 1:
        raise UsageError("instruments: one drum kit is possible, a port has one drum channel")
    seed_tracks = roster.seed.tracks if roster.seed is not None else ()
    melodic = len(new) - drums + sum(not track.is_drum for track in seed_tracks)
    if melodic > MAX_MELODIC and len(new) > drums:
        raise UsageError(
            f"{melodic} melodic instruments with the new ones: MIDI has channels for {MAX_MELODIC} "
            "beside the drums; ask for fewer in --add or --instruments"
        )


def _bars(ask: Ask, seed: Score | None, first: int, count: int) -> tuple[BarPlan, ...]:
    """The new bars with their meters and tempi, those of the seed's end where nothing is asked."""
    last = seed.meters[-1] if seed is not None else Meter(0, 4, 4)
    tempo_us = seed.tempos[-1].tempo_us if seed is not None else round(6e7 / DEFAULT_BPM)
    meters: dict[int, Meter] = {}
    tempos: dict[int, int] = {}
    if ask.time_signature is not None:
        for text, bar in _changes(ask.time_signature, "time signature", first, count):
            meters[bar] = parse_meter(text)
    if ask.tempo is not None:
        for text, bar in _changes(f"{ask.tempo}", "tempo", first, count):
            tempos[bar] = _tempo_us(text)
    bars = []
    for bar in range(count):
        last, tempo_us = meters.get(bar, last), tempos.get(bar, tempo_us)
        bars.append(BarPlan(last.numerator, last.denominator, tempo_us))
    return tuple(bars)


def _changes(text: str, what: str, first: int, count: int) -> list[tuple[str, int]]:
    """Values with the new bars (from 0) from which they hold."""
    found = []
    for value, bar in parse_changes(text, what=what):
        if 1 < bar <= first:
            raise UsageError(f"{what} {value} at bar {bar}: that bar is the seed's")
        if bar > first + count:
            raise UsageError(f"{what} {value} at bar {bar}: the piece has {first + count} bars")
        found.append((value, max(0, bar - 1 - first)))
    return found


def _tempo_us(text: str) -> int:
    try:
        bpm = float(text)
    except ValueError:
        raise UsageError(f"tempo {text!r}: say a number, as in 96 or 96,120@9") from None
    if not 10 <= bpm <= 500:
        raise UsageError(f"tempo {text}: ask for 10 to 500 quarter notes a minute")
    return round(6e7 / bpm)


def _cut_seed(
    seed: Score, wanted: int | None, name: str, warnings: list[str], keep_tail: bool
) -> tuple[Score, tuple[Bar, ...]]:
    """The seed's first bars; all of them by default.

    What follows its last bar makes way, unless `keep_tail`. A seed too coarse for the grid gets
    finer ticks: places that share a tick could not be told apart.
    """
    if not seed.num_notes:
        raise MidiError(f"{name}: no notes in it; give a seed with music in it, or none")
    if seed.ppq < _LEAST_PPQ:
        finer = seed.ppq * -(-_LEAST_PPQ // seed.ppq)
        warnings.append(f"{name} has {seed.ppq} ticks a quarter note: here {finer}, all in place")
        seed = with_ppq(seed, finer)
    bars = seed.bars()
    if wanted is not None and wanted > len(bars):
        raise UsageError(f"seed bars {wanted}: the seed has {len(bars)}")
    melodic = sum(not track.is_drum for track in seed.tracks)
    if melodic > MAX_PORTS * MAX_MELODIC:
        raise MidiError(
            f"{name}: {melodic} melodic instruments; {MAX_PORTS} MIDI ports have channels for "
            f"{MAX_PORTS * MAX_MELODIC}; leave some out"
        )
    count = wanted or len(bars)
    if count < len(bars):
        seed = slice_bars(seed, 0, count)
        if not seed.num_notes:
            raise UsageError(f"the first {count} bars of the seed have no notes; use more of them")
    elif not keep_tail and content_end(seed) > bars[-1].end_tick:
        # A meter or a tempo there would change bars that are to be written.
        seed = without_tail(seed, bars[-1].end_tick)
        warnings.append("events after the last bar of the seed's music were left out")
    return seed, tuple(bars[:count])


def _tracks(
    ask: Ask, seed: Score | None, seed_bars: tuple[Bar, ...], warnings: list[str]
) -> tuple[tuple[TrackPlan, ...], tuple[str, ...]]:
    """The tracks to write: those of the seed that sound near its end, or those asked for."""
    sounding = _sounding(seed, seed_bars) if seed is not None else []
    if ask.instruments is None:
        if seed is None:
            return (planned_track(0, False),), ("Piano",)
        chosen = tuple(
            planned_track(sounds_as(seed.tracks[index]), seed.tracks[index].is_drum, seed, index)
            for index in sounding
        )
        resting = sum(len(track) > 0 for track in seed.tracks) - len(sounding)
        if resting:
            warnings.append(
                f"{resting} tracks of the seed rest in its last {_LISTEN_BARS} bars and stay silent"
            )
        return chosen, tuple(seed.tracks[index].name for index in sounding)
    asked = [parse_instrument(name) for name in ask.instruments if name.strip()]
    free = list(sounding)
    tracks, names = [], []
    for instrument in asked:
        match = next(
            (
                index
                for index in free
                if seed is not None
                and seed.tracks[index].is_drum == instrument.is_drum
                and (instrument.is_drum or sounds_as(seed.tracks[index]) == instrument.program)
            ),
            None,
        )
        if match is not None:
            free.remove(match)
        tracks.append(planned_track(instrument.program, instrument.is_drum, seed, match))
        names.append(instrument.name)
    return tuple(tracks), tuple(names)


def _sounding(seed: Score, bars: tuple[Bar, ...]) -> list[int]:
    """Tracks with notes in the last bars; all with notes if that leaves none."""
    since = bars[max(0, len(bars) - _LISTEN_BARS)].start_tick
    near = [
        index
        for index, track in enumerate(seed.tracks)
        if len(track) and track.notes["start_tick"][-1] >= since
    ]
    return near or [index for index, track in enumerate(seed.tracks) if len(track)]


def _key_id(key: Key | None) -> int:
    """1 + pitch class of the tonic (+ 12 in minor); 0 for no key."""
    if key is None:
        return 0
    tonic = (key.fifths * 7 + (9 if key.minor else 0)) % 12
    return 1 + tonic + 12 * key.minor
