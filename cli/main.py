"""`musegen`: finds the verb, runs it, and turns every error into one line.

Nothing heavy is imported here, nor by a verb's module at its top, so that `musegen --help` answers
at once. A verb is a file of this folder with a `typer.Typer` named `app`, and a line in `VERBS`.

Exit codes: 0 done, 1 an error, 2 a command that makes no sense, 130 interrupted by Ctrl-C,
141 the reader of our output went away.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

import musegen
from musegen.errors import MusegenError

VERBS = {
    "compose": "Write music: continue a MIDI file, or begin with nothing.",
    "interpolate": "The way from one musical idea to another, in steps.",
    "vary": "Variations of some bars.",
    "morph": "Some bars with more of this and less of that.",
    "average": "What lies between several pieces.",
    "play": "Play a file on a MIDI port, or music while it is being composed.",
    "train": "Train a model on MIDI files: one command from a folder to a checkpoint.",
    "evaluate": "Measure a model on music that it was not trained on.",
    "midi": "Look at, check and convert MIDI files.",
    "cover": "Make covers for a song.",
    "image": "Draw pictures: train image models, sample, interpolate, stylize, edit.",
    "design": "Design sleeves, posters and tuned bars; learn what is liked.",
    "play-on": "Play a song on an instrument that was designed.",
    "data": "List corpora and build training data from them.",
    "models": "List the models that are installed, and where they come from.",
    "export": "Export a model for other programs.",
}
"""Each verb and what the overview says of it; `cli/<verb>.py` holds it (`-` as `_`)."""

INTERRUPTED = 130
READER_GONE = 141


def load_verb(name: str) -> Any:
    """The command behind a verb, imported now."""
    command = typer.main.get_command(import_module(f".{name.replace('-', '_')}", __package__).app)
    command.name = name
    return command


class _Verbs(TyperGroup):
    """A group that imports a verb when it is called; the overview needs none of them."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return load_verb(cmd_name) if cmd_name in VERBS else None

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


app = typer.Typer(
    cls=_Verbs,
    name="musegen",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"musegen {musegen.__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    ctx: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Say the version."),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show where an error comes from (of any verb).")
    ] = False,
) -> None:
    """From MIDI to MIDI: train music transformers on your own files and compose with them."""
    if ctx.invoked_subcommand is None:
        print(ctx.get_help())


def run(arguments: list[str]) -> int:
    """Runs one command line (without the program's name); returns the exit code."""
    arguments, debug = _take_debug(arguments)
    command = typer.main.get_command(app)
    try:
        # Not command.main(): it has ends of its own for Ctrl-C and for a closed pipe.
        with command.make_context("musegen", arguments) as context:
            result = command.invoke(context)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except typer.Exit as stop:  # also the end of --help
        return stop.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:
        # Nobody reads any more: end as a program that is killed by SIGPIPE would, silently.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return READER_GONE
    except Exception as error:
        if debug:
            raise
        return _explain(error)


def main() -> NoReturn:
    """The console script."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # the caller closed it: nobody reads
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a name outside the locale's letters is no error
            stream.reconfigure(errors="backslashreplace")
    sys.exit(run(sys.argv[1:]))


def _take_debug(arguments: list[str]) -> tuple[list[str], bool]:
    """`--debug` may stand anywhere before a `--`."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    kept = [word for word in arguments[:end] if word != "--debug"]
    return kept + arguments[end:], len(kept) < end


def _explain(error: Exception) -> int:
    """One line about an error; the exit code that belongs to it."""
    if isinstance(error, MusegenError):
        return _fail(str(error), error.exit_code)
    if hasattr(error, "format_message"):  # a usage error of the library under typer
        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else "musegen"
        if type(error).__name__ == "NoArgsIsHelpError":  # a verb of verbs, called bare
            print(error.format_message(), file=sys.stderr)
            return 2
        return _fail(f"{error.format_message()} (see `{path} --help`)", 2)
    if isinstance(error, OSError):
        return _fail(_os_message(error), 1)
    if isinstance(error, MemoryError):
        return _fail("out of memory: ask for less at once, or use a smaller model", 1)
    kind = type(error).__name__
    return _fail(f"internal error, {kind}: {error} (--debug shows where; please report it)", 1)


def _os_message(error: OSError) -> str:
    reason = error.strerror or str(error) or type(error).__name__
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    return ": ".join([*names, reason])


def _fail(message: str, code: int) -> int:
    line = " ".join(message.split())
    print(f"musegen: error: {line}", file=sys.stderr)
    return code
