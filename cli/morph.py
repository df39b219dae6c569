"""`musegen morph`: some bars with more of this and less of that."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import console, ideas

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def morph(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="The music.")],
    bars: Annotated[
        str,
        typer.Option(
            metavar="N-M[@TRACK,...]", help="Which bars, of which tracks.  [default: all]"
        ),
    ] = "",
    density: Annotated[float, typer.Option(help="So many notes more a quarter note.")] = 0.0,
    rhythm_intensity: Annotated[
        float, typer.Option(help="Onsets in so many more of four quarter beats.")
    ] = 0.0,
    polyphony: Annotated[float, typer.Option(help="So many notes more at once.")] = 0.0,
    out: ideas.Out = "out/",
    model: ideas.ModelName = "bars",
    as_json: ideas.Json = False,
    quiet: ideas.Quiet = False,
) -> None:
    """Write some bars with more, or less, of an attribute; everything else stays as it is.

    Says what was asked for and what came out, as means over the bars.
    """
    from musegen.ideas import morph

    with console.progress("writing bars", quiet=quiet) as report:
        piece = morph(
            source,
            bars=bars or None,
            density=density,
            rhythm=rhythm_intensity,
            polyphony=polyphony,
            model=model,
            on_progress=report,
        )
    told = {key: piece.info[key] for key in ("before", "asked", "measured")}
    if not quiet and not as_json:
        for name, before in told["before"].items():
            asked, found = told["asked"][name], told["measured"][name]
            console.note(f"{name}: {before:g} before, asked {asked:g}, now {found:g}")
    ideas.write([piece], out, f"{source.stem}-morphed", as_json=as_json, quiet=quiet, **told)
