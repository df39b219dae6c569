"""How pictures are drawn in one step: the sampling half of families that need no more.

Letters: B batch, S pixels of a side, W words of a picture, Z numbers that a picture is made of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from musegen.errors import UsageError
from musegen.models.base import DrawLike, GenerativeModel
from musegen.models.image_layers import asked_conditions

__all__ = ["OneStep"]


@dataclass
class _State:
    noise: Tensor
    style: Tensor
    words: Tensor
    images: Tensor | None = None


class OneStep(GenerativeModel):
    """`begin`, `step`, `done` and `finish` for a family that says `noise_of` and `drawn`."""

    def noise_of(self) -> tuple[str, tuple[int, ...]]:
        """The field of a request that holds its noise, and its shape (Z,)."""
        raise TypeError(f"{type(self).__name__} does not define noise_of()")

    def drawn(self, noise: Tensor, style: Tensor, words: Tensor) -> Tensor:
        """(B, Z), (B,), (B, W) -> pictures (B, 1, S, S) from -1 to 1."""
        raise TypeError(f"{type(self).__name__} does not define drawn()")

    def begin(self, requests: Sequence[Any], draw: DrawLike) -> _State:
        """N(0, I) for each, or what it brings. Raises UsageError for what cannot be asked."""
        device = next(self.parameters()).device
        style, words = asked_conditions(requests, self.config.styles, self.config.words, device)
        name, shape = self.noise_of()
        noise = draw.noise(shape, list(range(len(requests))))
        for row, request in enumerate(requests):
            given = getattr(request, name)
            if given is not None:
                noise[row] = _checked(given, name, shape)
        return _State(torch.as_tensor(noise, dtype=torch.float32, device=device), style, words)

    def step(self, state: _State, draw: DrawLike) -> _State:
        """All of it."""
        state.images = self.drawn(state.noise, state.style, state.words)
        return state

    def done(self, state: _State) -> bool:
        """Whether the pictures are there."""
        return state.images is not None

    def finish(self, state: _State) -> list[np.ndarray]:
        """Pictures (1, S, S) float32 from -1 to 1, one a request; early: none."""
        if state.images is None:
            return []
        return list(state.images.clamp(-1, 1).float().cpu().numpy())


def _checked(given: np.ndarray, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """What a request brings. Raises UsageError: integers are ids and not noise."""
    given = np.asarray(given)
    if given.shape != shape or not np.issubdtype(given.dtype, np.floating):
        raise UsageError(
            f"{name} of shape {given.shape} and type {given.dtype}: this model takes "
            f"{shape[0]} floats, as of a standard normal"
        )
    if not np.isfinite(given).all():
        raise UsageError(f"{name} that is not finite: give {shape[0]} finite floats")
    return given
