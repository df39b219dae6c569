"""The style of one picture on the content of another, in two ways.

`adain` is one pass: an encoder's map of the content is given the mean and the spread of the style's
map in each channel, and a decoder, which is all that is trained, turns it into a picture (Huang &
Belongie 2017). `gatys` trains nothing: the pixels themselves are moved by L-BFGS until the map of
the content and the Gram matrices of the style are met (Gatys et al. 2016). Both see pictures with
the same encoder, that of an `image_features` model, which stays as it is.

Batches are those of the image models (musegen/data/image_batches.py): each picture is a content,
and the next one of the batch its style.

Letters: B batch, C channels, H and W places of a map, S pixels of a side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musegen.errors import UsageError
from musegen.models.base import Batch, DrawLike, GenerativeModel, Loss, Player
from musegen.models.image_layers import Levels, ResBlock
from musegen.models.stylizer_config import StylizerConfig

__all__ = ["StyleRequest", "Stylizer", "adain", "gram", "moments", "pixel_objective"]

METHODS = ("adain", "gatys")

ITERATIONS = 10
"""Of L-BFGS in one step of the sampler."""

SMOOTH = 0.02
"""Weight of the differences of neighbouring pixels, which no map of the encoder sees well."""

# --- Statistics of maps ---------------------------------------------------------------------------


def gram(maps: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, C): products of channels, mean over places.

    Gatys et al. 2016, equation 3, over the number of places, so that sizes can be compared.
    """
    flat = maps.flatten(2)
    return flat @ flat.transpose(1, 2) / flat.shape[2]


def moments(maps: Tensor) -> tuple[Tensor, Tensor]:
    """(B, C, H, W) -> mean and standard deviation over places, (B, C, 1, 1) each."""
    mean = maps.mean((2, 3), keepdim=True)
    variance = (maps - mean).square().mean((2, 3), keepdim=True)
    return mean, (variance + 1e-5).sqrt()


def adain(content: Tensor, style: Tensor) -> Tensor:
    """The content's map with the style's moments: Huang & Belongie 2017, equation 8."""
    (mean, deviation), (new_mean, new_deviation) = moments(content), moments(style)
    return new_deviation * (content - mean) / deviation + new_mean


