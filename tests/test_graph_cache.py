from __future__ import annotations

import numpy as np
import pytest

from musegen.sampling.engines import graph_cache
from musegen.sampling.engines.graph_cache import graphs_of, read_graphs

from .engine_songs import make

HASH = "ab" * 32


@pytest.fixture(scope="module")
def model():
    return make("mlp", width=64, kv_heads=2)


class Weights:
    """Counts how often the weights are read."""

    def __init__(self, model):
        self.tensors = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
        self.read = 0

    def __call__(self):
        self.read += 1
        return self.tensors


def test_graphs_are_built_once(model, tmp_path):
    weights = Weights(model)
    folder = tmp_path / "not" / "there"
    built = graphs_of(model.config, weights, HASH, "int8", [folder])
    again = graphs_of(model.config, weights, HASH, "int8", [folder])
    assert weights.read == 1 and set(built[0]) == {"step", "field.1", "field.2"}
    assert built[0] == again[0] and np.array_equal(built[1], again[1])
    assert built[2] == again[2] == ""
    assert [path.name for path in folder.iterdir()] == [f"engine-int8-{HASH[:16]}.safetensors"]
    graphs_of(model.config, weights, HASH, "fp32", [folder])
    graphs_of(model.config, weights, "cd" * 32, "int8", [folder])
    assert weights.read == 3 and len(list(folder.iterdir())) == 3


def cut_short(data):
    return data[:-1000]


def another_byte(data):
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def no_file(data):
    return b"something else"


def other_weights(data):
    return data.replace(HASH.encode(), (HASH[:16] + "cd" * 24).encode())


@pytest.mark.parametrize("harm", [cut_short, another_byte, no_file, other_weights])
def test_a_file_that_does_not_fit_is_built_anew(harm, model, tmp_path):
    weights = Weights(model)
    built = graphs_of(model.config, weights, HASH, "int8", [tmp_path])
    [path] = tmp_path.iterdir()
    path.write_bytes(harm(path.read_bytes()))
    again = graphs_of(model.config, weights, HASH, "int8", [tmp_path])
    assert again[0] == built[0] and weights.read == 2
    assert str(path) in again[2] and "\n" not in again[2]
    assert graphs_of(model.config, weights, HASH, "int8", [tmp_path])[2] == "" and weights.read == 2


def test_another_version_is_built_anew(model, tmp_path, monkeypatch):
    graphs_of(model.config, Weights(model), HASH, "int8", [tmp_path])
    monkeypatch.setattr(graph_cache, "VERSION", "another")
    weights = Weights(model)
    assert "built anew" in graphs_of(model.config, weights, HASH, "int8", [tmp_path])[2]
    assert weights.read == 1


def test_a_folder_that_cannot_be_written_does_no_harm(model, tmp_path):
    (tmp_path / "file").write_text("")
    weights = Weights(model)
    bad, good = tmp_path / "file" / "in", tmp_path / "good"
    for _ in range(2):
        assert graphs_of(model.config, weights, HASH, "int8", [bad])[2] == ""
    assert weights.read == 2
    graphs_of(model.config, weights, HASH, "int8", [bad, good])
    graphs_of(model.config, weights, HASH, "int8", [bad, good])
    assert weights.read == 3 and len(list(good.iterdir())) == 1


def test_what_is_no_file_of_ours_is_none(tmp_path):
    (tmp_path / "x").write_bytes(b"")
    assert read_graphs(tmp_path / "x", {}) is None
    assert read_graphs(tmp_path / "y", {}) is None
