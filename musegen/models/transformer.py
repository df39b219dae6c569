"""A decoder-only transformer over rows of small integers; with one field it is Llama exactly.

Batches (musegen/data/batches.py): `rows` (B, T, F) inputs, `targets` (B, T, F) the rows to predict
(0 bears no loss), `channels` (B, T, C), `coordinates` (B, T, A), `segments` (B, T) the packed
document of each position (0 is padding), `weights` (B, T), `notes` (B, T) whether the target row
counts as a note.

Letters: B batch, T rows, F fields, C side channels, A axes, D width, V ids of a field.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musegen.models.attention import Rotation, Segments
from musegen.models.autoregressive import Autoregressive
from musegen.models.base import Batch, GenerativeModel, Loss, Player
from musegen.models.field_heads import LayerHeads, MlpHeads
from musegen.models.layers import Block, Likeness, RMSNorm, working_dtype
from musegen.models.transformer_config import TransformerConfig

__all__ = ["Transformer", "TransformerConfig"]

INIT_STD = 0.02
"""Standard deviation of fresh weights, as in Llama and GPT-2."""


class Backbone(nn.Module):
    """Embeddings, blocks and the last norm: one state a row.

    With `causal=False` it reads a document both ways, as an encoder does.
    """

    def __init__(self, config: TransformerConfig, causal: bool = True) -> None:
        super().__init__()
        self.causal = causal
        self.fields = len(config.field_sizes)
        self.plain = self.fields == 1 and not config.channels
        offsets = config.table_offsets
        self.embed_tokens = nn.Embedding(offsets[-1], config.width)
        self.register_buffer("offsets", torch.tensor(offsets[:-1]), persistent=False)
        self.offsets: Tensor
        self.rotation = Rotation(
            config.head_size, config.axis_of_kv_head, config.axis_scales, config.rope_theta
        )
        self.layers = nn.ModuleList(
            Block(
                config.width,
                config.heads,
                config.kv_heads,
                config.hidden,
                config.norm_eps,
                config.dropout,
            )
            for _ in range(config.layers)
        )
        self.norm = RMSNorm(config.width, config.norm_eps)

    def embed(self, rows: Tensor, channels: Tensor) -> Tensor:
        """Rows (B, T, F) and channels (B, T, C) -> (B, T, D), the sum of their embeddings."""
        table = self.embed_tokens.weight
        if self.plain:
            return F.embedding(rows[..., 0], table)
        # A field of 0 is "nothing here": it points at row 0 of the table, which adds nothing.
        fields = torch.where(rows == 0, 0, rows + self.offsets[: self.fields])
        ids = torch.cat((fields, channels + self.offsets[self.fields :]), dim=-1)
        summed = F.embedding_bag(ids.flatten(0, 1), table, mode="sum", padding_idx=0)
        return summed.view(*ids.shape[:2], table.shape[1])

    def forward(
        self,
        rows: Tensor,
        channels: Tensor,
        coordinates: Tensor,
        segments: Tensor,
        vectors: Tensor | None = None,
    ) -> Tensor:
        """-> states (B, T, D); `vectors` (B, T, D) are added to the embeddings of the rows."""
        x = self.embed(rows, channels)
        if vectors is not None:
            x = x + vectors
        turning = self.rotation(coordinates)
        prepared = Segments.of(segments, x.device.type == "cpu", working_dtype(x), self.causal)
        added: Tensor | None = None
        for layer in self.layers:
            x, added = layer(x, added, turning, prepared)
        return self.norm(x) if added is None else self.norm.after(x, added)[1]


class Transformer(Autoregressive, GenerativeModel):
    """The autoregressive family: rows of F fields, side channels, position axes."""

    additions = ("like.",)

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Backbone(config)
        self.heads: MlpHeads | LayerHeads | None = None
        if len(config.field_sizes) == 1:
            pass  # tied to the embedding
        elif config.field_heads == "mlp":
            self.heads = MlpHeads(
                config.width, config.head_hidden, config.field_sizes, config.relative_heads
            )
        else:
            self.heads = LayerHeads(
                config.width,
                config.head_hidden,
                config.heads,
                config.field_sizes,
                config.norm_eps,
            )
        self.like: Likeness | None = None
        if config.latent:
            self.like = Likeness(config.latent, config.latent_hidden, config.width)
        self.apply(_initialise)
        if self.like is not None:
            nn.init.zeros_(self.like.out.weight)
        # What is added to the state 2 x layers times starts smaller (GPT-2, section 2.3).
        scale = 1.0 / math.sqrt(2 * config.layers)
        for name, parameter in self.model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                parameter.data.mul_(scale)

    def states(self, batch: Batch) -> Tensor:
        """(B, T, D): the state from which the row after each position is predicted."""
        vectors = batch.get("vectors")
        if self.like is not None and "latents" in batch:
            vectors = self.like(self._blurred(batch["latents"]))
        return self.model(
            batch["rows"], batch["channels"], batch["coordinates"], batch["segments"], vectors
        )

    def _blurred(self, latents: Tensor) -> Tensor:
        """Latents (B, T, Z) with the noise of training; those of untold cells stay 0."""
        if not self.training or not self.config.latent_noise:
            return latents
        told = latents.any(dim=-1, keepdim=True)
        return latents + told * self.config.latent_noise * torch.randn_like(latents)

    def forward(self, batch: Batch) -> tuple[Tensor, ...]:
        """F logits (B, T, V_f); field f is given the fields of `targets` before it."""
        targets = batch["targets"]
        flat = self.field_logits(batch)
        return tuple(logits.view(*targets.shape[:2], -1) for logits in flat)

    def field_logits(self, batch: Batch) -> tuple[Tensor, ...]:
        """F logits (B * T, V_f)."""
        if self.training and self.config.input_dropout:
            batch = self._partly_told(batch)
        states = self.states(batch).flatten(0, 1)
        if self.heads is None:
            size = self.config.field_sizes[0]
            return (F.linear(states, self.model.embed_tokens.weight[:size]),)
        return self.heads(states, batch["targets"].flatten(0, 1), batch["rows"].flatten(0, 1))

    def _partly_told(self, batch: Batch) -> dict[str, Tensor]:
        """The batch with a share of its ids and side channels set to 0; targets stay."""
        share = self.config.input_dropout
        hidden = {
            name: torch.where(
                torch.rand(batch[name].shape, device=batch[name].device) < share, 0, batch[name]
            )
            for name in ("rows", "channels")
        }
        return {**batch, **hidden}

    def loss(self, batch: Batch) -> Loss:
        """Cross-entropy over all fields, in nats a row that bears loss.

        Metrics: `nats_per_note` (all nats over the target rows that count as notes),
        `nats_per_row`, and `nats_<field>` over the rows where the field lives.
        """
        targets = batch["targets"].flatten(0, 1)  # (N, F)
        weights = batch["weights"].flatten()  # (N,)
        counted = weights > 0
        logits = self.field_logits(batch)
        nats = torch.stack(
            [
                F.cross_entropy(each.float(), targets[:, field], ignore_index=0, reduction="none")
                for field, each in enumerate(logits)
            ],
            dim=1,
        )  # (N, F)
        live = (targets != 0) & counted[:, None]
        rows = live.any(dim=1).sum()
        value = (nats.sum(dim=1) * weights).sum() / rows.clamp(min=1)
        with torch.no_grad():
            sums = torch.where(live, nats, 0.0).sum(dim=0)
            counts = live.sum(dim=0)
            total = sums.sum()
            notes = (batch["notes"].flatten() & counted).sum()
            metrics = {"nats_per_note": (total, notes), "nats_per_row": (total, rows)}
            for field, name in enumerate(self.config.field_names):
                metrics[f"nats_{name}"] = (sums[field], counts[field])
        return Loss(value, metrics, rows)

    def players(self) -> tuple[Player, ...]:
        """One: all of it, or what reads latents alone."""
        if self.config.latent_only and self.like is not None:
            return (Player("like", self.like, self.loss),)
        return (Player("model", self, self.loss),)

    def compile_parts(self) -> tuple[nn.Module, ...]:
        """The blocks: all of one shape, so that one compilation serves them all."""
        return tuple(self.model.layers)

    def monitor(self) -> str:
        """The held-out nats per note choose the best checkpoint."""
        return "nats_per_note"


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=INIT_STD)
