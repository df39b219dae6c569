"""Ways in even steps: on sets of notes made by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from musegen.tokens.ways import even_steps, f1, shares


def test_all_points_are_shares_and_the_first_kind_is_together() -> None:
    found = shares(8, 5)
    assert found.shape == (30, 8)
    assert (found >= 0).all() and (found <= 1).all()
    assert np.allclose(found[:5], np.arange(1, 6)[:, None] / 6)
    forward, backward = found[5:10], found[10:15]
    assert (np.diff(forward, axis=1) <= 0).all() and (np.diff(backward, axis=1) >= 0).all()
    for kind in np.split(found, 6):
        assert (np.diff(kind, axis=0) >= 0).all()  # no slot goes back


def test_one_slot_has_one_way() -> None:
    assert np.isfinite(shares(1, 3)).all()


def notes(*names: int) -> set[tuple[int, ...]]:
    return {(name,) for name in names}


def test_the_even_points_are_chosen_and_a_plateau_is_not() -> None:
    start, end = notes(1, 2, 3, 4), notes(5, 6, 7, 8)
    plateau = [start] * 5
    between = [notes(2, 3, 4, 5), notes(3, 4, 5, 6), notes(4, 5, 6, 7)]
    points = [start, *plateau, *between, end]
    assert even_steps(points, 5) == [0, 6, 7, 8, 9]


def test_points_are_put_in_order_first() -> None:
    start, end = notes(1, 2, 3, 4), notes(5, 6, 7, 8)
    points = [start, notes(4, 5, 6, 7), notes(2, 3, 4, 5), notes(3, 4, 5, 6), end]
    assert even_steps(points, 5) == [0, 2, 3, 1, 4]
    assert even_steps(points, 9) == [0, 2, 3, 1, 4]  # more than there are: all


def test_a_step_back_is_worth_an_uneven_way() -> None:
    start, end = notes(1, 2, 3, 4), notes(5, 6, 7, 8)
    # 9 is in neither: going there and back leaves both ends farther off than they were.
    points = [start, notes(1, 2, 5, 6), notes(1, 5, 6, 9), end]
    assert even_steps(points, 3) == [0, 1, 3]


@pytest.mark.parametrize("steps", [2, 3, 6])
def test_both_ends_stay_and_no_square_sum_is_less(steps: int) -> None:
    rng = np.random.default_rng(steps)
    start, end = set(range(6)), set(range(6, 12))
    pool = [{(n,) for n in (rng.permutation(12)[: rng.integers(3, 9)]).tolist()} for _ in range(8)]
    points = [{(n,) for n in start}, *pool, {(n,) for n in end}]
    chosen = even_steps(points, steps)
    assert len(chosen) == steps and chosen[0] == 0 and chosen[-1] == 9

    progress = [f1(points[-1], each) - f1(points[0], each) for each in points]

    def cost(way: list[int]) -> float:
        total = 0.0
        for one, other in itertools.pairwise(way):
            back = f1(points[0], points[other]) > f1(points[0], points[one]) + 1e-9
            back = back or f1(points[-1], points[other]) < f1(points[-1], points[one]) - 1e-9
            total += (1 - f1(points[one], points[other])) ** 2 + 4.0 * back
        return total

    inner = sorted(range(1, 9), key=lambda point: progress[point])
    every = [[0, *each, 9] for each in itertools.combinations(inner, steps - 2)]
    assert cost(chosen) == pytest.approx(min(map(cost, every)))
