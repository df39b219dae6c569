"""The weights that a training begins with: fresh ones, or those of a model that is there."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from musegen.assets import weights_path
from musegen.config import apply_overrides
from musegen.errors import UsageError
from musegen.models.base import GenerativeModel
from musegen.training.checkpoint import load_model
from musegen.training.run import RunConfig

__all__ = ["initial"]


def initial(
    config: RunConfig,
    overrides: Iterable[str],
    family: str,
    registry: Mapping[str, Any],
    init: str | os.PathLike[str] | None,
) -> tuple[RunConfig, GenerativeModel]:
    """The run's settings under the user's, and the network.

    With `init`, a model's name or folder, the shape is that model's (settings may change what bears
    no weights, as dropout), and its weights are where training begins: fine-tuning.

    Raises:
        CheckpointError: there is no such model, or it is damaged.
        UsageError: it is of another family, another preset, or the settings change its shape.
    """
    own = list(overrides)
    if init is None:
        config = apply_overrides(config, own)
        torch.manual_seed(config.training.seed)
        return config, registry[family].model_class()(config.model)
    given, checkpoint = load_model(weights_path(init), registry)
    if checkpoint.family != family:
        raise UsageError(f"--init {init} is a {checkpoint.family}, and a {family} is to be trained")
    shape: Any = given.config
    for name in ("field_sizes", "channels", "size", "styles", "words"):
        if getattr(shape, name, None) != getattr(config.model, name, None):
            raise UsageError(
                f"--init {init} speaks another preset than the data; build the data with the "
                "model's own (its tokenizer.json says which)"
            )
    config = apply_overrides(dataclasses.replace(config, model=shape), own)
    torch.manual_seed(config.training.seed)
    network = registry[family].model_class()(config.model)
    fresh, known = network.state_dict(), given.state_dict()
    added = [name for name in fresh if name.startswith(network.additions)]
    known |= {  # parts that it gets beside those it has, or in another shape
        name: fresh[name]
        for name in added
        if name not in known or known[name].shape != fresh[name].shape
    }
    odd = [n for n in fresh if n not in known or known[n].shape != fresh[n].shape]
    if odd or len(fresh) != len(known):
        raise UsageError(
            f"--init {init}: the settings change the model's shape "
            f"({odd[0] if odd else 'fewer tensors'}); leave out those that do"
        )
    network.load_state_dict(known)
    return config, network
