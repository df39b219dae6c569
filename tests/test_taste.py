"""A designer's taste: the fit, what it knows, what it asks, and the file of ratings."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from musegen.design.liked import features_of_cover, features_of_piece, in_order
from musegen.design.taste import LAPSE, PRIOR, Rating, Taste, add_rating, read_ratings
from musegen.errors import DataError, UsageError
from musegen.music.score import NOTE_DTYPE, Score, Track


def rating(a, b, kind="bar"):
    return Rating(kind, {"x": a[0], "y": a[1]}, {"x": b[0], "y": b[1]}, ("a", "b"))


def test_the_fit_by_hand():
    """One rating, one feature: the gradient of the posterior is zero where the fit stops."""
    taste = Taste.fit([Rating("bar", {"x": 1.0}, {"x": 0.0})])
    (w,) = taste.weights
    p = LAPSE / 2 + (1 - LAPSE) / (1 + np.exp(-w))
    sigma = 1 / (1 + np.exp(-w))
    assert -(1 - LAPSE) * sigma * (1 - sigma) / p + w / PRIOR**2 == pytest.approx(0, abs=1e-6)
    assert w > 0 and taste.converged and taste.note == "" and taste.ratings == 1
    # The wrong form, without a prior, goes on without end after a single answer.
    assert w < 2


def test_more_ratings_say_more():
    few, many = (Taste.fit([rating((1, 0), (0, 0))] * count) for count in (1, 10))
    assert many.weights[0] > few.weights[0] > 0
    assert few.weights[1] == pytest.approx(0, abs=1e-6)
    assert np.linalg.det(many.precision) > np.linalg.det(few.precision)
    against = Taste.fit([rating((1, 0), (0, 0)), rating((0, 0), (1, 0))])
    assert against.weights[0] == pytest.approx(0, abs=1e-6)


def test_draws_have_laplaces_covariance():
    taste = Taste.fit([rating((1, 0), (0, 0.5)), rating((0.5, 1), (-0.5, 0))] * 4)
    rng = np.random.default_rng(0)
    drawn = np.array([taste.drawn(rng) for _ in range(20_000)])
    np.testing.assert_allclose(drawn.mean(0), taste.weights, atol=0.05)
    np.testing.assert_allclose(np.cov(drawn.T), np.linalg.inv(taste.precision), atol=0.1)


def test_it_says_when_it_has_not_converged():
    huge = [Rating("bar", {"x": 1e4, "y": -3e3}, {"x": -2e4, "y": 8.0}) for _ in range(3)]
    huge += [Rating("bar", {"x": -9e3, "y": 1.0}, {"x": 3e4, "y": 7e3})]
    taste = Taste.fit(huge, iterations=1)
    assert not taste.converged and "has not converged" in taste.note


def test_a_pair_is_two_and_the_seed_says_which():
    candidates = [{"x": k / 5, "y": -k / 9} for k in range(6)]
    taste = Taste.prior(["x", "y"])
    pairs = {taste.next_pair(candidates, np.random.default_rng(seed)) for seed in range(30)}
    assert all(a != b for a, b in pairs) and len(pairs) > 1
    one = taste.next_pair(candidates, np.random.default_rng(3))
    assert one == taste.next_pair(candidates, np.random.default_rng(3))
    with pytest.raises(UsageError, match="two designs"):
        taste.next_pair(candidates[:1], np.random.default_rng(0))
    with pytest.raises(UsageError, match="have no y"):
        taste.scores([{"x": 1.0}])


def test_asking_by_draws_is_better_than_at_random():
    """A simulated designer who likes by weights, and 15 comparisons."""
    torch.set_num_threads(1)
    left = {True: [], False: []}
    for seed in range(6):
        for thompson in left:
            rng = np.random.default_rng(seed)
            matrix = rng.uniform(-1, 1, (80, 4))
            liking = matrix @ rng.standard_normal(4)
            candidates = [dict(zip("abcd", row, strict=True)) for row in matrix.tolist()]
            taste, ratings = Taste.prior("abcd"), []
            for _ in range(15):
                pair = (
                    taste.next_pair(candidates, rng)
                    if thompson
                    else rng.choice(80, 2, replace=False).tolist()
                )
                liked, other = sorted(pair, key=lambda k: -liking[k])
                ratings.append(Rating("bar", candidates[liked], candidates[other]))
                taste = Taste.fit(ratings)
            best = taste.order(candidates)[0]
            left[thompson].append((liking.max() - liking[best]) / (liking.max() - liking.mean()))
    assert np.mean(left[True]) < 0.08 and np.mean(left[True]) <= np.mean(left[False])


# --- The file -------------------------------------------------------------------------------------


def test_ratings_are_carried_in_a_file(tmp_path):
    path = tmp_path / "deep" / "ratings.jsonl"
    ratings = [rating((1, 0), (0, 0)), rating((0, 1), (0, 0), kind="cover")]
    for one in ratings:
        add_rating(path, one)
    assert read_ratings(path) == ratings
    assert read_ratings(path, "cover") == ratings[1:]
    assert all(json.loads(line)["format"] == 1 for line in path.read_text().splitlines())
    with pytest.raises(DataError, match="holds ratings of bar, cover, none of piece"):
        read_ratings(path, "piece")


@pytest.mark.parametrize(
    "line",
    ["{", "[]", '{"format": 2}', '{"format": 1, "kind": "bar", "names": ["a", "b"]}', "null",
     '{"format": 1, "kind": "b", "names": ["a", "b"], "liked": {"x": NaN}, "other": {"x": 1}}',
     '{"format": 1, "kind": "b", "names": ["a", "b"], "liked": {"x": 1}, "other": {"y": 1}}'],
)  # fmt: skip
def test_damaged_lines_are_named(tmp_path, line):
    path = tmp_path / "ratings.jsonl"
    add_rating(path, rating((1, 0), (0, 0)))
    with path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(DataError, match=r"ratings\.jsonl:2: no rating"):
        read_ratings(path)


def test_files_that_hold_none(tmp_path):
    path = tmp_path / "ratings.jsonl"
    with pytest.raises(DataError, match="no such file"):
        read_ratings(path)
    path.write_text("\n \n")
    with pytest.raises(DataError, match="holds no ratings yet"):
        read_ratings(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="cannot be read"):
        read_ratings(path)
    with pytest.raises(UsageError, match="no ratings"):
        Taste.fit([])
    with pytest.raises(UsageError, match="other features: z"):
        sides = ({"x": 0.0, "y": 0.0, "z": 1.0}, {"x": 0.0, "y": 0.0, "z": 0.0})
        Taste.fit([rating((1, 0), (0, 0)), Rating("bar", *sides)])


# --- Pieces and covers ----------------------------------------------------------------------------


def piece(pitch, velocity=90, program=0):
    notes = np.array([(k * 480, 480, pitch + k % 5, velocity) for k in range(16)], NOTE_DTYPE)
    return Score(tracks=(Track(notes=notes, program=program),))


def test_pieces_and_covers_have_features_of_about_one():
    low, high = (features_of_piece(piece(pitch)) for pitch in (36, 84))
    assert set(low) == set(high) and all(-1 <= v <= 1 for v in (*low.values(), *high.values()))
    assert low["register"] < 0 < high["register"]
    assert (
        features_of_piece(piece(60, 120))["loudness"] > features_of_piece(piece(60, 30))["loudness"]
    )
    assert all(np.isfinite(v) for v in features_of_piece(Score(tracks=())).values())
    plain, busy = np.full((16, 16), 255, np.uint8), np.full((16, 16), 255, np.uint8)
    plain[4:12, 4:12], busy[::2, ::2] = 0, 0
    one, two = features_of_cover(plain, "rings"), features_of_cover(busy, "bars")
    assert one["symmetric"] == pytest.approx(1) and one["rings"] == 1 and two["rings"] == -1
    assert two["detailed"] > one["detailed"]
    assert all(
        np.isfinite(v) for v in features_of_cover(np.full((8, 8), 255, np.uint8), "").values()
    )


def test_a_taste_puts_pieces_in_order(tmp_path):
    scores = [piece(pitch) for pitch in (36, 60, 84)]
    told = [features_of_piece(one) for one in scores]
    path = tmp_path / "ratings.jsonl"
    for one, other in ((2, 0), (2, 1), (1, 0)):
        add_rating(path, Rating("piece", told[one], told[other]))
    assert in_order(scores, told, "piece", path) == scores[::-1]
