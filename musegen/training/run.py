"""All settings of one training run, as `--set a.b=value` reaches them; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from musegen.config import from_dict
from musegen.errors import ConfigError
from musegen.training.config import TrainerConfig

__all__ = ["AXIS_SCALES", "BatchConfig", "DesignBatchConfig", "ImageBatchConfig", "RunConfig"]

AXIS_SCALES = {"index": 1.0, "time": 12.0}
"""Radians that the fastest rotating pair turns in one unit of a position axis: a row, or a quarter
note (then one radian is a triplet 32nd, the finest place of the events preset)."""


@dataclass(frozen=True)
class BatchConfig:
    """How pieces become batches."""

    batch_size: int = 8
    """Rows of a batch (documents are packed into each)."""
    length: int = 0
    """Positions of a row; 0: the model's context."""
    augment: bool = True
    """Transposition and tempo, within what the data card allows."""
    masked: float = 0.45
    """Share of documents with cells given ahead of others, for infilling and accompaniment."""
    told: float = 0.5
    """Share of documents that are told controls of their cells, each dropped at random."""
    arrangements: int = 0
    """How many arrangements for bands are made of the training pieces and added to them; shards
    that hold some already stay as they are."""
    arranged_share: float = 0.25
    """Share of the draws that these have."""
    validation_batches: int = 24
    """Batches of held-out windows in each validation, at most."""
    prefetch: int = 4
    """Batches made ahead."""
    workers: int | None = None
    """Processes that make them; 0: a thread. None: a thread on the CPU, where processes would take
    the cores that train; beside a GPU up to 6 processes, one a core."""

    def __post_init__(self) -> None:
        """Cross checks. Raises ConfigError."""
        for name in ("batch_size", "validation_batches", "prefetch"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} = {getattr(self, name)}: must be 1 or more")
        for name in ("length", "workers", "arrangements"):
            if (getattr(self, name) or 0) < 0:
                raise ConfigError(f"{name} = {getattr(self, name)}: must not be negative")
        for name in ("masked", "told"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"{name} = {getattr(self, name)}: must be from 0 to 1")
        if not 0.0 < self.arranged_share <= 0.5:
            raise ConfigError(
                f"arranged_share = {self.arranged_share}: must be above 0 and at most 0.5"
            )


@dataclass(frozen=True)
class DesignBatchConfig:
    """How designs become batches."""

    batch_size: int = 256
    validation_batches: int = 8
    prefetch: int = 4
    """Batches made ahead."""
    workers: int | None = None
    """As in `BatchConfig`."""

    def __post_init__(self) -> None:
        """Cross checks. Raises ConfigError."""
        for name in ("batch_size", "validation_batches", "prefetch"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} = {getattr(self, name)}: must be 1 or more")
        if (self.workers or 0) < 0:
            raise ConfigError(f"workers = {self.workers}: must not be negative")


@dataclass(frozen=True)
class ImageBatchConfig:
    """How pictures become batches; what may be done to them is off at first."""

    batch_size: int = 32
    flip: bool = False
    """Mirror them, left for right."""
    turn: bool = False
    """Turn them by quarters."""
    shift: int = 0
    """Move them by up to so many pixels."""
    zoom: float = 0.0
    """Cut out parts, up to this share smaller."""
    validation_batches: int = 8
    prefetch: int = 4
    """Batches made ahead."""
    workers: int | None = None
    """As in `BatchConfig`."""

    def __post_init__(self) -> None:
        """Cross checks. Raises ConfigError."""
        for name in ("batch_size", "validation_batches", "prefetch"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} = {getattr(self, name)}: must be 1 or more")


@dataclass(frozen=True)
class RunConfig:
    """Settings of the family (`model.*`), the trainer (`training.*`), the batches (`data.*`)."""

    model: Any
    training: TrainerConfig = field(default_factory=TrainerConfig)
    data: Any = field(default_factory=BatchConfig)
    """A `BatchConfig`, or an `ImageBatchConfig`."""

    @classmethod
    def of(
        cls,
        family: Any,
        size: str,
        tokenizer: Any,
        *,
        seed: int = 0,
        max_steps: int | None = None,
        max_minutes: float | None = None,
    ) -> RunConfig:
        """The run of a family (an entry of the registry) in one of its sizes, over a preset.

        Raises:
            ConfigError, UsageError: the family has no such size, or cannot hold the preset.
        """
        settings = {
            **family.preset(size),
            "field_sizes": tokenizer.field_sizes,
            "field_names": tokenizer.field_names,
            "channels": tuple((channel.name, channel.size) for channel in tokenizer.channels),
            "axes": tokenizer.axes,
            "axis_scales": tuple(AXIS_SCALES[axis] for axis in tokenizer.axes),
        }
        training = TrainerConfig(seed=seed, steps=max_steps or 0, minutes=max_minutes or 0.0)
        return cls(model=from_dict(family.config, settings), training=training)
