"""The events presets: rows of four fields, what they keep of a score, and training windows."""

from __future__ import annotations

import numpy as np
import pytest

from musegen.errors import TokenError
from musegen.music.score import Key, Meter, Score, Tempo, Track, note_array
from musegen.tokens.controls import GIVEN, TO_WRITE, estimate_key
from musegen.tokens.events import EventTokenizer
from musegen.tokens.grid import Grid
from musegen.tokens.tokenizer import PieceInfo, load_tokenizer, tokenizer_from_dict
from musegen.tokens.vocabulary import (
    BAR,
    DRUM_PITCH,
    DRUM_PROGRAM,
    END,
    FIRST_POSITION,
    START,
    TEMPO,
    TRACK,
    EventVocabulary,
)


def band(bars: int = 6, seed: int = 0) -> Score:
    """Piano, bass and drums on the grid of 16ths, one rest bar in the bass."""
    rng = np.random.default_rng(seed)
    piano = [
        (1920 * bar + 480 * beat, 360, int(rng.integers(60, 84)), 64)
        for bar in range(bars)
        for beat in range(4)
    ]
    bass = [(1920 * bar, 960, 36 + bar, 90) for bar in range(bars) if bar != 2]
    drums = [(480 * beat, 120, 36 if beat % 2 else 38, 100) for beat in range(4 * bars)]
    return Score(
        tracks=(
            Track(note_array(drums), is_drum=True, name="Kit"),
            Track(note_array(piano), program=0),
            Track(note_array(bass), program=33),
        ),
        tempos=(Tempo(0, 500_000), Tempo(1920 * 3, 400_000)),
        meters=(Meter(0, 4, 4),),
        keys=(Key(0, 0, False),),
    )


@pytest.fixture(params=["events", "performance"])
def tokenizer(request) -> EventTokenizer:
    return load_tokenizer(request.param)


def notes_of(score: Score) -> list[tuple]:
    """Notes of every track, in quarter notes, whatever the order of tracks."""
    return sorted(
        (
            track.is_drum,
            track.program,
            round(note.start_tick / score.ppq, 6),
            round(note.duration_tick / score.ppq, 6),
            note.pitch,
        )
        for track in score.tracks
        for note in track
    )


