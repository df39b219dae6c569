"""Whatever the logits: flat ids that decode to valid notes and end at the bar asked for."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musegen.errors import GenerationError, TokenError
from musegen.guide import Advance, Guide
from musegen.music.score import Meter, Score, Tempo, Track, note_array
from musegen.tokens.midi_tokenizer import MidiTokenizer
from musegen.tokens.plan import BarPlan, CompositionPlan, TrackPlan
from musegen.tokens.remi_grammar import MAX_CHORD, RemiGuide, prompt_ids
from musegen.tokens.tokenizer import load_tokenizer

from .test_grammar import METERS, check_written


@pytest.fixture(scope="module")
def remi() -> MidiTokenizer:
    tokenizer = load_tokenizer("remi")
    assert isinstance(tokenizer, MidiTokenizer)
    return tokenizer


def compose_at_random(
    tokenizer: MidiTokenizer,
    plan: CompositionPlan,
    seed: int,
    positions: int = 512,
    bar_bonus: float = 3.0,
    note_bonus: float = 0.0,
) -> tuple[RemiGuide, list[Advance]]:
    """Draws from random logits; the bonuses make bars end sooner, or chords larger."""
    guide = tokenizer.guide(plan, positions)
    assert isinstance(guide, RemiGuide) and isinstance(guide, Guide)
    noise = np.random.default_rng(seed)
    fed = [guide.start()]
    used = len(fed[0].rows)
    while True:
        mask = guide.mask(0, ())
        assert mask.shape == tokenizer.field_sizes
        assert mask.any()
        logits = noise.gumbel(size=mask.shape) + noise.normal(scale=2.0, size=mask.shape)
        logits[tokenizer.vocabulary.bar] += bar_bonus
        logits[tokenizer.vocabulary.program_ids] += note_bonus
        advance = guide.accept([int(np.where(mask, logits, -np.inf).argmax())])
        if advance is None:
            return guide, fed
        used = len(advance.rows) if advance.restart else used + len(advance.rows)
        assert used <= positions
        assert advance.coordinates[-1, 0] == used - 1
        assert advance.channels.shape == (len(advance.rows), 0)
        fed.append(advance)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1),
    bars=st.lists(
        st.tuples(st.sampled_from(METERS), st.sampled_from([500_000, 600_000])),
        min_size=1,
        max_size=6,
    ),
    programs=st.lists(st.sampled_from([0, 0, 33, 40, 40, 128]), min_size=1, max_size=4),
)
def test_random_logits_give_valid_scores(remi, seed, bars, programs):
    plan = CompositionPlan(
        tracks=tuple(
            TrackPlan(program % 128, is_drum=program == 128, lowest_pitch=30, highest_pitch=86)
            for program in programs
        ),
        bars=tuple(BarPlan(*meter, tempo_us) for meter, tempo_us in bars),
    )
    guide, _ = compose_at_random(remi, plan, seed)
    written = guide.result()
    check_written(plan, written)
    # the ids themselves mean the same music, bar for bar
    v, score = remi.vocabulary, remi.decode(guide.ids)
    assert np.count_nonzero(guide.ids == v.bar) == len(bars)
    length_q = sum(4 * n / d for (n, d), _ in bars)
    assert score.length_tick == length_q * v.ppq >= score.end_tick
    assert score.num_notes == len(written.notes)
    assert {(t.is_drum, t.program) for t in score.tracks} <= {
        (t.is_drum, 0 if t.is_drum else t.program) for t in plan.tracks
    }
    assert [(bar.numerator, bar.denominator) for bar in score.bars()] == [m for m, _ in bars]
    # and they are ids that the encoder writes
    again = remi.decode(remi.encode(score).rows)
    assert again.num_notes == score.num_notes


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


def seeded_plan(bars: int = 5, seed_bars: int = 4, **changes) -> CompositionPlan:
    seed = seed_score(seed_bars)
    plan: dict = {
        "tracks": (
            TrackPlan(33, seed_track=0, lowest_pitch=28, highest_pitch=60),
            TrackPlan(0, seed_track=1, lowest_pitch=48, highest_pitch=84),
        ),
        "bars": tuple(BarPlan(3, 4, 600_000) for _ in range(bars)),
        "seed": seed,
        "seed_bars": tuple(seed.bars()),
    }
    return CompositionPlan(**{**plan, **changes})


def test_the_prompt_is_the_document_of_the_seed(remi):
    """Continuation costs nothing: the model sees what it sees in training documents."""
    plan = seeded_plan()
    prompt = remi.guide(plan, 512).start()
    plain = remi.encode(plan.seed).rows[:, 0].astype(np.int64)
    v = remi.vocabulary
    assert prompt.restart
    expected = [v.bos, *plain.tolist(), v.bar, v.meter_id((3, 4))]
    assert prompt.rows[:, 0].tolist() == expected


def test_a_new_tempo_stands_in_the_header(remi):
    plan = dataclasses.replace(seeded_plan(), bars=(BarPlan(3, 4, 1_000_000),))
    tail = remi.guide(plan, 512).start().rows[-4:, 0]
    v = remi.vocabulary
    assert [v.tokens[id_] for id_ in tail] == [
        "Bar_None", "TimeSig_3/4", "Position_0", "Tempo_60.0",
    ]  # fmt: skip


def test_a_prompt_has_the_bars_of_the_seed(remi):
    """Silent bars at the seam count; a cut bar and events behind the seam do not shift it."""
    seed = seed_score(2).replace(length_tick=4 * 1440, meters=(Meter(0, 3, 4), Meter(480, 3, 4)))
    bars = tuple(seed.bars())
    plan = dataclasses.replace(seeded_plan(), seed=seed, seed_bars=bars)
    ids = prompt_ids(remi, plan)
    v = remi.vocabulary
    assert np.count_nonzero(ids == v.bar) == len(bars)
    score = remi.decode(ids)
    assert score.length_tick == bars[-1].end_tick * v.ppq // 480
    short = dataclasses.replace(plan, seed_bars=bars[:2])
    assert np.count_nonzero(prompt_ids(remi, short) == v.bar) == 2
    assert remi.decode(prompt_ids(remi, short)).num_notes < score.num_notes


def test_a_small_context_slides(remi):
    plan = seeded_plan(bars=30, seed_bars=40)
    guide, fed = compose_at_random(remi, plan, 5, positions=128)
    check_written(plan, guide.result())
    v = remi.vocabulary
    restarts = [advance.rows[:, 0] for advance in fed if advance.restart]
    assert len(restarts) >= 3
    for rows in restarts:
        kinds = [str(kind) for kind in v.kinds[rows[:4]]]
        assert kinds == ["Bar", "TimeSig", "Position", "Tempo"]
        assert len(rows) <= 128 * 2 // 3


def test_a_bar_larger_than_the_context(remi):
    """Its header and its newest notes stay, whole notes under a position."""
    plan = CompositionPlan(tracks=(TrackPlan(0), TrackPlan(40)), bars=(BarPlan(12, 4),))
    guide, fed = compose_at_random(remi, plan, 1, positions=64, bar_bonus=-20.0, note_bonus=30.0)
    check_written(plan, guide.result())
    assert len(guide.ids) > 200
    v = remi.vocabulary
    for advance in fed:
        if advance.restart:
            kinds = [str(kind) for kind in v.kinds[advance.rows[:, 0]]]
            after = kinds.index("Tempo") + 1
            assert len(kinds) == after or kinds[after] in ("Position", "Program")


def test_bounds_on_notes(remi):
    plan = CompositionPlan(tracks=(TrackPlan(0),), bars=(BarPlan(4, 4),) * 2, max_notes_per_cell=5)
    guide, _ = compose_at_random(remi, plan, 2, bar_bonus=-20.0, note_bonus=30.0)
    assert np.bincount(guide.result().notes["bar"], minlength=2).tolist() == [5, 5]
    chords = CompositionPlan(tracks=(TrackPlan(0),), bars=(BarPlan(1, 16),))
    guide, _ = compose_at_random(remi, chords, 2, bar_bonus=-20.0, note_bonus=30.0)
    notes = guide.result().notes
    assert np.unique(notes["onset_q"], return_counts=True)[1].max() <= MAX_CHORD
    silent = CompositionPlan(tracks=(TrackPlan(0),), bars=(BarPlan(),), max_notes_per_cell=0)
    guide, _ = compose_at_random(remi, silent, 2)
    assert guide.result().finished_bars == 1 and not len(guide.result().notes)


def test_music_is_not_silent_for_long(remi):
    plan = CompositionPlan(tracks=(TrackPlan(0),), bars=(BarPlan(4, 4),) * 6)
    guide, _ = compose_at_random(remi, plan, 3, bar_bonus=100.0)
    assert set(guide.result().notes["bar"].tolist()) == {1, 3, 5}


def test_tracks_of_one_program_share_its_notes(remi):
    plan = CompositionPlan(
        tracks=(
            TrackPlan(40, lowest_pitch=60, highest_pitch=90),
            TrackPlan(40, lowest_pitch=55, highest_pitch=80),
        ),
        bars=(BarPlan(4, 4),) * 4,
    )
    guide, _ = compose_at_random(remi, plan, 4, bar_bonus=1.0)
    written = guide.result()
    check_written(plan, written)
    assert set(written.notes["track"].tolist()) == {0, 1}


def test_only_asked_programs_play(remi):
    plan = seeded_plan()
    only = seeded_plan(tracks=plan.tracks[:1])
    guide, fed = compose_at_random(remi, only, 2)
    check_written(only, guide.result())
    v = remi.vocabulary
    assert v.program_ids[1 + 0] in fed[0].rows  # the piano of the seed is heard
    assert v.program_ids[1 + 0] not in guide.ids  # and rests


def test_an_early_result_holds_the_finished_bars(remi):
    guide = remi.guide(seeded_plan(), 256)
    guide.start()
    v = remi.vocabulary
    note = (
        v.position_ids[3], v.program_ids[1], v.pitch_ids[60], v.velocity_ids[9], v.duration_ids[11],
    )  # fmt: skip
    for id_ in note:
        assert guide.mask(0, ())[id_]
        guide.accept([int(id_)])
    assert guide.result().finished_bars == 0
    guide.accept([v.bar])
    guide.accept([int(v.position_ids[0])])
    early = guide.result()
    assert (early.finished_bars, guide.bars_done, guide.rows_drawn) == (1, 1, 7)
    assert early.notes.tolist() == [(1, 4, 0.25, 1.0, 60, int(v.velocities[9]), -1)]


def test_plans_that_are_refused(remi):
    bar = (BarPlan(),)
    with pytest.raises(TokenError, match="13/4"):
        remi.guide(CompositionPlan(tracks=(TrackPlan(0),), bars=(BarPlan(13, 4),)), 256)
    with pytest.raises(TokenError, match="nothing to write"):
        remi.guide(CompositionPlan(tracks=(), bars=bar), 256)
    with pytest.raises(TokenError, match="too small"):
        remi.guide(CompositionPlan(tracks=(TrackPlan(0),), bars=bar), 32)
    with pytest.raises(TokenError, match="no pitch"):
        plan = CompositionPlan(tracks=(TrackPlan(0, lowest_pitch=9, highest_pitch=8),), bars=bar)
        remi.guide(plan, 256)
    guide = remi.guide(CompositionPlan(tracks=(TrackPlan(0),), bars=bar), 256)
    guide.start()
    with pytest.raises(GenerationError, match="TimeSig"):
        guide.accept([remi.vocabulary.meter_id((4, 4))])


def test_merges_have_no_grammar(remi):
    rows = remi.encode(seed_score()).rows
    merged = remi.train_bpe([rows], 870)
    with pytest.raises(TokenError, match="merges"):
        merged.guide(seeded_plan(), 256)


@pytest.mark.slow
def test_a_thousand_random_samples_are_valid(remi):
    plan = seeded_plan(bars=4)
    for seed in range(1000):
        guide, _ = compose_at_random(remi, plan, seed)
        check_written(plan, guide.result())
