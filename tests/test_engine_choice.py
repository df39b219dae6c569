from __future__ import annotations

import importlib.util

import pytest

from musegen.errors import DeviceError, UsageError
from musegen.models.transformer_config import TransformerConfig
from musegen.sampling.engines.choice import EngineChoice, choose_engine

MODEL = TransformerConfig(field_sizes=(9, 9), width=64, heads=4)
RELATIVE = TransformerConfig(field_sizes=(9, 9), width=64, heads=4, relative_heads=True)
LAYER = TransformerConfig(field_sizes=(9, 9), width=64, heads=4, field_heads="layer")
ODD = TransformerConfig(field_sizes=(9,), width=48, heads=4)
ONNX = EngineChoice("onnx", "int8", "cpu")


@pytest.mark.parametrize(
    ("config", "asked", "choice"),
    [
        (MODEL, {}, ONNX),
        (MODEL, {"device": "cpu"}, ONNX),
        (MODEL, {"engine": "onnx"}, ONNX),
        (MODEL, {"precision": "int8"}, ONNX),
        (MODEL, {"precision": "fp32"}, EngineChoice("onnx", "fp32", "cpu")),
        (MODEL, {"precision": "fp64"}, EngineChoice("torch", "fp64", "auto")),
        (MODEL, {"engine": "torch"}, EngineChoice("torch", "auto", "auto")),
        (MODEL, {"engine": "torch", "precision": "fp32"}, EngineChoice("torch", "fp32", "auto")),
        (MODEL, {"device": "cuda:1"}, EngineChoice("torch", "auto", "cuda:1")),
        (MODEL, {"device": "cuda", "precision": "bf16"}, EngineChoice("torch", "bf16", "cuda")),
        (LAYER, {}, EngineChoice("torch", "auto", "auto")),
        (ODD, {"device": "cpu"}, EngineChoice("torch", "auto", "cpu")),
    ],
)
def test_what_is_chosen(config, asked, choice):
    assert choose_engine(config, **asked) == choice


@pytest.mark.parametrize(
    ("config", "asked", "words"),
    [
        (MODEL, {"engine": "onx"}, "unknown engine 'onx'; did you mean 'onnx'"),
        (MODEL, {"precision": "int4"}, "unknown precision 'int4'; did you mean 'int8'"),
        (
            MODEL,
            {"engine": "onnx", "device": "cuda"},
            "on the CPU, not on cuda; use --engine torch",
        ),
        (MODEL, {"engine": "onnx", "precision": "fp64"}, "int8 or fp32, not in fp64"),
        (MODEL, {"engine": "torch", "precision": "int8"}, "int8: the torch engine has none"),
        (
            MODEL,
            {"device": "cuda", "precision": "int8"},
            "int8: the onnx engine computes on the CPU",
        ),
        (MODEL, {"device": "cpu", "precision": "bf16"}, "bf16 is for --device cuda"),
        (MODEL, {"device": "mps", "precision": "fp64"}, "mps has none"),
        (LAYER, {"engine": "onnx"}, "no field_heads = 'layer'"),
        (RELATIVE, {"engine": "onnx"}, "no relative_heads"),
        (ODD, {"engine": "onnx"}, "multiple of 8 numbers, and these have 12"),
        (object(), {"engine": "onnx"}, "transformers only"),
    ],
)
def test_what_cannot_be(config, asked, words):
    with pytest.raises(UsageError) as raised:
        choose_engine(config, **asked)
    assert words in str(raised.value) and "\n" not in str(raised.value)


def test_without_onnx_runtime(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else real(name)
    )
    assert choose_engine(MODEL) == EngineChoice("torch", "auto", "auto")
    for asked in ({"engine": "onnx"}, {"precision": "int8"}):
        with pytest.raises(DeviceError, match="not installed: pip install onnxruntime, or"):
            choose_engine(MODEL, **asked)
