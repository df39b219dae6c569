"""What a run needs to go on: `last/`, written as a whole, in full precision, without pickle.

```
model.safetensors       the weights
training.safetensors    optimisers (`optimizer.PLAYER.*`) and the running mean (`mean.*`)
training.json           step, number of steps, best value, settings
```
Random numbers need no state: the trainer seeds those of a step by its number.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from musegen.errors import CheckpointError
from musegen.training.checkpoint import load_tensors, weight_bytes, write_folder
from musegen.training.optim import Ema, pack_state, unpack_state
from musegen.training.sharding import like, whole

__all__ = ["STATE_FORMAT", "RunState", "load_run", "save_run"]

STATE_FORMAT = 1
"""Version of the layout of `last/`."""

_FREE = {
    "steps", "minutes", "storage",
    "log_every", "validate_every", "checkpoint_every", "checkpoint_minutes",
}  # fmt: skip
"""Settings of a trainer that may differ when a run is resumed: its length, and what it says."""


@dataclass
class RunState:
    """Where a run stands, weights and optimisers aside."""

    step: int = 0
    steps: int | None = None
    """How many there will be; None while the first ones are timed."""
    best: float | None = None
    best_step: int = 0
    elapsed_s: float = 0.0
    first_validation: dict[str, float] = field(default_factory=dict)
    last_validation: dict[str, float] = field(default_factory=dict)


def save_run(
    folder: Path,
    state: RunState,
    model: nn.Module,
    optimizers: Mapping[str, list[torch.optim.Optimizer]],
    ema: Ema | None,
    settings: Mapping[str, Any],
    write: bool = True,
) -> None:
    """Replaces `folder`. Raises OutputError.

    Where a model is shared out among processes, all of them call this, and one has `write`.
    """
    tensors: dict[str, Tensor] = {}
    for name, of_player in optimizers.items():
        tensors |= pack_state(of_player, f"optimizer.{name}")
    if ema is not None:
        tensors |= {f"mean.{name}": tensor for name, tensor in ema.tensors().items()}
    weights, tensors = whole(model.state_dict(), write), whole(tensors, write)
    if not write:
        return
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    about = {
        "format": STATE_FORMAT,
        **vars(state),
        "ema_updates": ema.updates if ema is not None else 0,
        "settings": dict(settings),
    }

    def fill(fresh: Path) -> None:
        (fresh / "model.safetensors").write_bytes(weight_bytes(weights, "fp32"))
        save_file(tensors, fresh / "training.safetensors")
        (fresh / "training.json").write_text(json.dumps(about, indent=1), "utf-8")

    write_folder(folder, fill)


def load_run(
    folder: Path,
    model: nn.Module,
    optimizers: Mapping[str, list[torch.optim.Optimizer]],
    ema: Ema | None,
    settings: Mapping[str, Any],
) -> RunState:
    """Fills model, optimisers and mean; returns where the run stood.

    Raises CheckpointError: nothing there, damaged, of another version, of another model, or begun
    with other `settings` than these, under which it would silently become another run.
    """
    if not folder.is_dir():
        folder = folder.with_name(f"{folder.name}.old")  # killed between the renames of a save
    if not folder.is_dir():
        raise CheckpointError(f"{folder.parent}: nothing to resume from; train without --resume")
    try:
        about = json.loads((folder / "training.json").read_text("utf-8"))
        version = about["format"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{folder}/training.json: damaged ({error!r})") from error
    if version != STATE_FORMAT:
        raise CheckpointError(f"{folder}: state of format {version}, expected {STATE_FORMAT}")
    try:
        state = RunState(
            step=int(about["step"]),
            steps=None if about["steps"] is None else int(about["steps"]),
            best=None if about["best"] is None else float(about["best"]),
            best_step=int(about["best_step"]),
            elapsed_s=float(about["elapsed_s"]),
            first_validation={str(k): float(v) for k, v in about["first_validation"].items()},
            last_validation={str(k): float(v) for k, v in about["last_validation"].items()},
        )
        updates = int(about["ema_updates"])
        numbers = (state.step, state.steps or 0, state.best or 0.0, state.elapsed_s)
        if state.step < 0 or not all(math.isfinite(number) for number in numbers):
            raise ValueError(f"step {state.step}, best {state.best}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{folder}/training.json: damaged ({error!r})") from error
    held = model.state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in held.items()}
    try:
        weights = load_tensors(folder / "model.safetensors", shapes)
    except CheckpointError as error:
        raise CheckpointError(
            f"{error}; resume with the --preset and --set model.* that it began with"
        ) from error
    tensors = load_tensors(folder / "training.safetensors")
    model.load_state_dict({name: like(held[name], tensor) for name, tensor in weights.items()})
    for name, of_player in optimizers.items():
        unpack_state(of_player, f"optimizer.{name}", tensors)
    if ema is not None:
        means = {n.removeprefix("mean."): t for n, t in tensors.items() if n.startswith("mean.")}
        ema.load(means, updates)
    begun = about.get("settings")
    now = json.loads(json.dumps(dict(settings)))
    for name, value in begun.items() if isinstance(begun, dict) else ():
        if name in now and name not in _FREE and now[name] != value:
            raise CheckpointError(
                f"{folder}: that run has {name} = {value}, this one {now[name]}; "
                "resume with the settings that it began with"
            )
    return state
