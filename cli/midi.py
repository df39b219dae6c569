"""`musegen midi`: look at, check and convert MIDI files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .console import counted, note, out_json, progress, table

if TYPE_CHECKING:
    from musegen.idea_origin import IdeaOrigin
    from musegen.music.piece import Piece
    from musegen.provenance import Provenance

    from .console import Report

app = typer.Typer(
    help="Look at, check and convert MIDI files.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
)

_Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


@app.command()
def info(
    file: Annotated[Path, typer.Argument(help="A MIDI, MusicXML or DAWproject file.")],
    as_json: _Json = False,
) -> None:
    """What is in a file: meter, key, tempo, tracks, and what was repaired while reading."""
    from musegen.music.piece import Piece

    piece = Piece.load(file)
    facts = _facts(file, piece)
    if as_json:
        out_json(facts)
        return
    for line in piece.notes:
        note(f"{file}: {line}")
    _print_facts(facts)


def _facts(file: Path, piece: Any) -> dict[str, Any]:
    from musegen.music.analysis import estimate_key, notes_per_beat, polyphony
    from musegen.music.instruments import program_name
    from musegen.music.names import key_name

    score = piece.score
    estimate = estimate_key(score)
    return {
        "file": str(file),
        "title": score.title,
        "format": piece.info["format"],
        "ppq": score.ppq,
        "bars": piece.bars,
        "seconds": round(score.duration_s, 3),
        "notes": score.num_notes,
        "notes_per_beat": round(notes_per_beat(score), 3),
        "polyphony": polyphony(score)[0],
        "tempos_bpm": [[tick, round(60e6 / tempo_us, 3)] for tick, tempo_us in score.tempos],
        "meters": [[m.tick, f"{m.numerator}/{m.denominator}"] for m in score.meters],
        "keys": [[key.tick, key_name(key)] for key in score.keys],
        "estimated_key": key_name(estimate.key) if estimate else None,
        "markers": [list(marker) for marker in score.markers],
        "copyright": score.copyright,
        "comments": [list(comment) for comment in score.comments],
        "tracks": [
            {
                "name": track.name,
                "program": track.program,
                "instrument": program_name(track.program, track.is_drum),
                "drums": track.is_drum,
                "notes": len(track),
                "lowest": int(track.notes["pitch"].min()) if len(track) else None,
                "highest": int(track.notes["pitch"].max()) if len(track) else None,
                "controllers": len(track.controls) + len(track.bends) + len(track.pressures),
            }
            for track in score.tracks
        ],
        "repairs": list(piece.notes),
    }


def _print_facts(facts: dict[str, Any]) -> None:
    def some(items: list[list[Any]]) -> str:
        shown = [f"{value} at {tick}" if tick else f"{value}" for tick, value in items[:6]]
        more = [f"and {len(items) - 6} more"] if len(items) > 6 else []
        return ", ".join(shown + more) or "none"

    minutes, seconds = divmod(round(facts["seconds"]), 60)
    print(f"title     {facts['title'] or 'none'}")
    print(f"length    {facts['bars']} bars, {minutes}:{seconds:02d}, {facts['notes']} notes")
    print(f"timing    {facts['ppq']} ticks a quarter note, format {facts['format']}")
    print(f"tempo     {some(facts['tempos_bpm'])}")
    print(f"meter     {some(facts['meters'])}")
    print(f"key       {some(facts['keys'])} (the notes say {facts['estimated_key'] or 'nothing'})")
    if facts["markers"]:
        print(f"markers   {some(facts['markers'])}")
    if facts["tracks"]:
        print()
        rows = [
            (index, track["name"], track["instrument"], track["notes"], _range(track))
            for index, track in enumerate(facts["tracks"], start=1)
        ]
        table(("", "track", "instrument", "notes", "pitches"), rows)


def _range(track: dict[str, Any]) -> str:
    return "" if track["lowest"] is None else f"{track['lowest']}-{track['highest']}"


@app.command()
def check(
    files: Annotated[list[Path], typer.Argument(help="MIDI files.")], as_json: _Json = False
) -> None:
    """List every defect of files that some program may stumble over; exit 1 if there are any."""
    from musegen.music.check import check_path

    found = {str(file): check_path(file) for file in files}
    count = sum(map(len, found.values()))
    if as_json:
        out_json({file: [defect._asdict() for defect in found[file]] for file in found})
    else:
        for file, defects in found.items():
            for defect in defects:
                where = f"track {defect.track}, tick {defect.tick}: "
                if defect.code == "unreadable":  # the file as a whole, whose name stands there
                    where = ""
                said = defect.message.removeprefix(f"{file}: ")
                print(f"{file}: {defect.code}: {where}{said}")
    bad = sum(bool(defects) for defects in found.values())
    note(f"{counted(len(found), 'file')} checked, {bad} with defects, {counted(count, 'defect')}")
    if count:
        raise typer.Exit(1)


@app.command()
def convert(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="A MIDI, MusicXML or DAWproject file.")
    ],
    target: Annotated[
        Path, typer.Argument(metavar="OUT", help="Written in the format of its suffix.")
    ],
    ports: Annotated[
        bool, typer.Option("--ports", help="Let more than 15 instruments use further MIDI ports.")
    ] = False,
) -> None:
    """Convert between MIDI (.mid), notation (.musicxml, .mxl) and sessions (.dawproject).

    From .mid to .mid it cleans a file. OUT may also be sound (.wav) or a piano roll (.svg, .png),
    which nothing can read back.
    """
    from musegen.atomic import write_whole
    from musegen.music.piece import Piece

    from .companions import RENDERED, rendered

    piece = Piece.load(source)
    for line in piece.notes:
        note(f"{source}: {line}")
    if target.suffix.lower() in RENDERED:
        data, how = rendered(piece.score, target)
        write_whole(target, data)
        if how:
            note(f"{target}: {how}")
    else:
        piece.save(target, ports=ports)
    note(f"wrote {target}: {piece.bars} bars, {piece.score.num_notes} notes")


@app.command()
def stems(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A MIDI or MusicXML file.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="A folder; without it IN's name and -stems."),
    ] = None,
) -> None:
    """Write a MIDI file a track; each has the whole tempo map, and all begin at bar 1."""
    from musegen.atomic import write_all
    from musegen.music.piece import Piece

    from .companions import stem_files

    piece = Piece.load(source)
    for line in piece.notes:
        note(f"{source}: {line}")
    folder = Path(f"{source.stem}-stems") if out is None else out.expanduser()
    files = stem_files(piece.score, folder)
    write_all(files, folders=True)
    for path in files:
        print(path)
    note(f"wrote {counted(len(files), 'stem')} of {piece.bars} bars to {folder}")


@app.command()
def why(
    file: Annotated[Path, typer.Argument(help="A MIDI file or DAWproject that musegen wrote.")],
    rerun: Annotated[
        bool, typer.Option("--rerun", help="Make it again and compare; exit 1 if it differs.")
    ] = False,
    seed_midi: Annotated[
        Path | None,
        typer.Option(help="The seed, where it is not beside the file or in this folder."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="The model, where it is not the installed one of its name.")
    ] = None,
    as_json: _Json = False,
) -> None:
    """How a file was made, and the command that makes it again."""
    from dataclasses import asdict

    from musegen import __version__
    from musegen.idea_origin import origin_of
    from musegen.music.piece import Piece

    origin = origin_of(Piece.load(file).score, str(file))
    facts: dict[str, Any] = {**asdict(origin), "command": origin.command()}
    if rerun:
        with progress("making it again") as report:
            made = _made_again(origin, file.parent, seed_midi, model, report)
        facts["same"], facts["not_compared"] = _is_same(made, file)
        facts["this_version"] = __version__
    if as_json:
        out_json(facts)
    else:
        sources = facts.pop("sources", ())
        for key in _TOLD:
            if facts.get(key, "") not in ("", None):
                print(f"{key.replace('_', ' '):12} {facts[key]}")
        for name, digest in sources:
            print(f"{'source':12} {name or 'no file'} {digest}".rstrip())
        for key, value in origin.options.items():
            shown = ", ".join(map(str, value)) if isinstance(value, list) else value
            print(f"{key.replace('_', ' '):12} {shown}")
        if facts.get("stopped_after") is not None:
            print(f"{'interrupted':12} stopped after {counted(facts['stopped_after'], 'bar')}")
        print(f"{'command':12} {facts['command']}")
        if rerun:
            verdict = "the same bytes" if facts["same"] else "other bytes"
            if facts["same"] and facts["not_compared"]:
                verdict += f"; {facts['not_compared']} is not compared"
            if origin.version != __version__:
                verdict += f" (made by {origin.version}, this is {__version__})"
            print(f"{'again':12} {verdict}")
    if rerun and not facts["same"]:
        raise typer.Exit(1)


_TOLD = (
    "version",
    "verb",
    "model",
    "weights",
    "random_seed",
    "step",
    "sample",
    "seed",
    "seed_sha256",
)
"""What `why` prints of an origin, in this order, where it says it."""


def _made_again(
    origin: Provenance | IdeaOrigin,
    folder: Path,
    seed_midi: Path | None,
    model: str | None,
    report: Report,
) -> Piece:
    """The piece, made again; KeyboardInterrupt where that is interrupted now."""
    from musegen.errors import UsageError
    from musegen.idea_origin import IdeaOrigin

    if isinstance(origin, IdeaOrigin):
        from musegen import ideas

        if seed_midi is not None:
            raise UsageError(
                f"--seed-midi is for composed files; this one was made by {origin.verb}, whose "
                "files are looked for by name, beside it and in this folder"
            )
        return ideas.remake(origin, folder, model=model, on_progress=report)
    from musegen import api

    made = api.remake(origin, folder, seed=seed_midi, model=model, on_progress=report)
    if made.info["interrupted"] and (
        origin.stopped_after is None or made.info["bars"] < origin.stopped_after
    ):
        raise KeyboardInterrupt  # of now, not of then
    return made


def _is_same(made: Any, file: Path) -> tuple[bool, str]:
    """Whether a piece that was made again has a file's bytes, in its format.

    And what was taken from the file instead of being made again: how a preview sounds depends on
    the synthesizer of the machine.
    """
    from musegen.errors import UsageError
    from musegen.music.dawproject import write_dawproject
    from musegen.music.dawproject_reader import read_preview
    from musegen.music.piece import DAWPROJECT_SUFFIX

    if file.suffix.lower() != DAWPROJECT_SUFFIX:
        return made.to_bytes(ports=True) == file.read_bytes(), ""
    audio = read_preview(file)
    try:
        data = write_dawproject(made.score, generated=made.info["stretches"], audio=audio)
    except UsageError:  # what is in the preview's place is no sound
        return False, ""
    return data == file.read_bytes(), "the sound of the preview" if audio else ""
