"""A model as a folder: what it is in TOML, its weights in safetensors, its ids in JSON.

```
config.toml          family, settings, a summary of the training, versions
model.safetensors    the weights (the running mean when there is one)
tokenizer.json       what ids mean
README.md            the model card
last/                what `--resume` needs: the same weights in full precision, and
                     training.safetensors, training.json (optimisers, running mean, step)
```

Everything is data: nothing in a folder is ever run, there is no pickle. A folder that is
damaged, hostile or of another version gives one `CheckpointError`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor

from musegen.config import from_dict, read_toml, to_dict, to_toml
from musegen.errors import CheckpointError, ConfigError, OutputError
from musegen.models.base import GenerativeModel

__all__ = [
    "FORMAT",
    "Checkpoint",
    "check_out",
    "load_model",
    "load_tensors",
    "read_checkpoint",
    "save_model",
    "write_folder",
]

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

    def weights_hash(self) -> str:
        """SHA-256 of model.safetensors, in hexadecimal."""
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


def save_model(
    folder: str | Path,
    family: str,
    model: GenerativeModel,
    tokenizer: Mapping[str, Any],
    card: str,
    summary: Mapping[str, Any],
    storage: str = "bf16",
) -> None:
    """Writes the four files of a model; what else is in the folder stays.

    Each file is complete before it takes its name, and the weights come last, so that a reader
    never meets half a file. Raises OutputError.
    """
    from musegen import __version__

    folder = Path(folder)
    tables = {
        "musegen": {"version": __version__, "format": FORMAT, "family": family},
        "model": to_dict(model.config),
        "training": dict(summary),
    }
    files = {
        "config.toml": to_toml(tables).encode(),
        "tokenizer.json": json.dumps(tokenizer, ensure_ascii=False, indent=1).encode(),
        "README.md": card.encode("utf-8", "backslashreplace"),  # paths may be no UTF-8
        "model.safetensors": weight_bytes(model, storage),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            _write_file(folder / name, content)
    except OSError as error:
        raise OutputError(f"{folder}: the model cannot be written ({error})") from error


def weight_bytes(model: torch.nn.Module, storage: str) -> bytes:
    """The state of a module as safetensors; floats in bfloat16 when `storage` is bf16."""
    tensors = {}
    for name, tensor in model.state_dict().items():
        tensor = tensor.detach().cpu()
        if storage == "bf16" and tensor.is_floating_point():
            tensor = tensor.to(torch.bfloat16)
        tensors[name] = tensor.contiguous()
    return to_safetensors(tensors)


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


def load_model(
    folder: str | Path, registry: Mapping[str, Any], device: torch.device | str = "cpu"
) -> tuple[GenerativeModel, Checkpoint]:
    """The model of a folder, in evaluation mode, in float32, and what the folder says.

    `registry` is `GENERATORS` of musegen/models/registry.py. Names, shapes and sizes are checked
    against the file before memory is taken for them. Raises CheckpointError.
    """
    checkpoint = read_checkpoint(folder)
    if checkpoint.family not in registry:
        known = ", ".join(sorted(registry))
        raise CheckpointError(f"{folder}: unknown family '{checkpoint.family}'; known are {known}")
    family = registry[checkpoint.family]
    try:
        config = from_dict(family.config, checkpoint.settings, f"{folder}/config.toml [model]")
    except ConfigError as error:
        raise CheckpointError(str(error)) from error
    path = Path(folder) / "model.safetensors"
    try:
        with torch.device("meta"):
            expected = family.model_class()(config).state_dict()
    except (RuntimeError, MemoryError, OverflowError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"{folder}/config.toml: no such model can be built ({_first_line(error)})"
        ) from error
    tensors = load_tensors(path, {name: tuple(t.shape) for name, t in expected.items()})
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{path}: '{name}' holds numbers that are not finite")
    model = family.model_class()(config)
    model.load_state_dict(tensors)
    return model.to(device).eval(), checkpoint


def load_tensors(
    path: Path, shapes: Mapping[str, tuple[int, ...]] | None = None
) -> dict[str, Tensor]:
    """The tensors of a safetensors file, after names and shapes were compared with `shapes`.

    Raises CheckpointError for a missing or damaged file, and for one of another model.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            names = set(file.keys())
            if shapes is not None:
                if missing := sorted(set(shapes) - names):
                    raise CheckpointError(f"{path}: the tensor '{missing[0]}' is missing")
                if extra := sorted(names - set(shapes)):
                    raise CheckpointError(f"{path}: the tensor '{extra[0]}' is not of this model")
                for name, shape in shapes.items():
                    found = tuple(file.get_slice(name).get_shape())
                    if found != shape:
                        raise CheckpointError(
                            f"{path}: '{name}' has the shape {list(found)}, "
                            f"the settings say {list(shape)}"
                        )
            return {name: file.get_tensor(name) for name in sorted(names)}
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: there is no such file") from error
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{path}: damaged, or not safetensors ({_first_line(error)})"
        ) from error


def write_folder(folder: Path, fill: Callable[[Path], None]) -> None:
    """A folder that is replaced as a whole: `fill` writes a new one, which then takes the name.

    A reader that finds no `folder` after a kill between the two renames finds `folder.old`.
    Raises OutputError.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error})") from error
    try:
        fill(fresh)
        old = folder.with_name(folder.name + ".old")
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
        fresh.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error})") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _write_file(path: Path, content: bytes) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)  # mkstemp makes it private; a model folder is to be shared
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _first_line(error: BaseException) -> str:
    """What torch says first: its messages may go on with a trace of C++."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


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
