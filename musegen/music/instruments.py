"""The instruments of General MIDI, by number and by the names that people use.

Programs are counted from 0 here and everywhere in musegen; the General MIDI tables, and most
synthesisers, count them from 1. (Source: General MIDI System Level 1, MMA RP-003.)
"""

from __future__ import annotations

import difflib
import re
from typing import NamedTuple

from musegen.errors import UsageError


class Instrument(NamedTuple):
    """What plays a track; with `is_drum`, `program` is the number of a drum kit."""

    program: int
    is_drum: bool
    name: str


FAMILIES = (
    "Piano",
    "Chromatic Percussion",
    "Organ",
    "Guitar",
    "Bass",
    "Strings",
    "Ensemble",
    "Brass",
    "Reed",
    "Pipe",
    "Synth Lead",
    "Synth Pad",
    "Synth Effects",
    "Ethnic",
    "Percussive",
    "Sound Effects",
)
"""Eight programs each, in order."""

PROGRAM_NAMES = tuple(
    name.strip()
    for name in """
    Acoustic Grand Piano, Bright Acoustic Piano, Electric Grand Piano, Honky-tonk Piano,
    Electric Piano 1, Electric Piano 2, Harpsichord, Clavinet,
    Celesta, Glockenspiel, Music Box, Vibraphone, Marimba, Xylophone, Tubular Bells, Dulcimer,
    Drawbar Organ, Percussive Organ, Rock Organ, Church Organ, Reed Organ, Accordion, Harmonica,
    Tango Accordion,
    Acoustic Guitar (nylon), Acoustic Guitar (steel), Electric Guitar (jazz),
    Electric Guitar (clean), Electric Guitar (muted), Overdriven Guitar, Distortion Guitar,
    Guitar Harmonics,
    Acoustic Bass, Electric Bass (finger), Electric Bass (pick), Fretless Bass, Slap Bass 1,
    Slap Bass 2, Synth Bass 1, Synth Bass 2,
    Violin, Viola, Cello, Contrabass, Tremolo Strings, Pizzicato Strings, Orchestral Harp, Timpani,
    String Ensemble 1, String Ensemble 2, Synth Strings 1, Synth Strings 2, Choir Aahs, Voice Oohs,
    Synth Voice, Orchestra Hit,
    Trumpet, Trombone, Tuba, Muted Trumpet, French Horn, Brass Section, Synth Brass 1,
    Synth Brass 2,
    Soprano Sax, Alto Sax, Tenor Sax, Baritone Sax, Oboe, English Horn, Bassoon, Clarinet,
    Piccolo, Flute, Recorder, Pan Flute, Blown Bottle, Shakuhachi, Whistle, Ocarina,
    Lead 1 (square), Lead 2 (sawtooth), Lead 3 (calliope), Lead 4 (chiff), Lead 5 (charang),
    Lead 6 (voice), Lead 7 (fifths), Lead 8 (bass + lead),
    Pad 1 (new age), Pad 2 (warm), Pad 3 (polysynth), Pad 4 (choir), Pad 5 (bowed),
    Pad 6 (metallic), Pad 7 (halo), Pad 8 (sweep),
    FX 1 (rain), FX 2 (soundtrack), FX 3 (crystal), FX 4 (atmosphere), FX 5 (brightness),
    FX 6 (goblins), FX 7 (echoes), FX 8 (sci-fi),
    Sitar, Banjo, Shamisen, Koto, Kalimba, Bagpipe, Fiddle, Shanai,
    Tinkle Bell, Agogo, Steel Drums, Woodblock, Taiko Drum, Melodic Tom, Synth Drum,
    Reverse Cymbal,
    Guitar Fret Noise, Breath Noise, Seashore, Bird Tweet, Telephone Ring, Helicopter, Applause,
    Gunshot""".replace("\n", " ").split(",")
)
"""The name of each program, 0..127."""

DRUM_NAME = "Drums"

_KITS = {8: "Room", 16: "Power", 24: "Electronic", 25: "TR-808", 32: "Jazz", 40: "Brush"}
_KITS |= {48: "Orchestra", 56: "Sound Effects"}

