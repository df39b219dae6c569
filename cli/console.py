"""How the command line talks: data on stdout, progress and notes on stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


def out_json(data: Any) -> None:
    """One JSON document on stdout, ASCII, so that it survives any terminal and any pipe."""
    print(json.dumps(data, indent=2, default=_plain, allow_nan=False))


def json_line(data: Any) -> None:
    """One JSON document on a line of its own, at once: whoever reads the pipe has it now."""
    print(json.dumps(data, default=_plain, allow_nan=False), flush=True)


def note(message: str, *, quiet: bool = False) -> None:
    """A line for the person at the terminal."""
    if not quiet:
        print(message, file=sys.stderr, flush=True)


def warn(message: str) -> None:
    """A line that also `--quiet` does not silence."""
    print(f"musegen: warning: {' '.join(message.split())}", file=sys.stderr, flush=True)


def table(headings: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    """An aligned table on stdout, plain text that `awk` reads too."""
    for line in lines(headings, rows):
        print(line)


def lines(headings: tuple[str, ...], rows: list[tuple[Any, ...]]) -> Iterator[str]:
    """The lines of an aligned table."""
    cells = [[str(cell) for cell in row] for row in [headings, *rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headings))]
    for row in cells:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield line.rstrip()


def counted(count: int, thing: str) -> str:
    """`1 bar`, `2 bars`."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def size(count: int) -> str:
    """Bytes for people: `14.2 MB`."""
    amount = float(count)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


Report = Callable[[float, float | None, str], None]
"""`report(done, total, text)`: how far the work is; total None where nobody knows."""


@contextmanager
def progress(title: str, *, quiet: bool = False) -> Iterator[Report]:
    """A bar on stderr while the block runs; nothing where stderr is not a terminal.

    Yields a `Report`, to be called from the thread that the block runs in.
    """
    if quiet or not sys.stderr.isatty():
        yield _silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[text]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task(title, total=None, text="")

        def report(done: float, total: float | None, text: str = "") -> None:
            bar.update(task, completed=done, total=total, text=text)

        yield report


def _silent(done: float, total: float | None, text: str = "") -> None:
    """A report that nobody reads."""


def _plain(value: Any) -> Any:
    """What json does not know: paths and numpy's scalars."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{type(value).__name__} is no JSON")
