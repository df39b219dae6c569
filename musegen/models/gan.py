"""Generative adversarial networks: a generator of pictures and a critic that tells them apart.

Batches (musegen/data/image_batches.py): `images` (B, 1, S, S) from -1 to 1, `style` (B,), `words`
(B, W), where 0 is not told. Both networks are told style and words of the row.

The losses are functions of logits, and of a critic where they need its gradients; so a benchmark
can take them for points (benchmarks/gan_modes.py). A critic says one logit a picture, any real
number: no loss here wants a sigmoid before it.

Letters: B batch, C channels, D numbers of an embedding, S pixels of a side, W words, Z noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musegen.models.base import Batch, Loss, Player
from musegen.models.gan_config import GanConfig
from musegen.models.image_layers import Conditions, groups
from musegen.models.one_step import OneStep

__all__ = [
    "Critic",
    "Gan",
    "GanRequest",
    "Generator",
    "clip_weights",
    "critic_objective",
    "energy_distance",
    "generator_objective",
    "gradient_norms",
    "nonsaturating_critic",
    "nonsaturating_generator",
    "relativistic",
    "squared_gradient",
    "wasserstein",
]

Metrics = dict[str, tuple[Tensor, Tensor]]

# --- Losses ---------------------------------------------------------------------------------------


def nonsaturating_critic(real: Tensor, made: Tensor) -> Tensor:
    """Cross-entropy of logits (B,), real ones labelled 1 and made ones 0.

    Goodfellow et al. 2014, equation 1: -log D(x) - log(1 - D(G(z))), where D is the sigmoid of the
    logit, which softplus takes in.
    """
    return F.softplus(-real).mean() + F.softplus(made).mean()


def nonsaturating_generator(made: Tensor) -> Tensor:
    """-log D(G(z)) of logits (B,): Goodfellow et al. 2014, section 3.

    Not log(1 - D(G(z))), whose gradient vanishes as soon as the critic is sure.
    """
    return F.softplus(-made).mean()


def wasserstein(real: Tensor, made: Tensor) -> Tensor:
    """E D(G(z)) - E D(x) of logits (B,): what the critic minimises.

    Arjovsky et al. 2017, equation 2: for a critic whose slope is bounded, minus the distance of the
    two distributions times the bound. The generator minimises -E D(G(z)).
    """
    return made.mean() - real.mean()


def relativistic(higher: Tensor, lower: Tensor) -> Tensor:
    """softplus(lower - higher) of pairs of logits (B,): the first is to be above the second.

    Huang et al. 2024 (R3GAN), section 2, after Jolicoeur-Martineau 2019: the critic gives
    (real, made), the generator (made, real).
    """
    return F.softplus(lower - higher).mean()


def gradient_norms(
    critic: Callable[[Tensor], Tensor], real: Tensor, made: Tensor, shares: Tensor
) -> Tensor:
    """(B,): norms of the critic's gradient at points between real ones and made ones (B, ...).

    Gulrajani et al. 2017, algorithm 1: at shares real + (1 - shares) made, with one share (B,) from
    0 to 1 a pair; the penalty is the mean of (norm - 1)^2. The norms can be differentiated.
    """
    shares = shares.view(-1, *[1] * (real.dim() - 1))
    between = (shares * real + (1 - shares) * made).detach().requires_grad_(True)
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return slope.flatten(1).norm(dim=1)


def squared_gradient(logits: Tensor, points: Tensor) -> Tensor:
    """(B,): the squared norm of the gradient of logits (B,) by the points (B, ...) they are of.

    Mescheder et al. 2018, equations 9 and 10: times gamma / 2, R1 at real points, R2 at made ones.
    It can be differentiated.
    """
    (slope,) = torch.autograd.grad(logits.sum(), points, create_graph=True)
    return slope.flatten(1).square().sum(1)


def critic_objective(
    kind: str, critic: Callable[[Tensor], Tensor], real: Tensor, made: Tensor, penalty: float = 0.0
) -> tuple[Tensor, Metrics]:
    """What the critic minimises, of points (B, ...), and its metrics.

    `kind` is a `GanConfig.loss`, `critic` gives logits (B,), `penalty` is lambda or gamma. `made`
    is taken as it is: nothing goes back to who made it.

    Metrics: `ranked`, the share of pairs of which the real one has the higher logit; of wgan and
    wgan_gp `gap`, the estimate of the distance; of wgan_gp `gradient_norm`, at the points between;
    of relativistic `r1` and `r2`, the squared gradients.
    """
    made = made.detach()
    squared = kind == "relativistic"
    if squared:
        real, made = real.detach().requires_grad_(True), made.requires_grad_(True)
    of_real, of_made = critic(real).float(), critic(made).float()
    metrics = {"ranked": _mean((of_real > of_made).float())}
    if kind == "nonsaturating":
        return nonsaturating_critic(of_real, of_made), metrics
    if squared:
        r1, r2 = squared_gradient(of_real, real), squared_gradient(of_made, made)
        value = relativistic(of_real, of_made) + penalty / 2 * (r1.mean() + r2.mean())
        return value, metrics | {"r1": _mean(r1), "r2": _mean(r2)}
    value = wasserstein(of_real, of_made)
    metrics["gap"] = _mean(of_real - of_made)
    if kind == "wgan_gp":
        norms = gradient_norms(critic, real, made, torch.rand(len(real), device=real.device))
        value = value + penalty * (norms - 1).square().mean()
        metrics["gradient_norm"] = _mean(norms)
    return value, metrics


def generator_objective(
    kind: str, critic: Callable[[Tensor], Tensor], real: Tensor, made: Tensor
) -> Tensor:
    """What the generator minimises, of points (B, ...); `kind` and `critic` as of the critic."""
    of_made = critic(made).float()
    if kind == "nonsaturating":
        return nonsaturating_generator(of_made)
    if kind == "relativistic":
        return relativistic(of_made, critic(real).float())
    return -of_made.mean()


@torch.no_grad()
def clip_weights(critic: nn.Module, most: float) -> None:
    """Every parameter into [-most, most]: Arjovsky et al. 2017, algorithm 1, line 7."""
    for parameter in critic.parameters():
        parameter.clamp_(-most, most)


def energy_distance(real: Tensor, made: Tensor) -> Tensor:
    """2 E|x - y| - E|x - x'| - E|y - y'| of rows (B, N) and (B', N), without bias.

    Székely & Rizzo 2013: 0 for one distribution and above for two, so that many copies of one good
    picture are seen as well as bad pictures. An estimate from few rows may be a little below 0.
    """
    between = torch.cdist(real, made).mean()
    within = [
        torch.cdist(rows, rows).sum() / max(1, len(rows) * (len(rows) - 1)) for rows in (real, made)
    ]
    return 2 * between - within[0] - within[1]


def _mean(values: Tensor) -> tuple[Tensor, Tensor]:
    """Sum and count."""
    values = values.detach()
    return values.sum(), torch.tensor(values.numel(), device=values.device)


# --- Networks -------------------------------------------------------------------------------------


class Generator(nn.Module):
    """Noise and conditions to pictures: 4 pixels a side, doubled by each transposed convolution.

    Radford et al. 2016 (DCGAN), but for GroupNorm in place of BatchNorm: the running mean of the
    weights, which draws, would not fit the statistics that BatchNorm gathered of the others, and
    pictures of a batch would not be independent, which the penalties on gradients take for granted.
    """

    def __init__(self, config: GanConfig) -> None:
        super().__init__()
        channels = config.channels
        self.told = Conditions(config.styles, config.words, config.embedding)
        self.first = nn.Linear(config.noise + config.embedding, channels[0] * 16)
        self.norm = nn.GroupNorm(groups(channels[0]), channels[0])
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.ConvTranspose2d(inner, outer, 4, stride=2, padding=1),
                nn.GroupNorm(groups(outer), outer),
                nn.ReLU(),
            )
            for inner, outer in pairwise(channels)
        )
        self.stages.append(nn.ConvTranspose2d(channels[-1], 1, 4, stride=2, padding=1))

    def forward(self, noise: Tensor, style: Tensor, words: Tensor) -> Tensor:
        """(B, Z), (B,), (B, W) -> pictures (B, 1, S, S) from -1 to 1, in full precision."""
        told = self.told(style, words)
        told = told * told.shape[1] ** 0.5  # numbers as large as those of the noise
        h = self.first(torch.cat((noise, told), dim=1)).view(len(noise), -1, 4, 4)
        h = F.relu(self.norm(h))
        for stage in self.stages:
            h = stage(h)
        return torch.tanh(h.float())


class Critic(nn.Module):
    """Pictures to one logit each, halved by each convolution down to 4 pixels a side.

    DCGAN without norms: Gulrajani et al. 2017, section 4, for a gradient of one picture must not
    depend on the others. Conditions come in by projection, their embedding times the mean features
    (Miyato & Koyama 2018, section 3).
    """

    def __init__(self, config: GanConfig) -> None:
        super().__init__()
        channels = (1, *reversed(config.channels))
        self.stages = nn.ModuleList(
            nn.Conv2d(inner, outer, 4, stride=2, padding=1) for inner, outer in pairwise(channels)
        )
        self.last = nn.Linear(channels[-1] * 16, 1)
        self.told = Conditions(config.styles, config.words, channels[-1])

    def forward(self, images: Tensor, style: Tensor, words: Tensor) -> Tensor:
        """(B, 1, S, S), (B,), (B, W) -> logits (B,): any real numbers."""
        h = images
        for stage in self.stages:
            h = F.leaky_relu(stage(h), 0.2)
        told = (self.told(style, words) * h.mean((2, 3))).sum(1)
        return self.last(h.flatten(1)).squeeze(1) + told


# --- The family -----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class GanRequest:
    """One picture that is asked for."""

    style: int = 0
    """1.. ; 0 is not told."""
    words: tuple[int, ...] = ()
    noise: np.ndarray | None = None
    """(Z,) numbers, as of a standard normal, in place of drawn ones: for ways between pictures."""


class Gan(OneStep):
    """The family: two players, and a sample in one step."""

    def __init__(self, config: GanConfig) -> None:
        super().__init__()
        self.config = config
        self.generator = Generator(config)
        self.critic = Critic(config)

    # --- Training ------------------------------------------------------------------------------

    def noise(self, count: int, device: torch.device) -> Tensor:
        """(count, Z), standard normal, from the generator that the trainer seeds."""
        return torch.randn(count, self.config.noise, device=device)

    def critic_loss(self, batch: Batch) -> Loss:
        """`critic_objective` of the batch and as many made pictures with its conditions."""
        real, told = batch["images"], (batch["style"], batch["words"])
        self._clip()
        with torch.no_grad():  # nothing goes back to the generator
            made = self.generator(self.noise(len(real), real.device), *told)
        value, metrics = critic_objective(
            self.config.loss,
            lambda images: self.critic(images, *told),
            real,
            made,
            self.config.penalty_weight,
        )
        return Loss(value, metrics)

    def generator_loss(self, batch: Batch) -> Loss:
        """`generator_objective`; of held-out pictures also `distance` from as many made ones.

        It is the energy distance of pictures averaged down to 8 pixels a side, in grey levels of a
        pixel (from -1 to 1): a place that is off by a pixel matters little, all else does. It is a
        measure of its own, for the losses of contenders do not say how good the pictures are.
        """
        real, told = batch["images"], (batch["style"], batch["words"])
        self._clip()
        made = self.generator(self.noise(len(real), real.device), *told)
        value = generator_objective(
            self.config.loss, lambda images: self.critic(images, *told), real, made
        )
        metrics: Metrics = {}
        if not self.training:
            small = [F.adaptive_avg_pool2d(images, 8).flatten(1) / 8 for images in (real, made)]
            count = torch.tensor(len(real), device=real.device)
            metrics["distance"] = energy_distance(*small).detach() * count, count
        return Loss(value, metrics)

    def _clip(self) -> None:
        """Of wgan: clips the critic's weights.

        The paper does so after each update of the critic, the trainer knows of none of this, so it
        is done before each loss of either player: no loss ever meets other weights. Not in
        validation, whose weights are not those that train.
        """
        if self.training and self.config.loss == "wgan":
            clip_weights(self.critic, self.config.clip)

    def players(self) -> tuple[Player, ...]:
        """The critic first, then the generator."""
        return (
            Player(
                "critic",
                self.critic,
                self.critic_loss,
                steps=self.config.updates,
                autocast=not self.config.second_order,
            ),
            Player("generator", self.generator, self.generator_loss),
        )

    def monitor(self) -> str:
        """The distance of made pictures from held-out ones."""
        return "generator/distance"

    def noise_of(self) -> tuple[str, tuple[int, ...]]:
        """The field of a request that holds its noise, and its shape."""
        return "noise", (self.config.noise,)

    def drawn(self, noise: Tensor, style: Tensor, words: Tensor) -> Tensor:
        """(B, Z), (B,), (B, W) -> pictures (B, 1, S, S) from -1 to 1."""
        return self.generator(noise, style, words)
