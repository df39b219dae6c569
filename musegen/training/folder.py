"""What a model's folder says, read without torch; the weights as numpy arrays.

The layout is that of musegen/training/checkpoint.py, which writes it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from musegen.config import from_dict, read_toml
from musegen.errors import CheckpointError, ConfigError, OutputError

__all__ = ["FORMAT", "Checkpoint", "check_out", "read_arrays", "read_checkpoint", "read_config"]

FORMAT = 1
"""Version of the layout of the folder; a later one is refused."""

JSON_LIMIT = 64 * 2**20
"""Bytes of the largest JSON or TOML file that is read: a vocabulary takes a few hundred kB."""


@dataclass(frozen=True)
class Checkpoint:
    """What a model folder says, weights aside."""

    folder: Path
    family: str
    settings: Mapping[str, Any]
    """The table [model] of config.toml."""
    summary: Mapping[str, Any]
    """The table [training]: steps, losses, data; for people."""
    musegen_version: str
    tokenizer: Mapping[str, Any]
    """tokenizer.json."""
    card: str
    """README.md."""

    @cached_property
    def weights_hash(self) -> str:
        """SHA-256 of model.safetensors when it was first asked for, in hexadecimal."""
        with (self.folder / "model.safetensors").open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def check_out(folder: str | Path, resume: bool) -> None:
    """Whether a run may write into `folder`: nothing that was trained before is overwritten.

    Raises OutputError: it is a file, or holds a run or a model and `resume` is not asked for.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file; give a folder for the model")
    if not resume and any((folder / name).exists() for name in ("last", "config.toml")):
        raise OutputError(
            f"{folder} holds a trained model: --resume goes on with it, another --out begins anew"
        )


def read_checkpoint(folder: str | Path) -> Checkpoint:
    """All of a model folder but the weights. Raises CheckpointError."""
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: there is no such model folder")
    for name in ("config.toml", "model.safetensors", "tokenizer.json"):
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder}: not a model folder, {name} is missing")
    _bounded(folder / "config.toml")
    try:
        tables = read_toml(folder / "config.toml")
    except ConfigError as error:
        raise CheckpointError(str(error)) from error
    about = tables.get("musegen")
    if not isinstance(about, dict) or not isinstance(about.get("format"), int):
        raise CheckpointError(f"{folder}/config.toml: no [musegen] format; not a musegen model")
    if about["format"] != FORMAT:
        raise CheckpointError(
            f"{folder}: format {about['format']} of model folders, this version reads {FORMAT}; "
            f"use the musegen that wrote it ({about.get('version', 'unknown')})"
        )
    family, settings = about.get("family"), tables.get("model")
    if not isinstance(family, str) or not isinstance(settings, dict):
        raise CheckpointError(f"{folder}/config.toml: the family or the table [model] is missing")
    summary = tables.get("training", {})
    card = folder / "README.md"
    return Checkpoint(
        folder=folder,
        family=family,
        settings=settings,
        summary=summary if isinstance(summary, dict) else {},
        musegen_version=str(about.get("version", "unknown")),
        tokenizer=_read_json(folder / "tokenizer.json"),
        card=_bounded(card).read_text("utf-8", "replace") if card.is_file() else "",
    )


def read_config(checkpoint: Checkpoint, registry: Mapping[str, Any]) -> Any:
    """The settings of the model of a checkpoint, by its family in `registry` (GENERATORS).

    Raises CheckpointError: an unknown family, or settings that are not its.
    """
    folder = checkpoint.folder
    if checkpoint.family not in registry:
        known = ", ".join(sorted(registry))
        raise CheckpointError(f"{folder}: unknown family '{checkpoint.family}'; known are {known}")
    where = f"{folder}/config.toml [model]"
    try:
        return from_dict(registry[checkpoint.family].config, checkpoint.settings, where)
    except ConfigError as error:
        raise CheckpointError(str(error)) from error


def read_arrays(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file as float32, after names and shapes were compared.

    Raises CheckpointError for a missing or damaged file, and for one of another model.
    """
    from safetensors import SafetensorError, deserialize

    try:
        found = dict(deserialize(path.read_bytes()))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: there is no such file") from error
    except (SafetensorError, OSError, ValueError) as error:
        told = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise CheckpointError(f"{path}: damaged, or not safetensors ({told})") from error
    if missing := sorted(set(shapes) - set(found)):
        raise CheckpointError(f"{path}: the tensor '{missing[0]}' is missing")
    if extra := sorted(set(found) - set(shapes)):
        raise CheckpointError(f"{path}: the tensor '{extra[0]}' is not of this model")
    arrays = {}
    for name, shape in shapes.items():
        tensor = found[name]
        if tuple(tensor["shape"]) != shape:
            raise CheckpointError(
                f"{path}: '{name}' has the shape {list(tensor['shape'])}, "
                f"the settings say {list(shape)}"
            )
        array = _floats(tensor["data"], tensor["dtype"])
        if array is None:
            raise CheckpointError(f"{path}: '{name}' holds {tensor['dtype']}, not floats")
        if not np.isfinite(array).all():
            raise CheckpointError(f"{path}: '{name}' holds numbers that are not finite")
        arrays[name] = array.reshape(shape)
    return arrays


def _floats(data: bytes, kind: str) -> np.ndarray | None:
    """Stored floats as float32; bfloat16 is the upper half of one."""
    if kind == "BF16":
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    stored = {"F32": "<f4", "F16": "<f2", "F64": "<f8"}.get(kind)
    return None if stored is None else np.frombuffer(data, stored).astype(np.float32)


def _bounded(path: Path) -> Path:
    if path.stat().st_size > JSON_LIMIT:
        raise CheckpointError(
            f"{path}: larger than {JSON_LIMIT // 2**20} MB, not of a model folder"
        )
    return path


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(_bounded(path).read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: expected an object, found {type(value).__name__}")
    return value
