"""`musegen interpolate`: the way from one musical idea to another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import console, ideas

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def interpolate(
    a: Annotated[Path, typer.Argument(metavar="A.mid", help="Where the way begins.")],
    b: Annotated[Path, typer.Argument(metavar="B.mid", help="Where it ends.")],
    bars_a: Annotated[
        str, typer.Option(metavar="N-M[@TRACK,...]", help="Bars of A.  [default: all]")
    ] = "",
    bars_b: Annotated[
        str, typer.Option(metavar="N-M[@TRACK,...]", help="Bars of B.  [default: all]")
    ] = "",
    steps: Annotated[int, typer.Option(min=2, max=256, help="Pieces, both ends included.")] = 8,
    out: ideas.Out = "out/",
    model: ideas.ModelName = "bars",
    temperature: ideas.Temperature = 0.0,
    random_seed: ideas.RandomSeed = 0,
    as_json: ideas.Json = False,
    quiet: ideas.Quiet = False,
) -> None:
    """Write the way from some bars of A to some bars of B, a file a step.

    The first and the last are the real bars. The shorter section is stretched; tracks that one side
    lacks are silent there.
    """
    from musegen.ideas import interpolate

    with console.progress("writing bars", quiet=quiet) as report:
        pieces = interpolate(
            a,
            b,
            bars_a=bars_a or None,
            bars_b=bars_b or None,
            steps=steps,
            model=model,
            temperature=temperature,
            random_seed=random_seed,
            on_progress=report,
        )
    console.note(f"random seed {random_seed}", quiet=quiet)
    ideas.write(
        pieces,
        out,
        f"{a.stem}-to-{b.stem}",
        as_json=as_json,
        quiet=quiet,
        random_seed=random_seed,
        notes=[piece.score.num_notes for piece in pieces],
    )
