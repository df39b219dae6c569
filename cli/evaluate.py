"""`musegen evaluate`: measures a model on music that it was not trained on."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from . import console
from .main import INTERRUPTED

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def evaluate(
    data: Annotated[
        str,
        typer.Option(
            metavar="CARD|SHARDS", help="Where held-out pieces are: a card or built data."
        ),
    ],
    model: Annotated[
        str, typer.Option(metavar="NAME|DIR", help="See `musegen models`.")
    ] = "default",
    source: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the files of a data card lie.")
    ] = None,
    tasks: Annotated[
        str,
        typer.Option(
            metavar="TASK,TASK",
            help="likelihood, continue, fill, accompany, compose, controls.  [default: all]",
        ),
    ] = "",
    num: Annotated[int, typer.Option(min=1, max=10_000, help="Pieces that a task generates.")] = 20,
    bars: Annotated[int, typer.Option(min=2, max=1000, help="Bars of each.")] = 16,
    seed: Annotated[
        int, typer.Option(min=0, max=2**31, help="The same seed gives the same report.")
    ] = 0,
    splits: Annotated[
        str, typer.Option(metavar="SPLIT,SPLIT", help="Whose pieces.")
    ] = "valid,test",
    against: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME|DIR", help="Another model beside it; may be repeated."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The report as JSON.")] = False,
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="The report as Markdown, the default.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write it there.  [default: stdout]")
    ] = None,
    plots: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also pictures, as PNG, in this folder.")
    ] = None,
    timing: Annotated[
        bool, typer.Option("--timing", help="Tell seconds and notes a second too.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that read files.  [default: all cores]")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    engine: Annotated[
        str,
        typer.Option(
            metavar="onnx|torch",
            help="What generates.  [default: onnx on the CPU]",
            show_default=False,
        ),
    ] = "auto",
    precision: Annotated[
        str,
        typer.Option(help="int8 or fp32 of onnx; fp64, fp32, bf16 of torch.  [default: int8]"),
    ] = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no notes.")] = False,
) -> None:
    """Measure a model on held-out music: what that costs it, and what it writes in its place.

    The report goes to stdout or to --out (.json there is JSON, anything else Markdown), progress
    and the seed to stderr. The same evaluation twice gives the same JSON; seconds are told with
    --timing only. Ctrl-C keeps what is finished. docs/evaluation.md says how to read it.
    """
    from musegen import api
    from musegen.atomic import write_whole
    from musegen.errors import OutputError, UsageError
    from musegen.evaluation.markdown import to_markdown

    if as_json and as_markdown:
        raise UsageError("give --json or --markdown, not both")
    if out is not None and out.is_dir():
        raise OutputError(f"{out} is a folder: name a file in it")
    if out is not None and not out.parent.is_dir():
        raise OutputError(f"{out.parent}: there is no such folder to write {out.name} into")
    writes = _writes(model)
    if writes in ("bars", "images"):
        if against or plots or tasks or timing:
            raise UsageError(f"a model of {writes} has no --tasks, --against, --plots, --timing")
        if writes == "images" and (source is not None or workers is not None):
            raise UsageError(
                "a model of images is measured on a set that is built: leave out --source and "
                "--workers, and give the data folder of `musegen image train --out DIR`, DIR/data"
            )
        if writes == "bars":
            _evaluate_bars(data, model, num, seed, splits, source, workers, out, as_json, quiet)
        else:
            _evaluate_images(data, model, num, seed, out, as_json, quiet)
        return
    if plots is not None:
        from musegen.evaluation.plots import check_plots

        check_plots()
    console.note(f"random seed {seed}", quiet=quiet)
    with console.progress("evaluating", quiet=quiet) as report:
        found = api.evaluate(
            data,
            model,
            tasks=_words(tasks) or None,
            num=num,
            bars=bars,
            random_seed=seed,
            splits=_words(splits),
            against=against or (),
            source=source,
            workers=workers,
            device=device,
            engine=engine,
            precision=precision,
            on_progress=report,
        )
    json_wanted = as_json or (out is not None and out.suffix == ".json" and not as_markdown)
    text = found.to_json(timing) if json_wanted else to_markdown(found, timing)
    if out is None:
        print(text, end="")
    else:
        write_whole(out, text.encode("utf-8"))
        print(out)
    if plots is not None:
        from musegen.evaluation.plots import write_plots

        for path in write_plots(found, plots):
            print(os.fspath(path)) if out is not None else console.note(f"{path}", quiet=quiet)
    for line in found.notes:
        console.note(line, quiet=quiet)
    if found.interrupted:
        console.warn("stopped by Ctrl-C: what was finished is in the report")
        raise typer.Exit(INTERRUPTED)


def _writes(model: str) -> str:
    """What the model writes: what is not pieces has figures of its own."""
    from musegen.assets import weights_path
    from musegen.models.registry import GENERATORS
    from musegen.training.folder import read_checkpoint

    family = GENERATORS.get(read_checkpoint(weights_path(model)).family)
    return family.writes if family is not None else ""


def _evaluate_bars(
    data: str,
    model: str,
    num: int,
    seed: int,
    splits: str,
    source: Path | None,
    workers: int | None,
    out: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """The report of an autoencoder of bars."""
    from musegen.evaluation.bars import bars_markdown
    from musegen.ideas import evaluate as evaluate_ideas

    console.note(f"random seed {seed}", quiet=quiet)
    with console.progress("evaluating", quiet=quiet) as report:
        found = evaluate_ideas(
            data,
            model,
            num=num,
            random_seed=seed,
            splits=_words(splits),
            source=source,
            workers=workers,
            on_progress=report,
        )
    _write_report(found, bars_markdown, out, as_json)


def _evaluate_images(
    data: str, model: str, num: int, seed: int, out: Path | None, as_json: bool, quiet: bool
) -> None:
    """The report of an image model."""
    from musegen.picture_report import evaluate as evaluate_pictures
    from musegen.picture_report import pictures_markdown

    console.note(f"random seed {seed}", quiet=quiet)
    with console.progress("drawing", quiet=quiet) as report:
        found = evaluate_pictures(data, model, num=num, random_seed=seed, on_progress=report)
    _write_report(found, pictures_markdown, out, as_json)


def _write_report(
    found: dict[str, Any],
    to_markdown: Callable[[dict[str, Any]], str],
    out: Path | None,
    as_json: bool,
) -> None:
    """A report as JSON or Markdown, to a file or to stdout."""
    import json

    from musegen.atomic import write_whole

    json_wanted = as_json or (out is not None and out.suffix == ".json")
    text = json.dumps(found, indent=2) + "\n" if json_wanted else to_markdown(found)
    if out is None:
        print(text, end="")
    else:
        write_whole(out, text.encode("utf-8"))
        print(out)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]
