from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from musegen.data.grams import GRAM
from musegen.evaluation.fingerprints import BUCKETS, Fingerprints, winnow


def random_grams(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**64, count, dtype=np.uint64)


@given(st.integers(0, 10**6), st.integers(0, 200), st.integers(1, 12))
def test_of_every_window_one_gram_is_chosen(seed: int, count: int, window: int) -> None:
    grams = random_grams(seed, count)
    chosen = winnow(grams, window)
    assert np.isin(chosen, grams).all() and (np.diff(chosen) > 0).all()
    places = np.flatnonzero(np.isin(grams, chosen))
    assert (np.diff(places) <= window).all()
    assert len(chosen) > 0 or count == 0


def table(pieces: list[np.ndarray], window: int = 4, commonplace: int = 48) -> Fingerprints:
    return Fingerprints.of([winnow(piece, window) for piece in pieces], window, commonplace)


@given(st.integers(0, 10**6), st.integers(20, 60), st.integers(0, 30))
def test_a_shared_passage_is_found_in_its_piece(seed: int, length: int, start: int) -> None:
    pieces = [random_grams(seed + number, 100) for number in range(4)]
    line = random_grams(seed + 9, 200)
    line[70 : 70 + length] = pieces[2][start : start + length]
    run = table(pieces).longest(line)
    assert run is not None and run.piece == 2
    # the ends of a passage lie at most a window beyond the last chosen gram
    assert length + GRAM - 2 * 4 < run.notes <= length + GRAM


def test_a_changed_note_ends_a_run() -> None:
    piece = random_grams(1, 100)
    line = piece.copy()
    line[60:68] = random_grams(2, 8)
    run = table([piece]).longest(line)
    assert run is not None and 52 < run.notes <= 60 + GRAM


def test_what_is_repeated_counts_once() -> None:
    riff = random_grams(3, 6)
    run = table([np.tile(riff, 20)]).longest(np.tile(riff, 20))
    assert run is not None and run.notes <= 6 + GRAM


def test_what_everybody_has_is_nobodys() -> None:
    formula = random_grams(5, 30)
    assert table([formula] * 3, commonplace=2).longest(formula) is None
    assert table([formula] * 2, commonplace=2).longest(formula) is not None


def test_of_nothing() -> None:
    empty = np.empty(0, np.uint64)
    assert table([random_grams(1, 50)]).longest(empty) is None
    nothing = table([empty])
    assert len(nothing.counts) == BUCKETS and nothing.longest(random_grams(1, 50)) is None
