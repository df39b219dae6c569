"""`musegen play`, on ports that only keep what they are sent."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from pathlib import Path

import mido
import pytest

import musegen
from musegen.cli import main
from musegen.music.midi import read_midi
from musegen.music.score import Meter, Score, Tempo, Track, note_array
from musegen.music.writer import write_midi
from musegen.sampling.stream import BarEvent, NoteEvent

from .virtual_midi import backend

SHORT_S = 0.08
"""A bar of the files here."""


@pytest.fixture
def opened(monkeypatch):
    ports: list = []
    monkeypatch.delenv("MIDO_DEFAULT_OUTPUT", raising=False)
    monkeypatch.setattr(mido, "backend", backend(["Synth A", "Synth B"], ports))
    return ports


def score(bars: int = 3) -> Score:
    notes = note_array(
        (1920 * bar + 480 * i, 240, 60 + bar, 90) for bar in range(bars) for i in (0, 2)
    )
    return Score(
        ppq=480,
        tracks=(Track(name="Piano", notes=notes),),
        meters=(Meter(0, 4, 4),),
        tempos=(Tempo(0, int(SHORT_S / 4 * 1e6)),),
    )


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "song.mid"
    path.write_bytes(write_midi(score()))
    return path


def pitches(port) -> list[int]:
    return [message.note for _, message in port.of_type("note_on")]


def test_a_file_is_played(opened, file, capsys):
    assert main.run(["play", str(file), "--port", "b"]) == 0
    (port,) = opened
    assert port.name == "Synth B" and port.closed
    assert pitches(port) == [60, 60, 61, 61, 62, 62] and not port.sounding()
    told = capsys.readouterr()
    assert told.out == "" and "6 notes played" in told.err


def test_from_a_bar_on(opened, file, capsys):
    assert main.run(["play", str(file), "--from-bar", "3", "--clock", "--json", "-q"]) == 0
    (port,) = opened
    assert pitches(port) == [62, 62]
    assert [message.pos for _, message in port.of_type("songpos")] == [32]
    told = capsys.readouterr()
    assert json.loads(told.out) == {
        "port": "Synth A",
        "file": str(file),
        "notes": 2,
        "interrupted": False,
    }
    assert told.err == ""


def test_a_loop_ends_with_ctrl_c(opened, file, capsys):
    timer = threading.Timer(0.8, lambda: signal.raise_signal(signal.SIGINT))
    timer.start()
    assert main.run(["play", str(file), "--loop"]) == 130
    timer.join()
    assert len(pitches(opened[0])) > 6 and not opened[0].sounding()


def test_the_ports_are_listed(opened, capsys):
    assert main.run(["play", "--list"]) == 0
    assert capsys.readouterr().out == "Synth A\nSynth B\n"
    assert main.run(["play", "--list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"ports": ["Synth A", "Synth B"]}


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "give a FILE to play, or what to compose"),
        (["--loop"], 2, "--loop needs a FILE"),
        (["--from-bar", "2"], 2, "--from-bar needs a FILE"),
        (["FILE", "--bars", "4"], 2, "--bars is for composing: leave out FILE"),
        (["FILE", "--out", "x.mid"], 2, "--out is for composing"),
        (["--bars", "4", "--with-seed"], 2, "--with-seed needs --seed-midi"),
        (["--bars", "4", "--out", "-"], 2, "--out takes a file or a folder here"),
        (["--bars", "4", "--out", "x.wav"], 2, ".wav is no format of ours"),
        (["FILE", "--from-bar", "9"], 2, "has 3 bars"),
        (["FILE", "--port", "zz"], 1, "no MIDI port is named 'zz'"),
        (["gone.mid"], 1, "gone.mid"),
    ],
)
def test_what_makes_no_sense_is_one_line(opened, file, capsys, arguments, code, said):
    arguments = [str(file) if word == "FILE" else word for word in arguments]
    assert main.run(["play", *arguments]) == code
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("musegen: error: ") and said in last


class Writer:
    """In place of `musegen.api`: tells of bars one after another, as `compose` does."""

    def __init__(self, bars: int, pause_s: float = 0.0, fails: bool = False) -> None:
        self.bars, self.pause_s, self.fails = bars, pause_s, fails
        self.asked: dict = {}
        self.finished = 0

    def compose(self, seed, *, on_event, on_progress, **asked):
        from musegen.music.piece import Piece

        self.asked = {"seed": seed, **asked}
        before = seed.bars if seed is not None else 0
        interrupted = False
        for bar in range(before, before + self.bars):
            start_s = bar * SHORT_S
            on_event(NoteEvent(0, bar + 1, 0, "Piano", 0, False, start_s, 0.02, 0, 1, 70, 80))
            on_event(NoteEvent(0, bar + 1, 1, "Bass", 33, False, start_s, 0.02, 0, 1, 40, 80))
            on_event(BarEvent(0, bar + 1, start_s, start_s + SHORT_S, SHORT_S / 4, 2))
            self.finished += 1
            time.sleep(self.pause_s)
            try:
                on_progress(self.finished, self.bars, "")
            except KeyboardInterrupt:
                interrupted = True
                break
        if self.fails:
            raise musegen.errors.GenerationError("bar 3: no note may come next")
        info = {"bars": self.finished, "seed": 7, "warnings": [], "interrupted": interrupted}
        return Piece(score(self.finished), info=info)


@pytest.fixture
def writer(monkeypatch):
    def install(*arguments, **more) -> Writer:
        made = Writer(*arguments, **more)
        monkeypatch.setitem(sys.modules, "musegen.api", made)
        monkeypatch.setattr(musegen, "api", made, raising=False)
        return made

    return install


def test_bars_are_played_as_they_come(opened, writer, tmp_path, capsys):
    made = writer(4)
    target = tmp_path / "new.mid"
    command = ["play", "--bars", "4", "--instruments", "piano,bass", "--out", str(target), "--json"]
    assert main.run(command) == 0
    (port,) = opened
    assert pitches(port) == [70, 40] * 4 and not port.sounding()
    assert made.asked == {"seed": None, "bars": 4, "instruments": ["piano", "bass"]}
    programs = {message.channel: message.program for _, message in port.of_type("program_change")}
    assert programs == {0: 0, 1: 33}
    told = json.loads(capsys.readouterr().out)
    assert (told["bars"], told["seed"], told["path"]) == (4, 7, str(target))
    assert read_midi(target.read_bytes())[0].num_notes == 8


def test_the_seed_is_played_first_and_its_channel_goes_on(opened, writer, file):
    made = writer(2)
    command = ["play", "--seed-midi", str(file), "--seed-bars", "2", "--bars", "2", "--with-seed"]
    assert main.run([*command, "-q"]) == 0
    (port,) = opened
    assert pitches(port) == [60, 60, 61, 61, 70, 40, 70, 40]
    channels = {message.note: message.channel for _, message in port.of_type("note_on")}
    assert channels[70] == channels[60] != channels[40]
    at = {}
    for when, message in port.of_type("note_on"):
        at.setdefault(message.note, when)
    # New bars begin where the two bars of the seed end, whatever the piece's own clock says.
    assert at[70] - at[60] == pytest.approx(2 * SHORT_S, abs=0.04)
    assert made.asked["seed_bars"] == 2


def test_ctrl_c_keeps_the_bars_that_are_finished(opened, writer, tmp_path, capsys):
    made = writer(1000, pause_s=0.02)
    target = tmp_path / "new.mid"
    timer = threading.Timer(0.5, lambda: signal.raise_signal(signal.SIGINT))
    timer.start()
    assert main.run(["play", "--bars", "1000", "--out", str(target)]) == 130
    timer.join()
    assert 0 < made.finished < 1000
    assert read_midi(target.read_bytes())[0].num_notes == 2 * made.finished
    assert not opened[0].sounding()


def test_an_error_while_composing_is_one_line_and_ends_all_notes(opened, writer, capsys):
    writer(2, fails=True)
    assert main.run(["play", "--bars", "4"]) == 1
    assert "error: bar 3: no note may come next" in capsys.readouterr().err
    assert not opened[0].sounding()


def test_the_default_model_plays(opened, tmp_path):
    target = tmp_path / "new.mid"
    command = ["play", "--bars", "1", "--instruments", "piano", "--tempo", "200"]
    assert main.run([*command, "--random-seed", "1", "--out", str(target), "-q"]) == 0
    (port,) = opened
    (track,) = read_midi(target.read_bytes())[0].tracks
    assert sorted(pitches(port)) == sorted(track.notes["pitch"].tolist()) and pitches(port)
