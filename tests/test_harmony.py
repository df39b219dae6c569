"""Scales, chords and pitches as people type them, against sets counted by hand."""

from __future__ import annotations

import itertools
import subprocess
import sys
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musegen.errors import UsageError
from musegen.music.analysis import chord_pitch_classes
from musegen.music.figures import COMMON_QUALITIES, spelled_quality
from musegen.music.harmony import (
    PLAIN_QUALITIES,
    SCALES,
    chord_name_pitch,
    parse_chords,
    parse_scale,
    pitch_name,
)

# --- Scales ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "tonic", "classes"),
    [
        ("D dorian", "D dorian", 2, {2, 4, 5, 7, 9, 11, 0}),
        ("C major", "C major", 0, {0, 2, 4, 5, 7, 9, 11}),
        ("c MINOR", "C minor", 0, {0, 2, 3, 5, 7, 8, 10}),
        ("A natural minor", "A minor", 9, {9, 11, 0, 2, 4, 5, 7}),
        ("A harmonic minor", "A harmonic minor", 9, {9, 11, 0, 2, 4, 5, 8}),
        ("A melodic minor", "A melodic minor", 9, {9, 11, 0, 2, 4, 6, 8}),
        ("E phrygian", "E phrygian", 4, {4, 5, 7, 9, 11, 0, 2}),
        ("F Lydian", "F lydian", 5, {5, 7, 9, 11, 0, 2, 4}),
        ("G mixolydian mode", "G mixolydian", 7, {7, 9, 11, 0, 2, 4, 5}),
        ("B locrian", "B locrian", 11, {11, 0, 2, 4, 5, 7, 9}),
        ("A aeolian", "A aeolian", 9, {9, 11, 0, 2, 4, 5, 7}),
        ("C ionian", "C ionian", 0, {0, 2, 4, 5, 7, 9, 11}),
        ("G♭ major pentatonic", "Gb major pentatonic", 6, {6, 8, 10, 1, 3}),
        ("E-flat minor pentatonic", "Eb minor pentatonic", 3, {3, 6, 8, 10, 1}),
        ("A blues", "A blues", 9, {9, 0, 2, 3, 4, 7}),
        ("C whole-tone scale", "C whole tone", 0, {0, 2, 4, 6, 8, 10}),
        ("C half-whole", "C half-whole", 0, {0, 1, 3, 4, 6, 7, 9, 10}),
        ("C octatonic half-whole", "C half-whole", 0, {0, 1, 3, 4, 6, 7, 9, 10}),
        ("C whole-half diminished", "C whole-half", 0, {0, 2, 3, 5, 6, 8, 9, 11}),
        ("F# chromatic", "F# chromatic", 6, set(range(12))),
        ("chromatic", "chromatic", 0, set(range(12))),
        ("F# minor", "F# minor", 6, {6, 8, 9, 11, 1, 2, 4}),
        ("Bb", "Bb major", 10, {10, 0, 2, 3, 5, 7, 9}),
        ("f#m", "F# minor", 6, {6, 8, 9, 11, 1, 2, 4}),
        ("b", "B major", 11, {11, 1, 3, 4, 6, 8, 10}),
        ("bb minor", "Bb minor", 10, {10, 0, 1, 3, 5, 6, 8}),
    ],
)
def test_scales(text, name, tonic, classes):
    scale = parse_scale(text)
    assert (scale.name, scale.tonic, scale.pitch_classes) == (name, tonic, frozenset(classes))


@pytest.mark.parametrize("kind", SCALES)
def test_every_scale_begins_on_any_tonic(kind):
    for tonic, root in [("C", 0), ("C#", 1), ("Db", 1), ("E#", 5), ("Cb", 11), ("B#", 0)]:
        scale = parse_scale(f"{tonic} {kind}")
        assert scale.tonic == root
        assert {(pitch - root) % 12 for pitch in scale.pitch_classes} == set(SCALES[kind])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("D dorain", "did you mean D dorian"),
        ("dorian", "did you mean D dorian"),
        ("Bb mixolidian", "did you mean Bb mixolydian"),
        ("C octatonic", "say C half-whole or C whole-half"),
        ("H major", "unknown scale 'H major'"),
        ("", "say a tonic and one of major, minor"),
        ("D nonsense", "one of major"),
    ],
)
def test_unknown_scales(text, said):
    with pytest.raises(UsageError, match=said):
        parse_scale(text)


