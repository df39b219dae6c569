"""stems.py: a score a track, all of one length, with names fit for files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from musegen.music.check import check_midi
from musegen.music.midi import read_midi
from musegen.music.piece import Piece
from musegen.music.score import NOTE_DTYPE, Score, Text, Track
from musegen.music.stems import MAX_NAME, stems
from musegen.music.writer import write_midi

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
NOTE = np.array([(0, 480, 60, 90)], NOTE_DTYPE)


def test_stems_together_are_the_score():
    score = Piece.load(EXAMPLES / "night_bus.mid").score
    made = stems(score)
    assert [name for name, _ in made] == ["01-lead", "02-keys", "03-bass", "04-drums"]
    for (_, stem), track in zip(made, score.tracks, strict=True):
        data = write_midi(stem)
        assert check_midi(data) == []
        back, _ = read_midi(data)
        assert np.array_equal(back.tracks[0].notes, track.notes)
        assert back.tracks[0].is_drum == track.is_drum
        assert (back.tempos, back.meters, back.keys) == (score.tempos, score.meters, score.keys)
        assert len(back.bars()) == len(score.bars()), "all of them end at one barline"


def test_a_track_that_ends_early_is_as_long_as_the_others():
    late = np.array([(480 * 15, 480, 60, 90)], NOTE_DTYPE)
    score = Score(tracks=(Track(notes=NOTE, name="a"), Track(notes=late, name="b")))
    assert [len(stem.bars()) for _, stem in stems(score)] == [4, 4]


def test_tracks_of_words_only_are_left_out_and_keep_their_number():
    words = Track(name="Words", lyrics=(Text(0, "la"),))
    score = Score(tracks=(words, Track(notes=NOTE, name="Tune")))
    assert [name for name, _ in stems(score)] == ["02-tune"]
    assert stems(Score()) == []


@given(st.lists(st.text(max_size=60), min_size=1, max_size=12))
def test_names_are_fit_for_any_file_system(names):
    tracks = tuple(Track(notes=NOTE, name=name) for name in names)
    made = [name for name, _ in stems(Score(tracks=tracks))]
    assert len({name.casefold() for name in made}) == len(names)
    for name in made:
        number, _, rest = name.partition("-")
        assert number.isdigit() and 0 < len(rest) <= MAX_NAME
        assert set(rest) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
        assert not rest.endswith("-")


def test_names_come_from_the_instrument_where_the_name_has_no_letters():
    tracks = (
        Track(notes=NOTE, name="ピアノ", program=0),
        Track(notes=NOTE, name="Flöte & Œuvre", program=73),
        Track(notes=NOTE, name="../../etc/passwd", program=73),
    )
    names = [name for name, _ in stems(Score(tracks=tracks))]
    assert names[0].startswith("01-") and "piano" in names[0]
    assert names[1:] == ["02-flote-oeuvre", "03-etc-passwd"]
