from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from musegen.cli.main import run
from musegen.music.midi import write_midi
from musegen.music.score import Score, Track, note_array


@pytest.fixture
def music(tmp_path: Path) -> Path:
    folder = tmp_path / "music"
    folder.mkdir()
    for seed in range(5):
        pitches = np.random.default_rng(seed).integers(50, 80, 40)
        notes = note_array((i * 240, 240, int(p), 80) for i, p in enumerate(pitches))
        write_midi(Score(tracks=(Track(notes=notes),)), folder / f"{seed}.mid")
    (folder / "bad.mid").write_bytes(b"no music")
    return folder


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "list"]) == 0
    out = capsys.readouterr().out
    assert "groove" in out and "CC-BY-4.0" in out
    assert run(["data", "list", "--json"]) == 0
    cards = json.loads(capsys.readouterr().out)
    assert {card["name"] for card in cards} >= {"clean", "music21", "pdmx"}


def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "info", "music21"]) == 0
    out = capsys.readouterr().out
    assert "not for commercial use" in out and "may_ship: no" in out
    assert run(["data", "info", "clean", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["members"]) == 10
    assert run(["data", "info", "grove"]) == 1
    err = capsys.readouterr().err
    assert "groove" in err and err.count("\n") == 1


def test_build(music: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "shards"
    assert run(["data", "build", str(music), "--out", str(out), "--workers", "1"]) == 0
    said = capsys.readouterr()
    assert "music" in said.out and "skipped music/bad" in said.err
    assert run(["data", "build", str(music), "--out", str(out), "--json", "--quiet"]) == 0
    said = capsys.readouterr()
    report = json.loads(said.out)
    assert report["pieces"] == 5 and report["folder"] == str(out) and not said.err
    assert run(["data", "info", str(out)]) == 0
    assert "train: pieces: " in capsys.readouterr().out


def test_index(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    music, shards, model = tmp_path / "music", tmp_path / "shards", tmp_path / "model"
    music.mkdir()
    model.mkdir()
    for seed in range(30):
        pitches = np.random.default_rng(seed).integers(50, 80, 40)
        notes = note_array((i * 240, 240, int(p), 80) for i, p in enumerate(pitches))
        write_midi(Score(tracks=(Track(notes=notes),)), music / f"{seed}.mid")
    assert run(["data", "build", str(music), "--out", str(shards), "--workers", "1"]) == 0
    capsys.readouterr()
    command = ["data", "index", str(shards), "--model", str(model)]
    assert run([*command, "--json", "--quiet"]) == 0
    said = capsys.readouterr()
    facts = json.loads(said.out)
    assert not said.err and facts["file"] == str(model / "originality.safetensors")
    assert 20 < facts["pieces"] < 30 and facts["usual"][0]["notes"] == 32
    assert run(command) == 0
    assert "held-out excerpts" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["build", "MUSIC"], 2, "--out"),
        (["build", "MUSIC", "--out", "OUT", "--workers", "0"], 2, "workers"),
        (["build", "MUSIC", "--out", "OUT", "--max-files", "-3"], 2, "max-files"),
        (["build", "MUSIC", "--out", "OUT", "--preset", "event"], 1, "events"),
        (["build", "MUSIC", "--out", "MUSIC"], 1, "something else"),
        (["build", "OUT/nothing", "--out", "OUT"], 1, "no folder"),
        (["build", "freedoom", "--out", "OUT", "--source", "OUT"], 1, "musegen data info freedoom"),
        (["info", "MUSIC"], 1, "no shards"),
        (["index", "MUSIC", "--model", "MUSIC"], 1, "no shards"),
        (["index", "MUSIC", "--model", "OUT/nothing"], 1, "no such folder"),
        (["index", "MUSIC"], 2, "--model"),
        (["burn"], 2, "burn"),
    ],
)
def test_errors_are_one_line(
    music: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    code: int,
    said: str,
) -> None:
    out = tmp_path / "out"
    words = [w.replace("MUSIC", str(music)).replace("OUT", str(out)) for w in words]
    assert run(["data", *words]) == code
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1, err
    assert not out.exists()


@pytest.mark.parametrize("command", ["info", "train"])
@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda path: path.write_bytes(bytes(len(path.read_bytes()))), "checksum"),
        (lambda path: path.write_bytes(path.read_bytes()[:-8]), "bytes, not"),
        (lambda path: path.unlink(), "is missing"),
    ],
)
def test_harmed_shards_are_one_line(
    music: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, harm, said: str
) -> None:
    shards = tmp_path / "shards"
    assert run(["data", "build", str(music), "--out", str(shards), "--workers", "1"]) == 0
    harm(shards / "train-00000.bin")
    capsys.readouterr()
    words = {
        "info": ["data", "info", str(shards)],
        "train": [
            "train",
            "--data",
            str(shards),
            "--out",
            str(tmp_path / "model"),
            "--max-steps",
            "1",
        ],
    }
    assert run(words[command]) == 1
    err = capsys.readouterr().err
    assert said in err and "build the shards again" in err and err.count("\n") == 1, err
    assert not (tmp_path / "model").exists()


def test_a_full_disk_is_one_line(
    music: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("musegen.data.room.free_disk", lambda _: 0)
    assert run(["data", "build", str(music), "--out", str(tmp_path / "shards"), "-q"]) == 1
    err = capsys.readouterr().err
    assert "free some space or choose another --out" in err and err.count("\n") == 1, err


def test_the_overview_reads_no_card(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "--help"]) == 0
    assert "build" in capsys.readouterr().out


@pytest.mark.slow
def test_the_music21_card_builds_offline(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "shards"
    words = ["data", "build", "music21", "--out", str(out), "--max-files", "12", "--workers", "1"]
    assert run([*words, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["pieces"] >= 9 and not report["may_ship"]
    assert "music21" in sys.modules
