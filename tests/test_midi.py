"""MIDI files to scores and back: music/smf, parts, metas, midi, normal, writer."""

from __future__ import annotations

import io
import os
import struct
import time

import mido
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from musegen.errors import MidiError, OutputError
from musegen.music import smf
from musegen.music.check import check_midi
from musegen.music.midi import read_midi, write_midi
from musegen.music.normal import normal_form, without_overlaps
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


def chunk(name: bytes, body: bytes, length: int | None = None) -> bytes:
    return name + struct.pack(">I", len(body) if length is None else length) + body


def midi_file(*tracks: bytes, format: int = 1, division: int = 480, count: int | None = None):
    count = len(tracks) if count is None else count
    header = chunk(b"MThd", struct.pack(">HHH", format, count, division))
    return header + b"".join(chunk(b"MTrk", track) for track in tracks)


END = bytes.fromhex("00 ff 2f 00")
NOTE = bytes.fromhex("00 90 3c 50  83 60 80 3c 40")  # middle C for 480 ticks


def said(report) -> str:
    return "\n".join(report.notes)


# --- reading, by annotated bytes ------------------------------------------------------------------


def test_the_smallest_file_with_a_note():
    score, report = read_midi(midi_file(NOTE + END))
    assert score.ppq == 480
    assert score.tracks[0].notes.tolist() == [(0, 480, 60, 80)]
    assert score.tracks[0].name == "Acoustic Grand Piano"
    assert "plays the piano" in said(report)


def test_sources_a_path_bytes_or_a_file(tmp_path):
    data = midi_file(NOTE + END)
    path = tmp_path / "a.mid"
    path.write_bytes(data)
    scores = [read_midi(path)[0], read_midi(str(path))[0], read_midi(data)[0]]
    with path.open("rb") as file:
        scores.append(read_midi(file)[0])
    assert all(score == scores[0] for score in scores)
    assert read_midi(path)[1].name == str(path)


@pytest.mark.parametrize(
    "body, notes",
    [
        ("00 90 3c 50 83 60 3c 00", [(0, 480, 60, 80)]),  # running status, velocity 0 ends
        ("00 90 3c 50 00 ff 01 01 61 83 60 3c 00", [(0, 480, 60, 80)]),  # ... over a meta event
        ("00 90 3c 50 00 f0 02 7e f7 83 60 3c 00", [(0, 480, 60, 80)]),  # ... over a sysex
        ("00 90 3c 50 00 f4 83 60 80 3c 40", [(0, 480, 60, 80)]),  # an illegal message
        ("00 80 3c 40 00 90 3c 50 83 60 80 3c 40", [(0, 480, 60, 80)]),  # an orphan first
        ("00 90 3c d0 83 60 80 3c 40", [(0, 480, 60, 127)]),  # a velocity over 127
        ("00 90 3c 50 00 80 3c 40", []),  # no length
        ("00 99 24 50 00 89 24 40", [(0, 60, 36, 80)]),  # ... but a drum sounds
        # The oldest note ends first, and is cut where the next one of its pitch begins.
        ("00 90 3c 50 78 90 3c 40 78 80 3c 40 78 80 3c 40", [(0, 120, 60, 80), (120, 240, 60, 64)]),
        # At one tick a note begins before the last one ends: two notes all the same.
        ("00 90 3c 50 78 90 3c 40 00 80 3c 40 78 80 3c 40", [(0, 120, 60, 80), (120, 120, 60, 64)]),
        # Two notes together are one, as long and as loud as the greater.
        ("00 90 3c 50 00 90 3c 60 78 80 3c 40 78 80 3c 40", [(0, 240, 60, 96)]),
    ],
)
def test_notes_of_odd_bytes(body, notes):
    score, _ = read_midi(midi_file(bytes.fromhex(body) + END))
    assert [tuple(note) for track in score.tracks for note in track] == notes


def test_a_hanging_note_ends_with_the_track_or_after_a_bar():
    hanging = bytes.fromhex("00 90 3c 50")
    score, report = read_midi(midi_file(hanging + bytes.fromhex("83 60 ff 2f 00")))
    assert score.tracks[0].notes["duration_tick"].tolist() == [480]
    assert "hanging" in said(report)
    score, _ = read_midi(midi_file(hanging + bytes.fromhex("ff 7f ff 2f 00")))
    assert score.tracks[0].notes["duration_tick"].tolist() == [4 * 480]


