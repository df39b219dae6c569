"""The shape and the objective of an autoencoder of bars, as data; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from musegen.errors import ConfigError
from musegen.models.transformer_config import TransformerConfig

__all__ = ["BarVaeConfig"]

MOST_SLOTS = 64
MOST_COMPONENTS = 64


@dataclass(frozen=True)
class BarVaeConfig:
    """Everything that decides the parameters of a `BarVae` and what they are trained for."""

    field_sizes: tuple[int, ...]
    """How many ids each field of a row has, id 0 ("nothing here") included."""
    field_names: tuple[str, ...] = ()
    """Names of the fields, for metrics."""
    channels: tuple[tuple[str, int], ...] = ()
    """Side channels: (name, number of values) each."""
    axes: tuple[str, ...] = ("index",)
    """Position axes; the key-value heads are divided among them in order."""
    axis_scales: tuple[float, ...] = ()
    """Radians that the fastest rotating pair turns in one unit of each axis."""
    slots: int = 8
    """Empty rows before each bar: the encoder leaves a part of the latent in each, the decoder
    reads it there."""
    slot_width: int = 32
    """Numbers of the latent in a slot; the latent has slots * slot_width."""
    width: int = 192
    """Numbers in the state of a position (D), of encoder, decoder and prior."""
    encoder_layers: int = 3
    decoder_layers: int = 4
    prior_layers: int = 2
    heads: int = 6
    """Query heads; width / heads numbers each."""
    kv_heads: int = 2
    """Key-value heads."""
    ffn_multiple: float = 2.6667
    """Width of the feed-forward part as a multiple of `width`, rounded up to 32."""
    dropout: float = 0.0
    """Share of numbers dropped from what each block adds to the state, in training."""
    word_dropout: float = 0.0
    """Share of the decoder's input rows that are blanked in training, so that it must ask the
    latent (arXiv 1511.06349, section 3.2); sparingly."""
    context: int = 256
    """Positions of a row of a batch, into which several bars are packed."""
    longest: int = 128
    """Rows of one bar's document, slots and headers included."""
    section: int = 16
    """Bars that the prior of sections looks over."""
    components: int = 4
    """Gaussians in the mixture of which the prior of sections draws the next bar's latent."""
    attributes: int = 3
    """Attributes of a bar whose directions in the latent space are learned."""
    beta: float = 0.2
    """Weight of KL(q(z|x) || N(0, I)) against the reconstruction. The objective bounds the
    likelihood only where it is 1 or more (Higgins et al. 2017); -ELBO is reported at 1."""
    warmup_batches: int = 2000
    """Batches over which beta rises from 0, with the square of their number: slowly at first, so
    that the decoder has learnt to read the latent before what it says costs much."""
    free_nats: float = 0.02
    """Nats of each number of the latent (in the mean of a batch) that cost nothing (arXiv
    1606.04934, section C.8)."""
    field_weights: tuple[float, ...] = ()
    """Weight of each field in the loss; all 1 when left out. Metrics are of weight 1."""
    rope_theta: float = 10_000.0
    """Base of the geometric row of rotation speeds."""
    norm_eps: float = 1e-5
    """Added to the mean square under the root of RMSNorm."""

    def __post_init__(self) -> None:
        """Cross checks. Raises ConfigError."""
        if not self.field_weights:
            object.__setattr__(self, "field_weights", (1.0,) * len(self.field_sizes))
        if len(self.field_weights) != len(self.field_sizes) or min(self.field_weights) < 0:
            raise ConfigError(
                f"field_weights = {list(self.field_weights)}: one of 0 or more for each of "
                f"{len(self.field_sizes)} fields"
            )
        if not 1 <= self.slots <= MOST_SLOTS or not 1 <= self.slot_width <= self.width:
            raise ConfigError(
                f"slots = {self.slots}, slot_width = {self.slot_width}: 1 to {MOST_SLOTS} slots of "
                "1 number to the model's width are possible"
            )
        if not 1 <= self.components <= MOST_COMPONENTS:
            raise ConfigError(f"components = {self.components}: must be 1 to {MOST_COMPONENTS}")
        for name in ("encoder_layers", "decoder_layers", "prior_layers", "section"):
            if not 1 <= getattr(self, name) <= 512:
                raise ConfigError(f"{name} = {getattr(self, name)}: must be 1 to 512")
        for name in ("beta", "warmup_batches", "free_nats", "attributes"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} = {getattr(self, name)}: must not be negative")
        if not 0.0 <= self.word_dropout < 1.0:
            raise ConfigError(f"word_dropout = {self.word_dropout}: must be from 0 to below 1")
        if self.longest < self.slots + 4 or self.context < self.longest:
            raise ConfigError(
                f"longest = {self.longest}, context = {self.context}: a bar needs {self.slots} "
                "slots and 4 rows, and the context holds the longest bar"
            )
        object.__setattr__(self, "field_names", self.decoder.field_names)
        object.__setattr__(self, "axis_scales", self.decoder.axis_scales)

    @property
    def lead(self) -> int:
        """Empty rows at the beginning of a document."""
        return self.slots

    @property
    def latent(self) -> int:
        """Numbers of a bar's latent (Z)."""
        return self.slots * self.slot_width

    @cached_property
    def encoder(self) -> TransformerConfig:
        """The encoder's shape."""
        return self._part(self.encoder_layers)

    @cached_property
    def decoder(self) -> TransformerConfig:
        """The decoder's shape."""
        return self._part(self.decoder_layers)

    def _part(self, layers: int) -> TransformerConfig:
        return TransformerConfig(
            field_sizes=self.field_sizes,
            field_names=self.field_names,
            channels=self.channels,
            axes=self.axes,
            axis_scales=self.axis_scales,
            width=self.width,
            layers=layers,
            heads=self.heads,
            kv_heads=self.kv_heads,
            ffn_multiple=self.ffn_multiple,
            context=self.longest,
            dropout=self.dropout,
            rope_theta=self.rope_theta,
            norm_eps=self.norm_eps,
        )
