"""A trained model, ready to compose: its folder, the preset that it speaks, what computes it."""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from musegen import assets
from musegen.errors import CheckpointError, UsageError
from musegen.guide import Engine
from musegen.models.registry import GENERATORS
from musegen.tokens.tokenizer import Tokenizer, tokenizer_from_dict
from musegen.training.folder import Checkpoint, read_arrays, read_checkpoint, read_config

if TYPE_CHECKING:
    from musegen.music.piece import Piece
    from musegen.sampling.engines.onnx import OnnxModel

__all__ = ["Model"]


class Model:
    """A model that was loaded once, for as many compositions as you like."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: str = "auto",
        engine: str = "auto",
        precision: str = "auto",
    ) -> None:
        """See `from_pretrained`."""
        from musegen.sampling.engines.choice import choose_engine

        folder = checkpoint.folder
        self.config: Any = read_config(checkpoint, GENERATORS)
        """The settings of its family."""
        writes = GENERATORS[checkpoint.family].writes
        if writes != "pieces":
            raise CheckpointError(
                f"{folder} holds a {checkpoint.family}, which writes {writes} and not pieces: name "
                "another model here (a model of bars is for interpolate, vary, morph, average)"
            )
        self.checkpoint = checkpoint
        """What its folder says."""
        self.tokenizer: Tokenizer = tokenizer_from_dict(
            checkpoint.tokenizer, str(folder / "tokenizer.json")
        )
        if tuple(self.tokenizer.field_sizes) != tuple(self.config.field_sizes):
            raise CheckpointError(f"{folder}: tokenizer.json and the weights do not fit together")
        choice = choose_engine(self.config, engine, precision, device)
        self.engine = choice.engine
        """`onnx` or `torch`."""
        self.precision = choice.precision
        self.device = choice.device
        """`cpu`, `cuda` or `mps`."""
        self.notes: tuple[str, ...] = ()
        """What the user should know of the loading."""
        if choice.engine == "onnx":
            self._onnx = self._load_onnx()
        else:
            self._resolve()

    @classmethod
    def from_pretrained(
        cls,
        name_or_folder: str | os.PathLike[str],
        device: str = "auto",
        engine: str = "auto",
        precision: str = "auto",
    ) -> Model:
        """Loads an installed model by name (`default`), or a folder that `train` wrote.

        Args:
            name_or_folder: which.
            device: `auto`, `cpu`, `cuda` or `mps`.
            engine: `onnx`, `torch`, or `auto`: onnx where it can, which is on the CPU.
            precision: `int8` or `fp32` of onnx; `fp64`, `fp32` or `bf16` of torch; or `auto`.

        Raises:
            CheckpointError: there is none, or it is damaged or of another version.
            DeviceError: the device or the engine is not there.
            UsageError: engine, precision and device do not go together.
        """
        folder = assets.weights_path(name_or_folder)
        return cls(read_checkpoint(folder), device, engine, precision)

    def new_engine(self) -> Engine:
        """What computes the logits of one run of the sampler: its cache is its own."""
        if self.engine == "onnx":
            from musegen.sampling.engines.onnx import OnnxEngine

            return OnnxEngine(self._onnx)
        import torch

        from musegen.sampling.engines.torch import TorchEngine

        kinds = {"fp64": torch.float64, "fp32": torch.float32, "bf16": torch.bfloat16}
        return TorchEngine(self.network, dtype=kinds[self.precision])

    @cached_property
    def network(self) -> Any:
        """The family's `GenerativeModel`, in evaluation mode, for torch; loaded when needed."""
        from musegen.training.checkpoint import load_model
        from musegen.training.device import resolve_device

        device = resolve_device(self.device)
        return load_model(self.checkpoint.folder, GENERATORS, device)[0]

    def latent_of(self) -> str:
        """sha256 of the weights of the autoencoder whose latents it may be told.

        Raises CheckpointError where it may be told none.
        """
        if not getattr(self.config, "latent", 0):
            raise CheckpointError(
                f"model {self.checkpoint.folder.name!r} cannot be told of bars (--like): it was "
                "not trained with their latents; docs/bars.md says how that is done"
            )
        return self.config.latent_of

    def told_of(self, latent: np.ndarray) -> np.ndarray:
        """What of a bar's latent (Z,) is added to the embeddings of a cell's rows: (D,) float64."""
        found = latent
        for name in self.config.latent_shapes:
            if name.startswith("like.up"):
                found = np.tanh(found @ self._latent_matrices[name].T)
            else:
                found = found @ self._latent_matrices[name].T
        return found

    @cached_property
    def _latent_matrices(self) -> dict[str, np.ndarray]:
        arrays = read_arrays(self.checkpoint.folder / "model.safetensors", self._shapes())
        return {name: arrays[name].astype(np.float64) for name in self.config.latent_shapes}

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        """Of all tensors of a model that onnx can run."""
        from musegen.sampling.engines.onnx_graph import shapes

        return shapes(self.config) | self.config.latent_shapes

    def compose(self, seed: Any = None, **options: Any) -> Piece | list[Piece]:
        """`musegen.compose` with this model."""
        from musegen.api import compose

        return compose(seed, model=self, **options)

    def _resolve(self) -> None:
        """The device and the precision of torch, once they are known; loads the network."""
        device = next(iter(self.network.parameters())).device
        self.device = device.type
        if self.precision == "bf16" and device.type == "cpu":
            raise UsageError("precision bf16 is for a GPU, and none was found; leave it out")
        if self.precision == "auto":
            self.precision = "fp64" if device.type == "cpu" else "fp32"

    def _load_onnx(self) -> OnnxModel:
        from musegen.sampling.engines.graph_cache import graphs_of
        from musegen.sampling.engines.onnx import OnnxModel

        checkpoint, config = self.checkpoint, self.config
        own = assets.engine_folder()
        packaged = assets.is_packaged(checkpoint.folder)
        graphs, table, note = graphs_of(
            config,
            lambda: read_arrays(checkpoint.folder / "model.safetensors", self._shapes()),
            checkpoint.weights_hash,
            self.precision,
            [own] if packaged else [checkpoint.folder, own],
        )
        self.notes = (note,) if note else ()
        return OnnxModel(config, graphs, table)
