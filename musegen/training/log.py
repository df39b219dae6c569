"""What a run says of itself: means of metrics, progress for a caller, a line of JSON a report."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from musegen.errors import OutputError

__all__ = ["JsonLog", "Progress", "TrainingResult", "means", "sums"]


@dataclass(frozen=True)
class Progress:
    """Where a run stands; passed to `on_progress` at each line of the log."""

    step: int
    """Steps done."""
    steps: int | None
    """Of so many; None while the first steps are still being timed."""
    loss: float
    """Mean of the loss since the last report."""
    elapsed_s: float
    """Seconds of training, over all resumed parts."""
    eta_s: float | None
    """Seconds to the end at this pace."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    validation: Mapping[str, float] | None = None
    """Set when this report is of a validation."""
    note: str = ""
    """Something to tell the user: how many steps fit into the minutes."""

    def text(self) -> str:
        """A few words for a progress bar."""
        if self.note:
            return self.note
        if self.validation is not None:
            return f"held-out {self.loss:.4f}"
        if self.eta_s is None:
            return f"loss {self.loss:.3f}"
        minutes, seconds = divmod(round(self.eta_s), 60)
        return f"loss {self.loss:.3f}, {minutes}:{seconds:02d} left"


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended."""

    step: int
    steps: int | None
    interrupted: bool
    """Stopped by Ctrl-C or SIGTERM; `resume` goes on from here."""
    first_validation: Mapping[str, float]
    """Before the first step."""
    last_validation: Mapping[str, float]
    best: float | None
    """The lowest held-out value of the model's monitor."""
    best_step: int
    elapsed_s: float

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self)


def sums(batches: Iterable[Mapping[str, tuple[Tensor, Tensor]]]) -> dict[str, tuple[float, float]]:
    """Adds up the (sum, count) pairs of batches; waits for the device, so not in every step."""
    totals: dict[str, list[Tensor]] = {}
    counts: dict[str, list[Tensor]] = {}
    for metrics in batches:
        for name, (total, count) in metrics.items():
            totals.setdefault(name, []).append(total.detach())
            counts.setdefault(name, []).append(torch.as_tensor(count))
    return {name: (_added(totals[name]), _added(counts[name])) for name in totals}


def _added(numbers: list[Tensor]) -> float:
    return float(torch.stack(numbers).double().sum())


def means(parts: Iterable[Mapping[str, tuple[float, float]]]) -> dict[str, float]:
    """Sum / count of each metric with a count above 0, over what `sums` found in several places."""
    whole: dict[str, tuple[float, float]] = {}
    for part in parts:
        for name, (total, count) in part.items():
            before = whole.get(name, (0.0, 0.0))
            whole[name] = (before[0] + total, before[1] + count)
    return {name: total / count for name, (total, count) in whole.items() if count > 0}


class JsonLog:
    """`log.jsonl`: one object a line, each with a step. Without a path it keeps nothing."""

    def __init__(self, path: Path | None, after_step: int) -> None:
        """Lines of steps after `after_step` are dropped: the resumed run writes them again."""
        self.path = path
        if path is None or not path.exists():
            return
        kept = [line for line in path.read_bytes().splitlines() if _step(line) <= after_step]
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            fresh.write_bytes(b"".join(line + b"\n" for line in kept if after_step >= 0))
            os.replace(fresh, path)
        except OSError as error:
            raise OutputError(f"{path}: cannot be written ({error})") from error

    def write(self, line: Mapping[str, Any]) -> None:
        """Appends one object. Raises OutputError."""
        if self.path is None:
            return
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written ({error})") from error


def _step(line: bytes) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, TypeError, KeyError):
        return float("inf")  # a line cut short by a kill
