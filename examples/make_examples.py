"""Writes the three seeds of this folder: eight bars each, our own, in the public domain (CC0).

    python examples/make_examples.py

They are checked in, so nobody has to run this; the same script gives the same bytes.
"""

from __future__ import annotations

from pathlib import Path

from musegen.music.instruments import parse_instrument
from musegen.music.midi import write_midi
from musegen.music.names import key_name, parse_key
from musegen.music.score import DEFAULT_PPQ, Meter, Score, Tempo, Track, note_array

PPQ = DEFAULT_PPQ
STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
LICENCE = "Dedicated to the public domain (CC0 1.0) by the musegen developers"


def pitch(name: str) -> int:
    """`"F#4"` to 66; C4 is middle C."""
    return 12 * (int(name[-1]) + 1) + STEPS[name[0]] + name.count("#") - name[1:].count("b")


def line(text: str, velocity: int = 80, accents: dict[float, int] | None = None) -> list[tuple]:
    """Notes one after another: `"D5:1 E5:.5 -:.5 D4+F#4:2"`; lengths in quarter notes, - a rest.

    `accents` adds to the velocity of notes at a place in a bar of three or four, in quarter notes.
    """
    notes, at, beats = [], 0.0, 0.0
    bar_length = accents.get(-1, 4) if accents else 4
    for word in text.replace("|", " ").split():
        names, length = word.split(":")
        beats = float(length)
        if names != "-":
            extra = (accents or {}).get(at % bar_length, 0)
            for name in names.split("+"):
                start, end = round(at * PPQ), round((at + beats) * PPQ)
                gap = min(20, (end - start) // 8)
                notes.append((start, end - start - gap, pitch(name), velocity + extra))
        at += beats
    return notes


def track(name: str, instrument: str, notes: list[tuple]) -> Track:
    """A track of an instrument that people can say."""
    found = parse_instrument(instrument)
    return Track(note_array(notes), program=found.program, is_drum=found.is_drum, name=name)


def score(title: str, key: str, meter: Meter, bpm: float, tracks: list[Track]) -> Score:
    """Eight bars with everything set."""
    return Score(
        tracks=tuple(tracks),
        tempos=(Tempo(0, round(60e6 / bpm)),),
        meters=(meter,),
        keys=(parse_key(key),),
        title=title,
        copyright=LICENCE,
    )


def morning_waltz() -> Score:
    """A tune over broken chords, for piano: D major, 3/4."""
    accents = {-1: 3, 0.0: 10}
    tune = line(
        "F#5:1.5 G5:.5 A5:1 | A5:1 F#5:1 D5:1 | E5:1.5 F#5:.5 G5:1 | F#5:2 -:1 |"
        "B5:1.5 A5:.5 G5:1 | A5:1 F#5:1 D5:1 | E5:1 G5:.5 F#5:.5 E5:.5 C#5:.5 | D5:2 -:1",
        84,
        accents,
    )
    left = line(
        "D3:1 A3+F#4:1 A3+F#4:1 | B2:1 F#3+D4:1 F#3+D4:1 | A2:1 G3+C#4:1 G3+C#4:1 |"
        "D3:1 A3+F#4:1 A3+F#4:1 | G2:1 D4+B3:1 D4+B3:1 | F#2:1 A3+D4:1 A3+D4:1 |"
        "A2:1 G3+C#4:1 G3+C#4:1 | D3:1 A3+D4:1 D3:1",
        62,
        accents,
    )
    both = [track("Right hand", "piano", tune), track("Left hand", "piano", left)]
    return score("Morning waltz", "D major", Meter(0, 3, 4), 138, both)


def night_bus() -> Score:
    """A band of lead, electric piano, bass and drums: A minor, 4/4."""
    a, f, d, e = "A3+C4+E4", "A3+C4+F4", "A3+D4+F4", "G#3+B3+E4"
    chords = (a, f, d, e, a, f, e, a)
    keys = line(" ".join(f"-:.5 {c}:1 {c}:.5 -:.5 {c}:1 {c}:.5" for c in chords), 58)
    roots = ("A1", "F1", "D2", "E2", "A1", "F1", "E2", "A1")
    fifths = ("E2", "C2", "A1", "B1", "E2", "C2", "B1", "E2")
    walk = zip(roots, fifths, strict=True)
    bass = line(" ".join(f"{r}:.75 {r}:.75 {r}:.5 {r}:1 {f}:.5 {r}:.5" for r, f in walk), 92)
    lead = line(
        "-:1 E5:.5 D5:.5 C5:1 A4:1 | C5:1.5 A4:.5 -:2 | -:1 D5:.5 F5:.5 A5:1 F5:1 | E5:3 -:1 |"
        "-:1 E5:.5 D5:.5 C5:1 A4:1 | A5:1.5 G5:.5 F5:1 C5:1 | B4:1 E5:.5 D5:.5 C5:1 B4:1 |"
        "A4:3 -:1",
        86,
    )
    hits = []
    for bar in range(8):
        beats = [(36, 0, 104), (38, 1, 96), (36, 1.75, 84), (36, 2.5, 98), (38, 3, 100)]
        beats += [(42, step / 2, 72 if step % 2 else 84) for step in range(7)]
        beats.append((46, 3.5, 80))
        if bar == 0:
            beats.append((49, 0, 96))
        if bar == 7:
            beats += [(45, 3.25, 88), (43, 3.75, 92)]
        hits += [(round((bar * 4 + at) * PPQ), PPQ // 8, drum, loud) for drum, at, loud in beats]
    band = [
        track("Lead", "lead", lead),
        track("Keys", "electric piano", keys),
        track("Bass", "bass", bass),
        track("Drums", "drums", hits),
    ]
    return score("Night bus", "A minor", Meter(0, 4, 4), 104, band)


def evening_hymn() -> Score:
    """Four voices in the manner of a chorale: G major, 4/4."""
    voices = {
        "Soprano": "G4:1 A4:1 B4:1 G4:1 | C5:1 B4:1 A4:2 | B4:1 A4:1 G4:1 A4:.5 B4:.5 |"
        "A4:1 G4:1 F#4:2 | G4:1 B4:1 D5:1 C5:1 | B4:1 A4:1 B4:2 | C5:1 B4:1 A4:1 G4:1 |"
        "A4:1 F#4:1 G4:2",
        "Alto": "D4:1 F#4:1 G4:1 D4:1 | E4:1 G4:1 F#4:2 | G4:1 F#4:1 E4:1 E4:1 | D4:1 E4:1 D4:2 |"
        "D4:1 G4:1 F#4:1 E4:1 | G4:1 F#4:1 G4:2 | E4:1 G4:1 F#4:1 E4:1 | E4:1 D4:1 D4:2",
        "Tenor": "B3:1 D4:1 D4:1 B3:1 | G3:1 D4:1 D4:2 | D4:1 D4:1 B3:1 C4:1 | A3:1 B3:1 A3:2 |"
        "B3:1 D4:1 A3:1 G3:1 | D4:1 D4:1 D4:2 | G3:1 D4:1 C4:1 B3:1 | C4:1 A3:1 B3:2",
        "Bass": "G3:1 D3:1 G2:1 G3:1 | C3:1 G3:1 D3:2 | G3:1 D3:1 E3:1 C3:1 | F#3:1 E3:1 D3:2 |"
        "G3:1 G2:1 D3:1 E3:1 | G3:1 D3:1 G2:2 | C3:1 G3:1 D3:1 E3:1 | C3:1 D3:1 G2:2",
    }
    tracks = [track(name, "choir", line(text, 76)) for name, text in voices.items()]
    return score("Evening hymn", "G major", Meter(0, 4, 4), 84, tracks)


EXAMPLES = {
    "morning_waltz.mid": morning_waltz,
    "night_bus.mid": night_bus,
    "evening_hymn.mid": evening_hymn,
}
"""The files and what makes them."""


def main() -> None:
    """Writes all of them beside this script."""
    for name, make in EXAMPLES.items():
        piece = make()
        data = write_midi(piece, Path(__file__).with_name(name))
        print(f"{name}: {piece.title}, {key_name(piece.keys[0])}, {len(data)} bytes")


if __name__ == "__main__":
    main()
