"""A variational autoencoder over the numbers of designs, told what each of them answers.

Batches (musegen/data/design_batches.py): `numbers` (B, N) and `conditions` (B, C) float32, both
centred and in spreads of the training designs. What a search moves in is its latent: points of a
standard normal are designs that look like those it knows.

Letters: B batch, N numbers of a design, C of a request, Z of the latent, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musegen.errors import UsageError
from musegen.models.base import Batch, DrawLike, GenerativeModel, Loss, Player
from musegen.models.design_vae_config import DesignVaeConfig

__all__ = ["DesignRequest", "DesignVae", "divergence"]


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(q(z|x), N(0, I)) in nats of rows (B, Z), (B,): Kingma & Welling 2014, appendix B."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)


@dataclass(frozen=True, eq=False)
class DesignRequest:
    """One design that is asked for."""

    conditions: np.ndarray
    """(C,) in spreads of the training designs."""
    noise: np.ndarray | None = None
    """(Z,) in place of drawn ones: where a search is."""


@dataclass
class _State:
    noise: Tensor
    conditions: Tensor
    numbers: Tensor | None = None


def _layers(sizes: Sequence[int]) -> nn.Sequential:
    """Linear layers with SiLU between them."""
    parts: list[nn.Module] = []
    for inner, outer in pairwise(sizes):
        parts += [nn.Linear(inner, outer), nn.SiLU()]
    return nn.Sequential(*parts[:-1])


class DesignVae(GenerativeModel):
    """The family: one player, and a sample in one step."""

    def __init__(self, config: DesignVaeConfig) -> None:
        super().__init__()
        self.config = config
        inside = [config.width] * config.layers
        self.encoder = _layers([config.numbers + config.conditions, *inside, 2 * config.latent])
        self.decoder = _layers([config.latent + config.conditions, *inside, config.numbers])

    def encode(self, numbers: Tensor, conditions: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N), (B, C) -> mean and log variance of the posterior, (B, Z) each."""
        mean, log_variance = self.encoder(torch.cat((numbers, conditions), 1)).float().chunk(2, 1)
        return mean, log_variance.clamp(-12, 4)

    def decode(self, latent: Tensor, conditions: Tensor) -> Tensor:
        """(B, Z), (B, C) -> (B, N)."""
        return self.decoder(torch.cat((latent, conditions), 1)).float()

    # --- Training ------------------------------------------------------------------------------

    def loss(self, batch: Batch) -> Loss:
        """Minus the evidence bound, up to constants: squared error + beta KL, of each design.

        Metrics: `error`, the mean square of a number; `kl`, nats of a design; `bound`, the loss.
        """
        numbers, conditions = batch["numbers"], batch["conditions"]
        mean, log_variance = self.encode(numbers, conditions)
        if self.training:
            noise = torch.randn_like(mean)
        else:
            generator = torch.Generator().manual_seed(len(numbers))
            noise = torch.randn(mean.shape, generator=generator).to(mean.device)
        said = self.decode(mean + (0.5 * log_variance).exp() * noise, conditions)
        error = F.mse_loss(said, numbers, reduction="none").mean(1)
        kl = divergence(mean, log_variance)
        each = error + self.config.beta * kl / self.config.numbers
        count = torch.tensor(len(numbers), device=numbers.device)
        told = {"error": error, "kl": kl, "bound": each}
        return Loss(each.mean(), {name: (one.detach().sum(), count) for name, one in told.items()})

    def players(self) -> tuple[Player, ...]:
        """One."""
        return (Player("model", self, self.loss),)

    def monitor(self) -> str:
        """The held-out bound."""
        return "bound"

    # --- Sampling ------------------------------------------------------------------------------

    def begin(self, requests: Sequence[DesignRequest], draw: DrawLike) -> _State:
        """N(0, I) for each, or what it brings. Raises UsageError for what cannot be asked."""
        if not requests:
            raise UsageError("nothing was asked for: give one request at least")
        config, device = self.config, next(self.parameters()).device
        noise = draw.noise((config.latent,), list(range(len(requests))))
        conditions = np.zeros((len(requests), config.conditions))
        for row, request in enumerate(requests):
            told = np.asarray(request.conditions, dtype=float)
            if told.shape != (config.conditions,):
                raise UsageError(f"conditions of shape {told.shape}: {config.conditions} are told")
            conditions[row] = told
            if request.noise is not None:
                given = np.asarray(request.noise)
                if given.shape != (config.latent,) or not np.issubdtype(given.dtype, np.floating):
                    raise UsageError(
                        f"noise of shape {given.shape} and type {given.dtype}: "
                        f"{config.latent} floats, as of a standard normal"
                    )
                noise[row] = given
        return _State(
            torch.as_tensor(noise, dtype=torch.float32, device=device),
            torch.as_tensor(conditions, dtype=torch.float32, device=device),
        )

    def step(self, state: _State, draw: DrawLike) -> _State:
        """All of it."""
        state.numbers = self.decode(state.noise, state.conditions)
        return state

    def done(self, state: _State) -> bool:
        """Whether the designs are there."""
        return state.numbers is not None

    def finish(self, state: _State) -> list[np.ndarray]:
        """Numbers (N,) float32, one design a request; early: none."""
        return [] if state.numbers is None else list(state.numbers.cpu().numpy())
