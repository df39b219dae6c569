"""Diffusion and flow matching: a U-Net that takes noise out of pictures.

Batches (musegen/data/image_batches.py): `images` (B, 1, S, S) from -1 to 1, `style` (B,), `words`
(B, W), where 0 is not told.

Letters: B batch, S pixels of a side, W words of a picture, t time: of a flow from 0, noise, to 1,
the picture; of a chain t / T, from 1, noise, to 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musegen.errors import UsageError
from musegen.models.base import Batch, DrawLike, GenerativeModel, Loss, Player
from musegen.models.image_config import DiffusionConfig
from musegen.models.image_layers import (
    Conditions,
    ResBlock,
    SelfAttention,
    asked_conditions,
    groups,
    time_features,
    zeroed,
)
from musegen.models.processes import Ddpm, Flow

__all__ = ["Diffusion", "DiffusionRequest", "UNet"]


@dataclass(frozen=True, eq=False)
class DiffusionRequest:
    """One picture that is asked for. All of a batch have the same steps, solver and guidance."""

    style: int = 0
    """1.. ; 0 is not told."""
    words: tuple[int, ...] = ()
    guidance: float = 1.0
    """uncond + w (cond - uncond); 1 is the conditions as trained, 0 leaves them out."""
    steps: int = 5
    """Solver steps; of Heun each but the last evaluates the network twice, so 5 are 9."""
    eta: float = 0.0
    """Of a chain: how much noise each step adds; 1 is DDPM."""
    start: np.ndarray | None = None
    """(1, S, S) from -1 to 1: a picture to go on from, or to fill in."""
    strength: float = 1.0
    """How much of the way is gone anew from `start`: 1 forgets it."""
    mask: np.ndarray | None = None
    """(1, S, S) booleans: what of `start` is written anew; the rest stays."""
    noise: np.ndarray | None = None
    """(1, S, S): the noise to begin with, in place of a drawn one: for ways between pictures."""


class UNet(nn.Module):
    """Down, across and up again, with straight ways between levels of one size.

    The head begins at 0 and is plain: noise has both signs.
    """

    def __init__(self, config: DiffusionConfig) -> None:
        super().__init__()
        self.config = config
        size, width = config.embedding, config.width
        self.told = Conditions(config.styles, config.words, size)
        self.time = nn.Sequential(nn.Linear(size, size), nn.SiLU(), nn.Linear(size, size))
        self.first = nn.Conv2d(1, width, 3, padding=1)
        channels = [width * multiple for multiple in config.multiples]
        now, kept, side = width, [width], config.size
        self.down = nn.ModuleList()
        for level, wide in enumerate(channels):
            for _ in range(config.blocks):
                self.down.append(self._block(now, wide, side))
                now = wide
                kept.append(now)
            if level + 1 < len(channels):
                self.down.append(nn.Conv2d(now, now, 3, stride=2, padding=1))
                side //= 2
                kept.append(now)
        self.middle = self._block(now, now, side)
        self.up = nn.ModuleList()
        for level, wide in reversed(list(enumerate(channels))):
            for _ in range(config.blocks + 1):
                self.up.append(self._block(now + kept.pop(), wide, side))
                now = wide
            if level:
                self.up.append(nn.Conv2d(now, now, 3, padding=1))
                side *= 2
        self.last = nn.GroupNorm(groups(now), now)
        self.head = zeroed(nn.Conv2d(now, 1, 3, padding=1))

    def _block(self, inner: int, outer: int, side: int) -> nn.ModuleList:
        attends = side <= self.config.attention
        return nn.ModuleList(
            [
                ResBlock(inner, outer, self.config.embedding, self.config.dropout),
                SelfAttention(outer) if attends else nn.Identity(),
            ]
        )

    def forward(self, x: Tensor, t: Tensor, style: Tensor, words: Tensor) -> Tensor:
        """Pictures (B, 1, S, S) at times (B,) -> what the network is to say, (B, 1, S, S)."""
        embedding = self.time(time_features(t, self.config.embedding)) + self.told(style, words)
        h = self.first(x)
        kept = [h]
        for part in self.down:
            h = _through(part, h, embedding)
            kept.append(h)
        h = _through(self.middle, h, embedding)
        for part in self.up:
            if isinstance(part, nn.ModuleList):
                h = _through(part, torch.cat((h, kept.pop()), dim=1), embedding)
            else:
                h = part(F.interpolate(h, scale_factor=2.0, mode="nearest"))
        return self.head(F.silu(self.last(h)))


def _through(part: Any, h: Tensor, embedding: Tensor) -> Tensor:
    if isinstance(part, nn.ModuleList):
        return part[1](part[0](h, embedding))
    return part(h)


@dataclass
class _State:
    """Pictures in the making."""

    x: Tensor
    asked: DiffusionRequest
    """What holds for all: steps, eta, guidance."""
    style: Tensor
    words: Tensor
    times: list[float]
    """Where each step begins, and where the last one ends."""
    rows: list[int]
    given: Tensor | None
    """(B, 1, S, S): the pictures to fill in."""
    noise: Tensor
    """What the walk began with."""
    mask: Tensor | None
    done: int = 0
    evaluations: int = field(default=0)


class Diffusion(GenerativeModel):
    """The family of pictures out of noise: `process` flow or ddpm."""

    def __init__(self, config: DiffusionConfig) -> None:
        super().__init__()
        self.config = config
        self.net = UNet(config)
        self.chain = Ddpm.of(config.schedule, config.chain)

    # --- Training ------------------------------------------------------------------------------

    def loss(self, batch: Batch) -> Loss:
        """The mean square error of what the network says, over random times and noise.

        The metric `error` of held-out pictures is of the same times and noise each time.
        """
        clean = batch["images"]
        count = len(clean)
        if self.training:
            eps, level = torch.randn_like(clean), None
        else:
            generator = torch.Generator().manual_seed(count)
            eps = torch.randn(clean.shape, generator=generator).to(clean.device)
            level = ((torch.arange(count) + 0.5) / count).to(clean.device)
        if self.config.process == "flow":
            t = Flow.times(count, clean.device) if level is None else level
            noisy, target = Flow.noised(clean, t, eps), Flow.target(clean, eps)
        else:
            steps = self.chain.steps
            if level is None:
                number = torch.randint(1, steps + 1, (count,), device=clean.device)
            else:
                number = (level * steps).long() + 1
            noisy = self.chain.noised(clean, number, eps)
            target = self.chain.target(clean, number, eps, self.config.says)
            t = number / steps
        said = self.net(noisy, t, batch["style"], batch["words"])
        each = F.mse_loss(said.float(), target, reduction="none")
        total = each.detach().sum(), torch.tensor(each.numel(), device=each.device)
        return Loss(each.mean(), {"error": total})

    def players(self) -> tuple[Player, ...]:
        """One."""
        return (Player("model", self, self.loss),)

    def monitor(self) -> str:
        """The held-out error."""
        return "error"

    def noise_of(self) -> tuple[str, tuple[int, ...]]:
        """The field of a request that holds its noise, and its shape."""
        return "noise", (1, self.config.size, self.config.size)

    # --- Sampling ------------------------------------------------------------------------------

    def begin(self, requests: Sequence[DiffusionRequest], draw: DrawLike) -> _State:
        """Noise, or as much of it over the given pictures as is asked for."""
        device = next(self.parameters()).device
        style, words = asked_conditions(requests, self.config.styles, self.config.words, device)
        first = requests[0]
        shared = [(r.steps, r.eta, r.guidance, r.strength) for r in requests]
        if len(set(shared)) > 1:
            raise UsageError(
                "the requests of one batch must agree in steps, eta, guidance, strength"
            )
        if first.steps < 1 or not 0 < first.strength <= 1 or not 0 <= first.eta <= 1:
            raise UsageError(
                f"steps {first.steps}, strength {first.strength:g}, eta {first.eta:g}: at least 1, "
                "above 0 to 1, and 0 to 1"
            )
        if first.guidance != 1 and not (self.config.styles or self.config.words):
            raise UsageError(
                f"guidance {first.guidance:g}: the model was trained without conditions"
            )
        rows = list(range(len(requests)))
        size = (1, self.config.size, self.config.size)
        drawn = draw.noise(size, rows)
        for row, request in enumerate(requests):
            if request.noise is not None:
                drawn[row] = request.noise
        noise = torch.as_tensor(drawn, dtype=torch.float32, device=device)
        given = self._given(requests, device)
        if first.strength < 1 and given is None:
            raise UsageError(f"strength {first.strength:g}: there is no picture to go on from")
        times = np.linspace(1 - first.strength, 1.0, first.steps + 1).tolist()
        state = _State(
            x=noise,
            asked=replace(first, start=None, mask=None, noise=None),
            style=style,
            words=words,
            times=times,
            rows=rows,
            given=given,
            noise=noise,
            mask=self._mask(requests, device),
        )
        if given is not None:
            state.x = self._at(given, noise, times[0])
        return state

    def _given(self, requests: Sequence[DiffusionRequest], device: torch.device) -> Tensor | None:
        pictures = [request.start for request in requests]
        if any(picture is None for picture in pictures):
            if any(picture is not None for picture in pictures):
                raise UsageError("all requests of one batch, or none, must have a picture")
            return None
        return torch.as_tensor(np.stack(pictures), dtype=torch.float32, device=device)  # type: ignore[arg-type]

    def _mask(self, requests: Sequence[DiffusionRequest], device: torch.device) -> Tensor | None:
        masks = [request.mask for request in requests]
        if any(mask is None for mask in masks):
            return None
        return torch.as_tensor(np.stack(masks), dtype=torch.bool, device=device)  # type: ignore[arg-type]

    def _at(self, clean: Tensor, eps: Tensor, place: float) -> Tensor:
        """Pictures with the noise of a place on the way, from 0, all noise, to 1, none."""
        if self.config.process == "flow":
            return Flow.noised(clean, torch.full((len(clean),), place, device=clean.device), eps)
        return self.chain.noised(clean, self._number(place, clean), eps)

    def _number(self, place: float, like: Tensor) -> Tensor:
        """The step of the chain at a place of the way: (B,)."""
        number = round((1 - place) * self.chain.steps)
        return torch.full((len(like),), number, device=like.device)

    def _says(self, state: _State, x: Tensor, t: Tensor, draw: DrawLike) -> Tensor:
        """What the network says, guided."""
        state.evaluations += 1
        weight = state.asked.guidance
        if weight == 1:
            return self.net(x, t, state.style, state.words)
        both = self.net(
            torch.cat((x, x)),
            torch.cat((t, t)),
            torch.cat((state.style, torch.zeros_like(state.style))),
            torch.cat((state.words, torch.zeros_like(state.words))),
        )
        told, untold = both.chunk(2)
        return draw.guided(told, untold, weight)

    def step(self, state: _State, draw: DrawLike) -> _State:
        """One step of the solver: Heun's for a flow, Euler's for its last; DDIM for a chain."""
        here, there = state.times[state.done : state.done + 2]
        if self.config.process == "flow":
            x = self._flow_step(state, here, there, draw)
        else:
            x = self._chain_step(state, here, there, draw)
        if state.mask is not None and state.given is not None:
            x = torch.where(state.mask, x, self._at(state.given, state.noise, there))
        state.x, state.done = x, state.done + 1
        return state

    def _flow_step(self, state: _State, here: float, there: float, draw: DrawLike) -> Tensor:
        def at(place: float) -> Tensor:
            return torch.full((len(state.x),), place, device=state.x.device)

        slope = self._says(state, state.x, at(here), draw)
        ahead = state.x + (there - here) * slope
        if there >= 1:
            return ahead
        second = self._says(state, ahead, at(there), draw)
        return state.x + (there - here) * (slope + second) / 2

    def _chain_step(self, state: _State, here: float, there: float, draw: DrawLike) -> Tensor:
        now, before = self._number(here, state.x), self._number(there, state.x)
        if torch.equal(now, before):  # more steps are asked for than the chain has there
            return state.x
        said = self._says(state, state.x, now / self.chain.steps, draw)
        clean = self.chain.clean(said, state.x, now, self.config.says).clamp(-1, 1)
        eps = torch.zeros_like(state.x)
        if state.asked.eta:
            eps = torch.as_tensor(draw.noise(tuple(state.x.shape[1:]), state.rows)).to(state.x)
        return self.chain.ddim(clean, state.x, now, before, state.asked.eta, eps)

    def done(self, state: _State) -> bool:
        """Whether the walk is at its end."""
        return state.done >= state.asked.steps

    def finish(self, state: _State) -> list[np.ndarray]:
        """Pictures (1, S, S) float32 from -1 to 1, one a request; early: the guess of now."""
        return list(state.x.clamp(-1, 1).float().cpu().numpy())
