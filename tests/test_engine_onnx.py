from __future__ import annotations

import numpy as np
import pytest
import torch

from musegen.errors import GenerationError, UsageError
from musegen.guide import Advance, Engine
from musegen.sampling.engines.guided import GuidedEngine
from musegen.sampling.engines.onnx import PIECE, OnnxEngine, OnnxModel
from musegen.sampling.engines.onnx_graph import BLOCK, build_graphs, quantised, shapes
from musegen.sampling.engines.torch import TorchEngine

from .engine_songs import KINDS, LENGTH, cut, equal, make, misused, play, song

NOTHING = np.zeros((1, 0), np.int64)
SHAPE = {"width": 64, "kv_heads": 2}
"""Heads of 16 numbers: the kernel takes multiples of 8."""

ALL = [kind for kind in KINDS if kind not in ("layer", "relative")]


def made(kind, **more):
    return make(kind, **{**SHAPE, **more})


def ready(model, precision="int8", threads=1):
    tensors = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    graphs = build_graphs(model.config, tensors, precision)
    return OnnxModel(model.config, graphs, tensors["model.embed_tokens.weight"], threads)


@pytest.mark.parametrize("kind", ALL)
def test_the_shapes_are_those_of_the_model(kind):
    model = made(kind)
    there = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert shapes(model.config) == there


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_logits_do_not_depend_on_batch_or_threads(kind, precision):
    model = made(kind)
    songs = [song(model.config, seed) for seed in range(8)]
    one = ready(model, precision)
    together = play(OnnxEngine(one), songs, list(range(8)))
    alone = {n: play(OnnxEngine(one), songs, [n])[n] for n in range(8)}
    assert equal(together, alone), "batch 8 and batch 1"
    mixed = play(OnnxEngine(one), songs, [5, 2, 7, 0])
    assert equal(mixed, together), "other neighbours, other slots"
    two = play(OnnxEngine(ready(model, precision, threads=2)), songs, [1, 3])
    assert equal(two, together), "threads"


@pytest.mark.parametrize("kind", ALL)
def test_logits_are_those_of_the_reference(kind):
    model = made(kind)
    songs = [song(model.config, seed) for seed in range(3)]
    expected = play(TorchEngine(model), songs, [0, 1, 2])
    exact = play(OnnxEngine(ready(model, "fp32")), songs, [0, 1, 2])
    rough = play(OnnxEngine(ready(model, "int8")), songs, [0, 1, 2])
    size = np.mean([np.abs(logits).mean() for logits in expected[0]])
    for number in expected:
        for one, two, three in zip(expected[number], exact[number], rough[number], strict=True):
            np.testing.assert_allclose(one, two, atol=1e-4)
            assert two.dtype == three.dtype == np.float64
            assert np.abs(one - three).mean() < 0.1 * size


def test_a_long_prompt_is_taken_in_by_pieces():
    model = made("mlp", context=PIECE + 200)
    piece = song(model.config, 3, PIECE + 30)
    one = ready(model, "fp32")
    whole, step = OnnxEngine(one), OnnxEngine(one)
    whole.open(3)
    whole.extend({0: cut(piece, 0, len(piece[0]), True), 2: cut(piece, 0, 3, True)})
    step.extend({0: cut(piece, 0, 300, True)})
    for start in range(300, len(piece[0]), 50):
        step.extend({0: cut(piece, start, min(start + 50, len(piece[0])))})
    np.testing.assert_allclose(
        whole.logits([0], 0, NOTHING), step.logits([0], 0, NOTHING), atol=1e-4
    )
    assert whole.length(0) == len(piece[0]) and whole.length(2) == 3


class Counting:
    """Counts the rows that go through the graph."""

    def __init__(self, engine):
        self.rows = 0
        inner = engine._embed

        def embed(new, *others):
            self.rows += len(new.rows)
            inner(new, *others)

        engine._embed = embed


def test_equal_prompts_are_computed_once():
    model = made("mlp")
    piece, other = song(model.config, 0), song(model.config, 1)
    engine = OnnxEngine(ready(model))
    engine.open(4)
    counting = Counting(engine)
    prompts = {slot: cut(piece, 0, 20, True) for slot in (0, 1, 3)}
    engine.extend({**prompts, 2: cut(other, 0, 20, True)})
    assert counting.rows == 40
    logits = engine.logits([0, 1, 2, 3], 1, piece[0][20:21, :1].repeat(4, 0))
    assert np.array_equal(logits[0], logits[1]) and np.array_equal(logits[0], logits[3])
    assert not np.array_equal(logits[0], logits[2])
    engine.extend({slot: cut(piece, 20, 21) for slot in range(4)})  # and they go on alike
    logits = engine.logits([0, 1, 2, 3], 0, np.zeros((4, 0)))
    assert np.array_equal(logits[0], logits[3]) and not np.array_equal(logits[0], logits[2])


