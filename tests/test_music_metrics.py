"""Each formula on scores small enough to count by hand; and against MusPy where it has the same."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from musegen.evaluation import music_metrics as metrics
from musegen.evaluation.bar_similarity import bar_matrix, by_distance, shuffled_bars
from musegen.music.score import Meter, Score, Track, note_array

PPQ = 12


def song(*parts: list[tuple[int, int, int]], drums=(), bars: int = 0, meters=()) -> Score:
    """Parts of (start, duration, pitch) in twelfths of a quarter note."""
    tracks = [Track(notes=note_array((s, d, p, 80) for s, d, p in part)) for part in parts]
    if drums:
        hits = note_array((s, d, p, 80) for s, d, p in drums)
        tracks.append(Track(notes=hits, is_drum=True))
    meters = meters or (Meter(0, 4, 4),)
    return Score(ppq=PPQ, tracks=tuple(tracks), meters=meters, length_tick=bars * 48)


MELODY = [(0, 12, 60), (12, 6, 62), (18, 6, 64), (24, 20, 67), (48, 12, 61), (72, 12, 60),
          (96, 12, 64), (108, 9, 66), (120, 8, 72)]  # fmt: skip
BASS = [(0, 24, 36), (24, 20, 43), (48, 40, 36), (96, 40, 40)]
DRUMS = [(0, 3, 36), (12, 3, 38), (24, 3, 36), (36, 3, 38), (48, 3, 36), (60, 3, 38), (96, 3, 36)]
BAND = song(MELODY, BASS, drums=DRUMS)

# muspy 0.5.0, run once on BAND at resolution 12 (48 steps a measure): it is not among our
# requirements.
MUSPY = {
    "pitch_class_entropy": 2.287783719941071,
    "scale_consistency": 0.9230769230769231,
    "polyphony": 1.782258064516129,
    "pitch_range": 36.0,
    "groove_consistency": 0.9791666666666666,
    "empty_bars": 0.0,
}


@pytest.mark.parametrize("name", MUSPY)
def test_the_same_as_muspy(name):
    assert metrics.measure_music(BAND)[name] == pytest.approx(MUSPY[name])


def test_pitch_class_entropy():
    assert metrics.pitch_class_entropy(song([(0, 12, 60), (12, 12, 72)])) == 0.0
    assert metrics.pitch_class_entropy(song([(0, 12, 60), (12, 36, 62)])) == pytest.approx(1.0)
    chromatic = song([(12 * i, 12, 60 + i) for i in range(12)])
    assert metrics.pitch_class_entropy(chromatic) == pytest.approx(math.log2(12))
    assert math.isnan(metrics.pitch_class_entropy(song(drums=DRUMS)))


def test_scale_consistency():
    scale = [(12 * i, 12, 62 + step) for i, step in enumerate((0, 2, 4, 5, 7, 9, 11))]  # D major
    assert metrics.scale_consistency(song(scale)) == 1.0
    assert metrics.scale_consistency(song([*scale, (84, 12, 63)])) == pytest.approx(7 / 8)
    assert math.isnan(metrics.scale_consistency(song(drums=DRUMS)))


def test_groove_consistency_counts_places_that_differ():
    # Bar 1: onsets at 0 and 24; bar 2: at 0 only; bar 3: at 0 and 6.
    score = song([(0, 6, 60), (24, 6, 60), (48, 6, 60), (96, 6, 60), (102, 6, 60)])
    assert metrics.groove_consistency(score) == pytest.approx(1 - (1 / 48 + 1 / 48) / 2)
    assert math.isnan(metrics.groove_consistency(song([(0, 12, 60)])))


def test_groove_consistency_does_not_compare_across_a_change_of_meter():
    # A bar of 3/4, then two of 4/4 that differ at one place.
    meters = (Meter(0, 3, 4), Meter(36, 4, 4))
    score = song([(0, 6, 60), (12, 6, 60), (36, 6, 60), (84, 6, 60), (90, 6, 60)], meters=meters)
    assert metrics.groove_consistency(score) == pytest.approx(1 - 1 / 48)
    one_each = song([(0, 6, 60), (36, 6, 60)], meters=meters)
    assert math.isnan(metrics.groove_consistency(one_each))


def test_empty_bars_are_those_in_which_nothing_sounds():
    # A note of bar 1 that ends on the barline; bar 2 empty; one that lasts from bar 3 into bar 4.
    score = song([(0, 48, 60), (96, 60, 60)], bars=5)
    assert metrics.empty_bars(score) == pytest.approx(2 / 5)
    assert metrics.groove_consistency(song([(0, 12, 60)], bars=3)) < 1  # bars 2 and 3 are alike


def test_polyphony_density_range_and_length():
    score = song([(0, 24, 60), (12, 12, 64)], drums=[(0, 3, 36)], bars=2)
    assert metrics.mean_polyphony(score) == pytest.approx((12 + 2 * 12) / 24)
    assert metrics.density(score) == pytest.approx(3 / 8)
    assert metrics.pitch_range(score) == 4.0
    assert metrics.note_length(score) == pytest.approx(1.5)
    drums = song(drums=[(0, 3, 36)])
    assert math.isnan(metrics.mean_polyphony(drums))
    assert math.isnan(metrics.pitch_range(drums))
    assert math.isnan(metrics.note_length(drums))


def chord(at: int, *pitches: int) -> list[tuple[int, int, int]]:
    return [(at, 12, pitch) for pitch in pitches]


def test_harmonic_rhythm():
    c_major, g_major, a_minor = (60, 64, 67), (55, 59, 62), (57, 60, 64)
    score = song([*chord(0, *c_major), *chord(12, *c_major), *chord(24, *g_major)])
    assert metrics.harmonic_rhythm(score) == pytest.approx(1 / 2)
    # What two chords explain alike is no change: C and E are in C major and in A minor.
    score = song([*chord(0, *a_minor), *chord(12, 60, 64), *chord(24, *c_major)])
    assert metrics.harmonic_rhythm(score) == pytest.approx(1 / 2)
    # A long note weighs in every quarter in which it sounds; silence is passed over.
    score = song([(0, 36, 60), (0, 36, 64), (0, 36, 67), *chord(72, *c_major)])
    assert metrics.harmonic_rhythm(score) == 0.0
    assert math.isnan(metrics.harmonic_rhythm(song(chord(0, *c_major))))


def test_key_correlation():
    one = song([(0, 24, 60), (24, 12, 64), (36, 12, 67)])
    assert metrics.key_correlation(one, one) == pytest.approx(1.0)
    octave_up = song([(0, 24, 72), (24, 12, 76), (36, 12, 79)])
    assert metrics.key_correlation(one, octave_up) == pytest.approx(1.0)
    elsewhere = song([(0, 24, 61), (24, 12, 65), (36, 12, 68)])
    a, b = np.zeros(12), np.zeros(12)
    a[[0, 4, 7]], b[[1, 5, 8]] = (2, 1, 1), (2, 1, 1)
    assert metrics.key_correlation(one, elsewhere) == pytest.approx(np.corrcoef(a, b)[0, 1])
    assert math.isnan(metrics.key_correlation(one, song(drums=DRUMS)))


def test_drums_in_time():
    # 0 and 3 are 16ths, 4 an 8th triplet; 1 and 5 are neither.
    score = song(drums=[(0, 1, 36), (3, 1, 36), (4, 1, 36), (1, 1, 38), (5, 1, 38)])
    assert metrics.drum_grid_share(score) == pytest.approx(3 / 5)
    assert math.isnan(metrics.drum_grid_share(song(MELODY)))
    beat = song(drums=[(0, 3, 36), (24, 3, 36)])
    late = song(drums=[(3, 3, 36), (27, 3, 36)])
    assert metrics.drum_pattern_correlation(beat, beat) == pytest.approx(1.0)
    assert metrics.drum_pattern_correlation(beat, late) < 0
    waltz = song(drums=[(0, 3, 36)], meters=(Meter(0, 3, 4),))
    assert math.isnan(metrics.drum_pattern_correlation(beat, waltz))


def test_nothing_at_all_is_not_a_number():
    silent = Score()
    assert all(math.isnan(value) for value in metrics.measure_music(silent).values())


def test_bar_similarity():
    # Bars 1 and 3 are the same; bar 2 has one of their two notes and one of its own; bar 4 nothing.
    notes = [(0, 12, 60), (12, 12, 64), (48, 12, 60), (60, 12, 65), (96, 12, 60), (108, 12, 64)]
    score = song(notes, bars=4)
    alike, copies = bar_matrix(score)
    assert alike[0, 1] == pytest.approx(1 / 3)
    assert alike[0, 2] == 1 and copies[0, 2] and not copies[0, 1]
    assert alike[0, 3] == 0 and math.isnan(alike[3, 3]) and not copies[3, 3]
    similarity, copied = by_distance(score, 4)
    assert similarity[:3] == pytest.approx([(1 / 3 + 1 / 3 + 0) / 3, 1 / 2, 0])
    assert copied[:3] == pytest.approx([0, 1 / 2, 0])
    assert math.isnan(similarity[3])  # no bars are so far apart


def test_bar_similarity_tells_tracks_lengths_and_places_apart():
    same = [(0, 12, 60), (48, 12, 60)]
    assert bar_matrix(song(same))[0][0, 1] == 1
    assert bar_matrix(song([(0, 12, 60), (48, 24, 60)]))[0][0, 1] == 0
    assert bar_matrix(song([(0, 12, 60), (51, 12, 60)]))[0][0, 1] == 0
    assert bar_matrix(song([(0, 12, 60)], [(48, 12, 60)]))[0][0, 1] == 0


def bars_of(score: Score) -> list[list[tuple[int, ...]]]:
    found = []
    for bar in score.bars():
        found.append(
            [
                (number, start - bar.start_tick, length, pitch)
                for number, track in enumerate(score.tracks)
                for start, length, pitch, _ in track
                if bar.start_tick <= start < bar.end_tick
            ]
        )
    return found


@given(st.integers(0, 2**32 - 1))
def test_shuffled_bars_keep_every_bar(seed):
    meters = (Meter(0, 4, 4), Meter(144, 3, 4))
    late = [(144, 12, 50), (180, 40, 52), (216, 12, 53)]
    score = song([*MELODY, *late], BASS, drums=DRUMS, meters=meters)
    mixed = shuffled_bars(score, np.random.default_rng(seed))
    starts = [
        [sorted(n[:2] + n[3:] for n in bar) for bar in bars_of(each)] for each in (score, mixed)
    ]
    assert sorted(starts[0]) == sorted(starts[1])
    assert [bar[2:] for bar in mixed.bars()] == [bar[2:] for bar in score.bars()]
    assert sorted(starts[0][3:]) == sorted(starts[1][3:]), "bars of 3/4 stay among themselves"
