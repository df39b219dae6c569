"""What composers type: it is a checked value, or one line that says what to type."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musegen.errors import UsageError
from musegen.tokens.wishes import Controls, Scope, parse_changes

TEXTS = [
    name
    for name, value in vars(Controls()).items()
    if value == () and name not in ("scale", "chords")  # tests/test_harmony.py has these
]


def wish(name: str, text: str):
    (found,) = Controls.of(**{name: text}).wishes()
    return found


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("density", "6-8", (6, 8)),
        ("density", "4", (4, 4)),
        ("pitch_range", "C2-C4", (36, 60)),
        ("pitch_range", "C-1-G9", (0, 127)),
        ("pitch_range", "30-70", (30, 70)),
        ("max_polyphony", "1", 1),
        ("grid", "16th", (Fraction(1, 4),)),
        ("grid", "sixteenths", (Fraction(1, 4),)),
        ("grid", "eighth-triplet", (Fraction(1, 3),)),
        ("grid", "32nd", (Fraction(1, 8),)),
        ("grid", "8th-triplet+16th", (Fraction(1, 3), Fraction(1, 4))),
        ("first_pitch", "F#3", 54),
        ("last_pitch", "60", 60),
        ("polyphony", "2.5", 2.5),
        ("length", "8th", 0.5),
        ("length", "short", 0.25),
        ("length", "1.5", 1.5),
        ("register", "low", 45.0),
        ("register", "C4", 60.0),
        ("loudness", "mf", 76.0),
        ("loudness", "100", 100.0),
        ("lock", "Rhythm", "rhythm"),
        ("add", "bass, drums", ("bass", "drums")),
    ],
)
def test_values_as_people_type_them(name, text, value):
    assert wish(name, text).value == value


@pytest.mark.parametrize(
    ("typed", "scope"),
    [
        ("4", Scope()),
        ("4@bass", Scope(("bass",))),
        ("4@bass, Lead guitar", Scope(("bass", "Lead guitar"))),
        ("4:9", Scope((), 9, 9)),
        ("4:9-12", Scope((), 9, 12)),
        ("4@#2:9 - 12", Scope(("#2",), 9, 12)),
        ("4@a@b", Scope(("b",))),
    ],
)
def test_where_it_holds(typed, scope):
    if typed == "4@a@b":  # the last @ divides, and the value before it is none
        with pytest.raises(UsageError, match="--density 4@a@b"):
            wish("density", typed)
    else:
        assert wish("density", typed).scope == scope


def test_a_fill_says_its_bars_first():
    assert wish("fill", "9-12@bass,drums").scope == Scope(("bass", "drums"), 9, 12)
    assert wish("fill", "9").scope == Scope((), 9, 9)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"density": "8-6"}, "--density 8-6: 8 is more than 6; say for example 6-8@bass"),
        ({"density": "many"}, "--density many: 'many' is no whole number"),
        ({"max_polyphony": "0"}, "--max-polyphony 0: no note could sound"),
        ({"pitch_range": "C5-C2"}, "--pitch-range C5-C2: C5 is above C2"),
        ({"pitch_range": "C5"}, "say the lowest and the highest pitch"),
        ({"grid": "7th"}, "'7th' is no note value"),
        ({"fill": "12-9"}, "--fill 12-9: bar 12 comes after bar 9"),
        ({"fill": "0-3"}, "bars are counted from 1"),
        ({"fill": "bass"}, "'bass' are no bars"),
        ({"fill": "@bass"}, "are no bars"),
        ({"density": "4@"}, "no track is named after the @"),
        ({"density": "4:12-9"}, "bar 12 comes after bar 9"),
        ({"add": "bass@drums"}, "it names tracks itself"),
        ({"lock": "tempo"}, "'tempo' cannot be locked: rhythm and pitch can"),
        ({"loudness": "200"}, "it must be from 1 to 127"),
        ({"loudness": "nan"}, "it must be from 1 to 127"),
        ({"length": ""}, "it is empty"),
    ],
)
def test_what_cannot_be_read_is_one_line_with_an_example(options, said):
    with pytest.raises(UsageError) as caught:
        Controls.of(**options).wishes()
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"densty": "4"}, "unknown option 'densty'; did you mean density?"),
        ({"strict_scale": True}, "--strict-scale without --scale"),
        ({"strict_chords": True}, "--strict-chords without --chords"),
        ({"variation": 1.5}, "--variation 1.5: it must be from 0 to 1"),
        ({"variation": float("nan")}, "--variation nan"),
        ({"guidance": -1}, "--guidance -1"),
        ({"style": 3}, "--style 3: it must be a word"),
    ],
)
def test_options_that_make_no_sense(options, said):
    with pytest.raises(UsageError) as caught:
        Controls.of(**options)
    assert said in str(caught.value)


@given(name=st.sampled_from(TEXTS), text=st.text(max_size=30))
def test_any_text_is_a_value_or_one_line(name, text):
    try:
        found = wish(name, text)
    except UsageError as error:
        assert "\n" not in str(error).replace(text, "")
    else:
        assert found.kind == name


PIECES = st.sampled_from(
    ["6-8", "C2-C4", "16th", "@", "bass", ":", "9-12", "#2", "0", "-", " ", "1"]
)


@given(name=st.sampled_from(TEXTS), parts=st.lists(PIECES, max_size=6))
def test_nearly_right_texts_too(name, parts):
    try:
        wish(name, "".join(parts))
    except UsageError as error:
        assert str(error).startswith(f"--{name.replace('_', '-')} ")


def test_what_is_said_is_read_back_the_same():
    asked = Controls.of(
        fill=["9-12@bass", "3"],
        density="6-8@bass",
        polyphony=2.5,
        scale="D dorian",
        strict_scale=True,
        variation=0.3,
        guidance=2.0,
        style="hymn",
    )
    told = json.loads(json.dumps(asked.to_dict()))
    assert Controls.of(**told) == asked
    assert Controls().to_dict() == {} and not Controls().asked


def test_none_is_as_if_it_were_not_said():
    assert Controls.of(density=None, fill=None, variation=None) == Controls()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("4/4", (("4/4", 1),)),
        ("4/4,3/4@9", (("4/4", 1), ("3/4", 9))),
        ("96 , 120@9, 80@17", (("96", 1), ("120", 9), ("80", 17))),
        ("4/4@3", (("4/4", 3),)),
    ],
)
def test_changes(text, found):
    assert parse_changes(text) == found


@pytest.mark.parametrize("text", ["", ",", "4/4,3/4", "4/4,3/4@9,2/4@9", "4/4,3/4@x", "4/4@0"])
def test_changes_that_make_no_sense(text):
    with pytest.raises(UsageError, match="meter"):
        parse_changes(text, "meter")
