"""A variational autoencoder of bars (arXiv 1312.6114) with a prior over the bars of a section.

A bar is a document of rows (musegen/tokens/bars.py) that begins with M empty slots. The encoder, a
transformer that looks both ways, leaves in each slot the mean and the variance of a part of the
latent z; the decoder, the causal `Transformer`, finds z in the slots and, as a whole, in every row.

    ELBO = E_q(z|x) log p(x|z) - KL(q(z|x) || N(0, I))

is a lower bound of log p(x). Training weighs the KL by beta (Higgins et al. 2017), which rises from
0: with beta < 1 the objective bounds nothing, so -ELBO is reported with weight 1. Besides, a prior
of sections (section_prior.py) and the directions of attributes learn from latents that do not
learn from them.

Batches: musegen/data/bar_batches.py. Letters there; here R = B * T positions, Z numbers of a
latent, D width, N bars, F fields, A attributes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musegen.errors import UsageError
from musegen.guide import Advance, Engine, Guide, RowRequest
from musegen.models.autoregressive import Autoregressive, RowState
from musegen.models.bar_vae_config import BarVaeConfig
from musegen.models.base import Batch, DrawLike, GenerativeModel, Loss, Player
from musegen.models.section_prior import SectionPrior, log_normal
from musegen.models.transformer import Backbone, Transformer

__all__ = ["ACTIVE_VARIANCE", "BarRequest", "BarVae", "Posterior"]

ACTIVE_VARIANCE = 0.01
"""A unit is active when the variance of its posterior mean over bars is above this (arXiv
1509.00519, section 4)."""

FEW_ACTIVE = 0.1
"""Share of active units under which the posterior has collapsed."""

_LOG_VAR_RANGE = (-12.0, 4.0)
_FIRST_LOG_VAR = -3.0
"""Where the log variance of the posterior begins: the decoder soon finds z worth reading."""

_SECTION_WEIGHT = 0.1
"""Of the prior of sections in the loss, against reconstruction; it shares no parameter."""


@dataclass(frozen=True)
class BarRequest:
    """A bar that is asked for: whose rules, computed by what, from which latent."""

    guide: Guide
    engine: Engine
    """Over `BarVae.decoder`."""
    latent: np.ndarray | None = None
    """(Z,); None draws it from the prior N(0, I)."""


@dataclass(frozen=True)
class Posterior:
    """q(z|x) of N bars."""

    mean: Tensor
    """(N, Z) float32."""
    log_var: Tensor
    """(N, Z) float32."""

    def sample(self) -> Tensor:
        """(N, Z): one latent a bar."""
        return self.mean + torch.randn_like(self.mean) * torch.exp(0.5 * self.log_var)

    def kl(self) -> Tensor:
        """(N, Z): KL(q || N(0, 1)) of each number, in nats."""
        return 0.5 * (self.mean.square() + self.log_var.exp() - 1.0 - self.log_var)


class BarVae(Autoregressive, GenerativeModel):
    """Bars as points of a space that can be walked through."""

    def __init__(self, config: BarVaeConfig) -> None:
        super().__init__()
        self.config = config
        width, latent = config.width, config.latent
        self._time = config.axes.index("time") if "time" in config.axes else None
        self.encoder = Backbone(config.encoder, causal=False)
        self.asked = nn.Parameter(torch.zeros(config.slots, width))
        """What stands in the slots of the encoder's input."""
        self.posterior = nn.Linear(width, 2 * config.slot_width)
        self.decoder = Transformer(config.decoder)
        self.slot = nn.Linear(config.slot_width, width, bias=False)
        self.near = nn.Linear(2 * config.slot_width, width, bias=False)
        self.heard = nn.Linear(width, width, bias=False)
        self.slot_names = nn.Parameter(torch.zeros(config.slots, width))
        self.whole = nn.Linear(latent, width, bias=False)
        self.prior = SectionPrior(
            latent,
            width,
            config.prior_layers,
            config.heads,
            config.encoder.hidden,
            config.components,
            config.norm_eps,
            config.rope_theta,
        )
        self.directions = nn.Linear(config.attributes, latent)
        """From the attributes of bars to the mean of their latents: column k is what one more of
        attribute k moves, the others as they are."""
        self.directions.is_output = True  # type: ignore[assignment]
        weights = torch.tensor(config.field_weights)
        self.register_buffer("field_weights", weights, persistent=False)
        self.field_weights: Tensor
        for module in (self.encoder, self.prior):
            module.apply(_initialise)
        for parameter in (self.asked, self.slot_names):
            nn.init.normal_(parameter, std=0.02)
        nn.init.normal_(self.posterior.weight, std=width**-0.5)
        nn.init.zeros_(self.posterior.bias)
        self.posterior.bias.data[config.slot_width :] = _FIRST_LOG_VAR
        nn.init.normal_(self.slot.weight, std=0.5 * config.slot_width**-0.5)
        nn.init.normal_(self.near.weight, std=0.5 * config.slot_width**-0.5)
        nn.init.normal_(self.heard.weight, std=width**-0.5)
        nn.init.normal_(self.whole.weight, std=0.1 * latent**-0.5)
        nn.init.zeros_(self.directions.weight)
        nn.init.zeros_(self.directions.bias)

    # --- The posterior -------------------------------------------------------------------------

    def posterior_of(self, batch: Batch) -> Posterior:
        """q(z|x) of the N bars of a batch."""
        config = self.config
        bars, places = self._places(batch)
        rows, channels = batch["rows"].long(), batch["channels"].long()
        plain = self.encoder.embed(rows, channels).flatten(0, 1)
        slot_of = self._slot_of(batch)
        # The sum of what stands in each slot's time, so that a latent is of use from the start.
        heard = plain.new_zeros(1 + bars * config.slots, config.width)
        heard = heard.index_add(0, slot_of, plain)[1:]
        count = plain.new_zeros(1 + bars * config.slots)
        count = count.index_add(0, slot_of, torch.ones_like(plain[:, 0]))[1:]
        heard = self.heard(heard * torch.rsqrt(count + 1.0)[:, None])
        asked = self.asked.expand(bars, *self.asked.shape).reshape(-1, config.width) + heard
        vectors = plain.new_zeros(plain.shape).index_copy(0, places, asked.to(plain.dtype))
        vectors = vectors.view(*rows.shape[:2], config.width)
        states = self.encoder(rows, channels, batch["coordinates"], batch["segments"], vectors)
        found = self.posterior(states.flatten(0, 1)[places]).float()
        found = found.view(bars, config.slots, 2, config.slot_width)
        mean, log_var = found[:, :, 0].flatten(1), found[:, :, 1].flatten(1)
        return Posterior(mean, log_var.clamp(*_LOG_VAR_RANGE))

    def _places(self, batch: Batch) -> tuple[int, Tensor]:
        """N, and where in the flattened rows the slots of all bars are, (N * M,)."""
        starts = batch["starts"]
        slots = torch.arange(self.config.slots, device=starts.device)
        return len(starts), (starts[:, None] + slots).flatten()

    def _slot_of(self, batch: Batch) -> Tensor:
        """(R,): of rows 1 + which slot (of N * M) their time belongs to; 0 of slots, padding."""
        slots, bars = self.config.slots, batch["bars"].flatten().long()
        if self._time is None:
            return torch.zeros_like(bars)
        times = batch["coordinates"][..., self._time].flatten()
        first = times[batch["starts"]]  # of each bar: half a slot
        first = torch.cat((first.new_ones(1), first))[bars]
        slot = _slot_at(times, first, slots)
        found = torch.where(bars > 0, (bars - 1) * slots + slot + 1, 0)
        return found.index_fill(0, self._places(batch)[1], 0)

    def decoder_batch(self, batch: Batch, z: Tensor) -> dict[str, Tensor]:
        """The batch of the decoder, with latents (N, Z) in its slots and rows."""
        config = self.config
        places = self._places(batch)[1]
        rows = batch["rows"].long()
        if self.training and config.word_dropout:
            kept = torch.rand(rows.shape[:2], device=rows.device) >= config.word_dropout
            rows = rows * kept[..., None]
        in_slots, in_rows, in_time = self._told(z)
        none = in_rows.new_zeros(1, config.width)
        vectors = torch.cat((none, in_rows))[batch["bars"].flatten()]
        vectors = vectors + torch.cat((none, in_time.flatten(0, 1)))[self._slot_of(batch)]
        vectors = vectors.index_add(0, places, in_slots.flatten(0, 1).to(vectors.dtype))
        return {
            "rows": rows,
            "targets": batch["targets"].long(),
            "channels": batch["channels"].long(),
            "coordinates": batch["coordinates"],
            "segments": batch["segments"],
            "vectors": vectors.view(*rows.shape[:2], config.width),
        }

    def _told(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What latents (N, Z) put into slots (N, M, D), rows (N, D), rows by time (N, M, D)."""
        parts = z.view(len(z), self.config.slots, self.config.slot_width)
        after = torch.cat((parts[:, 1:], torch.zeros_like(parts[:, :1])), dim=1)
        in_time = self.near(torch.cat((parts, after), dim=-1))
        return self.slot(parts) + self.slot_names, self.whole(z), in_time

    # --- Training ------------------------------------------------------------------------------

    def loss(self, batch: Batch) -> Loss:
        """Reconstruction + beta KL, and what is learned beside it, in nats a row that bears loss.

        Metrics, with the KL in full: `elbo_per_note` (-ELBO), `nats_per_note` (reconstruction),
        `kl_per_bar`, `active` (share of units), `section_kl_per_bar` (the KL to the prior of
        sections), `objective_per_note`, `nats_<field>`; of held-out bars `accuracy` (of fields,
        teacher-forced).
        """
        config = self.config
        posterior = self.posterior_of(batch)
        z = posterior.sample()
        inputs = self.decoder_batch(batch, z)
        logits = self.decoder.field_logits(inputs)
        targets = inputs["targets"].flatten(0, 1)
        nats = torch.stack(
            [
                F.cross_entropy(each.float(), targets[:, field], ignore_index=0, reduction="none")
                for field, each in enumerate(logits)
            ],
            dim=1,
        )  # (R, F)
        live = targets != 0
        rows = live.any(dim=1).sum().clamp(min=1)
        weights = self.field_weights
        kl = posterior.kl()  # (N, Z)
        bars = len(kl)
        free = kl.mean(0).clamp(min=config.free_nats).sum() * bars
        value = ((nats * weights).sum() + self._beta(batch) * free) / rows
        section_kl, section_loss = self._sections(batch, z.detach(), posterior)
        value = value + _SECTION_WEIGHT * section_loss
        value = value + self._directions_loss(batch, posterior.mean.detach())
        with torch.no_grad():
            sums, counts = nats.sum(dim=0), live.sum(dim=0)
            notes, total, spent = batch["notes"].sum(), nats.sum(), kl.sum()
            weighted = (sums * weights).sum() + config.beta * spent
            active = posterior.mean.var(dim=0) > ACTIVE_VARIANCE
            size = kl.new_full((), bars)  # filled there: a copy would wait for the device
            metrics = {
                "elbo_per_note": (total + spent, notes),
                "nats_per_note": (total, notes),
                "kl_per_bar": (spent, size),
                "section_kl_per_bar": (section_kl, size),
                "active": (active.sum(), kl.new_full((), config.latent)),
                "objective_per_note": (weighted, notes),
            }
            if not self.training:
                right = [each.argmax(-1) == targets[:, field] for field, each in enumerate(logits)]
                metrics["accuracy"] = ((torch.stack(right, dim=1) & live).sum(), counts.sum())
            for field, name in enumerate(config.field_names):
                metrics[f"nats_{name}"] = (sums[field], counts[field])
        return Loss(value, metrics, rows)

    def refined(self, batch: Batch, mean: Tensor, steps: int, rate: float = 0.1) -> Tensor:
        """Latents (N, Z) that give the bars of a batch back better than the encoder's guess.

        `steps` steps of Adam from `mean` on -log p(x|z) + beta / 2 |z|^2, the objective at a fixed
        variance; of each bar the best point is kept. What an encoder leaves to be gained is the
        amortisation gap (arXiv 1801.03558; refined so in arXiv 1802.02550).
        """
        bars = batch["bars"].flatten().long()
        z = mean.detach().clone().requires_grad_(True)
        best, least = z.detach().clone(), mean.new_full((len(mean),), float("inf"))
        optimizer = torch.optim.Adam([z], lr=rate)
        for step in range(steps + 1):
            with torch.enable_grad():
                inputs = self.decoder_batch(batch, z)
                targets = inputs["targets"].flatten(0, 1)
                nats = torch.zeros((), device=z.device)
                for field, logits in enumerate(self.decoder.field_logits(inputs)):
                    each = F.cross_entropy(
                        logits.float(), targets[:, field], ignore_index=0, reduction="none"
                    )
                    nats = nats + self.field_weights[field] * each
                far = 0.5 * self.config.beta * z.square().sum(1)
                cost = far.index_add(0, (bars - 1).clamp(min=0), nats * (bars > 0))
                if step < steps:
                    (z.grad,) = torch.autograd.grad(cost.sum(), z)
            better = cost.detach() < least
            least = torch.where(better, cost.detach(), least)
            best = torch.where(better[:, None], z.detach(), best)
            if step < steps:
                optimizer.step()
        return best

    def _beta(self, batch: Batch) -> Tensor | float:
        """The weight of the KL in this batch; in full for held-out ones."""
        if "number" not in batch or not self.config.warmup_batches:
            return self.config.beta
        share = (batch["number"][0] + 1) / self.config.warmup_batches
        return self.config.beta * share.clamp(max=1.0).square()

    def _sections(self, batch: Batch, z: Tensor, posterior: Posterior) -> tuple[Tensor, Tensor]:
        """KL to the prior of sections (one sample, the sum over bars), and its loss a number."""
        places = batch["places"]
        grid = z.new_zeros(places.numel(), z.shape[1]).index_copy(0, batch["cells"], z)
        density = self.prior.log_density(grid.view(*places.shape, -1))
        density = torch.where(places, density, 0.0)
        with torch.no_grad():
            entropy = log_normal(z, posterior.mean, posterior.log_var).sum()
        later = density[:, 1:].sum() / places[:, 1:].sum().clamp(min=1)
        return entropy - density.detach().sum(), -later / z.shape[1]

    def _directions_loss(self, batch: Batch, mean: Tensor) -> Tensor:
        """Mean square of what the attributes of bars do not say of their latents."""
        return (self.directions(batch["attributes"]).float() - mean).square().mean()

    def players(self) -> tuple[Player, ...]:
        """One."""
        return (Player("model", self, self.loss),)

    def compile_parts(self) -> tuple[nn.Module, ...]:
        """The blocks of encoder and decoder, which see one shape."""
        return (*self.encoder.layers, *self.decoder.model.layers)

    def monitor(self) -> str:
        """What training minimises, the KL in full and at its last weight."""
        return "objective_per_note"

    def alarms(self, values: Mapping[str, float]) -> Sequence[str]:
        """Says so when the posterior has collapsed."""
        if values.get("active", 1.0) >= FEW_ACTIVE:
            return ()
        return (
            f"posterior collapse: under {FEW_ACTIVE:.0%} of the latent's units are active; lower "
            "model.beta, raise model.free_nats, or warm up longer (model.warmup_batches)",
        )

    # --- Sampling ------------------------------------------------------------------------------

    def begin(self, requests: Sequence[Any], draw: DrawLike) -> RowState:
        """Draws the latents that are not given, and takes in the prompts."""
        latents = [self._latent(request, draw, row) for row, request in enumerate(requests)]
        led = [
            RowRequest(_Led(request.guide, self._time, *self.vectors(latent)), request.engine)
            for request, latent in zip(requests, latents, strict=True)
        ]
        return super().begin(led, draw)

    def _latent(self, request: BarRequest, draw: DrawLike, row: int) -> np.ndarray:
        size = self.config.latent
        if request.latent is None:
            return draw.noise((size,), [row])[0]
        latent = np.asarray(request.latent, dtype=np.float64)
        if latent.shape != (size,) or not np.isfinite(latent).all():
            raise UsageError(
                f"a latent of shape {latent.shape}: this model's have {size} finite numbers"
            )
        return latent

    @torch.no_grad()
    def vectors(self, latent: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What a latent (Z,) puts into slots (M, D), rows (D,), rows by time (M, D); float64."""
        parts = latent.reshape(self.config.slots, self.config.slot_width)
        slot, names, whole, near = (
            weight.detach().cpu().double().numpy()
            for weight in (
                self.slot.weight,
                self.slot_names,
                self.whole.weight,
                self.near.weight,
            )
        )
        in_rows = whole @ latent
        after = np.concatenate((parts[1:], np.zeros_like(parts[:1])))
        in_time = np.concatenate((parts, after), axis=1) @ near.T
        if self._time is None:
            in_time[:] = 0.0
        return parts @ slot.T + names + in_rows, in_rows, in_time


class _Led:
    """A guide whose rows carry a latent."""

    def __init__(
        self,
        guide: Guide,
        time: int | None,
        in_slots: np.ndarray,
        in_rows: np.ndarray,
        in_time: np.ndarray,
    ) -> None:
        self.guide, self.time = guide, time
        self.in_slots, self.in_rows, self.in_time = in_slots, in_rows, in_time
        self._half = 1.0

    def start(self) -> Advance:
        advance = self.guide.start()
        if self.time is not None:
            self._half = float(advance.coordinates[0, self.time])
        carrying = self._carrying(advance)
        if carrying.vectors is not None:
            carrying.vectors[: len(self.in_slots)] = self.in_slots
        return carrying

    def mask(self, field: int, chosen: Sequence[int]) -> np.ndarray:
        return self.guide.mask(field, chosen)

    def bias(self, field: int, chosen: Sequence[int]) -> np.ndarray | None:
        return self.guide.bias(field, chosen)

    def accept(self, row: Sequence[int]) -> Advance | None:
        advance = self.guide.accept(row)
        return None if advance is None else self._carrying(advance)

    def result(self) -> Any:
        return self.guide.result()

    def _carrying(self, advance: Advance) -> Advance:
        rows, channels, coordinates = advance.rows, advance.channels, advance.coordinates
        vectors = np.tile(self.in_rows, (len(rows), 1))
        if self.time is not None:
            times = torch.from_numpy(np.ascontiguousarray(coordinates[:, self.time]))
            half = torch.full_like(times, self._half)
            vectors += self.in_time[_slot_at(times, half, len(self.in_time)).numpy()]
        return Advance(rows, channels, coordinates, advance.restart, vectors)


def _slot_at(times: Tensor, half: Tensor, slots: int) -> Tensor:
    """Which slot a time belongs to, where `half` is the time of half a slot in its bar."""
    place = torch.floor(times / (2 * half.clamp(min=1e-6)) + 1e-4)  # on a boundary: the later one
    return place.long().clamp(0, slots - 1)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
