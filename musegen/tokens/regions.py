"""Which cells are written: the tracks by the names that people use, the regions they ask for."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from musegen.errors import UsageError
from musegen.music.instruments import Instrument, family_name, parse_instrument
from musegen.music.ranges import instrument_range
from musegen.music.score import Bar, Score, Track
from musegen.tokens.plan import Region, TrackPlan
from musegen.tokens.wishes import Wish

__all__ = ["Part", "Roster", "added_regions", "filled_regions", "planned_track", "sounds_as"]


@dataclass(frozen=True)
class Part:
    """A track as people speak of it."""

    name: str
    program: int
    is_drum: bool

    def plays(self, instrument: Instrument) -> bool:
        """Whether it is this very instrument."""
        if instrument.is_drum or self.is_drum:
            return instrument.is_drum and self.is_drum
        return instrument.program == self.program

    def is_like(self, instrument: Instrument) -> bool:
        """Whether it is an instrument of the same family."""
        if instrument.is_drum or self.is_drum:
            return instrument.is_drum and self.is_drum
        return family_name(instrument.program) == family_name(self.program)


def sounds_as(track: Track, tick: int | None = None) -> int:
    """The program in force at a tick of a track, or at its end."""
    changes = [c for c in track.program_changes if tick is None or c.tick <= tick]
    return changes[-1].program if changes else track.program


LONGEST_REST = 4
"""A new track rests for a phrase at most; who asks for an instrument wants to hear it."""

LONGEST_REST_ADDED = 1
"""Of tracks that accompany a seed, or that are filled where they rest."""


def planned_track(
    program: int, is_drum: bool, seed: Score | None = None, index: int | None = None
) -> TrackPlan:
    """A track within its instrument's range, or as far as the seed itself goes beyond it."""
    rest = LONGEST_REST if index is None else None
    if is_drum:
        return TrackPlan(program, True, index, longest_rest=rest)
    low, high = instrument_range(program)
    if seed is not None and index is not None and len(seed.tracks[index]):
        pitches = seed.tracks[index].notes["pitch"]
        low, high = min(low, int(np.min(pitches))), max(high, int(np.max(pitches)))
    return TrackPlan(program, False, index, low, high, longest_rest=rest)


@dataclass
class Roster:
    """The tracks that are written, in the making, and those of the seed that are not."""

    seed: Score | None
    tracks: list[TrackPlan] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    def of_seed(self, index: int, tick: int | None = None) -> int:
        """The plan's track that goes on from a track of the seed; added where there is none."""
        for place, item in enumerate(self.tracks):
            if item.seed_track == index:
                return place
        if self.seed is None:
            raise UsageError("there is no seed")
        track = self.seed.tracks[index]
        self.tracks.append(planned_track(sounds_as(track, tick), track.is_drum, self.seed, index))
        self.names.append(track.name)
        return len(self.tracks) - 1

    def add(self, item: TrackPlan, name: str) -> int:
        """A new track."""
        self.tracks.append(item)
        self.names.append(name)
        return len(self.tracks) - 1

    def parts(self) -> list[tuple[Part, int | None, int | None]]:
        """All tracks of the result in order: the part, its seed track, its plan track."""
        of_plan = {item.seed_track: place for place, item in enumerate(self.tracks)}
        found: list[tuple[Part, int | None, int | None]] = []
        if self.seed is not None:
            for index, track in enumerate(self.seed.tracks):
                part = Part(track.name, sounds_as(track), track.is_drum)
                found.append((part, index, of_plan.get(index)))
        for place, (item, name) in enumerate(zip(self.tracks, self.names, strict=True)):
            if item.seed_track is None:
                found.append((Part(name, item.program, item.is_drum), None, place))
        return found

    def find(
        self, name: str, text: str, written: bool = False
    ) -> list[tuple[int | None, int | None]]:
        """The tracks that a name means: (seed track, plan track) of each.

        A track's own name comes first, then its number in the result (from 1), its instrument, a
        word of its name, its family of instruments. `text` is what was typed, for the message.
        With `written`, tracks that are written come before all others: a bass that is added is
        meant rather than the seed's.

        Raises:
            UsageError: there is none.
        """
        parts = self.parts()
        plain = name.strip().casefold()
        number = plain.removeprefix("#")
        try:
            instrument: Instrument | None = parse_instrument(name)
        except UsageError:
            instrument = None
        tests = [
            lambda part, _: part.name.casefold() == plain,
            lambda _, place: number.isdecimal() and place + 1 == int(number),
            lambda part, _: instrument is not None and part.plays(instrument),
            lambda part, _: plain in part.name.casefold().split(),
            lambda part, _: instrument is not None and part.is_like(instrument),
        ]
        met = [
            [(seed, plan) for place, (part, seed, plan) in enumerate(parts) if test(part, place)]
            for test in tests
        ]
        if written:
            met = [[one for one in some if one[1] is not None] for some in met] + met
        for some in met:
            if some:
                return some
        known = [part.name for part, _, _ in parts]
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known) or 'none'}"
        raise UsageError(f"{text}: no track is called {name!r}; {hint}")

    def written(self, names: Sequence[str], text: str) -> list[int]:
        """The plan's tracks that names mean; all of them where none is named."""
        if not names:
            return list(range(len(self.tracks)))
        found = []
        for name in names:
            met = [plan for _, plan in self.find(name, text, written=True) if plan is not None]
            if not met:
                raise UsageError(
                    f"{text}: {name!r} is not written, it stays as it is; fill it or leave it out"
                )
            found += met
        return list(dict.fromkeys(found))


