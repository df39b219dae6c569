"""What an evaluation found, as data: from it come JSON, Markdown and plots.

All of it is figures and words; nothing is computed here. Seconds stand in a part of their own that
JSON leaves out unless it is asked for: the same evaluation run twice gives the same JSON.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from musegen.evaluation.intervals import Estimate

__all__ = [
    "Comparison",
    "ControlLine",
    "Curve",
    "Likelihood",
    "Likelihoods",
    "ModelFacts",
    "OriginalityFacts",
    "Report",
    "TaskResult",
    "Timing",
]

DIGITS = 6
"""Significant digits in JSON."""


@dataclass(frozen=True)
class Comparison:
    """A figure of human music, of generated music, and of human music with its bars in disorder."""

    name: str
    unit: str
    held_out: Estimate | None
    generated: Estimate | None
    shuffled: Estimate | None
    gap: Estimate | None
    """Generated minus held-out, over the pairs in which both are defined. Closer to 0 is better."""
    within: bool | None
    """Whether the generated mean lies in the held-out interval; None where one is missing."""


@dataclass(frozen=True)
class Curve:
    """A figure by bar distance: entry d - 1 is of bars d apart."""

    name: str
    held_out: tuple[Estimate | None, ...]
    generated: tuple[Estimate | None, ...]
    shuffled: tuple[Estimate | None, ...]
    error: float | None
    """Mean over distances of how far the generated curve is from the held-out one."""
    shuffled_error: float | None
    """The same of the shuffled control: what knowing no form costs."""


@dataclass(frozen=True)
class OriginalityFacts:
    """Longest runs of notes shared with the training music, of model and human alike."""

    checked: int
    """Generated pieces with pitched notes."""
    unusual: Estimate | None
    """Share of them whose run is above the 95th percentile of human excerpts of their size."""
    human_unusual: Estimate | None
    """The same of the references: about 0.05 by construction."""
    longest: int
    """Notes of the longest run of all."""
    percentile_95: float
    """Of the generated pieces' longest runs, in notes."""
    human_percentile_95: float
    """Of the references' longest runs."""
    human_longest: int
    copies: tuple[str, ...]
    """The unusual ones, in words."""


@dataclass(frozen=True)
class Timing:
    """How long generating took; of this machine and this hour."""

    seconds: float
    notes: int
    notes_per_s: float


@dataclass(frozen=True)
class TaskResult:
    """One task of one model."""

    task: str
    bars: int
    """Written in each piece, for `fill` in the middle half of the excerpt."""
    asked: int
    """Requests made. Those that failed count below, none is left out."""
    done: int
    pieces: int
    """Held-out pieces that the requests are of."""
    validity: Mapping[str, float]
    """Share of all requests made, failed ones included, of which it is true."""
    failures: tuple[str, ...]
    music: tuple[Comparison, ...]
    curves: tuple[Curve, ...]
    originality: OriginalityFacts | None
    """None where the model's folder has no index."""
    closer: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)
    """Beside each other model, by figure: |own gap| - |its gap|, paired by request; below 0 this
    model is closer to held-out music. Of the first model only."""
    timing: Timing | None = None


@dataclass(frozen=True)
class ControlLine:
    """One control on one track: what was asked against what was measured."""

    control: str
    track: str
    kind: str
    """`rule`: it must hold; `wish`: it was learned, and the correlation says how well."""
    samples: int
    silent: int
    """Samples in which the track has no notes; they count as kept rules, and in no correlation."""
    holds: float | None
    """Share of the samples in which the rule holds."""
    correlation: Estimate | None
    """Spearman's, of asked and measured, over samples."""
    mean_error: float | None
    """Measured minus asked, in the control's own unit."""
    unit: str


@dataclass(frozen=True)
class Likelihood:
    """The table of one model. Figures are nats a note unless they say otherwise."""

    name: str
    per_note: Estimate
    per_event: Estimate
    """Nats a row."""
    by_field: dict[str, Estimate]
    """These add up to `per_note`."""
    by_split: dict[str, Estimate]
    by_corpus: dict[str, Estimate]
    by_instrument: dict[str, Estimate]
    """The note rows of each class of instruments alone, without bars and tracks. Empty for presets
    that do not say which row is whose."""
    notes: int
    rows: int


@dataclass(frozen=True)
class Likelihoods:
    """What held-out music costs this model, and how far it is from the others."""

    own: Likelihood
    baselines: tuple[Likelihood, ...]
    """The 5-gram, then the models of `--against`."""
    differences: Mapping[str, Estimate]
    """This model minus each of them in nats a note, paired by piece; below 0 it is better."""


@dataclass(frozen=True)
class ModelFacts:
    """A model and what it did."""

    name: str
    weights: str
    """SHA-256, its first 16 digits."""
    preset: str
    parameters: int
    trained_on: str
    engine: str
    """What generated, and in which precision."""
    tasks: tuple[TaskResult, ...] = ()
    controls: tuple[ControlLine, ...] = ()


@dataclass(frozen=True)
class Report:
    """All of an evaluation."""

    version: str
    data: str
    data_digest: str
    splits: tuple[str, ...]
    held_out_pieces: int
    tasks: tuple[str, ...]
    num: int
    bars: int
    seed: int
    model: ModelFacts
    against: tuple[ModelFacts, ...] = ()
    likelihood: Likelihoods | None = None
    notes: tuple[str, ...] = ()
    """What the reader should know."""
    interrupted: bool = False
    seconds: float = field(default=0.0, compare=False)
    """Of the whole evaluation."""

    @property
    def models(self) -> tuple[ModelFacts, ...]:
        """The one in question first."""
        return (self.model, *self.against)

    def to_dict(self, timing: bool = False) -> dict[str, Any]:
        """For JSON: floats rounded, NaN as null; seconds only if `timing`."""
        data = _plain(self)
        if not timing:
            del data["seconds"]
            for model in (data["model"], *data["against"]):
                for task in model["tasks"]:
                    del task["timing"]
        return data

    def to_json(self, timing: bool = False) -> str:
        return json.dumps(self.to_dict(timing), indent=1, ensure_ascii=True, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: _plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    return value
