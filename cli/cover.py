"""`musegen cover`: covers for a song."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from . import console

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def cover(
    song: Annotated[
        str | None, typer.Argument(metavar="SONG", help="The music, as MIDI.", show_default=False)
    ] = None,
    title: Annotated[
        str | None, typer.Option(help="By default that of the song, or its file's name.")
    ] = None,
    artist: Annotated[str, typer.Option(help="A second line.")] = "",
    words: Annotated[
        str,
        typer.Option(
            metavar="WORDS", help="Of the emblem.  [default: what the rule says of the music]"
        ),
    ] = "",
    style: Annotated[str, typer.Option(help="Of the emblem, as outlined, filled.")] = "",
    guidance: Annotated[
        float, typer.Option(min=0.0, max=20.0, help="How loudly words and style are told.")
    ] = 2.0,
    like: Annotated[
        str | None, typer.Option(metavar="FILE", help="The emblem goes on from this picture.")
    ] = None,
    strength: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="How far from it.  [default: 0.6]")
    ] = None,
    num: Annotated[int, typer.Option(min=1, max=100, help="How many.")] = 6,
    size: Annotated[int, typer.Option(min=64, max=10_000, help="Pixels of the PNG.")] = 3000,
    backdrop: Annotated[
        str, typer.Option(help="rings, hills or bars.  [default: in turn]", show_default=False)
    ] = "",
    font: Annotated[
        str | None, typer.Option(metavar="FILE", help="Of the title.  [default: DejaVu Sans Bold]")
    ] = None,
    rule: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="What music says of words and colours; see --print-rule."
        ),
    ] = None,
    print_rule: Annotated[
        bool, typer.Option("--print-rule", help="Print the rule that holds, to be edited.")
    ] = False,
    taste: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Ratings of `musegen design rate`: the best liked first."
        ),
    ] = None,
    random_seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=2**63 - 1,
            help="The same seed gives the same bytes.  [default: the song's own]",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where to.")] = Path("out"),
    model: Annotated[
        str, typer.Option(metavar="NAME|DIR", help="Of the emblem; see `musegen models`.")
    ] = "icons",
    as_json: Annotated[
        bool, typer.Option("--json", help="Say what was written as JSON on stdout.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no notes.")] = False,
) -> None:
    """Make covers for a song: an emblem, a backdrop and colours of the music, the title.

    Each is written as SVG and PNG, and all of them in one sheet. The paths go to stdout.
    """
    from musegen.errors import OutputError, UsageError

    if print_rule:
        from musegen.art.mood import OWN_RULE

        print((Path(rule) if rule else OWN_RULE).read_text("utf-8"), end="")
        return
    if song is None:
        raise UsageError("name the song, as in: musegen cover song.mid")
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file: name a folder with --out")
    from musegen.covers import cover, sheet
    from musegen.design.liked import COVER, in_order
    from musegen.design.rating import add_to_index
    from musegen.design.taste import read_ratings

    if taste is not None:
        read_ratings(taste, COVER)  # says what is wrong before the work
    with console.progress("drawing", quiet=quiet) as report:
        made = cover(
            song,
            title=title,
            artist=artist,
            words=words.replace(",", " ").split() or None,
            style=style,
            guidance=guidance,
            like=like,
            strength=strength,
            num=num,
            backdrop=backdrop,
            font=font,
            rule=rule,
            random_seed=random_seed,
            model=model,
            on_progress=report,
        )
        if taste is not None:
            made = in_order(made, [_features(one) for one in made], COVER, taste)
        out.mkdir(parents=True, exist_ok=True)
        stem, files = _free_stem(out, Path(song).stem, num), []
        entries = []
        for number, one in enumerate(made, start=1):
            report(number, num, f"writing {number} of {num}")
            path = out / f"{stem}-{number}"
            for suffix in (".svg", ".png"):
                target = one.save(path.with_name(path.name + suffix), size)
                files.append({"path": str(target), "contrast": round(one.contrast, 2), **one.facts})
            names = [f"{path.name}.svg", f"{path.name}.png"]
            entries.append({"name": path.name, "files": names, "features": _features(one)})
        add_to_index(out, COVER, entries)
        if num > 1:
            target = sheet(made, out / f"{stem}-sheet.png")
            files.append({"path": str(target), **made[0].facts})
    if as_json:
        console.out_json({"files": files})
    else:
        for file in files:
            print(file["path"], flush=True)
    said = made[0].facts["options"].get("words", [])
    told = f"words: {', '.join(said) or 'none'}; " if said else ""
    console.note(
        f"{told}text stands out by {made[0].contrast:.1f}:1, "
        f"random seed {made[0].facts['random_seed']}",
        quiet=quiet,
    )


def _features(sleeve: Any) -> dict[str, float]:
    """What a taste sees of a cover."""
    from musegen.design.liked import features_of_cover

    return features_of_cover(sleeve.emblem.pixels, sleeve.facts["options"]["backdrop"])


def _free_stem(folder: Path, stem: str, num: int) -> str:
    """A name whose files are not there yet: what is there stays."""
    for extra in range(1, 100_000):
        name = f"{stem}-cover" if extra == 1 else f"{stem}-cover{extra}"
        if not (folder / f"{name}-1.svg").exists():
            return name
    return f"{stem}-cover"
