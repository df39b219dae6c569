"""What composers ask of the notes, as they type it: one syntax for every control.

`VALUE[@TRACK,TRACK...][:BARS]`, with BARS as `9` or `9-12`, counted from 1: `6-8@bass:9-12`. For a
fill the value is the bars: `9-12@bass,drums`. A TRACK is a track's name, an instrument, or its
number; which tracks those are is found out where the seed is known (musegen/tokens/regions.py).
"""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from typing import Any

from musegen.errors import UsageError
from musegen.music.harmony import chord_name_pitch, parse_chords, parse_scale

__all__ = ["Controls", "Like", "Scope", "Wish", "parse_changes"]

MAX_BAR = 1_000_000
"""Bar numbers above it are slips."""


@dataclass(frozen=True)
class Scope:
    """Where a wish holds."""

    tracks: tuple[str, ...] = ()
    """Names as typed; empty for every track that is written."""
    first_bar: int = 0
    """From 1; 0 for all bars."""
    last_bar: int = 0
    """Inclusive; 0 for all bars."""


@dataclass(frozen=True)
class Wish:
    """One control with its value, checked."""

    kind: str
    """Name of the field of `Controls`."""
    value: Any
    scope: Scope
    text: str
    """Option and value as typed, for messages: `--density 6-8@bass`."""


# --- Values --------------------------------------------------------------------------------------

_STEPS = {
    "1": Fraction(4),
    "2": Fraction(2),
    "4": Fraction(1),
    "8": Fraction(1, 2),
    "16": Fraction(1, 4),
    "32": Fraction(1, 8),
    "4t": Fraction(2, 3),
    "8t": Fraction(1, 3),
    "16t": Fraction(1, 6),
}
_STEP_WORDS = {
    "whole": "1",
    "half": "2",
    "quarter": "4",
    "eighth": "8",
    "sixteenth": "16",
    "triplet": "8t",
}
_LENGTHS = {"short": 0.25, "medium": 0.75, "long": 2.0}
_REGISTERS = {"low": 45.0, "mid": 60.0, "middle": 60.0, "high": 75.0}
_DYNAMICS = {"ppp": 16, "pp": 32, "p": 48, "mp": 60, "mf": 76, "f": 92, "ff": 108, "fff": 122}


@dataclass(frozen=True)
class Like:
    """Bars of a file that written bars should be like."""

    file: str
    first_bar: int
    """From 1."""
    last_bar: int
    """Inclusive."""

    def bar(self, number: int) -> int:
        """Which of its bars bar `number` (from 0) of those written is like: they repeat."""
        return self.first_bar + number % (self.last_bar - self.first_bar + 1)


class _Refused(Exception):
    """Why a value cannot be; becomes a `UsageError` that names the option."""


def _number(text: str, low: float, high: float) -> float:
    try:
        value = float(text)
    except ValueError:
        raise _Refused(f"{text!r} is no number") from None
    if not (math.isfinite(value) and low <= value <= high):
        raise _Refused(f"it must be from {low:g} to {high:g}")
    return value


def _whole(text: str, low: int, high: int) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", text.strip()):
        raise _Refused(f"{text.strip()!r} is no whole number")
    value = int(text)
    if not low <= value <= high:
        raise _Refused(f"it must be from {low} to {high}")
    return value


def _density(text: str) -> tuple[int, int]:
    low, dash, high = text.partition("-")
    first = _whole(low, 0, 96)
    last = _whole(high, 0, 96) if dash else first
    if first > last:
        raise _Refused(f"{first} is more than {last}")
    return first, last


def _pitch(text: str) -> int:
    try:
        return chord_name_pitch(text.strip())
    except UsageError as error:
        raise _Refused(str(error)) from None


