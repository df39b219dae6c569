"""Which engine computes, where and in which precision, as the user asked or as is best.

Known before anything is loaded: a wish that cannot be granted is refused at once, and composing on
the CPU imports no torch.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from musegen.config import nearest
from musegen.errors import DeviceError, UsageError
from musegen.models.transformer_config import TransformerConfig

__all__ = ["ENGINES", "EngineChoice", "choose_engine"]

ENGINES = {"onnx": ("int8", "fp32"), "torch": ("fp64", "fp32", "bf16")}
"""The engines, and what each computes in; the first is what it takes by itself on the CPU."""


@dataclass(frozen=True)
class EngineChoice:
    """What computes the logits."""

    engine: str
    """A key of `ENGINES`."""
    precision: str
    """One of the engine's; of torch also `auto`: fp64 on the CPU, fp32 elsewhere."""
    device: str
    """`cpu`, `cuda`, `cuda:1`, `mps`; of torch also `auto`."""


def choose_engine(
    config: object, engine: str = "auto", precision: str = "auto", device: str = "auto"
) -> EngineChoice:
    """The engine for a model of this shape.

    `auto` is ONNX Runtime in int8 on the CPU, which is fastest for a few pieces at once; torch
    where the model, the device or the precision asks for it.

    Raises:
        UsageError: no such engine or precision, or they do not go together.
        DeviceError: the engine is not installed.
    """
    _known("engine", engine, ["auto", *ENGINES])
    every = [one for precisions in ENGINES.values() for one in precisions]
    _known("precision", precision, ["auto", *dict.fromkeys(every)])
    reason = _against_onnx(config, precision, device)
    if engine == "onnx" and reason:
        raise UsageError(f"the onnx engine {reason}; use --engine torch")
    if engine != "torch" and not reason:
        lacking = [name for name in ("onnxruntime", "onnx") if not _installed(name)]
        if not lacking:
            return EngineChoice("onnx", "int8" if precision == "auto" else precision, "cpu")
        if engine == "onnx" or precision == "int8":
            raise DeviceError(
                f"the onnx engine is not installed: pip install {' '.join(lacking)}, "
                "or use --engine torch"
            )
    if precision == "int8":
        told = f"the onnx engine {reason}" if engine == "auto" else "the torch engine has none"
        raise UsageError(f"precision int8: {told}; leave --precision out")
    if device == "cpu" and precision == "bf16":
        raise UsageError("precision bf16 is for --device cuda; on the CPU it is fp64 or fp32")
    if precision == "fp64" and device.startswith("mps"):
        raise UsageError("precision fp64: mps has none; use fp32, or --device cpu")
    return EngineChoice("torch", precision, device)


def _against_onnx(config: object, precision: str, device: str) -> str:
    """Why the onnx engine cannot do it; empty when it can."""
    if device not in ("auto", "cpu"):
        return f"computes on the CPU, not on {device}"
    if precision not in ("auto", *ENGINES["onnx"]):
        return f"computes in {' or '.join(ENGINES['onnx'])}, not in {precision}"
    if not isinstance(config, TransformerConfig):
        return "computes transformers only"
    if len(config.field_sizes) > 1 and config.field_heads != "mlp":
        return f"has no field_heads = {config.field_heads!r}"
    if config.relative_heads:
        return "has no relative_heads"
    if config.head_size % 8:
        return f"needs heads of a multiple of 8 numbers, and these have {config.head_size}"
    return ""


def _known(what: str, value: str, known: list[str]) -> None:
    if value not in known:
        raise UsageError(f"unknown {what} '{value}'; {nearest(value, known)}")


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None
