"""`musegen export`: a model for other programs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from . import console

app = typer.Typer(rich_markup_mode=None, add_completion=False)


class Target(StrEnum):
    """What a model can be exported as."""

    hf = "hf"


@app.command()
def export(
    model: Annotated[str, typer.Argument(help="An installed model's name, or its folder.")],
    out: Annotated[Path, typer.Argument(help="The folder to write.")],
    to: Annotated[
        Target, typer.Option("--to", help="hf: a folder that transformers' LlamaForCausalLM loads.")
    ] = Target.hf,
) -> None:
    """Export a model for other programs.

    Only flat models (one field a row, the `remi` preset) have the layout that others know.
    """
    from musegen.api import Model
    from musegen.models.hf import export_llama

    export_llama(Model.from_pretrained(model, device="cpu").network, out)
    console.note(f"wrote {out}: load it with transformers' LlamaForCausalLM.from_pretrained")
    print(out)