def _pitch_range(text: str) -> tuple[int, int]:
    for match in re.finditer(r"-", text):  # C-1 is a pitch too: take the dash that leaves two
        first, last = text[: match.start()].strip(), text[match.end() :].strip()
        if not first or not last:
            continue
        try:
            low, high = chord_name_pitch(first), chord_name_pitch(last)
        except UsageError:
            continue
        if low > high:
            raise _Refused(f"{first} is above {last}")
        return low, high
    raise _Refused("say the lowest and the highest pitch")


def _voices(text: str) -> int:
    if text.strip() == "0":
        raise _Refused("no note could sound")
    return _whole(text, 1, 64)


def _step(text: str) -> Fraction:
    plain = text.strip().lower().replace("_", "-").removesuffix("s")
    triplet = False
    for ending in ("-triplet", " triplet", "-t"):
        if plain.endswith(ending):
            plain, triplet = plain.removesuffix(ending), True
    plain = _STEP_WORDS.get(plain) or re.sub(r"(th|nd)$", "", plain)
    step = _STEPS.get(plain + "t" if triplet else plain)
    if step is None:
        raise _Refused(f"{text.strip()!r} is no note value")
    return step


def _grid(text: str) -> tuple[Fraction, ...]:
    return tuple(dict.fromkeys(_step(part) for part in text.split("+")))


def _length(text: str) -> float:
    plain = text.strip().lower()
    if plain in _LENGTHS:
        return _LENGTHS[plain]
    try:
        return float(_step(plain)) if not re.fullmatch(r"[0-9.]+", plain) else _number(plain, 0, 24)
    except _Refused:
        raise _Refused(f"{text!r} is no length") from None


def _register(text: str) -> float:
    plain = text.strip().lower()
    return _REGISTERS[plain] if plain in _REGISTERS else float(_pitch(text))


def _loudness(text: str) -> float:
    plain = text.strip().lower()
    return float(_DYNAMICS[plain]) if plain in _DYNAMICS else _number(plain, 1, 127)


def _lock(text: str) -> str:
    plain = text.strip().lower()
    if plain not in ("rhythm", "pitch"):
        raise _Refused(f"{text.strip()!r} cannot be locked: rhythm and pitch can")
    return plain


def _like(text: str) -> Like:
    file, _, bars = text.rpartition("@")
    if not file.strip():
        raise _Refused("say a file and its bars")
    return Like(file.strip(), *_bars(bars))


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise _Refused("name at least one")
    return names


