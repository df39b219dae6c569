"""From what a person asks, in words, to a `CompositionPlan`.

Everything is checked before any sampling begins: names, ranges, what the seed holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from musegen.errors import MidiError, UsageError
from musegen.music.instruments import parse_instrument
from musegen.music.names import parse_key, parse_meter
from musegen.music.normal import content_end
from musegen.music.ranges import instrument_range
from musegen.music.score import Bar, Key, Meter, Score, Track
from musegen.music.transform import slice_bars, without_tail
from musegen.tokens.plan import BarPlan, CompositionPlan, TrackPlan, Written
from musegen.tokens.tokenizer import Tokenizer

__all__ = ["MAX_BARS", "MAX_MELODIC", "Ask", "plan_composition"]

MAX_BARS = 1024
"""Bars that one call writes at most."""

MAX_PORTS = 16
"""MIDI ports that one file is written for at most."""

MAX_MELODIC = 15
"""A MIDI port has 16 channels, one of which is the drums'."""

DEFAULT_BPM = 110.0
"""Tempo of a piece from nothing."""

_LISTEN_BARS = 32
"""Tracks that rest for so many bars before the seam are not gone on with."""


@dataclass(frozen=True)
class Ask:
    """What a person asks; None where the seed, or a default, decides."""

    bars: int = 16
    seed_bars: int | None = None
    instruments: Sequence[str] | None = None
    tempo_bpm: float | None = None
    time_signature: str | None = None
    key: str | None = None
    style: str = ""

    def __post_init__(self) -> None:
        if not 1 <= self.bars <= MAX_BARS:
            raise UsageError(f"bars {self.bars}: ask for 1 to {MAX_BARS}")
        if self.seed_bars is not None and self.seed_bars < 1:
            raise UsageError(f"seed bars {self.seed_bars}: use 1 or more, or leave it out for all")
        if self.tempo_bpm is not None and not 10 <= self.tempo_bpm <= 500:
            raise UsageError(f"tempo {self.tempo_bpm}: ask for 10 to 500 quarter notes a minute")
        if self.instruments is not None and not [name for name in self.instruments if name.strip()]:
            raise UsageError("instruments: name at least one, as in piano,bass,drums")


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

    def silent(self, written: Written) -> tuple[str, ...]:
        """A line for each track that was asked for and has no note."""
        sounding = set(written.notes["track"].tolist())
        return tuple(
            f"{name} was given no notes" for i, name in enumerate(self.names) if i not in sounding
        )

    def fitted(self, tokenizer: Tokenizer) -> Planned:
        """The plan in meters that a preset can write: a seed's own may be none of them."""
        if self.meter_asked:
            return self
        bar = self.plan.bars[0]
        near = tokenizer.meter_for(bar.numerator, bar.denominator)
        if near == (bar.numerator, bar.denominator):
            return self
        bars = tuple(BarPlan(*near, bar.tempo_us) for bar in self.plan.bars)
        warning = (
            f"the seed's meter {bar.numerator}/{bar.denominator} is not in the preset "
            f"{tokenizer.name!r}: the new bars are in {near[0]}/{near[1]}"
        )
        return replace(self, plan=replace(self.plan, bars=bars), warnings=(*self.warnings, warning))


def plan_composition(ask: Ask, seed: Score | None, name: str = "the seed") -> Planned:
    """Checks what is asked against the seed and makes the plan.

    Raises:
        UsageError: an unknown name, more instruments than channels, more seed bars than there are.
        MidiError: the seed (called `name`) has no notes, or more tracks than MIDI has channels.
    """
    warnings: list[str] = []
    key = parse_key(ask.key) if ask.key is not None else None
    meter = parse_meter(ask.time_signature) if ask.time_signature is not None else None
    seed_bars: tuple[Bar, ...] = ()
    if seed is not None:
        seed, seed_bars = _cut_seed(seed, ask.seed_bars, name, warnings)
    elif ask.seed_bars is not None:
        raise UsageError("seed bars without a seed: name a MIDI file to go on from")
    tracks, names = _tracks(ask, seed, seed_bars, warnings)
    tempo_us = _tempo_us(ask, seed)
    if meter is None:
        last = seed.meters[-1] if seed is not None else Meter(0, 4, 4)
        meter = Meter(0, last.numerator, last.denominator)
    bars = tuple(BarPlan(meter.numerator, meter.denominator, tempo_us) for _ in range(ask.bars))
    plan = CompositionPlan(
        tracks=tracks,
        bars=bars,
        seed=seed,
        seed_bars=seed_bars,
        key=_key_id(key),
        style=ask.style,
    )
    return Planned(plan, names, key, tuple(warnings), ask.time_signature is not None)


