"""How people write chords, in the one spelling that music21 reads rightly.

Lead sheets say one chord in many ways: `Cmaj7`, `CM7`, `CΔ`, `C^7`. music21 knows some of them,
writes flats as `-` (which to everyone else means minor), and overlooks an alteration of a degree
that the chord has already (`C13b9` comes out as `C13`). So a figure is taken apart here, by a
closed grammar, and spelled again as a triad or a seventh chord with added degrees, which music21
reads as it is meant; tests/test_harmony.py compares all that the grammar can say with intervals
counted by hand. What the grammar does not know is refused, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from musegen.errors import UsageError

__all__ = ["COMMON_QUALITIES", "SIGNS", "spelled_quality"]

SIGNS = str.maketrans({"♯": "#", "♭": "b", "−": "-", "–": "-", "º": "°", "˚": "°"})
"""Signs that look alike, as the keyboard writes them."""
_MORE_SIGNS = str.maketrans({"Δ": "^", "△": "^", "∆": "^", "Ø": "ø", "∅": "ø", "⌀": "ø"})

COMMON_QUALITIES = (
    *("", "m", "7", "maj7", "m7", "m7b5", "dim", "dim7", "aug", "sus4", "sus2", "7sus4", "6", "m6"),
    *("6/9", "9", "maj9", "m9", "add9", "7b9", "7#9", "7#11", "13", "7alt", "m(maj7)", "5"),
)
"""What to suggest to whoever writes something else."""

_QUALITY = re.compile(
    r"""
    (?: (?P<minor> (?i:minor|min|mi) | m(?!a(?!dd)) | - )    # not the m of maj, but that of madd9
      | (?P<dim>   (?i:dim) | ° | o(?!mit) )
      | (?P<half>  (?i:half-?dim|hdim) | ø )
      | (?P<aug>   (?i:aug) | \+ )
      | (?i:dom) (?=7|9|1)
    )?
    (?: /? (?P<major> (?i:major|maj) | (?i:ma)(?!dd) | M | \^ ) )?
    (?P<number> 6/9 | 69 | 13 | 11 | 9 | 7 | 6 | 5 )?
    (?P<modifiers> .* )
    """,
    re.VERBOSE | re.DOTALL,
)
_MODIFIER = re.compile(
    r"""
      (?i:sus)(?P<sus>[24]?)
    | (?i:add)(?P<add>[b\#]?\d{1,2})
    | (?i:omit|no)(?P<omit>[35])
    | (?P<alt>(?i:alt))
    | (?P<altered>[b\#+-](?:5|9|11|13))(?!\d)
    | (?P<aug>\+)
    """,
    re.VERBOSE,
)

_CORES = {
    ("", ""): ("", ()),
    ("", "7"): ("7", ()),
    ("", "M7"): ("maj7", ()),
    ("m", ""): ("m", ()),
    ("m", "7"): ("m7", ()),
    ("m", "M7"): ("mM7", ()),
    ("dim", ""): ("dim", ()),
    ("dim", "7"): ("o7", ()),
    ("dim", "M7"): ("dim", ("7",)),
    ("ø", "7"): ("ø7", ()),
    ("+", ""): ("+", ()),
    ("+", "7"): ("+7", ()),
    ("+", "M7"): ("+M7", ()),
    ("sus2", ""): ("sus2", ()),
    ("sus2", "7"): ("sus2", ("b7",)),
    ("sus2", "M7"): ("sus2", ("7",)),
    ("sus4", ""): ("sus4", ()),
    ("sus4", "7"): ("7sus4", ()),
    ("sus4", "M7"): ("sus4", ("7",)),
    ("5", ""): ("power", ()),
}
"""(triad, seventh): music21's abbreviation, and the degrees that it lacks."""

_EXTENSIONS = {"6": "6", "69": "6 9", "9": "9", "11": "9 11", "13": "9 11 13"}
_NUMBERS = {
    "m": ("", "6", "69", "7", "9", "11", "13"),
    "": ("", "5", "6", "69", "7", "9", "11", "13"),
    "dim": ("", "7"),
    "ø": ("", "7", "9", "11"),
    "+": ("", "5", "7", "9"),
}
"""Which numbers may follow which triad."""

_ALTERED = ("b5", "#5", "b9", "#9", "#11", "b13")
_ADDED = {"2": "9", "4": "11"} | {
    degree: degree for degree in ("6", "9", "11", "13", "b9", "#9", "#11", "b13")
}
_ALTERED_DOMINANT = "7omit5addb9add#9add#11addb13"


def spelled_quality(text: str) -> str:
    """What follows a chord's root (and precedes its bass), as music21 reads it: `"-7b5"` -> `"ø7"`.

    Raises `UsageError` whose text says what is wrong, but not of which chord.
    """
    text = _without_brackets(text.translate(SIGNS).translate(_MORE_SIGNS))
    match = _QUALITY.fullmatch(text)
    if match is None:  # cannot be: every part may be empty
        raise UsageError("not a chord")
    found = match.groupdict()
    number = (found["number"] or "").replace("/", "")
    triad = next((name for key, name in _TRIADS.items() if found[key]), "")
    if number not in _NUMBERS[triad]:
        raise UsageError(f"no such chord: {number} after {text[: match.start('number')]!r}")
    major = found["major"]
    if major and triad == "ø":
        raise UsageError("a half-diminished chord has a minor seventh")
    if major and triad and number not in ("7", "9", "11", "13") and major != "^":
        raise UsageError(f"say which seventh: {text[: match.start('major')]}maj7")
    seventh = "7" if number in ("7", "9", "11", "13") or triad == "ø" else ""
    if major and (seventh or (major == "^" and not number)):
        seventh = "M7"
    if number == "5":
        if triad == "" and major:
            raise UsageError("a chord of root and fifth has no third to be major")
        triad = triad or "5"
    return _with_modifiers(found["modifiers"], triad, seventh, number)


_TRIADS = {"minor": "m", "dim": "dim", "half": "ø", "aug": "+"}


def _without_brackets(text: str) -> str:
    """`"7(b9, 13)"` -> `"7b9add13"`: a bare number in brackets is added, not a new kind."""

    def plain(match: re.Match[str]) -> str:
        parts = [part for part in re.split(r"[,\s]+", match.group(1)) if part]
        return "".join(f"add{part}" if part.isdecimal() else part for part in parts)

    return re.sub(r"\s*\(([^()]*)\)", plain, text)


def _modifiers(text: str) -> Iterator[tuple[str, str]]:
    """(kind, value) of each; raises `UsageError` at what is none."""
    at = 0
    while at < len(text):
        match = _MODIFIER.match(text, at)
        if match is None:
            raise UsageError(f"{text[at : at + 20]!r} is not understood")
        kind = match.lastgroup or ""
        yield kind, match.group(kind)
        at = match.end()


def _with_modifiers(text: str, triad: str, seventh: str, number: str) -> str:
    altered: list[str] = []
    added: list[str] = []
    omitted: list[str] = []
    modifiers = list(_modifiers(text))
    for kind, value in modifiers:
        if kind == "alt":
            if triad or seventh == "M7" or number not in ("", "7") or len(modifiers) > 1:
                raise UsageError("alt stands alone, as in C7alt")
            return _ALTERED_DOMINANT
        if kind == "sus":
            if triad:
                raise UsageError("sus takes the place of the third: it goes with no m, dim or aug")
            triad = f"sus{value or '4'}"
        elif kind == "add":
            if value not in _ADDED:
                raise UsageError(f"add{value} is not understood; add 2, 4, 6, 9, 11 or 13")
            added.append(_ADDED[value])
        elif kind == "omit":
            omitted.append(value)
        else:
            value = "#5" if kind == "aug" else value.replace("+", "#").replace("-", "b")
            if value not in _ALTERED:
                raise UsageError(f"{value} is not understood; alter with {', '.join(_ALTERED)}")
            altered.append(value)
    fifths = sorted({value for value in altered if value.endswith("5") and value[1:] == "5"})
    tensions = [value for value in altered if value not in fifths]
    if tensions and not seventh and "6" not in number:
        raise UsageError(f"{tensions[0]} without a seventh: say 7{tensions[0]} or add{tensions[0]}")
    if any(value[1:] == number for value in tensions):
        raise UsageError(f"{number} and {tensions[0]} at once")
    triad, fifth = _fifth(triad, seventh, fifths)
    _check_omitted(omitted, triad, fifth)
    core, lacking = _CORES[triad, seventh]
    replaced = {value[1:] for value in tensions}
    natural = [d for d in _EXTENSIONS.get(number, "").split() if d not in replaced]
    degrees = dict.fromkeys((*lacking, *natural, *tensions, *added))
    order = sorted(degrees, key=lambda degree: (int(degree.lstrip("b#")), degree))
    adds = "".join(f"add{degree}" for degree in order)
    return core + fifth + adds + "".join(f"omit{degree}" for degree in dict.fromkeys(omitted))


def _fifth(triad: str, seventh: str, fifths: list[str]) -> tuple[str, str]:
    """The triad with its altered fifth: by a name of its own where it has one."""
    if not fifths:
        return triad, ""
    if len(fifths) > 1 or triad in ("dim", "ø", "+", "5"):
        raise UsageError("the fifth is altered twice")
    named = {("m", "b5"): "ø" if seventh == "7" else "dim", ("", "#5"): "+"}.get((triad, fifths[0]))
    return (named, "") if named else (triad, fifths[0])


def _check_omitted(omitted: list[str], triad: str, fifth: str) -> None:
    if "3" in omitted and triad in ("sus2", "sus4", "5"):
        raise UsageError("there is no third to leave out")
    if "5" in omitted and (fifth or triad in ("dim", "ø", "+", "5")):
        raise UsageError("the fifth is altered and left out at once")
