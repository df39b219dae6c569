"""Text as outlines, so that it looks alike in every program and needs no font there.

The font is DejaVu Sans, which comes with matplotlib (which comes with music21); another one may be
named. Outlines are SVG paths.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from musegen.errors import OutputError, UsageError

__all__ = ["Font", "Line", "fitted_lines"]


@dataclass(frozen=True)
class Line:
    """A line of text as an outline, from the left end of its baseline."""

    text: str
    path: str
    """Data of an SVG path, y downward."""
    width: float
    """Units, as `size` is."""
    size: float
    ascent: float = 0.0
    """Of the ink above the baseline, in units: an accent of a capital rises above most letters."""
    descent: float = 0.0
    """Of the ink below the baseline."""


class Font:
    """A font file."""

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        """Raises UsageError where the file is no font, OutputError without matplotlib."""
        try:
            from matplotlib import get_data_path
            from matplotlib.font_manager import FontProperties, get_font
        except ImportError:
            raise OutputError('lettering needs matplotlib: pip install "musegen[image]"') from None
        self.path = Path(path or Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans-Bold.ttf")
        try:
            self._letters = get_font(str(self.path)).get_charmap()
        except (OSError, RuntimeError) as error:
            raise UsageError(f"{self.path}: no font that can be read ({error})") from None
        self._properties: Any = FontProperties(fname=str(self.path))

    def missing(self, text: str) -> str:
        """The letters of a text that the font lacks, each once."""
        return "".join(
            dict.fromkeys(c for c in text if not c.isspace() and ord(c) not in self._letters)
        )

    def line(self, text: str, size: float) -> Line:
        """A line of text. Raises UsageError where the font lacks letters of it."""
        if lacking := self.missing(text):
            raise UsageError(
                f"the font {self.path.name} lacks {lacking!r} of {text!r}; name another with --font"
            )
        if not text.strip():
            return Line(text, "", 0.0, size)
        from matplotlib.textpath import TextPath

        drawn = TextPath((0, 0), text, size=100, prop=self._properties, usetex=False)
        scale, parts = size / 100, []
        letters = {1: "M", 2: "L", 3: "Q", 4: "C", 79: "Z"}
        for points, code in drawn.iter_segments(curves=True, simplify=False):
            numbers = (
                ""
                if int(code) == 79
                else " ".join(
                    f"{value * scale * (1 if k % 2 == 0 else -1):.2f}"
                    for k, value in enumerate(points)
                )
            )
            parts.append(letters[int(code)] + numbers)
        box = drawn.get_extents()
        width, top, bottom = (float(one * scale) for one in (box.x1, box.y1, -box.y0))
        return Line(text, "".join(parts), width, size, max(0.0, top), max(0.0, bottom))


def fitted_lines(
    font: Font, text: str, width: float, largest: float, smallest: float, most: int
) -> list[Line]:
    """A text in at most so many lines within a width, as large as can be.

    A text that is too long even at the smallest size is cut, with an ellipsis: what does not fit
    is not let out of the picture. Raises UsageError for letters that the font lacks.
    """
    words = text.split() or [""]
    size = largest
    while True:
        lines: list[Line] = []
        for word in words:
            joined = f"{lines[-1].text} {word}" if lines else word
            longer = font.line(joined, size)
            if lines and longer.width <= width:
                lines[-1] = longer
            else:
                lines.append(font.line(word, size))
        if len(lines) <= most and all(line.width <= width for line in lines):
            return lines
        if size <= smallest:
            break
        size = max(smallest, size * 0.92)
    kept = []
    for number, line in enumerate(lines[:most]):
        short = line.text + ("…" if number == most - 1 and len(lines) > most else "")
        while short and font.line(short, size).width > width:
            short = short.rstrip("…")[:-1] + "…"
        kept.append(font.line(short, size))
    return kept
