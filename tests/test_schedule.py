"""Documents: given cells first within a bar, nothing to write ever moved, plain where it can be."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from musegen.tokens.controls import (
    GIVEN,
    TO_WRITE,
    CellControls,
    PieceControls,
    drop_controls,
    measure_cells,
)
from musegen.tokens.grid import Grid
from musegen.tokens.schedule import HEADER, layout, schedule
from musegen.tokens.tokenizer import load_tokenizer
from musegen.tokens.vocabulary import FIRST_POSITION, MIDDLE

from .test_events import band

masks = arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 5)))


@settings(max_examples=100, deadline=None)
@given(mask=masks, bars_after=st.sampled_from([0, 2, 4]))
def test_every_bar_and_cell_stands_once_and_open_cells_keep_their_order(mask, bars_after):
    steps = schedule(mask, bars_after)
    bars, tracks = mask.shape
    cells = list(zip(steps.bar.tolist(), steps.track.tolist(), strict=True))
    assert sorted(cells) == [(b, t) for b in range(bars) for t in [HEADER, *range(tracks)]]
    to_write = [(b, t) for b, t in cells if t != HEADER and not mask[b, t]]
    assert to_write == sorted(to_write)
    for bar in range(bars):
        own = [t for b, t in cells if b == bar]
        assert own[0] == HEADER
        known = [bool(mask[bar, t]) for t in own[1:]]
        assert known == sorted(known, reverse=True)


@settings(max_examples=50, deadline=None)
@given(shape=st.tuples(st.integers(1, 9), st.integers(1, 5)), data=st.data())
def test_a_continuation_is_the_plain_document(shape, data):
    seed_bars = data.draw(st.integers(0, shape[0]))
    mask = np.zeros(shape, dtype=bool)
    plain = schedule(mask)
    mask[:seed_bars] = True
    steps = schedule(mask)
    assert np.array_equal(steps.bar, plain.bar)
    assert np.array_equal(steps.track, plain.track)
    assert np.array_equal(steps.given, plain.given)


def test_bars_after_a_window_come_before_it():
    mask = np.ones((6, 2), dtype=bool)
    mask[2:4, 0] = False
    steps = schedule(mask, bars_after=1)
    headers = steps.bar[steps.track == HEADER].tolist()
    assert headers == [0, 1, 4, 2, 3, 5]
    shown = {int(b) for b, g in zip(steps.bar, steps.given, strict=True) if g == GIVEN}
    assert shown == {2, 3, 4}


def grid_and_vocabulary() -> tuple[Grid, object]:
    tokenizer = load_tokenizer("events")
    vocabulary = tokenizer.vocabulary
    return Grid.from_rows(tokenizer.encode(band()).rows, vocabulary), vocabulary


def test_the_plain_layout_is_the_stored_rows():
    grid, vocabulary = grid_and_vocabulary()
    steps = schedule(np.zeros((grid.num_bars, grid.num_tracks), dtype=bool))
    document = layout(grid, steps, vocabulary, at_end=True)
    assert np.array_equal(document.rows, grid.rows(vocabulary))


def test_times_are_those_of_the_music_in_any_order():
    grid, vocabulary = grid_and_vocabulary()
    mask = np.zeros((grid.num_bars, grid.num_tracks), dtype=bool)
    mask[1] = mask[3] = True
    mask[2, 1] = True
    document = layout(grid, schedule(mask, bars_after=4), vocabulary, at_start=False)
    assert document.rows[0, 0] == MIDDLE
    is_note = document.rows[:, 0] >= FIRST_POSITION
    bar_q = document.coordinates[:, 1] - np.where(
        is_note, (document.rows[:, 0] - FIRST_POSITION) / vocabulary.grid, 0
    )
    assert np.allclose(bar_q % 4, 0)


def test_the_countdown_counts_the_notes_left():
    grid, vocabulary = grid_and_vocabulary()
    steps = schedule(np.zeros((grid.num_bars, grid.num_tracks), dtype=bool))
    controls = measure_cells(grid, vocabulary)
    document = layout(grid, steps, vocabulary, cells=controls)
    left = document.channels[:, 8]
    piano = document.channels[:, 1] == 1
    # TRACK row: four notes to come; then one less a note; 1 says that none is left.
    assert left[piano].tolist() == [5, 4, 3, 2, 1] * grid.num_bars
    assert np.all(left[document.channels[:, 1] == 0] == 0)


def test_controls_are_optional():
    grid, vocabulary = grid_and_vocabulary()
    measured = measure_cells(grid, vocabulary)
    rng = np.random.default_rng(0)
    drawn = [drop_controls(measured, rng) for _ in range(200)]
    told = [any(column.any() for column in cells.columns()) for cells in drawn]
    assert 0.3 < np.mean(told) < 0.6
    for cells in drawn:
        for column, truth in zip(cells.columns(), measured.columns(), strict=True):
            assert np.all((column == 0) | (column == truth))


def test_what_is_not_told_is_zero():
    grid, vocabulary = grid_and_vocabulary()
    steps = schedule(np.zeros((grid.num_bars, grid.num_tracks), dtype=bool))
    silent = layout(
        grid,
        steps,
        vocabulary,
        cells=CellControls.none(grid.num_bars, grid.num_tracks),
        piece=PieceControls(),
    )
    assert not silent.channels[:, 5:].any()
    told = layout(grid, steps, vocabulary, piece=PieceControls(key=3, style=2, tell_bars_left=True))
    assert set(told.channels[:, 6].tolist()) == {3}
    assert set(told.channels[:, 7].tolist()) == {2}
    assert told.channels[1:, 5].min() == 1  # the last bar
    assert set(np.unique(told.channels[1:, 0])) == {0, TO_WRITE}
