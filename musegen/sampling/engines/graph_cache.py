"""The graphs of the onnx engine, kept in a file beside the weights that they were built from.

The file is safetensors: a graph a tensor of bytes, the embedding table, and in its metadata the
hash of the weights, the precision, the version of the graphs and a checksum. A file that is of
other weights, cut short or damaged is built anew and replaced; the user need do nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from musegen.atomic import write_whole
from musegen.errors import OutputError
from musegen.models.transformer_config import TransformerConfig

__all__ = ["VERSION", "graphs_of", "read_graphs"]

VERSION = "1"
"""Of what `onnx_graph` builds: raise it with every change there."""

TABLE = "table"
"""Name of the embedding table among the graphs."""

Weights = Callable[[], Mapping[str, np.ndarray]]


def graphs_of(
    config: TransformerConfig,
    weights: Weights,
    weights_hash: str,
    precision: str,
    folders: Sequence[Path],
) -> tuple[dict[str, bytes], np.ndarray, str]:
    """The graphs by name, the embedding table, and a note for the user where one is due.

    They are read from the first of `folders` that holds them, or else built and kept in the first
    that can be written. `weights()` reads the tensors; it is called only when they are needed.
    """
    name = f"engine-{precision}-{weights_hash[:16]}.safetensors"
    settings = {"version": VERSION, "precision": precision, "weights": weights_hash}
    note = ""
    for folder in folders:
        path = folder / name
        if not path.is_file():
            continue
        found = read_graphs(path, settings)
        if found is not None:
            return *found, ""
        note = f"{path} is damaged or of another version: it was built anew"
    from musegen.sampling.engines.onnx_graph import build_graphs

    tensors = weights()
    graphs = build_graphs(config, tensors, precision)
    table = tensors["model.embed_tokens.weight"]
    data = _file(graphs, table, settings)
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(folder / name, data)
            break
        except (OSError, OutputError):
            continue  # read-only, or full: the next folder; without any, the next run builds again
    return graphs, table, note


def read_graphs(
    path: Path, settings: Mapping[str, str]
) -> tuple[dict[str, bytes], np.ndarray] | None:
    """The graphs and the table of a file; None where it is not what `settings` say, or damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            told = dict(file.metadata() or {})
            checksum = told.pop("sha256", "")
            if told != settings:
                return None
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError):
        return None
    if TABLE not in arrays or checksum != _checksum(arrays):
        return None
    table = arrays.pop(TABLE)
    return {name: array.tobytes() for name, array in arrays.items()}, table


def _file(graphs: Mapping[str, bytes], table: np.ndarray, settings: Mapping[str, str]) -> bytes:
    from safetensors.numpy import save

    arrays = {name: np.frombuffer(graph, np.uint8) for name, graph in graphs.items()}
    arrays[TABLE] = np.ascontiguousarray(table, dtype=np.float32)
    return save(arrays, metadata={**settings, "sha256": _checksum(arrays)})


def _checksum(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(arrays[name]).data)
    return digest.hexdigest()
