"""The parts of image models, one idea each.

Letters: B batch, C channels, S pixels of a side, D numbers of an embedding, W words of a picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musegen.errors import UsageError

__all__ = [
    "Conditions",
    "Levels",
    "ResBlock",
    "SelfAttention",
    "asked_conditions",
    "groups",
    "time_features",
    "zeroed",
]


class _Asked(Protocol):
    @property
    def style(self) -> int: ...

    @property
    def words(self) -> Sequence[int]: ...


def asked_conditions(
    requests: Sequence[_Asked], styles: int, words: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """The styles (B,) and the words (B, W) of requests to a model that has so many of each.

    Raises UsageError: no request, or ids that the model has not.
    """
    if not requests:
        raise UsageError("nothing was asked for: give one request at least")
    for request in requests:
        if not 0 <= request.style <= styles:
            raise UsageError(f"style {request.style}: this model has {styles}")
        if any(not 0 <= word <= words for word in request.words):
            raise UsageError(f"words {tuple(request.words)}: this model has {words}")
    longest = max(1, *(len(request.words) for request in requests))
    rows = [[*request.words, *[0] * (longest - len(request.words))] for request in requests]
    style = torch.tensor([request.style for request in requests], device=device)
    return style, torch.tensor(rows, device=device)


def time_features(t: Tensor, size: int, scale: float = 1000.0) -> Tensor:
    """Times (B,) from 0 to 1 -> (B, size): cosines and sines of geometric speeds.

    As positions in Vaswani et al. 2017, section 3.5, with times in thousandths: a plain number into
    a linear layer would tell near times apart badly.
    """
    half = size // 2
    speeds = torch.exp(-math.log(10_000) * torch.arange(half, device=t.device) / half)
    angles = scale * t.float()[:, None] * speeds
    return torch.cat((angles.cos(), angles.sin()), dim=-1)


def groups(channels: int) -> int:
    """Groups of GroupNorm: of 8 channels or more, at most 16."""
    return max(g for g in range(1, 17) if (channels % g == 0 and channels // g >= 8) or g == 1)


def zeroed(layer: nn.Module) -> nn.Module:
    """The layer with weights 0: what follows it begins as nothing, of either sign later."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class Conditions(nn.Module):
    """Style and words as one vector; what is not told (0) adds nothing."""

    def __init__(self, styles: int, words: int, size: int) -> None:
        super().__init__()
        self.style = nn.Embedding(styles + 1, size, padding_idx=0)
        self.words = nn.EmbeddingBag(words + 1, size, mode="sum", padding_idx=0)
        for table in (self.style, self.words):
            nn.init.normal_(table.weight, std=size**-0.5)
            with torch.no_grad():
                table.weight[0] = 0.0

    def forward(self, style: Tensor, words: Tensor) -> Tensor:
        """(B,), (B, W) -> (B, D): the style, and the words' sum over the root of their number."""
        count = (words > 0).sum(1, keepdim=True).clamp(min=1)
        return self.style(style) + self.words(words) / count.sqrt()


class ResBlock(nn.Module):
    """Two convolutions beside a straight way; an embedding scales and shifts in between.

    GroupNorm, not BatchNorm: the pictures of a batch are at unlike levels of noise.
    """

    def __init__(self, inner: int, outer: int, embedding: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm1, self.norm2 = (
            nn.GroupNorm(groups(inner), inner),
            nn.GroupNorm(groups(outer), outer),
        )
        self.conv1 = nn.Conv2d(inner, outer, 3, padding=1)
        self.conv2 = zeroed(nn.Conv2d(outer, outer, 3, padding=1))
        self.told = nn.Linear(embedding, 2 * outer) if embedding else None
        self.skip = nn.Conv2d(inner, outer, 1) if inner != outer else nn.Identity()
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        """(B, C, S, S), (B, D) -> (B, C', S, S)."""
        h = self.norm2(self.conv1(F.silu(self.norm1(x))))
        if self.told is not None and embedding is not None:
            scale, shift = self.told(F.silu(embedding))[..., None, None].chunk(2, dim=1)
            h = h * (1 + scale) + shift
        return self.skip(x) + self.conv2(self.dropout(F.silu(h)))


class Levels(nn.Module):
    """A picture as maps of several sides, each level half as wide as the one before."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, channels[0], 3, padding=1)
        self.levels = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(inner, outer, 3, stride=2, padding=1), ResBlock(outer, outer, 0)
            )
            for inner, outer in pairwise(channels)
        )

    def maps(self, images: Tensor) -> list[Tensor]:
        """(B, 1, S, S) -> the maps (B, C, S', S') of each level, the largest first."""
        found = [self.first(images)]
        for level in self.levels:
            found.append(level(found[-1]))
        return found


class SelfAttention(nn.Module):
    """Every place of a small picture looks at every other: weights from queries and keys."""

    def __init__(self, channels: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(groups(channels), channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = zeroed(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, S, S) -> (B, C, S, S)."""
        batch, channels, high, wide = x.shape
        qkv = self.qkv(self.norm(x)).view(batch, 3, self.heads, channels // self.heads, high * wide)
        q, k, v = qkv.transpose(3, 4).unbind(1)
        read = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(read.transpose(2, 3).reshape(batch, channels, high, wide))
