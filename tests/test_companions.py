"""cli/companions.py, and the formats that only `midi convert` and `midi stems` write."""

from __future__ import annotations

from pathlib import Path

import pytest

from musegen.atomic import write_all
from musegen.cli.companions import Companions
from musegen.cli.main import run
from musegen.errors import OutputError, UsageError
from musegen.music import audio
from musegen.music.piece import Piece

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
WALTZ = EXAMPLES / "morning_waltz.mid"


@pytest.fixture(autouse=True)
def _sine_waves(monkeypatch):
    monkeypatch.delenv(audio.SOUND_FONT_VARIABLE, raising=False)
    monkeypatch.setattr(audio, "PROGRAM", "no-such-fluidsynth")


def test_all_companions_stand_beside_the_piece(tmp_path, capsys):
    piece = Piece.load(WALTZ)
    song = piece.save(tmp_path / "song.mid")
    before = song.read_bytes()
    wanted = Companions(stems=True, preview="wav", roll="svg", score=True)
    written = wanted.write(piece, song, stretches=[(0, 0, 960)])
    names = [path.relative_to(tmp_path).as_posix() for path in written]
    assert names == [
        "song-stems/01-right-hand.mid",
        "song-stems/02-left-hand.mid",
        "song.wav",
        "song.svg",
        "song.musicxml",
    ]
    assert song.read_bytes() == before
    assert (tmp_path / "song.wav").read_bytes()[:4] == b"RIFF"
    assert "<svg" in (tmp_path / "song.svg").read_text(encoding="utf-8")
    assert Piece.load(tmp_path / "song.musicxml").score.num_notes > 0
    out, err = capsys.readouterr()
    assert out == "" and "sine waves" in err and "apt install fluidsynth" in err
    assert wanted.write(piece, song, quiet=True) == written, "written over"
    assert capsys.readouterr().err == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("song-stems", "song.mid", "song.musicxml", "song.svg", "song.wav")
    ]


def test_nothing_asked_is_nothing_written():
    assert not Companions()
    assert Companions().write(Piece.load(WALTZ), None) == []


def test_what_makes_no_sense(tmp_path):
    with pytest.raises(UsageError, match="--preview mp3: give wav"):
        Companions(preview="mp3")
    with pytest.raises(UsageError, match="--roll jpg: give svg or png"):
        Companions(roll="jpg")
    with pytest.raises(UsageError, match="--stems writes files beside the piece"):
        Companions(stems=True).write(Piece.load(WALTZ), None)
    with pytest.raises(UsageError, match="notation already"):
        Companions(score=True).check(tmp_path / "song.musicxml")
    Companions(score=True).check(tmp_path / "song.mxl")


def test_one_that_fails_leaves_nothing(tmp_path):
    (tmp_path / "song.svg").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        Companions(stems=True, roll="svg").write(Piece.load(WALTZ), tmp_path / "song.mid")
    assert [path.name for path in tmp_path.iterdir()] == ["song.svg"]


def test_files_are_written_together_or_not_at_all(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    files = {tmp_path / "a" / "b" / "new": b"1", tmp_path / "file" / "under": b"2"}
    with pytest.raises(OutputError, match="under: cannot be written"):
        write_all(files, folders=True)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    write_all({tmp_path / "a" / "b" / "new": b"1", tmp_path / "file": b"2"}, folders=True)
    assert (tmp_path / "a" / "b" / "new").read_bytes() == b"1"
    assert (tmp_path / "file").read_bytes() == b"2"


@pytest.mark.parametrize(
    "suffix, head", [(".wav", b"RIFF"), (".SVG", b"<svg"), (".png", b"\x89PNG")]
)
def test_convert_to_what_cannot_be_read_back(tmp_path, suffix, head):
    if suffix == ".png":
        pytest.importorskip("resvg_py")
    target = tmp_path / f"out{suffix}"
    assert run(["midi", "convert", str(WALTZ), str(target)]) == 0
    assert target.read_bytes().startswith(head)


def test_midi_stems(tmp_path, capsys):
    folder = tmp_path / "new" / "folder"
    assert run(["midi", "stems", str(EXAMPLES / "night_bus.mid"), "--out", str(folder)]) == 0
    out, err = capsys.readouterr()
    assert [Path(line).name for line in out.splitlines()] == [
        *("01-lead.mid", "02-keys.mid", "03-bass.mid", "04-drums.mid")
    ]
    assert sorted(folder.iterdir()) == [Path(line) for line in out.splitlines()]
    assert "4 stems of 8 bars" in err


def test_what_lacks_is_said_before_anything_is_composed(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="resvg-py"):
        Companions(roll="png").check(tmp_path / "a.mid")
    Companions(roll="svg").check(tmp_path / "a.mid")
