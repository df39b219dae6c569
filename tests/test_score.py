"""Scores, and pure functions on them: music/score.py, bars.py, transform.py, analysis.py, names.py,
instruments.py, roll.py."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest

from musegen.errors import MidiError, UsageError
from musegen.music.analysis import estimate_key, notes_per_bar, pitch_class_histogram, polyphony
from musegen.music.bars import barline_after, meters_on_barlines, require_bars
from musegen.music.instruments import PROGRAM_NAMES, parse_instrument, program_name
from musegen.music.names import key_name, parse_key, parse_meter
from musegen.music.ranges import instrument_range
from musegen.music.roll import svg_roll
from musegen.music.score import (
    BEND_DTYPE,
    CONTROL_DTYPE,
    Key,
    Meter,
    Note,
    ProgramChange,
    Score,
    Tempo,
    Text,
    Track,
    note_array,
)
from musegen.music.transform import (
    concatenate,
    drop_tracks,
    merge,
    slice_bars,
    transpose,
    with_ppq,
)


def scale(start: int = 0, key: int = 60, count: int = 8, step: int = 480) -> np.ndarray:
    steps = (0, 2, 4, 5, 7, 9, 11, 12)
    return note_array(
        (start + index * step, step, key + steps[index % 8], 80) for index in range(count)
    )


def test_notes_are_kept_in_order_and_cannot_be_changed():
    track = Track(note_array([(480, 10, 60, 1), (0, 10, 62, 2), (0, 10, 50, 3)]))
    assert [note.pitch for note in track] == [50, 62, 60]
    assert next(iter(track)) == Note(0, 10, 50, 3)
    with pytest.raises(ValueError):
        track.notes["pitch"][0] = 1


def test_defaults_of_the_standard_are_filled_in():
    score = Score(tempos=(Tempo(480, 400_000),), meters=())
    assert score.tempos == (Tempo(0, 500_000), Tempo(480, 400_000))
    assert score.meters == (Meter(0, 4, 4),)
    assert Score(tempos=(Tempo(0, 1), Tempo(0, 2))).tempos == (Tempo(0, 2),)


def test_equality_looks_at_every_field():
    track = Track(scale())
    assert track == Track(scale())
    assert track != Track(scale(), controls=np.array([(0, 7, 100)], CONTROL_DTYPE))
    assert Score(tracks=(track,)) != Score(tracks=(track,), markers=(Text(0, "A"),))


def test_seconds_follow_the_tempo_map():
    score = Score(tempos=(Tempo(0, 500_000), Tempo(960, 1_000_000)))
    assert score.seconds_at(480) == pytest.approx(0.5)
    assert score.seconds_at(960 + 480) == pytest.approx(2.0)


@pytest.mark.parametrize("tick", [0, 1, 1919, 1920, 1921, 4000, 5000, 5760, 9999])
def test_barline_by_arithmetic_is_the_one_of_the_list(tick):
    score = Score(ppq=480, meters=(Meter(0, 4, 4), Meter(4000, 3, 4), Meter(7000, 7, 32)))
    bars = score.bars(tick)
    assert barline_after(score, tick) == (bars[-1].end_tick if bars else 0)


def test_bars_count_silence_that_is_meant():
    score = Score(tracks=(Track(scale()),), length_tick=4 * 1920)
    assert len(score.bars()) == 4


def test_a_meter_inside_a_bar_writes_the_short_bar_out():
    score = Score(meters=(Meter(0, 4, 4), Meter(1920 + 480, 3, 4)))
    meters, added, moved = meters_on_barlines(score)
    assert meters == (Meter(0, 4, 4), Meter(1920, 1, 4), Meter(2400, 3, 4))
    assert (added, moved) == (1, 0)
    ticks = [bar.start_tick for bar in score.bars(5000)]
    assert ticks == [bar.start_tick for bar in score.replace(meters=meters).bars(5000)]


def test_a_meter_a_tick_late_is_moved():
    score = Score(meters=(Meter(0, 4, 4), Meter(1, 3, 2)))
    assert meters_on_barlines(score) == ((Meter(0, 3, 2),), 0, 1)


def test_millions_of_bars_are_refused():
    with pytest.raises(MidiError, match="bars"):
        require_bars(Score(ppq=1, meters=(Meter(0, 1, 128),)), 2**28)


# --- transform ------------------------------------------------------------------------------------


def test_slice_keeps_what_holds_at_its_start():
    controls = np.array([(0, 7, 90), (100, 7, 70), (2000, 10, 64)], CONTROL_DTYPE)
    bends = np.array([(0, 5), (10, 6)], BEND_DTYPE)
    track = Track(
        scale(count=16),
        controls=controls,
        bends=bends,
        program_changes=(ProgramChange(960, 5), ProgramChange(2000, 6)),
        lyrics=(Text(1920, "la"),),
    )
    score = Score(
        tracks=(track,),
        tempos=(Tempo(0, 400_000), Tempo(1000, 300_000)),
        keys=(Key(0, 2, False),),
        markers=(Text(0, "A"), Text(2400, "B")),
    )
    second = slice_bars(score, 1, 2)
    assert second.num_notes == 4 and second.end_tick == 1920 and len(second.bars()) == 1
    assert second.tempos == (Tempo(0, 300_000),)
    assert second.keys == (Key(0, 2, False),)
    assert second.markers == (Text(480, "B"),)
    made = second.tracks[0]
    assert made.program == 5 and made.program_changes == (ProgramChange(80, 6),)
    assert made.controls.tolist() == [(0, 7, 70), (80, 10, 64)]
    assert made.bends.tolist() == [(0, 6)]
    assert made.lyrics == (Text(0, "la"),)
    with pytest.raises(UsageError, match="has 4"):
        slice_bars(score, 3, 5)


def test_slice_of_silence_keeps_its_length():
    score = Score(tracks=(Track(scale(start=1920)),))
    assert len(slice_bars(score, 0, 1).bars()) == 1


def test_slices_put_together_are_the_whole():
    score = Score(tracks=(Track(scale(count=16), name="Flute"),), keys=(Key(0, 1, False),))
    parts = [slice_bars(score, 0, 1), slice_bars(score, 1, 4)]
    joined = concatenate(parts)
    assert joined.tracks == score.tracks
    assert [bar.start_tick for bar in joined.bars()] == [bar.start_tick for bar in score.bars()]


def test_transpose_moves_all_but_drums():
    score = Score(
        tracks=(Track(scale()), Track(note_array([(0, 1, 36, 1)]), is_drum=True)),
        keys=(Key(0, 0, False), Key(960, -3, True)),
    )
    up = transpose(score, 2)
    assert up.tracks[0].notes["pitch"][0] == 62 and up.tracks[1] == score.tracks[1]
    assert up.keys == (Key(0, 2, False), Key(960, -1, True))
    assert transpose(transpose(score, 5), -5) == score
    with pytest.raises(UsageError, match="leaves the pitches"):
        transpose(score, 60)


def test_resampling_rounds_and_keeps_notes():
    score = Score(ppq=480, tracks=(Track(note_array([(0, 1, 60, 80), (241, 239, 62, 80)])),))
    small = with_ppq(score, 24)
    assert small.tracks[0].notes.tolist() == [(0, 1, 60, 80), (12, 12, 62, 80)]
    assert with_ppq(with_ppq(score, 960), 480) == score


def test_merge_and_drop():
    one, two = Score(tracks=(Track(scale(), name="a"),)), Score(ppq=96, tracks=(Track(name="b"),))
    both = merge(one, two)
    assert [track.name for track in both.tracks] == ["a", "b"] and both.ppq == 480
    assert drop_tracks(both, [0]).tracks == (both.tracks[1],)


# --- analysis -------------------------------------------------------------------------------------


@pytest.mark.parametrize("tonic, fifths", [(60, 0), (62, 2), (67, 1), (65, -1), (61, -5)])
def test_a_scale_is_in_its_key(tonic, fifths):
    notes = np.concatenate([scale(key=tonic), note_array([(3840, 1920, tonic, 80)])])
    estimate = estimate_key(Score(tracks=(Track(notes),)))
    assert estimate is not None and estimate.key == Key(0, fifths, False)
    assert estimate.margin > 0


def test_analysis_of_nothing():
    empty = Score()
    assert estimate_key(empty) is None and polyphony(empty) == (0, 0.0)
    assert not pitch_class_histogram(empty).any() and len(notes_per_bar(empty)) == 0


def test_counts():
    chord = note_array([(0, 960, 60, 80), (0, 960, 64, 80), (960, 960, 67, 80)])
    score = Score(tracks=(Track(chord), Track(note_array([(0, 1, 36, 1)]), is_drum=True)))
    assert polyphony(score) == (2, 1.5)
    assert notes_per_bar(score).tolist() == [4]
    assert pitch_class_histogram(score)[0] == pytest.approx(1 / 3)


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, program",
    [
        ("piano", 0),
        ("bass", 33),
        ("Electric Bass (finger)", 33),
        ("violins", 40),
        ("STRINGS", 48),
        ("guitar", 25),
        ("synth-lead", 80),
        ("127", 127),
    ],
)
def test_instruments_by_name(text, program):
    assert parse_instrument(text) == (program, False, PROGRAM_NAMES[program])


def test_drums_by_name():
    assert parse_instrument("Drums") == (0, True, "Drums")
    assert program_name(32, True) == "Drums (Jazz)"


@pytest.mark.parametrize(
    "text, near", [("pinao", "piano"), ("vioin", "Violin"), ("zzz", "General MIDI"), ("", "piano")]
)
def test_unknown_instruments_bring_the_nearest(text, near):
    with pytest.raises(UsageError, match=near):
        parse_instrument(text)


def test_every_name_is_known_and_has_a_range():
    for program, name in enumerate(PROGRAM_NAMES):
        assert parse_instrument(name).program == program
        low, high = instrument_range(program)
        assert 0 <= low < high <= 127


@pytest.mark.parametrize(
    "text, fifths, minor",
    [
        ("D major", 2, False),
        ("D", 2, False),
        ("f# minor", 3, True),
        ("Bbm", -5, True),
        ("A-flat major", -4, False),
        ("C sharp minor", 4, True),
        ("D# major", -3, False),
        ("e moll", 1, True),
        ("Cb major", -7, False),
    ],
)
def test_keys_by_name(text, fifths, minor):
    assert parse_key(text) == Key(0, fifths, minor)


def test_key_names_come_back():
    for minor in (False, True):
        for fifths in range(-7, 8):
            assert parse_key(key_name(Key(0, fifths, minor))) == Key(0, fifths, minor)


def test_unknown_keys_and_meters():
    with pytest.raises(UsageError, match="D major"):
        parse_key("D mayor")
    with pytest.raises(UsageError, match="H"):
        parse_key("H")
    assert parse_meter(" 6/8 ") == Meter(0, 6, 8)
    with pytest.raises(UsageError, match="3/4"):
        parse_meter("3/5")
    for text in ("0/4", "x", "4", "256/4", "4/0"):
        with pytest.raises(UsageError, match="unknown meter"):
            parse_meter(text)


# --- the picture ----------------------------------------------------------------------------------


def test_roll_is_well_formed_and_escapes():
    evil = '<script>"&\x00'
    score = Score(
        tracks=(Track(scale(), name=evil), Track(name="silent")),
        title=evil,
        markers=(Text(0, evil),),
    )
    svg = svg_roll(score)
    root = ElementTree.fromstring(svg)
    assert root.tag.endswith("svg") and "<script" not in svg
    assert svg == svg_roll(score)
    assert len([1 for node in root.iter() if node.tag.endswith("rect")]) >= 8
    ElementTree.fromstring(svg_roll(Score()))
