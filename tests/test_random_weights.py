"""From random weights, at a high temperature: every sample is a valid score of the asked bars."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import musegen
from musegen.music.check import check_midi
from musegen.music.midi import read_midi

from .test_api import seed_score, write_model

ASKED = [
    {"instruments": ["piano"], "bars": 2},
    {"instruments": ["piano", "bass", "drums"], "bars": 1, "time_signature": "6/8"},
    {"instruments": ["violin", "violin", "viola", "cello"], "bars": 2, "time_signature": "3/4"},
    {"instruments": ["drums"], "bars": 3, "time_signature": "7/8"},
    {"seed": seed_score(), "bars": 2},
]
"""What is asked, in turn."""


def check_samples(folder: Path, count: int, temperature: float = 2.0) -> int:
    """Composes `count` pieces from random weights and checks each; returns how many."""
    done = 0
    for number, asked in enumerate(ASKED):
        own = {**asked}
        seed = own.pop("seed", None)
        model = musegen.Model.from_pretrained(
            write_model(folder / f"weights-{number}", seed=number), device="cpu"
        )
        pieces = musegen.compose(
            seed,
            num=count // len(ASKED),
            temperature=temperature,
            random_seed=number,
            model=model,
            **own,
        )
        seed_bars = len(seed.bars()) if seed is not None else 0
        for piece in pieces:
            data = piece.to_bytes()
            assert check_midi(data) == []
            score, _ = read_midi(data)
            assert len(score.bars()) == seed_bars + asked["bars"]
            assert score.num_notes > (seed.num_notes if seed is not None else 0)
            assert all(np.all(track.notes["duration_tick"] > 0) for track in score.tracks)
            done += 1
    return done


def test_a_few_samples_from_random_weights(tmp_path):
    assert check_samples(tmp_path, 20) == 20


@pytest.mark.slow
def test_a_thousand_samples_from_random_weights(tmp_path):
    assert check_samples(tmp_path, 1000) == 1000
