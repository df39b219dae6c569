"""Intervals over pieces, and rank correlations."""

from __future__ import annotations

import numpy as np
import pytest

from musegen.evaluation.intervals import (
    closeness_interval,
    mean_interval,
    ranked,
    ratio_interval,
    spearman,
)


def test_a_ratio_is_of_sums_and_not_a_mean_of_ratios():
    found = ratio_interval(np.array([10.0, 1.0]), np.array([5.0, 1.0]))
    assert found is not None
    assert found.value == pytest.approx(11 / 6)
    assert (found.low, found.high, found.pieces) == (1.0, 2.0, 2)
    assert found.holds(1.5) and not found.holds(2.5)


def test_the_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(5)
    covered = 0
    for trial in range(200):
        found = mean_interval(rng.normal(3.0, 1.0, 60), seed=trial)
        assert found is not None
        covered += found.holds(3.0)
    assert 180 <= covered <= 199  # 95% of 200 is 190


def test_entries_of_one_piece_are_drawn_together():
    values = np.repeat([0.0, 1.0, 2.0, 3.0], 50)
    alone = mean_interval(values)
    together = mean_interval(values, pieces=np.repeat(list("abcd"), 50).tolist())
    assert alone is not None and together is not None
    assert alone.value == together.value and together.pieces == 4
    assert together.high - together.low > 3 * (alone.high - alone.low)


def test_the_same_seed_gives_the_same_interval():
    values = np.random.default_rng(1).random(20)
    assert mean_interval(values, seed=1) == mean_interval(values, seed=1)
    assert mean_interval(values, seed=1) != mean_interval(values, seed=2)


def test_what_is_not_there_is_left_out_or_none():
    found = mean_interval(np.array([1.0, np.nan, 3.0]), pieces=["a", "b", "c"])
    assert found is not None and found.value == 2.0 and found.pieces == 2
    assert mean_interval(np.array([np.nan])) is None
    assert ratio_interval(np.array([]), np.array([])) is None
    assert ratio_interval(np.array([1.0]), np.array([0.0])) is None


def test_spearman():
    assert ranked(np.array([5, 1, 5, 9])).tolist() == [2.5, 1, 2.5, 4]
    assert spearman(np.array([1, 2, 3]), np.array([10, 100, 1000])) == pytest.approx(1.0)
    assert spearman(np.array([1, 2, 3]), np.array([3, 2, 1])) == pytest.approx(-1.0)
    assert spearman(np.array([1, 2, 3]), np.array([4, 4, 4])) == 0.0


def test_closeness_is_of_the_means_and_drops_what_one_side_lacks():
    own, other = np.array([1.0, -1.0, 2.0, np.nan]), np.array([-3.0, -3.0, -3.0, 5.0])
    found = closeness_interval(own, other, list("abcd"))
    assert found is not None
    assert found.value == pytest.approx(2 / 3 - 3) and found.pieces == 3
    assert found.low <= found.value <= found.high <= -1
    assert closeness_interval(np.array([np.nan]), np.array([1.0]), ["a"]) is None
