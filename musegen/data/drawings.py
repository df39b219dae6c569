"""Where pictures come from: archives of SVG drawings, and folders of PNG and JPEG files.

Everything becomes a square of greys, uint8, 255 for white paper. Pillow and resvg-py do the work;
they come with the extra `image`.
"""

from __future__ import annotations

import fnmatch
import hashlib
import io
import json
import re
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from musegen.data.image_cards import ImageCard, Package
from musegen.errors import DataError

__all__ = ["MOST_PIXELS", "Drawing", "folder_drawings", "packaged_drawings", "read_picture"]

MOST_PIXELS = 100_000_000
"""Of a picture that is read: beyond it a small file may be a bomb."""

SUFFIXES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True, eq=False)
class Drawing:
    """One picture of a set."""

    name: str
    """Path in its archive or folder, without suffix, led by the archive's name."""
    group: str
    """The same glyph in several styles is one group."""
    style: str
    words: tuple[str, ...]
    image: np.ndarray
    """(S, S) uint8."""


OnProgress = Callable[[int, int, str], None]


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise DataError('pictures need Pillow: pip install "musegen[image]"') from None
    return Image


def rastered(svg: str, size: int) -> np.ndarray:
    """A square drawing as greys (size, size) uint8, black ink on white."""
    try:
        from resvg_py import svg_to_bytes
    except ImportError:
        raise DataError('drawings need resvg-py: pip install "musegen[image]"') from None
    png = bytes(svg_to_bytes(svg_string=svg, background="#ffffff", width=size, height=size))
    return np.asarray(_pillow().open(io.BytesIO(png)).convert("L"), dtype=np.uint8)


def packaged_drawings(
    card: ImageCard, source: Path, size: int, on_progress: OnProgress | None = None
) -> Iterator[Drawing]:
    """The drawings of a card's packages, whose archives lie in a folder.

    Raises DataError: an archive that is not there, or another one, with how to get it.
    """
    for package in card.packages:
        path = source / package.file
        if not path.is_file():
            raise DataError(f"{path} is not there; in that folder: {card.get}")
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != package.sha256:
            raise DataError(f"{path} is not the archive that the card knows; get it anew")
        yield from _of_package(card, package, path, size, on_progress)


def _of_package(
    card: ImageCard, package: Package, path: Path, size: int, on_progress: OnProgress | None
) -> Iterator[Drawing]:
    stem = path.name.removesuffix(".tgz")
    svgs: dict[tuple[str, str], str] = {}
    told: dict[str, Any] = {}
    with tarfile.open(path) as archive:
        for member in archive:
            name = member.name.partition("/")[2]
            wanted = name.endswith(".svg") and str(Path(name).parent) in package.styles
            if not member.isfile() or not (wanted or name == package.words):
                continue
            file = archive.extractfile(member)
            text = file.read().decode("utf-8") if file is not None else ""
            if name == package.words:
                told = json.loads(text)
            else:
                svgs[str(Path(name).parent), Path(name).stem] = text
    for number, ((folder, glyph), svg) in enumerate(sorted(svgs.items())):
        full = f"{stem}/{folder}/{glyph}"
        if any(fnmatch.fnmatchcase(full, pattern) for pattern in card.exclude):
            continue
        if on_progress is not None:
            on_progress(number, len(svgs), full)
        words = words_of(glyph, told.get(glyph))
        image = rastered(svg, size)
        yield Drawing(full, f"{stem}/{glyph}", package.styles[folder], words, image)


def words_of(name: str, told: Any = None) -> tuple[str, ...]:
    """The words of a name, and of what a list of tags, or a table with category and tags, says."""
    texts = [name]
    if isinstance(told, dict):
        texts += [str(told.get("category", "")), *map(str, told.get("tags", ()))]
    elif isinstance(told, list):
        texts += [str(tag) for tag in told]
    found = [word for text in texts for word in re.findall(r"[a-z]{2,}", text.lower())]
    return tuple(sorted(set(found)))


def read_picture(path: Path, size: int) -> np.ndarray:
    """A picture file as a square of greys (size, size) uint8.

    Transparent parts are white, 16 bits become 8, what is not square is cut to its middle.
    Raises DataError for what is no picture, or too large a one.
    """
    image_of = _pillow()
    try:
        with image_of.open(path) as opened:
            if opened.width * opened.height > MOST_PIXELS:
                raise DataError(f"{path.name}: {opened.width} x {opened.height} pixels are many")
            picture = opened
            if picture.mode.startswith("I"):  # 16 bits
                greys = np.asarray(picture, dtype=np.float64)
                picture = image_of.fromarray((greys / 257).clip(0, 255).astype(np.uint8))
            picture = picture.convert("RGBA")
    except (OSError, ValueError, SyntaxError, image_of.DecompressionBombError) as error:
        raise DataError(f"{path.name}: no picture that can be read ({error})") from None
    paper = image_of.new("RGBA", picture.size, "white")
    grey = image_of.alpha_composite(paper, picture).convert("L")
    side = min(grey.size)
    left, top = (grey.width - side) // 2, (grey.height - side) // 2
    square = grey.crop((left, top, left + side, top + side))
    return np.asarray(square.resize((size, size), image_of.Resampling.LANCZOS), dtype=np.uint8)


def folder_drawings(
    folder: Path, size: int, skipped: list[str], on_progress: OnProgress | None = None
) -> Iterator[Drawing]:
    """The pictures below a folder; what cannot be read is told in `skipped`.

    The folder that a file lies in is its style. Raises DataError where there are none.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder of pictures")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise DataError(f"{folder} holds no pictures ({', '.join(SUFFIXES)})")
    for number, path in enumerate(paths):
        name = path.relative_to(folder).with_suffix("")
        if on_progress is not None:
            on_progress(number, len(paths), str(name))
        try:
            image = read_picture(path, size)
        except DataError as error:
            skipped.append(str(error))
            continue
        style = name.parent.name or "plain"
        yield Drawing(str(name), str(name), style, words_of(path.stem), image)
