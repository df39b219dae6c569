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

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor

from musegen.config import to_dict, to_toml
from musegen.errors import CheckpointError, OutputError
from musegen.models.base import GenerativeModel
from musegen.training.folder import FORMAT, Checkpoint, read_checkpoint, read_config

__all__ = ["load_model", "load_tensors", "save_model", "weight_bytes", "write_folder"]


def save_model(
    folder: str | Path,
    family: str,
    model: GenerativeModel,
    tokenizer: Mapping[str, Any],
    card: str,
    summary: Mapping[str, Any],
    storage: str = "bf16",
    weights: Mapping[str, Tensor] | None = None,
) -> None:
    """Writes the four files of a model; what else is in the folder stays.

    `weights` are written in place of those that the model holds.

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
        "model.safetensors": weight_bytes(weights or model.state_dict(), storage),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            _write_file(folder / name, content)
    except OSError as error:
        raise OutputError(f"{folder}: the model cannot be written ({error})") from error


def save_adapter(
    folder: str | Path, tensors: Mapping[str, Tensor], settings: Mapping[str, Any]
) -> None:
    """Writes `adapter_model.safetensors` and `adapter_config.json`, as peft reads them.

    Raises OutputError.
    """
    folder = Path(folder)
    try:
        _write_file(folder / "adapter_model.safetensors", weight_bytes(tensors, "fp32"))
        _write_file(folder / "adapter_config.json", json.dumps(settings, indent=1).encode())
    except OSError as error:
        raise OutputError(f"{folder}: the adapter cannot be written ({error})") from error


def weight_bytes(weights: Mapping[str, Tensor], storage: str) -> bytes:
    """The state of a module as safetensors; floats in bfloat16 when `storage` is bf16."""
    tensors = {}
    for name, tensor in weights.items():
        tensor = tensor.detach().cpu()
        if storage == "bf16" and tensor.is_floating_point():
            tensor = tensor.to(torch.bfloat16)
        tensors[name] = tensor.contiguous()
    return to_safetensors(tensors)


def load_model(
    folder: str | Path, registry: Mapping[str, Any], device: torch.device | str = "cpu"
) -> tuple[GenerativeModel, Checkpoint]:
    """The model of a folder, in evaluation mode, in float32, and what the folder says.

    `registry` is `GENERATORS` of musegen/models/registry.py. Names, shapes and sizes are checked
    against the file before memory is taken for them. Raises CheckpointError.
    """
    checkpoint = read_checkpoint(folder)
    config = read_config(checkpoint, registry)
    family = registry[checkpoint.family]
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