def _harmony(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    def parsed(text: str) -> Any:
        try:
            return parse(text)
        except UsageError as error:
            raise _Refused(str(error)) from None

    return parsed


_PARSERS: dict[str, tuple[Callable[[str], Any], str]] = {
    "add": (_names, "bass,drums"),
    "keep": (_names, "melody"),
    "lock": (_lock, "rhythm@melody"),
    "scale": (_harmony(parse_scale), "D dorian"),
    "chords": (_harmony(parse_chords), "Dm7 | G7 | Cmaj7 | %"),
    "pitch_range": (_pitch_range, "C2-C4@bass"),
    "max_polyphony": (_voices, "1@bass"),
    "grid": (_grid, "16th or 8th-triplet, joined by +"),
    "first_pitch": (_pitch, "C4@melody"),
    "last_pitch": (_pitch, "C3@bass"),
    "density": (_density, "6-8@bass"),
    "polyphony": (lambda text: _number(text, 1, 12), "2.5@piano"),
    "length": (_length, "8th, 0.5 or short"),
    "register": (_register, "C4 or low"),
    "loudness": (_loudness, "mf or 76"),
    "like": (_like, "riff.mid@5-6@bass"),
}
"""Each kind: how its value is read, and an example."""


# --- Controls ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Controls:
    """What is asked of the notes besides bars, tempo and the like.

    Every field that holds texts takes one, a number, or several in a sequence.
    """

    fill: tuple[str, ...] = ()
    """Bars of the seed to write anew: "9-12" in all tracks, "9-12@bass,drums" in some."""
    add: tuple[str, ...] = ()
    """Instruments that accompany the seed: "bass,drums", "strings:9-16"."""
    keep: tuple[str, ...] = ()
    """Tracks that a fill without tracks leaves alone: "melody"."""
    lock: tuple[str, ...] = ()
    """What stays of a filled part: "rhythm@melody" (new pitches), "pitch@bass" (new rhythm)."""
    scale: tuple[str, ...] = ()
    """Preferred pitches: "D dorian", "F# minor:9-12"; law with `strict_scale`."""
    chords: tuple[str, ...] = ()
    """Chords, a bar each, repeated to the end: "Dm7 | G7 | Cmaj7 | %"."""
    pitch_range: tuple[str, ...] = ()
    """Lowest and highest pitch: "C2-C4@bass"."""
    max_polyphony: tuple[str, ...] = ()
    """Notes of a track that may sound at once: "1@bass"."""
    grid: tuple[str, ...] = ()
    """Where notes may begin: "16th", "8th-triplet@piano", "16th+8th-triplet"."""
    first_pitch: tuple[str, ...] = ()
    """Pitch on which a part begins: "C4@melody"."""
    last_pitch: tuple[str, ...] = ()
    """Pitch on which a part ends: "C3@bass"."""
    density: tuple[str, ...] = ()
    """Notes a bar, from and to: "6-8@bass", "4"."""
    polyphony: tuple[str, ...] = ()
    """Notes an onset, in the mean: "3@piano". Learned."""
    length: tuple[str, ...] = ()
    """Length of notes, in the mean: "0.5" quarter notes, "8th", "short". Learned."""
    register: tuple[str, ...] = ()
    """Pitch, in the mean: "C4", "low". Learned."""
    loudness: tuple[str, ...] = ()
    """Velocity, in the mean: "mf", "76". Learned."""
    like: tuple[str, ...] = ()
    """A file and the bars of it that written bars should be like, in turn: "riff.mid@5-6",
    "riff.mid@5@bass:9-12". Learned."""
    variation: float | None = None
    """Share of the old notes of a filled part that make way, 0..1."""
    strict_scale: bool = False
    """Whether the scale is law."""
    strict_chords: bool = False
    """Whether chord tones alone may begin."""
    style: str = ""
    """A style word of the model: hymn, song, rock, ... Learned."""
    guidance: float = 1.0
    """How loudly learned controls are told; 1 as trained, 2 to 3 sharper."""

    def __post_init__(self) -> None:
        for item in fields(self):
            if item.name in _TEXTS:
                object.__setattr__(self, item.name, _texts(getattr(self, item.name)))
        if self.strict_scale and not self.scale:
            raise UsageError('--strict-scale without --scale: say for example --scale "D dorian"')
        if self.strict_chords and not self.chords:
            raise UsageError('--strict-chords without --chords: say for example --chords "C | G7"')
        for name, high in (("variation", 1.0), ("guidance", 20.0)):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int | float) and 0 <= value <= high):
                raise UsageError(f"--{name} {value}: it must be from 0 to {high:g}")
        if not isinstance(self.style, str):
            raise UsageError(f"--style {self.style!r}: it must be a word")

    @classmethod
    def of(cls, **options: Any) -> Controls:
        """Controls by name. Raises UsageError for a name that there is not."""
        known = [item.name for item in fields(cls)]
        for name in options:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(known)}"
                raise UsageError(f"unknown option {name!r}; {hint}")
        given = {name: value for name, value in options.items() if value is not None}
        return cls(**given)

    @property
    def asked(self) -> bool:
        """Whether anything is."""
        return bool(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """The fields that are not the defaults, as JSON holds them."""
        default = {item.name: item.default for item in fields(self)}
        found = {name: getattr(self, name) for name in default}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in found.items()
            if value != default[name]
        }

    def without_folders(self) -> Controls:
        """With the names of files alone: what a file may say of the machine that made it."""
        likes = []
        for text in self.like:
            file = _wish("like", text).value.file
            likes.append(os.path.basename(file) + text.strip().removeprefix(file))
        return replace(self, like=tuple(likes))

    def wishes(self) -> tuple[Wish, ...]:
        """Every control as a checked value. Raises UsageError, naming the option as typed."""
        found = []
        for name in _TEXTS:
            for text in getattr(self, name):
                found.append(_wish(name, text))
        return tuple(found)


