"""What predicts the fields of the next row, in order, each given the ones before it.

Every head has `forward(states, targets, rows) -> tuple of logits`, one (N, V_f) a field, where
field f has seen the targets of fields before f, and `rows` are those that the states were computed
at; and `logits(states, field, chosen, rows)` for sampling.

Letters: N rows, D width, F fields, V ids of a field, M hidden numbers of a head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musegen.models.layers import FeedForward, RMSNorm

__all__ = ["LayerHeads", "MlpHeads"]


class MlpHeads(nn.Module):
    """`tanh(h W1 + E[fields before]) W2`, a small network a field.

    Parameters: `hidden.weight` (F * M, D) holds every W1; `before.weight` one row for each id of
    each (field, earlier field) pair; `out.F.weight` (V, M). With `relative`, the logit of id v also
    gets a weight at v - a for every anchor a: the id of the same field one row ago, and those of
    the fields before. So "hold", "a step up" and "a third above the bass" are one class each, and
    transposing changes nothing (`distance.F.weight`, a row for each distance to each anchor).
    """

    def __init__(
        self, width: int, hidden: int, field_sizes: tuple[int, ...], relative: bool = False
    ) -> None:
        super().__init__()
        self.field_sizes, self.size = field_sizes, hidden
        self.hidden = nn.Linear(width, len(field_sizes) * hidden, bias=False)
        offsets: list[list[int]] = []
        total = 0
        for field in range(len(field_sizes)):
            offsets.append([])
            for size in field_sizes[:field]:
                offsets[-1].append(total)
                total += size
        self.offsets = offsets
        """offsets[f][g]: the first row in `before` of the ids of field g as field f sees them."""
        self.before = nn.Embedding(total, hidden)
        self.out = nn.ModuleList(_output(hidden, size) for size in field_sizes)
        self.distance: nn.ModuleList | None = None
        if relative:
            self.distance = nn.ModuleList(
                _output(hidden, sum(size + each - 1 for each in (size, *field_sizes[:field])))
                for field, size in enumerate(field_sizes)
            )

    def forward(self, states: Tensor, targets: Tensor, rows: Tensor) -> tuple[Tensor, ...]:
        """States (N, D), targets and rows (N, F) -> F logits (N, V_f)."""
        hidden = self.hidden(states).split(self.size, dim=-1)
        return tuple(
            self._head(field, hidden[field], targets, rows)
            for field in range(len(self.field_sizes))
        )

    def logits(self, states: Tensor, field: int, chosen: Tensor, rows: Tensor) -> Tensor:
        """States (N, D), chosen (N, >= field), rows (N, F) -> (N, V_field)."""
        part = slice(field * self.size, (field + 1) * self.size)
        return self._head(field, F.linear(states, self.hidden.weight[part]), chosen, rows)

    def _head(self, field: int, hidden: Tensor, chosen: Tensor, rows: Tensor) -> Tensor:
        if field:
            offsets = torch.tensor(self.offsets[field], device=chosen.device)
            seen = F.embedding_bag(chosen[:, :field] + offsets, self.before.weight, mode="sum")
            hidden = hidden + seen
        # The tanh of float32 is three times as fast on a CPU as that of bfloat16.
        exact = torch.promote_types(hidden.dtype, torch.float32)
        bent = torch.tanh(hidden.to(exact)).to(self.before.weight.dtype)
        logits = self.out[field](bent)
        if self.distance is None:
            return logits
        size = self.field_sizes[field]
        weights = self.distance[field](bent)
        begin, ids = 0, torch.arange(size, device=weights.device)
        for anchor, reach in self._anchors(field, chosen, rows):
            place = ids - anchor[:, None] + (begin + reach - 1)  # (N, V): of each id's distance
            found = weights.gather(1, place)
            logits = logits + torch.where(anchor[:, None] == 0, 0.0, found)
            begin += size + reach - 1
        return logits

    def _anchors(self, field: int, chosen: Tensor, rows: Tensor) -> list[tuple[Tensor, int]]:
        """(N,) ids that distances are taken from, 0 where there is none, and how many there are."""
        before = [(chosen[:, each], self.field_sizes[each]) for each in range(field)]
        return [(rows[:, field], self.field_sizes[field]), *before]


class LayerHeads(nn.Module):
    """One causal transformer layer over [state, field 0, field 1, ...].

    The place of field f takes in the state (f = 0) or the embedding of field f - 1, attends to the
    places before it, and gives the logits of field f.
    """

    def __init__(
        self, width: int, hidden: int, heads: int, field_sizes: tuple[int, ...], eps: float
    ) -> None:
        super().__init__()
        self.field_sizes, self.size, self.heads = field_sizes, hidden, heads
        fields = len(field_sizes)
        self.state = nn.Linear(width, hidden, bias=False)
        self.place = nn.Parameter(torch.zeros(fields, hidden))
        self.offsets = [sum(field_sizes[:field]) for field in range(fields - 1)]
        self.before = nn.Embedding(sum(field_sizes[:-1]), hidden)
        self.input_norm = RMSNorm(hidden, eps)
        self.qkv = nn.Linear(hidden, 3 * hidden, bias=False)
        self.join = nn.Linear(hidden, hidden, bias=False)
        self.middle_norm = RMSNorm(hidden, eps)
        self.mlp = FeedForward(hidden, 2 * hidden)
        self.norm = RMSNorm(hidden, eps)
        self.out = nn.ModuleList(_output(hidden, size) for size in field_sizes)

    def forward(self, states: Tensor, targets: Tensor, rows: Tensor) -> tuple[Tensor, ...]:
        """States (N, D), targets (N, F) -> F logits (N, V_f); `rows` are not looked at."""
        x = self._layer(states, targets[:, : len(self.field_sizes) - 1])
        return tuple(head(x[:, field]) for field, head in enumerate(self.out))

    def logits(self, states: Tensor, field: int, chosen: Tensor, rows: Tensor) -> Tensor:
        """States (N, D), chosen (N, >= field) -> (N, V_field); `rows` are not looked at."""
        return self.out[field](self._layer(states, chosen[:, :field])[:, field])

    def _layer(self, states: Tensor, chosen: Tensor) -> Tensor:
        """(N, D) and (N, n) -> (N, n + 1, M)."""
        rows, fields = chosen.shape
        offsets = torch.tensor(self.offsets[:fields], dtype=chosen.dtype, device=chosen.device)
        first = self.state(states)[:, None]
        x = torch.cat((first, self.before(chosen + offsets).to(first.dtype)), 1)
        x = x + self.place[: fields + 1]
        q, k, v = (
            part.view(rows, fields + 1, self.heads, -1).transpose(1, 2)
            for part in self.qkv(self.input_norm(x)).chunk(3, dim=-1)
        )
        read = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.join(read.transpose(1, 2).reshape(rows, fields + 1, self.size))
        return self.norm(x + self.mlp(self.middle_norm(x)))


def _output(hidden: int, size: int) -> nn.Linear:
    """A map to the logits of a field; it tells the optimiser what it is."""
    layer = nn.Linear(hidden, size, bias=False)
    layer.is_output = True  # type: ignore[assignment]
    return layer
