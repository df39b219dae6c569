"""A transformer as ONNX graphs, built from its weights; the only place that needs `onnx`.

One graph takes a step of the backbone, and one more a field after the first gives that field's
logits. Nothing is traced or exported: nodes are written down, with the norms' weights folded into
the matrices behind them, as in the torch engine.

Graph `step` (N sequences, n rows each, D width, H query and K key-value heads, S size of a head,
P positions of the cache, F fields, M hidden numbers of a field head, V ids):

| input | shape | what |
| --- | --- | --- |
| x | (N, n, D) | sum of the embeddings of each row |
| cos, sin | (N, n (H + 2 K), S / 2) | turning of each head; 1 and 0 for values |
| before | (N,) int32 | positions in use after these rows, less 1 |
| total | () int32 | the largest of them, plus 1 |
| keys.L, values.L | (N, K, P, S) | the cache of layer L |

Outputs: `hidden` (N, F M) and `logits` (N, V) of the first field, both of the last row only, of a
plain model `logits` alone; and `new_keys.L`, `new_values.L`, bound to the memory of `keys.L` and
`values.L`. Graph `field.f`: `hidden` (N, M) and `id.0` .. `id.f-1` (N,) int64 give `logits`.

`int8` stores a matrix in blocks of 32 numbers along its inputs, a byte a number and a float32 scale
a block; the kernel rounds the activations by the same blocks. Kernels and shapes are chosen so that
a row's numbers are the same bits whatever else is in the batch (tests/test_engine_onnx.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from musegen.errors import UsageError
from musegen.models.transformer_config import TransformerConfig

__all__ = ["BLOCK", "build_graphs", "quantised", "shapes"]

BLOCK = 32
"""Numbers of a matrix that share a scale."""

OPSET, CONTRIB, IR_VERSION = 23, 1, 10
"""Versions of the operators: of ONNX, of ONNX Runtime's own, of the file format."""

ACCURACY = 4
"""Of MatMulNBits: products of bytes. In float32 (0) it would unpack the matrix at each step."""

OWN = "com.microsoft"
"""Domain of ONNX Runtime's own operators."""


