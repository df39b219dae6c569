"""Low-rank adapters: fine-tuning that trains few numbers beside weights that stay (LoRA).

Hu et al. 2021, equation 3: a layer W x becomes W x + (alpha / r) B A x, with A (r, in) small random
numbers and B (out, r) zeros at first, so that training begins where the model is. Any family: the
players and losses are the model's own, only what they may change is another.

Files are those of the peft library: `adapter_model.safetensors` and `adapter_config.json`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from musegen.errors import ConfigError
from musegen.models.base import GenerativeModel, Player

__all__ = ["Adapted", "LowRank"]

MOST_RANK = 256


class LowRank(nn.Module):
    """A linear layer or a convolution that stays, and a low-rank one beside it.

    A convolution's A has its kernel, stride and padding, its B is 1 by 1.
    """

    def __init__(self, base: nn.Linear | nn.Conv2d, rank: int, alpha: float) -> None:
        super().__init__()
        self.base, self.scale = base, alpha / rank
        self.down: nn.Module
        self.up: nn.Module
        if isinstance(base, nn.Linear):
            self.down = nn.Linear(base.in_features, rank, bias=False)
            self.up = nn.Linear(rank, base.out_features, bias=False)
        else:
            shape: dict[str, Any] = {"stride": base.stride, "padding": base.padding}
            kernel: Any = base.kernel_size
            self.down = nn.Conv2d(base.in_channels, rank, kernel, bias=False, **shape)
            self.up = nn.Conv2d(rank, base.out_channels, 1, bias=False)
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))  # type: ignore[arg-type]
        nn.init.zeros_(self.up.weight)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """As the layer."""
        return self.base(x) + self.scale * self.up(self.down(x))

    @property
    def weight(self) -> Tensor:
        """The layer's weight with what is beside it: for who multiplies by it without the layer."""
        down: Any = self.down.weight
        up: Any = self.up.weight
        return merged_weight(self.base.weight, down, up, self.scale)

    @property
    def bias(self) -> Tensor | None:
        """The layer's."""
        return self.base.bias


def merged_weight(base: Tensor, down: Tensor, up: Tensor, scale: float) -> Tensor:
    """W + scale B A: (out, in), or (out, in, k, k) of a convolution."""
    product = up.flatten(1) @ down.flatten(1)
    return base + scale * product.view_as(base)


class Adapted(GenerativeModel):
    """A model whose layers stay, with adapters that train.

    It trains only; to draw, `plain` makes a state of the model of it.
    """

    def __init__(self, model: GenerativeModel, rank: int, alpha: float = 0.0) -> None:
        """`alpha` 0 is the rank. Raises ConfigError for a rank that cannot be."""
        super().__init__()
        if not 1 <= rank <= MOST_RANK or alpha < 0:
            raise ConfigError(f"lora rank {rank}, alpha {alpha:g}: 1 to {MOST_RANK}, and 0 or more")
        self.config, self.rank, self.alpha = model.config, rank, alpha or float(rank)
        self.model = model
        self._own: dict[str, LowRank] = {}
        for name, parent in list(model.named_modules()):
            for child, layer in list(parent.named_children()):
                plain = isinstance(layer, nn.Linear) or (
                    isinstance(layer, nn.Conv2d) and layer.groups == 1
                )
                if plain and not isinstance(parent, LowRank):
                    adapted = LowRank(layer, rank, self.alpha)  # type: ignore[arg-type]
                    setattr(parent, child, adapted)
                    self._own[f"{name}.{child}".lstrip(".")] = adapted
        own = {id(p) for one in self._own.values() for p in (one.down.weight, one.up.weight)}
        for parameter in model.parameters():
            parameter.requires_grad_(id(parameter) in own)
        if not self._own:
            raise ConfigError("lora: the model has no layers to adapt")

    def players(self) -> tuple[Player, ...]:
        """Those of the model, each with the adapters of its layers alone."""
        found = []
        for player in self.model.players():
            inside = {id(module) for module in player.module.modules()}
            mine = [one for one in self._own.values() if id(one) in inside]
            parts = nn.ModuleList(part for one in mine for part in (one.down, one.up))
            if len(parts):
                found.append(replace(player, module=parts))
        return tuple(found)

    def monitor(self) -> str:
        """As the model."""
        return self.model.monitor()

    def alarms(self, values: Mapping[str, float]) -> Sequence[str]:
        """As the model."""
        return self.model.alarms(values)

    def plain(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A state of the plain model: what the adapters say is added to the layers."""
        found: dict[str, Tensor] = {}
        for name, tensor in state.items():
            own = name.removeprefix("model.")
            if ".base." in own:
                layer, _, kind = own.rpartition(".base.")
                if kind == "weight":
                    down, up = (state[f"model.{layer}.{part}.weight"] for part in ("down", "up"))
                    tensor = merged_weight(tensor, down, up, self._own[layer].scale)
                own = f"{layer}.{kind}"
            elif own.rpartition(".")[0].rpartition(".")[0] in self._own:
                continue  # A and B, which are in
            found[own] = tensor
        return found

    def files(self, state: Mapping[str, Tensor], base: str) -> tuple[dict[str, Tensor], dict]:
        """The tensors and the settings of an adapter, as peft names them.

        Args:
            state: this module's.
            base: name of the model that they belong to.
        """
        tensors = {}
        for layer in self._own:
            for part, name in (("down", "lora_A"), ("up", "lora_B")):
                tensor = state[f"model.{layer}.{part}.weight"]
                tensors[f"base_model.model.{layer}.{name}.weight"] = tensor.detach().contiguous()
        settings = {
            "peft_type": "LORA",
            "base_model_name_or_path": base,
            "r": self.rank,
            "lora_alpha": self.alpha,
            "lora_dropout": 0.0,
            "bias": "none",
            "target_modules": sorted(self._own),
            "inference_mode": True,
        }
        return tensors, settings
