"""A variational autoencoder of pictures (Kingma & Welling 2014), told style and words.

Batches (musegen/data/image_batches.py): `images` (B, 1, S, S) from -1 to 1, `style` (B,), `words`
(B, W), where 0 is not told. The encoder sees the picture alone; the decoder is told the rest, so
that the latent need not hold it.

The likelihood is one of 256 grey levels, so that bits are bits: it sums to 1 over what a pixel can
be, and the bound compares with what any compressor of the same files would need.

Letters: B batch, C channels, D numbers of an embedding, S pixels of a side, W words, Z latent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musegen.models.base import Batch, Loss, Player
from musegen.models.image_layers import Conditions, ResBlock, groups, zeroed
from musegen.models.image_vae_config import ImageVaeConfig
from musegen.models.one_step import OneStep

__all__ = ["ImageVae", "ImageVaeRequest", "kl_to_standard", "log_probability"]

LOG_SCALES = (-7.0, 7.0)
"""Of the logistic, least and most: from an eighth of a grey level to hardly a slope at all."""

MOST_LOG_VAR = 12.0
"""Of the posterior, of either sign: beyond it exp would not be finite for long."""

ACTIVE_VARIANCE = 0.01
"""A unit of the latent is active where its mean varies more than this over pictures (Burda et al.
2016, section 5)."""

FEW_ACTIVE = 0.1
"""A smaller share of active units is a collapse."""


def log_probability(images: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Log probability, in nats, of the grey level of each number of `images`, from -1 to 1.

    A logistic cut at the borders of the 256 levels, the outer ones open (Salimans et al. 2017,
    equation 2): sigmoid(a) - sigmoid(b) with a and b the upper and lower border, scaled. Written as
    sigmoid(a) sigmoid(-b) (1 - exp(b - a)) it needs no case for narrow or far-off logistics.
    """
    levels = ((images.float() + 1) * 127.5).round().clamp(0, 255)
    centre = levels / 127.5 - 1
    sharp = torch.exp(-log_scale)
    upper = (centre + 1 / 255 - mean) * sharp
    lower = (centre - 1 / 255 - mean) * sharp
    inner = F.logsigmoid(upper) + F.logsigmoid(-lower) + torch.log(-torch.expm1(-sharp * 2 / 255))
    outer = torch.where(levels < 0.5, F.logsigmoid(upper), F.logsigmoid(-lower))
    return torch.where((levels < 0.5) | (levels > 254.5), outer, inner)


def kl_to_standard(mean: Tensor, log_var: Tensor) -> Tensor:
    """(B,): KL(q || N(0, I)) in nats, of diagonal Gaussians q (B, Z).

    Kingma & Welling 2014, appendix B, with its sign turned: sum of (m^2 + v - 1 - log v) / 2.
    """
    return 0.5 * (mean.square() + log_var.exp() - 1 - log_var).sum(1)


