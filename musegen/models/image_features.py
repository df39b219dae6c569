"""What pictures are measured with: a small network that learnt to describe them.

Two tasks need none: by how many quarters a picture is turned (Gidaris et al. 2018), and which two
of many views, shifted, zoomed and partly wiped out, are of one picture (NT-Xent, Chen et al. 2020,
equation 1). A third head names the style, for a model's obedience to be measured. It is no
Inception: distances between its features are never to be set beside a published FID.

Letters: B batch, S pixels of a side, D features, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musegen.models.base import Batch, GenerativeModel, Loss, Player
from musegen.models.image_features_config import ImageFeaturesConfig
from musegen.models.image_layers import Levels, groups

__all__ = ["ImageFeatures", "contrast_loss", "described", "views"]


def views(images: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Pictures (B, 1, S, S) shifted and zoomed by up to an eighth, a square of each wiped out."""
    count, side = len(images), images.shape[-1]

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator).to(images.device)

    turn = torch.zeros(count, 2, 3, device=images.device)
    zoom = 1 + 0.25 * (uniform(count) - 0.5)
    turn[:, 0, 0] = turn[:, 1, 1] = zoom
    turn[:, :, 2] = 0.5 * (uniform(count, 2) - 0.5)
    grid = F.affine_grid(turn, list(images.shape), align_corners=False)
    seen = F.grid_sample(images - 1, grid, align_corners=False) + 1  # what comes in is white
    corner = uniform(count, 2) * 0.75 * side
    place = torch.arange(side, device=images.device)
    wiped = [
        (place >= corner[:, k, None]) & (place < corner[:, k, None] + side / 4) for k in (0, 1)
    ]
    return torch.where((wiped[0][:, :, None] & wiped[1][:, None])[:, None], 1.0, seen)


def contrast_loss(one: Tensor, other: Tensor, temperature: float) -> Tensor:
    """NT-Xent of features (B, D) of two views of the same B pictures."""
    every = F.normalize(torch.cat((one, other)).float(), dim=1)
    alike = every @ every.T / temperature
    alike.fill_diagonal_(-torch.inf)
    count = len(one)
    partner = torch.cat((torch.arange(count) + count, torch.arange(count))).to(one.device)
    return F.cross_entropy(alike, partner)


class ImageFeatures(Levels, GenerativeModel):
    """Pictures to features. It is trained as every family is, and writes nothing."""

    def __init__(self, config: ImageFeaturesConfig) -> None:
        super().__init__(config.channels)
        self.config = config
        channels = config.channels
        self.norm = nn.GroupNorm(groups(channels[-1]), channels[-1])
        # Where something is says how a picture is turned: the places are kept, not averaged.
        self.last = nn.Linear(channels[-1] * 16, config.features)
        self.contrast = nn.Linear(config.features, 64)
        self.turned = nn.Linear(config.features, 4)
        self.styled = nn.Linear(config.features, max(1, config.styles))

    def features(self, images: Tensor) -> Tensor:
        """(B, 1, S, S) -> (B, D) float32."""
        deepest = F.silu(self.norm(self.maps(images)[-1]))
        return self.last(deepest.flatten(1)).float()

    def style_logits(self, images: Tensor) -> Tensor:
        """(B, 1, S, S) -> (B, styles): style k of the set is column k - 1."""
        return self.styled(torch.tanh(self.features(images)))

    def loss(self, batch: Batch) -> Loss:
        """The three tasks together. Metrics: `turned` and `styled`, shares that are right."""
        images, style = batch["images"], batch["style"]
        count, device = len(images), images.device
        seed = None if self.training else torch.Generator().manual_seed(count)
        quarters = torch.arange(count, device=device) % 4
        turned = torch.stack(
            [torch.rot90(one, int(q), (1, 2)) for one, q in zip(images, quarters, strict=True)]
        )
        pair = [views(images, seed), views(images, seed)]
        every = self.features(torch.cat((turned, *pair)))
        bent = torch.tanh(every)
        said_turn = self.turned(bent[:count]).float()
        said_style = self.styled(bent[count:]).float()
        known = style.repeat(2) > 0
        value = F.cross_entropy(said_turn, quarters)
        one, other = self.contrast(bent[count:]).chunk(2)
        value = value + contrast_loss(one, other, self.config.temperature)
        metrics = {"turned": _right(said_turn, quarters)}
        if self.config.styles and bool(known.any()):
            wanted = style.repeat(2)[known] - 1
            value = value + F.cross_entropy(said_style[known], wanted)
            metrics["styled"] = _right(said_style[known], wanted)
        return Loss(value, metrics)

    def players(self) -> tuple[Player, ...]:
        """One."""
        return (Player("model", self, self.loss),)


def _right(logits: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """How many are right, of how many."""
    right = (logits.detach().argmax(1) == wanted).sum()
    return right, torch.tensor(len(wanted), device=logits.device)


def described(model: ImageFeatures, images: Tensor, batch_size: int = 256) -> tuple[Tensor, Tensor]:
    """Features (N, D) and the likeliest style (N,), from 1, of many pictures (N, 1, S, S)."""
    features: list[Tensor] = []
    styles: list[Tensor] = []
    chunks: Sequence[Tensor] = images.split(batch_size)
    with model.sampling():
        for chunk in chunks:
            found = model.features(chunk)
            features.append(found)
            styles.append(1 + model.styled(torch.tanh(found)).argmax(1))
    return torch.cat(features), torch.cat(styles)
