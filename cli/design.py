"""`musegen design`: proposals with constraints and a taste: sleeves, tuned bars, instruments."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from . import console

app = typer.Typer(
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
    help="Design sleeves, posters and tuned bars; learn what is liked.",
)


class Page(StrEnum):
    """What is printed on."""

    sleeve = "sleeve"
    cd = "cd"
    poster = "poster"
    flyer = "flyer"


class Emblem(StrEnum):
    """What is on it."""

    drawn = "drawn"
    rings = "rings"


class Method(StrEnum):
    """Of a search."""

    cma = "cma"
    random = "random"


Num = Annotated[int, typer.Option(min=1, max=100, help="How many.")]
Out = Annotated[Path, typer.Option(metavar="DIR", help="Where to.")]
Taste = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="Ratings of `musegen design rate`: the best liked are kept."),
]
Evaluations = Annotated[int, typer.Option(min=1, max=100_000, help="How many are tried for each.")]
Ratios = Annotated[str, typer.Option(help="Of the partials, as 1:4:10 or 1:3.")]
Material = Annotated[str, typer.Option(help="rosewood, padauk, maple, aluminium, steel.")]
Materials = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="A table of your own, as musegen/design/materials.toml."),
]
Width = Annotated[float, typer.Option(min=1.0, max=1000.0, help="Of a bar, in mm.")]
Longest = Annotated[float, typer.Option(min=1.0, max=10_000.0, help="Of a bar, in mm.")]
Thickest = Annotated[float, typer.Option(min=0.1, max=1000.0, help="The plank, in mm.")]
Thinnest = Annotated[float, typer.Option(min=0.1, max=1000.0, help="At any place, in mm.")]
Search = Annotated[Method, typer.Option(help="CMA-ES, or points anywhere.")]
Json = Annotated[bool, typer.Option("--json", help="Say what was written as JSON on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no notes.")]


@app.command()
def sleeve(
    song: Annotated[str, typer.Argument(metavar="SONG", help="The music, as MIDI.")],
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
    emblem: Annotated[Emblem, typer.Option(help="By the image model, or plain rings.")] = (
        Emblem.drawn
    ),
    page: Annotated[Page, typer.Option(help="12-inch sleeve, CD, poster A2, flyer A5.")] = (
        Page.sleeve
    ),
    num: Num = 6,
    margin: Annotated[
        float, typer.Option(min=0.0, max=0.5, help="Least, as a share of the short side.")
    ] = 0.045,
    smallest_pt: Annotated[
        float, typer.Option(min=1.0, max=200.0, help="Least size of type, in points.")
    ] = 9.0,
    contrast: Annotated[
        float, typer.Option(min=1.0, max=21.0, help="Least of the text; 4.5 is WCAG's.")
    ] = 4.5,
    evaluations: Evaluations = 2000,
    taste: Taste = None,
    font: Annotated[
        str | None, typer.Option(metavar="FILE", help="Of the text.  [default: DejaVu Sans Bold]")
    ] = None,
    rule: Annotated[
        str | None, typer.Option(metavar="FILE", help="See `musegen cover --print-rule`.")
    ] = None,
    random_seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=2**63 - 1,
            help="The same seed gives the same bytes.  [default: the song's own]",
        ),
    ] = None,
    out: Out = Path("out"),
    model: Annotated[
        str, typer.Option(metavar="NAME|DIR", help="Of the emblem; see `musegen models`.")
    ] = "icons",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Lay out sleeves, booklets or posters for a song: SVG, PNG, and PDF with bleed.

    Nothing overlaps, nothing is near the edge, text stands out; each was checked by its pixels.
    """
    _check_folder(out)
    from musegen.design.sleeve import Wishes
    from musegen.designs import sleeves

    wishes = Wishes(margin_share=margin, smallest_pt=smallest_pt, contrast=contrast)
    with console.progress("designing", quiet=quiet) as report:
        made = sleeves(
            song,
            title=title,
            artist=artist,
            words=words.replace(",", " ").split() or None,
            style=style,
            guidance=guidance if emblem is Emblem.drawn else None,
            emblem=emblem.value,
            page=page.value,
            num=num,
            evaluations=evaluations,
            wishes=wishes,
            model=model,
            font=font,
            rule=rule,
            random_seed=random_seed,
            taste=taste,
            on_progress=report,
        )
        _write(made, out, f"{Path(song).stem}-{page.value}", as_json, report)
    console.note(f"random seed {made[0].facts['random_seed']}", quiet=quiet)


