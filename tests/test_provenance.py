"""What a file says of itself, and that it can be made again, byte for byte."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import musegen
from musegen import provenance
from musegen.cli import main
from musegen.errors import MidiError
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
        "--first-sample 2"
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
    from dataclasses import replace

    tracks = (replace(piece.score.tracks[0], notes=notes), *piece.score.tracks[1:])
    musegen.Piece(piece.score.replace(tracks=tracks)).save(made)
    assert main.run(["midi", "why", str(made), "--rerun"]) == 1
    assert "other bytes" in capsys.readouterr().out
    (made.parent / other.seed).write_bytes(b"MThd")
    assert main.run(["midi", "why", str(made), "--rerun"]) == 1
    assert "has changed" in capsys.readouterr().err