_TEXTS = ("fill", *_PARSERS)


def _texts(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, str | int | float):
        return (str(value),)
    return tuple(str(one) for one in value)


def _wish(kind: str, typed: str) -> Wish:
    text = f"--{kind.replace('_', '-')} {typed}"
    parse, example = _PARSERS.get(kind, (None, "9-12@bass"))
    value, scope = _scoped(typed, text)
    if kind == "like" and not re.search(_BARS_AT_END, value) and scope.tracks:
        # What stands behind the only @ are the bars of the file.
        value = f"{value}@{','.join(scope.tracks)}"
        scope = Scope((), scope.first_bar, scope.last_bar)
    try:
        if parse is None:
            if scope.first_bar:
                raise _Refused("say the bars first, then the tracks")
            first, last = _bars(value)
            return Wish(kind, None, Scope(scope.tracks, first, last), text)
        if not value:
            raise _Refused("it is empty")
        if kind in ("add", "keep") and scope.tracks:
            raise _Refused("it names tracks itself: leave the @ out")
        return Wish(kind, parse(value), scope, text)
    except _Refused as error:
        raise UsageError(f"{text}: {error}; say for example {example}") from None


_BARS_AT_END = r"@\s*[0-9]+(\s*-\s*[0-9]+)?$"


def _scoped(typed: str, text: str) -> tuple[str, Scope]:
    """The value and where it holds."""
    value, first, last = typed.strip(), 0, 0
    match = re.search(r":\s*([0-9]+(?:\s*-\s*[0-9]+)?)\s*$", value)
    if match:
        try:
            first, last = _bars(match[1])
        except _Refused as error:
            raise UsageError(f"{text}: {error}; say for example :9-12") from None
        value = value[: match.start()].strip()
    value, at, names = value.rpartition("@") if "@" in value else (value, "", "")
    tracks = tuple(name.strip() for name in names.split(",") if name.strip())
    if at and not tracks:
        raise UsageError(f"{text}: no track is named after the @")
    return value.strip(), Scope(tracks, first, last)


def _bars(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"\s*([0-9]{1,9})\s*(?:-\s*([0-9]{1,9})\s*)?", text)
    if not match:
        raise _Refused(f"{text.strip()!r} are no bars")
    first, last = int(match[1]), int(match[2] or match[1])
    if not 1 <= first <= MAX_BAR or last > MAX_BAR:
        raise _Refused("bars are counted from 1")
    if last < first:
        raise _Refused(f"bar {first} comes after bar {last}")
    return first, last


def parse_changes(text: str, what: str = "value") -> tuple[tuple[str, int], ...]:
    """`"4/4,3/4@9"` as (("4/4", 1), ("3/4", 9)): what holds from which bar on, counted from 1.

    Raises UsageError where bars do not ascend, or the first value has a bar other than 1.
    """
    found: list[tuple[str, int]] = []
    for part in text.split(","):
        value, at, bar = part.strip().partition("@")
        number = 1 if not found else 0
        if at:
            if not re.fullmatch(r"\s*[0-9]{1,7}\s*", bar):
                raise UsageError(f"{what} {text!r}: {bar!r} is no bar; say for example 3/4@9")
            number = int(bar)
        if not value.strip() or number < 1:
            raise UsageError(f"{what} {text!r}: each change needs a bar, as in 3/4@9")
        if found and number <= found[-1][1]:
            raise UsageError(f"{what} {text!r}: the bars must ascend")
        found.append((value.strip(), number))
    return tuple(found)
