"""What a piece of music says of words and colours: measured facts, and a rule that people can edit.

The rule is a TOML file (`rule.toml` is ours): nothing is learned, and nobody claims that music has
these colours.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np

from musegen.config import from_dict, nearest, read_toml
from musegen.errors import ConfigError
from musegen.music.analysis import estimate_key, notes_per_beat, pitched_notes
from musegen.music.score import Score

__all__ = ["Mood", "PaletteRule", "Rule", "WordRule", "load_rule", "mood_of"]

OWN_RULE = Path(__file__).with_name("rule.toml")

_ROUGH = (1, 2, 6, 10, 11)
"""Intervals, in semitones above an octave's bottom, that are heard as rough or open."""


@dataclass(frozen=True)
class Mood:
    """Measured facts of a piece; each is a number that a rule may ask for."""

    tempo: float
    """Quarter notes a minute, in the mean over the length."""
    minor: float
    """1 where the key that fits best is minor, else 0."""
    tonic: float
    """Pitch class of that key, 0 for C."""
    density: float
    """Notes a quarter note."""
    range: float
    """Semitones between the 5th and the 95th percentile of the pitches."""
    register: float
    """Mean pitch."""
    tension: float
    """Share of the pairs of pitches that sound at a note's beginning which are seconds, sevenths or
    tritones."""
    loudness: float
    """Mean velocity."""


def mood_of(score: Score) -> Mood:
    """The facts of a score; without pitched notes those of pitch are of a middle C."""
    notes = pitched_notes(score)
    every = np.concatenate([track.notes for track in score.tracks]) if score.tracks else notes
    key = estimate_key(score)
    tonic = minor = 0.0
    if key is not None:
        found = key.key
        tonic = float((found.fifths * 7 + (9 if found.minor else 0)) % 12)
        minor = float(found.minor)
    pitches = notes["pitch"].astype(float) if len(notes) else np.full(1, 60.0)
    low, high = np.percentile(pitches, (5, 95))
    end = max(1, score.end_tick)
    seconds = max(score.seconds_at(end), 1e-9)
    return Mood(
        tempo=60 * end / score.ppq / seconds,
        minor=minor,
        tonic=tonic,
        density=notes_per_beat(score),
        range=float(high - low),
        register=float(pitches.mean()),
        tension=_tension(notes),
        loudness=float(every["velocity"].mean()) if len(every) else 64.0,
    )


def _tension(notes: np.ndarray, most: int = 4000) -> float:
    notes = notes[np.argsort(notes["start_tick"], kind="stable")][:most]
    start = notes["start_tick"].astype(np.int64)
    end = start + notes["duration_tick"]
    rough = total = 0
    for index in range(len(notes)):
        first = max(0, index - 24)
        sounding = np.flatnonzero(end[first:index] > start[index]) + first
        apart = np.abs(notes["pitch"][sounding].astype(int) - int(notes["pitch"][index])) % 12
        apart = apart[apart > 0]
        rough += int(np.isin(apart, _ROUGH).sum())
        total += len(apart)
    return rough / total if total else 0.0


@dataclass(frozen=True)
class WordRule:
    """Words that are said when a fact lies between two numbers."""

    fact: str
    """A field of `Mood`."""
    words: tuple[str, ...]
    above: float = float("-1e9")
    below: float = float("1e9")

    def __post_init__(self) -> None:
        """Raises ConfigError for a fact that there is not."""
        known = [item.name for item in fields(Mood)]
        if self.fact not in known:
            raise ConfigError(f"rule: fact '{self.fact}': {nearest(self.fact, known)}")


@dataclass(frozen=True)
class PaletteRule:
    """How facts become colours, in OKLCH (colours.py)."""

    hue: float = 40.0
    """Degrees, of C; each fifth upward turns by `turn`."""
    turn: float = 30.0
    minor_hue: float = 150.0
    """Added in minor."""
    lightness: float = 0.93
    """Of the paper in major; `minor_lightness` in minor."""
    minor_lightness: float = 0.24
    chroma: float = 0.04
    """Of a slow piece; `fast_chroma` of one of 160 quarters a minute."""
    fast_chroma: float = 0.12
    spread: float = 40.0
    """Degrees between the first and second colour without tension; `tense_spread` at 0.5."""
    tense_spread: float = 180.0


@dataclass(frozen=True)
class Rule:
    """A rule file."""

    most_words: int = 4
    words: tuple[WordRule, ...] = ()
    palette: PaletteRule = field(default_factory=PaletteRule)

    def said(self, mood: Mood) -> tuple[str, ...]:
        """The words of a piece, in the order of the file, each once."""
        found: dict[str, None] = {}
        for rule in self.words:
            if rule.above < getattr(mood, rule.fact) < rule.below:
                found |= dict.fromkeys(rule.words)
        return tuple(found)[: self.most_words]


def load_rule(path: Path | None = None) -> Rule:
    """A rule file; ours by default. Raises ConfigError."""
    file = path or OWN_RULE
    return from_dict(Rule, read_toml(file), file.name)