# --- Chords ---------------------------------------------------------------------------------------

FIGURES = {
    "C": {0, 4, 7},
    "Cm": {0, 3, 7},
    "A-": {9, 0, 4},
    "CM": {0, 4, 7},
    "Cmaj": {0, 4, 7},
    "CM7": {0, 4, 7, 11},
    "Cmaj7": {0, 4, 7, 11},
    "CMA7": {0, 4, 7, 11},
    "Cma7": {0, 4, 7, 11},
    "C^7": {0, 4, 7, 11},
    "CΔ7": {0, 4, 7, 11},
    "CΔ": {0, 4, 7, 11},
    "Cm7b5": {0, 3, 6, 10},
    "Cø7": {0, 3, 6, 10},
    "Cø": {0, 3, 6, 10},
    "C-7b5": {0, 3, 6, 10},
    "Cm7(b5)": {0, 3, 6, 10},
    "Cm7♭5": {0, 3, 6, 10},
    "Cdim": {0, 3, 6},
    "C°": {0, 3, 6},
    "Cdim7": {0, 3, 6, 9},
    "C°7": {0, 3, 6, 9},
    "Co7": {0, 3, 6, 9},
    "C+": {0, 4, 8},
    "Caug": {0, 4, 8},
    "C+7": {0, 4, 8, 10},
    "C7#5": {0, 4, 8, 10},
    "C7+": {0, 4, 8, 10},
    "Cmaj7#5": {0, 4, 8, 11},
    "Csus": {0, 5, 7},
    "Csus4": {0, 5, 7},
    "Csus2": {0, 2, 7},
    "C7sus4": {0, 5, 7, 10},
    "C9sus4": {0, 2, 5, 7, 10},
    "C6": {0, 4, 7, 9},
    "Cm6": {0, 3, 7, 9},
    "C6/9": {0, 2, 4, 7, 9},
    "C69": {0, 2, 4, 7, 9},
    "C7": {0, 4, 7, 10},
    "C7b9": {0, 1, 4, 7, 10},
    "C7-9": {0, 1, 4, 7, 10},
    "C7#9": {0, 3, 4, 7, 10},
    "C7#11": {0, 4, 6, 7, 10},
    "C7(b9, 13)": {0, 1, 4, 7, 9, 10},
    "C7 (b9)": {0, 1, 4, 7, 10},
    "C7b5": {0, 4, 6, 10},
    "C7#5#9": {0, 3, 4, 8, 10},
    "C7alt": {0, 1, 3, 4, 6, 8, 10},
    "C13": {0, 2, 4, 5, 7, 9, 10},
    "C13b9": {0, 1, 4, 5, 7, 9, 10},  # music21 by itself overlooks the b9
    "C13#11": {0, 2, 4, 6, 7, 9, 10},  # and the #11
    "Cm11": {0, 2, 3, 5, 7, 10},
    "C9": {0, 2, 4, 7, 10},
    "C-9": {0, 2, 3, 7, 10},
    "Cm(maj7)": {0, 3, 7, 11},
    "CmM7": {0, 3, 7, 11},
    "C-Δ7": {0, 3, 7, 11},
    "C-Δ": {0, 3, 7, 11},
    "Cmmaj9": {0, 2, 3, 7, 11},
    "C5": {0, 7},
    "Cadd9": {0, 2, 4, 7},
    "C(add9)": {0, 2, 4, 7},
    "Cmadd9": {0, 2, 3, 7},
    "C7no3": {0, 7, 10},
    "Comit3": {0, 7},
    "Bb": {10, 2, 5},
    "Bb7": {10, 2, 5, 8},
    "B♭7": {10, 2, 5, 8},
    "bb7": {10, 2, 5, 8},
    "Bbm7b5": {10, 1, 4, 8},
    "B7b5": {11, 3, 5, 9},
    "B(b5)": {11, 3, 5},
    "Bb5": {10, 5},
    "Ebmaj9": {3, 7, 10, 2, 5},
    "A-7": {9, 0, 4, 7},
    "Ab-7": {8, 11, 3, 6},
    "F#7": {6, 10, 1, 4},
    "F♯m7": {6, 9, 1, 4},
    "Cbmaj7": {11, 3, 6, 10},
    "dm7": {2, 5, 9, 0},
    "G7/B": {7, 11, 2, 5},
    "C/D": {0, 2, 4, 7},
    "C6/9/E": {0, 2, 4, 7, 9},
    "Am7/G": {9, 0, 4, 7},
    "Ebm/Gb": {3, 6, 10},
}