def test_all_notes_off_ends_what_sounds():
    body = bytes.fromhex("00 90 3c 50 81 70 b0 7b 00 83 60 b0 07 40")
    assert read_midi(midi_file(body + END))[0].tracks[0].notes["duration_tick"].tolist() == [240]


def test_format_0_is_split_by_channel():
    body = b"\x00\xff\x03\x04Song" + NOTE + bytes.fromhex("00 99 24 50 60 89 24 40") + END
    score, report = read_midi(midi_file(body, format=0))
    assert score.title == "Song"
    assert [track.name for track in score.tracks] == ["Acoustic Grand Piano", "Drums"]
    assert [track.is_drum for track in score.tracks] == [False, True]
    assert "split" in said(report)


def test_format_2_follows_one_another():
    score, report = read_midi(midi_file(NOTE + END, NOTE + END, format=2))
    assert score.tracks[0].notes["start_tick"].tolist() == [0, 1920]
    assert "format 2" in said(report)


@pytest.mark.parametrize(
    "division, ppq, tempo_us",
    [
        (0xE728, 500, 500_000),  # 25 frames of 40 ticks: a tick is a millisecond
        (0xE201, 15, 500_000),  # 30 frames of 1 tick
        (0xE250, 1200, 500_000),
        (0xE301, 15, 500_500),  # 29.97 frames
        (0xE701, 25, 1_000_000),  # an odd number of ticks a second
    ],
)
def test_smpte_division_keeps_the_time(division, ppq, tempo_us):
    tempo = bytes.fromhex("00 ff 51 03 01 00 00")
    score, report = read_midi(midi_file(tempo + NOTE + END, division=division))
    assert (score.ppq, score.tempos) == (ppq, (Tempo(0, tempo_us),))
    assert "SMPTE" in said(report)


def test_a_wrapped_file_is_found():
    assert read_midi(b"RIFF____RMIDdata____" + midi_file(NOTE + END))[0].num_notes == 1


def test_a_long_header_is_skipped():
    header = chunk(b"MThd", struct.pack(">HHH", 1, 1, 480) + b"more")
    assert read_midi(header + chunk(b"MTrk", NOTE + END))[0].num_notes == 1


@pytest.mark.parametrize("length", [0, 1, 12, 14, 2**32 - 1])
def test_track_lengths_that_lie(length):
    lying = chunk(b"MTrk", NOTE + END, length)
    header = chunk(b"MThd", struct.pack(">HHH", 1, 2, 480))
    score, report = read_midi(header + lying + chunk(b"MTrk", NOTE + END))
    assert score.num_notes == 2 and "length" in said(report)


def test_a_cut_file_keeps_what_stands_before_the_cut():
    whole = midi_file(NOTE * 20 + END)
    counts = [read_midi(whole[:length])[0].num_notes for length in range(22, len(whole))]
    assert counts == sorted(counts) and counts[-1] == 20


def test_channel_setup_in_another_track():
    setup = b"\x00\xff\x03\x05Title" + bytes.fromhex("00 c3 20 00 b3 07 50") + END
    player = b"\x00\xff\x03\x04Bass" + bytes.fromhex("00 93 24 50 60 83 24 40") + END
    score, _ = read_midi(midi_file(setup, player))
    assert score.title == "Title"
    (bass,) = score.tracks
    assert (bass.name, bass.program) == ("Bass", 32)
    assert bass.controls.tolist() == [(0, 7, 80)]


def test_two_staves_of_one_channel_share_program_and_pedal():
    right = bytes.fromhex("00 c0 05 00 b0 40 7f 60 b0 40 00") + NOTE + END
    score, report = read_midi(midi_file(right, NOTE + END))
    assert [track.program for track in score.tracks] == [5, 5]
    assert score.tracks[0].controls.tolist() == score.tracks[1].controls.tolist()
    assert "shares its channel" in said(report)


