"""`musegen play-on`: a song on an instrument that was designed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import console

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def play_on(
    song: Annotated[str, typer.Argument(metavar="SONG", help="The music, as MIDI.")],
    instrument: Annotated[
        Path, typer.Option(metavar="DIR", help="Of `musegen design instrument`.")
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="A .wav file.")] = Path("out.wav"),
    rate: Annotated[int, typer.Option(help="Frames a second, 8000 to 96000.")] = 44_100,
    as_json: Annotated[
        bool, typer.Option("--json", help="Say what was written as JSON on stdout.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No notes.")] = False,
) -> None:
    """Play a song on a set of designed bars, as WAV.

    Bars ring as long as they do. Notes outside the set are played in the nearest octave that it
    has; drum tracks are left out.
    """
    from musegen.errors import UsageError

    if out.suffix.lower() != ".wav":
        raise UsageError(f"--out {out}: a file that ends in .wav")
    from musegen.atomic import write_whole
    from musegen.designs import play_on as played_on

    played = played_on(song, instrument, rate)
    write_whole(out, played.wav)
    if as_json:
        told = {"path": str(out), "moved": played.moved, "silent": played.silent}
        console.out_json({"files": [told]})
    else:
        print(out)
    if played.moved:
        console.note(f"{played.moved} notes were moved to the nearest octave", quiet=quiet)
    if played.silent:
        console.note(f"{played.silent} notes of drums are left out", quiet=quiet)
