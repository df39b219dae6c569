"""The model card that goes with a checkpoint: what it was trained on, how, and how well."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

__all__ = ["design_card", "image_card", "model_card"]


def model_card(name: str, shards: Any, config: Any, summary: Mapping[str, Any]) -> str:
    """A README for a model folder, with front matter that `musegen models` reads.

    Args:
        name: the model's name.
        shards: the `ShardSet` it was trained on.
        config: its `RunConfig`.
        summary: `Trainer.summary()`, with the held-out means under `validation`.
    """
    pieces: Counter[str] = Counter()
    notes: Counter[str] = Counter()
    for piece in shards.split("train"):
        pieces[piece.corpus] += 1
        notes[piece.corpus] += piece.notes
    held_out = summary.get("validation") or {}
    licence = (
        "see the data cards" if shards.may_ship else "for your own use: the data may not be shipped"
    )
    lines = [
        "---",
        f"data: {shards.name}",
        f"license: {licence}",
        f"preset: {shards.tokenizer_name}",
        "---",
        f"# {name}",
        "",
        f"A musegen model of {summary.get('parameters', 0):,} parameters, trained for "
        f"{summary.get('step', 0):,} steps ({summary.get('minutes', 0)} minutes on "
        f"{summary.get('device', 'cpu')}).",
        "",
        "## Trained on",
        "",
        "| corpus | pieces | notes |",
        "| --- | ---: | ---: |",
        *(f"| {corpus} | {pieces[corpus]:,} | {notes[corpus]:,} |" for corpus in sorted(pieces)),
        "",
        "## Held-out",
        "",
        "| measure | value |",
        "| --- | ---: |",
        *(f"| {measure} | {value:.4f} |" for measure, value in sorted(held_out.items())),
        "",
        "Lower is better; nats per note counts everything that a piece needs, bars and tracks too.",
        "",
    ]
    return "\n".join(lines)


def image_card(name: str, images: Any, summary: Mapping[str, Any]) -> str:
    """A README for the folder of an image model, as `model_card`; `images` is an `ImageSet`."""
    held_out = summary.get("validation") or {}
    licence = (
        "see the data card" if images.may_ship else "for your own use: the data may not be shipped"
    )
    lines = [
        "---",
        f"data: {images.name}",
        f"license: {licence}",
        "---",
        f"# {name}",
        "",
        f"A musegen model of {summary.get('parameters', 0):,} parameters, trained for "
        f"{summary.get('step', 0):,} steps ({summary.get('minutes', 0)} minutes on "
        f"{summary.get('device', 'cpu')}) on {images.counts['train']:,} pictures of "
        f"{images.size} x {images.size} pixels.",
        "",
        "| held-out | value |",
        "| --- | ---: |",
        *(f"| {measure} | {value:.4f} |" for measure, value in sorted(held_out.items())),
        "",
        f"Styles: {', '.join(images.styles) or 'none'}.",
        "",
        f"Words: {', '.join(images.words) or 'none'}.",
        "",
    ]
    return "\n".join(lines)


def design_card(name: str, table: Any, summary: Mapping[str, Any]) -> str:
    """A README for the folder of a model of designs; `table` is a `DesignTable`."""
    held_out = summary.get("validation") or {}
    count, numbers = table.numbers.shape
    lines = [
        "---",
        f"data: {table.kind} designs",
        "license: that of the designs it was trained on",
        "---",
        f"# {name}",
        "",
        f"A musegen model over designs of the kind {table.kind}: "
        f"{summary.get('parameters', 0):,} parameters, trained for {summary.get('step', 0):,} "
        f"steps ({summary.get('minutes', 0)} minutes on {summary.get('device', 'cpu')}) on "
        f"{count:,} designs of {numbers} numbers.",
        "",
        "| held-out | value |",
        "| --- | ---: |",
        *(f"| {measure} | {value:.4f} |" for measure, value in sorted(held_out.items())),
        "",
    ]
    return "\n".join(lines)
