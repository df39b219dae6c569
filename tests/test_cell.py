"""Whatever the logits: what is asked of a cell holds, and it never gets stuck on the way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musegen.tokens.cell import CellForm, Row, Slot
from musegen.tokens.locks import open_cell
from musegen.tokens.vocabulary import BAR, FIRST_POSITION, PITCH, EventVocabulary

VOCABULARY = EventVocabulary()
SIZES = VOCABULARY.field_sizes
LENGTHS = VOCABULARY.duration_units


def write(form: CellForm, seed: int, ending: float = 2.0):
    """A cell from random logits; `ending` is how much likelier its end is than another note."""
    rng = np.random.default_rng(seed)
    cell = open_cell(VOCABULARY, form)
    cell.settle()
    for _ in range(400):
        if cell.complete:
            return cell

        def choose(mask: np.ndarray) -> int:
            assert mask.any(), f"stuck after {cell.rows}"
            logits = rng.gumbel(size=len(mask))
            logits[BAR] += ending
            return int(np.argmax(np.where(mask, logits, -np.inf)))

        head = choose(cell.head_mask(SIZES[0]))
        row = [head, 0, 0, 0]
        if head >= FIRST_POSITION:
            position = head - FIRST_POSITION
            row[1] = choose(cell.pitch_mask(SIZES[1], position))
            row[2] = choose(cell.velocity_mask(SIZES[2], position, row[1]))
            row[3] = choose(cell.duration_mask(SIZES[3], position, row[1]))
        if cell.accept(row) == "end":
            return cell
        cell.settle()
    raise AssertionError("it does not end")


def intervals(cell) -> list[tuple[int, int, int]]:
    """(start, end, pitch) of the written notes; one that is struck again ends there."""
    found = []
    for index, (head, pitch, _, duration) in enumerate(cell.rows):
        start = head - FIRST_POSITION
        end = start + int(LENGTHS[duration - 1])
        later = [row[0] - FIRST_POSITION for row in cell.rows[index + 1 :] if row[1] == pitch]
        found.append((start, min([end, *later]), pitch - PITCH))
    return found


def free_form(units: int = 48, **changes) -> CellForm:
    allowed = np.zeros((units, 128), dtype=bool)
    allowed[:, 40:80] = True
    form = {"allowed": allowed, "onsets": np.ones(units, bool), "room": units, "base": PITCH}
    return CellForm(**{**form, **changes})


@st.composite
def forms(draw) -> CellForm:
    units = draw(st.sampled_from([6, 24, 36, 48]))
    room = units + draw(st.sampled_from([0, 0, 48]))
    low = draw(st.integers(40, 60))
    high = low + draw(st.integers(0, 24))
    allowed = np.zeros((units, 128), dtype=bool)
    allowed[:, low : high + 1] = True
    if draw(st.booleans()):  # chords: two halves with their own pitch classes
        for half in (slice(0, units // 2), slice(units // 2, units)):
            classes = draw(st.sets(st.integers(0, 11), min_size=3))
            allowed[half] &= np.isin(np.arange(128) % 12, sorted(classes))
    step = draw(st.sampled_from([1, 3, 4, 6]))
    onsets = np.arange(units) % step == 0
    limit = draw(st.sampled_from([0, 0, 1, 2, 4]))
    sounding, fixed = np.zeros(0, np.int64), np.zeros((0, 2), np.int64)
    if limit:
        sounding = np.zeros(room, np.int64)
        held = draw(st.integers(0, units // 2))
        sounding[:held] += draw(st.integers(0, limit))
    places = int(np.count_nonzero(onsets & allowed.any(axis=1)))
    most = draw(st.integers(0, 16))
    takes = np.where(onsets, np.minimum(allowed.sum(axis=1), 12), 0)
    if limit:
        takes = np.minimum(takes, np.clip(limit - sounding[:units], 0, None))
    least = draw(st.integers(0, max(0, min(most, int(takes.sum())))))
    first = last = None
    if places and draw(st.booleans()) and takes.sum() and most:
        able = np.flatnonzero((allowed & (takes > 0)[:, None]).any(axis=0))
        last = int(draw(st.sampled_from(able.tolist()))) if len(able) else None
        if last is not None:
            # the notes owed must fit before and under the last place of the last pitch
            place = int(np.flatnonzero(allowed[:, last] & (takes > 0))[-1])
            under = min(int(allowed[place, : last + 1].sum()), int(takes[place]))
            least = min(max(least, 1), int(takes[:place].sum()) + under)
    return CellForm(
        allowed=allowed, onsets=onsets, room=room, base=PITCH, least=least, most=most,
        limit=limit, sounding=sounding, fixed=fixed, first_pitch=first, last_pitch=last,
    )  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(form=forms(), seed=st.integers(0, 2**32), ending=st.sampled_from([-3.0, 2.0, 9.0]))
def test_what_is_asked_of_a_cell_holds(form, seed, ending):
    cell = write(form, seed, ending)
    assert form.least <= len(cell.rows) <= form.most
    places = [(row[0], row[1]) for row in cell.rows]
    assert places == sorted(set(places))
    units = len(form.onsets)
    notes = intervals(cell)
    for start, end, pitch in notes:
        assert start < units and form.onsets[start] and form.allowed[start, pitch]
        assert start < end <= form.room
    if form.limit:
        count = form.sounding.copy()
        for start, end, _ in notes:
            count[start:end] += 1
        for start, _, _ in notes:
            assert count[start] <= form.limit
    if form.last_pitch is not None:
        assert cell.rows[-1][1] == PITCH + form.last_pitch


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    old=st.sets(st.tuples(st.integers(0, 47), st.integers(40, 79)), min_size=1, max_size=8),
    least=st.integers(0, 10),
    extra=st.integers(0, 6),
)
def test_notes_that_stay_are_there_and_untouched(seed, old, least, extra):
    pinned: tuple[Row, ...] = tuple(
        (FIRST_POSITION + start, PITCH + pitch, 9, 3) for start, pitch in sorted(old)
    )
    allowed = free_form().allowed.copy()
    for start, pitch in old:
        allowed[start : start + 3, pitch] = False
    fixed = np.array(sorted(old), dtype=np.int64)
    form = free_form(
        allowed=allowed, fixed=fixed, pinned=pinned, least=least,
        most=max(least, len(old)) + extra,
    )  # fmt: skip
    cell = write(form, seed)
    stays = [row for row, source in zip(cell.rows, cell.sources, strict=True) if source == -2]
    assert tuple(stays) == pinned
    assert form.least <= len(cell.rows) <= form.most
    places = [row[:2] for row in cell.rows]
    assert places == sorted(set(places))
    for row, source in zip(cell.rows, cell.sources, strict=True):
        if source == -2:
            continue
        start, pitch = row[0] - FIRST_POSITION, row[1] - PITCH
        end = start + int(LENGTHS[row[3] - 1])
        for begin, of in old:
            assert of != pitch or end <= begin or start >= begin + 3


def slot(start: int, end: int, source: int) -> Slot:
    length = int(np.argmin(abs(LENGTHS - (end - start)))) + 1
    return Slot((FIRST_POSITION + start, PITCH + 60, 11, length), start, end, source)


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    places=st.lists(st.tuples(st.integers(0, 40), st.integers(1, 24)), min_size=0, max_size=8),
    last=st.sampled_from([None, 50, 72]),
)
def test_a_locked_rhythm_keeps_every_time(seed, places, last):
    slots = tuple(slot(s, s + d, i) for i, (s, d) in enumerate(sorted(places)))
    form = free_form(slots=slots, last_pitch=last if slots else None, room=96)
    try:
        cell = write(form, seed)
    except AssertionError as error:  # nothing under the asked last pitch is left for a chord
        assert last == 50 and "stuck" in str(error)
        return
    assert cell.sources == [one.source for one in slots]
    assert [(row[0], *row[2:]) for row in cell.rows] == [
        (one.row[0], *one.row[2:]) for one in slots
    ]
    for one, row in zip(slots, cell.rows, strict=True):
        for other, later in zip(slots, cell.rows, strict=True):
            if one.source < other.source and row[1] == later[1]:
                assert one.end <= other.start, "a locked length was cut"
    if slots and last is not None:
        assert cell.rows[-1][1] == PITCH + last


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    tune=st.lists(st.integers(40, 79), min_size=0, max_size=12),
    limit=st.sampled_from([0, 1, 3]),
    step=st.sampled_from([1, 3]),
)
def test_locked_pitches_keep_their_order(seed, tune, limit, step):
    sounding = np.zeros(48, np.int64) if limit else np.zeros(0, np.int64)
    form = free_form(
        tune=tuple(tune), limit=limit, sounding=sounding, onsets=np.arange(48) % step == 0
    )
    cell = write(form, seed)
    assert [row[1] - PITCH for row in cell.rows] == tune
    assert all((row[0] - FIRST_POSITION) % step == 0 for row in cell.rows)
    if limit:
        count = np.zeros(49, np.int64)
        for start, end, _ in intervals(cell):
            count[start:end] += 1
        assert count.max() <= limit


def test_wishes_are_added_to_the_logits_of_their_pitches():
    preferred = np.zeros((48, 128), dtype=bool)
    preferred[:, 60] = True
    cell = open_cell(VOCABULARY, free_form(preferred=preferred))
    bias = cell.bias(3, SIZES[1], 2.0)
    assert bias is not None
    assert np.flatnonzero(bias).tolist() == [PITCH + 60]
    assert open_cell(VOCABULARY, free_form()).bias(3, SIZES[1], 2.0) is None


@pytest.mark.parametrize("least", [1, 12, 40])
def test_an_exact_number_of_notes(least):
    cell = write(free_form(least=least, most=least), 7, ending=9.0)
    assert len(cell.rows) == least
