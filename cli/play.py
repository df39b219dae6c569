"""`musegen play`: plays a file on a MIDI port, or music while it is being composed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import console
from .outputs import Outputs, plan_outputs

if TYPE_CHECKING:
    from musegen.music.piece import Piece
    from musegen.music.timeline import Channels, Passage

INTERRUPTED = 130

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def play(
    file: Annotated[
        str | None, typer.Argument(metavar="[FILE]", help="What to play; none: compose it now.")
    ] = None,
    port: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="A part of the port's name.  [default: the first]"),
    ] = None,
    list_ports: Annotated[bool, typer.Option("--list", help="Say which ports there are.")] = False,
    from_bar: Annotated[int, typer.Option(min=1, help="Begin FILE at this bar.")] = 1,
    loop: Annotated[bool, typer.Option("--loop", help="FILE again and again, to Ctrl-C.")] = False,
    clock: Annotated[
        bool, typer.Option("--clock", help="Send MIDI clock, start and stop, for a DAW to follow.")
    ] = False,
    seed_midi: Annotated[
        str | None, typer.Option("--seed-midi", metavar="FILE", help="The music to go on from.")
    ] = None,
    seed_bars: Annotated[
        int | None,
        typer.Option(min=1, max=100_000, help="Use this many bars of it.  [default: all]"),
    ] = None,
    with_seed: Annotated[bool, typer.Option("--with-seed", help="Play the seed first.")] = False,
    bars: Annotated[
        int | None,
        typer.Option(min=1, max=1024, help="How many bars to write.  [default: 16]"),
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
    temperature: Annotated[
        float | None, typer.Option(min=0.0, max=10.0, help="Above 1 bolder, below 1 safer.")
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="Choose among the most probable, up to p."),
    ] = None,
    random_seed: Annotated[
        int | None,
        typer.Option(min=0, max=2**63 - 1, help="The same seed gives the same notes."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME|DIR", help="See `musegen models`.")
    ] = None,
    out: Annotated[
        str | None, typer.Option(metavar="FILE|DIR", help="Also write what was composed.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Say what was played as JSON on stdout.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No notes about it.")] = False,
) -> None:
    """Play a file on a MIDI port, or music while it is being composed.

    Needs python-rtmidi: pip install 'musegen[live]'. Ctrl-C ends all notes and, with --out, writes
    the bars that are finished.
    """
    from pathlib import Path

    from musegen.errors import UsageError
    from musegen.music.ports import open_port, port_names

    asked = {
        "seed_midi": seed_midi,
        "seed_bars": seed_bars,
        "bars": bars,
        "instruments": instruments,
        "tempo": tempo,
        "time_signature": time_signature,
        "key": key,
        "temperature": temperature,
        "top_p": top_p,
        "random_seed": random_seed,
        "model": model,
    }
    asked = {name: value for name, value in asked.items() if value is not None}
    composing = {
        **asked,
        **({"with_seed": True} if with_seed else {}),
        **({"out": out} if out else {}),
    }
    if list_ports:
        _list(port_names(), as_json=as_json)
        return
    if file is not None and composing:
        name = next(iter(composing)).replace("_", "-")
        raise UsageError(f"--{name} is for composing: leave out FILE, or write --seed-midi {file}")
    if file is None and (loop or from_bar != 1):
        raise UsageError(f"--{'loop' if loop else 'from-bar'} needs a FILE to play")
    if file is None and not composing:
        raise UsageError("give a FILE to play, or what to compose, as in --bars 16 (see --help)")
    if with_seed and seed_midi is None:
        raise UsageError("--with-seed needs --seed-midi")
    if out == "-":
        raise UsageError("--out takes a file or a folder here: the music goes to the port")
    outputs = plan_outputs(out, Path(seed_midi).stem if seed_midi else "piece", 1) if out else None
    with open_port(port) as opened:
        console.note(f"playing on {opened.name}", quiet=quiet)
        if file is not None:
            told = _play_file(opened, file, from_bar, loop=loop, clock=clock)
        else:
            told = _play_composed(opened, asked, outputs, with_seed, clock=clock, quiet=quiet)
    if as_json:
        console.out_json({"port": opened.name, **told})
    else:
        console.note(f"{console.counted(told['notes'], 'note')} played", quiet=quiet)
    if told["interrupted"]:
        raise typer.Exit(INTERRUPTED)


def _list(names: tuple[str, ...], *, as_json: bool) -> None:
    if as_json:
        console.out_json({"ports": list(names)})
    elif names:
        for name in names:
            print(name)
    else:
        console.warn("no MIDI port here: start a synthesizer or a DAW that has one")


def _play_file(port: Any, file: str, from_bar: int, *, loop: bool, clock: bool) -> dict[str, Any]:
    from musegen.errors import UsageError
    from musegen.music.piece import Piece
    from musegen.music.player import Player
    from musegen.music.timeline import Channels, looped, score_passages
    from musegen.music.transform import slice_bars

    score, channels, start_q = Piece.load(file).score, Channels(), 0.0
    if from_bar > 1:
        bars = score.bars()
        if from_bar > len(bars):
            raise UsageError(
                f"--from-bar {from_bar}: {file} has {console.counted(len(bars), 'bar')}"
            )
        start_q = bars[from_bar - 1].start_tick / score.ppq
        score = slice_bars(score, from_bar - 1, len(bars))
    passages = list(score_passages(score, channels, from_bar, start_q))
    _warn_unplayed(channels)
    player = Player(port, send_clock=clock)
    interrupted = _played(player, looped(passages) if loop else passages)
    return {"file": file, "notes": player.notes, "interrupted": interrupted}


def _play_composed(
    port: Any,
    asked: dict[str, Any],
    outputs: Outputs | None,
    with_seed: bool,
    *,
    clock: bool,
    quiet: bool,
) -> dict[str, Any]:
    from musegen.music.piece import Piece
    from musegen.music.player import Inbox, Player
    from musegen.music.timeline import Channels, score_passages
    from musegen.music.transform import slice_bars

    seed, seed_bars = asked.pop("seed_midi", None), asked.get("seed_bars")
    source = Piece.load(seed) if seed is not None else None
    if "instruments" in asked:
        asked["instruments"] = asked["instruments"].split(",")
    inbox, channels = Inbox(), Channels()
    listener = _Bars(inbox.put, channels)
    if with_seed and source is not None:
        count = min(seed_bars or source.bars, source.bars)
        before = slice_bars(source.score, 0, count)
        for passage in score_passages(before, channels):
            inbox.put(passage)
            listener.begin_s = passage.end_s
    author = _Author(source, asked, listener, inbox.close)
    player = Player(
        port,
        send_clock=clock,
        on_wait=lambda bar: console.note(f"waiting for bar {bar}", quiet=quiet),
    )
    author.start()
    try:
        interrupted = _played(player, inbox)
    finally:
        author.stop()
    _warn_unplayed(channels)
    told: dict[str, Any] = {"notes": player.notes, "waited_s": round(player.waited_s, 3)}
    if author.piece is not None:
        info = author.piece.info
        console.note(
            f"{console.counted(info['bars'], 'written bar')}, random seed {info['seed']}",
            quiet=quiet,
        )
        told |= {"bars": info["bars"], "seed": info["seed"], "warnings": info["warnings"]}
        for warning in info["warnings"]:
            console.warn(warning)
        if outputs is not None:
            outputs.prepare()
            told["path"] = str(author.piece.save(outputs.path(1), ports=True))
            console.note(f"written to {told['path']}", quiet=quiet)
    return {**told, "interrupted": interrupted}


def _played(player: Any, passages: Any) -> bool:
    """Plays; whether Ctrl-C ended it."""
    try:
        player.play(passages)
    except KeyboardInterrupt:
        return True
    return False


def _warn_unplayed(channels: Channels) -> None:
    for name in channels.unplayed:
        console.warn(f"track {name!r} is not played: all 16 channels are taken")


class _Author(threading.Thread):
    """Composes beside the player."""

    def __init__(
        self,
        seed: Piece | None,
        asked: dict[str, Any],
        listener: Callable[[Any], None],
        close: Callable[..., None],
    ) -> None:
        super().__init__(daemon=True)
        self._seed, self._asked = seed, asked
        self._listener, self._close = listener, close
        self._stopping = threading.Event()
        self.piece: Piece | None = None
        """What was composed, or as much as was finished."""

    def run(self) -> None:
        from musegen import api

        try:
            piece = api.compose(
                self._seed, on_event=self._listener, on_progress=self._look, **self._asked
            )
            self.piece = piece if not isinstance(piece, list) else piece[0]
        except KeyboardInterrupt:
            self._close()  # stopped before the first bar
        except BaseException as error:
            self._close(error)
        else:
            self._close()

    def _look(self, done: float, total: float | None, text: str) -> None:
        # The sampler takes it for Ctrl-C: it ends, and what is finished is returned.
        if self._stopping.is_set():
            raise KeyboardInterrupt

    def stop(self) -> None:
        """Ends composing after the step in work, and waits for that."""
        self._stopping.set()
        self.join()


class _Bars:
    """Makes a passage of each bar that is finished."""

    def __init__(self, put: Callable[[Passage], None], channels: Channels) -> None:
        self._put, self._channels = put, channels
        self._notes: list[Any] = []
        self._tracks: dict[int, int | None] = {}
        self._shift_s: float | None = None
        self.begin_s: float | None = None
        """Where the first bar begins, when something is played before it."""

    def __call__(self, event: Any) -> None:
        """Takes a `NoteEvent` or a `BarEvent`."""
        from musegen.music.timeline import TimedNote, note_passage
        from musegen.sampling.stream import BarEvent

        if not isinstance(event, BarEvent):
            self._notes.append(event)
            return
        if self._shift_s is None:
            self._shift_s = 0.0 if self.begin_s is None else self.begin_s - event.start_s
        setup: list[Any] = []
        timed = []
        for note in self._notes:
            if note.track not in self._tracks:
                self._tracks[note.track], messages = self._channels.resume(
                    note.name, note.program, note.is_drum
                )
                setup += messages
            channel = self._tracks[note.track]
            if channel is not None:
                timed.append(
                    TimedNote(note.start_s, note.duration_s, channel, note.pitch, note.velocity)
                )
        self._notes.clear()
        passage = note_passage(event.bar, event.start_s, event.end_s, event.quarter_s, timed, setup)
        self._put(passage.later(self._shift_s))
