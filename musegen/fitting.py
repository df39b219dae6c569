"""From batches to a checkpoint: the part of a training that all families have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from musegen.errors import UsageError

if TYPE_CHECKING:
    from musegen.models.base import GenerativeModel
    from musegen.training.distributed import Processes

__all__ = ["Prepared", "adapted", "fitted"]

OnProgress = Callable[[float, float | None, str], None]


@dataclass(frozen=True)
class Prepared:
    """What a training needs, whatever it is of."""

    family: str
    network: Any
    """A `GenerativeModel`."""
    config: Any
    """Its `RunConfig`: `model`, `training`, `data`."""
    batches: Any
    """An endless source: `batch(index)`."""
    held_out: Any
    """`batches()`, the same each time."""
    ids: Mapping[str, Any]
    """What the ids mean, for `tokenizer.json`."""
    name: str
    """Of the data."""
    settings: Mapping[str, Any]
    """Of the batches: a run that goes on must have the same."""
    card: Callable[[str, Mapping[str, Any]], str]
    """`card(name, summary)` writes the model card."""
    base: str = ""
    """The model that adapters belong to, where only they are trained."""


def adapted(network: GenerativeModel, rank: int, init: Any) -> GenerativeModel:
    """The network, or with a rank its adapters. Raises UsageError without a model to adapt."""
    if not rank:
        return network
    if init is None:
        raise UsageError("--lora adapts a model that is there: name it with --init")
    from musegen.models.adapters import Adapted

    return Adapted(network, rank)


def fitted(
    prepare: Callable[[], Prepared],
    out: Path,
    processes: Processes,
    *,
    resume: bool = False,
    compiled: bool = False,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Trains, keeps the best in `out`, and says how it went.

    `prepare` is called by the first process, then by the others. What it makes is held here alone:
    the model is gone before the processes part.
    """
    from musegen.data.prefetch import Prefetch
    from musegen.training.checkpoint import save_adapter, save_model
    from musegen.training.device import batch_workers, pinned, resolve_device
    from musegen.training.trainer import Trainer

    run = processes.first(prepare)

    def save_best(trainer: Trainer, weights: Any, validation: Any) -> None:
        summary = trainer.summary(data=run.name, validation=validation)
        card, storage = run.card(out.name, summary), run.config.training.storage
        model: Any = trainer.model
        state = model.plain(weights) if run.base else weights
        save_model(out, run.family, model, run.ids, card, summary, storage, state)
        if run.base:
            save_adapter(out, *model.files(weights, run.base))

    where, made_by = resolve_device(processes.device), run.config.data.workers
    with Prefetch(
        run.batches,
        depth=run.config.data.prefetch,
        workers=batch_workers(where, processes.size) if made_by is None else made_by,
        prepare=pinned if where.type == "cuda" else None,
    ) as ahead:
        trainer = Trainer(
            run.network,
            run.config.training,
            ahead,
            run.held_out,
            out=out,
            settings=run.settings,
            device=processes.device,
            save_best=save_best,
            on_progress=on_progress and (lambda p: on_progress(p.step, p.steps, p.text())),
            processes=processes,
            compiled=compiled,
        )
        return {**trainer.fit(resume=resume).to_dict(), "notes": list(trainer.notes)}
