"""What stands beside a piece: stems, a preview to hear, a roll to see, a score to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from musegen.errors import UsageError

from .console import note

if TYPE_CHECKING:
    from musegen.music.piece import Piece
    from musegen.music.score import Score

RENDERED = (".wav", ".svg", ".png")
"""Formats that can be written and not read back."""

_CHOICES = {"preview": ("wav",), "roll": ("svg", "png")}


@dataclass(frozen=True)
class Companions:
    """Which files are written beside a piece: `song.mid` gets `song.wav`, `song.svg` and so on.

    Raises `UsageError` for a format that is none.
    """

    stems: bool = False
    """A MIDI file a track, in the folder `song-stems`."""
    preview: str = ""
    """`wav`, or empty for none."""
    roll: str = ""
    """`svg` or `png`, or empty for none."""
    score: bool = False
    """Notation, as `song.musicxml`."""

    def __post_init__(self) -> None:
        for name, known in _CHOICES.items():
            asked = getattr(self, name)
            if asked and asked not in known:
                raise UsageError(f"--{name} {asked}: give {' or '.join(known)}")

    def __bool__(self) -> bool:
        return bool(self.stems or self.preview or self.roll or self.score)

    def check(self, path: Path | None) -> None:
        """Raises `UsageError` where `write` would, before anything is composed.

        `path` is where the piece goes; None is stdout.
        """
        if not self:
            return
        if path is None:
            raise UsageError(f"{self._flags()[0]} writes files beside the piece: give --out a file")
        if self.roll == "png":
            from importlib.util import find_spec

            if find_spec("resvg_py") is None:
                raise UsageError(
                    '--roll png needs resvg-py: pip install "musegen[png]", or take --roll svg'
                )
        if self.score and path.suffix.lower() == ".musicxml":
            raise UsageError(f"{path} is notation already: leave out --score, or end it in .mid")

    def write(
        self,
        piece: Piece,
        path: Path | None,
        *,
        stretches: Sequence[tuple[int, int, int]] = (),
        quiet: bool = False,
    ) -> list[Path]:
        """Writes what was asked for beside `path`, never over it; gives the paths, in order.

        But a `.dawproject` is written again with the preview in it.

        All is made before the first file is written. Files of these names are written over; other
        files in the folder of the stems stay. `stretches` (track, start_tick, end_tick) are shaded
        in the roll. Says on stderr how the preview was made.

        Raises `UsageError` as `check` does, `OutputError` for what cannot be written or drawn,
        `MidiError` for what cannot be notated or rendered.
        """
        from musegen.atomic import write_all
        from musegen.music.export import musicxml_bytes

        self.check(path)
        if path is None or not self:
            return []
        files: dict[Path, bytes] = {}
        if self.stems:
            files |= stem_files(piece.score, path.with_name(f"{path.stem}-stems"))
        for kind in filter(None, (self.preview, self.roll)):
            target = path.with_name(f"{path.stem}.{kind}")
            files[target], how = rendered(piece.score, target, stretches=stretches)
            if how:
                note(f"{target}: {how}", quiet=quiet)
        if self.preview and path.suffix.lower() == ".dawproject":
            from musegen.music.dawproject import write_dawproject

            audio = files[path.with_name(f"{path.stem}.{self.preview}")]
            files[path] = write_dawproject(piece.score, generated=stretches, audio=audio)
        if self.score:
            target = path.with_name(f"{path.stem}.musicxml")
            files[target] = musicxml_bytes(piece.score, name=str(target))
        write_all(files, folders=True)
        return [target for target in files if target != path]

    def _flags(self) -> list[str]:
        return [
            f"--{name}" for name in ("stems", "preview", "roll", "score") if getattr(self, name)
        ]


def rendered(
    score: Score, path: Path, *, stretches: Sequence[tuple[int, int, int]] = ()
) -> tuple[bytes, str]:
    """The bytes of a file of one of the formats RENDERED, and how it was made, where that matters.

    Raises `OutputError` and `MidiError` as `render_wav` and `roll_png` do.
    """
    from musegen.music.roll import roll_png, svg_roll

    suffix = path.suffix.lower()
    if suffix == ".wav":
        from musegen.music.audio import render_wav

        return render_wav(score)
    if suffix == ".png":
        return roll_png(score, stretches=stretches), ""
    return svg_roll(score, stretches=stretches).encode("utf-8"), ""


def stem_files(score: Score, folder: Path) -> dict[Path, bytes]:
    """A MIDI file a track of the score, as paths in a folder and their bytes."""
    from musegen.music.stems import stems
    from musegen.music.writer import write_midi

    return {folder / f"{name}.mid": write_midi(stem) for name, stem in stems(score)}
