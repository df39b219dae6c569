"""`musegen data`: corpora and their cards, and shards from them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from . import console

app = typer.Typer(
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
    help="List corpora and build training data from them.",
)

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]

SHOWN = 10
"""Skipped files that are listed one by one; build.json has them all."""


@app.command("list")
def list_cards(as_json: Json = False) -> None:
    """The corpora that there are cards for."""
    from musegen.data.cards import card_names, load_card

    cards = [load_card(name) for name in card_names()]
    if as_json:
        console.out_json([card.to_dict() for card in cards])
        return
    console.table(
        ("name", "licence", "weights may ship", "title"),
        [(card.name, card.licence, "yes" if card.may_ship else "no", card.title) for card in cards],
    )


@app.command("info")
def info(
    name: Annotated[str, typer.Argument(help="A card's name, or a folder of shards.")],
    as_json: Json = False,
) -> None:
    """What a corpus holds, its licence, and how to get it; or what a folder of shards holds."""
    from musegen.data.cards import card_names, load_card

    if name not in card_names() and Path(name).is_dir():
        facts = _shards(Path(name))
    else:
        facts = load_card(name).to_dict()
    if as_json:
        console.out_json(facts)
        return
    for key, value in facts.items():
        if value in ("", 0, None, [], {}) and value is not False:
            continue
        if isinstance(value, bool):
            value = "yes" if value else "no"
        elif isinstance(value, list):
            value = _list(value)
        elif isinstance(value, dict):
            value = ", ".join(f"{k}: {v}" for k, v in value.items())
        print(f"{key}: {value}")


def _list(values: list[Any]) -> str:
    return ", ".join(
        f"{value['card']} (weight {value['weight']:g})" if isinstance(value, dict) else str(value)
        for value in values
    )


def _shards(folder: Path) -> dict[str, Any]:
    from musegen.data.shards import ShardSet

    shards = ShardSet.open(folder)
    shards.verify()
    facts: dict[str, Any] = {
        "folder": str(folder),
        "tokenizer": shards.tokenizer_name,
        "fields": list(shards.field_names),
        "corpora": sorted(shards.corpora),
        "may_ship": shards.may_ship,
    }
    for split in ("train", "valid", "test"):
        pieces = shards.split(split)
        facts[split] = {
            "pieces": len(pieces),
            "notes": sum(piece.notes for piece in pieces),
            "rows": sum(piece.length for piece in pieces),
        }
    return facts


@app.command("build")
def build_shards(
    name: Annotated[str, typer.Argument(help="A card's name, or a folder of MIDI files.")],
    out: Annotated[Path, typer.Option("--out", help="The folder to write the shards into.")],
    preset: Annotated[str, typer.Option("--preset", help="The tokenizer preset.")] = "events",
    source: Annotated[
        Path | None,
        typer.Option("--source", help="Where a card's files are; MUSEGEN_DATA by default."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes; one a core by default.")
    ] = None,
    max_files: Annotated[
        int | None, typer.Option("--max-files", min=1, help="At most so many files, spread evenly.")
    ] = None,
    as_json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing on stderr.")] = False,
) -> None:
    """Read, encode, drop duplicates, split, write. Killed in between, it goes on where it was."""
    from musegen.data.build import build

    with console.progress("reading", quiet=quiet) as report_progress:
        report = build(
            name,
            out,
            preset=preset,
            source=source,
            workers=workers,
            max_files=max_files,
            on_progress=report_progress,
        )
    for message in report.messages:
        console.note(message, quiet=quiet)
    for one in report.skipped[:SHOWN]:
        console.note(f"skipped {one['corpus']}/{one['file']}: {one['reason']}", quiet=quiet)
    if len(report.skipped) > SHOWN:
        more = len(report.skipped) - SHOWN
        console.note(f"and {more} more; build.json lists them", quiet=quiet)
    if as_json:
        console.out_json({**report.to_dict(), "folder": out, "seconds": round(report.seconds, 2)})
        return
    console.table(
        ("corpus", "files", "skipped", "duplicates", "pieces", "notes", "train", "valid", "test"),
        [
            (
                corpus,
                facts["files"],
                facts["skipped"],
                facts["duplicates"] + facts["resembling"],
                facts["pieces"],
                facts["notes"],
                *(facts["splits"].get(s, {}).get("pieces", 0) for s in ("train", "valid", "test")),
            )
            for corpus, facts in report.corpora.items()
        ],
    )
    console.note(
        f"{report.pieces} pieces, {report.notes} notes, {report.rows} rows in {out} "
        f"({report.seconds:.1f} s)",
        quiet=quiet,
    )


@app.command("arrange")
def arrange_shards(
    shards: Annotated[Path, typer.Argument(metavar="SHARDS", help="Of `musegen data build`.")],
    out: Annotated[Path, typer.Option("--out", help="The folder of the new shards.")],
    num: Annotated[int, typer.Option("--num", min=1, help="How many arrangements.")] = 800,
    share: Annotated[
        float,
        typer.Option("--share", min=0.01, max=0.5, help="Of what training draws, at most a half."),
    ] = 0.25,
    styles: Annotated[
        str, typer.Option("--styles", metavar="NAME,...", help="As in swing,funk; all by default.")
    ] = "",
    midi: Annotated[
        Path | None, typer.Option("--midi", metavar="DIR", help="Also write them here as MIDI.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 0,
    as_json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing on stderr.")] = False,
) -> None:
    """Add arrangements for bands to shards: their own tunes, drummers, and rules for the rest.

    Only what is in the split `train` is used, and arrangements are in it.
    """
    import dataclasses

    from musegen.data.arrange import arrange

    with console.progress("arranging", quiet=quiet) as report_progress:
        made = arrange(
            shards,
            out,
            num=num,
            share=share,
            styles=[name.strip() for name in styles.split(",") if name.strip()],
            seed=seed,
            midi=midi,
            on_progress=report_progress,
        )
    if as_json:
        console.out_json({**dataclasses.asdict(made), "seed": seed})
        return
    console.table(("style", "pieces"), list(made.by_style.items()))
    print(
        f"{made.pieces} arrangements, {made.notes} notes, of {made.tunes} tunes and "
        f"{made.performances} performances (seed {seed}) in {out}"
    )


@app.command("index")
def index(
    shards: Annotated[
        Path, typer.Argument(help="The shards that the model was trained on (`data build`).")
    ],
    model: Annotated[str, typer.Option("--model", help="The folder, or the name, of that model.")],
    as_json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing on stderr.")] = False,
) -> None:
    """Put fingerprints of the training music beside a model, for the originality check."""
    from musegen.assets import weights_path
    from musegen.data.shards import ShardSet
    from musegen.evaluation.originality import build_index
    from musegen.tokens.tokenizer import load_tokenizer

    folder = weights_path(model)
    opened = ShardSet.open(shards)
    with console.progress("indexing", quiet=quiet) as report_progress:
        made = build_index(opened, load_tokenizer(opened.tokenizer_file()), report_progress)
    path = made.save(folder)
    usual = [
        {"notes": notes, "excerpts": excerpts, "longest_run": typical}
        for notes, excerpts, typical in zip(
            made.sizes.tolist(), made.excerpts.tolist(), made.typical.tolist(), strict=True
        )
    ]
    if as_json:
        facts = {"file": path, "bytes": path.stat().st_size, "pieces": len(made.titles)}
        console.out_json({**facts, "window": made.table.window, "usual": usual})
        return
    console.table(
        ("notes", "held-out excerpts", "usual run at most"),
        [(row["notes"], row["excerpts"], row["longest_run"]) for row in usual],
    )
    console.note(
        f"{len(made.titles)} pieces in {path} ({console.size(path.stat().st_size)})", quiet=quiet
    )
