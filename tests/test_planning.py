"""What is asked, in words, against what the seed holds."""

from __future__ import annotations

import numpy as np
import pytest

from musegen.errors import UsageError
from musegen.music.score import Meter, ProgramChange, Score, Tempo, Track, note_array
from musegen.tokens.plan import WRITTEN_DTYPE, Written
from musegen.tokens.planning import Ask, plan_composition
from musegen.tokens.tokenizer import load_tokenizer
from musegen.tokens.wishes import Controls


def part(first_bar: int, last_bar: int, pitch: int = 60, **more) -> Track:
    """A note a bar of 4/4."""
    return Track(
        note_array([(1920 * k, 480, pitch, 80) for k in range(first_bar, last_bar)]), **more
    )


def test_from_nothing_there_are_defaults():
    planned = plan_composition(Ask(bars=3), None)
    plan = planned.plan
    assert [(t.program, t.is_drum, t.seed_track) for t in plan.tracks] == [(0, False, None)]
    assert [(bar.numerator, bar.denominator) for bar in plan.bars] == [(4, 4)] * 3
    assert (plan.key, planned.names, planned.warnings) == (0, ("Piano",), ())


def test_the_seed_decides_what_is_not_asked():
    seed = Score(
        tracks=(part(0, 4, 64, program=40, name="Fiddle"), part(0, 4, 36, is_drum=True)),
        tempos=(Tempo(0, 500_000), Tempo(1920, 400_000)),
        meters=(Meter(0, 4, 4), Meter(3840, 2, 4)),
    )
    plan = plan_composition(Ask(bars=2), seed).plan
    assert [(t.program, t.is_drum, t.seed_track) for t in plan.tracks] == [
        (40, False, 0),
        (0, True, 1),
    ]
    assert {(b.numerator, b.denominator, b.tempo_us) for b in plan.bars} == {(2, 4, 400_000)}
    asked = plan_composition(Ask(2, tempo=60, time_signature="6/8", key="A minor"), seed).plan
    assert {(b.numerator, b.denominator, b.tempo_us) for b in asked.bars} == {(6, 8, 1_000_000)}
    assert asked.key == 1 + 9 + 12


def test_instruments_go_on_from_tracks_that_sound_like_them():
    change = (ProgramChange(1920, 73),)
    seed = Score(tracks=(part(0, 4, program=48, program_changes=change), part(0, 4, program=48)))
    plan = plan_composition(Ask(bars=1), seed).plan
    assert [track.program for track in plan.tracks] == [73, 48]  # what is heard at the end
    plan = plan_composition(Ask(bars=1, instruments=["flute", "violin"]), seed).plan
    assert [(track.program, track.seed_track) for track in plan.tracks] == [(73, 0), (40, None)]


def test_tracks_that_rest_are_told_of_and_stay_silent():
    seed = Score(tracks=(part(0, 2), part(0, 60, program=33)))
    planned = plan_composition(Ask(bars=1), seed)
    assert [track.seed_track for track in planned.plan.tracks] == [1]
    assert "1 tracks of the seed rest" in planned.warnings[0]


def test_a_seed_beyond_the_range_of_its_instrument_widens_it():
    seed = Score(tracks=(part(0, 2, 20, program=73),))
    [track] = plan_composition(Ask(bars=1), seed).plan.tracks
    assert track.lowest_pitch == 20 and track.highest_pitch < 127


def test_a_cut_seed_has_the_bars_asked_for():
    seed = Score(tracks=(part(2, 6),))
    planned = plan_composition(Ask(bars=1, seed_bars=3), seed)
    assert len(planned.plan.seed_bars) == 3 and planned.plan.seed.num_notes == 1
    with pytest.raises(UsageError, match="no notes"):
        plan_composition(Ask(bars=1, seed_bars=2), seed)
    with pytest.raises(UsageError, match="the seed has 6"):
        plan_composition(Ask(bars=1, seed_bars=7), seed)


def test_channels_are_counted_before_anything_is_written():
    seed = Score(tracks=tuple(part(0, 2, program=index) for index in range(15)))
    assert len(plan_composition(Ask(bars=1), seed).plan.tracks) == 15
    with pytest.raises(UsageError, match="16 melodic"):
        plan_composition(Ask(bars=1, instruments=["sitar"]), seed)


def test_a_track_that_stays_silent_is_told():
    planned = plan_composition(Ask(bars=1, instruments=["violin", "cello"]), None)
    notes = np.array([(0, 0, 0.0, 1.0, 60, 70, -1)], dtype=WRITTEN_DTYPE)
    assert planned.silent(Written(notes, 1), planned.plan) == ("Cello was given no notes",)


def test_style_words_are_those_of_the_preset():
    planned = plan_composition(Ask(bars=2, controls=Controls.of(style="hym")), None)
    with pytest.raises(UsageError, match=r"--style hym: .* did you mean hymn\?"):
        planned.fitted(load_tokenizer("events"))
    known = plan_composition(Ask(bars=2, controls=Controls.of(style="hymn")), None)
    assert known.fitted(load_tokenizer("events")).plan.style == "hymn"


def test_guidance_of_nothing_is_told():
    asked = Controls.of(guidance=2.0)
    (warning,) = plan_composition(Ask(bars=2, controls=asked), None).warnings
    assert warning == "--guidance 2 changes nothing: no learned control is asked"
    asked = Controls.of(guidance=2.0, register="C4")
    assert not plan_composition(Ask(bars=2, controls=asked), None).warnings
