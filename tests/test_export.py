"""music/export.py: to and from the objects of other libraries, and notation."""

from __future__ import annotations

import warnings
import zipfile

import numpy as np
import pytest

from musegen.errors import MidiError, OutputError, UsageError
from musegen.music import export
from musegen.music.midi import write_midi
from musegen.music.normal import normal_form
from musegen.music.score import (
    BEND_DTYPE,
    CONTROL_DTYPE,
    Key,
    Meter,
    Score,
    Tempo,
    Text,
    Track,
    note_array,
)


def piece() -> Score:
    """Nothing in it that any of the libraries cannot hold."""
    melody = [(index * 480, 480, 60 + step, 70) for index, step in enumerate((0, 2, 4, 5, 7, 5))]
    score = Score(
        tracks=(
            Track(note_array(melody), name="Dvořák", program=73),
            Track(note_array([(0, 1440, 43, 64), (1440, 1440, 48, 64)]), name="Bass", program=32),
            Track(note_array([(0, 240, 36, 100), (480, 240, 38, 90)]), name="Drums", is_drum=True),
        ),
        tempos=(Tempo(0, 600_000),),
        meters=(Meter(0, 3, 4),),
        keys=(Key(0, -1, False),),
    )
    return normal_form(score)[0]


def with_events() -> Score:
    score = piece()
    first = score.tracks[0]
    more = Track(
        first.notes,
        program=first.program,
        name=first.name,
        controls=np.array([(0, 7, 99), (480, 64, 127), (960, 64, 0)], CONTROL_DTYPE),
        bends=np.array([(100, -8192), (200, 0)], BEND_DTYPE),
        lyrics=(Text(0, "la"),),
    )
    return score.replace(
        tracks=(more, *score.tracks[1:]), tempos=(Tempo(0, 600_000), Tempo(1440, 400_000))
    )


def test_symusic_and_back():
    score = with_events().replace(markers=(Text(1440, "B"),))
    assert export.from_symusic(export.to_symusic(score)) == score


def test_symusic_of_other_units_and_pedals():
    import symusic

    theirs = symusic.Score(480)
    track = symusic.Track("P", 0, False)
    track.notes.append(symusic.Note(0, 480, 60, 80))
    track.pedals.append(symusic.Pedal(0, 480))
    theirs.tracks.append(track)
    score = export.from_symusic(theirs.to("quarter"))
    assert score.tracks[0].notes.tolist() == [(0, 480, 60, 80)]
    assert export.from_symusic(theirs).tracks[0].controls.tolist() == [(0, 64, 127), (480, 64, 0)]


@pytest.mark.filterwarnings("ignore")
def test_pretty_midi_and_back():
    score = with_events()
    theirs = export.to_pretty_midi(score)
    assert [instrument.name for instrument in theirs.instruments] == ["Dvořák", "Bass", "Drums"]
    back = export.from_pretty_midi(theirs)
    for ours, track in zip(score.tracks, back.tracks, strict=True):
        assert np.array_equal(ours.notes, track.notes)
        assert (ours.program, ours.is_drum, ours.name) == (
            track.program,
            track.is_drum,
            track.name,
        )
    assert (back.tempos, back.meters, back.keys) == (score.tempos, score.meters, score.keys)


def test_mido_and_back():
    score = with_events().replace(title="Lied", comments=(Text(0, "x"),))
    assert export.from_mido(export.to_mido(score)) == score


def test_music21_and_back():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import music21  # noqa: F401
    score = piece().replace(title="Lied")
    stream = export.to_music21(score)
    assert len(stream.parts) == 3
    back = export.from_music21(stream)
    assert (back.ppq, back.title) == (480, "Lied")
    assert (back.tempos, back.meters, back.keys) == (score.tempos, score.meters, score.keys)
    for ours, track in zip(score.tracks[:2], back.tracks[:2], strict=True):
        assert ours.notes.tolist() == track.notes.tolist()


@pytest.mark.parametrize("suffix", [".musicxml", ".mxl"])
def test_musicxml_and_back(tmp_path, suffix):
    path = tmp_path / f"piece{suffix}"
    export.write_musicxml(piece().replace(title="Lied"), path)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    back = export.read_musicxml(path)
    assert back.title == "Lied"
    assert back.tracks[0].notes.tolist() == piece().tracks[0].notes.tolist()
    assert (back.meters, back.keys) == (piece().meters, piece().keys)
    write_midi(back)


def test_bad_notation(tmp_path):
    path = tmp_path / "bad.musicxml"
    for content in (b"", b"<score-partwise>", b"\x00\x01", b"PK\x03\x04"):
        path.write_bytes(content)
        with pytest.raises(MidiError) as caught:
            export.read_musicxml(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(MidiError, match="cannot be read"):
        export.read_musicxml(tmp_path / "none.musicxml")
    with pytest.raises(OutputError):
        export.write_musicxml(piece(), tmp_path / "none" / "x.musicxml")


def test_notation_that_unpacks_to_too_much(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "MAX_MUSICXML_BYTES", 100_000)
    path = tmp_path / "bomb.mxl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("score.xml", b" " * 200_000)
    with pytest.raises(MidiError, match="larger than"):
        export.read_musicxml(path)


def test_other_things_are_refused():
    for thing in (7, None, [1], {"a": 1}, object()):
        with pytest.raises(UsageError, match="cannot make music"):
            export.score_of(thing)
