"""What composers type about pitch, as values: scales, chords bar by bar, single pitches."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from fractions import Fraction

from musegen.errors import UsageError
from musegen.music.figures import COMMON_QUALITIES, SIGNS, spelled_quality

__all__ = [
    "SCALES",
    "BarChords",
    "Chord",
    "Scale",
    "chord_name_pitch",
    "parse_chords",
    "parse_scale",
    "pitch_name",
]

_LETTERS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_SHARP_NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")

SCALES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "harmonic minor": (0, 2, 3, 5, 7, 8, 11),
    "melodic minor": (0, 2, 3, 5, 7, 9, 11),
    "ionian": (0, 2, 4, 5, 7, 9, 11),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "phrygian": (0, 1, 3, 5, 7, 8, 10),
    "lydian": (0, 2, 4, 6, 7, 9, 11),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "aeolian": (0, 2, 3, 5, 7, 8, 10),
    "locrian": (0, 1, 3, 5, 6, 8, 10),
    "major pentatonic": (0, 2, 4, 7, 9),
    "minor pentatonic": (0, 3, 5, 7, 10),
    "blues": (0, 3, 5, 6, 7, 10),
    "whole tone": (0, 2, 4, 6, 8, 10),
    "half-whole": (0, 1, 3, 4, 6, 7, 9, 10),
    "whole-half": (0, 2, 3, 5, 6, 8, 9, 11),
    "chromatic": tuple(range(12)),
}
"""Semitones above the tonic. Minor is natural, melodic minor the ascending form, the two octatonic
scales go by their first two steps."""

_SCALE_ALIASES = {
    "natural minor": "minor",
    "minor harmonic": "harmonic minor",
    "minor melodic": "melodic minor",
    "pentatonic major": "major pentatonic",
    "pentatonic minor": "minor pentatonic",
    "wholetone": "whole tone",
    "half whole": "half-whole",
    "whole half": "whole-half",
}
_OCTATONIC = ("octatonic", "diminished")
"""What both octatonic scales are called."""


@dataclass(frozen=True)
class Scale:
    """Pitch classes to write with."""

    name: str
    """`"D dorian"`."""
    tonic: int
    """Pitch class, C = 0."""
    pitch_classes: frozenset[int]


@dataclass(frozen=True)
class Chord:
    """What one figure of a lead sheet means."""

    figure: str
    """As it was typed: `"G7/B"`."""
    root: int
    """Pitch class, C = 0."""
    bass: int
    """Pitch class of the lowest note: the root, or what follows the slash."""
    pitch_classes: frozenset[int]
    """All of them, the bass too."""


@dataclass(frozen=True)
class BarChords:
    """The chords of one bar."""

    chords: tuple[tuple[Fraction, Chord | None], ...]
    """(place, chord), ascending: the place is a share of the bar, 0 <= place < 1, the first 0; a
    chord lasts until the next. None where no chord is asked for (`N.C.`)."""


# --- Scales ---------------------------------------------------------------------------------------


def parse_scale(text: str) -> Scale:
    """A scale by tonic and name, `"D dorian"`, or a key, `"F# minor"`, `"Bb"`, `"am"`.

    Raises `UsageError` with the nearest names for anything else.
    """
    plain = " ".join(text.translate(SIGNS).split())
    plain = re.sub(r"[\s_-]*(sharp|flat)\b", _sign_of, plain, flags=re.IGNORECASE)
    match = re.fullmatch(r"([A-Ga-g])([#b]?)(?![A-Za-z])[\s_:-]*(.*)", plain)
    if match is None and plain.lower() == "chromatic":
        return Scale("chromatic", 0, frozenset(range(12)))
    if match is not None:
        tonic = match[1].upper() + match[2]
        kind = _scale_kind(match[3])
        if kind in _OCTATONIC:
            raise UsageError(
                f"scale {text!r} can be two: say {tonic} half-whole or {tonic} whole-half"
            )
        if kind in SCALES:
            return _scale(tonic, kind)
    return _scale_of_key(text)


def _sign_of(match: re.Match[str]) -> str:
    return "#" if match[1].lower() == "sharp" else "b"


def _scale_kind(text: str) -> str:
    kind = " ".join(re.sub(r"[\s_-]+", " ", text.lower()).split())
    kind = re.sub(r" ?\b(scale|mode)$", "", kind)
    if re.search(r"half whole|whole half", kind):
        kind = re.sub(r" ?\b(octatonic|diminished)\b ?", "", kind)
    return _SCALE_ALIASES.get(kind, kind)


def _scale(tonic: str, kind: str) -> Scale:
    root = _pitch_class(tonic)
    return Scale(f"{tonic} {kind}", root, frozenset((root + step) % 12 for step in SCALES[kind]))


def _scale_of_key(text: str) -> Scale:
    # Keys bring scores, which bring numpy; most scales need neither.
    from musegen.music.names import key_name, parse_key

    try:
        tonic, kind = key_name(parse_key(text)).split()
    except UsageError:
        raise UsageError(f"unknown scale {_shown(text)}{_nearest_scale(text)}") from None
    return _scale(tonic, kind)


def _nearest_scale(text: str) -> str:
    words = text.translate(SIGNS).split()
    tonic = "D"
    if words and re.fullmatch(r"[A-Ga-g][#b]?", words[0]):
        tonic = words[0][0].upper() + words[0][1:]
        words = words[1:]
    known = (*SCALES, *_SCALE_ALIASES)
    close = difflib.get_close_matches(" ".join(words).lower()[:40], known, n=3, cutoff=0.6)
    names = list(dict.fromkeys(f"{tonic} {_SCALE_ALIASES.get(name, name)}" for name in close))
    if names:
        return f"; did you mean {' or '.join(names)}?"
    return f"; say a tonic and one of {', '.join(SCALES)}, as in D dorian"


# --- Chords ---------------------------------------------------------------------------------------

_FIGURES = re.compile(r"[^\s()]+(?:\s*\([^()]*\)[^\s()]*)*|\S+")
"""Figures are parted by spaces, but not by those before and within brackets: `C7 (b9, 13)`."""
_FIGURE = re.compile(r"([A-Ga-g])([#b]?)(.*?)(?:/([A-Ga-g][#b]?))?", re.DOTALL)
_NO_CHORD = re.compile(r"[Nn]\.?[Cc]\.?")
_SAME = ("/", ".")

PLAIN_QUALITIES = {
    "": (0, 4, 7),
    "m": (0, 3, 7),
    "dim": (0, 3, 6),
    "+": (0, 4, 8),
    "sus2": (0, 2, 7),
    "sus4": (0, 5, 7),
    "power": (0, 7),
    "add6": (0, 4, 7, 9),
    "madd6": (0, 3, 7, 9),
    "7": (0, 4, 7, 10),
    "maj7": (0, 4, 7, 11),
    "m7": (0, 3, 7, 10),
    "mM7": (0, 3, 7, 11),
    "ø7": (0, 3, 6, 10),
    "o7": (0, 3, 6, 9),
    "7sus4": (0, 5, 7, 10),
    "add9": (0, 2, 4, 7),
    "7add9": (0, 2, 4, 7, 10),
    "maj7add9": (0, 2, 4, 7, 11),
    "m7add9": (0, 2, 3, 7, 10),
}
"""Semitones above the root of the commonest chords, in music21's spelling, so that a lead sheet of
these does not wait for music21 to load; a test compares each with music21."""


def parse_chords(text: str) -> tuple[BarChords, ...]:
    """The chords of each bar: `"Dm7 | G7/B Db7 | Cmaj7 | %"`.

    Bars are parted by `|` (or by the ends of lines), the chords of a bar share it evenly. `%` is
    the bar before, `/` or `.` the chord before (so `C / / G7` changes at the last quarter), `N.C.`
    no chord. Raises `UsageError` that names the figure and its bar (from 1).
    """
    bars: list[BarChords] = []
    for number, bar in enumerate(_bars(text), 1):
        figures = _FIGURES.findall(bar)
        if not figures:
            raise UsageError(
                f"bar {number} is empty; write % for the bar before, N.C. for no chord"
            )
        if figures == ["%"]:
            if not bars:
                raise UsageError("bar 1 is %, but there is no bar before it")
            bars.append(bars[-1])
            continue
        chords: list[tuple[Fraction, Chord | None]] = []
        for index, figure in enumerate(figures):
            place = Fraction(index, len(figures))
            if figure not in _SAME:
                chords.append((place, _chord(figure, number)))
            elif not chords:
                if not bars:
                    raise UsageError(f"bar 1 begins with {figure}, but there is no chord before it")
                chords.append((place, bars[-1].chords[-1][1]))
        bars.append(BarChords(tuple(chords)))
    return tuple(bars)


def _bars(text: str) -> list[str]:
    """The text between the barlines; a double barline is one."""
    bars: list[str] = []
    for line in text.splitlines():
        line = re.sub(r"\|+", "|", line).strip()
        if line:
            bars += line.removeprefix("|").removesuffix("|").split("|")
    if not bars:
        raise UsageError("no chords; write for example Dm7 | G7 | Cmaj7 | %")
    return bars


def _chord(figure: str, bar: int) -> Chord | None:
    if _NO_CHORD.fullmatch(figure):
        return None
    plain = figure.translate(SIGNS)
    match = _FIGURE.fullmatch(plain)
    if match is None:
        hint = "; % stands alone in its bar" if plain == "%" else "; say for example Dm7, G7/B or C"
        hint = "; the German H is B here" if plain[:1] in "Hh" else hint
        raise UsageError(f"bar {bar}: unknown chord {_shown(figure)}{hint}")
    letter, sign, quality, bass = match.groups()
    tonic = letter.upper() + sign
    if letter.islower() and not quality:
        raise UsageError(f"bar {bar}: chord {_shown(figure)} can be two; say {tonic} or {tonic}m")
    root = _pitch_class(tonic)
    try:
        steps = _steps(spelled_quality(quality))
    except UsageError as error:
        close = difflib.get_close_matches(quality[:40], COMMON_QUALITIES, n=3, cutoff=0.6)
        hint = f"; did you mean {' or '.join(tonic + name for name in close)}?" if close else ""
        raise UsageError(f"bar {bar}: chord {_shown(figure)}: {error}{hint}") from None
    low = root if bass is None else _pitch_class(bass[0].upper() + bass[1:])
    sounding = frozenset((root + step) % 12 for step in steps) | {low}
    return Chord(figure, root, low, sounding)


def _steps(quality: str) -> frozenset[int]:
    """Semitones above the root of a quality in music21's spelling."""
    if quality in PLAIN_QUALITIES:
        return frozenset(PLAIN_QUALITIES[quality])
    from musegen.music.analysis import chord_pitch_classes

    # On C, whose name cannot be taken for anything else, and which needs no double sharps.
    return chord_pitch_classes("C" + quality)


