"""What an autoencoder of bars is measured by, on bars made by hand and with random weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cli import main

from musegen.bar_model import BarModel
from musegen.data.shards import ShardSet
from musegen.errors import DataError, UsageError
from musegen.evaluation.bar_ways import blend, latents_of, way_figures
from musegen.evaluation.bars import (
    KINDS,
    bars_markdown,
    evaluate_bars,
    held_out_bars,
    signature,
)
from musegen.ideas import evaluate
from musegen.tokens.tokenizer import load_tokenizer
from musegen.tokens.ways import f1, notes_of
from musegen.training.checkpoint import save_model

from .bar_songs import random_network, shards_of, song


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("events")


@pytest.fixture(scope="module")
def network(tokenizer):
    return random_network(tokenizer)


@pytest.fixture(scope="module")
def model(network, tokenizer):
    return BarModel(network, tokenizer, "random")


def bar(*notes: tuple[int, int, int]) -> list[np.ndarray]:
    """One track of (head, pitch id, duration)."""
    return [np.array([(head, pitch, 16, length) for head, pitch, length in notes]).reshape(-1, 4)]


A = bar((8, 61, 12), (20, 65, 12))
B = bar((8, 61, 12), (20, 68, 12))
C = bar((14, 70, 6), (32, 72, 6))


def test_f1_counts_notes_in_both() -> None:
    assert f1(notes_of(A), notes_of(A)) == 1.0
    assert f1(notes_of(A), notes_of(B)) == 0.5
    assert f1(notes_of(A), notes_of(C)) == 0.0
    assert f1(set(), set()) == 1.0 and f1(notes_of(A), set()) == 0.0
    longer = bar((8, 61, 24), (20, 65, 12))
    assert f1(notes_of(A), notes_of(longer)) == 1.0
    assert f1(notes_of(A, durations=True), notes_of(longer, durations=True)) == 0.5


def test_the_same_notes_of_two_tracks_are_not_one() -> None:
    assert len(notes_of([A[0], A[0]])) == 4


def test_a_bar_is_known_in_any_key() -> None:
    up = bar((8, 64, 3), (20, 68, 12))
    assert signature(A) == signature(up) != signature(B)
    assert signature([A[0][:0]]) == frozenset()


def test_an_even_way_is_monotone_and_one_jump_is_not_even() -> None:
    steps = [A, B, C]
    share, jump = way_figures(steps)
    assert share == 1.0 and jump == pytest.approx(1.0 / 0.75)
    share, jump = way_figures([A, A, A, C])
    assert share == 1.0 and jump == pytest.approx(3.0)
    share, _ = way_figures([A, C, A, C])  # there and back
    assert share == pytest.approx(2 / 3)
    assert way_figures([A, A]) == (1.0, 1.0)


def test_a_blend_begins_with_one_and_ends_with_the_other() -> None:
    for share, whole in ((0.0, A), (1.0, C)):
        mixed = blend(A, C, share, np.random.default_rng(0))
        assert notes_of(mixed) == notes_of(whole)
    half = [blend(A, C, 0.5, np.random.default_rng(seed)) for seed in range(20)]
    assert all(notes_of(one) <= notes_of(A) | notes_of(C) for one in half)
    assert len({frozenset(notes_of(one)) for one in half}) > 3
    share, _ = way_figures([blend(A, C, s, np.random.default_rng(1)) for s in np.linspace(0, 1, 9)])
    assert share == 1.0


@pytest.fixture(scope="module")
def shards(tmp_path_factory, tokenizer) -> ShardSet:
    folder: Path = tmp_path_factory.mktemp("bars")
    splits = ("train", "train", "valid", "test")
    songs = [(song(4 + k, program=0 if k % 2 else 40), splits[k // 2]) for k in range(8)]
    return shards_of(folder, tokenizer, songs)


def test_held_out_bars_are_of_their_kind(model, shards) -> None:
    for kind in KINDS:
        found = held_out_bars(model, shards, ("valid",), kind, 6, 0)
        assert len(found) == 6
        assert {bar.piece for bar in found} == {"all/4", "all/5"}
        tracks = {len(bar.shape.programs) for bar in found}
        assert tracks == ({3} if kind == KINDS[2] else {1})
    assert all(
        len(np.unique(b.notes[0][:, 0])) == len(b.notes[0])
        for b in held_out_bars(model, shards, ("valid",), KINDS[0], 6, 0)
    )


class Perfect:
    """A model that gives back what it was given: its latent is the number of the bar."""

    def __init__(self, real) -> None:
        self.tokenizer, self.config, self.real = real.tokenizer, real.config, real
        self.seen: list = []

    def encode(self, grid, refine=0):
        self.seen.append([grid.cell(0, track) for track in range(grid.num_tracks)])
        return self.real.encode(grid)[0], np.full((1, self.config.latent), len(self.seen) - 1.0)

    def decode(self, shapes, latents, **_):
        if latents is None:
            return [[np.zeros((0, 4), np.int64) for _ in shape.programs] for shape in shapes]
        return [self.seen[round(z[0])] for z in latents]


def test_what_comes_back_whole_has_f1_1_and_what_is_empty_0(model, shards) -> None:
    from musegen.evaluation.bars import prior_figures, reconstruction, training_bars

    bars = held_out_bars(model, shards, ("valid",), KINDS[2], 5, 0)
    perfect = Perfect(model)
    found = reconstruction(perfect, bars, latents_of(perfect, bars), 0.0, 0)
    assert found["f1"] == found["f1_with_duration_over_notes"] == found["exact"] == 1.0
    known = training_bars(model, shards)
    prior = prior_figures(type("Empty", (Perfect,), {"score": model.score})(model), bars, known, 0)
    assert prior["valid"] == prior["empty"] == 1.0 and prior["notes"] == prior["copies"] == 0.0
    # These songs repeat one another; where one ends its bars are its own.
    assert 0.5 < prior["held_out_copies"] <= 1.0


def test_the_same_evaluation_twice(model, shards) -> None:
    one, two = (evaluate_bars(model, shards, ("valid", "test"), 6, 3) for _ in range(2))
    assert json.dumps(one) == json.dumps(two)
    assert set(one["reconstruction"]) == set(KINDS)
    assert one["prior"]["valid"] == 1.0
    assert 0 <= one["interpolation"]["latent"]["monotone"] <= 1
    assert set(one["attributes"]) == set(KINDS[1:])
    for sliders in one["attributes"].values():
        assert set(sliders) == {"density", "rhythm", "polyphony"}
    assert all(0 < own["accuracy"] < 1 for own in one["reconstruction"].values())
    text = bars_markdown(one)
    assert "| several tracks | 6 |" in text and "| density |" in text


def test_bad_data_are_said(model, shards, tmp_path) -> None:
    with pytest.raises(UsageError, match="at least 2"):
        evaluate(shards.folder, model, num=1)
    with pytest.raises(DataError, match="no bars"):
        evaluate_bars(model, shards, (), 4, 0)


def test_the_verb_measures_bars(network, tokenizer, shards, tmp_path, capsys) -> None:
    folder = tmp_path / "weights"
    save_model(folder, "bar_vae", network, tokenizer.to_dict(), "card", {})
    command = ["evaluate", "--data", str(shards.folder), "--model", str(folder), "--num", "3"]
    assert main.run([*command, "--json", "-q"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert "nats_over_ends" in told["interpolation"]["latent"]
    assert main.run([*command, "--tasks", "fill"]) == 2
    assert "has no --tasks" in capsys.readouterr().err
