"""cli/midi.py: info, check and convert."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from musegen.cli.main import run
from musegen.music.check import check_midi

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
WALTZ = EXAMPLES / "morning_waltz.mid"


def test_info_for_people(capsys):
    assert run(["midi", "info", str(WALTZ)]) == 0
    out, err = capsys.readouterr()
    assert "Morning waltz" in out and "D major" in out and "Left hand" in out
    assert err == ""


def test_info_for_programs(capsys):
    assert run(["midi", "info", str(EXAMPLES / "night_bus.mid"), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["bars"] == 8 and facts["meters"] == [[0, "4/4"]]
    assert facts["keys"] == [[0, "A minor"]] and facts["estimated_key"] == "A minor"
    assert [track["drums"] for track in facts["tracks"]] == [False, False, False, True]


def test_check_of_good_and_bad(tmp_path, capsys):
    assert run(["midi", "check", str(WALTZ)]) == 0
    bad = tmp_path / "bad.mid"
    bad.write_bytes(b"nothing")
    assert run(["midi", "check", str(WALTZ), str(bad), str(tmp_path / "none.mid")]) == 1
    out, err = capsys.readouterr()
    assert "unreadable" in out and "none.mid" in out and "3 files checked, 2 with" in err
    assert run(["midi", "check", "--json", str(bad)]) == 1
    assert json.loads(capsys.readouterr().out)[str(bad)][0]["code"] == "unreadable"


def test_convert_there_and_back(tmp_path, capsys):
    notation, back = tmp_path / "a.musicxml", tmp_path / "b.mid"
    assert run(["midi", "convert", str(WALTZ), str(notation)]) == 0
    assert run(["midi", "convert", str(notation), str(back)]) == 0
    assert check_midi(back) == []
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "arguments, code",
    [
        (["info", "none.mid"], 1),
        (["convert", "none.mid", "x.mid"], 1),
        (["convert", str(WALTZ), "x.mp3"], 2),
        (["convert", str(WALTZ), "no/such/folder.mid"], 1),
        (["info"], 2),
        (["frobnicate"], 2),
    ],
)
def test_errors_are_one_line(arguments, code, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(["midi", *arguments]) == code
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and "Traceback" not in err
    assert list(tmp_path.iterdir()) == []
