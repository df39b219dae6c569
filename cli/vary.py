"""`musegen vary`: variations of some bars."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import console, ideas

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def vary(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="The music.")],
    bars: Annotated[
        str,
        typer.Option(
            metavar="N-M[@TRACK,...]", help="Which bars, of which tracks.  [default: all]"
        ),
    ] = "",
    amount: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="0 leaves it as it is, 1 forgets it.")
    ] = 0.3,
    num: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 1,
    out: ideas.Out = "out/",
    model: ideas.ModelName = "bars",
    temperature: ideas.Temperature = 0.0,
    random_seed: ideas.RandomSeed = 0,
    as_json: ideas.Json = False,
    quiet: ideas.Quiet = False,
) -> None:
    """Write variations of some bars; everything else stays as it is."""
    from musegen.ideas import vary

    with console.progress("writing bars", quiet=quiet) as report:
        pieces = vary(
            source,
            bars=bars or None,
            amount=amount,
            num=num,
            model=model,
            temperature=temperature,
            random_seed=random_seed,
            on_progress=report,
        )
    console.note(f"random seed {random_seed}", quiet=quiet)
    ideas.write(
        pieces,
        out,
        f"{source.stem}-varied",
        as_json=as_json,
        quiet=quiet,
        random_seed=random_seed,
        amount=amount,
    )
