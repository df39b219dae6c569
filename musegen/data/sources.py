"""Which batches a family trains on, by the name that it gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from musegen.data.bar_batches import BarBatches, ValidBars
from musegen.data.batches import TrainBatches, ValidBatches
from musegen.errors import UsageError

__all__ = ["SOURCES", "batch_sources"]

SOURCES: dict[str, tuple[Any, Any]] = {
    "windows": (TrainBatches, ValidBatches),
    "bars": (BarBatches, ValidBars),
}
"""By name: what makes the training batches, and the held-out ones."""


def batch_sources(
    form: str,
    *arguments: Any,
    options: Mapping[str, Any],
    held_out: Mapping[str, Any],
    **training: Any,
) -> tuple[Any, Any]:
    """The training batches and the held-out ones of a form.

    Args:
        form: a name of `SOURCES`.
        arguments: shards, tokenizer, rows of a batch, positions of a row.
        options: what the form asks for besides, of both.
        held_out: of the held-out batches alone.
        training: of the training batches alone.

    Raises:
        UsageError, DataError: an unknown form, or data that it cannot be made of.
    """
    if form not in SOURCES:
        raise UsageError(f"no batches {form!r}; there are {', '.join(SOURCES)}")
    train, valid = SOURCES[form]
    return train(*arguments, **options, **training), valid(*arguments, **options, **held_out)