def filled_regions(
    fills: Sequence[Wish], keeps: Sequence[Wish], roster: Roster, bars: Sequence[Bar]
) -> list[Region]:
    """The regions of `--fill`; the roster takes in their tracks.

    Raises:
        UsageError: bars outside the seed, two fills of one cell, a track that there is not.
    """
    if not fills:
        if keeps:
            raise UsageError(f"{keeps[0].text}: there is no --fill that would touch it")
        return []
    seed = roster.seed
    if seed is None:
        raise UsageError(f"{fills[0].text}: there is no seed to fill; name a MIDI file")
    kept = {
        index: keep.text
        for keep in keeps
        for name in keep.value
        for index, _ in roster.find(name, keep.text)
        if index is not None
    }
    regions: list[Region] = []
    by: dict[tuple[int, int], str] = {}
    for fill in fills:
        first, last = fill.scope.first_bar, fill.scope.last_bar
        if last > len(bars):
            raise UsageError(f"{fill.text}: the seed has {len(bars)} bars")
        named = [
            index
            for name in fill.scope.tracks
            for index, _ in roster.find(name, fill.text)
            if index is not None
        ]
        chosen = named or [i for i, track in enumerate(seed.tracks) if len(track) and i not in kept]
        clash = next((index for index in named if index in kept), None)
        if clash is not None:
            name = seed.tracks[clash].name
            raise UsageError(f"{fill.text} and {kept[clash]} clash over track {name!r}")
        if not chosen:
            raise UsageError(f"{fill.text}: no track is left to fill")
        for index in dict.fromkeys(chosen):
            for bar in range(first - 1, last):
                if (index, bar) in by:
                    raise UsageError(
                        f"{by[index, bar]} and {fill.text} overlap in bar {bar + 1} of "
                        f"{seed.tracks[index].name!r}: fill each bar once"
                    )
                by[index, bar] = fill.text
            place = roster.of_seed(index, bars[first - 1].start_tick)
            regions.append(Region(place, first - 1, last))
            starts = seed.tracks[index].notes["start_tick"]
            span = bars[first - 1].start_tick, bars[last - 1].end_tick
            if named and not np.any((starts >= span[0]) & (starts < span[1])):
                # Who names a track where it rests wants to hear it there.
                item = replace(roster.tracks[place], longest_rest=LONGEST_REST_ADDED)
                roster.tracks[place] = item
    return regions


def added_regions(
    adds: Sequence[Wish], roster: Roster, bars: Sequence[Bar], new_bars: int
) -> list[Region]:
    """The regions of `--add`: new tracks over the seed's bars and the new ones.

    Raises:
        UsageError: no seed, bars outside the piece, an unknown instrument.
    """
    regions = []
    for add in adds:
        if roster.seed is None:
            raise UsageError(f"{add.text}: there is no seed to accompany; use --instruments")
        total = len(bars) + new_bars
        first, last = add.scope.first_bar or 1, add.scope.last_bar or total
        if last > total:
            raise UsageError(f"{add.text}: the piece has {total} bars")
        for name in add.value:
            instrument = parse_instrument(name)
            if instrument.is_drum and any(track.is_drum for track in roster.seed.tracks):
                raise UsageError(
                    f"{add.text}: the seed has drums, and a port has one drum channel; "
                    f"--fill 1-{len(bars)}@drums writes them anew"
                )
            item = planned_track(instrument.program, instrument.is_drum)
            item = replace(item, longest_rest=LONGEST_REST_ADDED)
            place = roster.add(item, instrument.name)
            regions.append(Region(place, first - 1, last))
    return regions
