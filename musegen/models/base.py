"""The contract between a model and the two loops that are written once.

A `GenerativeModel` brings *losses* (its players) and *steps* (begin, step, done, finish). The
trainer (musegen/training/trainer.py) and the sampler (musegen/sampling/sampler.py) own the loops
and import this file only: they know nothing of transformers, autoencoders or critics.

Letters: B batch, V ids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

Batch = Mapping[str, Tensor]
"""What a data source yields, on the model's device. The keys are the family's own business."""


@dataclass(frozen=True)
class Loss:
    """What a player's loss function returns.

    `value` is the scalar that is minimised. `metrics` are (sum, count) pairs of detached tensors:
    the loop adds them up over batches and reports sum / count, so that a mean over batches of
    unlike size is the mean over their elements.
    """

    value: Tensor
    metrics: Mapping[str, tuple[Tensor, Tensor]]
    weight: Tensor | None = None
    """How much `value` counts beside those of other batches: where it is a mean, of how many
    elements. So the loss of several batches (accumulated, or of several processes) is that of one
    batch that holds them all. None: as much as every other."""


@dataclass(frozen=True)
class Player:
    """Who trains, on what loss, how often. A GAN has two; everything else has one."""

    name: str
    """Names the optimiser's state in the checkpoint and the metrics in the log."""
    module: nn.Module
    """The parameters that this player's optimiser owns; the others are frozen meanwhile."""
    loss: Callable[[Batch], Loss]
    """From a batch to the loss; called under autocast."""
    steps: int = 1
    """Updates of this player in one step of the trainer, each on a fresh batch."""
    autocast: bool = True
    """False where second derivatives are taken (a gradient penalty)."""


class Rule(Protocol):
    """A logits rule: a pure function from logits (B, V) to logits (B, V); -inf forbids."""

    def __call__(self, logits: np.ndarray) -> np.ndarray: ...


class DrawLike(Protocol):
    """Where all randomness of sampling comes from (musegen/sampling/draw.py).

    Row b of a batch has a random stream of its own, seeded by (seed, index of the sample), so
    that a sample does not depend on what else is in the batch.
    """

    def choose(self, logits: np.ndarray, allowed: np.ndarray, rows: Sequence[int]) -> np.ndarray:
        """Ids (B,) drawn from logits (B, V) where `allowed` (B, V) is true.

        `rows` names the random stream of each row of the batch.
        """
        ...

    def only(self, allowed: np.ndarray, rows: Sequence[int]) -> np.ndarray:
        """Ids (B,) where each row of `allowed` (B, V) is true once: what `choose` would draw."""
        ...

    def noise(self, shape: Sequence[int], rows: Sequence[int]) -> np.ndarray:
        """Standard normal noise of shape (len(rows), *shape)."""
        ...

    def guided(self, told: Any, untold: Any, weight: float) -> Any:
        """Classifier-free guidance of what a network says with its conditions and without."""
        ...


class GenerativeModel(nn.Module):
    """A model that the one trainer can train and the one sampler can sample.

    Subclasses take one frozen dataclass, their configuration, and keep it as `config`.
    """

    config: Any

    additions: tuple[str, ...] = ()
    """Beginnings of the names of parameters that a trained model may get later: fresh ones."""

    def players(self) -> tuple[Player, ...]:
        """Who trains, on what."""
        raise TypeError(f"{type(self).__name__} does not define players()")

    def compile_parts(self) -> Sequence[nn.Module]:
        """The modules that `torch.compile` is worth its time for; none where it is not known."""
        return ()

    def monitor(self) -> str:
        """The metric whose validation mean chooses the best checkpoint; lower is better."""
        return "loss"

    def alarms(self, values: Mapping[str, float]) -> Sequence[str]:
        """What held-out metrics say that the user should know, with what to change; often none."""
        return ()

    @contextmanager
    def sampling(self) -> Iterator[None]:
        """Around all the steps of a sample: evaluation mode, without gradients."""
        self.eval()
        with torch.no_grad():
            yield

    def begin(self, requests: Sequence[Any], draw: DrawLike) -> Any:
        """The first state of sampling, one request a sample."""
        raise TypeError(f"{type(self).__name__} does not define begin()")

    def step(self, state: Any, draw: DrawLike) -> Any:
        """One step of every unfinished sample; returns the new state (it may reuse the old one)."""
        raise TypeError(f"{type(self).__name__} does not define step()")

    def done(self, state: Any) -> bool:
        """Whether every sample is finished."""
        raise TypeError(f"{type(self).__name__} does not define done()")

    def finish(self, state: Any) -> list[Any]:
        """The results, one a request. Also right when called early: what is finished so far."""
        raise TypeError(f"{type(self).__name__} does not define finish()")


def parameters_of(modules: Iterable[nn.Module]) -> int:
    """How many trainable numbers there are, each shared one counted once."""
    seen: dict[int, int] = {}
    for module in modules:
        for parameter in module.parameters():
            seen[id(parameter)] = parameter.numel()
    return sum(seen.values())
