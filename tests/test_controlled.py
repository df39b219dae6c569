"""Composing under controls, from end to end: the same bytes however it is run, and told as made."""

from __future__ import annotations

import json

import numpy as np
import pytest

import musegen
from musegen.cli import main
from musegen.errors import TokenError
from musegen.music.writer import write_midi
from musegen.sampling.stream import BarEvent, NoteEvent

from .test_api import seed_score, write_model

ASKED = {
    "fill": ["2-3@Fiddle", "3@Kit"],
    "density": ["3-5@Fiddle"],
    "register": "C5@Fiddle",
    "variation": 0.7,
    "guidance": 2.0,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("weights") / "untrained")


@pytest.fixture(scope="module")
def model(folder) -> musegen.Model:
    return musegen.Model.from_pretrained(folder, device="cpu")


def compose(model, **options):
    return musegen.compose(seed_score(), model=model, random_seed=3, **{**ASKED, **options})


def test_the_same_bytes_whatever_the_batch(model):
    together = [piece.to_bytes() for piece in compose(model, num=3)]
    assert together == [piece.to_bytes() for piece in compose(model, num=3, batch_size=1)]
    assert together == [
        compose(model, num=1, first_sample=number).to_bytes() for number in range(3)
    ]
    assert len(set(together)) == 3


def test_the_same_bytes_on_two_threads_and_with_someone_listening(model):
    import torch

    plain = compose(model).to_bytes()
    assert compose(model, on_event=lambda event: None, on_bar=lambda *bar: None).to_bytes() == plain
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert compose(model).to_bytes() == plain
    finally:
        torch.set_num_threads(before)


def test_the_same_bytes_without_what_the_cache_kept(model, monkeypatch):
    """Every row computed again from the start of its document, in a cache of its own."""
    from musegen.guide import Advance
    from musegen.sampling.engines import torch as engines

    plain = compose(model).to_bytes()

    class Forgetful(engines.TorchEngine):
        def open(self, slots):
            self.kept = {}
            super().open(slots)

        def extend(self, advances):
            whole = {}
            for slot, new in advances.items():
                old = [] if new.restart else self.kept[slot]
                self.kept[slot] = [*old, new]
                columns = (
                    np.concatenate([getattr(part, name) for part in self.kept[slot]])
                    for name in ("rows", "channels", "coordinates")
                )
                whole[slot] = Advance(*columns, True)
            super().extend(whole)

    monkeypatch.setattr(engines, "TorchEngine", Forgetful)
    assert compose(model).to_bytes() == plain


def test_guidance_without_anything_told_changes_nothing(model):
    options = {"density": None, "register": None, "variation": None}
    one = compose(model, **options, guidance=None)
    assert compose(model, **options, guidance=3.0).score.tracks == one.score.tracks


def test_every_written_note_is_told_with_its_time(model):
    events = []
    piece = compose(model, on_event=events.append)
    notes = [event for event in events if isinstance(event, NoteEvent)]
    bars = [event for event in events if isinstance(event, BarEvent)]
    assert len(notes) == piece.info["notes"] > 0
    assert {bar.bar for bar in bars} == {2, 3} and {note.name for note in notes} <= {
        "Fiddle",
        "Kit",
    }
    second = piece.score.bars()[1]
    assert bars[0].start_s == pytest.approx(second.start_tick / 480 * 0.6)
    for note in notes:
        (track,) = (track for track in piece.score.tracks if track.name == note.name)
        assert note.pitch in track.notes["pitch"]


def test_a_filled_bar_has_the_notes_that_were_asked_for(model):
    piece = compose(model)
    (line,) = (line for line in piece.info["controls"] if line["control"] == "density")
    assert line["holds"] is True and line["track"] == "Fiddle"
    fiddle = piece.score.tracks[0].notes["start_tick"]
    for bar in piece.score.bars()[1:3]:
        assert 3 <= ((fiddle >= bar.start_tick) & (fiddle < bar.end_tick)).sum() <= 5


def test_a_flat_preset_says_that_it_takes_no_regions(tmp_path):
    model = musegen.Model.from_pretrained(write_model(tmp_path / "remi", "remi"), device="cpu")
    with pytest.raises(TokenError, match="remi"):
        musegen.compose(seed_score(), fill="2@Fiddle", model=model)


def test_the_command_line_streams_json_lines(folder, tmp_path, capsys):
    seed = tmp_path / "seed.mid"
    seed.write_bytes(write_midi(seed_score()))
    command = ["compose", "--seed-midi", str(seed), "--model", str(folder)]
    command += ["--fill", "2-3@Fiddle", "--density", "3@Fiddle"]
    assert main.run([*command, "--random-seed", "3", "--out", "-", "--json", "-q"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["event"] for line in lines} == {"note", "bar", "end"}
    assert lines[-1]["event"] == "end" and lines[-1]["seed"] == 3
    told = [line for line in lines if line["event"] == "note"]
    assert len(told) == lines[-1]["notes"] == 6
    bars = [line for line in lines if line["event"] == "bar"]
    assert [bar["bar"] for bar in bars] == [2, 3]