# --- Pitches --------------------------------------------------------------------------------------


def chord_name_pitch(text: str) -> int:
    """A MIDI pitch by name or number: `"C4"` = 60 (middle C), `"F#3"`, `"Bb-1"`, `"60"`.

    Raises `UsageError` for anything else, and for what lies outside 0..127 (C-1 to G9).
    """
    plain = text.translate(SIGNS).strip()
    match = re.fullmatch(r"(?:([A-Ga-g])([#b]?)(-?[0-9]{1,2})|([0-9]{1,3}))", plain)
    if match is None:
        raise UsageError(f"unknown pitch {_shown(text)}; say a name as C4 (middle C), or 0 to 127")
    if match[4]:
        pitch = int(match[4])
    else:
        pitch = 12 * (int(match[3]) + 1) + _LETTERS[match[1].upper()]
        pitch += {"#": 1, "b": -1, "": 0}[match[2]]
    if not 0 <= pitch <= 127:
        raise UsageError(f"pitch {_shown(text)} is not in MIDI; use C-1 (0) to G9 (127)")
    return pitch


def pitch_name(pitch: int) -> str:
    """The name of a MIDI pitch, with sharps: 60 -> `"C4"`."""
    return f"{_SHARP_NAMES[pitch % 12]}{pitch // 12 - 1}"


def _pitch_class(name: str) -> int:
    return (_LETTERS[name[0]] + {"#": 1, "b": -1, "": 0}[name[1:]]) % 12


def _shown(text: str) -> str:
    """For messages of one line."""
    return repr(text if len(text) <= 60 else text[:57] + "...")
