"""The shape of a transformer, as data; imports no torch, so that any engine can read it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from musegen.errors import ConfigError

__all__ = ["TransformerConfig"]

MOST_PARTS = 512
"""Layers, fields or side channels of a model, at most."""

MOST_CONTEXT = 2**17
"""Rows of the longest context: no tensor of a file bears it out, and the cache is of that size."""


@dataclass(frozen=True)
class TransformerConfig:
    """Everything that decides the parameters of a `Transformer` and what they mean."""

    field_sizes: tuple[int, ...]
    """How many ids each field of a row has, id 0 ("nothing here") included."""
    field_names: tuple[str, ...] = ()
    """Names of the fields, for metrics; `field0`, `field1`, ... when left out."""
    channels: tuple[tuple[str, int], ...] = ()
    """Side channels: (name, number of values) each; their embeddings are summed into the input."""
    axes: tuple[str, ...] = ("index",)
    """Position axes; the key-value heads are divided among them in order."""
    axis_scales: tuple[float, ...] = ()
    """Radians that the fastest rotating pair turns in one unit of each axis; 1.0 when left out."""
    width: int = 192
    """Numbers in the state of a position (D)."""
    layers: int = 4
    """Blocks of attention and feed-forward."""
    heads: int = 6
    """Query heads (H); width / heads numbers each."""
    kv_heads: int = 2
    """Key-value heads (K); each serves heads / kv_heads query heads."""
    ffn_multiple: float = 2.6667
    """Width of the feed-forward part as a multiple of `width`, rounded up to 32."""
    field_heads: Literal["mlp", "layer"] = "mlp"
    """What predicts the fields of a row when there are several: an MLP each, or one causal layer
    over the fields. A single field has a plain head, tied to the embedding."""
    head_width: int = 0
    """Hidden numbers of a field head; 0 means `width`."""
    relative_heads: bool = False
    """Whether an MLP head also weighs how far an id lies from the same field one row ago and from
    the fields before: for rows whose fields are pitches."""
    context: int = 512
    """Rows that one window of training holds, and the cache of sampling."""
    dropout: float = 0.0
    """Share of numbers dropped from what each block adds to the state, in training."""
    input_dropout: float = 0.0
    """Share of the ids and side channels of input rows that are not told in training (they become
    0): word dropout, against learning pieces by heart (arXiv 1511.06349, section 3.1.1)."""
    latent: int = 0
    """Numbers of the latent of a bar that a cell may be told to be like (Z); 0: none is told."""
    latent_of: str = ""
    """sha256 of the weights of the autoencoder whose latents these are."""
    latent_hidden: int = 0
    """Hidden numbers between such a latent and the embeddings; 0: a plain matrix."""
    latent_noise: float = 0.0
    """Standard deviation of noise on latents in training: cells become like, not equal to."""
    latent_only: bool = False
    """Whether training leaves all weights but those of latents as they are."""
    rope_theta: float = 10_000.0
    """Base of the geometric row of rotation speeds (RoPE, arXiv 2104.09864)."""
    norm_eps: float = 1e-5
    """Added to the mean square under the root of RMSNorm."""

    def __post_init__(self) -> None:
        """Cross checks. Raises ConfigError."""
        if not self.field_sizes or min(self.field_sizes) < 2:
            raise ConfigError(
                f"field_sizes = {list(self.field_sizes)}: each field needs 2 ids or more"
            )
        if not self.field_names:
            names = tuple(f"field{i}" for i in range(len(self.field_sizes)))
            object.__setattr__(self, "field_names", names)
        if len(self.field_names) != len(self.field_sizes):
            raise ConfigError(
                f"field_names has {len(self.field_names)} names for {len(self.field_sizes)} sizes"
            )
        if not self.axes:
            raise ConfigError("axes is empty; name one at least, as in ['index']")
        if not self.axis_scales:
            object.__setattr__(self, "axis_scales", (1.0,) * len(self.axes))
        if len(self.axis_scales) != len(self.axes):
            raise ConfigError(f"axis_scales has {len(self.axis_scales)}, axes {len(self.axes)}")
        for name in ("width", "layers", "heads", "kv_heads", "context"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} = {getattr(self, name)}: must be 1 or more")
        if self.context > MOST_CONTEXT:
            raise ConfigError(f"context = {self.context}: must be {MOST_CONTEXT} or less")
        for name, count in (
            ("layers", self.layers),
            ("field_sizes", len(self.field_sizes)),
            ("channels", len(self.channels)),
        ):
            if count > MOST_PARTS:  # a settings file that lies must not build modules for hours
                raise ConfigError(f"{name}: {count} are more than {MOST_PARTS}")
        if any(size < 1 for _, size in self.channels):
            raise ConfigError("channels: every side channel needs 1 value or more")
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise ConfigError(
                f"width = {self.width}: must be heads ({self.heads}) times an even number"
            )
        if self.heads % self.kv_heads:
            raise ConfigError(f"heads = {self.heads}: must be a multiple of kv_heads")
        if self.kv_heads < len(self.axes):
            raise ConfigError(
                f"kv_heads = {self.kv_heads}: each of {len(self.axes)} axes needs one"
            )
        if self.relative_heads and (self.field_heads != "mlp" or len(self.field_sizes) == 1):
            raise ConfigError("relative_heads needs several fields and field_heads = 'mlp'")
        for name in ("dropout", "input_dropout"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ConfigError(
                    f"{name} = {getattr(self, name)}: must be at least 0 and less than 1"
                )
        for name in ("latent", "latent_hidden", "latent_noise"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} = {getattr(self, name)}: must not be negative")
        if self.latent_only and not self.latent:
            raise ConfigError("latent_only = true needs latent > 0: there is nothing to train")
        if self.ffn_multiple <= 0 or self.head_width < 0 or self.rope_theta <= 1:
            raise ConfigError("ffn_multiple, head_width and rope_theta must be positive")

    @property
    def head_size(self) -> int:
        """Numbers in one attention head."""
        return self.width // self.heads

    @property
    def hidden(self) -> int:
        """Numbers inside the feed-forward part."""
        return -int(-(self.width * self.ffn_multiple - 0.5) // 32) * 32

    @property
    def head_hidden(self) -> int:
        """Numbers inside a field head."""
        return self.head_width or self.width

    @property
    def table_offsets(self) -> tuple[int, ...]:
        """Where each field, then each channel, begins in the one embedding table."""
        offsets, total = [], 0
        for size in (*self.field_sizes, *(size for _, size in self.channels)):
            offsets.append(total)
            total += size
        return (*offsets, total)

    @property
    def latent_shapes(self) -> dict[str, tuple[int, int]]:
        """The tensors that read latents, in the order in which they are applied."""
        if not self.latent:
            return {}
        inner = self.latent_hidden or self.latent
        up = {"like.up.weight": (inner, self.latent)} if self.latent_hidden else {}
        return up | {"like.out.weight": (self.width, inner)}

    @property
    def axis_of_kv_head(self) -> tuple[int, ...]:
        """Which axis turns each key-value head (and the query heads that it serves)."""
        return tuple(k * len(self.axes) // self.kv_heads for k in range(self.kv_heads))
