"""Which device computes, and in which precision."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from musegen.errors import DeviceError

__all__ = ["batch_workers", "computes_bf16", "lacks_compiler", "pinned", "resolve_device"]


def resolve_device(name: str = "auto") -> torch.device:
    """auto: CUDA, then Apple's MPS, then the CPU. Raises DeviceError for one that is absent."""
    cuda = torch.cuda.is_available()
    mps = torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (index and not index.isdigit()):
        raise DeviceError(f"unknown device '{name}'; choose auto, cpu, cuda or mps")
    if (kind == "cuda" and not cuda) or (kind == "mps" and not mps):
        raise DeviceError(f"the device '{name}' is not there; use --device auto or cpu")
    if kind == "cuda" and index and int(index) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise DeviceError(f"the device '{name}' is not there: {count} found, from cuda:0")
    return torch.device(name)


def computes_bf16(device: torch.device) -> bool:
    """Whether matrix products in bfloat16 run on units made for them."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        known = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in _CPU_UNITS)
        return any(supported() for supported in known if supported is not None)
    return False


def batch_workers(device: torch.device, processes: int = 1) -> int:
    """How many processes should make batches beside a training on `device`; 0: a thread will do.

    A GPU takes a batch sooner than one thread of Python makes it; the cores of a CPU are busy.
    """
    if device.type != "cuda":
        return 0
    return max(1, min(6, (os.cpu_count() or 1) // processes - 1))


def pinned(batch: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """A batch in memory that a GPU copies from by itself, while the next step is prepared."""
    return {name: torch.as_tensor(array).pin_memory() for name, array in batch.items()}


_CPU_UNITS = ("amx_tile", "avx512_bf16")
"""Units of x86 processors with bfloat16 products, as torch.cpu names its questions."""


def lacks_compiler(device: torch.device) -> str:
    """What `torch.compile` would need on this device and is not there; empty when all is."""
    if device.type == "cuda":
        return "" if importlib.util.find_spec("triton") else "triton is not installed"
    if device.type != "cpu":
        return f"there is none for {device.type}"
    named = os.environ.get("CXX", "")
    if any(shutil.which(name) for name in (named, "g++", "clang++", "cl") if name):
        return ""
    return "no C++ compiler was found (g++ or clang++, or CXX)"
