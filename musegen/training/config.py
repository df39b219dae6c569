"""How a model is trained, as data; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from musegen.errors import ConfigError

__all__ = ["TrainerConfig"]


@dataclass(frozen=True)
class TrainerConfig:
    """Settings of the `Trainer`; the same for every family."""

    steps: int = 0
    """Steps of the whole run; 0: as many as fit into `minutes`, or 1,000 when that is 0 too."""
    minutes: float = 0.0
    """Used when `steps` is 0: the first steps are timed, and from their pace the number of steps
    is fixed once, stored and logged. So the schedule stays a function of the step alone, a resumed
    run is the same run, and the minutes are met as well as the pace holds."""
    seed: int = 0
    """Of dropout and every other random number of the losses; the data source has its own."""
    optimizer: Literal["muon", "adamw"] = "muon"
    """Muon for the weight matrices and AdamW for the rest, or AdamW for everything."""
    learning_rate: float = 3e-3
    """The highest of the schedule. Muon's steps are scaled to the size of AdamW's, so one number
    serves both."""
    warmup_steps: int = 50
    """Steps over which the rate rises from 0; at most a tenth of the run."""
    final_rate: float = 0.05
    """The rate at the end of the cosine, as a share of the highest."""
    weight_decay: float = 0.1
    """Decoupled; of matrices only, never of norms, biases and embeddings."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Of AdamW."""
    momentum: float = 0.95
    """Of Muon."""
    clip: float = 1.0
    """Largest norm of the gradient; 0 clips nothing."""
    accumulation: int = 1
    """Batches whose gradients are averaged into one update."""
    ema: float = 0.0
    """Decay of the running mean of the weights, as in 0.999; the mean is what is validated and
    kept as best. 0 keeps none."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """auto: bf16 autocast where the device computes in it, else fp32."""
    storage: Literal["bf16", "fp32"] = "bf16"
    """How the weights of the best checkpoint are stored; resuming always uses full precision."""
    log_every: int = 10
    """Steps between lines of the log; also how soon a loss that is not finite is noticed."""
    validate_every: int = 250
    """Steps between validations (and so between chances of a new best); 0: only at the ends."""
    checkpoint_every: int = 500
    """Steps between checkpoints for resuming; 0: by time alone."""
    checkpoint_minutes: float = 5.0
    """A checkpoint is also written when the last is older than this; 0: by steps alone."""

    def __post_init__(self) -> None:
        """Cross checks. Raises ConfigError."""
        for name in (
            "steps",
            "minutes",
            "warmup_steps",
            "weight_decay",
            "clip",
            "validate_every",
            "checkpoint_every",
            "checkpoint_minutes",
        ):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} = {getattr(self, name)}: must not be negative")
        for name in ("accumulation", "log_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} = {getattr(self, name)}: must be 1 or more")
        if self.learning_rate <= 0:
            raise ConfigError(f"learning_rate = {self.learning_rate}: must be above 0")
        for name in ("ema", "momentum", *(() if min(self.betas) >= 0 else ("betas",))):
            value = getattr(self, name)
            if name == "betas" or not 0.0 <= value < 1.0:
                raise ConfigError(f"{name} = {value}: must be at least 0 and less than 1")
        if max(self.betas) >= 1:
            raise ConfigError(f"betas = {list(self.betas)}: must be at least 0 and less than 1")
        if not 0.0 <= self.final_rate <= 1.0:
            raise ConfigError(f"final_rate = {self.final_rate}: must be between 0 and 1")
