"""Keys and meters by name: `"D major"`, `"f# minor"`, `"3/4"`."""

from __future__ import annotations

import difflib
import re

from musegen.errors import UsageError
from musegen.music.score import Key, Meter

MAJOR_NAMES = ("Cb", "Gb", "Db", "Ab", "Eb", "Bb", "F", "C", "G", "D", "A", "E", "B", "F#", "C#")
"""Tonics of the major keys from 7 flats to 7 sharps."""
MINOR_NAMES = ("Ab", "Eb", "Bb", "F", "C", "G", "D", "A", "E", "B", "F#", "C#", "G#", "D#", "A#")
"""Tonics of the minor keys from 7 flats to 7 sharps."""

_MODES = {"": False, "major": False, "maj": False, "dur": False, "m": True, "minor": True}
_MODES |= {"min": True, "moll": True}

_ENHARMONIC = {"D#": "Eb", "G#": "Ab", "A#": "Bb", "E#": "F", "B#": "C", "Fb": "E"}
"""Major tonics that would need more than 7 signs, and the same key with fewer."""
_ENHARMONIC_MINOR = {"Db": "C#", "Gb": "F#", "Cb": "B", "E#": "F", "B#": "C", "Fb": "E"}


def key_name(key: Key) -> str:
    """`"D major"`, `"F# minor"`."""
    tonic = (MINOR_NAMES if key.minor else MAJOR_NAMES)[key.fifths + 7]
    return f"{tonic} {'minor' if key.minor else 'major'}"


def parse_key(text: str) -> Key:
    """A key from tick 0 on: `"D major"`, `"D"`, `"Bb minor"`, `"f#m"`, `"A-flat major"`.

    Raises `UsageError` with the nearest names for anything else.
    """
    plain = text.strip().replace("♯", "#").replace("♭", "b")
    plain = re.sub(r"[\s_-]*(sharp|is)\b", "#", plain, flags=re.IGNORECASE)
    plain = re.sub(r"[\s_-]*flat\b", "b", plain, flags=re.IGNORECASE)
    match = re.fullmatch(r"([A-Ga-g])([#b]?)[\s_:-]*([A-Za-z]*)", plain)
    mode = match.group(3) if match else ""
    if match is None or (mode not in ("m", "M") and mode.lower() not in _MODES):
        names = [
            key_name(Key(0, fifths, minor)) for minor in (False, True) for fifths in range(-7, 8)
        ]
        close = difflib.get_close_matches(text.strip(), names, n=3, cutoff=0.5)
        hint = f"; did you mean {' or '.join(close)}?" if close else "; say for example D major"
        raise UsageError(f"unknown key {text!r}{hint}")
    minor = _MODES[mode if mode == "m" else mode.lower()] if mode != "M" else False
    tonic = match.group(1).upper() + match.group(2)
    tonic = (_ENHARMONIC_MINOR if minor else _ENHARMONIC).get(tonic, tonic)
    return Key(0, (MINOR_NAMES if minor else MAJOR_NAMES).index(tonic) - 7, minor)


def parse_meter(text: str) -> Meter:
    """A meter from tick 0 on: `"3/4"`, `"6/8"`.

    Raises `UsageError` for anything that MIDI cannot hold.
    """
    match = re.fullmatch(r"\s*([0-9]{1,3})\s*/\s*([0-9]{1,3})\s*", text)
    numerator, denominator = (int(match.group(1)), int(match.group(2))) if match else (0, 0)
    if not 1 <= numerator <= 255 or denominator not in (1, 2, 4, 8, 16, 32, 64, 128):
        hint = "say for example 3/4, 4/4 or 6/8"
        if match and 1 <= numerator <= 255 and denominator:
            nearest = min((1, 2, 4, 8, 16, 32, 64, 128), key=lambda value: abs(value - denominator))
            hint = f"did you mean {numerator}/{nearest}? The lower number is a power of two"
        raise UsageError(f"unknown meter {text!r}; {hint}")
    return Meter(0, numerator, denominator)