@pytest.mark.parametrize("figure", FIGURES)
def test_figures(figure):
    ((place, chord),) = parse_chords(figure)[0].chords
    assert place == 0 and chord is not None
    assert chord.pitch_classes == FIGURES[figure]
    assert chord.figure == figure
    assert chord.root in chord.pitch_classes and chord.bass in chord.pitch_classes


def test_roots_and_basses():
    (bar,) = parse_chords("G7/B Am7/G C6/9 C/D Bb/Ab F#")
    assert [(chord.root, chord.bass) for _, chord in bar.chords if chord] == [
        (7, 11),
        (9, 7),
        (0, 0),
        (0, 2),
        (10, 8),
        (6, 6),
    ]


@pytest.mark.parametrize("quality", PLAIN_QUALITIES)
def test_the_table_says_what_music21_says(quality):
    assert chord_pitch_classes("C" + quality) == set(PLAIN_QUALITIES[quality])


STEMS = {
    "": ({0, 4, 7}, ""),
    "m": ({0, 3, 7}, ""),
    "6": ({0, 4, 7, 9}, "6"),
    "m6": ({0, 3, 7, 9}, "6"),
    "69": ({0, 4, 7, 9, 2}, "69"),
    "sus2": ({0, 2, 7}, ""),
    "sus4": ({0, 5, 7}, ""),
    "7": ({0, 4, 7, 10}, "7"),
    "maj7": ({0, 4, 7, 11}, "7"),
    "m7": ({0, 3, 7, 10}, "7"),
    "mM7": ({0, 3, 7, 11}, "7"),
    "7sus4": ({0, 5, 7, 10}, "7"),
    "7sus2": ({0, 2, 7, 10}, "7"),
    "maj7sus4": ({0, 5, 7, 11}, "7"),
    "maj7sus2": ({0, 2, 7, 11}, "7"),
    "9": ({0, 4, 7, 10, 2}, "9"),
    "maj9": ({0, 4, 7, 11, 2}, "9"),
    "m9": ({0, 3, 7, 10, 2}, "9"),
    "mM9": ({0, 3, 7, 11, 2}, "9"),
    "11": ({0, 4, 7, 10, 2, 5}, "11"),
    "maj11": ({0, 4, 7, 11, 2, 5}, "11"),
    "m11": ({0, 3, 7, 10, 2, 5}, "11"),
    "13": ({0, 4, 7, 10, 2, 5, 9}, "13"),
    "maj13": ({0, 4, 7, 11, 2, 5, 9}, "13"),
    "m13": ({0, 3, 7, 10, 2, 5, 9}, "13"),
    "dim": ({0, 3, 6}, "fifth"),
    "dim7": ({0, 3, 6, 9}, "7fifth"),
    "dimM7": ({0, 3, 6, 11}, "7fifth"),
    "ø7": ({0, 3, 6, 10}, "7fifth"),
    "ø9": ({0, 3, 6, 10, 2}, "9fifth"),
    "ø11": ({0, 3, 6, 10, 2, 5}, "11fifth"),
    "+": ({0, 4, 8}, "fifth"),
    "+7": ({0, 4, 8, 10}, "7fifth"),
    "+M7": ({0, 4, 8, 11}, "7fifth"),
    "+9": ({0, 4, 8, 10, 2}, "9fifth"),
    "+M9": ({0, 4, 8, 11, 2}, "9fifth"),
}
"""Every triad with every number: its semitones, and what of it forbids which alteration."""

DEGREES = {"9": 2, "11": 5, "13": 9}


