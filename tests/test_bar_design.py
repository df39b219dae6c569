"""Tuned bars: shapes, constraints, files; and what they sound like."""

from __future__ import annotations

import io
import json
import wave

import ezdxf
import numpy as np
import pytest

from musegen.design.bar import (
    KNOTS,
    Bar,
    BarShape,
    Workshop,
    cents,
    note_number,
    note_text,
    ratios_of,
)
from musegen.design.bar_files import node_places_m, voice_of
from musegen.design.materials import OWN_TABLE, material_named
from musegen.design.modal import Voice, nearest_bar, play, struck
from musegen.design.search import search
from musegen.errors import ConfigError, UsageError
from musegen.music.score import NOTE_DTYPE, Score, Track

ROSEWOOD = material_named("rosewood")


@pytest.fixture(scope="module")
def found():
    design = Bar(57)
    return design, search(design, evaluations=250, num=3, seed=1)


@pytest.mark.parametrize(
    ("text", "number"), [("A3", 57), ("c4", 60), ("C#5", 73), ("Bb4", 70), ("57", 57), ("C-1", 0)]
)
def test_notes_are_read(text, number):
    assert note_number(text) == number
    assert note_number(note_text(number)) == number


@pytest.mark.parametrize("text", ["H3", "A", "128", "C11", "", "A3.5"])
def test_what_is_no_note(text):
    with pytest.raises(UsageError, match="note"):
        note_number(text)


@pytest.mark.parametrize("text", ["1", "2:4:10", "1:4:3", "1:x", "1:2:3:4", "1:inf"])
def test_what_are_no_ratios(text):
    with pytest.raises(UsageError, match="ratios"):
        ratios_of(text)
    assert ratios_of("1:3:6") == (1.0, 3.0, 6.0)


def test_the_profile_goes_through_its_knots_and_does_not_overshoot():
    shape = BarShape(0.4, 0.02, (1.0, 0.9, 0.5, 0.3, 0.3, 0.25), 0.05, ROSEWOOD)
    np.testing.assert_allclose(shape.thickness_m(KNOTS), 0.02 * np.array(shape.shares))
    fine = shape.thickness_m(np.linspace(0, 1, 1001))
    assert (np.diff(fine) <= 1e-12).all()  # it never grows thicker towards the middle
    ends = np.diff(fine)[[0, -1]]
    assert np.abs(ends).max() < np.abs(np.diff(fine)).max() / 5  # level at the end and the middle
    assert shape.mass_kg == pytest.approx(fine.mean() * 0.4 * 0.05 * 1025, rel=1e-3)
    assert shape.thinnest_m == pytest.approx(0.005)


def test_the_first_partial_is_exact_whatever_the_shape():
    rng = np.random.default_rng(0)
    for note in (48, 69, 96):
        design = Bar(note, material="padauk")
        numbers = design.bounds[:, 0] + rng.random(6) * np.ptp(design.bounds, axis=1)
        made = design.decode(numbers)
        assert design.partials(made)[0] == pytest.approx(440 * 2 ** ((note - 69) / 12), rel=1e-9)


def test_a_search_tunes_a_bar(found):
    design, result = found
    best = result.proposals[0]
    assert best.feasible and best.judged.objective < 15
    partials = design.partials(best.made, fine=True)
    np.testing.assert_allclose(partials, [220, 880, 2200], rtol=0.01)
    for one, other in zip(result.proposals, result.proposals[1:], strict=False):
        assert not np.allclose(one.numbers, other.numbers)
    assert result.best[-1] <= result.best[100] <= result.best[20]
    again = search(design, evaluations=250, num=3, seed=1)
    assert np.array_equal(again.proposals[0].numbers, best.numbers)
    other = search(design, evaluations=250, num=3, seed=2)
    assert not np.array_equal(other.proposals[0].numbers, best.numbers)


def test_what_a_workshop_cannot_make_is_seen(found):
    design, result = found
    made = result.proposals[0].made
    for setting, name in (
        ({"longest_mm": 150.0}, "length_mm"),
        ({"thickest_mm": 5.0}, "thickness_mm"),
        ({"thinnest_mm": 15.0}, "thinnest_mm"),
        ({"steepest": 0.001}, "slope"),
        ({"heaviest_g": 1.0}, "mass_g"),
    ):
        told = Bar(57, workshop=Workshop(**setting)).evaluate(made)
        assert name in [one.name for one in told.broken()], setting
        assert told.excess() > 0
    assert not design.evaluate(made).broken()


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"shortest_mm": 700.0}, "shortest_mm 700 and longest_mm 620 contradict"),
        ({"thinnest_mm": 40.0}, "thinnest_mm 40 and thickest_mm 30 contradict"),
        ({"steepest": 0.0}, "steepest"),
    ],
)
def test_workshops_that_contradict_themselves(settings, text):
    with pytest.raises(UsageError, match=text):
        Workshop(**settings)


