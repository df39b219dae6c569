"""`musegen average`: what lies between several pieces."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import ideas

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def average(
    sources: Annotated[list[Path], typer.Argument(metavar="FILE FILE...", help="Two or more.")],
    bars: Annotated[
        list[str] | None,
        typer.Option(
            metavar="N-M[@TRACK,...]", help="Bars of each file, in their order.  [default: all]"
        ),
    ] = None,
    out: ideas.Out = "out/",
    model: ideas.ModelName = "bars",
    temperature: ideas.Temperature = 0.0,
    random_seed: ideas.RandomSeed = 0,
    as_json: ideas.Json = False,
    quiet: ideas.Quiet = False,
) -> None:
    """Write what lies in the middle of several sections, as long as the longest of them."""
    from musegen.ideas import average

    piece = average(
        sources,
        bars=bars or (),
        model=model,
        temperature=temperature,
        random_seed=random_seed,
    )
    ideas.write(
        [piece],
        out,
        "average",
        as_json=as_json,
        quiet=quiet,
        random_seed=random_seed,
        notes=piece.score.num_notes,
    )