def in_words(stem: str, changes: tuple[str, ...]) -> set[int] | None:
    """Semitones counted degree by degree; None where the figure contradicts itself."""
    classes, kind = set(STEMS[stem][0]), STEMS[stem][1]
    number = kind.removesuffix("fifth")
    natural = {"9": ["9"], "11": ["9", "11"], "13": ["9", "11", "13"], "69": ["9"]}.get(number, [])
    fifths = [change for change in changes if change in ("b5", "#5")]
    if len(fifths) > 1 or (fifths and kind.endswith("fifth")):
        return None
    for change in changes:
        shift = -1 if "b" in change else 1 if "#" in change else 0
        degree = change.removeprefix("add").lstrip("b#")
        if change in fifths:
            classes = (classes - {7}) | {7 + shift}
        elif change.startswith("add"):
            classes.add((DEGREES | {"6": 9})[degree] + shift)
        else:
            if number == degree or not number:
                return None
            if degree in natural:
                classes -= {DEGREES[degree]}
    for change in changes:  # what one takes away another may have added by a second name
        if change not in fifths:
            degree = change.removeprefix("add").lstrip("b#")
            shift = -1 if "b" in change else 1 if "#" in change else 0
            classes.add((DEGREES | {"6": 9})[degree] + shift)
    for change in fifths:
        classes.add(7 + (-1 if change == "b5" else 1))
    if "sus4" in stem:  # the suspended fourth is not the eleventh that was altered
        classes.add(5)
    if "sus2" in stem:
        classes.add(2)
    if number in ("6", "69"):
        classes.add(9)
    if "dim7" in stem:
        classes.add(9)
    return classes


CHANGES = ("b5", "#5", "b9", "#9", "#11", "b13", "add9", "add11", "add13", "addb9", "add6")


@pytest.mark.parametrize("counts", [(0, 1, 2), pytest.param((3,), marks=pytest.mark.slow)], ids=str)
@pytest.mark.parametrize("stem", STEMS)
def test_music21_reads_all_that_the_grammar_can_say(stem, counts):
    """Changes alone, in twos and in threes: nothing is overlooked, nothing is put in."""
    for count in counts:
        for changes in itertools.combinations(CHANGES, count):
            wanted = in_words(stem, changes)
            text = stem + "".join(changes)
            if wanted is None:
                with pytest.raises(UsageError):
                    spelled_quality(text)
            else:
                found = chord_pitch_classes("C" + spelled_quality(text))
                assert found == wanted, f"C{text} as {spelled_quality(text)}"


@pytest.mark.parametrize("stem", ["", "m", "7", "maj7", "m7", "9", "13", "mM7", "7b9", "add9"])
def test_what_is_left_out_is_left_out(stem):
    whole = chord_pitch_classes("C" + spelled_quality(stem))
    for degree, classes in (("3", {3, 4}), ("5", {7})):
        found = chord_pitch_classes("C" + spelled_quality(f"{stem}omit{degree}"))
        assert found == whole - classes


def test_common_qualities_are_read():
    for quality in COMMON_QUALITIES:
        assert parse_chords("Ab" + quality)