def _cut_seed(
    seed: Score, wanted: int | None, name: str, warnings: list[str]
) -> tuple[Score, tuple[Bar, ...]]:
    """The seed's first bars; all of them by default. What follows its last bar makes way."""
    if not seed.num_notes:
        raise MidiError(f"{name}: no notes in it; give a seed with music in it, or none")
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
    elif content_end(seed) > bars[-1].end_tick:
        # A meter or a tempo there would change bars that are to be written.
        seed = without_tail(seed, bars[-1].end_tick)
        warnings.append("events after the last bar of the seed's music were left out")
    return seed, tuple(bars[:count])


def _tempo_us(ask: Ask, seed: Score | None) -> int:
    if ask.tempo_bpm is not None:
        return round(6e7 / ask.tempo_bpm)
    if seed is not None:
        return seed.tempos[-1].tempo_us
    return round(6e7 / DEFAULT_BPM)


def _tracks(
    ask: Ask, seed: Score | None, seed_bars: tuple[Bar, ...], warnings: list[str]
) -> tuple[tuple[TrackPlan, ...], tuple[str, ...]]:
    """The tracks to write: those of the seed that sound near its end, or those asked for."""
    sounding = _sounding(seed, seed_bars) if seed is not None else []
    if ask.instruments is None:
        if seed is None:
            return (_track(0, False),), ("Piano",)
        chosen = tuple(
            _track(_sounds_as(seed.tracks[index]), seed.tracks[index].is_drum, seed, index)
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
                and (instrument.is_drum or _sounds_as(seed.tracks[index]) == instrument.program)
            ),
            None,
        )
        if match is not None:
            free.remove(match)
        tracks.append(_track(instrument.program, instrument.is_drum, seed, match))
        names.append(instrument.name)
    if sum(track.is_drum for track in tracks) > 1:
        raise UsageError("instruments: one drum kit is possible, a port has one drum channel")
    melodic = sum(not track.is_drum for track in tracks if track.seed_track is None) + sum(
        not track.is_drum for track in (seed.tracks if seed is not None else ())
    )
    if melodic > MAX_MELODIC and any(track.seed_track is None for track in tracks):
        raise UsageError(
            f"{melodic} melodic instruments: MIDI has channels for {MAX_MELODIC} beside the drums; "
            "ask for fewer"
        )
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


def _sounds_as(track: Track) -> int:
    """The program in force at the end of a track: new notes will sound in it."""
    return track.program_changes[-1].program if track.program_changes else track.program


def _track(
    program: int, is_drum: bool, seed: Score | None = None, index: int | None = None
) -> TrackPlan:
    """A track within its instrument's range, or as far as the seed itself goes beyond it."""
    if is_drum:
        return TrackPlan(program, True, index)
    low, high = instrument_range(program)
    if seed is not None and index is not None:
        pitches = seed.tracks[index].notes["pitch"]
        low, high = min(low, int(np.min(pitches))), max(high, int(np.max(pitches)))
    return TrackPlan(program, False, index, low, high)


def _key_id(key: Key | None) -> int:
    """1 + pitch class of the tonic (+ 12 in minor); 0 for no key."""
    if key is None:
        return 0
    tonic = (key.fifths * 7 + (9 if key.minor else 0)) % 12
    return 1 + tonic + 12 * key.minor
