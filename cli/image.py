"""`musegen image`: trains image models, and draws with them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from . import console
from .outputs import plan_outputs

app = typer.Typer(
    rich_markup_mode=None, add_completion=False, no_args_is_help=True, help="Draw pictures."
)


class Size(StrEnum):
    """How large a model."""

    tiny = "tiny"
    small = "small"
    base = "base"


class Method(StrEnum):
    """How style is moved."""

    gatys = "gatys"
    adain = "adain"


Model = Annotated[str, typer.Option(metavar="NAME|DIR", help="See `musegen models`.")]
Style = Annotated[str, typer.Option(help="A style that the model knows, as outlined.")]
Words = Annotated[
    str, typer.Option(metavar="WORDS", help='Words that the model knows, as "music night".')
]
Guidance = Annotated[
    float | None,
    typer.Option(min=0.0, max=20.0, help="How loudly style and words are told.  [default: 1]"),
]
Steps = Annotated[
    int | None, typer.Option(min=1, max=1000, help="Of the solver; more are slower and finer.")
]
Num = Annotated[int, typer.Option(min=1, max=10_000, help="How many pictures.")]
Seed = Annotated[
    int, typer.Option(min=0, max=2**63 - 2, help="The same seed gives the same bytes.")
]
Out = Annotated[str, typer.Option(metavar="FILE|DIR", help="Where to: PNG files.")]
Scale = Annotated[int, typer.Option(min=1, max=64, help="Each pixel becomes a square of so many.")]
Sheet = Annotated[bool, typer.Option("--sheet", help="All in one picture, side by side.")]
Json = Annotated[bool, typer.Option("--json", help="Say what was written as JSON on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no notes.")]


@app.command()
def train(
    out: Annotated[Path, typer.Option(metavar="DIR", help="The checkpoint's folder.")],
    data: Annotated[
        str,
        typer.Option(metavar="CARD|FOLDER|SET", help="icons, a folder of PNG and JPEG, a set."),
    ],
    family: Annotated[
        str,
        typer.Option(
            "--family", "--model", help="diffusion, gan, image_vae, image_features, stylizer."
        ),
    ] = "diffusion",
    preset: Annotated[Size, typer.Option(help="How large a model.")] = Size.small,
    pixels: Annotated[int, typer.Option(help="Of a side, where the set is made now.")] = 32,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one setting; may be repeated."),
    ] = None,
    max_steps: Annotated[int | None, typer.Option(min=1, help="Stop after so many steps.")] = None,
    max_minutes: Annotated[
        float | None, typer.Option(min=0.01, help="Stop after so many minutes.")
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(metavar="MODEL|DIR", help="Begin with the weights of this model."),
    ] = None,
    lora: Annotated[
        int,
        typer.Option(min=0, max=256, help="Train low-rank adapters of --init alone, of this rank."),
    ] = 0,
    features: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL|DIR", help="What a stylizer sees with.  [default: glyph-features]"
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where --out stopped.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Of everything random.")] = 0,
    source: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the archives of a card lie.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train an image model, on the trainer of the music models."""
    from musegen import pictures
    from musegen.errors import UsageError

    if max_steps is not None and max_minutes is not None:
        raise UsageError("give --max-steps or --max-minutes, not both")
    with console.progress("training", quiet=quiet) as report:
        summary = pictures.train(
            data,
            out,
            family=family,
            size=preset.value,
            pixels=pixels,
            overrides=settings or [],
            max_steps=max_steps,
            max_minutes=max_minutes,
            init=init,
            lora=lora,
            features=features,
            resume=resume,
            device=device,
            seed=seed,
            source=source,
            on_progress=report,
        )
    for note in summary.get("notes", ()):
        console.warn(note)
    if as_json:
        console.out_json({"out": str(out), **summary})
    else:
        print(out)
        console.note(f"{out}: {summary['step']} steps, best {summary['best']:.4f}", quiet=quiet)
    if summary["interrupted"]:
        raise typer.Exit(130)