def _of_style(made: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """How far Gram matrices (B, C, C) are from those wanted: 1 as far as none at all; (B,)."""
    parts = [
        (one - two).square().sum((1, 2)) / two.square().sum((1, 2))
        for one, two in zip(made, wanted, strict=True)
    ]
    return torch.stack(parts).mean(0)


def _of_content(made: Tensor, wanted: Tensor) -> Tensor:
    """How far a map (B, C, H, W) is from the one wanted, in variances of its own; (B,)."""
    spread = (wanted - wanted.mean((2, 3), keepdim=True)).square().mean((1, 2, 3))
    return (made - wanted).square().mean((1, 2, 3)) / spread.clamp(min=1e-6)


def pixel_objective(
    maps: Sequence[Tensor], content: Tensor, grams: Sequence[Tensor], strength: float
) -> Tensor:
    """What `gatys` minimises: (1 - strength) content + strength style; (B,).

    Gatys et al. 2016, equation 7, with both parts relative to what they are compared with, so that
    half means half whatever the pictures.
    """
    styles = _of_style([gram(one) for one in maps], grams)
    return (1 - strength) * _of_content(maps[-1], content) + strength * styles


# --- The family -----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class StyleRequest:
    """One picture that is asked for."""

    content: np.ndarray
    """(1, S, S) float32 from -1 to 1: what is to be seen."""
    style: np.ndarray
    """(1, S', S') float32 from -1 to 1: how."""
    strength: float = 0.7
    """From 0, the content as it is seen, to 1, all style."""
    method: Literal["adain", "gatys"] = "gatys"
    steps: int = 10
    """Of `gatys`, each of `ITERATIONS` iterations."""
    variation: float = 0.05
    """Standard deviation of noise on the content that it begins with, in grey levels from -1 to 1:
    other seeds find other pictures."""


@dataclass
class _Row:
    """One picture on its way."""

    request: StyleRequest
    content: Tensor
    style: Tensor
    x: Tensor
    """(1, 1, S, S)."""
    steps: int = 0
    optimizer: Any = None
    wanted: Any = None

    @property
    def done(self) -> bool:
        return self.steps >= (self.request.steps if self.request.method == "gatys" else 1)


@dataclass
class _State:
    rows: list[_Row] = field(default_factory=list)


class Decoder(nn.Module):
    """The deepest map to a picture: the encoder's levels backwards."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            nn.Sequential(ResBlock(inner, inner, 0), nn.Conv2d(inner, outer, 3, padding=1))
            for inner, outer in pairwise(reversed(channels))
        )
        self.last = ResBlock(channels[0], channels[0], 0)
        self.picture = nn.Conv2d(channels[0], 1, 3, padding=1)

    def forward(self, h: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 1, S, S) from -1 to 1, in full precision."""
        for level in self.levels:
            h = F.interpolate(level(h), scale_factor=2, mode="nearest")
        return torch.tanh(self.picture(self.last(h)).float())


class Stylizer(GenerativeModel):
    """An encoder that stays and a decoder that is trained."""

    def __init__(self, config: StylizerConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Levels(config.channels)
        for parameter in self.encoder.parameters():
            parameter.requires_grad_(False)
        self.decoder = Decoder(config.channels)

    def see_with(self, features: Levels) -> None:
        """Takes the encoder's weights from a model that describes pictures.

        Raises UsageError where its maps are other ones.
        """
        own, given = self.encoder.state_dict(), features.state_dict()
        for name, tensor in own.items():
            if name not in given or given[name].shape != tensor.shape:
                raise UsageError(
                    f"the features are of another width than the stylizer ({name}): set "
                    "model.width to that of the features"
                )
        self.encoder.load_state_dict({name: given[name] for name in own})

    # --- Training ------------------------------------------------------------------------------

    def loss(self, batch: Batch) -> Loss:
        """Equations 11 to 13 of Huang & Belongie 2017: maps of what is drawn, and their moments.

        Metrics: `content` and `style`, their parts, and `distance`, which is the loss.
        """
        content = batch["images"]
        style = content.roll(1, 0)
        seen, wanted = self.encoder.maps(content), self.encoder.maps(style)
        target = adain(seen[-1].float(), wanted[-1].float())
        made = self.encoder.maps(self.decoder(target))
        of_content = F.mse_loss(made[-1].float(), target)
        of_style = torch.zeros((), device=content.device)
        for one, two in zip(made, wanted, strict=True):
            for mine, theirs in zip(moments(one.float()), moments(two.float()), strict=True):
                of_style = of_style + F.mse_loss(mine, theirs)
        value = of_content + self.config.style_weight * of_style
        count = torch.tensor(len(content), device=content.device)
        told = {"content": of_content, "style": of_style, "distance": value}
        return Loss(value, {name: (one.detach() * count, count) for name, one in told.items()})

    def players(self) -> tuple[Player, ...]:
        """The decoder."""
        return (Player("decoder", self.decoder, self.loss),)

    def monitor(self) -> str:
        """The loss of held-out pairs."""
        return "distance"

    # --- Sampling ------------------------------------------------------------------------------

    def begin(self, requests: Sequence[StyleRequest], draw: DrawLike) -> _State:
        """The contents, with a little noise. Raises UsageError for what cannot be asked."""
        if not requests:
            raise UsageError("nothing was asked for: give one request at least")
        device = next(self.parameters()).device
        state = _State()
        for number, request in enumerate(requests):
            _check(request, self.config)
            content, style = (
                torch.as_tensor(one, dtype=torch.float32, device=device)[None]
                for one in (request.content, request.style)
            )
            noise = torch.as_tensor(draw.noise(request.content.shape, [number])).to(content)
            x = (content + request.variation * noise).clamp(-1, 1)
            state.rows.append(_Row(request, content, style, x))
        return state

    def step(self, state: _State, draw: DrawLike) -> _State:
        """`adain`: all of it. `gatys`: some iterations of L-BFGS."""
        for row in state.rows:
            if row.done:
                continue
            if row.request.method == "adain":
                row.x = self._passed(row)
            else:
                with torch.enable_grad():
                    self._moved(row)
            row.steps += 1
        return state

    def _passed(self, row: _Row) -> Tensor:
        """Equation 14 of Huang & Belongie 2017: between the content's map and that with style."""
        seen, wanted = self.encoder.maps(row.x)[-1], self.encoder.maps(row.style)[-1]
        strength = row.request.strength
        return self.decoder(torch.lerp(seen, adain(seen, wanted), strength))

    def _moved(self, row: _Row) -> None:
        """Some iterations on the pixels of a picture, which has an optimiser of its own."""
        if row.optimizer is None:
            with torch.no_grad():
                content = self.encoder.maps(row.content)[-1]
                row.wanted = content, [gram(one) for one in self.encoder.maps(row.style)]
            row.x = row.x.clone().requires_grad_(True)
            row.optimizer = torch.optim.LBFGS(
                [row.x], max_iter=ITERATIONS, history_size=20, line_search_fn="strong_wolfe"
            )
        content, grams = row.wanted

        def closure() -> Tensor:
            row.optimizer.zero_grad()
            value = pixel_objective(
                self.encoder.maps(row.x), content, grams, row.request.strength
            ).sum()
            beyond = F.relu(row.x.abs() - 1).square().mean()
            rough = sum(row.x.diff(dim=dim).square().mean() for dim in (2, 3))
            value = value + beyond + SMOOTH * rough
            value.backward()
            return value

        row.optimizer.step(closure)

    def done(self, state: _State) -> bool:
        """Whether all pictures are there."""
        return all(row.done for row in state.rows)

    def finish(self, state: _State) -> list[np.ndarray]:
        """Pictures (1, S, S) float32 from -1 to 1, one a request; early: as they are now."""
        return [row.x.detach().clamp(-1, 1).float().cpu().numpy()[0] for row in state.rows]


def _check(request: StyleRequest, config: StylizerConfig) -> None:
    """Raises UsageError for what cannot be asked."""
    if request.method not in METHODS:
        raise UsageError(f"method '{request.method}': there are {', '.join(METHODS)}")
    if not 0 <= request.strength <= 1 or not 0 <= request.variation <= 1 or request.steps < 1:
        raise UsageError(
            f"strength {request.strength:g}, variation {request.variation:g}, steps "
            f"{request.steps}: 0 to 1, 0 to 1, and at least 1"
        )
    least = 2 * 2**config.depth
    for name, picture in (("content", request.content), ("style", request.style)):
        side = picture.shape[-1]
        if picture.shape != (1, side, side) or side < least or side % 2**config.depth:
            raise UsageError(
                f"{name} of shape {picture.shape}: (1, S, S), where S is {least} or more and a "
                f"multiple of {2**config.depth}"
            )
