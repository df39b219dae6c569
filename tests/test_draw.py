"""Drawing ids: the filters against their definitions, and streams that know no batch."""

from __future__ import annotations

import numpy as np
import pytest

from musegen.errors import GenerationError, UsageError
from musegen.sampling import rules
from musegen.sampling.draw import Draw

LOGITS = np.log(np.array([[0.5, 0.2, 0.2, 0.06, 0.04]]))
ALL = np.ones((1, 5), dtype=bool)


def kept(logits: np.ndarray) -> list[int]:
    return np.flatnonzero(np.isfinite(logits[0])).tolist()


def test_filters_keep_what_their_definitions_say():
    assert kept(rules.top_k(LOGITS, 1)) == [0]
    assert kept(rules.top_k(LOGITS, 2)) == [0, 1, 2]  # the third equals the second
    assert kept(rules.top_k(LOGITS, 0)) == kept(rules.top_k(LOGITS, 9)) == [0, 1, 2, 3, 4]
    assert kept(rules.top_p(LOGITS, 0.4)) == [0]
    assert kept(rules.top_p(LOGITS, 0.6)) == [0, 1]  # just enough to reach 0.6
    assert kept(rules.top_p(LOGITS, 0.95)) == [0, 1, 2, 3]
    assert kept(rules.min_p(LOGITS, 0.3)) == [0, 1, 2]
    assert kept(rules.min_p(LOGITS, 0.5)) == [0]
    assert kept(rules.temperature(LOGITS, 0.0)) == [0]
    assert np.allclose(rules.temperature(LOGITS, 2.0), LOGITS / 2)


def drawn(draw: Draw, count: int = 4000, allowed: np.ndarray = ALL) -> np.ndarray:
    """How often each id is drawn, as shares."""
    ids = [int(draw.choose(LOGITS, allowed, [0])[0]) for _ in range(count)]
    return np.bincount(ids, minlength=5) / count


def test_ids_come_as_often_as_they_are_likely():
    assert np.allclose(drawn(Draw(1)), np.exp(LOGITS[0]), atol=0.03)
    hot = np.exp(LOGITS[0] / 2)
    assert np.allclose(drawn(Draw(1, temperature=2.0)), hot / hot.sum(), atol=0.03)


def test_the_filters_see_what_the_temperature_made_and_each_other():
    # At temperature 2 the masses are 0.35, 0.22, 0.22, 0.12, 0.10: 0.6 takes three ids, not two.
    assert np.flatnonzero(drawn(Draw(1, 2.0, top_p=0.6), 500)).tolist() == [0, 1, 2]
    # Of two likeliest ids (0.71, 0.29) top-p 0.7 keeps the first; of all five it keeps two.
    narrow = np.log(np.array([[0.5, 0.2, 0.15, 0.1, 0.05]]))
    both = Draw(1, top_k=2, top_p=0.7)
    assert {int(both.choose(narrow, ALL, [0])[0]) for _ in range(200)} == {0}


def test_what_is_forbidden_counts_in_no_filter():
    allowed = np.array([[False, False, True, True, True]])
    shares = drawn(Draw(1, temperature=5.0), 500, allowed)
    assert not shares[:2].any() and shares[2:].all()
    assert np.flatnonzero(drawn(Draw(1, top_k=1), 20, allowed)).tolist() == [2]
    assert np.flatnonzero(drawn(Draw(1, min_p=0.9), 20, allowed)).tolist() == [2]
    with pytest.raises(GenerationError):
        Draw(1).choose(LOGITS, np.zeros((1, 5), dtype=bool), [0])


def test_further_rules_come_before_the_filters():
    ban = Draw(1, top_k=1, rules=(lambda logits: np.where(np.arange(5) == 0, -np.inf, logits),))
    assert {int(ban.choose(LOGITS, ALL, [0])[0]) for _ in range(50)} <= {1, 2}


def test_a_sample_has_a_stream_of_its_own():
    def ids(draw: Draw, row: int) -> list[int]:
        return [int(draw.choose(LOGITS, ALL, [row])[0]) for _ in range(40)]

    together, alone = Draw(7), Draw(7)
    batch = np.array([together.choose(np.repeat(LOGITS, 3, 0), np.repeat(ALL, 3, 0), [0, 1, 2])
                      for _ in range(40)])  # fmt: skip
    assert batch[:, 2].tolist() == ids(alone, 2) == ids(Draw(7).shifted(2), 0)
    assert batch[:, 0].tolist() != batch[:, 1].tolist()
    assert ids(Draw(8), 2) != ids(Draw(7), 2)


def test_noise_is_of_the_streams_too():
    whole = Draw(3).noise((4, 2), [0, 1])
    assert whole.shape == (2, 4, 2)
    assert np.array_equal(Draw(3).shifted(1).noise((4, 2), [0]), whole[1:])


@pytest.mark.parametrize(
    "wrong",
    [
        {"seed": -1},
        {"seed": 2**63},
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"temperature": 1e-310},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": float("nan")},
        {"min_p": 1.1},
        {"min_p": float("nan")},
    ],
)
def test_what_makes_no_sense_is_said_at_once(wrong):
    with pytest.raises(UsageError):
        Draw(**wrong)


def test_guidance_is_the_formula():
    assert np.allclose(rules.guide(np.array([3.0]), np.array([1.0]), 2.0), [5.0])


def test_where_one_id_is_left_no_logits_are_needed():
    allowed = np.zeros((3, 7), dtype=bool)
    allowed[[0, 1, 2], [4, 0, 6]] = True
    logits = np.random.default_rng(0).standard_normal((3, 7))
    drawn, told = Draw(seed=5), Draw(seed=5)
    assert drawn.choose(logits, allowed, [0, 1, 2]).tolist() == [4, 0, 6]
    assert told.only(allowed, [0, 1, 2]).tolist() == [4, 0, 6]
    everything = np.ones((3, 7), dtype=bool)  # and the streams stand where they stood
    assert np.array_equal(
        drawn.choose(logits, everything, [0, 1, 2]), told.choose(logits, everything, [0, 1, 2])
    )


def test_a_draw_does_not_depend_on_what_stands_beside_it():
    logits = np.random.default_rng(1).standard_normal((1, 50)) * 4
    wide = np.full((1, 90), 3.0)
    wide[:, 20:70] = logits
    allowed = np.zeros((1, 90), dtype=bool)
    allowed[:, 20:70] = True
    everything = np.ones((1, 50), dtype=bool)
    one, two = Draw(seed=2), Draw(seed=2)
    for _ in range(200):
        assert one.choose(logits, everything, [0]) + 20 == two.choose(wide, allowed, [0])
