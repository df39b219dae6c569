"""Covers for songs: an emblem that a model draws, on a backdrop and in colours of the music.

```
covers = cover("song.mid", words=["night", "travel"], style="outlined", num=6)
covers[0].save("cover.svg"); covers[0].save("cover.png", size=3000)
```
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from musegen.art.colours import Palette, contrast, palette_of
from musegen.art.cover import BACKDROPS, Cover, cover_svg
from musegen.art.lettering import Font
from musegen.art.mood import Mood, Rule, load_rule, mood_of
from musegen.art.trace import traced
from musegen.atomic import write_whole
from musegen.errors import OutputError, UsageError
from musegen.image_model import ImageModel
from musegen.music.piece import Piece
from musegen.picture_files import contact_sheet, pixels_of, png_bytes, svg_metadata
from musegen.pictures import Picture, sample

__all__ = ["Sleeve", "Theme", "cover", "sheet", "theme_of"]

OnProgress = Callable[[float, float | None, str], None]

SIZES = (64, 10_000)
"""Pixels of a side of a PNG, least and most."""


@dataclass(frozen=True, eq=False)
class Sleeve:
    """A finished cover."""

    svg: str
    emblem: Picture
    palette: Palette
    mood: Mood
    facts: Mapping[str, Any]
    """How it was made."""

    @property
    def contrast(self) -> float:
        """Of the text against the paper."""
        return contrast(self.palette.text, self.palette.paper)

    def png(self, size: int = 3000) -> bytes:
        """As PNG, `size` pixels wide. Raises UsageError, OutputError."""
        if not SIZES[0] <= size <= SIZES[1]:
            raise UsageError(f"size {size}: {SIZES[0]} to {SIZES[1]} pixels")
        try:
            from resvg_py import svg_to_bytes
        except ImportError:
            raise OutputError('PNG needs resvg-py: pip install "musegen[image]"') from None
        drawn = bytes(svg_to_bytes(svg_string=self.svg, width=size))
        return png_bytes(pixels_of(drawn), self.facts)

    def save(self, path: str | os.PathLike[str], size: int = 3000) -> Path:
        """Writes `.svg` or `.png`, by the suffix. Raises UsageError for another."""
        target = Path(path)
        if target.suffix.lower() == ".svg":
            write_whole(target, self.svg.encode())
        elif target.suffix.lower() == ".png":
            write_whole(target, self.png(size))
        else:
            raise UsageError(f"{target.name}: covers are .svg or .png")
        return target


@dataclass(frozen=True, eq=False)
class Theme:
    """What a song gives to everything that is drawn for it."""

    piece: Piece
    mood: Mood
    palette: Palette
    words: tuple[str, ...]
    """Of emblems: those that were asked for, or what the rule says of the music."""
    title: str
    font: Font
    random_seed: int
    """A number that is the song's own."""


def theme_of(
    song: Any,
    *,
    title: str | None = None,
    artist: str = "",
    words: Sequence[str] | None = None,
    known: Sequence[str] = (),
    font: str | os.PathLike[str] | None = None,
    rule: str | os.PathLike[str] | None = None,
) -> Theme:
    """Reads a song; options as in `cover`, `known` are the words that the model of emblems knows.

    Raises:
        UsageError: a font that lacks letters of title or artist.
        MidiError, ConfigError: song or rule cannot be read.
    """
    piece = Piece.of(song)
    used: Rule = load_rule(Path(rule) if rule is not None else None)
    mood = mood_of(piece.score)
    said = tuple(words) if words else tuple(word for word in used.said(mood) if word in known)
    lettering = Font(font)
    name = title if title is not None else _title(piece)
    if lacking := lettering.missing(name + artist):
        raise UsageError(f"the font {lettering.path.name} lacks {lacking!r}; name another: --font")
    seed = int(piece.sha256()[:8], 16)
    return Theme(piece, mood, palette_of(mood, used.palette), said, name, lettering, seed)


def cover(
    song: Any,
    *,
    title: str | None = None,
    artist: str = "",
    words: Sequence[str] | None = None,
    style: str = "",
    guidance: float | None = None,
    like: str | os.PathLike[str] | None = None,
    strength: float | None = None,
    num: int = 1,
    backdrop: str = "",
    model: str | os.PathLike[str] | ImageModel = "icons",
    font: str | os.PathLike[str] | None = None,
    rule: str | os.PathLike[str] | None = None,
    random_seed: int | None = None,
    on_progress: OnProgress | None = None,
) -> list[Sleeve]:
    """Makes covers of a song.

    Args:
        song: what `Piece.of` takes.
        title: by default that of the song, or its file's name.
        artist: a second line.
        words: of the emblem; by default what the rule says of the music.
        style: of the emblem, as "outlined".
        guidance, like, strength: as in `musegen.pictures.sample`.
        num: how many; each has its own emblem, and the backdrops take turns.
        backdrop: `rings`, `hills` or `bars` for all of them.
        model: of the emblem.
        font: a font file; DejaVu Sans Bold by default.
        rule: a file such as musegen/art/rule.toml.
        random_seed: the same seed gives the same bytes; by default a number that is the song's own.
        on_progress: called as `on_progress(done, total, text)`.

    Raises:
        UsageError: unknown words, style or backdrop; a font that lacks letters of the title.
        MidiError, CheckpointError, ConfigError: song, model or rule cannot be read.
    """
    if backdrop and backdrop not in BACKDROPS:
        raise UsageError(f"backdrop '{backdrop}': there are {', '.join(BACKDROPS)}")
    used = model if isinstance(model, ImageModel) else ImageModel.from_pretrained(model)
    theme = theme_of(
        song, title=title, artist=artist, words=words, known=used.words, font=font, rule=rule
    )
    piece, mood, palette = theme.piece, theme.mood, theme.palette
    if random_seed is None:
        random_seed = theme.random_seed
    emblems = sample(
        model=used,
        style=style,
        words=theme.words,
        num=num,
        guidance=guidance,
        like=like,
        strength=strength,
        random_seed=random_seed,
        on_progress=on_progress,
    )
    made = []
    for number, emblem in enumerate(emblems):
        chosen = backdrop or list(BACKDROPS)[number % len(BACKDROPS)]
        layout = Cover(theme.title, artist, traced(emblem.pixels), used.size, palette, chosen)
        own = {
            "backdrop": chosen,
            "title": theme.title,
            "artist": artist,
            "song_sha256": piece.sha256(),
        }
        facts = {**emblem.facts, "verb": "cover", "options": {**emblem.facts["options"], **own}}
        svg = cover_svg(layout, piece.score, theme.font, svg_metadata(facts))
        made.append(Sleeve(svg, emblem, palette, mood, facts))
    return made


def sheet(sleeves: Sequence[Sleeve], path: str | os.PathLike[str], size: int = 480) -> Path:
    """Writes all of them in one PNG, side by side, each `size` pixels wide."""
    pictures = [pixels_of(one.png(size)) for one in sleeves]
    write_whole(Path(path), png_bytes(contact_sheet(pictures, 3, 8), sleeves[0].facts))
    return Path(path)


def _title(piece: Piece) -> str:
    """What the song is called: by its title, or its file's name, as words."""
    if piece.score.title.strip():
        return piece.score.title.strip()
    stem = Path(str(piece.info.get("file", ""))).stem
    return stem.replace("_", " ").replace("-", " ").strip().title() or "Untitled"
