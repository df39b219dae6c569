"""The 5-gram baseline against probabilities counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from musegen.evaluation.ngram import LEAST_DISCOUNT, ngram_nats


def column(*ids: int) -> np.ndarray:
    return np.array(ids)[:, None]


def test_unigrams_are_discounted_counts_over_an_even_spread():
    # Of 6 ids (1..6): 1 three times, 2 twice, 3 once. One is met once, one twice: D = 1 / 3.
    train = [column(9, 1, 1, 1, 2, 2, 3)]
    nats = ngram_nats(train, [column(9, 1, 2, 3, 4)], [7], order=1)[0]
    discount, kinds, total = 1 / 3, 3, 6
    spread = discount * kinds / total / 6
    expected = [(count - discount) / total + spread for count in (3, 2, 1)] + [spread]
    assert np.exp(-nats[:, 0]) == pytest.approx(expected)


def test_bigrams_fall_back_on_continuations():
    # After 1: 2 twice, 3 once; after 2: 1 once (and the end). Continuations of length 1: each of
    # 2 (after 1), 3 (after 1), 1 (after 2, and after the given 4).
    train = [column(4, 1, 2, 1, 2), column(4, 1, 3)]
    nats = ngram_nats(train, [column(1, 2)], [5], order=2)[0]
    # Bigrams: (4,1) twice, (1,2) twice, (2,1) once, (1,3) once: D = 2 / (2 + 2 * 2) = 1 / 3.
    # Unigrams by kinds of contexts: 1 has two, 2 one, 3 one: D = 2 / (2 + 2 * 1) = 1 / 2.
    unigram = (1 - 1 / 2) / 4 + (1 / 2) * 3 / 4 * (1 / 4)
    bigram = (2 - 1 / 3) / 3 + (1 / 3) * 2 / 3 * unigram
    assert np.exp(-nats[0, 0]) == pytest.approx(bigram)


def test_probabilities_of_a_context_add_up_to_one():
    rng = np.random.default_rng(0)
    train = [rng.integers(1, 6, (50, 2)) for _ in range(4)]
    head = train[0][:4]
    for field in (0, 1):
        total = 0.0
        for value in range(1, 6):
            last = np.array([[3, 4]])
            last[0, field] = value
            nats = ngram_nats(train, [np.concatenate((head, last))], [6, 6])[0]
            total += float(np.exp(-nats[-1, field]))
        assert total == pytest.approx(1.0)


def test_what_was_never_met_costs_much_but_not_everything():
    train = [column(*([1, 2] * 20))]
    nats = ngram_nats(train, [column(1, 2, 1, 4)], [5])[0]
    assert np.isfinite(nats).all()
    assert nats[0, 0] < 0.2 and nats[-1, 0] > 3
    assert 0 < LEAST_DISCOUNT < 1


def test_nothing_here_costs_nothing_and_documents_do_not_touch():
    train = [np.array([[1, 1], [2, 0], [3, 2]])] * 3
    one, two = ngram_nats(train, [train[0], train[0]], [4, 3])
    assert one.shape == (2, 2) and one[0, 1] == 0.0
    assert one == pytest.approx(two)
    assert ngram_nats(train, [], [4, 3]) == []
