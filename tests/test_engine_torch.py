from __future__ import annotations

import numpy as np
import pytest
import torch

from musegen.errors import GenerationError
from musegen.guide import Engine
from musegen.models.transformer import Transformer
from musegen.sampling.engines.torch import GRID, PIECE, TorchEngine

from .engine_songs import KINDS, LENGTH, cut, equal, make, misused, play, song


@pytest.mark.parametrize("kind", KINDS)
def test_logits_do_not_depend_on_batch_cache_or_threads(kind):
    model = make(kind)
    songs = [song(model.config, seed) for seed in range(8)]
    together = play(TorchEngine(model), songs, list(range(8)))
    alone = {n: play(TorchEngine(model), songs, [n])[n] for n in range(8)}
    assert equal(together, alone), "batch 8 and batch 1"
    mixed = play(TorchEngine(model), songs, [5, 2, 7, 0])
    assert equal(mixed, together), "other neighbours, other slots"
    assert equal(together, play(TorchEngine(model, cache=False), songs, list(range(8)))), "cache"
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        found = play(TorchEngine(model), songs, [1, 3])
        assert equal(found, together), "threads"
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_those_of_the_model(kind):
    model = make(kind)
    config = model.config
    piece = song(config, 0)
    targets = np.roll(piece[0], -1, axis=0)
    batch = {
        "rows": torch.as_tensor(piece[0])[None],
        "targets": torch.as_tensor(targets)[None],
        "channels": torch.as_tensor(piece[1])[None],
        "coordinates": torch.as_tensor(piece[2])[None],
        "segments": torch.ones(1, LENGTH, dtype=torch.long),
    }
    double = Transformer(config).double().eval()
    double.load_state_dict({name: each.double() for name, each in model.state_dict().items()})
    with torch.no_grad():
        expected = [each[0].double().numpy() for each in double(batch)]
    engine = TorchEngine(model)
    assert isinstance(engine.max_positions, int) and engine.max_positions == config.context
    engine.extend({0: cut(piece, 0, 5, True)})
    for end in range(5, LENGTH):
        for field, logits in enumerate(expected):
            found = engine.logits([0], field, targets[end - 1 : end, :field])
            # the model rotates by float32 angles, the engine by float64 ones
            np.testing.assert_allclose(found[0], logits[end - 1], atol=2e-3)
            assert found.dtype == np.float64
            assert np.array_equal(found * GRID, np.round(found * GRID)), "on the grid"
        engine.extend({0: cut(piece, end, end + 1)})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-4), (torch.bfloat16, 0.15)])
def test_other_precisions_are_near_the_reference(kind, dtype, near):
    model = make(kind)
    songs = [song(model.config, seed) for seed in range(3)]
    expected = play(TorchEngine(model), songs, [0, 1, 2])
    found = play(TorchEngine(model, dtype=dtype), songs, [0, 1, 2])
    size = max(np.abs(logits).mean() for logits in expected[0])
    for number in expected:
        for one, two in zip(expected[number], found[number], strict=True):
            assert two.dtype == np.float64 and np.abs(one - two).mean() < near * size


def test_a_long_prompt_is_taken_in_by_pieces():
    model = make("mlp", context=3 * PIECE)
    piece = song(model.config, 3, 2 * PIECE + 30)
    whole, step = TorchEngine(model), TorchEngine(model)
    whole.open(3)
    whole.extend({0: cut(piece, 0, len(piece[0]), True), 2: cut(piece, 0, 3, True)})
    step.extend({0: cut(piece, 0, PIECE + 1, True)})
    for start in range(PIECE + 1, len(piece[0]), 50):
        step.extend({0: cut(piece, start, min(start + 50, len(piece[0])))})
    nothing = np.zeros((1, 0), np.int64)
    assert np.array_equal(whole.logits([0], 0, nothing), step.logits([0], 0, nothing))
    assert whole.length(0) == len(piece[0]) and whole.length(2) == 3


def test_restart_forgets():
    model = make("mlp")
    one, two = song(model.config, 0), song(model.config, 1)
    fresh, used = TorchEngine(model), TorchEngine(model)
    used.open(2)
    used.extend({0: cut(one, 0, 30, True), 1: cut(one, 0, 4, True)})
    used.extend({0: cut(two, 0, 9, True), 1: cut(one, 4, 5)})
    fresh.extend({0: cut(two, 0, 9, True)})
    nothing = np.zeros((1, 0), np.int64)
    assert np.array_equal(used.logits([0], 0, nothing), fresh.logits([0], 0, nothing))


def test_the_context_can_be_filled_to_the_last_position():
    model = make("mlp")
    piece = song(model.config, 0, 65)
    engine = TorchEngine(model)
    engine.open(2)
    engine.extend({0: cut(piece, 0, 60, True), 1: cut(piece, 0, 64, True)})
    before = engine.logits([1], 0, np.zeros((1, 0)))
    engine.extend({0: cut(piece, 60, 64)})  # ragged padding must not touch a full slot
    assert np.array_equal(before, engine.logits([1], 0, np.zeros((1, 0))))
    assert np.array_equal(*(engine.logits([slot], 0, np.zeros((1, 0))) for slot in (0, 1)))
    with pytest.raises(GenerationError, match="64 positions"):
        engine.extend({0: cut(piece, 64, 65)})
    longer = TorchEngine(model, max_positions=80)
    longer.extend({0: cut(piece, 0, 65, True)})


def test_wrong_use_is_said():
    misused(TorchEngine(make("flat")))


def test_the_engine_keeps_its_own_weights():
    model = make("mlp")
    piece = song(model.config, 0)
    engine = TorchEngine(model)
    engine.extend({0: cut(piece, 0, 9, True)})
    before = engine.logits([0], 0, np.zeros((1, 0)))
    for parameter in model.parameters():
        parameter.data.zero_()
    engine.extend({0: cut(piece, 0, 9, True)})
    assert np.array_equal(before, engine.logits([0], 0, np.zeros((1, 0))))


def test_it_is_an_engine():
    engine: Engine = TorchEngine(make("flat"))
    assert engine.field_sizes == (60,)


@pytest.mark.gpu
def test_the_gpu_is_near_the_cpu():
    model = make("mlp")
    songs = [song(model.config, seed) for seed in range(4)]
    cpu = play(TorchEngine(model), songs, list(range(4)))
    gpu = play(TorchEngine(model.cuda()), songs, list(range(4)))
    for number in cpu:
        for one, two in zip(cpu[number], gpu[number], strict=True):
            np.testing.assert_allclose(one, two, atol=1e-2)