ALIASES = {
    "piano": 0,
    "grand piano": 0,
    "acoustic piano": 0,
    "bright piano": 1,
    "honky tonk": 3,
    "electric piano": 4,
    "e piano": 4,
    "rhodes": 4,
    "dx7": 5,
    "clavichord": 7,
    "vibes": 11,
    "bells": 14,
    "hammond": 16,
    "organ": 19,
    "pipe organ": 19,
    "harmonium": 20,
    "guitar": 25,
    "acoustic guitar": 25,
    "nylon guitar": 24,
    "classical guitar": 24,
    "steel guitar": 25,
    "jazz guitar": 26,
    "electric guitar": 27,
    "clean guitar": 27,
    "muted guitar": 28,
    "overdrive": 29,
    "overdrive guitar": 29,
    "distorted guitar": 30,
    "upright bass": 32,
    "double bass": 32,
    "bass": 33,
    "electric bass": 33,
    "finger bass": 33,
    "bass guitar": 33,
    "pick bass": 34,
    "picked bass": 34,
    "slap bass": 36,
    "synth bass": 38,
    "violoncello": 42,
    "string bass": 43,
    "tremolo": 44,
    "pizzicato": 45,
    "harp": 46,
    "kettledrums": 47,
    "strings": 48,
    "string ensemble": 48,
    "ensemble": 48,
    "orchestra": 48,
    "synth strings": 50,
    "choir": 52,
    "voice": 52,
    "vocals": 52,
    "singer": 52,
    "aahs": 52,
    "oohs": 53,
    "horn": 60,
    "brass": 61,
    "synth brass": 62,
    "sax": 65,
    "saxophone": 65,
    "cor anglais": 69,
    "panpipes": 75,
    "pan pipes": 75,
    "lead": 80,
    "synth": 80,
    "synth lead": 80,
    "square lead": 80,
    "saw lead": 81,
    "sawtooth": 81,
    "pad": 89,
    "synth pad": 89,
    "warm pad": 89,
    "polysynth": 90,
    "bagpipes": 109,
    "steel drum": 114,
    "steelpan": 114,
    "wood block": 115,
    "taiko": 116,
}
"""What people say, in lower case, and the program that they mean."""

DRUM_ALIASES = frozenset({"drums", "drum", "drum kit", "drumkit", "drum set", "kit", "percussion"})


def program_name(program: int, is_drum: bool = False) -> str:
    """The General MIDI name of a program, or of a drum kit (`"Drums"`, `"Drums (Jazz)"`)."""
    if is_drum:
        return f"{DRUM_NAME} ({_KITS[program]})" if program in _KITS else DRUM_NAME
    return PROGRAM_NAMES[program]


def family_name(program: int) -> str:
    """The family that a program belongs to, one of `FAMILIES`."""
    return FAMILIES[program // 8]


def _plain(name: str) -> str:
    return " ".join(re.sub(r"[^a-z0-9+]+", " ", name.lower()).split())


_BY_PLAIN_NAME = {
    **{_plain(name): program for program, name in enumerate(PROGRAM_NAMES)},
    **ALIASES,
}


def parse_instrument(text: str) -> Instrument:
    """`"bass"`, `"Violin"`, `"electric piano"`, `"drums"` or a program number, `"33"`.

    Raises `UsageError` with the nearest names for anything else.
    """
    plain = _plain(text)
    if plain in DRUM_ALIASES:
        return Instrument(0, True, DRUM_NAME)
    if plain.isdecimal() and text.strip().isdecimal():
        program = int(plain)
        if program > 127:
            raise UsageError(f"program {program}: General MIDI programs are 0 to 127")
        return Instrument(program, False, PROGRAM_NAMES[program])
    program = _BY_PLAIN_NAME.get(plain, _BY_PLAIN_NAME.get(plain.removesuffix("s"), -1))
    if program < 0:
        raise UsageError(f"unknown instrument {text!r}{_nearest(plain)}")
    return Instrument(program, False, PROGRAM_NAMES[program])


def _nearest(plain: str) -> str:
    known = {**{_plain(name): name for name in PROGRAM_NAMES}, **{name: name for name in ALIASES}}
    known |= {name: name for name in DRUM_ALIASES}
    close = difflib.get_close_matches(plain, known, n=3, cutoff=0.6)
    close += [name for name in known if plain and plain in name and name not in close]
    if not close:
        return (
            "; say a General MIDI name such as piano, bass, violin, drums, or a program, 0 to 127"
        )
    return f"; did you mean {' or '.join(known[name] for name in close[:3])}?"
