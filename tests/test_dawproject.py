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

from musegen.cli.companions import Companions
from musegen.cli.main import run
from musegen.errors import MidiError, UsageError
from musegen.music import audio
from musegen.music import dawproject_archive as archive
from musegen.music import dawproject_timeline as timeline
from musegen.music.bars import barline_after, barline_before
from musegen.music.check import check_midi
from musegen.music.dawproject import write_dawproject
from musegen.music.dawproject_reader import read_dawproject
from musegen.music.midi import read_midi
from musegen.music.normal import normal_form
from musegen.music.piece import Piece
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


RPN = [(0, 101, 0), (0, 100, 0), (0, 6, 12), (0, 101, 127), (0, 100, 127)]
"""The range of bends is an octave: what comes first matters."""


def score() -> Score:
    """A little of everything that a score can hold."""
    lead = Track(
        note_array([(0, 480, 60, 80), (480, 100, 64, 1), (1920, 480, 62, 127), (4000, 77, 70, 64)]),
        name="Lead <&\"'> é",
        program=40,
        bank=129,
        controls=np.array(
            RPN + [(0, 7, 99), (10, 0, 3), (480, 64, 127), (960, 64, 0)], CONTROL_DTYPE
        ),
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


# --- what is written ------------------------------------------------------------------------------


def test_tracks_have_names_colours_and_the_instrument_that_is_meant():
    root = project(write_dawproject(score()))
    found = root.findall("Structure/Track")
    names = [track.get("name") for track in found]
    assert names == [*(track.name for track in score().tracks), "Master"]
    assert len({track.get("color") for track in found}) == len(found)
    assert found[0].get("comment") == "MIDI program 40, bank 129: Violin"
    assert found[1].get("comment").startswith("MIDI drum kit 8: ")
    channels = root.findall("Arrangement/Lanes/Lanes[2]/Clips/Clip/Notes/Note")
    assert {note.get("channel") for note in channels} == {"9"}


def test_sections_and_what_was_composed_are_clips():
    made = normal_form(
        Score(
            tracks=(
                Track(note_array([(i * 480, 480, 60, 80) for i in range(32)]), name="Cut"),
                Track(note_array([(0, 32 * 480, 40, 80)]), name="Long"),
                Track(name="Rests"),
            ),
            markers=(Text(0, "Intro"), Text(1921, "Verse"), Text(7680, "Chorus")),
        )
    )[0]
    data = write_dawproject(made, generated=[(0, 9600, 11520), (0, 11520, 13440), (2, 0, 1920)])
    lanes = project(data).findall("Arrangement/Lanes/Lanes")

    def clips(lane):
        return [
            (float(clip.get("time")), float(clip.get("duration")), clip.get("name"))
            for clip in lane.findall("Clips/Clip")
        ]

    assert clips(lanes[0]) == [
        (0, 4, "Intro"),
        (4, 12, "Verse"),
        (16, 4, "Chorus"),
        (20, 8, "Generated"),
        (28, 4, "Chorus"),
    ]
    colours = [clip.get("color") for clip in lanes[0].findall("Clips/Clip")]
    assert [colour is not None for colour in colours] == [False, False, False, True, False]
    assert clips(lanes[1]) == [(0, 32, "Intro")], "a note that rings on is not cut"
    assert clips(lanes[2]) == [(0, 4, "Generated")], "a clip to fill"
    assert read_dawproject(data)[0] == made


def test_our_own_markers_name_no_sections():
    texts = ("Intro", "Generated: Keys", "Generated", "Generated by hand")
    notes = note_array([(i * 480, 480, 60, 80) for i in range(16)])
    made = normal_form(
        Score(
            tracks=(Track(notes, name="Keys"), Track(notes, name="Bass")),
            markers=tuple(Text(1920 * bar, text) for bar, text in enumerate(texts)),
        )
    )[0]
    data = write_dawproject(made, generated=[(0, 1920, 3840)])
    keys, bass = (
        [(clip.get("time"), clip.get("name")) for clip in lane.findall("Clips/Clip")]
        for lane in project(data).findall("Arrangement/Lanes/Lanes")
    )
    late = ("12", "Generated by hand")
    assert keys == [("0", "Intro"), ("4", "Generated"), ("8", "Intro"), late]
    assert bass == [("0", "Intro"), late]
    marks = project(data).findall("Arrangement/Markers/Marker")
    assert [mark.get("name") for mark in marks] == list(texts)
    assert [bool(mark.get("color")) for mark in marks] == [False, True, True, False]
    assert read_dawproject(data)[0] == made


def test_markers_tempo_meters_and_automation():
    root = project(write_dawproject(score())).find("Arrangement")
    assert [mark.get("name") for mark in root.findall("Markers/Marker")] == ["Verse", "Generated"]
    tempos = [point.get("value") for point in root.findall("TempoAutomation/RealPoint")]
    assert [round(60e6 / float(bpm)) for bpm in tempos] == [638_297, 400_001, 3]
    meters = root.findall("TimeSignatureAutomation/TimeSignaturePoint")
    assert [(point.get("time"), point.get("numerator")) for point in meters] == [
        *(("0", "4"), ("4", "7"))
    ]
    targets = [points.find("Target").attrib for points in root.findall("Lanes/Lanes[1]/Points")]
    expressions = {target["expression"] for target in targets}
    assert {"pitchBend", "channelPressure", "polyPressure", "programChange"} < expressions
    assert "64" in {target.get("controller") for target in targets}


def test_the_preview_is_a_track_of_audio():
    made = score()
    data = write_dawproject(made, audio=wav(0.75))
    root = project(data)
    found = root.find("Arrangement//Audio")
    assert (found.get("duration"), found.get("channels"), found.get("sampleRate")) == (
        *("0.75", "2"),
        "8000",
    )
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        assert file.read(found.find("File").get("path")) == wav(0.75)
    clip = root.find("Arrangement/Lanes/Lanes[4]/Clips/Clip")
    assert float(clip.get("duration")) == pytest.approx(0.75e6 / 638_297)
    again, notes = read_dawproject(data)
    assert again == made and "an audio clip was dropped" in notes


@pytest.mark.parametrize(
    "wrong",
    [
        {"generated": [(3, 0, 5)]},
        {"generated": [(-1, 0, 5)]},
        {"generated": [(0, 5, 5)]},
        {"audio": b"RIFF"},
    ],
)
def test_wrong_arguments(wrong, tmp_path):
    with pytest.raises(UsageError):
        write_dawproject(score(), tmp_path / "a.dawproject", **wrong)
    assert list(tmp_path.iterdir()) == []


@given(scores(), TICKS)
@settings(max_examples=40)
def test_barlines_before_and_after_are_of_one_grid(made, tick):
    lines = [0] + [bar.end_tick for bar in made.bars(tick + 1)]
    assert barline_before(made, tick) == max(line for line in lines if line <= tick)
    assert barline_after(made, tick) == min(line for line in lines if line >= tick)


# --- sessions of other programs -------------------------------------------------------------------


def notes_of(made: Score) -> list[tuple[int, int, int]]:
    return [tuple(note)[:3] for track in made.tracks for note in track]


def clip(attributes: str, notes: str, lanes: str = "") -> str:
    return (
        f'<Lanes timeUnit="beats"><Lanes track="t" {lanes}><Clips>'
        f"<Clip {attributes}><Notes>{notes}</Notes></Clip></Clips></Lanes></Lanes>"
    )


FOUR = "".join(
    f'<Note time="{beat}" duration="1" key="{60 + beat}" vel="0.8"/>' for beat in range(4)
)
"""Four quarter notes, c, c sharp, d, d sharp."""


@pytest.mark.parametrize(
    "attributes, expected",
    [
        ('time="4"', [(4, 1, 60), (5, 1, 61), (6, 1, 62), (7, 1, 63)]),
        ('time="4" duration="2.5"', [(4, 1, 60), (5, 1, 61), (6, 0.5, 62)]),
        ('time="0" duration="2" playStart="2"', [(0, 1, 62), (1, 1, 63)]),
        ('time="0" playStart="1" playStop="3"', [(0, 1, 61), (1, 1, 62)]),
        (
            'time="0" duration="5" playStart="1" loopStart="0" loopEnd="2"',
            [(0, 1, 61), (1, 1, 60), (2, 1, 61), (3, 1, 60), (4, 1, 61)],
        ),
        ('time="0" enable="false"', []),
        ('time="-2" duration="4"', [(0, 1, 62), (1, 1, 63)]),
    ],
)
def test_a_clip_is_a_window_on_its_notes(attributes, expected):
    made, notes = read_dawproject(session(clip(attributes, FOUR)))
    assert notes_of(made) == [(round(a * 480), round(b * 480), key) for a, b, key in expected]
    if 'enable="false"' in attributes:
        assert "a muted clip was dropped" in notes


def test_seconds_follow_the_tempo():
    tempo = (
        '<TempoAutomation timeUnit="beats" unit="bpm"><Target parameter="x"/>'
        '<RealPoint time="0" value="60"/><RealPoint time="4" value="120"/></TempoAutomation>'
    )
    made, _ = read_dawproject(
        session(clip('time="0"', FOUR).replace('"beats"', '"seconds"', 1).replace("3", "5") + tempo)
    )
    assert made.tempos == (Tempo(0, 1_000_000), Tempo(1920, 500_000))
    assert [start for start, *_ in notes_of(made)] == [0, 480, 960, 4 * 480 + 960]


def test_content_in_seconds_within_a_clip_in_beats():
    """At 120 bpm; the clip shows its content from the second second on."""
    made, _ = read_dawproject(
        session(
            clip('time="4" duration="4" contentTimeUnit="seconds" playStart="1"', FOUR),
            transport='<Tempo value="120"/><TimeSignature numerator="3" denominator="4"/>',
        )
    )
    assert notes_of(made) == [(4 * 480, 960, 61), (6 * 480, 960, 62)]
    assert made.meters == (Meter(0, 3, 4),)


def test_lanes_in_lanes_aliases_and_groups():
    structure = (
        '<Track name="Group" contentType="tracks">'
        '<Track id="t" name="Strings" contentType="notes"/>'
        '<Track id="u" name="Drums" contentType="notes"/></Track>'
        '<Track id="v" name="Voice" contentType="audio"/>'
    )
    arrangement = (
        '<Lanes timeUnit="beats"><Lanes track="t"><Lanes><Clips><Clip time="0" duration="4">'
        f'<Clips><Clip time="1" duration="2"><Notes id="n">{FOUR}</Notes></Clip></Clips></Clip>'
        '<Clip time="8" duration="1" reference="n"/></Clips></Lanes></Lanes>'
        '<Lanes track="u"><Notes><Note time="0" duration="1" channel="9" key="36"/></Notes></Lanes>'
        "</Lanes>"
    )
    made, notes = read_dawproject(session(arrangement, structure))
    strings, drums = made.tracks
    assert [tuple(note)[:3] for note in strings] == [
        *((480, 480, 60), (960, 480, 61), (8 * 480, 480, 60))
    ]
    assert (strings.name, strings.program) == ("Strings", 48) and drums.is_drum
    assert any("instrument of its name" in line for line in notes)
    assert any("an audio track was dropped" in line for line in notes)


def test_automation_of_others():
    points = (
        '<Points unit="percent"><Target expression="channelController" controller="1"/>'
        '<RealPoint time="0" value="0" interpolation="linear"/><RealPoint time="1" value="100"/>'
        '</Points><Points unit="normalized"><Target expression="pitchBend"/>'
        '<RealPoint time="0" value="0.5"/><RealPoint time="1" value="1"/></Points>'
        '<Points><Target parameter="x"/><RealPoint time="0" value="1"/></Points>'
    )
    arrangement = clip('time="0"', FOUR).replace("</Clips>", "</Clips>" + points)
    made, notes = read_dawproject(session(arrangement))
    controls = made.tracks[0].controls
    assert len(controls) > 8 and (np.diff(controls["value"].astype(int)) > 0).all()
    assert controls["value"][-1] == 127
    assert made.tracks[0].bends.tolist() == [(0, 0), (480, 8191)]
    assert any("plug-in" in line for line in notes) and any("ramp" in line for line in notes)


def test_a_note_of_a_fine_grid_and_one_of_none():
    fine = '<Note time="0.03125" duration="0.25" key="60"/>'
    made, _ = read_dawproject(session(clip('time="0"', fine)))
    assert made.ppq == 480 and notes_of(made) == [(15, 120, 60)]
    made, notes = read_dawproject(session(clip('time="0"', fine.replace("125", "17"))))
    assert made.ppq == 960 and any("rounded" in line for line in notes)


# --- hostile sources ------------------------------------------------------------------------------


def doctype(body: str) -> bytes:
    return zipped({"project.xml": f"<!DOCTYPE Project {body}><Project>&a;</Project>".encode()})


GOOD = write_dawproject(score())
HOSTILE = {
    "nothing": (b"", "no ZIP"),
    "text": (b"x" * 3000, "no ZIP"),
    "a MIDI file": (EXAMPLES[0].read_bytes(), "no ZIP"),
    "cut short": (GOOD[: len(GOOD) // 2], "no ZIP"),
    "an empty ZIP": (zipped({}), "no project.xml"),
    "another root": (zipped({"project.xml": b"<Score/>"}), "begins with <Score>"),
    "no XML": (zipped({"project.xml": b"<Project"}), "no XML"),
    "empty XML": (zipped({"project.xml": b""}), "no XML"),
    "entities": (doctype('[<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]'), "document type"),
    "a file of mine": (doctype('[<!ENTITY a SYSTEM "file:///etc/passwd">]'), "document type"),
    "deep": (zipped({"project.xml": b"<Project>" + b"<a>" * 10**5}), "deeper"),
    "many attributes": (
        session("<Lanes " + " ".join(f'a{i}="1"' for i in range(500)) + "/>"),
        "deeper",
    ),
    "itself": (
        session('<Clips id="a"><Clip time="0" duration="1" reference="a"/></Clips>'),
        "without end",
    ),
    "loops": (
        session(clip('time="0" duration="1e8" loopStart="0" loopEnd="0.002"', FOUR)),
        "unroll to more than",
    ),
    "doubling": (
        session(
            "".join(
                f'<Clips id="c{i}">' + f'<Clip time="0" reference="c{i + 1}"/>' * 4 + "</Clips>"
                for i in range(40)
            )
        ),
        "unroll to more than",
    ),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_sources_are_one_line(what, monkeypatch):
    monkeypatch.setattr(timeline, "MAX_STEPS", 50_000)
    data, message = HOSTILE[what]
    with pytest.raises(MidiError, match=message) as caught:
        read_dawproject(data, "bad.dawproject")
    text = str(caught.value)
    assert "\n" not in text and len(text) < 300 and text.startswith("bad.dawproject")


def test_a_note_beyond_all_bounds_is_dropped():
    made, notes = read_dawproject(session(clip('time="999999999"', FOUR)))
    assert made.num_notes == 0 and any("beyond all bounds" in line for line in notes)


def test_bombs_are_not_unpacked(monkeypatch):
    monkeypatch.setattr(archive, "MAX_XML_BYTES", 2**16)
    bomb = b"<Project>" + b" " * 10**6
    with pytest.raises(MidiError, match="unpacks to"):
        archive_xml(zipped({"project.xml": bomb}))
    lying = bytearray(zipped({"project.xml": bomb}))
    size = (10**6 + 9).to_bytes(4, "little")
    assert lying.count(size) == 2
    with pytest.raises(MidiError, match=r"damaged|more than|no XML"):
        archive_xml(bytes(lying).replace(size, (1000).to_bytes(4, "little")))
    monkeypatch.setattr(archive, "MAX_ELEMENTS", 10)
    with pytest.raises(MidiError, match="more than 10 elements"):
        read_dawproject(GOOD)
    monkeypatch.setattr(archive, "MAX_DIRECTORY_BYTES", 10)
    with pytest.raises(MidiError, match="too many members"):
        read_dawproject(GOOD)


def archive_xml(data: bytes) -> None:
    with archive.open_archive(data) as opened:
        opened.xml("project.xml", "Project", archive.MAX_XML_BYTES)


@given(st.data())
@settings(max_examples=150)
def test_damaged_bytes_never_surprise(data):
    broken = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, 50))
    try:
        read_dawproject(bytes(broken[: len(broken) - cut]))
    except MidiError as error:
        assert "\n" not in str(error)


NUMBERS = st.sampled_from(
    ["", "0", "1", "-1", "4", "0.001", "1e9", "-1e9", "1e308", "nan", "inf", "x", "0.5", "128"]
)
PLACES = ("time", "duration", "playStart", "playStop", "loopStart", "loopEnd", "contentTimeUnit")


@given(st.data())
@settings(max_examples=150)
def test_odd_numbers_never_surprise(data):
    def odd(*names: str) -> str:
        return "".join(f' {name}="{data.draw(NUMBERS)}"' for name in names)

    unit = data.draw(st.sampled_from(["", "beats", "seconds"]))
    points = "".join(
        f"<RealPoint{odd('time', 'value')} interpolation='linear'/>"
        f"<TimeSignaturePoint{odd('time', 'numerator', 'denominator')}/>"
        for _ in range(3)
    )
    arrangement = (
        f'<Lanes timeUnit="{unit}"><Lanes track="t"><Clips comment="musegen:[1]">'
        f"<Clip{odd(*PLACES)}><Notes>"
        f"<Note{odd('time', 'duration', 'key', 'vel', 'channel')}/></Notes></Clip></Clips>"
        f"<Points><Target expression='pitchBend'/>{points}</Points>"
        f"<Points><Target expression='channelController'{odd('controller')}/>{points}</Points>"
        f"</Lanes></Lanes><TempoAutomation timeUnit='{unit}'>{points}</TempoAutomation>"
        f"<TimeSignatureAutomation timeUnit='{unit}'>{points}</TimeSignatureAutomation>"
        f"<Markers><Marker{odd('time', 'name')}/></Markers>"
    )
    try:
        made, _ = read_dawproject(session(arrangement, transport=f"<Tempo{odd('value')}/>"))
    except MidiError as error:
        assert "\n" not in str(error)
    else:
        assert normal_form(made)[0] == made


def test_private_facts_of_strangers_do_no_harm():
    facts = '{"ppq": 1e9, "length": -1, "keys": [[0, 99, 0], 3], "comments": [[0, 1e99]]}'
    notes = clip('time="0"', FOUR)
    inside = f"<Arrangement comment='musegen:{facts}'>{notes}</Arrangement>"
    made, _ = read_dawproject(zipped({"project.xml": f"<Project>{inside}</Project>".encode()}))
    assert made.ppq == 480 and made.keys == () and made.num_notes == 4


# --- the pieces around ----------------------------------------------------------------------------


def test_pieces_are_saved_and_loaded_by_suffix(tmp_path):
    piece = Piece(score(), info={"stretches": [(0, 1920, 3840)]})
    path = piece.save(tmp_path / "a.DAWproject")
    assert path.read_bytes() == write_dawproject(score(), generated=[(0, 1920, 3840)])
    again = Piece.load(path)
    assert again.score == piece.score and again.info["format"] == "dawproject"
    assert Piece.of(path).score == piece.score
    with pytest.raises(MidiError, match="cannot be read"):
        Piece.load(tmp_path / "none.dawproject")


def test_midi_convert_goes_both_ways(tmp_path, capsys):
    there, back = tmp_path / "a.dawproject", tmp_path / "b.mid"
    assert run(["midi", "convert", str(EXAMPLES[0]), str(there)]) == 0
    assert run(["midi", "convert", str(there), str(back)]) == 0
    assert read_midi(back)[0] == read_midi(EXAMPLES[0])[0] and check_midi(back) == []
    assert run(["midi", "info", str(there)]) == 0
    assert "format dawproject" in capsys.readouterr().out
    there.write_bytes(b"PK")
    back.unlink()
    assert run(["midi", "convert", str(there), str(back)]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "no ZIP" in err and not back.exists()


def test_a_preview_goes_into_the_session(tmp_path, monkeypatch):
    monkeypatch.setattr(audio, "PROGRAM", "no-such-fluidsynth")
    piece = Piece(read_midi(EXAMPLES[0])[0])
    path = piece.save(tmp_path / "a.dawproject")
    written = Companions(preview="wav").write(piece, path, stretches=[(0, 0, 960)], quiet=True)
    assert written == [tmp_path / "a.wav"]
    with zipfile.ZipFile(path) as file:
        assert file.read("audio/preview.wav") == written[0].read_bytes()
        assert b"Generated" in file.read("project.xml")
    assert Piece.load(path).score == piece.score


@pytest.mark.data
def test_all_that_is_written_is_valid_against_the_schemas(shared_data):
    etree = pytest.importorskip("lxml.etree")
    folder = shared_data.parent / "tools" / "dawproject"
    made = [score(), Score(), *(read_midi(path)[0] for path in EXAMPLES)]
    for one in made:
        data = write_dawproject(one, generated=[(i, 0, 99) for i in range(len(one.tracks))])
        preview = write_dawproject(one, audio=wav())
        for member, schema in (("project.xml", "Project"), ("metadata.xml", "MetaData")):
            check = etree.XMLSchema(etree.parse(str(folder / f"{schema}.xsd")))
            for packed in (data, preview):
                with zipfile.ZipFile(io.BytesIO(packed)) as file:
                    check.assertValid(etree.fromstring(file.read(member)).getroottree())
