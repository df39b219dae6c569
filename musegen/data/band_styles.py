"""How bands play: a style is a table of patterns; arranger.py plays them.

Patterns are of one bar of 4/4, in units of 1/12 quarter note. A bass note is (place, length, what):
R the root, 5 the fifth, 8 the octave, 3 the third, 7 the seventh (or the octave where the chord has
none), N the root of the chord that comes next. A strike of the chord is (place, length).
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["STYLES", "Style"]

Bass = tuple[tuple[int, int, str], ...]
Strikes = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Style:
    """What players agree on."""

    drums: tuple[str, ...]
    """Beginnings of the styles of drumming, as the Groove dataset names them."""
    word: str
    """The style word of the tokens."""
    tempo_bpm: tuple[int, int]
    bass: tuple[Bass, ...]
    """Patterns to choose from; none: a walking bass."""
    strikes: tuple[Strikes, ...]
    """Patterns of the chords to choose from."""
    bass_programs: tuple[int, ...]
    chord_programs: tuple[int, ...]
    lead_programs: tuple[int, ...]
    swing: bool = False
    """Whether off-beat eighths come at two thirds of the beat."""
    sevenths: bool = False
    """Whether plain triads get their sevenths."""
    broken: bool = False
    """Whether the chords are played note by note."""


_E, _Q, _H = 6, 12, 24

STYLES: dict[str, Style] = {
    "pop": Style(
        drums=("pop", "rock", "soul", "dance"),
        word="pop",
        tempo_bpm=(88, 128),
        bass=(
            ((0, 18, "R"), (18, 6, "R"), (24, 18, "R"), (42, 6, "5")),
            ((0, 12, "R"), (18, 6, "R"), (24, 12, "R"), (36, 12, "5")),
            tuple((place, 5, "R") for place in range(0, 48, 6)),
        ),
        strikes=(
            tuple((place, 11) for place in range(0, 48, 12)),
            ((0, 18), (18, 18), (36, 12)),
            ((0, 24), (24, 24)),
            ((6, 6), (18, 6), (30, 6), (42, 6)),
        ),
        bass_programs=(33, 34, 38, 39),
        chord_programs=(0, 1, 4, 25, 27, 89),
        lead_programs=(53, 73, 65, 80, 81, 40, 54),
    ),
    "rock": Style(
        drums=("rock", "punk"),
        word="rock",
        tempo_bpm=(100, 160),
        bass=(
            tuple((place, 6, "R") for place in range(0, 48, 6)),
            ((0, 12, "R"), (12, 6, "R"), (18, 6, "R"), (24, 12, "R"), (36, 6, "5"), (42, 6, "8")),
        ),
        strikes=(
            tuple((place, 5) for place in range(0, 48, 6)),
            ((0, 18), (18, 6), (24, 18), (42, 6)),
            ((0, 48),),
        ),
        bass_programs=(33, 34),
        chord_programs=(27, 29, 30),
        lead_programs=(29, 30, 81, 80, 18),
    ),
    "ballad": Style(
        drums=("rock", "soul", "pop", "country", "gospel"),
        word="pop",
        tempo_bpm=(60, 88),
        bass=(
            ((0, 24, "R"), (24, 18, "R"), (42, 6, "5")),
            ((0, 18, "R"), (18, 6, "5"), (24, 24, "8")),
        ),
        strikes=(tuple((place, 6) for place in range(0, 48, 6)), ((0, 24), (24, 24))),
        bass_programs=(32, 33, 35),
        chord_programs=(0, 4, 24, 46),
        lead_programs=(73, 68, 40, 42, 71, 52, 53),
        broken=True,
    ),
    "swing": Style(
        drums=("jazz",),
        word="jazz",
        tempo_bpm=(110, 190),
        bass=(),
        strikes=(
            ((0, 18), (18, 4)),
            ((18, 4), (42, 6)),
            ((6, 6), (30, 4)),
            ((0, 9), (30, 6)),
            ((18, 18),),
        ),
        bass_programs=(32,),
        chord_programs=(0, 26, 0, 11, 16),
        lead_programs=(65, 66, 56, 71, 57, 64, 11),
        swing=True,
        sevenths=True,
    ),
    "funk": Style(
        drums=("funk", "hiphop", "neworleans"),
        word="pop",
        tempo_bpm=(88, 118),
        bass=(
            ((0, 5, "R"), (9, 3, "R"), (18, 3, "8"), (24, 5, "R"), (33, 3, "7"), (42, 3, "8")),
            ((0, 9, "R"), (15, 3, "R"), (21, 3, "7"), (27, 3, "8"), (36, 6, "5"), (45, 3, "R")),
            ((0, 6, "R"), (12, 3, "8"), (18, 3, "R"), (30, 3, "5"), (36, 3, "7"), (42, 6, "R")),
        ),
        strikes=(
            ((6, 2), (15, 2), (18, 3), (30, 2), (39, 2), (42, 3)),
            ((9, 3), (21, 3), (33, 3), (45, 3)),
            ((0, 3), (9, 2), (18, 3), (27, 2)),
        ),
        bass_programs=(33, 36, 37),
        chord_programs=(27, 7, 4, 28, 16),
        lead_programs=(65, 66, 56, 61, 81),
        sevenths=True,
    ),
    "bossa": Style(
        drums=("latin-brazilian", "latin"),
        word="jazz",
        tempo_bpm=(104, 146),
        bass=(((0, 18, "R"), (18, 6, "5"), (24, 18, "5"), (42, 6, "R")),),
        strikes=(
            ((0, 6), (12, 6), (30, 6), (42, 6)),
            ((0, 9), (18, 9), (36, 9)),
            ((6, 12), (24, 6), (36, 6)),
        ),
        bass_programs=(32, 33),
        chord_programs=(24, 24, 4, 0),
        lead_programs=(73, 65, 52, 24, 74),
        sevenths=True,
    ),
    "salsa": Style(
        drums=("latin", "afrocuban", "highlife", "afrobeat"),
        word="jazz",
        tempo_bpm=(90, 120),
        bass=(((18, 18, "5"), (36, 12, "N")), ((0, 18, "R"), (18, 18, "5"), (36, 12, "N"))),
        strikes=(
            ((0, 6), (6, 6), (18, 6), (30, 6), (42, 6)),
            ((0, 6), (12, 6), (18, 6), (30, 6), (36, 6), (42, 6)),
        ),
        bass_programs=(32, 33),
        chord_programs=(0, 0, 2),
        lead_programs=(56, 57, 73, 61),
        broken=True,
    ),
}
"""By name."""
