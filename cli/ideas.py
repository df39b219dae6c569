"""What the verbs over bars share: their options, and where their pieces go."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import console
from .outputs import plan_outputs

if TYPE_CHECKING:
    from musegen.music.piece import Piece

Out = Annotated[str, typer.Option("--out", metavar="DIR|FILE", help="Where to.")]
ModelName = Annotated[
    str, typer.Option("--model", metavar="NAME|DIR", help="An autoencoder of bars.")
]
Temperature = Annotated[
    float,
    typer.Option(min=0.0, max=10.0, help="0 takes the likeliest notes; 1 draws them."),
]
RandomSeed = Annotated[
    int, typer.Option(min=0, max=2**63 - 1, help="The same seed gives the same bytes.")
]
Json = Annotated[bool, typer.Option("--json", help="Say what was written as JSON on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No notes.")]


def write(
    pieces: Sequence[Piece], out: str, stem: str, *, as_json: bool, quiet: bool, **facts: Any
) -> None:
    """Writes the pieces, numbered where there are several, and says which files there are now."""
    outputs = plan_outputs(out, stem, len(pieces))
    for text in dict.fromkeys(note for piece in pieces for note in piece.notes):
        console.note(text, quiet=quiet)
    paths: list[Path] = []
    for number, piece in enumerate(pieces, 1):
        if outputs is None:
            sys.stdout.buffer.write(piece.to_bytes(ports=True))
            sys.stdout.buffer.flush()
            continue
        outputs.prepare()
        path = outputs.path(number)
        piece.save(path, ports=True)
        paths.append(path)
        if not as_json:
            print(path)
    if as_json and outputs is not None:
        console.out_json({"files": paths, **facts})
