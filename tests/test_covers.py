"""Covers: the mood of music, colours, lettering, tracing, layout, files."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest

from musegen.art.colours import LEAST_CONTRAST, contrast, oklch, palette_of
from musegen.art.cover import BACKDROPS, Cover, cover_svg, profile
from musegen.art.lettering import Font, fitted_lines
from musegen.art.mood import Mood, PaletteRule, Rule, WordRule, load_rule, mood_of
from musegen.art.trace import traced
from musegen.cli.main import run
from musegen.covers import cover, sheet
from musegen.errors import ConfigError, UsageError
from musegen.music.score import Meter, Score, Tempo, Track, note_array
from musegen.picture_files import SOURCE_TYPE, pixels_of

from .bar_songs import song
from .test_pictures import trained  # noqa: F401

MOOD = Mood(100.0, 0.0, 0.0, 2.0, 24.0, 60.0, 0.1, 70.0)


@pytest.fixture(scope="module")
def font():
    return Font()


def chords(pitches, tempo_us=500_000):
    notes = [(0, 480, pitch, 80) for pitch in pitches]
    return Score(
        tracks=(Track(note_array(notes)),), tempos=(Tempo(0, tempo_us),), meters=(Meter(0, 4, 4),)
    )


def test_facts_of_music():
    mood = mood_of(song())
    assert 99 < mood.tempo < 151 and mood.tension < 0.6 and 60 < mood.loudness < 90
    assert mood_of(chords([60, 64, 67])).tension == 0.0
    assert mood_of(chords([60, 61, 66])).tension == pytest.approx(2 / 3)
    assert mood_of(chords([60], 1_000_000)).tempo == pytest.approx(60)
    low, high = mood_of(chords([36, 37, 38])), mood_of(chords([84, 85, 86]))
    assert low.register < high.register
    drums = mood_of(Score(tracks=(Track(note_array([(0, 120, 36, 90)]), is_drum=True),)))
    assert drums.register == 60.0 and drums.tension == 0.0


def test_the_rule_is_a_file(tmp_path):
    ours = load_rule()
    assert ours.said(MOOD) and len(ours.said(MOOD)) <= ours.most_words
    path = tmp_path / "mine.toml"
    path.write_text(
        'most_words = 1\n[[words]]\nfact = "tempo"\nabove = 90\nwords = ["bus", "car"]\n'
    )
    assert load_rule(path).said(MOOD) == ("bus",)
    assert load_rule(path).said(replace(MOOD, tempo=80)) == ()
    path.write_text('[[words]]\nfact = "tempi"\nwords = []\n')
    with pytest.raises(ConfigError, match="did you mean 'tempo'"):
        load_rule(path)
    assert Rule(words=(WordRule("tempo", ("a", "b", "a")),)).said(MOOD) == ("a", "b")


def test_colours():
    assert oklch(1, 0, 0) == "#ffffff" and oklch(0, 0, 0) == "#000000"
    assert oklch(0.628, 0.2577, 29.23) in ("#ff0000", "#fe0000", "#ff0100")
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#777777") == 1
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)  # WCAG's own example


def test_text_stands_out_whatever_the_music():
    rng = np.random.default_rng(0)
    for _ in range(300):
        mood = Mood(*rng.uniform((40, 0, 0, 0, 0, 20, 0, 1), (220, 1, 12, 20, 80, 100, 1, 127)))
        for light, dark in ((0.93, 0.24), (0.55, 0.5), (1.0, 0.0)):
            rule = replace(PaletteRule(), lightness=light, minor_lightness=dark)
            palette = palette_of(mood, rule)
            assert contrast(palette.text, palette.paper) >= LEAST_CONTRAST
            assert contrast(palette.first, palette.paper) >= 3
    keys = {palette_of(replace(MOOD, tonic=float(t)), PaletteRule()).paper for t in range(12)}
    assert len(keys) == 12


def test_lettering(font):
    line = font.line("Night", 50)
    assert line.width == pytest.approx(2 * font.line("Night", 25).width)
    assert re.fullmatch(r"[MLQCZ0-9. -]+", line.path) and "nan" not in line.path
    assert font.missing("Añ☃夜") in ("夜", "☃夜")
    with pytest.raises(UsageError, match="lacks '夜'"):
        font.line("夜", 20)
    with pytest.raises(UsageError, match="no font"):
        Font(__file__)


def test_titles_fit(font):
    for text in ("A", "Night train to nowhere in particular", "x" * 200, "word " * 60, ""):
        lines = fitted_lines(font, text, 860, 84, 34, 2)
        assert 1 <= len(lines) <= 2 and all(line.width <= 860 for line in lines)
    assert fitted_lines(font, "word " * 60, 860, 84, 34, 2)[-1].text.endswith("…")
    assert fitted_lines(font, "Short", 860, 84, 34, 2)[0].size == 84


def test_tracing():
    picture = np.full((16, 16), 255, np.uint8)
    picture[4:12, 4:12] = 0
    picture[7:9, 7:9] = 255
    path = traced(picture)
    assert path.count("M") == 2 and path.count("Z") == 2  # a square, and the hole in it
    numbers = np.array(re.findall(r"-?[0-9.]+", path), float).reshape(-1, 2)
    assert 3.5 < numbers.min() < 4.5 and 11.5 < numbers.max() < 12.5
    assert traced(np.full((16, 16), 255, np.uint8)) == ""
    speck = np.full((16, 16), 255, np.uint8)
    speck[3, 3] = 100
    assert traced(speck) == ""


def area_of(path):
    total = 0.0
    for ring in path.split("M")[1:]:
        points = np.array(re.findall(r"-?[0-9.]+", ring), float).reshape(-1, 2)
        x, y = points.T
        total += 0.5 * np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)
    return abs(total)


@pytest.mark.parametrize("radius", [4.0, 9.0, 14.0])
def test_round_shapes_stay_round(radius):
    y, x = np.mgrid[:32, :32] - 15.5
    edge = np.clip(np.hypot(x, y) - radius + 0.5, 0, 1)  # a soft rim, as a picture has
    path = traced((edge * 255).astype(np.uint8))
    assert area_of(path) == pytest.approx(np.pi * radius**2, rel=0.03)
    numbers = np.array(re.findall(r"-?[0-9.]+", path), float).reshape(-1, 2)
    assert np.abs(np.hypot(*(numbers - 16).T) - radius).max() < 0.25
    assert 12 < len(numbers) < 240


@pytest.mark.parametrize("backdrop", BACKDROPS)
def test_a_layout_is_svg_within_its_square(font, backdrop):
    palette = palette_of(MOOD, PaletteRule())
    layout = Cover("A <b> & title", "me", "M1,1 5,1 5,5Z", 16, palette, backdrop)
    svg = cover_svg(layout, song(), font)
    root = ET.fromstring(svg)
    assert root.attrib["viewBox"] == "0 0 1000 1000"
    assert root[0].text == "A <b> & title"
    assert not root.findall(".//{http://www.w3.org/2000/svg}text")  # outlines, no fonts
    assert svg == cover_svg(layout, song(), font)
    assert "nan" not in svg and "inf" not in svg


def test_the_shape_of_a_piece():
    shape = profile(song())
    assert shape.shape == (48, 2) and shape.min() >= 0 and shape.max() == 1
    assert not profile(Score(tracks=(Track(),)))[:, 0].any()


def test_covers(tmp_path, trained):  # noqa: F811
    made = cover(song(), title="Night", style="full", num=3, model=trained, random_seed=2)
    again = cover(song(), title="Night", style="full", num=3, model=trained, random_seed=2)
    assert [one.svg for one in made] == [one.svg for one in again]
    assert made[0].png(128) == again[0].png(128)
    assert {one.facts["options"]["backdrop"] for one in made} == set(BACKDROPS)
    assert all(one.contrast >= LEAST_CONTRAST for one in made)
    assert SOURCE_TYPE in made[0].svg and SOURCE_TYPE.encode() in made[0].png(64)
    assert pixels_of(made[0].png(200)).shape == (200, 200, 3)
    drawn = pixels_of(sheet(made, tmp_path / "s.png", 64).read_bytes())
    assert drawn.shape == (80, 3 * 72 + 8, 3)
    with pytest.raises(UsageError, match="rings, hills, bars"):
        cover(song(), backdrop="stars", model=trained)
    with pytest.raises(UsageError, match="lacks"):
        cover(song(), title="夜", model=trained)
    with pytest.raises(UsageError, match=r"\.svg or \.png"):
        made[0].save(tmp_path / "a.jpg")
    with pytest.raises(UsageError, match="64 to"):
        made[0].png(10)


def test_the_verb(tmp_path, trained, capsys, monkeypatch):  # noqa: F811
    from musegen.music.piece import Piece

    monkeypatch.chdir(tmp_path)
    Piece(song()).save("night_bus.mid")
    words = ["cover", "night_bus.mid", "--model", str(trained), "--num", "2", "--size", "128"]
    assert run([*words, "--json", "--random-seed", "3"]) == 0
    files = json.loads(capsys.readouterr().out)["files"]
    assert [file["path"] for file in files] == [
        *(f"out/night_bus-cover-{n}{s}" for n in (1, 2) for s in (".svg", ".png")),
        "out/night_bus-cover-sheet.png",
    ]
    assert files[0]["options"]["title"] == "Night Bus"
    assert run(words) == 0  # nothing that is there is written over
    assert (tmp_path / "out" / "night_bus-cover2-1.svg").is_file()
    assert run(["cover", "--print-rule"]) == 0
    assert "[palette]" in capsys.readouterr().out
    assert run(["cover"]) == 2
    assert run(["cover", "none.mid", "--model", str(trained)]) == 1
    assert run([*words, "--words", "circel"]) == 2
    assert "did you mean 'circle'" in capsys.readouterr().err
