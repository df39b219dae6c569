"""Models, songs and a way to play them: what the tests of all engines share."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from musegen.errors import UsageError
from musegen.guide import Advance
from musegen.models.transformer import Transformer, TransformerConfig

KINDS = {
    "mlp": {
        "field_sizes": (40, 30, 9),
        "channels": (("a", 5), ("b", 7)),
        "axes": ("index", "time"),
        "axis_scales": (1.0, 0.5),
    },
    "layer": {"field_sizes": (40, 30, 9), "channels": (("a", 5),), "field_heads": "layer"},
    "relative": {"field_sizes": (40, 30, 9), "channels": (("a", 5),), "relative_heads": True},
    "flat": {"field_sizes": (60,)},
    "told": {"field_sizes": (60,), "channels": (("a", 5),)},
}
LENGTH = 32


def make(kind, **more):
    torch.manual_seed(1)
    config = TransformerConfig(
        **{"width": 48, "layers": 2, "heads": 4, "context": 64, **KINDS[kind], **more}
    )
    model = Transformer(config).eval()
    for parameter in model.parameters():  # logits far from flat
        parameter.data.mul_(3.0)
    return model


def song(config, seed, length=LENGTH):
    """Rows, side channels and coordinates of one sequence, with empty fields here and there."""
    rng = np.random.default_rng(seed)
    rows = np.stack([rng.integers(1, size, length) for size in config.field_sizes], -1)
    rows[::3, 1:] = 0
    channels = [rng.integers(0, size, length) for _, size in config.channels]
    channels = np.stack(channels, -1) if channels else np.zeros((length, 0), np.int64)
    places = np.stack([np.arange(length), *[np.cumsum(rng.random(length))] * 1], -1)
    return rows, channels, places[:, : len(config.axes)].astype(np.float64)


def cut(piece, start, end, restart=False):
    return Advance(*(part[start:end] for part in piece), restart=restart)


PACES = (1, 1, 7, 1, 3)
"""Rows that a sequence takes in at each step; another beginning for each, so lengths are ragged."""


def play(engine, songs, slots):
    """All logits of the songs in `slots`, played side by side; slot i plays songs[slots[i]]."""
    engine.open(len(slots))
    fields = len(engine.field_sizes)
    found = {number: [] for number in slots}
    ends = {i: 10 + number for i, number in enumerate(slots)}
    waiting = {i: cut(songs[number], 0, ends[i], True) for i, number in enumerate(slots)}
    turn = 0
    while waiting:
        engine.extend(waiting)
        live = sorted(waiting)
        for field in range(fields):
            chosen = np.stack([songs[slots[i]][0][ends[i] - 1][:field] for i in live])
            for i, logits in zip(live, engine.logits(live, field, chosen), strict=True):
                found[slots[i]].append(logits)
        waiting = {}
        for i in live:
            pace = PACES[(turn + slots[i]) % len(PACES)]
            last = LENGTH - 5 * slots[i] % 20  # they end at different times
            if ends[i] + pace <= last:
                waiting[i] = cut(songs[slots[i]], ends[i], ends[i] + pace)
                ends[i] += pace
        turn += 1
    return found


def equal(one, two):
    return all(
        len(one[number]) == len(two[number])
        and all(np.array_equal(a, b) for a, b in zip(one[number], two[number], strict=True))
        for number in one
    )


def misused(engine):
    """Wrong use of an engine over a flat model, which it must say."""
    piece = song(make("flat").config, 0)
    with pytest.raises(UsageError, match="0 sequences"):
        engine.open(0)
    with pytest.raises(UsageError, match="slot 3"):
        engine.extend({3: cut(piece, 0, 1, True)})
    with pytest.raises(UsageError, match="0 rows"):
        engine.extend({0: cut(piece, 0, 0, True)})