class Encoder(nn.Module):
    """Pictures to the mean and the log variance of a diagonal Gaussian."""

    def __init__(self, config: ImageVaeConfig) -> None:
        super().__init__()
        channels = config.channels
        self.first = nn.Conv2d(1, channels[0], 3, padding=1)
        self.levels = nn.ModuleList(
            nn.Sequential(
                ResBlock(inner, inner, 0), nn.Conv2d(inner, outer, 4, stride=2, padding=1)
            )
            for inner, outer in pairwise(channels)
        )
        self.norm = nn.GroupNorm(groups(channels[-1]), channels[-1])
        self.last = nn.Linear(channels[-1] * 16, 2 * config.latent)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 1, S, S) -> (B, Z), (B, Z)."""
        h = self.first(images)
        for level in self.levels:
            h = level(h)
        mean, log_var = self.last(F.silu(self.norm(h)).flatten(1)).float().chunk(2, dim=1)
        return mean, log_var.clamp(-MOST_LOG_VAR, MOST_LOG_VAR)


class Decoder(nn.Module):
    """Latents and conditions to a logistic of each pixel: 4 pixels a side, doubled level by level.

    Each block is told the latent with style and words; the head begins at 0, the middle grey.
    """

    def __init__(self, config: ImageVaeConfig) -> None:
        super().__init__()
        channels = tuple(reversed(config.channels))
        size = config.embedding
        self.told = Conditions(config.styles, config.words, size)
        self.latent = nn.Linear(config.latent, size)
        self.first = nn.Linear(config.latent, channels[0] * 16)
        self.blocks = nn.ModuleList(
            ResBlock(inner, outer, size)
            for inner, outer in pairwise((channels[0], *channels))  # one a level, 4 pixels first
        )
        self.norm = nn.GroupNorm(groups(channels[-1]), channels[-1])
        self.head = zeroed(nn.Conv2d(channels[-1], 2, 3, padding=1))

    def forward(self, z: Tensor, style: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        """(B, Z), (B,), (B, W) -> mean and log scale, (B, 1, S, S) each."""
        told = self.latent(z) + self.told(style, words)
        h = self.first(z).view(len(z), -1, 4, 4)
        for level, block in enumerate(self.blocks):
            if level:
                h = F.interpolate(h, scale_factor=2.0, mode="nearest")
            h = block(h, told)
        mean, log_scale = self.head(F.silu(self.norm(h))).float().chunk(2, dim=1)
        return mean, log_scale.clamp(*LOG_SCALES)


@dataclass(frozen=True, eq=False)
class ImageVaeRequest:
    """One picture that is asked for."""

    style: int = 0
    """1.. ; 0 is not told."""
    words: tuple[int, ...] = ()
    latent: np.ndarray | None = None
    """(Z,) numbers, as of the prior or of `encode`, in place of drawn ones."""


class ImageVae(OneStep):
    """The family of pictures from a Gaussian latent."""

    def __init__(self, config: ImageVaeConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    # --- Training ------------------------------------------------------------------------------

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures (B, 1, S, S) -> mean and log variance of q(z|x), (B, Z) each."""
        return self.encoder(images)

    def loss(self, batch: Batch) -> Loss:
        """Minus the bound, reconstruction + beta KL, in bits a pixel; one sample of q a picture.

        Metrics: `bits_per_dim`, the bound at beta 1 whatever beta is, (reconstruction + KL) /
        (S^2 ln 2); `kl`, in nats a picture; `active`, the share of units of the latent whose mean
        varies over the batch.
        """
        images, config = batch["images"], self.config
        mean, log_var = self.encode(images)
        z = mean + torch.exp(0.5 * log_var) * torch.randn_like(mean)
        said = self.decoder(z, batch["style"], batch["words"])
        given = -log_probability(images, *said).flatten(1).sum(1)
        kl = kl_to_standard(mean, log_var)
        bits = math.log(2) * images[0].numel()
        value = (given + config.beta * kl).mean() / bits
        count = torch.tensor(len(images), device=images.device)
        varied = mean.detach().var(0, unbiased=False) > ACTIVE_VARIANCE
        units = torch.tensor(config.latent, device=images.device)
        return Loss(
            value,
            {
                "bits_per_dim": ((given + kl).detach().sum() / bits, count),
                "kl": (kl.detach().sum(), count),
                "active": (varied.sum(), units),
            },
        )

    def players(self) -> tuple[Player, ...]:
        """One."""
        return (Player("model", self, self.loss),)

    def monitor(self) -> str:
        """The bound of the likelihood."""
        return "bits_per_dim"

    def alarms(self, values: Mapping[str, float]) -> Sequence[str]:
        """Says so when the posterior has collapsed."""
        if values.get("active", 1.0) >= FEW_ACTIVE:
            return ()
        return (
            f"posterior collapse: under {FEW_ACTIVE:.0%} of the latent's units are active; lower "
            "model.beta, or train longer",
        )

    def noise_of(self) -> tuple[str, tuple[int, ...]]:
        """The field of a request that holds its noise, and its shape."""
        return "latent", (self.config.latent,)

    def drawn(self, noise: Tensor, style: Tensor, words: Tensor) -> Tensor:
        """Latents (B, Z), (B,), (B, W) -> the middle of each pixel's logistic, (B, 1, S, S)."""
        return self.decoder(noise, style, words)[0]
