"""`musegen train`: one command from MIDI files to a checkpoint that `compose` loads."""

from __future__ import annotations

import os
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from . import console

app = typer.Typer(rich_markup_mode=None, add_completion=False)


class Size(StrEnum):
    """How large a model, and how it is trained by default."""

    tiny = "tiny"
    small = "small"
    base = "base"


@app.command()
def train(
    out: Annotated[Path, typer.Option(metavar="DIR", help="The checkpoint's folder.")],
    data: Annotated[
        str | None,
        typer.Option(metavar="CARD|FOLDER|SHARDS", help="A data card, MIDI files, or built data."),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL|FILE",
            help="Data and settings of a model that is to be made again, as in: default.",
        ),
    ] = None,
    preset: Annotated[
        Size | None,
        typer.Option(help="How large a model.  [default: small]", show_default=False),
    ] = None,
    family: Annotated[
        str | None,
        typer.Option(
            "--family",
            "--model",
            help="The family of models: transformer, bar_vae.  [default: transformer]",
            show_default=False,
        ),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            help="How music becomes ids: events, performance, remi.  [default: events]",
            show_default=False,
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one setting; may be repeated."),
    ] = None,
    max_steps: Annotated[int | None, typer.Option(min=1, help="Stop after so many steps.")] = None,
    max_minutes: Annotated[
        float | None, typer.Option(min=0.01, help="Stop after so many minutes.")
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL|DIR",
            help="Begin with the weights of this model (default, or a checkpoint): fine-tuning.",
        ),
    ] = None,
    lora: Annotated[
        int,
        typer.Option(min=0, max=256, help="Train low-rank adapters of --init alone, of this rank."),
    ] = 0,
    latents: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL|DIR",
            help="Teach a transformer bars like given ones (compose --like), by the latents of "
            "this autoencoder: bars, or a checkpoint.",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where --out stopped.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    seed: Annotated[
        int | None,
        typer.Option(
            min=0, max=2**63 - 1, help="Of everything random.  [default: 0]", show_default=False
        ),
    ] = None,
    source: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the files of a data card lie.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that read files.  [default: all cores]")
    ] = None,
    compiled: Annotated[
        bool,
        typer.Option("--compile", help="Compile the model (torch.compile) where that is known."),
    ] = False,
    sharded: Annotated[
        bool,
        typer.Option("--shard", help="Share the model out among torchrun's processes (FSDP2)."),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Say how it went as JSON on stdout.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no notes.")] = False,
) -> None:
    """Train a model on MIDI files: one command from a folder to a checkpoint.

    --recipe brings data and settings; what is given beside it comes first. Ctrl-C saves and ends;
    --resume goes on from there, as if it had never stopped. Under torchrun several processes train
    one model: torchrun --nproc-per-node 2 -m musegen train ...
    """
    from musegen import api
    from musegen.errors import UsageError

    if max_steps is not None and max_minutes is not None:
        raise UsageError("give --max-steps or --max-minutes, not both")
    if data is None and recipe is None:
        raise UsageError("give --data, or --recipe for the data and settings of a model")
    asked: dict[str, Any] = {"data": data, "family": family, "preset": tokenizer, "seed": seed}
    asked["size"] = preset.value if preset is not None else None
    asked["max_steps"] = max_steps
    asked = {name: value for name, value in asked.items() if value is not None}
    asked["overrides"] = settings or []
    if recipe is not None:
        asked = _with_recipe(recipe, device, asked, max_minutes is not None)
    silent = os.environ.get("RANK", "0") != "0"  # of torchrun's processes the first one speaks
    quiet = quiet or silent
    with console.progress("training", quiet=quiet) as report:
        summary = api.train(
            asked.pop("data"),
            out,
            max_minutes=max_minutes,
            init=init,
            lora=lora,
            latents=latents,
            resume=resume,
            device=device,
            source=source,
            workers=workers,
            compiled=compiled,
            sharded=sharded,
            on_progress=report,
            **asked,
        )
    if not silent:
        for note in summary.get("notes", ()):
            console.warn(note)
    console.note(_told(summary), quiet=quiet)
    if silent:
        return
    if as_json:
        console.out_json(summary)
    else:
        print(out)


def _with_recipe(
    name: str, device: str, asked: Mapping[str, Any], in_minutes: bool
) -> dict[str, Any]:
    """What a recipe says, under what was asked for."""
    from musegen.training.device import resolve_device
    from musegen.training.recipe import Recipe

    written = Recipe.open(name).arguments(resolve_device(device).type)
    if in_minutes:
        written["max_steps"] = None
    overrides = [*written["overrides"], *asked["overrides"]]
    return {**written, **asked, "overrides": overrides}


def _told(summary: Mapping[str, Any]) -> str:
    """How a run ended, in a line."""
    how = f"{summary['step']} steps in {summary['elapsed_s'] / 60:.1f} minutes"
    if summary["best"] is not None:
        how += f"; best held-out loss {summary['best']:.4f} at step {summary['best_step']}"
    if summary["interrupted"]:
        how += "; stopped before its end: --resume goes on"
    return how