def test_files_say_what_a_maker_needs(found):
    design, result = found
    made = result.proposals[0].made
    files = design.export(made, {"random_seed": 1})
    assert set(files) == {".svg", ".dxf", ".wav", ".json"}
    assert files == design.export(made, {"random_seed": 1})
    told = json.loads(files[".json"])
    assert told["note"] == "A3" and told["made"] == {"random_seed": 1}
    first, last = told["cord_mm"]
    assert first + last == pytest.approx(told["length_mm"], abs=0.05)
    assert 0.1 < first / told["length_mm"] < 0.3
    drawing = ezdxf.read(io.StringIO(files[".dxf"].decode()))
    assert not drawing.audit().errors
    (line,) = drawing.modelspace().query("LWPOLYLINE")
    points = np.array([(x, y) for x, y, *_ in line.get_points()])
    assert np.ptp(points[:, 0]) == pytest.approx(told["length_mm"], abs=0.01)
    assert b"<svg" in files[".svg"] and b"/algorithmicMedia" in files[".svg"]
    with wave.open(io.BytesIO(files[".wav"])) as sound:
        frames = np.frombuffer(sound.readframes(sound.getnframes()), np.int16)[::2]
        spectrum = np.abs(np.fft.rfft(frames[: sound.getframerate()]))
    assert np.argmax(spectrum) == pytest.approx(220, abs=2)  # a second: a bin a hertz


# --- Sound ----------------------------------------------------------------------------------------

VOICE = Voice((220.0, 880.0), (0.3, 0.1), (1.0, 0.5))


def test_a_stroke_dies_away_and_is_brighter_when_it_is_hard():
    rate = 8_000
    soft, hard = (struck(VOICE, rate, velocity) for velocity in (30, 120))
    assert np.abs(hard).max() > 3 * np.abs(soft).max()

    def bright(sound):
        spectrum = np.abs(np.fft.rfft(sound[:rate]))
        return spectrum[860:900].max() / spectrum[200:240].max()

    assert bright(hard) > bright(soft)
    early, late = (np.abs(hard[a : a + 400]).max() for a in (0, rate // 2))
    assert late / early == pytest.approx(np.exp(-0.5 / 0.3), rel=0.35)
    # What is above half the rate would be heard as another pitch: it is left out.
    assert np.abs(struck(Voice((5_000.0,), (0.3,), (1.0,)), rate)).max() == 0


def test_voices_that_cannot_be():
    with pytest.raises(UsageError, match="each partial"):
        Voice((220.0,), (0.3, 0.1), (1.0,))
    with pytest.raises(UsageError, match="above 0"):
        Voice((0.0,), (0.3,), (1.0,))


def song(*notes, drums=False):
    return Score(tracks=(Track(notes=np.array(list(notes), NOTE_DTYPE), is_drum=drums),))


def test_a_song_is_played_on_the_bars_there_are():
    voices = {57: VOICE, 60: VOICE}
    assert nearest_bar(57, voices) == 57 and nearest_bar(69, voices) == 57
    assert nearest_bar(61, voices) == 60 and nearest_bar(72, voices) == 60
    made = play(song((0, 480, 57, 90), (480, 480, 69, 90)), voices, 8_000)
    assert made.moved == 1 and made.silent == 0
    with wave.open(io.BytesIO(made.wav)) as sound:
        assert sound.getframerate() == 8_000 and sound.getnframes() > 8_000
    assert play(song((0, 480, 36, 90), drums=True), voices, 8_000).silent == 1
    assert play(song((0, 480, 57, 90)), voices, 8_000) == play(
        song((0, 480, 57, 90)), voices, 8_000
    )
    with pytest.raises(UsageError, match="no bars"):
        play(song((0, 480, 57, 90)), {})
    with pytest.raises(UsageError, match="rate"):
        play(song((0, 480, 57, 90)), voices, 1)


def test_a_bar_sounds_as_its_modes_do(found):
    design, result = found
    made = result.proposals[0].made
    voice = voice_of(design, made)
    np.testing.assert_allclose(voice.partials_hz, [220, 880, 2200], rtol=0.01)
    assert voice.gains[0] == 1 and voice.gains[1] < 0.5  # the second mode rests at the middle
    assert voice.decays_s[0] > voice.decays_s[2]
    first, last = node_places_m(design, made)
    assert first + last == pytest.approx(made.length_m)


def test_cents():
    assert cents(440, 440) == 0 and cents(880, 440) == pytest.approx(1200)


def test_a_table_of_ones_own(tmp_path):
    text = OWN_TABLE.read_text("utf-8")
    path = tmp_path / "mine.toml"
    path.write_text(text.replace("22.0e9", "20.0e9"), "utf-8")
    assert material_named("rosewood", path).young_pa == 20e9
    path.write_text(text.replace("22.0e9", '"much"'), "utf-8")
    with pytest.raises(ConfigError, match=r"mine\.toml: rosewood"):
        material_named("rosewood", path)