def test_bars_share_their_time():
    half, quarter = Fraction(1, 2), Fraction(1, 4)

    def shape(text):
        return [
            [(place, chord.figure if chord else None) for place, chord in bar.chords]
            for bar in parse_chords(text)
        ]

    assert shape("Dm7 | G7 | Cmaj7 | %") == [
        [(0, "Dm7")],
        [(0, "G7")],
        [(0, "Cmaj7")],
        [(0, "Cmaj7")],
    ]
    assert shape("| Dm7 G7 || C |") == [[(0, "Dm7"), (half, "G7")], [(0, "C")]]
    assert shape("C / / G7 | / F . .") == [
        [(0, "C"), (3 * quarter, "G7")],
        [(0, "G7"), (quarter, "F")],
    ]
    assert shape("N.C. | NC C | n.c.") == [[(0, None)], [(0, None), (half, "C")], [(0, None)]]
    assert shape("C | F |\n| G | %\n\n") == [[(0, "C")], [(0, "F")], [(0, "G")], [(0, "G")]]
    assert shape("C7 (b9, 13) F|G") == [[(0, "C7 (b9, 13)"), (half, "F")], [(0, "G")]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no chords"),
        (" | ", "bar 1 is empty"),
        ("C | | G", "bar 2 is empty"),
        ("% | C", "bar 1 is %"),
        ("/ C", "bar 1 begins with /"),
        ("C | Cmajj7", "bar 2: chord 'Cmajj7'.*did you mean Cmaj7"),
        ("C | % G", "bar 2: unknown chord '%'; % stands alone"),
        ("H7", "bar 1: unknown chord 'H7'; the German H is B"),
        ("c", "say C or Cm"),
        ("bb", "say Bb or Bbm"),
        ("Cb9b5", None),
        ("C(b9)", "say 7b9 or addb9"),
        ("C9b9", "9 and b9 at once"),
        ("C13b13", "13 and b13 at once"),
        ("Cm7sus4", "sus takes the place of the third"),
        ("Cdim9", "no such chord"),
        ("C7b5#5", "altered twice"),
        ("C7b5omit5", "altered and left out"),
        ("Csus4omit3", "no third to leave out"),
        ("Caltb9", "alt stands alone"),
        ("C7add15", "add15 is not understood"),
        ("C7#13", "#13 is not understood"),
        ("CmM", "say which seventh"),
        ("C4", "'4' is not understood"),
        ("C7(b9", r"unknown chord '\(b9'"),
        ("Dm7, G7", "bar 1: chord 'Dm7,'"),
        ("C/H", "not understood"),
    ],
)
def test_what_is_refused(text, said):
    if said is None:
        assert parse_chords(text)  # Cb with a ninth and a flat fifth: the sign belongs to the root
        return
    with pytest.raises(UsageError, match=said):
        parse_chords(text)


def test_a_refusal_is_one_short_line():
    with pytest.raises(UsageError) as caught:
        parse_chords("C" + "x" * 5000)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_plain_chords_do_not_wait_for_music21():
    code = (
        "import sys\nfrom musegen.music.harmony import parse_chords, parse_scale\n"
        "parse_chords('Dm7 | G7/B | Cmaj9 | A-7 Csus4 | Bø7 | C6'); parse_scale('D dorian')\n"
        "assert not {'music21', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


CHORD_TEXT = st.lists(
    st.sampled_from(
        "C D E F G A B b # ♭ ♯ m M maj min - + o ø ° Δ ^ 5 6 7 9 11 13 / ( ) , | % . "
        "N.C. sus 2 4 add omit no alt dim aug dom".split()
        + [" ", " ", "\n"]
    ),
    max_size=12,
).map("".join)


@settings(max_examples=300, deadline=None)
@given(st.one_of(CHORD_TEXT, st.text(max_size=40)))
def test_any_text_is_chords_or_refused(text):
    try:
        bars = parse_chords(text)
    except UsageError as error:
        assert "\n" not in str(error)
        return
    assert bars
    for bar in bars:
        places = [place for place, _ in bar.chords]
        assert places[0] == 0 and places == sorted(set(places)) and places[-1] < 1
        for _, chord in bar.chords:
            assert chord is None or {chord.root, chord.bass} & chord.pitch_classes


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(
        st.text(max_size=30),
        st.builds("{} {}".format, st.sampled_from("C d F# Bb e♭".split()), st.text(max_size=20)),
    )
)
def test_any_text_is_a_scale_or_refused(text):
    try:
        assert parse_scale(text).pitch_classes
    except UsageError as error:
        assert "\n" not in str(error)


# --- Pitches --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "pitch"),
    [
        ("C4", 60),
        ("60", 60),
        ("c4", 60),
        ("F#3", 54),
        ("B♭3", 58),
        ("Bb-1", 10),
        ("C-1", 0),
        ("G9", 127),
        ("B#3", 60),
        ("Cb4", 59),
        ("bb4", 70),
        (" 0 ", 0),
    ],
)
def test_pitches(text, pitch):
    assert chord_name_pitch(text) == pitch


@pytest.mark.parametrize("text", ["", "H4", "C", "128", "G#9", "Cb-1", "-1", "6.5", "C4 C5", "²"])
def test_what_is_no_pitch(text):
    with pytest.raises(UsageError):
        chord_name_pitch(text)


@given(st.integers(0, 127))
def test_pitch_names_come_back(pitch):
    assert chord_name_pitch(pitch_name(pitch)) == pitch
