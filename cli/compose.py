"""`musegen compose`: writes music."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from . import console
from .outputs import Outputs, plan_outputs

INTERRUPTED = 130

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def compose(
    seed_midi: Annotated[
        str | None, typer.Option("--seed-midi", metavar="FILE", help="The music to go on from.")
    ] = None,
    seed_bars: Annotated[
        int | None,
        typer.Option(min=1, max=100_000, help="Use this many bars of it.  [default: all]"),
    ] = None,
    bars: Annotated[int, typer.Option(min=1, max=1024, help="How many bars to write.")] = 16,
    instruments: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="As in piano,bass,drums.  [default: those of the seed]"),
    ] = None,
    tempo: Annotated[
        float | None,
        typer.Option(min=10, max=500, help="Quarter notes a minute.  [default: the seed's]"),
    ] = None,
    time_signature: Annotated[
        str | None, typer.Option(metavar="N/D", help="As in 3/4.  [default: the seed's]")
    ] = None,
    key: Annotated[
        str | None, typer.Option(metavar="KEY", help='As in "D major".  [default: the seed\'s]')
    ] = None,
    temperature: Annotated[
        float, typer.Option(min=0.0, max=10.0, help="Above 1 bolder, below 1 safer.")
    ] = 1.0,
    top_k: Annotated[
        int, typer.Option(min=0, help="Choose among the k most probable; 0: all.")
    ] = 0,
    top_p: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Choose among the most probable, up to p.")
    ] = 1.0,
    min_p: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Drop what is below p times the most probable.")
    ] = 0.0,
    num: Annotated[int, typer.Option(min=1, max=10_000, help="How many pieces.")] = 1,
    random_seed: Annotated[
        int | None,
        typer.Option(min=0, max=2**63 - 1, help="The same seed gives the same bytes."),
    ] = None,
    out: Annotated[
        str, typer.Option(metavar="FILE|DIR|-", help="Where to; - writes MIDI to stdout.")
    ] = "out/",
    model: Annotated[
        str, typer.Option(metavar="NAME|DIR", help="See `musegen models`.")
    ] = "default",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    as_json: Annotated[
        bool, typer.Option("--json", help="Say what was written as JSON on stdout.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no notes.")] = False,
) -> None:
    """Write music: continue a MIDI file, or begin with nothing.

    The paths of the files go to stdout, progress and the random seed to stderr. Ctrl-C writes what
    is finished.
    """
    from pathlib import Path

    from musegen import api
    from musegen.errors import UsageError

    if as_json and out == "-":
        raise UsageError("--json and --out - both want stdout: give --out a file")
    outputs = plan_outputs(out, Path(seed_midi).stem if seed_midi else "piece", num)
    writer = _Writer(outputs, as_json=as_json, quiet=quiet)
    with console.progress("composing", quiet=quiet) as report:
        pieces = api.compose(
            seed_midi,
            bars=bars,
            seed_bars=seed_bars,
            instruments=instruments.split(",") if instruments else None,
            tempo=tempo,
            time_signature=time_signature,
            key=key,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            num=num,
            random_seed=random_seed,
            model=model,
            device=device,
            on_progress=report,
        )
    for piece in pieces if isinstance(pieces, list) else [pieces]:
        writer.write(piece)
    writer.close()
    if any(file.get("interrupted") for file in writer.files):
        console.warn("stopped by Ctrl-C: what was finished is written")
        raise typer.Exit(INTERRUPTED)


class _Writer:
    """Writes finished pieces and says so."""

    def __init__(self, outputs: Outputs | None, *, as_json: bool, quiet: bool) -> None:
        self.outputs = outputs
        self.as_json = as_json
        self.quiet = quiet
        self.files: list[dict[str, Any]] = []
        self.mended: tuple[str, ...] = ()
        """What reading the seed repaired or dropped."""

    def write(self, piece: Any) -> None:
        """Writes the next piece."""
        self.mended = piece.notes
        if self.outputs is None:
            import sys

            sys.stdout.buffer.write(piece.to_bytes(ports=True))
            sys.stdout.buffer.flush()
            path = "-"
        else:
            self.outputs.prepare()
            target = self.outputs.path(len(self.files) + 1)
            piece.save(target, ports=True)
            path = str(target)
        self.files.append({"path": path, **piece.info})
        if self.outputs is not None and not self.as_json:
            print(path, flush=True)

    def close(self) -> None:
        """Says what was written."""
        if self.as_json:
            console.out_json({"files": self.files})
        for line in self.mended:
            console.note(f"the seed: {line}", quiet=self.quiet)
        for warning in dict.fromkeys(text for file in self.files for text in file["warnings"]):
            console.warn(warning)
        for file in self.files:
            console.note(
                f"{file['path']}: {console.counted(file['bars'], 'new bar')}, "
                f"{console.counted(file['notes'], 'note')} in {file['seconds']:.1f} s, "
                f"random seed {file['seed']}",
                quiet=self.quiet,
            )