@app.command()
def bar(
    note: Annotated[str, typer.Option(help="As A3, C#5, or a MIDI number.")],
    ratios: Ratios = "1:4:10",
    material: Material = "rosewood",
    materials: Materials = None,
    num: Num = 6,
    width_mm: Width = 50.0,
    longest_mm: Longest = 620.0,
    thickest_mm: Thickest = 30.0,
    thinnest_mm: Thinnest = 2.5,
    method: Search = Method.cma,
    evaluations: Evaluations = 600,
    taste: Taste = None,
    random_seed: Annotated[
        int, typer.Option(min=0, max=2**31, help="The same seed gives the same bytes.")
    ] = 0,
    out: Out = Path("out"),
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Design tuned bars of one note: drawings, DXF, sound, and a table of partials."""
    _check_folder(out)
    from musegen.design.bar import Workshop
    from musegen.designs import bars

    workshop = Workshop(
        width_mm=width_mm,
        longest_mm=longest_mm,
        thickest_mm=thickest_mm,
        thinnest_mm=thinnest_mm,
    )
    with console.progress("designing", quiet=quiet) as report:
        made = bars(
            note,
            ratios=ratios,
            material=material,
            materials=materials,
            num=num,
            evaluations=evaluations,
            workshop=workshop,
            method=method.value,
            random_seed=random_seed,
            taste=taste,
            on_progress=report,
        )
        _write(
            made, out, f"bar-{made[0].facts['options']['note'].replace('#', 's')}", as_json, report
        )
    if not quiet:
        _table(made)
    console.note(f"random seed {random_seed}", quiet=quiet)


@app.command()
def instrument(
    span: Annotated[
        str, typer.Option("--range", metavar="NOTE-NOTE", help="Each semitone, as C3-C6.")
    ] = "C4-C6",
    ratios: Ratios = "1:4:10",
    material: Material = "rosewood",
    materials: Materials = None,
    width_mm: Width = 50.0,
    longest_mm: Longest = 620.0,
    thickest_mm: Thickest = 30.0,
    thinnest_mm: Thinnest = 2.5,
    evaluations: Evaluations = 600,
    random_seed: Annotated[
        int, typer.Option(min=0, max=2**31, help="The same seed gives the same bytes.")
    ] = 0,
    out: Out = Path("instrument"),
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Design a set of bars, which `musegen play-on` plays."""
    from musegen.errors import UsageError

    _check_folder(out)
    ends = span.split("-")
    if len(ends) != 2 or not all(ends):
        raise UsageError(f"--range {span}: two notes, as C3-C6")
    from musegen.design.bar import Workshop
    from musegen.designs import instrument as designed

    workshop = Workshop(
        width_mm=width_mm,
        longest_mm=longest_mm,
        thickest_mm=thickest_mm,
        thinnest_mm=thinnest_mm,
    )
    with console.progress("designing", quiet=quiet) as report:
        made = designed(
            *ends,
            ratios=ratios,
            material=material,
            materials=materials,
            evaluations=evaluations,
            workshop=workshop,
            random_seed=random_seed,
            on_progress=report,
        )
        files = made.save(out)
    if as_json:
        console.out_json({"files": [{"path": str(path)} for path in files]})
    else:
        print(out)
    if not quiet:
        _table(list(made.bars.values()))
    console.note(f"{len(made.bars)} bars, random seed {random_seed}", quiet=quiet)


@app.command()
def rate(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Of designs, covers or MIDI.")],
    ratings: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Are added to.  [default: DIR/ratings.jsonl]"),
    ] = None,
    kind: Annotated[
        str | None, typer.Option(help="Of designs, where the folder holds several kinds.")
    ] = None,
    terminal: Annotated[
        bool, typer.Option("--terminal", help="Ask here, by names, and not on a page.")
    ] = False,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Of the local page; 0: any that is free.")
    ] = 0,
    random_seed: Annotated[int, typer.Option(min=0, max=2**31, help="Of what is shown.")] = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Say which of two designs you prefer; the best liked are printed, and the next batch follows.

    The page is for this machine only. Ctrl-C keeps what was rated.
    """
    from musegen.design.rating import Server, Session, candidates_of

    session = Session(candidates_of(folder, kind), ratings or folder / "ratings.jsonl", random_seed)
    try:
        if terminal:
            _ask(session)
        else:
            server = Server(session, port)
            print(f"open {server.address} and choose; stop there, or with Ctrl-C", file=sys.stderr)
            server.run()
    except KeyboardInterrupt:
        print(file=sys.stderr)
    order = session.order() if session.known else session.candidates
    if as_json:
        told = {"ratings": str(session.path), "rated": session.added}
        console.out_json(told | {"order": [one.name for one in order]})
    else:
        for one in order:
            print(one.name)
    if session.taste.note:
        console.warn(session.taste.note)
    console.note(f"{session.added} rated into {session.path}", quiet=quiet)


@app.command("list")
def kinds(as_json: Json = False) -> None:
    """List the kinds of designs, and what is minimised of each."""
    from musegen.design.registry import DESIGNS

    told = {
        name: {"description": kind.description, "objective": kind.design_class().objective}
        for name, kind in DESIGNS.items()
    }
    if as_json:
        console.out_json({"kinds": told})
        return
    for name, one in told.items():
        print(f"{name:8} {one['description']} (minimises {one['objective']})")


def _ask(session: Any) -> None:
    """Pairs in the terminal, until `q`, or there is no more input."""
    while True:
        one, other = (session.candidates[k] for k in session.pair)
        for number, shown in ((1, one), (2, other)):
            files = ", ".join(str(path) for path in shown.files[:2])
            print(f"{number}: {shown.name}  {files}", file=sys.stderr)
        print("1, 2, s for others, q to stop: ", end="", file=sys.stderr, flush=True)
        answer = sys.stdin.readline().strip().lower()
        if answer in ("", "q"):
            return
        if answer in ("1", "2", "s"):
            session.prefer(None if answer == "s" else int(answer) - 1)
        else:
            print(f"'{answer}'?", file=sys.stderr)


def _check_folder(out: Path) -> None:
    """Raises OutputError where a file stands in the way."""
    from musegen.errors import OutputError

    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file: name a folder with --out")


def _write(made: Sequence[Any], out: Path, stem: str, as_json: bool, report: Any) -> None:
    """Writes designs and their index, and says so."""
    from musegen.designs import write_index

    out.mkdir(parents=True, exist_ok=True)
    taken = next(
        extra
        for extra in range(1, 100_000)
        if not (out / f"{stem}{'' if extra == 1 else extra}-1.svg").exists()
    )
    stem = f"{stem}{'' if taken == 1 else taken}"
    named = {f"{stem}-{number}": one for number, one in enumerate(made, start=1)}
    files = {}
    for number, (name, one) in enumerate(named.items(), start=1):
        report(number, len(named), f"writing {number} of {len(named)}")
        files[name] = one.save(out / name)
    index = write_index(out, named, files)
    paths = [path for group in files.values() for path in group]
    if as_json:
        told = [
            {"path": str(path), "design": name, "objective": named[name].proposal.judged.objective}
            for name, group in files.items()
            for path in group
        ]
        console.out_json({"files": [*told, {"path": str(index)}]})
    else:
        for path in [*paths, index]:
            print(path, flush=True)


def _table(made: Sequence[Any]) -> None:
    """What bars are like, on stderr."""
    print("note   length  ends  middle    mass  worst partial", file=sys.stderr)
    for one in made:
        shape, judged = one.proposal.made, one.proposal.judged
        print(
            f"{one.facts['options']['note']:5} {1000 * shape.length_m:6.1f} mm "
            f"{1000 * shape.end_m:5.1f} {1000 * shape.thinnest_m:6.1f} mm "
            f"{1000 * shape.mass_kg:5.0f} g  {judged.objective:5.2f} cents",
            file=sys.stderr,
        )
