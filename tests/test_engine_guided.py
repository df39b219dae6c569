from __future__ import annotations

import numpy as np
import pytest

from musegen.errors import UsageError
from musegen.guide import Advance
from musegen.sampling.engines.guided import GuidedEngine


class Echo:
    """Logits that are the sums of the channels taken in, so that what was told can be read off."""

    field_sizes, max_positions = (3, 2), 64

    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []

    def open(self, slots: int) -> None:
        self.sums = np.zeros(slots)

    def extend(self, advances) -> None:
        for slot, advance in advances.items():
            if advance.restart:
                self.sums[slot] = 0.0
            self.sums[slot] += advance.channels.sum()

    def logits(self, slots, field, chosen):
        self.chosen = chosen
        return np.repeat(self.sums[list(slots), None], self.field_sizes[field], axis=1)


def advance(*channels: int, restart: bool = False) -> Advance:
    return Advance(
        np.ones((1, 2), np.int64), np.array([channels], np.int64), np.zeros((1, 1)), restart
    )


def guided(weight: float, columns=(1,)) -> GuidedEngine:
    engine = GuidedEngine(Echo(), columns, weight)
    engine.open(2)
    engine.extend({0: advance(1, 5, restart=True), 1: advance(2, 7, restart=True)})
    return engine


def test_what_is_told_is_left_out_of_the_other_half_alone():
    engine = guided(3.0)
    assert engine.engine.sums.tolist() == [6.0, 9.0, 1.0, 2.0]
    assert (engine.field_sizes, engine.max_positions) == ((3, 2), 64)


def test_the_formula():
    found = guided(3.0).logits([1, 0], 0, np.zeros((2, 0), np.int64))
    assert found.tolist() == [[2 + 3 * 7] * 3, [1 + 3 * 5] * 3]


def test_weight_one_is_the_engine_below_bit_for_bit():
    engine = guided(1.0)
    assert engine.logits([0, 1], 1, np.zeros((2, 1), np.int64))[:, 0].tolist() == [6.0, 9.0]
    rounded = np.round(np.random.default_rng(0).normal(size=(2, 500)) * 2**20) / 2**20
    from musegen.sampling.rules import guide

    assert (guide(rounded[0], rounded[1], 1.0) == rounded[0]).all()


def test_weight_zero_tells_nothing():
    assert guided(0.0).logits([0], 0, np.zeros((1, 0), np.int64))[0, 0] == 1.0


def test_what_is_drawn_so_far_goes_to_both_halves():
    engine = guided(2.0)
    engine.logits([0, 1], 1, np.array([[4], [5]]))
    assert engine.engine.chosen.tolist() == [[4], [5], [4], [5]]


@pytest.mark.parametrize("weight", [-1.0, float("nan")])
def test_weights_below_zero_are_refused(weight):
    with pytest.raises(UsageError, match="it must be 0 or more"):
        GuidedEngine(Echo(), [0], weight)
