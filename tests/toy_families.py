"""Two families that have nothing to do with music or transformers.

They prove that the trainer and the sampler know players, losses and steps, and nothing else:
`Blob` denoises numbers in several steps; `Duel` has a critic and a maker, the critic trained twice
a step with a gradient penalty (arXiv 1704.00028).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from musegen.models.base import Batch, GenerativeModel, Loss, Player
from musegen.models.registry import Family


@dataclass(frozen=True)
class BlobConfig:
    """Numbers of a sample, width of the net, steps of sampling."""

    size: int = 2
    width: int = 16
    steps: int = 4
    dropout: float = 0.0


class Blob(GenerativeModel):
    """Predicts the clean numbers from noisy ones; sampling repeats it."""

    def __init__(self, config: BlobConfig) -> None:
        super().__init__()
        self.config = config
        self.net = nn.Sequential(
            nn.Linear(config.size, config.width),
            nn.BatchNorm1d(config.width),
            nn.Tanh(),
            nn.Dropout(config.dropout),
            nn.Linear(config.width, config.size),
        )

    def loss(self, batch: Batch) -> Loss:
        clean = batch["points"]
        guess = self.net(clean + torch.randn_like(clean))
        error = F.mse_loss(guess.float(), clean, reduction="none")
        return Loss(error.mean(), {"error": (error.detach().sum(), torch.tensor(error.numel()))})

    def players(self) -> tuple[Player, ...]:
        return (Player("blob", self, self.loss),)

    def monitor(self) -> str:
        return "error"

    def begin(self, requests: Any, draw: Any) -> dict[str, Any]:
        rows = list(range(len(requests)))
        return {"x": draw.noise((self.config.size,), rows), "step": 0}

    def step(self, state: dict[str, Any], draw: Any) -> dict[str, Any]:
        x = torch.as_tensor(state["x"], dtype=torch.float32)
        return {"x": self.net(x).numpy(), "step": state["step"] + 1}

    def done(self, state: dict[str, Any]) -> bool:
        return state["step"] >= self.config.steps

    def finish(self, state: dict[str, Any]) -> list[Any]:
        return list(state["x"])


class Duel(GenerativeModel):
    """A critic that tells made points from given ones, and a maker that deceives it."""

    def __init__(self, config: BlobConfig) -> None:
        super().__init__()
        self.config = config
        size, width = config.size, config.width
        self.maker = nn.Sequential(nn.Linear(size, width), nn.Tanh(), nn.Linear(width, size))
        self.critic = nn.Sequential(nn.Linear(size, width), nn.Tanh(), nn.Linear(width, 1))
        self.seen: list[float] = []
        """First number of each batch, in the order of the losses: who saw what."""
        self.frozen: list[tuple[bool, bool]] = []
        """Whether (maker, critic) could train, at each loss."""

    def _note(self, batch: Batch) -> torch.Tensor:
        self.seen.append(float(batch["points"][0, 0]))
        parts = (self.maker, self.critic)
        self.frozen.append(tuple(next(part.parameters()).requires_grad for part in parts))
        return batch["points"]

    def critic_loss(self, batch: Batch) -> Loss:
        real = self._note(batch)
        made = self.maker(torch.randn_like(real)).detach()
        middle = (real + made).div(2).requires_grad_(True)
        (slope,) = torch.autograd.grad(self.critic(middle).sum(), middle, create_graph=True)
        penalty = (slope.norm(dim=1) - 1).square().mean()
        gap = self.critic(made).mean() - self.critic(real).mean()
        return Loss(gap + 10 * penalty, {"gap": (gap.detach(), torch.ones(()))})

    def maker_loss(self, batch: Batch) -> Loss:
        real = self._note(batch)
        made = self.maker(torch.randn_like(real))
        distance = (made.detach().mean(0) - real.mean(0)).norm()
        return Loss(-self.critic(made).mean(), {"distance": (distance, torch.ones(()))})

    def players(self) -> tuple[Player, ...]:
        return (
            Player("critic", self.critic, self.critic_loss, steps=2, autocast=False),
            Player("maker", self.maker, self.maker_loss),
        )

    def monitor(self) -> str:
        return "maker/distance"

    def begin(self, requests: Any, draw: Any) -> Any:
        return draw.noise((self.config.size,), list(range(len(requests)))), False

    def step(self, state: Any, draw: Any) -> Any:
        x = torch.as_tensor(state[0], dtype=torch.float32)
        return self.maker(x).numpy(), True

    def done(self, state: Any) -> bool:
        return state[1]

    def finish(self, state: Any) -> list[Any]:
        return list(state[0])


class Points:
    """Points around (3, -2); a batch is a function of its number."""

    def __init__(self, size: int = 2, rows: int = 32, seed: int = 0) -> None:
        self.size, self.rows, self.seed = size, rows, seed
        self.asked: list[int] = []

    def batch(self, index: int) -> dict[str, np.ndarray]:
        self.asked.append(index)
        rng = np.random.default_rng([self.seed, index])
        points = rng.standard_normal((self.rows, self.size)) * 0.5 + [3.0, -2.0]
        return {"points": points.astype(np.float32)}


class Held:
    """The same two batches each time."""

    def batches(self) -> list[dict[str, np.ndarray]]:
        source = Points(seed=1)
        return [source.batch(0), source.batch(1)]


TOYS = {
    "blob": Family("blob", "denoises points", BlobConfig, "toy_families:Blob", {}),
    "duel": Family("duel", "makes points", BlobConfig, "toy_families:Duel", {}),
}
