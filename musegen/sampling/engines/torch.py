"""The reference engine: the transformer written out again for one row at a time, with a cache.

**Reproducible by arithmetic.** On the CPU it computes in float64 and rounds logits to multiples of
2**-20. The noise of float64 sums in another order (batch size, cache or none, threads) is about
1e-14, so what is drawn from the rounded logits does not depend on any of them. On other devices
it computes in float32, and equal seeds give equal music only in equal circumstances.

Letters: N sequences in one pass, n rows of each, D width, H query heads, K key-value heads,
G = H / K, S size of a head, P positions of the cache, L positions in use, F fields, M hidden
numbers of a field head.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musegen.guide import Advance
from musegen.models.field_heads import MlpHeads
from musegen.models.layers import Block
from musegen.models.transformer import Transformer
from musegen.sampling.engines.slots import Slots

__all__ = ["GRID", "TorchEngine", "one_thread"]

GRID = 2.0**20
"""Logits are multiples of 1 / GRID: far above the noise of float64, far below what is audible."""

PIECE = 128
"""Rows of a prompt that are taken in at once: bounds the memory of their scores."""


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for torch inside the block, and as many as before after it.

    A step multiplies a few rows: more threads gain nothing, and where another program has a core
    they wait for each other a hundred times as long as they work.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class TorchEngine:
    """An `Engine` (musegen/guide.py) over a `Transformer`, on the device where the model is.

    The weights are copied: training the model further does not change the engine. With
    `cache=False` every step computes the whole prefix again (for tests).
    """

    def __init__(
        self,
        model: Transformer,
        *,
        dtype: torch.dtype | None = None,
        max_positions: int | None = None,
        cache: bool = True,
    ) -> None:
        config = model.config
        self.field_sizes: tuple[int, ...] = config.field_sizes
        self.max_positions: int = max_positions or config.context
        self.device = model.model.embed_tokens.weight.device
        self.dtype = dtype or (torch.float64 if self.device.type == "cpu" else torch.float32)
        self._wide = torch.promote_types(self.dtype, torch.float32)
        """Of states, angles and shares: matrices may be in bfloat16, sums may not."""
        self.cache = cache
        self._size, self._heads, self._kv = config.head_size, config.heads, config.kv_heads
        self._eps = config.norm_eps
        self._plain = model.model.plain
        self._fields, self._channels = len(config.field_sizes), len(config.channels)
        with torch.no_grad():
            self._prepare(model)
        self.open(1)

    def _prepare(self, model: Transformer) -> None:
        """Copies of the weights in `dtype`: fused, transposed, norms folded into what follows."""
        config, backbone = model.config, model.model

        def copied(tensor: Tensor) -> Tensor:
            return tensor.detach().to(self.dtype).clone()

        self._table = backbone.embed_tokens.weight.detach().to(self._wide).clone()
        self._tied = copied(self._table[: config.field_sizes[0]]).t().contiguous()
        if not self._plain:
            self._table[0] = 0.0  # "nothing here" adds nothing
        self._offsets = np.array(config.table_offsets[:-1], dtype=np.int64)
        self._layers = []
        for layer in cast(list[Block], list(backbone.layers)):
            attention, mlp = layer.self_attn, layer.mlp
            qkv = [copied(p.weight) for p in (attention.q_proj, attention.k_proj, attention.v_proj)]
            gated = [copied(p.weight) for p in (mlp.gate_proj, mlp.up_proj)]
            first, second = layer.input_layernorm.weight, layer.post_attention_layernorm.weight
            qkv[0] *= self._size**-0.5
            self._layers.append(
                (
                    (torch.cat(qkv) * copied(first)).t().contiguous(),
                    copied(attention.o_proj.weight).t().contiguous(),
                    (torch.cat(gated) * copied(second)).t().contiguous(),
                    copied(mlp.down_proj.weight).t().contiguous(),
                )
            )
        self._norm = copied(backbone.norm.weight).to(self._wide)
        # One speed a turned head: query heads in the order of the key-value heads, then keys.
        axes = config.axis_of_kv_head
        group = config.heads // config.kv_heads
        self._axes = np.array([axis for axis in axes for _ in range(group)] + list(axes))
        half = config.head_size // 2
        speeds = config.rope_theta ** (-np.arange(half, dtype=np.float64) / half)
        scales = np.array(config.axis_scales)[self._axes]
        # The model holds its speeds in float32; the engine turns by the same numbers.
        self._speeds = (scales[:, None] * speeds).astype(np.float32).astype(np.float64)
        heads = model.heads
        self._mlp_heads = None
        self._any_heads = None
        if isinstance(heads, MlpHeads) and not config.relative_heads:
            self._mlp_heads = (
                copied(heads.hidden.weight).t().contiguous(),
                copied(heads.before.weight),
                [
                    copied(out.weight).t().contiguous()
                    for out in cast(list[nn.Linear], list(heads.out))
                ],
                [np.array(offsets, dtype=np.int64) for offsets in heads.offsets],
                heads.size,
            )
        elif heads is not None:
            self._any_heads = copy.deepcopy(heads).to(self.dtype).eval()

    # -- the Engine protocol ----------------------------------------------------------------

    def running(self) -> AbstractContextManager[None]:
        """For the time of sampling: one thread."""
        return one_thread()

    def open(self, slots: int) -> None:
        """An empty cache for so many sequences."""
        # One position more than can be used: where the padding of a ragged batch is written.
        shape = (len(self._layers), slots, self._kv, self.max_positions + 1, self._size)
        self._keys = torch.zeros(shape, dtype=self.dtype, device=self.device)
        self._values = torch.zeros(shape, dtype=self.dtype, device=self.device)
        self._slots = Slots(slots, self.max_positions, keep=self.cache)
        width = self._norm.shape[0]
        self._states = torch.zeros(slots, width, dtype=self._wide, device=self.device)
        self._newest = np.zeros((slots, self._fields), dtype=np.int64)
        self._hidden: tuple[tuple[int, ...], Tensor] | None = None
        self._history: dict[int, list[Advance]] = {}

    def length(self, slot: int) -> int:
        """Positions that a slot has in its cache."""
        return int(self._slots.lengths[slot])

    @torch.inference_mode()
    def extend(self, advances: Mapping[int, Advance]) -> None:
        """Takes in the rows of some slots. Raises GenerationError when one has no room left."""
        self._hidden = None
        if not self.cache:
            advances = {slot: self._whole(slot, advance) for slot, advance in advances.items()}
        advances = {slot: self._slots.admit(slot, each) for slot, each in advances.items()}
        waiting = dict.fromkeys(advances, 0)
        while waiting:
            buckets: dict[int, list[int]] = {}
            for slot, taken in waiting.items():
                count = min(len(advances[slot].rows) - taken, PIECE)
                buckets.setdefault(count.bit_length() if count > 1 else 0, []).append(slot)
            for slots in buckets.values():
                self._pass(slots, [waiting[slot] for slot in slots], advances)
            waiting = {
                slot: taken + PIECE
                for slot, taken in waiting.items()
                if taken + PIECE < len(advances[slot].rows)
            }

    @torch.inference_mode()
    def logits(self, slots: Sequence[int], field: int, chosen: np.ndarray) -> np.ndarray:
        """Float64 (len(slots), V_field), multiples of 2**-20."""
        states = self._states[list(slots)].to(self.dtype)
        if self._mlp_heads is not None:
            hidden, before, outs, offsets, size = self._mlp_heads
            key = tuple(slots)
            if self._hidden is None or self._hidden[0] != key:
                self._hidden = (key, torch.mm(states, hidden))
            x = self._hidden[1][:, field * size : (field + 1) * size]
            if field:
                ids = torch.from_numpy(np.asarray(chosen, dtype=np.int64) + offsets[field])
                x = x + before[ids.to(self.device)].sum(1)
            bent = torch.tanh(x.to(self._wide)).to(self.dtype)
            out = torch.mm(bent, outs[field])
        elif self._any_heads is not None:
            ids = torch.from_numpy(np.asarray(chosen, dtype=np.int64)).to(self.device)
            newest = torch.from_numpy(self._newest[list(slots)]).to(self.device)
            out = self._any_heads.logits(states, field, ids, newest)
        else:
            out = torch.mm(states, self._tied)
        rounded = (out.to(self._wide) * GRID).round_().div_(GRID)
        return rounded.double().cpu().numpy()

    # -- one pass ---------------------------------------------------------------------------

    def _whole(self, slot: int, advance: Advance) -> Advance:
        """All rows of the slot so far, for an engine without a cache."""
        past = [] if advance.restart else self._history.get(slot, [])
        self._history[slot] = [*past, advance]
        return replace(Advance.joined(self._history[slot]), restart=True)

    def _pass(
        self, slots: Sequence[int], taken: Sequence[int], advances: Mapping[int, Advance]
    ) -> None:
        """Up to PIECE rows of each of `slots`, of which `taken` rows were taken in before."""
        skip = dict(zip(slots, taken, strict=True))
        order, first, moves = self._slots.run(slots)
        for one, other in moves:
            pair, swapped = [one, other], [other, one]
            self._keys[:, pair] = self._keys[:, swapped]
            self._values[:, pair] = self._values[:, swapped]
        parts = [advances[slot] for slot in order]
        counts = [
            min(len(part.rows) - skip[s], PIECE) for part, s in zip(parts, order, strict=True)
        ]
        longest, batch = max(counts), len(order)
        ids = np.zeros((batch, longest, self._fields + self._channels), dtype=np.int64)
        coordinates = np.zeros((batch, longest, int(self._axes.max()) + 1))
        vectors = None
        if any(part.vectors is not None for part in parts):
            vectors = np.zeros((batch, longest, self._norm.shape[0]))
        for b, (slot, part, count) in enumerate(zip(order, parts, counts, strict=True)):
            rows = slice(skip[slot], skip[slot] + count)
            ids[b, :count, : self._fields] = part.rows[rows]
            self._newest[slot] = ids[b, count - 1, : self._fields]
            if self._channels:
                ids[b, :count, self._fields :] = part.channels[rows]
            coordinates[b, :count] = part.coordinates[rows, : coordinates.shape[2]]
            if vectors is not None and part.vectors is not None:
                vectors[b, :count] = part.vectors[rows]
        starts = self._slots.lengths[order]
        states = self._forward(ids, coordinates, starts, counts, first, vectors)
        last = torch.as_tensor(np.array(counts) - 1, device=self.device)
        index = torch.arange(batch, device=self.device)
        self._states[order] = states.view(batch, longest, -1)[index, last]
        self._slots.took(order, counts)

    def _embed(self, ids: np.ndarray) -> Tensor:
        """Ids (N, n, F + C) -> (N * n, D)."""
        flat = ids.reshape(-1, ids.shape[-1])
        if self._plain:
            return self._table[torch.from_numpy(flat[:, 0]).to(self.device)]
        flat = np.where(
            (flat == 0) & (np.arange(flat.shape[1]) < self._fields), 0, flat + self._offsets
        )
        return self._table[torch.from_numpy(flat).to(self.device)].sum(1)

    def _forward(
        self,
        ids: np.ndarray,
        coordinates: np.ndarray,
        starts: np.ndarray,
        counts: Sequence[int],
        first: int,
        vectors: np.ndarray | None = None,
    ) -> Tensor:
        """-> states (N * n, D) of all rows; the cache now holds them, at places first + 0..N-1."""
        batch, n = ids.shape[:2]
        size, heads, kv = self._size, self._heads, self._kv
        group, half = heads // kv, size // 2
        x = self._embed(ids)
        if vectors is not None:
            x = x + torch.from_numpy(vectors).to(self.device, self._wide).flatten(0, 1)
        angles = coordinates[:, :, self._axes, None] * self._speeds  # (N, n, H + K, S/2)
        turning = np.stack((np.cos(angles), np.sin(angles))).reshape(2, batch * n, heads + kv, half)
        cos, sin = torch.from_numpy(turning).to(self.device, self._wide)
        ragged = batch > 1 and (min(starts) != max(starts) or min(counts) != max(counts))
        used = int(starts.max()) + n if not ragged else int((starts + counts).max())
        position = starts[:, None] + np.arange(n)  # (N, n)
        mask = None
        if n > 1 or ragged:
            allowed = np.arange(used) <= position[:, :, None]  # (N, n, L)
            mask = torch.from_numpy(allowed).to(self.device)[:, None, None]
        if ragged:
            real = np.arange(n) < np.array(counts)[:, None]
            position = np.where(real, position, self.max_positions)
            where = torch.from_numpy(position).to(self.device)
            who = torch.arange(first, first + batch, device=self.device)[:, None]
        start, last = int(starts[0]), first + batch
        turned = heads + kv
        for number, (qkv, join, gated, down) in enumerate(self._layers):
            mixed = torch.mm(self._normed(x), qkv).view(batch * n, turned + kv, size)
            low, high = mixed[:, :turned, :half], mixed[:, :turned, half:]
            both = torch.cat((low * cos - high * sin, high * cos + low * sin), -1).to(self.dtype)
            keys, values = self._keys[number], self._values[number]
            new_k = both[:, heads:].view(batch, n, kv, size)
            new_v = mixed[:, turned:].view(batch, n, kv, size)
            if ragged:
                keys[who, :, where] = new_k
                values[who, :, where] = new_v
            else:
                keys[first:last, :, start : start + n] = new_k.transpose(1, 2)
                values[first:last, :, start : start + n] = new_v.transpose(1, 2)
            query = both[:, :heads].reshape(batch, n, kv, group, size)
            query = query.permute(0, 2, 3, 1, 4).reshape(batch, kv, group * n, size)
            scores = torch.matmul(query, keys[first:last, :, :used].transpose(2, 3))
            if mask is not None:
                scores = scores.view(batch, kv, group, n, used)
                scores = scores.masked_fill(~mask, -torch.inf).view(batch, kv, group * n, used)
            shares = torch.softmax(scores, -1, dtype=self._wide).to(self.dtype)
            read = torch.matmul(shares, values[first:last, :, :used])
            read = read.view(batch, kv, group, n, size).permute(0, 3, 1, 2, 4)
            x = self._plus(x, read.reshape(batch * n, heads * size), join)
            gate, up = torch.mm(self._normed(x), gated).chunk(2, -1)
            x = self._plus(x, F.silu(gate) * up, down)
        return self._scaled(x) * self._norm

    def _plus(self, x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        """The state plus a product, in one pass where both are of one type."""
        return torch.addmm(x, y, weight) if x.dtype == y.dtype else x + torch.mm(y, weight)

    def _normed(self, x: Tensor) -> Tensor:
        """The scaled rows in the type of the matrices."""
        return self._scaled(x).to(self.dtype)

    def _scaled(self, x: Tensor) -> Tensor:
        """Each row divided by its rms; the weights of the norms are folded into what follows."""
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self._eps)
