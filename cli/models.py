"""`musegen models`: what is installed, where, under which licence, from which data."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from . import console

app = typer.Typer(rich_markup_mode=None, add_completion=False)

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


@app.callback(invoke_without_command=True)
def overview(ctx: typer.Context, as_json: Json = False) -> None:
    """List the models that are installed, and where they come from."""
    if ctx.invoked_subcommand is None:
        list_models(as_json)


@app.command("list")
def list_models(as_json: Json = False) -> None:
    """All of them, a line each."""
    from musegen import assets

    models = [assets.describe_weights(name) for name in assets.weights()]
    if as_json:
        console.out_json([asdict(model) for model in models])
        return
    if not models:
        console.note(f"no model is installed; put one into {assets.user_folder() / 'weights'}")
        return
    console.table(
        ("name", "family", "preset", "size", "licence", "from", "folder"),
        [
            (
                model.name,
                model.family or "?",
                model.preset or "?",
                console.size(model.size_bytes),
                model.licence or "?",
                model.origin,
                model.folder,
            )
            for model in models
        ],
    )
    for model in models:
        if model.problem:
            console.warn(f"{model.name}: {model.problem}")


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="A name from the list, or a checkpoint's folder.")],
    as_json: Json = False,
) -> None:
    """One of them, with its card."""
    from musegen import assets

    model = assets.describe_weights(name)
    if as_json:
        console.out_json(asdict(model))
        return
    for key, value in asdict(model).items():
        if value != "":
            print(f"{key}: {value}")
    card = model.folder / "README.md"
    if card.is_file():
        print()
        print(assets.read_start(card).rstrip())
