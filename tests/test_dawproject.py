"""music/dawproject.py, dawproject_reader.py and what they are made of: sessions out and in."""

from __future__ import annotations

import io
import wave
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musegen.music.dawproject import write_dawproject
from musegen.music.dawproject_reader import read_dawproject
from musegen.music.midi import read_midi
from musegen.music.normal import normal_form
from musegen.music.score import (
    BEND_DTYPE,
    CHANNEL_PRESSURE,
    CONTROL_DTYPE,
    PRESSURE_DTYPE,
    Key,
    Meter,
    ProgramChange,
    Score,
    Tempo,
    Text,
    Track,
    note_array,
)

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.mid"))


def score() -> Score:
    """A little of everything that a score can hold."""
    lead = Track(
        note_array([(0, 480, 60, 80), (480, 100, 64, 1), (1920, 480, 62, 127), (4000, 77, 70, 64)]),
        name="Lead <&\"'> é",
        program=40,
        bank=129,
        controls=np.array([(0, 7, 99), (10, 0, 3), (480, 64, 127), (960, 64, 0)], CONTROL_DTYPE),
        bends=np.array([(3, -8192), (5, 1), (9, 8191), (11, 0)], BEND_DTYPE),
        pressures=np.array([(7, CHANNEL_PRESSURE, 12), (8, 62, 5)], PRESSURE_DTYPE),
        program_changes=(ProgramChange(1920, 41),),
        lyrics=(Text(0, "la "), Text(480, 'l"a\n')),
    )
    drums = Track(note_array([(i * 240, 60, 36, 100) for i in range(24)]), is_drum=True, program=8)
    made = Score(
        ppq=480,
        tracks=(lead, drums, Track(name="Rests", program=12)),
        tempos=(Tempo(0, 638_297), Tempo(1920, 400_001), Tempo(2000, 3)),
        meters=(Meter(0, 4, 4), Meter(1920, 7, 8)),
        keys=(Key(0, -3, True), Key(1920, 2, False)),
        markers=(Text(0, "Verse"), Text(1920, "Generated")),
        title="A title",
        comments=(Text(0, "one\ntwo"), Text(5, ""), Text(9, "three")),
        copyright="© me",
        length_tick=19_000,
    )
    return normal_form(made)[0]


def session(arrangement: str, structure: str = "", transport: str = "", **members: bytes) -> bytes:
    """A DAWproject around a few lines of XML."""
    xml = (
        f'<?xml version="1.0"?><Project version="1.0"><Transport>{transport}</Transport>'
        f"<Structure>{structure}</Structure><Arrangement>{arrangement}</Arrangement></Project>"
    )
    return zipped({"project.xml": xml.encode(), **members})


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return buffer.getvalue()


def project(data: bytes) -> ElementTree.Element:
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        return ElementTree.fromstring(file.read("project.xml"))


def wav(seconds: float = 0.5, rate: int = 8000) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(bytes(4 * round(seconds * rate)))
    return buffer.getvalue()


# --- round trips ----------------------------------------------------------------------------------


def test_everything_comes_back():
    made = score()
    again, notes = read_dawproject(write_dawproject(made))
    assert again == made and notes == ()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_come_back(path):
    made = read_midi(path)[0]
    half = made.bars()[len(made.bars()) // 2].start_tick
    data = write_dawproject(made, generated=[(0, half, made.end_tick)])
    assert read_dawproject(data) == (made, ())


TEXTS = st.text(
    st.characters(exclude_categories=("Cs", "Cc", "Cn"), include_characters="\t\n"), max_size=8
)
"""What XML can hold; other control characters are left out of a file."""
TICKS = st.integers(0, 20_000)


@st.composite
def tracks(draw) -> Track:
    rows = st.tuples(TICKS, st.integers(1, 5000), st.integers(0, 127), st.integers(1, 127))
    sevens = st.integers(0, 127)
    controls = sorted(draw(st.lists(st.tuples(TICKS, sevens, sevens), max_size=4)))
    bends = sorted(draw(st.lists(st.tuples(TICKS, st.integers(-8192, 8191)), max_size=4)))
    return Track(
        note_array(draw(st.lists(rows, max_size=8))),
        program=draw(sevens),
        is_drum=draw(st.booleans()),
        name=draw(TEXTS),
        bank=draw(st.integers(0, 2**14 - 1)),
        controls=np.array(controls, CONTROL_DTYPE),
        bends=np.array(bends, BEND_DTYPE),
        lyrics=tuple(Text(*one) for one in draw(st.lists(st.tuples(TICKS, TEXTS), max_size=2))),
    )


@st.composite
def scores(draw) -> Score:
    texts = st.lists(st.tuples(TICKS, TEXTS), max_size=3)
    tempos = draw(st.lists(st.tuples(TICKS, st.integers(1, 2**24 - 1)), max_size=3))
    meters = draw(st.lists(st.tuples(TICKS, st.integers(1, 12), st.sampled_from((2, 4, 8)))))
    made = Score(
        ppq=draw(st.sampled_from((24, 96, 480, 1000, 1024))),
        tracks=tuple(draw(st.lists(tracks(), max_size=3))),
        tempos=tuple(Tempo(*tempo) for tempo in tempos),
        meters=tuple(Meter(*meter) for meter in meters),
        markers=tuple(Text(*text) for text in draw(texts)),
        comments=tuple(Text(*text) for text in draw(texts)),
        title=draw(TEXTS),
        length_tick=draw(TICKS),
    )
    return normal_form(made)[0]


@given(scores(), st.lists(st.tuples(st.integers(0, 2), TICKS, st.integers(1, 4000)), max_size=3))
@settings(max_examples=60)
def test_any_score_comes_back(made, spans):
    generated = [(t, start, start + long) for t, start, long in spans if t < len(made.tracks)]
    data = write_dawproject(made, generated=generated)
    again, notes = read_dawproject(data)
    assert again == made
    assert notes in ((), ("there are no notes in it",))
    assert write_dawproject(again, generated=generated) == data


def test_same_score_same_bytes(tmp_path):
    path = tmp_path / "a.dawproject"
    first = write_dawproject(score(), path, audio=wav())
    assert path.read_bytes() == first == write_dawproject(score(), audio=wav())
    with zipfile.ZipFile(path) as file:
        assert file.namelist() == ["project.xml", "metadata.xml", "audio/preview.wav"]
        assert {info.date_time for info in file.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert file.testzip() is None
