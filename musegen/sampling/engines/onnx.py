"""The fast engine for the CPU: ONNX Runtime, weights as bytes, no torch.

**Reproducible by choice of kernels.** A row's numbers are the same bits whatever else is in the
batch and with any number of threads: sequences that take in one row go through the graph side by
side, and those that take in several go one by one. Equal seeds give equal music on one kind of
processor; another may have other kernels. The torch engine, in float64, is the reference.

Letters: N sequences, n rows of each, D width, H query heads, K key-value heads, S size of a head,
P positions of the cache, F fields, C side channels, A axes, M hidden numbers of a field head.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from musegen.guide import Advance
from musegen.models.transformer_config import TransformerConfig
from musegen.sampling.engines.slots import Slots

__all__ = ["OnnxEngine", "OnnxModel"]

PIECE = 1024
"""Rows of a prompt that are taken in at once: bounds the memory of their scores."""


class OnnxModel:
    """The sessions and tables of a model: what all engines over it share."""

    def __init__(
        self,
        config: TransformerConfig,
        graphs: Mapping[str, bytes],
        table: np.ndarray,
        threads: int = 1,
    ) -> None:
        """`table` (rows, D) is the embedding table, float32."""
        self.config = config
        self.fields, self.channels = len(config.field_sizes), len(config.channels)
        self.plain = self.fields == 1 and not self.channels
        # Sums in float64 do not depend on their order, so a batch may be summed as it likes.
        self.table = table.astype(np.float64)
        if not self.plain:
            self.table[0] = 0.0  # "nothing here" adds nothing
        self.offsets = np.array(config.table_offsets[:-1], dtype=np.int64)
        axes, group = config.axis_of_kv_head, config.heads // config.kv_heads
        self.axes = np.array([axis for axis in axes for _ in range(group)] + list(axes))
        half = config.head_size // 2
        speeds = config.rope_theta ** (-np.arange(half, dtype=np.float64) / half)
        # The model holds its speeds in float32; the engine turns by the same numbers.
        scaled = np.array(config.axis_scales)[:, None] * speeds
        self.speeds = scaled.astype(np.float32).astype(np.float64)  # (A, S/2)
        self.step = _session(graphs["step"], threads)
        self.heads = [_session(graphs[f"field.{f}"], threads) for f in range(1, self.fields)]


class OnnxEngine:
    """An `Engine` (musegen/guide.py) over the graphs of `onnx_graph.build_graphs`."""

    device = "cpu"

    def __init__(self, model: OnnxModel, *, max_positions: int | None = None) -> None:
        self.model = model
        self.field_sizes: tuple[int, ...] = model.config.field_sizes
        self.max_positions: int = max_positions or model.config.context
        self.open(1)

    def running(self) -> AbstractContextManager[None]:
        """For the time of sampling: nothing to be set here."""
        return nullcontext()

    # -- the Engine protocol ----------------------------------------------------------------

    def open(self, slots: int) -> None:
        """An empty cache for so many sequences."""
        config = self.model.config
        self._slots = Slots(slots, self.max_positions)
        shape = (2 * config.layers, slots, config.kv_heads, self.max_positions, config.head_size)
        self._cache = np.zeros(shape, dtype=np.float32)
        """Of each layer the keys, then the values."""
        sizes = config.field_sizes
        self._first = np.zeros((slots, sizes[0]))
        self._hidden = np.zeros((slots, self.model.fields * config.head_hidden), dtype=np.float32)
        self._batches: dict[tuple[int, int], _Batch] = {}
        self._fields_of: dict[tuple[int, int], _Field] = {}

    def length(self, slot: int) -> int:
        """Positions that a slot has in its cache."""
        return int(self._slots.lengths[slot])

    def extend(self, advances: Mapping[int, Advance]) -> None:
        """Takes in the rows of some slots. Raises GenerationError when one has no room left."""
        whole: dict[tuple[bytes, ...], int] = {}
        admitted = {slot: self._slots.admit(slot, each) for slot, each in advances.items()}
        single = [slot for slot, advance in admitted.items() if len(advance.rows) == 1]
        # The others come along idle: what is computed of them is written over afterwards. Moving
        # them out of the way would take ten times as long.
        if 2 * len(single) >= len(admitted) > 1:
            self._together(list(admitted), {slot: admitted[slot] for slot in single})
        else:
            for slot in single:
                self._alone(slot, admitted[slot], 0)
        for slot, advance in admitted.items():
            if len(advance.rows) == 1:
                continue
            fresh = self._slots.lengths[slot] == 0
            key = (
                advance.rows.tobytes(),
                advance.channels.tobytes(),
                advance.coordinates.tobytes(),
                b"" if advance.vectors is None else advance.vectors.tobytes(),
            )
            if fresh and key in whole:
                self._copy(whole[key], slot, len(advance.rows))
                continue
            for start in range(0, len(advance.rows), PIECE):
                self._alone(slot, advance, start)
            if fresh:
                whole[key] = slot

    def logits(self, slots: Sequence[int], field: int, chosen: np.ndarray) -> np.ndarray:
        """Float64 (len(slots), V_field)."""
        if field == 0:
            return self._first[list(slots)]
        key = (field, len(slots))
        if key not in self._fields_of:
            session = self.model.heads[field - 1]
            self._fields_of[key] = _Field(session, field, len(slots), self.model.config)
        return self._fields_of[key].run(self._hidden, slots, chosen)

    # -- one pass ---------------------------------------------------------------------------

    def _alone(self, slot: int, rows: Advance, start: int) -> None:
        """PIECE rows of one slot, from row `start` on."""
        count = min(PIECE, len(rows.rows) - start)
        bound = self._bound(int(self._slots.places[slot]), 1, count)
        self._embed(rows.part(start, start + PIECE), bound.x)
        self._turn(rows.coordinates[start : start + PIECE], bound)
        self._slots.took([slot], [count])
        bound.before[0] = self._slots.lengths[slot] - 1
        bound.total[...] = self._slots.lengths[slot]
        bound.run()
        self._first[slot], self._hidden[slot] = bound.logits[0], bound.hidden[0]

    def _together(self, slots: list[int], rows: Mapping[int, Advance]) -> None:
        """One row of each slot in `rows`, which are some of `slots`, side by side."""
        order, first, moves = self._slots.run(slots)
        for one, other in moves:
            self._cache[:, [one, other]] = self._cache[:, [other, one]]
        taking = [slot for slot in order if slot in rows]
        where: Any = [b for b, slot in enumerate(order) if slot in rows]
        if len(taking) == len(order):
            where = slice(None)
        new = Advance.joined([rows[slot] for slot in taking])
        bound = self._bound(first, len(order), 1)
        self._embed(new, bound.x, where)
        self._turn(new.coordinates, bound, where)
        bound.before[:] = self._slots.lengths[order]
        bound.total[...] = bound.before.max() + 1
        bound.run()
        self._slots.took(taking, [1] * len(taking))
        self._first[taking], self._hidden[taking] = bound.logits[where], bound.hidden[where]

    def _bound(self, first: int, batch: int, count: int) -> _Batch:
        """The arrays of a pass over places first .. first + batch - 1; kept where likely."""
        if count > 1:
            return _Batch(self.model, self._cache, first, batch, count)
        key = (first, batch)
        if key not in self._batches:
            self._batches[key] = _Batch(self.model, self._cache, first, batch, 1)
        return self._batches[key]

    def _embed(self, new: Advance, out: np.ndarray, where: Any = slice(None)) -> None:
        """Writes the sum of the embeddings of each row into `where` of the rows of `out`."""
        model, flat, rows = self.model, out.reshape(-1, out.shape[-1]), new.rows
        if model.plain:
            flat[where] = model.table[rows[:, 0]]
            return
        fields = np.where(rows == 0, 0, rows + model.offsets[: model.fields])
        total = model.table[fields].sum(1)
        if model.channels:
            total += model.table[new.channels + model.offsets[model.fields :]].sum(1)
        if new.vectors is not None:
            total += new.vectors
        flat[where] = total

    def _turn(self, coordinates: np.ndarray, bound: _Batch, where: Any = slice(None)) -> None:
        """Writes the cosines and sines of the turned heads; those of the values stay 1 and 0."""
        axes, speeds = self.model.axes, self.model.speeds
        angles = coordinates[:, : len(speeds), None] * speeds  # (N n, A, S/2)
        shape = (bound.batch * bound.n, -1, angles.shape[-1])
        bound.cos.reshape(shape)[where, : len(axes)] = np.cos(angles)[:, axes]
        bound.sin.reshape(shape)[where, : len(axes)] = np.sin(angles)[:, axes]

    def _copy(self, source: int, slot: int, count: int) -> None:
        """Gives a slot what another one has just computed of the same rows."""
        here, there = self._slots.places[source], self._slots.places[slot]
        self._cache[:, there, :, :count] = self._cache[:, here, :, :count]
        self._first[slot], self._hidden[slot] = self._first[source], self._hidden[source]
        self._slots.took([slot], [count])


@dataclass(eq=False)
class _Batch:
    """The inputs and outputs of a pass, in memory that stays where it is from step to step."""

    model: OnnxModel
    cache: np.ndarray
    first: int
    batch: int
    n: int

    def __post_init__(self) -> None:
        config, batch = self.model.config, self.batch
        heads = config.heads + 2 * config.kv_heads
        half = config.head_size // 2
        self.x = np.zeros((batch, self.n, config.width), np.float32)
        self.cos = np.ones((batch, self.n * heads, half), np.float32)
        self.sin = np.zeros((batch, self.n * heads, half), np.float32)
        self.before = np.zeros(batch, np.int32)
        self.total = np.zeros((), np.int32)
        sizes = config.field_sizes
        self.logits = np.zeros((batch, sizes[0]), np.float32)
        self.hidden = np.zeros((batch, len(sizes) * config.head_hidden), np.float32)
        names = ("x", "cos", "sin", "before", "total")
        inputs: dict[str, np.ndarray] = {name: getattr(self, name) for name in names}
        outputs: dict[str, np.ndarray] = {"logits": self.logits}
        if len(sizes) > 1:
            outputs["hidden"] = self.hidden
        for layer in range(config.layers):
            for kind, name in enumerate(("keys", "values")):
                memory: np.ndarray = self.cache[2 * layer + kind, self.first : self.first + batch]
                inputs[f"{name}.{layer}"] = outputs[f"new_{name}.{layer}"] = memory
        self._binding = _Binding(self.model.step, inputs, outputs)

    def run(self) -> None:
        """Reads the inputs where they are, and writes the outputs where they are."""
        self._binding.run()


class _Field:
    """The logits of one field after the first, for so many sequences at once."""

    def __init__(self, session: Any, field: int, batch: int, config: TransformerConfig) -> None:
        inner = config.head_hidden
        self._place = slice(field * inner, (field + 1) * inner)
        self._hidden = np.zeros((batch, inner), np.float32)
        self._ids = [np.zeros(batch, np.int64) for _ in range(field)]
        self._logits = np.zeros((batch, config.field_sizes[field]), np.float32)
        inputs: dict[str, np.ndarray] = {"hidden": self._hidden}
        inputs |= {f"id.{before}": array for before, array in enumerate(self._ids)}
        self._binding = _Binding(session, inputs, {"logits": self._logits})

    def run(self, hidden: np.ndarray, slots: Sequence[int], chosen: np.ndarray) -> np.ndarray:
        """Float64 (len(slots), V), given the hidden numbers of all slots and the fields before."""
        self._hidden[:] = hidden[list(slots), self._place]
        for before, ids in enumerate(self._ids):
            ids[:] = chosen[:, before]
        self._binding.run()
        return self._logits.astype(np.float64)


class _Binding:
    """A session with its inputs and outputs tied to arrays, which it keeps alive."""

    def __init__(
        self, session: Any, inputs: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray]
    ) -> None:
        from onnxruntime import OrtValue

        self._session, self._io = session, session.io_binding()
        values: dict[int, Any] = {}
        for arrays, bind in (
            (inputs, self._io.bind_ortvalue_input),
            (outputs, self._io.bind_ortvalue_output),
        ):
            for name, array in arrays.items():
                # Keys and values are both: one value, so that they are written where they are.
                value = values.setdefault(id(array), OrtValue.ortvalue_from_numpy(array))
                bind(name, value)
        self._values, self._arrays = values, (inputs, outputs)

    def run(self) -> None:
        self._session.run_with_iobinding(self._io)


def _session(graph: bytes, threads: int) -> Any:
    """A session on the CPU that says nothing of itself."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Waiting threads must not burn a core that another program could use.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
