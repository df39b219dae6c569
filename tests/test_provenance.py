"""What a file says of itself, and that it can be made again, byte for byte."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

import musegen
from musegen import provenance
from musegen.cli import main
from musegen.cli.companions import Companions
from musegen.errors import MidiError
from musegen.music import audio
from musegen.music.dawproject import AUDIO_MEMBER, write_dawproject
from musegen.music.dawproject_archive import pack
from musegen.music.score import Score, Text
from musegen.music.writer import write_midi
from musegen.provenance import PREFIX, Provenance
from musegen.tokens.wishes import Controls

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
ORIGIN = Provenance(
    version="0.1.0", model="default", weights="ab" * 32, random_seed=7, sample=2,
    options={"fill": ["5-6@Bass", "1"], "strict_scale": True, "instruments": ["piano", "bass"],
             "temperature": 0.9}, seed="a song.mid", seed_sha256="cd" * 32,
)  # fmt: skip


def test_a_text_says_it_all_and_comes_back():
    score = ORIGIN.told(Score(comments=(Text(0, "musegen {}"), Text(9, "mine"))))
    assert Provenance.of(score) == ORIGIN
    assert "\n" not in ORIGIN.text() and ORIGIN.text().isascii()


def test_the_command_that_makes_it_again():
    assert ORIGIN.command() == (
        "musegen compose --seed-midi 'a song.mid' --fill 5-6@Bass --fill 1 --strict-scale "
        "--instruments piano,bass --temperature 0.9 --model default --random-seed 7 "
        "--engine torch --precision fp64 --first-sample 2"
    )


BAD = [
    "nothing",
    "{",
    "[1]",
    '{"version": 3}',
    '{"version": "1", "model": "m", "weights": "w", "random_seed": 1, "else": 2}',
    '{"version": "1", "model": "../m", "weights": "w", "random_seed": 1}',
    '{"version": "1", "model": "m", "weights": "w", "random_seed": 1, "options": {"model": "x"}}',
    "[" * 100_000,
    '{"version": "1", "model": "m", "weights": "w", "random_seed": -1}',
    '{"version": "1", "model": "m", "weights": "w", "random_seed": 1, "sample": -1}',
    '{"version": "1", "model": "m", "weights": "w", "random_seed": 1, "stopped_after": 0}',
    '{"version": "1", "model": "m", "weights": "w", "random_seed": 1, "stopped_after": "3"}',
]


@pytest.mark.parametrize("text", BAD, ids=range(len(BAD)))
def test_a_damaged_text_is_one_error(text):
    with pytest.raises(MidiError, match="damaged"):
        Provenance.of(Score(comments=(Text(0, PREFIX + text),)))


WRONG = [
    '"bars": "8"',
    '"bars": true',
    '"key": 5',
    '"top_k": "a"',
    '"top_k": 2.5',
    '"temperature": null',
    '"temperature": NaN',
    '"temperature": 1e999',
    '"guidance": 1' + "0" * 400,
    '"tempo": [96]',
    '"fill": "9-12"',
    '"fill": [9]',
    '"instruments": {"piano": 1}',
    '"strict_scale": 1',
    '"of_later": null',
    '"of_later": [["a"]]',
]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda text: text[:24])
def test_an_option_of_a_wrong_type_is_one_line(wrong, tmp_path, capsys):
    text = '{"version": "1", "model": "m", "weights": "w", "random_seed": 1, "options": {%s}}'
    path = tmp_path / "a.mid"
    write_midi(Score(comments=(Text(0, PREFIX + text % wrong),)), path)
    assert main.run(["midi", "why", str(path), "--rerun"]) == 1
    err = capsys.readouterr().err
    assert "damaged" in err and err.count("\n") == 1 and len(err) < 300


def test_every_option_has_its_type():
    import inspect
    from dataclasses import fields

    names = set(inspect.signature(musegen.compose).parameters) - {"controls"}
    names |= {item.name for item in fields(Controls)}
    assert names - provenance._NOT_OPTIONS == set(provenance._OPTION_KINDS)


def test_a_file_of_others_says_nothing(capsys):
    assert main.run(["midi", "why", str(EXAMPLES / "night_bus.mid")]) == 1
    assert "does not say how it was made" in capsys.readouterr().err


@pytest.fixture
def made(tmp_path) -> Path:
    seed = tmp_path / "night_bus.mid"
    seed.write_bytes((EXAMPLES / "night_bus.mid").read_bytes())
    pieces = musegen.compose(
        seed, fill="3-4@bass", density="3-5", variation=0.5, num=2, random_seed=5, batch_size=2
    )
    pieces[1].save(tmp_path / "made.mid")
    return tmp_path / "made.mid"


def test_why_makes_the_same_bytes_in_a_new_process(made):
    command = [sys.executable, "-m", "musegen", "midi", "why", str(made), "--rerun", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=made.parent)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["same"] and facts["sample"] == 1
    assert facts["options"] == {"fill": ["3-4@bass"], "density": ["3-5"], "variation": 0.5}


def test_why_tells_of_a_changed_file_and_a_changed_seed(made, capsys):
    other = Provenance.of(musegen.Piece.load(made).score)
    piece = musegen.Piece.load(made)
    notes = piece.score.tracks[0].notes.copy()
    notes["velocity"][0] ^= 1
    tracks = (replace(piece.score.tracks[0], notes=notes), *piece.score.tracks[1:])
    musegen.Piece(piece.score.replace(tracks=tracks)).save(made)
    assert main.run(["midi", "why", str(made), "--rerun"]) == 1
    assert "other bytes" in capsys.readouterr().out
    (made.parent / other.seed).write_bytes(b"MThd")
    assert main.run(["midi", "why", str(made), "--rerun"]) == 1
    assert "has changed" in capsys.readouterr().err


def rerun(path: Path, capsys) -> tuple[int, dict, str]:
    """Exit code, JSON and the line of the verdict."""
    code = main.run(["midi", "why", str(path), "--rerun", "--json"])
    facts = json.loads(capsys.readouterr().out)
    assert main.run(["midi", "why", str(path), "--rerun"]) == code
    return code, facts, capsys.readouterr().out.splitlines()[-1]


def test_why_compares_a_session_as_a_session(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(audio, "PROGRAM", "no-such-fluidsynth")
    path = tmp_path / "a.dawproject"
    piece = musegen.compose(EXAMPLES / "night_bus.mid", fill="3@bass", random_seed=5)
    (tmp_path / "night_bus.mid").write_bytes((EXAMPLES / "night_bus.mid").read_bytes())
    piece.save(path)
    code, facts, verdict = rerun(path, capsys)
    assert code == 0 and facts["same"] and verdict.endswith("the same bytes")

    Companions(preview="wav").write(piece, path, stretches=piece.info["stretches"], quiet=True)
    code, facts, verdict = rerun(path, capsys)
    assert code == 0 and facts["not_compared"]
    assert verdict.endswith("the same bytes; the sound of the preview is not compared")

    for generated, sound in (([], None), (piece.info["stretches"], b"no sound")):
        data = write_dawproject(piece.score, generated=generated)
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            members = [(name, file.read(name)) for name in file.namelist()]
        path.write_bytes(pack([*members, *([(AUDIO_MEMBER, sound)] if sound else [])]))
        code, facts, verdict = rerun(path, capsys)
        assert code == 1 and not facts["same"] and verdict.endswith("other bytes")


@pytest.fixture
def ended(tmp_path) -> Path:
    """A piece that Ctrl-C ended, and beside it one that was whole by then."""

    def ctrl_c(done: float, total: float | None, text: str) -> None:
        if done >= 3 + 2:
            raise KeyboardInterrupt

    pieces = musegen.compose(bars=3, num=2, random_seed=4, on_progress=ctrl_c, batch_size=1)
    for name, piece in zip(("whole", "ended"), pieces, strict=True):
        piece.save(tmp_path / f"{name}.mid")
    return tmp_path / "ended.mid"


def test_why_stops_where_ctrl_c_did(ended, capsys):
    code, facts, verdict = rerun(ended, capsys)
    assert code == 0 and facts["stopped_after"] == 2 and verdict.endswith("the same bytes")
    assert main.run(["midi", "why", str(ended)]) == 0
    assert "stopped after 2 bars" in capsys.readouterr().out
    whole = ended.with_name("whole.mid")
    assert Provenance.of(musegen.Piece.load(whole).score).stopped_after is None
    assert b"stopped_after" not in whole.read_bytes()
    assert rerun(whole, capsys)[0] == 0


def test_ctrl_c_while_it_is_made_again_gives_no_verdict(ended, monkeypatch, capsys):
    def ctrl_c(done: float, total: float | None, text: str) -> None:
        if done >= 1:
            raise KeyboardInterrupt

    @contextmanager
    def progress(title: str):
        yield ctrl_c

    monkeypatch.setattr("musegen.cli.midi.progress", progress)
    for path in (ended, ended.with_name("whole.mid")):
        assert main.run(["midi", "why", str(path), "--rerun"]) == 130
        told = capsys.readouterr()
        assert "interrupted" in told.err and "again" not in told.out


def test_why_tells_of_another_version(tmp_path, capsys):
    piece = musegen.compose(bars=1, random_seed=4)
    origin = replace(Provenance.of(piece.score), version="9.9")
    score = piece.score.replace(comments=(Text(0, origin.text()),))
    musegen.Piece(score).save(tmp_path / "a.mid")
    code, facts, verdict = rerun(tmp_path / "a.mid", capsys)
    assert code == 1 and (facts["version"], facts["this_version"]) == ("9.9", musegen.__version__)
    assert verdict.endswith(f"other bytes (made by 9.9, this is {musegen.__version__})")