def test_programs_banks_and_their_changes():
    body = bytes.fromhex(
        "00 b0 00 02 00 b0 20 03 00 c0 10"  # bank 2, 3; program 16
        "60 90 3c 50 60 80 3c 40"
        "00 b0 00 01 00 c0 11"  # another sound later on
    )
    (track,) = read_midi(midi_file(body + NOTE + END))[0].tracks
    assert (track.bank, track.program) == (2 * 128 + 3, 16)
    assert track.program_changes == (ProgramChange(192, 17),)
    assert track.controls.tolist() == [(192, 0, 1)]


def test_everything_that_a_track_may_hold():
    body = bytes.fromhex("00 e0 00 50 00 d0 33 00 a0 3c 22 00 b0 01 7f") + NOTE + END
    (track,) = read_midi(midi_file(body))[0].tracks
    assert track.bends.tolist() == [(0, (0x50 << 7) - 8192)]
    assert track.pressures.tolist() == [(0, CHANNEL_PRESSURE, 0x33), (0, 60, 0x22)]
    assert track.controls.tolist() == [(0, 1, 127)]


def test_texts_in_utf8_or_latin_1():
    def named(name: bytes) -> bytes:
        return b"\x00\xff\x03" + bytes([len(name)]) + name + NOTE + END

    names = ["Dvořák", "Für Elise", "山田"]
    data = midi_file(
        named("Dvořák".encode()), named("Für Elise".encode("latin-1")), named("山田".encode())
    )
    score, report = read_midi(data)
    assert [track.name for track in score.tracks] == names
    assert "Latin-1" in said(report)


def test_senseless_meters_keys_and_tempi_are_dropped():
    body = bytes.fromhex(
        "00 ff 51 03 00 00 00 00 ff 58 04 00 02 18 08 00 ff 58 04 04 ff 18 08 00 ff 59 02 09 00"
        "00 ff 59 02 00 07 00 ff 51 01 01 00 ff 58 00"
    )
    score, report = read_midi(midi_file(body + NOTE + END))
    assert (score.tempos, score.meters, score.keys) == ((Tempo(0, 500_000),), (Meter(0, 4, 4),), ())
    assert "makes no sense" in said(report)


def test_silent_bars_at_the_end_are_kept():
    tail = bytes.fromhex("b8 20 ff 2f 00")  # 7,200 ticks after the note: bar 4 ends
    assert len(read_midi(midi_file(NOTE + tail))[0].bars()) == 4
    assert len(read_midi(midi_file(NOTE + bytes.fromhex("b8 21 ff 2f 00")))[0].bars()) == 1


# --- what is refused, and in bounded time ---------------------------------------------------------


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"", "empty"),
        (b"MThd", "ends inside its header"),
        (b"hello world", "not a MIDI file"),
        (b"<?xml version='1.0'?><score-partwise/>", "MusicXML"),
        (b"PK\x03\x04", "MusicXML"),
        (midi_file(*[END] * 1025), "tracks"),
    ],
)
def test_refusals_are_one_line(data, reason):
    with pytest.raises(MidiError, match=reason) as caught:
        read_midi(data)
    assert "\n" not in str(caught.value)


def test_missing_files_and_folders(tmp_path):
    for path in (tmp_path / "none.mid", tmp_path, "nul\0.mid"):
        with pytest.raises(MidiError, match="cannot be read"):
            read_midi(path)
    with pytest.raises(MidiError, match="binary"):
        read_midi(io.StringIO("x"))


