"""Whatever the logits: valid notes, headers in order, and an end at the bar asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musegen.errors import TokenError
from musegen.guide import Advance
from musegen.music.score import Meter, Score, Tempo, Track, note_array
from musegen.sampling.draw import Draw
from musegen.tokens.events import EventTokenizer
from musegen.tokens.plan import BarPlan, CompositionPlan, TrackPlan, Written
from musegen.tokens.tokenizer import load_tokenizer
from musegen.tokens.vocabulary import BAR, FIRST_POSITION, START, TEMPO, TRACK


def compose_at_random(
    tokenizer: EventTokenizer, plan: CompositionPlan, seed: int, positions: int = 256
) -> tuple[Written, list[Advance]]:
    """Samples from random logits at temperature 2, as from an untrained model."""
    guide = tokenizer.guide(plan, positions)
    draw = Draw(seed=seed, temperature=2.0)
    noise = np.random.default_rng(seed)
    fed = [guide.start()]
    used = len(fed[0].rows)
    while True:
        row: list[int] = []
        for field, size in enumerate(tokenizer.field_sizes):
            mask = guide.mask(field, row)
            assert mask.shape == (size,)
            logits = noise.normal(size=(1, size))
            if field == 0:  # as sure of an end as a trained model: cells stay short
                logits[0, [BAR, TRACK]] += 6
            row.append(int(draw.choose(logits, mask[None], [0])[0]))
        advance = guide.accept(row)
        if advance is None:
            return guide.result(), fed
        used = len(advance.rows) if advance.restart else used + len(advance.rows)
        assert used <= positions
        fed.append(advance)


def check_written(plan: CompositionPlan, written: Written) -> None:
    assert written.finished_bars == len(plan.bars)
    lengths = np.array([4 * bar.numerator / bar.denominator for bar in plan.bars])
    starts = np.concatenate(([0], np.cumsum(lengths)))
    notes = written.notes.copy()
    assert len(notes)
    notes["bar"] -= len(plan.seed_bars)  # they are counted over the whole piece
    assert notes["bar"].min() >= 0
    onset = starts[notes["bar"]] + notes["onset_q"]
    assert np.all(notes["onset_q"] >= 0)
    assert np.all(notes["onset_q"] < lengths[notes["bar"]])
    assert np.all(notes["duration_q"] > 0)
    assert np.all(onset + notes["duration_q"] <= starts[-1] + 1e-9)
    assert np.all((notes["velocity"] >= 1) & (notes["velocity"] <= 127))
    places = {tuple(note) for note in notes[["track", "bar", "onset_q", "pitch"]].tolist()}
    assert len(places) == len(notes)
    for index, track in enumerate(plan.tracks):
        pitches = notes["pitch"][notes["track"] == index]
        assert np.all((pitches >= track.lowest_pitch) & (pitches <= track.highest_pitch))


METERS = [(4, 4), (3, 4), (6, 8), (7, 8), (5, 16), (2, 2)]


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    meters=st.lists(st.sampled_from(METERS), min_size=1, max_size=6),
    programs=st.lists(st.sampled_from([0, 0, 33, 40, 40, 128]), min_size=1, max_size=4),
)
def test_random_logits_give_valid_notes(seed, meters, programs):
    plan = CompositionPlan(
        tracks=tuple(
            TrackPlan(program % 128, is_drum=program == 128, lowest_pitch=30, highest_pitch=90)
            for program in programs
        ),
        bars=tuple(BarPlan(*meter) for meter in meters),
    )
    written, _ = compose_at_random(load_tokenizer("events"), plan, seed)
    check_written(plan, written)


def seed_score(bars: int = 4) -> Score:
    notes = [(480 * beat, 240, 60 + beat % 5, 80) for beat in range(3 * bars)]
    bass = [(1440 * bar, 1440, 40, 70) for bar in range(bars)]
    return Score(
        tracks=(
            Track(note_array(bass), program=33, name="Bass"),
            Track(note_array(notes), program=0, name="Piano"),
        ),
        meters=(Meter(0, 3, 4),),
        tempos=(Tempo(0, 600_000),),
    )


def seeded_plan(bars: int = 5, seed_bars: int = 4) -> CompositionPlan:
    seed = seed_score(seed_bars)
    return CompositionPlan(
        tracks=(
            TrackPlan(33, seed_track=0, lowest_pitch=28, highest_pitch=60),
            TrackPlan(0, seed_track=1, lowest_pitch=48, highest_pitch=84),
        ),
        bars=tuple(BarPlan(3, 4, 600_000) for _ in range(bars)),
        seed=seed,
        seed_bars=tuple(seed.bars()),
    )


@pytest.mark.parametrize("preset", ["events", "performance"])
def test_a_continuation_is_valid(preset):
    plan = seeded_plan()
    written, _ = compose_at_random(load_tokenizer(preset), plan, 3)
    check_written(plan, written)


def test_the_prompt_is_the_plain_document_of_the_seed():
    """Continuation costs nothing: the model sees what it sees in plain training documents."""
    tokenizer = load_tokenizer("events")
    plan = seeded_plan()
    prompt = tokenizer.guide(plan, 512).start()
    plain = tokenizer.encode(plan.seed).rows.astype(np.int64)
    assert prompt.restart
    assert np.array_equal(prompt.rows[: len(plain) - 1], plain[:-1])
    assert prompt.rows[len(plain) - 1 :, 0].tolist() == [BAR, TRACK]
    assert np.array_equal(prompt.coordinates[:, 0], np.arange(len(prompt.rows)))


def test_what_is_fed_is_one_document():
    """The rows fed one by one, put together, are the rows, channels and times of the whole."""
    tokenizer = load_tokenizer("events")
    plan = seeded_plan(bars=3)
    written, fed = compose_at_random(tokenizer, plan, 11, positions=1024)
    assert [advance.restart for advance in fed].count(True) == 1
    rows = np.concatenate([advance.rows for advance in fed])
    time_q = np.concatenate([advance.coordinates for advance in fed])[:, 1]
    index = np.concatenate([advance.coordinates for advance in fed])[:, 0]
    assert rows[0, 0] == START
    assert np.array_equal(index, np.arange(len(rows)))
    assert np.count_nonzero(rows[:, 0] == BAR) == 7
    assert np.count_nonzero(rows[:, 0] == TEMPO) == 1
    bar_of = np.cumsum(rows[:, 0] == BAR) - 1
    notes = rows[:, 0] >= FIRST_POSITION
    assert np.allclose(time_q[notes], 3 * bar_of[notes] + (rows[notes, 0] - FIRST_POSITION) / 12)
    assert np.count_nonzero(notes & (bar_of >= 4)) == len(written.notes)
    bars_left = np.concatenate([advance.channels for advance in fed])[1:, 5]
    assert np.array_equal(bars_left, 7 - bar_of[1:])


def test_a_small_context_slides():
    plan = seeded_plan(bars=30, seed_bars=40)
    written, fed = compose_at_random(load_tokenizer("events"), plan, 5, positions=96)
    assert sum(advance.restart for advance in fed) >= 3
    check_written(plan, written)


def test_tracks_that_are_not_asked_for_rest():
    plan = seeded_plan()
    only_bass = CompositionPlan(
        tracks=plan.tracks[:1], bars=plan.bars, seed=plan.seed, seed_bars=plan.seed_bars
    )
    written, fed = compose_at_random(load_tokenizer("events"), only_bass, 2)
    check_written(only_bass, written)
    assert set(written.notes["track"].tolist()) == {0}
    # The piano of the seed is still in the context, given and silent in the new bars.
    assert np.count_nonzero(fed[0].rows[:, 0] == TRACK) == 2 * 4 + 2


def test_meters_outside_the_preset_are_refused():
    plan = CompositionPlan(tracks=(TrackPlan(0),), bars=(BarPlan(13, 4),))
    with pytest.raises(TokenError, match="13/4"):
        load_tokenizer("events").guide(plan, 256)


def test_a_meter_of_a_known_length_is_written_as_its_equal():
    plan = CompositionPlan(tracks=(TrackPlan(0),), bars=(BarPlan(1, 1), BarPlan(6, 32)))
    guide = load_tokenizer("events").guide(plan, 256)
    assert "1/1" in guide.warnings[0]
    written, _ = compose_at_random(load_tokenizer("events"), plan, 4)
    check_written(plan, written)


@pytest.mark.parametrize("bars", [1, 64, 100])
def test_the_key_is_heard_in_the_seed_however_many_bars_follow(bars):
    guide = load_tokenizer("events").guide(seeded_plan(bars=bars), 512)
    few = load_tokenizer("events").guide(seeded_plan(bars=1), 512)
    heard = guide.start().channels[:, 6]
    assert heard[0] > 0
    assert set(heard.tolist()) == set(few.start().channels[:, 6].tolist())


def test_an_early_result_holds_the_finished_bars():
    tokenizer = load_tokenizer("events")
    guide = tokenizer.guide(seeded_plan(), 256)
    guide.start()
    guide.accept([FIRST_POSITION, 40, 5, 4])
    assert guide.result().finished_bars == 0
    guide.accept([TRACK, 0, 0, 0])
    guide.accept([FIRST_POSITION, 61, 5, 4])
    guide.accept([BAR, 0, 0, 0])
    early = guide.result()
    assert early.finished_bars == 1
    assert early.notes["pitch"].tolist() == [60, 39]  # in the plan's order of tracks