@pytest.mark.parametrize("kind", ["mlp", "flat"])
def test_a_restart_keeps_the_rows_that_are_there(kind):
    model = made(kind)
    one, two = song(model.config, 0), song(model.config, 1)
    mixed = tuple(np.concatenate((a[:12], b[12:])) for a, b in zip(one, two, strict=True))
    ready_model = ready(model, "fp32")
    used, fresh = OnnxEngine(ready_model), OnnxEngine(ready_model)
    counting = Counting(used)
    used.extend({0: cut(one, 0, 9, True)})
    for row in range(9, 20):
        used.extend({0: cut(one, row, row + 1)})
    assert counting.rows == 20
    used.extend({0: cut(mixed, 0, 25, True)})
    fresh.extend({0: cut(mixed, 0, 25, True)})
    assert counting.rows == 20 + 13 and used.length(0) == fresh.length(0) == 25
    np.testing.assert_allclose(
        used.logits([0], 0, NOTHING), fresh.logits([0], 0, NOTHING), atol=1e-4
    )
    used.extend({0: cut(mixed, 0, 25, True)})  # the last row is computed: it predicts
    assert counting.rows == 20 + 13 + 1
    used.extend({0: cut(two, 0, 5, True)})
    assert counting.rows == 20 + 13 + 1 + 5


def test_the_torch_engine_keeps_them_too():
    model = make("mlp")
    one = song(model.config, 0)
    engine, whole = TorchEngine(model), TorchEngine(model, cache=False)
    for each in (engine, whole):
        each.extend({0: cut(one, 0, 20, True)})
        each.extend({0: cut(one, 0, 30, True)})
    assert engine.length(0) == whole.length(0) == 30
    assert np.array_equal(engine.logits([0], 0, NOTHING), whole.logits([0], 0, NOTHING))


def test_the_context_can_be_filled_to_the_last_position():
    model = made("mlp")
    piece = song(model.config, 0, 65)
    engine = OnnxEngine(ready(model))
    engine.open(2)
    engine.extend({0: cut(piece, 0, 60, True), 1: cut(piece, 0, 63, True)})
    engine.extend({0: cut(piece, 60, 63)})
    engine.extend({slot: cut(piece, 63, 64) for slot in (0, 1)})
    with pytest.raises(GenerationError, match="64 positions"):
        engine.extend({0: cut(piece, 64, 65)})


def test_wrong_use_is_said():
    misused(OnnxEngine(ready(made("flat"))))
    with pytest.raises(UsageError, match="field heads of a layer"):
        build_graphs(make("layer", **SHAPE).config, {}, "int8")
    with pytest.raises(UsageError, match="relative heads"):
        build_graphs(make("relative", **SHAPE).config, {}, "int8")


def test_it_guides():
    model = made("mlp")
    piece = song(model.config, 0)
    engine: Engine = OnnxEngine(ready(model))
    plain, told = OnnxEngine(ready(model)), GuidedEngine(engine, [0], 1.0)
    for each in (plain, told):
        each.open(1)
        each.extend({0: cut(piece, 0, LENGTH, True)})
    np.testing.assert_allclose(plain.logits([0], 0, NOTHING), told.logits([0], 0, NOTHING))
    assert isinstance(cut(piece, 0, 1), Advance)


@pytest.mark.parametrize("inputs", [BLOCK, 3 * BLOCK, BLOCK + 7, 5])
def test_bytes_are_near_the_matrix(inputs):
    rng = np.random.default_rng(inputs)
    weight = rng.standard_normal((6, inputs)).astype(np.float32)
    weight[2] = 0.0
    values, scales = quantised(weight)
    assert values.dtype == np.uint8 and scales.dtype == np.float32
    back = ((values.astype(np.float32) - 128) * scales[..., None]).reshape(6, -1)
    assert not back[:, inputs:].any()
    largest = np.abs(weight).max()
    np.testing.assert_allclose(back[:, :inputs], weight, atol=0.51 * largest / 127)
    assert torch.equal(torch.from_numpy(back[2]), torch.zeros(back.shape[1]))
