"""`musegen compose`: writes music."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from . import console
from .companions import Companions
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
    bars: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1024,
            help="How many bars to write behind the seed.  [default: 16; none with --fill, --add]",
        ),
    ] = None,
    instruments: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="As in piano,bass,drums.  [default: those of the seed]"),
    ] = None,
    tempo: Annotated[
        str | None,
        typer.Option(metavar="BPM", help="As in 96 or 96,120@9.  [default: the seed's]"),
    ] = None,
    time_signature: Annotated[
        str | None,
        typer.Option(metavar="N/D", help="As in 3/4 or 4/4,3/4@9.  [default: the seed's]"),
    ] = None,
    key: Annotated[
        str | None, typer.Option(metavar="KEY", help='As in "D major".  [default: the seed\'s]')
    ] = None,
    fill: Annotated[
        list[str] | None,
        typer.Option(metavar="BARS[@TRACKS]", help="Write bars of the seed anew: 9-12@bass."),
    ] = None,
    add: Annotated[
        list[str] | None,
        typer.Option(metavar="NAMES[:BARS]", help="Add tracks to the seed: bass,drums."),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(metavar="TRACKS", help="Leave these alone in a --fill of all tracks."),
    ] = None,
    variation: Annotated[
        float | None,
        typer.Option(
            min=0.0, max=1.0, help="Share of the filled notes that make way.  [default: 1]"
        ),
    ] = None,
    lock: Annotated[
        list[str] | None,
        typer.Option(metavar="rhythm|pitch[@TRACKS]", help="What stays of filled notes."),
    ] = None,
    scale: Annotated[
        list[str] | None,
        typer.Option(metavar="SCALE", help='Preferred pitches: "D dorian".'),
    ] = None,
    strict_scale: Annotated[bool, typer.Option("--strict-scale", help="The scale is law.")] = False,
    chords: Annotated[
        list[str] | None,
        typer.Option(metavar="CHORDS", help='A bar each: "Dm7 | G7 | C | %".'),
    ] = None,
    strict_chords: Annotated[
        bool, typer.Option("--strict-chords", help="Chord tones only.")
    ] = False,
    pitch_range: Annotated[
        list[str] | None,
        typer.Option(metavar="LOW-HIGH[@TRACKS]", help="As in C2-C4@bass."),
    ] = None,
    max_polyphony: Annotated[
        list[str] | None,
        typer.Option(metavar="N[@TRACKS]", help="Notes at once, at most: 1@bass."),
    ] = None,
    grid: Annotated[
        list[str] | None,
        typer.Option(metavar="STEP[@TRACKS]", help="Where notes begin: 16th, 8th-triplet."),
    ] = None,
    first_pitch: Annotated[
        list[str] | None,
        typer.Option(metavar="PITCH[@TRACKS]", help="A part begins on it: C4@melody."),
    ] = None,
    last_pitch: Annotated[
        list[str] | None,
        typer.Option(metavar="PITCH[@TRACKS]", help="A part ends on it: C3@bass."),
    ] = None,
    density: Annotated[
        list[str] | None,
        typer.Option(metavar="N-M[@TRACKS]", help="Notes a bar: 6-8@bass."),
    ] = None,
    polyphony: Annotated[
        list[str] | None,
        typer.Option(metavar="X[@TRACKS]", help="Notes an onset, in the mean: 3@piano."),
    ] = None,
    length: Annotated[
        list[str] | None,
        typer.Option(metavar="X[@TRACKS]", help="Mean length: 8th, short, 0.5 (quarters)."),
    ] = None,
    register: Annotated[
        list[str] | None,
        typer.Option(metavar="PITCH[@TRACKS]", help="Mean pitch: C4, low, high."),
    ] = None,
    loudness: Annotated[
        list[str] | None,
        typer.Option(metavar="X[@TRACKS]", help="Mean velocity: mf, 76."),
    ] = None,
    like: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE@BARS[@TRACKS]", help="Bars like those: riff.mid@5-6@bass."),
    ] = None,
    style: Annotated[str, typer.Option(help="A style word: hymn, song, rock, ...")] = "",
    guidance: Annotated[
        float,
        typer.Option(min=0.0, max=20.0, help="How loudly learned controls are told."),
    ] = 1.0,
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
    first_sample: Annotated[
        int, typer.Option(min=0, help="Begin with this piece of the random seed.")
    ] = 0,
    taste: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Ratings of `musegen design rate`: the best liked first."
        ),
    ] = None,
    stems: Annotated[bool, typer.Option("--stems", help="Also a MIDI file a track.")] = False,
    preview: Annotated[str, typer.Option(metavar="wav", help="Also as sound.")] = "",
    roll: Annotated[str, typer.Option(metavar="svg|png", help="Also as a piano roll.")] = "",
    score: Annotated[bool, typer.Option("--score", help="Also as MusicXML.")] = False,
    out: Annotated[
        str, typer.Option(metavar="FILE|DIR|-", help="Where to; - writes MIDI to stdout.")
    ] = "out/",
    model: Annotated[
        str, typer.Option(metavar="NAME|DIR", help="See `musegen models`.")
    ] = "default",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    engine: Annotated[
        str,
        typer.Option(
            metavar="onnx|torch",
            help="What computes.  [default: onnx on the CPU]",
            show_default=False,
        ),
    ] = "auto",
    precision: Annotated[
        str,
        typer.Option(
            help="int8 or fp32 of onnx; fp64, fp32, bf16 of torch.  [default: int8]",
            show_default=False,
        ),
    ] = "auto",
    as_json: Annotated[
        bool, typer.Option("--json", help="Say what was written as JSON on stdout.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no notes.")] = False,
) -> None:
    """Write music: continue a MIDI file, write parts of it anew, add tracks, begin with nothing.

    Controls of tracks read VALUE@TRACK,TRACK:BARS and may be given several times. The paths of the
    files go to stdout, progress and the random seed to stderr. Ctrl-C writes what is finished.
    --out - writes MIDI to stdout at the end; with --json, a line of JSON a note, bar by bar.
    """
    from pathlib import Path

    from musegen import api
    from musegen.errors import UsageError

    if taste is not None:
        from musegen.design.liked import PIECE, features_of_piece, in_order
        from musegen.design.taste import read_ratings

        if num < 2:
            raise UsageError("--taste puts pieces in order: ask for several with --num")
        read_ratings(taste, PIECE)  # says what is wrong before the work
    live = as_json and out == "-"
    if live and num != 1:
        raise UsageError("--out - --json tells of one piece: leave out --num")
    outputs = (
        plan_outputs(out, Path(seed_midi).stem if seed_midi else "piece", num) if not live else None
    )
    companions = Companions(stems, preview, roll, score)
    companions.check(outputs.path(1) if outputs is not None else None)
    writer = _Writer(outputs, companions, as_json=as_json, live=live, quiet=quiet)
    controls: dict[str, Any] = {
        "fill": fill,
        "add": add,
        "keep": keep,
        "variation": variation,
        "lock": lock,
        "scale": scale,
        "strict_scale": strict_scale,
        "chords": chords,
        "strict_chords": strict_chords,
        "pitch_range": pitch_range,
        "max_polyphony": max_polyphony,
        "grid": grid,
        "first_pitch": first_pitch,
        "last_pitch": last_pitch,
        "density": density,
        "polyphony": polyphony,
        "length": length,
        "register": register,
        "loudness": loudness,
        "like": like,
        "style": style,
        "guidance": guidance if guidance != 1.0 else None,
    }
    asked = {name: value for name, value in controls.items() if value not in (None, False, "")}
    if live:
        asked["on_event"] = lambda event: console.json_line(event.to_dict())
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
            engine=engine,
            precision=precision,
            first_sample=first_sample,
            on_progress=report,
            **asked,
        )
    made = pieces if isinstance(pieces, list) else [pieces]
    if taste is not None:
        made = in_order(made, [features_of_piece(one.score) for one in made], PIECE, taste)
    for piece in made:
        writer.write(piece)
    writer.close()
    if any(file.get("interrupted") for file in writer.files):
        console.warn("stopped by Ctrl-C: what was finished is written")
        raise typer.Exit(INTERRUPTED)


class _Writer:
    """Writes finished pieces and says so."""

    def __init__(
        self,
        outputs: Outputs | None,
        companions: Companions,
        *,
        as_json: bool,
        live: bool,
        quiet: bool,
    ) -> None:
        self.outputs, self.companions = outputs, companions
        self.as_json, self.live, self.quiet = as_json, live, quiet
        self.files: list[dict[str, Any]] = []
        self.mended: tuple[str, ...] = ()
        """What reading the seed repaired or dropped."""

    def write(self, piece: Any) -> None:
        """Writes the next piece."""
        self.mended = piece.notes
        beside: list[Any] = []
        if self.outputs is None:
            import sys

            if not self.live:
                sys.stdout.buffer.write(piece.to_bytes(ports=True))
                sys.stdout.buffer.flush()
            path = "-"
        else:
            self.outputs.prepare()
            target = self.outputs.path(len(self.files) + 1)
            piece.save(target, ports=True)
            path = str(target)
            if self.companions:
                beside = self.companions.write(
                    piece, target, stretches=piece.info["stretches"], quiet=self.quiet
                )
        facts = {"path": path, **piece.info}
        if beside:
            facts["beside"] = [str(one) for one in beside]
        self.files.append(facts)
        if self.outputs is not None and not self.as_json:
            for one in (path, *beside):
                print(one, flush=True)

    def close(self) -> None:
        """Says what was written, and what was asked against what is there."""
        if self.live:
            for file in self.files:
                console.json_line({"event": "end", **file})
        elif self.as_json:
            console.out_json({"files": self.files})
        for line in self.mended:
            console.note(f"the seed: {line}", quiet=self.quiet)
        for warning in dict.fromkeys(text for file in self.files for text in file["warnings"]):
            console.warn(warning)
        for file in self.files:
            console.note(
                f"{file['path']}: {console.counted(file['bars'], 'written bar')}, "
                f"{console.counted(file['notes'], 'note')} in {file['seconds']:.1f} s, "
                f"random seed {file['seed']}",
                quiet=self.quiet,
            )
            if file.get("originality"):
                from musegen.evaluation.originality import Originality

                told = Originality(**file["originality"]).line()
                console.note(f"  originality: {told}", quiet=self.quiet)
            asked = [line for line in file["controls"] if line["control"] != "bars"]
            for line in (
                console.lines(
                    ("", "track", "bars", "asked", "measured", ""),
                    [
                        (
                            line["control"].replace("_", " "),
                            line["track"],
                            line["bars"],
                            line["asked"],
                            line["measured"],
                            {True: "holds", False: "BROKEN", None: "wished"}[line["holds"]],
                        )
                        for line in asked
                    ],
                )
                if asked
                else ()
            ):
                console.note(f"  {line}", quiet=self.quiet)
