"""music/piece.py: what users of the Python API hold."""

from __future__ import annotations

import dataclasses
from xml.etree import ElementTree

import pytest

from musegen.errors import MidiError, UsageError
from musegen.music.midi import write_midi
from musegen.music.normal import normal_form
from musegen.music.piece import Piece
from musegen.music.score import Score, Track, note_array


def score() -> Score:
    track = Track(note_array([(0, 480, 60, 80), (1920, 480, 62, 80)]), name="Lead")
    return normal_form(Score(tracks=(track,), title="Two bars"))[0]


def test_of_takes_what_people_have(tmp_path):
    path = tmp_path / "a.mid"
    data = write_midi(score(), path)
    piece = Piece.of(score())
    assert Piece.of(piece) is piece
    for thing in (path, str(path), data, bytearray(data)):
        assert Piece.of(thing).score == score()


@pytest.mark.filterwarnings("ignore")
def test_of_takes_objects_of_libraries():
    piece = Piece(score())
    for made in (piece.to_symusic(), piece.to_mido(), piece.to_pretty_midi(), piece.to_music21()):
        notes = [tuple(note)[:3] for note in Piece.of(made).score.tracks[0]]
        assert notes == [(0, 480, 60), (1920, 480, 62)]
    with pytest.raises(UsageError):
        Piece.of(3)


def test_it_is_immutable():
    piece = Piece(score(), notes=["x"], info={"seed": 7})
    assert piece.notes == ("x",)
    with pytest.raises(dataclasses.FrozenInstanceError):
        piece.score = Score()
    with pytest.raises(TypeError):
        piece.info["seed"] = 8


def test_save_and_load(tmp_path):
    piece = Piece(score())
    path = piece.save(tmp_path / "a.mid")
    again = Piece.load(path)
    assert again.score == piece.score and again.to_bytes() == path.read_bytes()
    assert again.info["format"] == 1 and again.notes == ()
    piece.save(tmp_path / "a.musicxml")
    assert Piece.load(tmp_path / "a.musicxml").bars == 2
    with pytest.raises(UsageError, match="format"):
        piece.save(tmp_path / "a.wav")
    with pytest.raises(MidiError):
        Piece.load(tmp_path / "none.mid")


def test_how_it_shows_itself():
    piece = Piece(score())
    assert piece.bars == 2
    assert repr(piece) == "Piece('Two bars', 2 bars, 1 tracks, 2 notes)"
    assert ElementTree.fromstring(piece._repr_html_()).tag.endswith("svg")