@app.command()
def sample(
    style: Style = "",
    words: Words = "",
    num: Num = 1,
    guidance: Guidance = None,
    steps: Steps = None,
    like: Annotated[
        str | None, typer.Option(metavar="FILE", help="Go on from this PNG or JPEG.")
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="How far from it.  [default: 0.6]"),
    ] = None,
    random_seed: Seed = 0,
    out: Out = "out/",
    scale: Scale = 8,
    sheet: Sheet = False,
    model: Model = "icons",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Draw pictures of a style and of words."""
    from musegen import pictures

    target = plan_outputs(out, "picture", 1 if sheet else num, kind=".png")
    with console.progress("drawing", quiet=quiet) as report:
        made = pictures.sample(
            model=model,
            style=style,
            words=words.replace(",", " ").split(),
            num=num,
            guidance=guidance,
            steps=steps,
            like=like,
            strength=strength,
            random_seed=random_seed,
            on_progress=report,
        )
    _write(made, target, scale, sheet, as_json, quiet)


@app.command()
def interpolate(
    style: Style = "",
    words: Words = "",
    steps: Annotated[int, typer.Option(min=2, max=256, help="Pictures, both ends too.")] = 8,
    guidance: Guidance = None,
    random_seed: Seed = 0,
    to_seed: Annotated[
        int | None,
        typer.Option(min=0, max=2**63 - 1, help="Seed of the other end.  [default: the next]"),
    ] = None,
    out: Out = "out/",
    scale: Scale = 8,
    sheet: Sheet = False,
    model: Model = "icons",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Draw the way from one picture to another."""
    from musegen import pictures

    target = plan_outputs(out, "picture", 1 if sheet else steps, kind=".png")
    with console.progress("drawing", quiet=quiet) as report:
        made = pictures.interpolate(
            model=model,
            style=style,
            words=words.replace(",", " ").split(),
            steps=steps,
            guidance=guidance,
            random_seed=random_seed,
            to_seed=to_seed,
            on_progress=report,
        )
    _write(made, target, scale, sheet, as_json, quiet)


@app.command()
def edit(
    picture: Annotated[Path, typer.Argument(metavar="FILE", help="A PNG or JPEG.")],
    box: Annotated[
        str,
        typer.Option(
            metavar="L,T,R,B", help="The part to draw anew, in pixels of the model: 16,0,32,16."
        ),
    ],
    style: Style = "",
    words: Words = "",
    num: Num = 1,
    guidance: Guidance = None,
    steps: Steps = None,
    random_seed: Seed = 0,
    out: Out = "out/",
    scale: Scale = 8,
    sheet: Sheet = False,
    model: Model = "icons",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Draw a part of a picture anew; the rest stays."""
    from musegen import pictures
    from musegen.errors import UsageError

    try:
        left, top, right, bottom = (int(part) for part in box.split(","))
    except ValueError:
        raise UsageError(f"--box {box}: say left,top,right,bottom, as 16,0,32,16") from None
    target = plan_outputs(out, picture.stem, 1 if sheet else num, kind=".png")
    with console.progress("drawing", quiet=quiet) as report:
        made = pictures.edit(
            picture,
            (left, top, right, bottom),
            model=model,
            style=style,
            words=words.replace(",", " ").split(),
            num=num,
            guidance=guidance,
            steps=steps,
            random_seed=random_seed,
            on_progress=report,
        )
    _write(made, target, scale, sheet, as_json, quiet)


@app.command()
def stylize(
    picture: Annotated[Path, typer.Argument(metavar="FILE", help="What is to be seen: PNG, JPEG.")],
    like: Annotated[Path, typer.Option("--like", metavar="FILE", help="In the style of this one.")],
    strength: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="From 0, the picture, to 1, all style.")
    ] = 0.8,
    method: Annotated[
        Method, typer.Option(help="Move the pixels themselves, or one pass through a network.")
    ] = Method.gatys,
    size: Annotated[int, typer.Option(help="Pixels of a side: 16 to 512, in steps of 16.")] = 64,
    steps: Annotated[
        int | None, typer.Option(min=1, max=1000, help="Of gatys.  [default: 10]")
    ] = None,
    num: Num = 1,
    random_seed: Seed = 0,
    out: Out = "out/",
    scale: Scale = 4,
    sheet: Sheet = False,
    model: Model = "glyph-styles",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Draw one picture in the style of another, in greys."""
    from musegen.styling import stylize as made_like

    target = plan_outputs(out, f"{picture.stem}-styled", 1 if sheet else num, kind=".png")
    with console.progress("drawing", quiet=quiet) as report:
        made = made_like(
            picture,
            like,
            model=model,
            method=method.value,
            strength=strength,
            size=size,
            steps=steps,
            num=num,
            random_seed=random_seed,
            on_progress=report,
        )
    _write(made, target, scale, sheet, as_json, quiet)


def _write(
    made: list[Any], target: Any, scale: int, sheet: bool, as_json: bool, quiet: bool
) -> None:
    """Writes the pictures, or one sheet of them, and says so."""
    from musegen.picture_files import contact_sheet
    from musegen.pictures import Picture

    facts = dict(made[0].facts)
    if sheet:
        made = [Picture(contact_sheet([one.pixels for one in made]), facts)]
    target.prepare()
    files = []
    for number, one in enumerate(made):
        path = one.save(target.path(number + 1), scale)
        files.append({"path": str(path), **one.facts})
        if not as_json:
            print(path, flush=True)
    if as_json:
        console.out_json({"files": files})
    console.note(f"random seed {facts['random_seed']}", quiet=quiet)
