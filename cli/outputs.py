"""Where `--out` puts files: names, numbers, and what may be overwritten."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from musegen.errors import OutputError, UsageError

STDOUT = "-"
SUFFIXES = (".mid", ".midi", ".musicxml", ".xml", ".mxl", ".dawproject")
"""What makes `--out NAME` a file."""


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where the pieces of one run go.

    One file that the user names is overwritten; names that we make up never hit a file that is
    already there.
    """

    folder: Path
    stem: str
    suffix: str
    named: bool
    """The user named a file."""
    count: int
    """How many pieces there will be."""

    def path(self, number: int) -> Path:
        """The path of piece `number`, counted from 1: that number, or the next that is free."""
        if self.named and self.count == 1:
            return self.folder / (self.stem + self.suffix)
        digits = len(str(self.count))
        for free in range(number, number + 100_000):
            path = self.folder / f"{self.stem}-{free:0{digits}d}{self.suffix}"
            if not path.exists() and not path.is_symlink():
                return path
        raise OutputError(f"{self.folder}: too many files of one name; choose another --out")

    def prepare(self) -> None:
        """Makes the folder."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{self.folder}: {error.strerror}") from error


def plan_outputs(out: str, stem: str, count: int, kind: str = ".mid") -> Outputs | None:
    """What `--out` means; None for stdout. Checked now, before any work is done.

    `stem` names files in a folder, `kind` is their suffix: MIDI's, or another's, which then is the
    only one, and not for stdout. Raises UsageError for what makes no sense and OutputError for
    what cannot be written.
    """
    suffixes = SUFFIXES if kind in SUFFIXES else (kind,)
    if out == STDOUT and suffixes != SUFFIXES:
        raise UsageError(f"--out -: name a file or a folder for {kind}")
    if out == STDOUT:
        if count != 1:
            raise UsageError(f"--out - takes one piece, not {count}: name a folder for several")
        if sys.stdout.isatty():
            raise UsageError("--out - writes MIDI bytes, not for a terminal: redirect or pipe it")
        return None
    if not out:
        raise UsageError("--out is empty: give a file, a folder, or - for stdout")
    path = Path(out).expanduser()
    if path.is_dir() or out.endswith(("/", os.sep)):
        folder, stem, suffix, named = path, stem, kind, False
    elif path.suffix.lower() in suffixes:
        folder, stem, suffix, named = path.parent, path.stem, path.suffix, True
    elif path.suffix and not path.suffix[1:].isdigit():
        known = ", ".join(suffixes)
        raise UsageError(f"--out {out}: {path.suffix} is no format of ours ({known})")
    else:
        folder, stem, suffix, named = path, stem, kind, False
    _check_writable(folder)
    outputs = Outputs(folder, stem, suffix, named, count)
    if named and count == 1 and outputs.path(1).is_dir():
        raise OutputError(f"{outputs.path(1)} is a folder")
    return outputs


def _check_writable(folder: Path) -> None:
    """Raises OutputError where a file could not be made in `folder`."""
    nearest = folder
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir():
        raise OutputError(f"{nearest} is a file: nothing can be written into it")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise OutputError(f"{nearest} is not writable")