HOSTILE = {
    "tempi": midi_file(bytes.fromhex("01 ff 51 03 07 a1 20") * 1_000_000 + END),
    "deltas": midi_file(bytes.fromhex("ff ff ff 7f 90 3c 50") * 100_000 + END),
    "tracks": midi_file(*[NOTE + END] * 50_000),
    "events": midi_file(b"\x00\xd0\x00" + b"\x00\x00" * 3_000_000 + END),
    "zeros": midi_file(b"\x00" * 7_000_000),
    "large": b"MThd" + b"\x00" * (smf.MAX_FILE_BYTES + 1),
    "no status": midi_file(b"\x7f" * 5_000_000),
    "bars": midi_file(
        bytes.fromhex("00 ff 58 04 01 07 18 08 87 ff ff 7f") + NOTE + END, division=1
    ),
    "drums": midi_file(bytes.fromhex("00 99 24 50") * 900_000 + END),
    "shared": midi_file(*[bytes.fromhex("00 b0 07 40") * 900 + NOTE + END] * 1000),
    "texts": midi_file(b"\x00\xff\x01\x7f" + b"x" * 127 + END) + b"MTrk" * 1_000_000,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_files_cost_little(kind):
    began = time.perf_counter()
    try:
        score, _ = read_midi(HOSTILE[kind])
    except MidiError as error:
        assert "\n" not in str(error)
    else:
        assert len(score.bars()) <= 100_000
    assert time.perf_counter() - began < 8


def test_hostile_end_of_track_is_no_bar_grid():
    score, _ = read_midi(midi_file(NOTE + bytes.fromhex("ff ff ff 7f ff 2f 00")))
    assert len(score.bars()) == 1


# --- writing --------------------------------------------------------------------------------------


def band() -> Score:
    return Score(
        ppq=96,
        tracks=(
            Track(note_array([(0, 96, 60, 80), (96, 96, 64, 1)]), name="Дуда", bank=130, program=3),
            Track(note_array([(0, 10, 36, 127)]), is_drum=True, program=8),
            Track(
                note_array([(192, 96, 40, 64)]),
                program=33,
                program_changes=(ProgramChange(200, 34),),
                controls=np.array([(0, 7, 100), (200, 64, 127), (250, 64, 0)], CONTROL_DTYPE),
                bends=np.array([(210, -8192), (220, 8191)], BEND_DTYPE),
                pressures=np.array([(205, 40, 9), (206, CHANNEL_PRESSURE, 8)], PRESSURE_DTYPE),
                lyrics=(Text(192, "ö"),),
            ),
            Track(note_array(), program=40, name="Rests"),
            Track(lyrics=(Text(5, "words"),), name="Words"),
        ),
        tempos=(Tempo(0, 625_000), Tempo(100, 333_333)),
        meters=(Meter(0, 3, 4), Meter(288, 6, 8)),
        keys=(Key(0, -3, True), Key(288, 7, False)),
        markers=(Text(0, "A"), Text(288, "Generated")),
        title="Tänze",
        comments=(Text(0, "made by hand"),),
        copyright="© nobody",
    )


def test_everything_comes_back_tick_for_tick():
    normal, repairs = normal_form(band())
    assert [track.name for track in normal.tracks][1:3] == [
        "Drums (Room)",
        "Electric Bass (finger)",
    ]
    assert repairs == ("a track without a name was named after its instrument (2 times)",)
    data = write_midi(band())
    score, report = read_midi(data)
    assert score == normal
    assert report.notes == ()
    assert write_midi(score) == data
    assert check_midi(data) == []


def test_what_the_file_looks_like():
    file = mido.MidiFile(file=io.BytesIO(write_midi(band())), charset="utf-8")
    assert (file.type, file.ticks_per_beat, len(file.tracks)) == (1, 96, 6)
    conductor = [message.type for message in file.tracks[0]]
    assert conductor[:5] == [
        "track_name",
        "copyright",
        "time_signature",
        "key_signature",
        "set_tempo",
    ]
    assert [sum(message.time for message in track) for track in file.tracks] == [288] * 6
    channels = [
        {message.channel for message in track if not message.is_meta} for track in file.tracks[1:]
    ]
    assert channels == [{0}, {9}, {1}, {2}, set()]


def test_same_score_same_bytes_and_path(tmp_path):
    path = tmp_path / "a.mid"
    assert write_midi(band(), path) == write_midi(band()) == path.read_bytes()
    assert os.listdir(tmp_path) == ["a.mid"]


def test_paths_that_cannot_be_written(tmp_path):
    for path in (tmp_path, tmp_path / "none" / "a.mid"):
        with pytest.raises(OutputError):
            write_midi(band(), path)
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    import musegen.atomic as atomic

    def full(path, mode):
        return open("/dev/full", "wb")

    monkeypatch.setattr(atomic, "open", full, raising=False)
    with pytest.raises(OutputError, match="No space"):
        write_midi(band(), tmp_path / "a.mid")
    assert os.listdir(tmp_path) == []


def test_more_instruments_than_channels():
    tracks = tuple(Track(note_array([(0, 9, 60, 9)]), program=n) for n in range(33))
    with pytest.raises(MidiError, match=r"33 melodic instruments, but 15.*ports=True"):
        write_midi(Score(tracks=tracks))
    data = write_midi(Score(tracks=tracks), ports=True)
    assert check_midi(data) == []
    assert read_midi(data)[0] == normal_form(Score(tracks=tracks))[0]
    many = tuple(Track(note_array([(0, 9, 60, 9)])) for _ in range(300))
    with pytest.raises(MidiError, match="drop or merge"):
        write_midi(Score(tracks=many), ports=True)


def test_drum_tracks_share_channel_10_but_not_two_kits():
    hits = note_array([(0, 60, 36, 80)])
    one = Track(hits, is_drum=True, name="Kick")
    two = Track(note_array([(30, 60, 36, 90), (30, 60, 38, 90)]), is_drum=True, name="Snare")
    data = write_midi(Score(tracks=(one, two)))
    assert check_midi(data) == []
    back = read_midi(data)[0]
    assert [track.name for track in back.tracks] == ["Kick", "Snare"]
    assert back.tracks[0].notes["duration_tick"].tolist() == [30]
    with pytest.raises(MidiError, match="drum kits"):
        write_midi(Score(tracks=(one, Track(hits, is_drum=True, program=16))))


@pytest.mark.parametrize(
    "score",
    [
        Score(ppq=0),
        Score(ppq=40_000),
        Score(meters=(Meter(0, 3, 5),)),
        Score(meters=(Meter(0, 300, 4),)),
        Score(tempos=(Tempo(0, 0),)),
        Score(keys=(Key(0, 8, False),)),
        Score(tracks=(Track(note_array([(-1, 5, 60, 60)])),)),
        Score(tracks=(Track(note_array([(2**28, 5, 60, 60)])),)),
        Score(tracks=(Track(note_array([(2**31 - 1, 2**31 - 1, 60, 60)])),)),
        Score(tracks=(Track(note_array([(0, 5, 128, 60)])),)),
        Score(tracks=(Track(program=128),)),
        Score(tracks=(Track(bank=2**14),)),
        Score(markers=(Text(-5, "x"),)),
        Score(markers=(Text(2**28, "x"),)),
        Score(ppq=1, tracks=(Track(note_array([(2**27, 5, 60, 60)])),)),
    ],
)
def test_scores_that_no_file_can_hold(score):
    with pytest.raises(MidiError):
        write_midi(score)


def test_overlaps_by_rule():
    notes = note_array([(0, 100, 60, 5), (0, 50, 60, 9), (40, 10, 60, 7), (0, 100, 61, 1)])
    settled, repaired = without_overlaps(notes)
    assert sorted(settled.tolist()) == [(0, 40, 60, 9), (0, 100, 61, 1), (40, 10, 60, 7)]
    assert repaired == 2


def test_names_are_made_unique_once():
    tracks = tuple(Track(note_array([(0, 1, 60, 1)]), name=name) for name in ("A", "A", "A 2", ""))
    names = [track.name for track in normal_form(Score(tracks=tracks))[0].tracks]
    assert names == ["A", "A 3", "A 2", "Acoustic Grand Piano"]


def test_silence_that_a_whole_bar_makes_too_long_is_cut_once():
    """7,997 ticks become 8,000 with the last bar: more than 4,000 quarters behind the content."""
    control = np.array([(3997, 0, 0)], CONTROL_DTYPE)
    for length in range(7990, 8004):
        score = Score(ppq=1, tracks=(Track(controls=control),), length_tick=length)
        normal, findings = normal_form(score)
        assert normal_form(normal) == (normal, ())
        assert (normal.length_tick == 0) == any("silence" in one for one in findings)


# --- properties -----------------------------------------------------------------------------------

ticks = st.integers(0, 4000)
bytes7 = st.integers(0, 127)
texts = st.text(max_size=8)


def columns(dtype, *fields):
    return st.lists(st.tuples(*fields), max_size=6).map(lambda rows: np.array(rows, dtype))


tracks_ = st.builds(
    Track,
    notes=st.lists(
        st.tuples(ticks, st.integers(-1, 900), st.integers(58, 62), st.integers(0, 140)),
        max_size=12,
    ).map(note_array),
    program=st.integers(0, 127),
    is_drum=st.booleans(),
    name=texts,
    bank=st.integers(0, 2**14 - 1),
    controls=columns(CONTROL_DTYPE, ticks, st.sampled_from([0, 7, 32, 64, 123]), bytes7),
    bends=columns(BEND_DTYPE, ticks, st.integers(-9000, 9000)),
    program_changes=st.lists(st.builds(ProgramChange, ticks, bytes7), max_size=3).map(tuple),
    lyrics=st.lists(st.builds(Text, ticks, texts), max_size=3).map(tuple),
    pressures=columns(PRESSURE_DTYPE, ticks, st.one_of(bytes7, st.just(CHANNEL_PRESSURE)), bytes7),
)
scores = st.builds(
    Score,
    ppq=st.sampled_from([1, 24, 96, 101, 480, 32767]),
    tracks=st.lists(tracks_, max_size=5).map(tuple),
    tempos=st.lists(st.builds(Tempo, ticks, st.integers(1, 2**24 - 1)), max_size=3).map(tuple),
    meters=st.lists(
        st.builds(Meter, ticks, st.integers(1, 9), st.sampled_from([1, 2, 4, 8, 32])), max_size=3
    ).map(tuple),
    keys=st.lists(st.builds(Key, ticks, st.integers(-7, 7), st.booleans()), max_size=3).map(tuple),
    markers=st.lists(st.builds(Text, ticks, texts), max_size=3).map(tuple),
    title=texts,
    comments=st.lists(st.builds(Text, ticks, texts), max_size=2).map(tuple),
    copyright=texts,
    length_tick=st.integers(0, 8000),
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(scores)
def test_read_of_write_is_the_normal_form(score):
    normal, _ = normal_form(score)
    assert normal_form(normal) == (normal, ())
    data = write_midi(score, ports=True)
    back, _ = read_midi(data)
    assert back == normal
    assert write_midi(back, ports=True) == data
    sensible = score.ppq >= 24
    assert [defect for defect in check_midi(data) if sensible] == []


messages = st.one_of(
    st.tuples(st.just("note"), st.sampled_from([0, 1, 9]), st.integers(60, 62), bytes7),
    st.tuples(st.just("off"), st.sampled_from([0, 1, 9]), st.integers(60, 62), bytes7),
    st.tuples(
        st.just("control"), st.sampled_from([0, 1, 9]), st.sampled_from([0, 32, 64, 7]), bytes7
    ),
    st.tuples(st.just("program"), st.sampled_from([0, 1, 9]), bytes7, bytes7),
    st.tuples(st.just("name"), st.just(0), st.integers(0, 2), bytes7),
    st.tuples(st.just("lyric"), st.just(0), st.integers(0, 2), bytes7),
    st.tuples(st.just("port"), st.just(0), st.integers(0, 1), bytes7),
)


def event_bytes(message) -> bytes:
    kind, channel, first, second = message
    statuses = {"note": 0x90, "off": 0x80, "control": 0xB0}
    if kind in statuses:
        return bytes([statuses[kind] | channel, first, second])
    if kind == "program":
        return bytes([0xC0 | channel, first])
    meta = {"name": 3, "lyric": 5, "port": 0x21}[kind]
    return bytes([0xFF, meta, 1, first if kind == "port" else 65 + first])


@settings(max_examples=250, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.lists(st.tuples(st.integers(0, 100), messages), max_size=14), max_size=4),
    st.sampled_from([0, 1, 2]),
)
def test_what_was_read_comes_back(tracks, format):
    bodies = [
        b"".join(bytes([delta]) + event_bytes(message) for delta, message in track) + END
        for track in tracks
    ]
    score, _ = read_midi(midi_file(*bodies, format=format, division=96))
    data = write_midi(score, ports=True)
    assert read_midi(data)[0] == score
    assert check_midi(data) == []


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=120), st.integers(0, 2), st.integers(0, 0xFFFF))
def test_any_bytes_are_read_or_refused(body, format, division):
    data = midi_file(body, body[::-1], format=format, division=division)
    for candidate in (data, body, data[:-7]):
        try:
            score, _ = read_midi(candidate)
            written = write_midi(score, ports=True)
        except MidiError:
            continue
        assert read_midi(written)[0] == score


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_damaged_files_are_read_or_refused(data):
    good = bytearray(write_midi(band()))
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        score, _ = read_midi(bytes(good))
        written = write_midi(score, ports=True)
    except MidiError:
        return
    assert read_midi(written)[0] == score
