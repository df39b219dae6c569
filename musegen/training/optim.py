"""Optimisers, the schedule of their rate, and the running mean of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from musegen.errors import CheckpointError
from musegen.training.config import TrainerConfig
from musegen.training.sharding import is_shared, like, local, together

__all__ = ["Ema", "build_optimizers", "pack_state", "rate_at", "unpack_state"]


def build_optimizers(module: nn.Module, config: TrainerConfig) -> list[torch.optim.Optimizer]:
    """Muon for hidden matrices and AdamW for the rest, or AdamW alone.

    A hidden matrix is the two-dimensional weight of an `nn.Linear`, unless the layer says
    `is_output = True`: Muon's orthogonal steps suit maps between states, not from or to ids.
    """
    hidden: dict[int, Tensor] = {}
    decayed: dict[int, Tensor] = {}
    for layer in module.modules():
        if isinstance(layer, nn.Linear) and layer.weight.requires_grad:
            decayed[id(layer.weight)] = layer.weight
            if not getattr(layer, "is_output", False):
                hidden[id(layer.weight)] = layer.weight
    if config.optimizer == "adamw":
        hidden = {}
    for layer in module.modules():  # a weight that is also an embedding is no hidden matrix
        if isinstance(layer, nn.Embedding):
            hidden.pop(id(layer.weight), None)
            decayed.pop(id(layer.weight), None)
    rest = [p for p in module.parameters() if p.requires_grad and id(p) not in hidden]
    groups = [
        {"params": [p for p in rest if id(p) in decayed], "weight_decay": config.weight_decay},
        {"params": [p for p in rest if id(p) not in decayed], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    optimizers: list[torch.optim.Optimizer] = []
    if hidden:
        shared = any(is_shared(matrix) for matrix in hidden.values())
        optimizers.append(
            (SharedMuon if shared else torch.optim.Muon)(
                list(hidden.values()),
                lr=config.learning_rate,
                weight_decay=config.weight_decay,
                momentum=config.momentum,
                adjust_lr_fn="match_rms_adamw",
            )
        )
    if groups:
        fused = all(p.device.type in ("cpu", "cuda") for p in rest)
        optimizers.append(
            torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, fused=fused)
        )
    return optimizers


class SharedMuon(torch.optim.Muon):
    """Muon for matrices of which each process holds a part (musegen/training/sharding.py).

    Orthogonalising takes products of the whole matrix, so it is put together for its step, one
    matrix after another: the step of one process, to the bit.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Updates every matrix that has a gradient; all processes must do it."""
        for group in self.param_groups:
            settings = {name: value for name, value in group.items() if name != "params"}
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(matrix)
                complete = nn.Parameter(together(matrix.detach()))
                complete.grad = together(matrix.grad)
                alone = torch.optim.Muon([complete], **settings)
                alone.state[complete]["momentum_buffer"] = together(state["momentum_buffer"])
                alone.step()
                matrix.copy_(like(matrix, complete.detach()))
                new = alone.state[complete]["momentum_buffer"]
                state["momentum_buffer"].copy_(like(matrix, new))


def rate_at(step: int, steps: int | None, config: TrainerConfig) -> float:
    """The learning rate of a step (from 0): a linear warm-up, then half a cosine.

    While the number of steps is not known yet, the rate stays at its highest after the warm-up.
    """
    warmup = config.warmup_steps
    if steps is not None:
        warmup = min(warmup, steps // 10)
    if step < warmup:
        return config.learning_rate * (step + 1) / (warmup + 1)
    if steps is None:
        return config.learning_rate
    done = min(1.0, (step - warmup) / max(1, steps - warmup))
    share = config.final_rate + (1 - config.final_rate) * 0.5 * (1 + math.cos(math.pi * done))
    return config.learning_rate * share


class Ema:
    """The running mean of a model's weights; its buffers are copied, not averaged."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self.names = [name for name, _ in model.named_parameters()]
        self.live = list(model.parameters())
        self.mean = [parameter.detach().clone() for parameter in self.live]

    @torch.no_grad()
    def update(self) -> None:
        """Takes in the weights of now. Early on the mean is short, so that it is not of noise."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        live = [local(parameter.detach()) for parameter in self.live]
        torch._foreach_lerp_([local(mean) for mean in self.mean], live, 1.0 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Puts the mean into the model and the model's weights here; twice is nothing."""
        for mean, live in zip(self.mean, self.live, strict=True):
            kept = live.detach().clone()
            live.copy_(mean)
            mean.copy_(kept)

    def tensors(self) -> dict[str, Tensor]:
        """For the checkpoint, by the names of the parameters."""
        return dict(zip(self.names, self.mean, strict=True))

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor], updates: int) -> None:
        """From a checkpoint. Raises CheckpointError where a mean is missing or misshaped."""
        for name, mean in zip(self.names, self.mean, strict=True):
            if name not in tensors or tensors[name].shape != mean.shape:
                raise CheckpointError(f"no running mean of '{name}' to resume from")
            mean.copy_(like(mean, tensors[name]))
        self.updates = updates


def pack_state(optimizers: Iterable[torch.optim.Optimizer], prefix: str) -> dict[str, Tensor]:
    """The tensors of optimisers, named `prefix.optimiser.parameter.what`."""
    tensors = {}
    for number, optimizer in enumerate(optimizers):
        for index, state in optimizer.state_dict()["state"].items():
            for what, value in state.items():
                tensors[f"{prefix}.{number}.{index}.{what}"] = torch.as_tensor(value)
    return tensors


def unpack_state(
    optimizers: Iterable[torch.optim.Optimizer], prefix: str, tensors: dict[str, Tensor]
) -> None:
    """The opposite of `pack_state`. Raises CheckpointError for what does not fit."""
    for number, optimizer in enumerate(optimizers):
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        state: dict[int, dict[str, Tensor]] = {}
        start = f"{prefix}.{number}."
        for name, value in tensors.items():
            if not name.startswith(start):
                continue
            index, _, what = name[len(start) :].partition(".")
            if not index.isdigit() or int(index) >= len(parameters):
                raise CheckpointError(f"the optimiser has no place for '{name}'")
            if value.ndim and value.shape != parameters[int(index)].shape:
                raise CheckpointError(
                    f"'{name}' has the shape {list(value.shape)} of another model"
                )
            parameter = parameters[int(index)]
            state.setdefault(int(index), {})[what] = like(parameter, value) if value.ndim else value
        if state and len(state) != len(parameters):
            raise CheckpointError(f"{len(state)} of {len(parameters)} states of {start[:-1]} found")
        optimizer.load_state_dict(
            {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
        )
