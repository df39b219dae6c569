"""The seam: the seed as it was, what colours it released, the new bars on its grid."""

from __future__ import annotations

import numpy as np

from musegen.music.score import (
    BEND_DTYPE,
    CONTROL_DTYPE,
    Key,
    Meter,
    Score,
    Tempo,
    Track,
    note_array,
)
from musegen.tokens.assemble import assemble, seam_tick
from musegen.tokens.plan import WRITTEN_DTYPE, BarPlan, CompositionPlan, TrackPlan, Written

SEAM = 2 * 288
"""Two bars of 3/4 at 96 ticks a quarter note."""


def seeded(*tracks: Track, bars: tuple[BarPlan, ...] = (BarPlan(3, 4, 600_000),) * 2):
    seed = Score(
        ppq=96, tracks=tracks, tempos=(Tempo(0, 600_000),), meters=(Meter(0, 3, 4),),
        keys=(Key(0, 1, False),), length_tick=SEAM,
    )  # fmt: skip
    plans = tuple(TrackPlan(track.program, track.is_drum, i) for i, track in enumerate(tracks))
    return CompositionPlan(plans, bars, seed, tuple(seed.bars()))


def melody(**more) -> Track:
    return Track(note_array([(0, 96, 60, 80), (480, 96, 62, 80)]), name="Flute", **more)


def written(*notes: tuple, bars: int = 2, first: int = 2) -> Written:
    """Notes (track, new bar, onset, duration, pitch, velocity), `first` bars behind the start."""
    rows = [(track, first + bar, *rest, -1) for track, bar, *rest in notes]
    return Written(np.array(rows, dtype=WRITTEN_DTYPE), bars)


def test_new_notes_stand_on_the_seeds_grid_and_end_in_time():
    plan = seeded(melody())
    assert seam_tick(plan) == SEAM
    score = assemble(plan, written((0, 0, 0.0, 1.0, 60, 70), (0, 1, 2.5, 4.0, 64, 71)))
    assert score.tracks[0].notes.tolist() == [
        (0, 96, 60, 80),
        (480, 96, 62, 80),
        (SEAM, 96, 60, 70),
        (SEAM + 288 + 240, 48, 64, 71),  # cut where the piece ends
    ]
    assert (score.ppq, score.keys, score.length_tick) == (96, (Key(0, 1, False),), SEAM + 2 * 288)
    assert len(score.bars()) == 4
    assert [tuple(marker) for marker in score.markers] == [(SEAM, "Generated")]


def test_a_note_ends_where_its_pitch_begins_again():
    score = assemble(seeded(melody()), written((0, 0, 0.0, 2.0, 60, 70), (0, 0, 1.0, 1.0, 60, 71)))
    assert score.tracks[0].notes[2:].tolist() == [(SEAM, 96, 60, 70), (SEAM + 96, 96, 60, 71)]


def test_a_held_pedal_and_a_bend_are_let_go_at_the_seam():
    held = np.array([(10, 64, 127), (20, 7, 90)], CONTROL_DTYPE)
    bent = np.array([(30, 2000)], BEND_DTYPE)
    up = np.array([(10, 64, 127), (40, 64, 0)], CONTROL_DTYPE)
    level = np.array([(30, 2000), (50, 0)], BEND_DTYPE)
    plan = seeded(melody(controls=held, bends=bent), melody(controls=up, bends=level))
    score = assemble(plan, written())
    assert score.tracks[0].controls.tolist() == [*held.tolist(), (SEAM, 64, 0)]
    assert score.tracks[0].bends.tolist() == [*bent.tolist(), (SEAM, 0)]
    assert score.tracks[1].controls.tolist() == up.tolist()
    assert score.tracks[1].bends.tolist() == level.tolist()


def test_another_tempo_and_meter_begin_at_the_seam_only():
    plan = seeded(melody(), bars=(BarPlan(4, 4, 500_000),) * 2)
    score = assemble(plan, written())
    assert score.tempos == (Tempo(0, 600_000), Tempo(SEAM, 500_000))
    assert score.meters == (Meter(0, 3, 4), Meter(SEAM, 4, 4))
    assert score.length_tick == SEAM + 2 * 384


def test_a_piece_cut_short_ends_with_its_last_finished_bar():
    score = assemble(seeded(melody()), written((0, 0, 2.0, 5.0, 60, 70), bars=1))
    assert score.length_tick == SEAM + 288
    assert score.tracks[0].end_tick == SEAM + 288


def test_new_tracks_are_named_and_those_of_the_seed_keep_their_place():
    plan = seeded(melody())
    plan = CompositionPlan((TrackPlan(33), *plan.tracks), plan.bars, plan.seed, plan.seed_bars)
    notes = written((0, 0, 0.0, 1.0, 40, 70), (1, 0, 1.0, 1.0, 65, 70))
    score = assemble(plan, notes, names=("Bass", "ignored"))
    assert [(track.name, len(track)) for track in score.tracks] == [("Flute", 3), ("Bass", 1)]


def test_from_nothing():
    plan = CompositionPlan((TrackPlan(0),), (BarPlan(6, 8, 400_000),))
    score = assemble(plan, written((0, 0, 0.0, 1.0, 60, 70), bars=1, first=0), names=("Piano",),
                     key=Key(0, -2, True), title="New")  # fmt: skip
    assert (score.tempos, score.meters) == ((Tempo(0, 400_000),), (Meter(0, 6, 8),))
    assert (score.keys, score.title, score.markers) == ((Key(0, -2, True),), "New", ())


def test_a_seed_that_faded_out_is_heard_again():
    levels = [(0, 7, 100), (0, 11, 127), (300, 7, 60), (500, 7, 0)]
    track = melody(controls=np.array(levels, dtype=CONTROL_DTYPE))
    score = assemble(seeded(track), written((0, 0, 0.0, 1.0, 60, 70)))
    assert score.tracks[0].controls.tolist() == [*levels, (SEAM, 7, 60)]
    quiet = melody(controls=np.array([(0, 7, 15)], dtype=CONTROL_DTYPE))
    score = assemble(seeded(quiet), written((0, 0, 0.0, 1.0, 60, 70)))
    assert score.tracks[0].controls.tolist() == [(0, 7, 15)]