def quantised(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A matrix (N, K) as bytes (N, K / BLOCK, BLOCK), 128 for zero, and scales (N, K / BLOCK).

    Where K is no multiple of BLOCK, the last block is filled up with zeros.
    """
    outputs, inputs = weight.shape
    blocks = -(-inputs // BLOCK)
    padded = np.zeros((outputs, blocks * BLOCK), np.float32)
    padded[:, :inputs] = weight
    padded = padded.reshape(outputs, blocks, BLOCK)
    scales = np.abs(padded).max(-1) / 127
    safe = np.where(scales > 0, scales, 1)[..., None]
    bytes_ = np.clip(np.rint(padded / safe), -127, 127).astype(np.int16) + 128
    return bytes_.astype(np.uint8), scales.astype(np.float32)


def shapes(config: TransformerConfig) -> dict[str, tuple[int, ...]]:
    """The name and shape of each tensor that the graphs are built from."""
    width, inner = config.width, config.hidden
    kv = config.kv_heads * config.head_size
    found: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (config.table_offsets[-1], width),
        "model.norm.weight": (width,),
    }
    for number in range(config.layers):
        layer = f"model.layers.{number}."
        found |= {
            f"{layer}self_attn.q_proj.weight": (width, width),
            f"{layer}self_attn.k_proj.weight": (kv, width),
            f"{layer}self_attn.v_proj.weight": (kv, width),
            f"{layer}self_attn.o_proj.weight": (width, width),
            f"{layer}mlp.gate_proj.weight": (inner, width),
            f"{layer}mlp.up_proj.weight": (inner, width),
            f"{layer}mlp.down_proj.weight": (width, inner),
            f"{layer}input_layernorm.weight": (width,),
            f"{layer}post_attention_layernorm.weight": (width,),
        }
    sizes, inner = config.field_sizes, config.head_hidden
    if len(sizes) > 1:
        before = sum(sum(sizes[:field]) for field in range(len(sizes)))
        found["heads.hidden.weight"] = (len(sizes) * inner, width)
        found["heads.before.weight"] = (before, inner)
        found |= {f"heads.out.{field}.weight": (size, inner) for field, size in enumerate(sizes)}
    return found


def build_graphs(
    config: TransformerConfig, tensors: Mapping[str, np.ndarray], precision: str
) -> dict[str, bytes]:
    """The graphs by name, as files of ONNX.

    Args:
        config: the shape of the model.
        tensors: its weights, float32, of the `shapes` of the configuration.
        precision: `int8` or `fp32`.

    Raises:
        UsageError: field heads that are not MLPs, or relative ones.
    """
    if len(config.field_sizes) > 1 and config.field_heads != "mlp":
        raise UsageError("the onnx engine has no field heads of a layer: use the torch engine")
    if config.relative_heads:
        raise UsageError("the onnx engine has no relative heads: use the torch engine")
    graphs = {"step": _step(config, tensors, precision)}
    for field in range(1, len(config.field_sizes)):
        graphs[f"field.{field}"] = _field(config, tensors, precision, field)
    return graphs


def _step(config: TransformerConfig, tensors: Mapping[str, np.ndarray], precision: str) -> bytes:
    width, size, heads, kv = config.width, config.head_size, config.heads, config.kv_heads
    graph = _Graph(precision)
    graph.array("ones", np.ones(width, np.float32))
    graph.array("by_head", np.array([0, -1, size]))
    graph.array("by_row", np.array([0, -1, (heads + 2 * kv) * size]))
    graph.input("x", ["N", "n", width])
    for name in ("cos", "sin"):
        graph.input(name, ["N", "turned", size // 2])
    graph.input("before", ["N"], "INT32")
    graph.input("total", [], "INT32")
    state, added = "x", ""
    eps = {"epsilon": config.norm_eps}
    for number in range(config.layers):
        layer, at = f"model.layers.{number}.", f".{number}"

        def weight(name: str, layer: str = layer) -> np.ndarray:
            return tensors[f"{layer}{name}.weight"]

        qkv = np.concatenate([weight(f"self_attn.{p}_proj") for p in "qkv"])
        gated = np.concatenate([weight("mlp.gate_proj"), weight("mlp.up_proj")])
        qkv = qkv * weight("input_layernorm")
        gated = gated * weight("post_attention_layernorm")
        state, normed = graph.normed(state, added, "first" + at, eps)
        mixed = graph.product(normed, "qkv" + at, qkv)
        one = graph.node("Reshape", [mixed, "by_head"], "split" + at)
        one = graph.node("RotaryEmbedding", [one, "cos", "sin"], "turned" + at, num_heads=1)
        one = graph.node("Reshape", [one, "by_row"], "joined" + at)
        cache = [f"keys{at}", f"values{at}"]
        for name in cache:
            graph.input(name, ["N", kv, "P", size])
            graph.output(f"new_{name}", ["N", kv, "P", size])
        graph.node(
            "GroupQueryAttention",
            [one, "", "", *cache, "before", "total"],
            ["read" + at, f"new_keys{at}", f"new_values{at}"],
            domain=OWN,
            num_heads=heads,
            kv_num_heads=kv,
        )
        joined = graph.product("read" + at, "o" + at, weight("self_attn.o_proj"))
        state, normed = graph.normed(state, joined, "second" + at, eps)
        both = graph.product(normed, "gated" + at, gated)
        graph.node("Split", [both], ["gate" + at, "up" + at], axis=-1, num_outputs=2)
        # x * sigmoid(x), which is SiLU
        one = graph.node("QuickGelu", ["gate" + at], "silu" + at, domain=OWN, alpha=1.0)
        one = graph.node("Mul", [one, "up" + at], "inner" + at)
        added = graph.product(one, "down" + at, weight("mlp.down_proj"))
    _, normed = graph.normed(state, added, "last", eps)
    graph.array("end", np.array(-1))
    last = graph.node("Gather", [normed, "end"], "state", axis=1)  # (N, D)
    norm = tensors["model.norm.weight"]
    sizes, inner = config.field_sizes, config.head_hidden
    if len(sizes) == 1:
        tied = tensors["model.embed_tokens.weight"][: sizes[0]] * norm
        graph.product(last, "tied", tied, "logits")
    else:
        graph.product(last, "heads", tensors["heads.hidden.weight"] * norm, "hidden")
        graph.output("hidden", ["N", len(sizes) * inner])
        graph.array("first", np.arange(inner))
        one = graph.node("Gather", ["hidden", "first"], "hidden.0", axis=1)
        one = graph.node("Tanh", [one], "bent")
        graph.product(one, "out.0", tensors["heads.out.0.weight"], "logits")
    graph.output("logits", ["N", sizes[0]])
    return graph.file("step")


def _field(
    config: TransformerConfig, tensors: Mapping[str, np.ndarray], precision: str, field: int
) -> bytes:
    graph = _Graph(precision)
    inner = config.head_hidden
    graph.input("hidden", ["N", inner])
    table = tensors["heads.before.weight"]
    sizes = config.field_sizes
    start = sum(sum(sizes[:earlier]) for earlier in range(field))
    total = "hidden"
    for before, ids in enumerate(sizes[:field]):
        graph.input(f"id.{before}", ["N"], "INT64")
        graph.array(f"table.{before}", table[start : start + ids])
        start += ids
        seen = graph.node("Gather", [f"table.{before}", f"id.{before}"], f"seen.{before}")
        total = graph.node("Add", [total, seen], f"sum.{before}")
    bent = graph.node("Tanh", [total], "bent")
    graph.product(bent, "out", tensors[f"heads.out.{field}.weight"], "logits")
    graph.output("logits", ["N", sizes[field]])
    return graph.file(f"field.{field}")


class _Graph:
    """Nodes, weights, inputs and outputs as they are written down."""

    def __init__(self, precision: str) -> None:
        import onnx

        self._onnx, self._precision = onnx, precision
        self._nodes: list[Any] = []
        self._arrays: list[Any] = []
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []

    def _value(self, name: str, shape: list[Any], kind: str) -> Any:
        kinds = self._onnx.TensorProto
        return self._onnx.helper.make_tensor_value_info(name, getattr(kinds, kind), shape)

    def input(self, name: str, shape: list[Any], kind: str = "FLOAT") -> None:
        """An input; sizes that are texts may differ from call to call."""
        self._inputs.append(self._value(name, shape, kind))

    def output(self, name: str, shape: list[Any]) -> None:
        """An output, of float32."""
        self._outputs.append(self._value(name, shape, "FLOAT"))

    def array(self, name: str, values: np.ndarray) -> None:
        """A constant."""
        contiguous = np.asarray(values, order="C")  # ascontiguousarray has no scalars
        self._arrays.append(self._onnx.numpy_helper.from_array(contiguous, name))

    def node(self, kind: str, inputs: list[str], outputs: str | list[str], **settings: Any) -> str:
        """A node; returns the name of its first output."""
        names = [outputs] if isinstance(outputs, str) else outputs
        self._nodes.append(self._onnx.helper.make_node(kind, inputs, names, **settings))
        return names[0]

    def normed(self, state: str, added: str, name: str, eps: dict[str, float]) -> tuple[str, str]:
        """The sum of the state and what is added to it, and that divided by its rms."""
        if not added:
            kind = "SimplifiedLayerNormalization"
            return state, self.node(kind, [state, "ones"], name + ".n", axis=-1, **eps)
        outputs = [name + ".n", "", "", name + ".x"]
        kind = "SkipSimplifiedLayerNormalization"
        self.node(kind, [state, added, "ones"], outputs, domain=OWN, **eps)
        return outputs[3], outputs[0]

    def product(self, x: str, name: str, weight: np.ndarray, out: str = "") -> str:
        """X times a matrix that is given as (outputs, inputs)."""
        out = out or name + ".y"
        if self._precision == "fp32":
            self.array(name, weight.T.astype(np.float32))
            return self.node("MatMul", [x, name], out)
        values, scales = quantised(weight)
        self.array(name, values)
        self.array(name + ".scales", scales)
        outputs, inputs = weight.shape
        settings = {"K": inputs, "N": outputs, "bits": 8, "block_size": BLOCK}
        names = [x, name, name + ".scales"]
        return self.node("MatMulNBits", names, out, domain=OWN, accuracy_level=ACCURACY, **settings)

    def file(self, name: str) -> bytes:
        """The graph as a file of ONNX."""
        helper = self._onnx.helper
        graph = helper.make_graph(self._nodes, name, self._inputs, self._outputs, self._arrays)
        versions = [helper.make_opsetid("", OPSET), helper.make_opsetid(OWN, CONTRIB)]
        model = helper.make_model(graph, opset_imports=versions, ir_version=IR_VERSION)
        return model.SerializeToString()