def test_a_score_on_the_grid_comes_back(tokenizer):
    score = band()
    encoding = tokenizer.encode(score)
    assert encoding.rows.dtype == np.uint16
    back = tokenizer.decode(encoding.rows)
    assert notes_of(back) == notes_of(score)
    assert back.meters == score.meters
    assert [tempo.tick // back.ppq for tempo in back.tempos] == [0, 12]
    assert encoding.loss.notes_in == encoding.loss.notes_out == score.num_notes
    assert encoding.loss.onset_error_max_q == 0


def test_rows_stand_in_the_documented_order():
    tokenizer = load_tokenizer("events")
    rows = tokenizer.encode(band(bars=2)).rows
    vocabulary = tokenizer.vocabulary
    assert rows[0, 0] == START
    assert rows[-1, 0] == END
    assert rows[1:3, 0].tolist() == [BAR, TEMPO]
    tracks = rows[rows[:, 0] == TRACK]
    programs = (tracks[:, 1].astype(int) - vocabulary.first_program).tolist()
    assert programs == [0, 33, 128] * 2  # by program, drums last
    assert tokenizer.num_notes(rows) == band(bars=2).num_notes


def test_every_bar_names_every_track():
    tokenizer = load_tokenizer("events")
    rows = tokenizer.encode(band()).rows
    grid = Grid.from_rows(rows, tokenizer.vocabulary)
    assert grid.counts[2].tolist() == [4, 0, 4]  # the bass rests
    assert np.array_equal(grid.rows(tokenizer.vocabulary), rows)


def test_what_is_lost_is_told():
    tokenizer = load_tokenizer("events")
    notes = note_array([(7, 100, 60, 64), (0, 480, 60, 70), (1000, 3, 64, 64), (1440, 480, 67, 64)])
    score = Score(
        tracks=(Track(notes),), tempos=(Tempo(0, 500_000), Tempo(700, 450_000)), meters=()
    )
    loss = tokenizer.encode(score).loss
    assert loss.notes_merged == 1
    assert loss.tempo_changes_moved == 1
    assert 0 < loss.onset_error_mean_q <= loss.onset_error_max_q <= 0.5 / 12 + 1e-9
    assert any("merged" in line for line in loss.lines())


def test_a_foreign_meter_is_mapped_and_told():
    score = Score(tracks=(Track(note_array([(0, 480, 60, 64)])),), meters=(Meter(0, 13, 32),))
    loss = load_tokenizer("events").encode(score).loss
    assert any("13/32" in message for message in loss.messages)


def test_a_bar_that_is_cut_short_keeps_its_length(tokenizer):
    whole = band(3)
    cut = whole.replace(meters=(Meter(0, 4, 4), Meter(1920 + 480, 3, 4)))
    back = tokenizer.decode(tokenizer.encode(cut).rows)
    assert notes_of(back) == notes_of(tokenizer.decode(tokenizer.encode(whole).rows))
    assert [tuple(meter)[1:] for meter in back.meters] == [(4, 4), (1, 4), (3, 4)]


def test_a_score_without_notes_is_refused(tokenizer):
    with pytest.raises(TokenError, match="no notes"):
        tokenizer.encode(Score(tracks=(Track(),)))


@pytest.mark.parametrize(
    "rows",
    [
        np.zeros((0, 4), int),
        np.array([[START, 0, 0, 0]]),
        np.array([[FIRST_POSITION, 60, 5, 5]]),
        np.array([[9999, 0, 0, 0]]),
        np.zeros((3, 2), int),
    ],
)
def test_rows_that_are_no_piece_are_refused(rows):
    with pytest.raises(TokenError):
        load_tokenizer("events").decode(rows)


def test_transposition_leaves_drums_and_respects_ranges():
    tokenizer = load_tokenizer("events")
    rows = tokenizer.encode(band()).rows
    up = tokenizer.transpose(rows, 3)
    is_note = tokenizer.note_rows(rows)
    drum = rows[:, 1] >= DRUM_PITCH
    change = up[:, 1].astype(int) - rows[:, 1].astype(int)
    assert set(change[is_note & ~drum].tolist()) == {3}
    assert set(change[~is_note | drum].tolist()) == {0}
    assert tokenizer.transpose(rows, 60) is None


def test_other_instruments_play_the_same_notes():
    tokenizer = load_tokenizer("events")
    score = band()
    rows = tokenizer.encode(score).rows
    programs = tokenizer.programs_of(rows)
    assert programs[-1] == DRUM_PROGRAM and len(programs) > 1
    old = programs[0]
    last = 80  # a lead, which has no range and comes after all the others
    other = tokenizer.change_programs(rows, {old: last})
    assert tokenizer.programs_of(other) == tuple(sorted({*programs} - {old} | {last}))
    before, after = tokenizer.decode(rows), tokenizer.decode(other)
    moved = {track.program: track for track in after.tracks if not track.is_drum}
    for track in before.tracks:
        if not track.is_drum:
            there = moved[last if track.program == old else track.program]
            np.testing.assert_array_equal(there.notes, track.notes)
    assert np.array_equal(tokenizer.change_programs(rows, {}), rows)
    piccolo = tokenizer.change_programs(rows, {33: 72})
    assert np.array_equal(piccolo, rows)  # it cannot play as low


def test_a_part_song_moves_to_one_sound():
    tokenizer = load_tokenizer("events")
    voice = note_array([(0, 480, 60, 80), (480, 480, 62, 80)])
    song = Score(tracks=tuple(Track(voice, program=0) for _ in range(4)))
    rows = tokenizer.change_programs(tokenizer.encode(song).rows, {0: 52})
    assert tokenizer.programs_of(rows) == (52,) * 4
    assert np.array_equal(tokenizer.encode(tokenizer.decode(rows)).rows, rows)


def test_loudness_moves_every_note_and_nothing_else():
    tokenizer = load_tokenizer("events")
    rows = tokenizer.encode(band()).rows
    louder = tokenizer.shift_velocities(rows, 8)
    is_note = tokenizer.note_rows(rows)
    assert np.array_equal(louder[:, [0, 1, 3]], rows[:, [0, 1, 3]])
    assert np.array_equal(louder[~is_note], rows[~is_note])
    assert set((louder[is_note, 2].astype(int) - rows[is_note, 2]).tolist()) == {2}
    loudest = tokenizer.shift_velocities(rows, 200)
    assert set(loudest[is_note, 2].tolist()) == {tokenizer.vocabulary.velocities}
    assert tokenizer.shift_velocities(rows, -200)[is_note, 2].min() == 1


def test_drum_jitter_touches_a_share_of_the_drums_alone():
    tokenizer = load_tokenizer("events")
    rows = tokenizer.encode(band()).rows
    drum = rows[:, 1] >= DRUM_PITCH
    same = tokenizer.jitter_drums(rows, 0.0, np.random.default_rng(0))
    assert np.array_equal(same, rows)
    other = tokenizer.jitter_drums(rows, 1.0, np.random.default_rng(0))
    change = other[:, 2].astype(int) - rows[:, 2]
    assert set(change[drum & tokenizer.note_rows(rows)].tolist()) <= {-1, 0, 1}
    assert np.any(change[drum]) and not np.any(change[~drum])
    assert np.array_equal(other[:, [0, 1, 3]], rows[:, [0, 1, 3]])


def test_tempo_is_stretched_by_class():
    tokenizer = load_tokenizer("events")
    rows = tokenizer.encode(band()).rows
    slower = tokenizer.stretch_tempo(rows, 0.5)
    at = rows[:, 0] == TEMPO
    assert np.all(slower[at, 1] < rows[at, 1])
    assert np.array_equal(slower[~at], rows[~at])


def test_training_windows_fit_and_stay_within_the_ids(tokenizer):
    rows = tokenizer.encode(band(bars=40)).rows
    rng = np.random.default_rng(0)
    flags = set()
    for _ in range(60):
        sample = tokenizer.sample(rows, 128, rng, PieceInfo("rock"))
        assert 1 <= len(sample.rows) <= 128
        assert np.all(sample.rows < np.array(tokenizer.field_sizes))
        assert np.all(sample.channels >= 0)
        assert np.all(sample.channels < [channel.size for channel in tokenizer.channels])
        assert sample.channels.shape == (len(sample.rows), len(tokenizer.channels))
        assert np.array_equal(sample.coordinates[:, 0], np.arange(len(sample.rows)))
        flags |= set(sample.channels[:, 0].tolist())
    assert flags == {0, TO_WRITE, GIVEN}


def test_the_same_generator_gives_the_same_window(tokenizer):
    rows = tokenizer.encode(band(bars=40)).rows
    one, two = (
        tokenizer.sample(rows, 100, np.random.default_rng(5), PieceInfo()) for _ in range(2)
    )
    assert np.array_equal(one.rows, two.rows)
    assert np.array_equal(one.channels, two.channels)


@pytest.mark.parametrize("length", [8, 32, 128])
def test_validation_windows_predict_each_note_once(tokenizer, length):
    rows = tokenizer.encode(band(bars=30)).rows
    windows = tokenizer.windows(rows, length, PieceInfo())
    assert len(windows) > 1
    targets = [window.rows[1:] for window in windows]
    assert sum(map(tokenizer.num_notes, targets)) == tokenizer.num_notes(rows)
    assert all(len(window.rows) <= length for window in windows)


def test_a_preset_survives_json(tokenizer):
    again = tokenizer_from_dict(tokenizer.to_dict())
    assert again.vocabulary == tokenizer.vocabulary
    assert again.field_sizes == tokenizer.field_sizes


@pytest.mark.parametrize(
    "broken",
    [
        {"kind": "nothing"},
        {"kind": "events", "format": 99},
        {"kind": "events", "format": 1, "vocabulary": {"grip": 12}},
        {"kind": "events", "format": 1, "vocabulary": {"grid": 7}},
        {"kind": "events", "format": 1, "vocabulary": {"grid": 12.0}},
        {"kind": "events", "format": 1, "vocabulary": {"fine_q": 10**12}},
        {"kind": "events", "format": 1, "vocabulary": {"tempos": 10**12}},
        {"kind": "events", "format": 1, "vocabulary": {"fastest_bpm": float("inf")}},
        {"kind": "events", "format": 1, "vocabulary": []},
    ],
)
def test_a_broken_preset_is_refused(broken):
    with pytest.raises(TokenError, match=r"^here\.json: "):
        tokenizer_from_dict(broken, "here.json")


@pytest.mark.parametrize(("tonic", "minor"), [(0, False), (2, False), (9, True), (5, True)])
def test_the_key_of_a_scale_is_found(tonic, minor):
    vocabulary = EventVocabulary()
    scale = [0, 2, 3, 5, 7, 8, 11] if minor else [0, 2, 4, 5, 7, 9, 11]
    degrees = [0, 1, 2, 3, 4, 5, 6, 0, 4, 2, 0, 0]
    notes = np.array(
        [[FIRST_POSITION, 1 + 60 + (tonic + scale[degree]), 10, 12] for degree in degrees]
    )
    assert estimate_key(notes, vocabulary) == 1 + tonic + 12 * minor
