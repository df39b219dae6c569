"""The layout of a cover: backdrop, emblem and type on a square, as SVG.

Everything is in a square of 1,000 units. The backdrop is drawn from the music itself: how many
notes each part of it has, and how high they lie.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from xml.sax.saxutils import escape

import numpy as np

from musegen.art.colours import Palette
from musegen.art.lettering import Font, fitted_lines
from musegen.music.analysis import pitched_notes
from musegen.music.score import Score

__all__ = ["BACKDROPS", "Cover", "cover_svg", "profile"]

SIDE, MARGIN = 1000.0, 70.0
TEXT_TOP = 790.0
"""Below it is paper alone, where the text stands."""

EMBLEM = (500.0, 410.0, 470.0)
"""Centre and side of the emblem."""

PARTS = 48
"""So many parts of the piece are shown by the backdrop."""


@dataclass(frozen=True)
class Cover:
    """What is drawn."""

    title: str
    artist: str
    emblem: str
    """Data of an SVG path, in a square of `pixels`; empty for none."""
    pixels: int
    palette: Palette
    backdrop: str
    """A name of `BACKDROPS`."""


def profile(score: Score) -> np.ndarray:
    """(PARTS, 2): of equal parts of a piece, the share of notes of the fullest part, and height.

    Height is the mean pitch, from 0 for the lowest part to 1; silence has 0 and the height before.
    """
    notes = pitched_notes(score)
    if not len(notes):
        notes = np.concatenate([track.notes for track in score.tracks])
    found = np.zeros((PARTS, 2))
    if not len(notes):
        return found
    end = max(1, int((notes["start_tick"].astype(np.int64) + notes["duration_tick"]).max()))
    part = np.minimum(notes["start_tick"].astype(np.int64) * PARTS // end, PARTS - 1)
    counts = np.bincount(part, minlength=PARTS)
    heights = np.bincount(part, weights=notes["pitch"], minlength=PARTS) / np.maximum(counts, 1)
    sounding = heights[counts > 0]
    span = max(float(np.ptp(sounding)), 1e-9)
    found[:, 0] = counts / counts.max()
    latest = 0.5
    for index in range(PARTS):
        if counts[index]:
            latest = (heights[index] - sounding.min()) / span
        found[index, 1] = latest
    return found


def _rings(shape: np.ndarray, palette: Palette) -> str:
    """The piece as one turn around the emblem: a ray a part, as long as it is full."""
    x, y, side = EMBLEM
    inner = side * 0.60
    rays = []
    for index, (full, height) in enumerate(shape.tolist()):
        angle = 2 * math.pi * index / len(shape) - math.pi / 2
        near, far = inner, inner + 14 + 84 * full
        colour = palette.second if height < 0.5 else palette.third
        ends = [f"{x + r * math.cos(angle):.1f},{y + r * math.sin(angle):.1f}" for r in (near, far)]
        rays.append(
            f'<path d="M{ends[0]}L{ends[1]}" stroke="{colour}" stroke-width="18" '
            'stroke-linecap="round"/>'
        )
    return "".join(rays)


def _hills(shape: np.ndarray, palette: Palette) -> str:
    """The pitch as two ranges of hills, one behind the other."""
    layers = []
    for shift, colour in ((-150, palette.third), (0, palette.second)):
        smooth = np.convolve(np.pad(shape[:, 1], 3, mode="edge"), np.ones(7) / 7, mode="valid")
        if shift:
            smooth = smooth[::-1]
        tops = 640 + shift - 170 * (smooth - 0.5)
        step = SIDE / (len(tops) - 1)
        line = " ".join(f"{k * step:.1f},{top:.1f}" for k, top in enumerate(tops.tolist()))
        layers.append(
            f'<path d="M0,{TEXT_TOP:.0f} {line} {SIDE:.0f},{TEXT_TOP:.0f}Z" fill="{colour}"/>'
        )
    return "".join(layers)


def _bars(shape: np.ndarray, palette: Palette) -> str:
    """A column a part: as high as it is full, around the height of its notes."""
    wide = SIDE / len(shape)
    columns = []
    for index, (full, height) in enumerate(shape.tolist()):
        tall = 40 + 420 * full
        middle = 410 - 220 * (height - 0.5)
        top, bottom = max(20.0, middle - tall / 2), min(TEXT_TOP - 20, middle + tall / 2)
        colour = palette.second if index % 2 else palette.third
        columns.append(
            f'<rect x="{index * wide + 3:.1f}" y="{top:.1f}" width="{wide - 6:.1f}" '
            f'height="{bottom - top:.1f}" rx="{(wide - 6) / 2:.1f}" fill="{colour}"/>'
        )
    return "".join(columns)


BACKDROPS = {"rings": _rings, "hills": _hills, "bars": _bars}
"""By name: what draws the music behind the emblem."""


def cover_svg(cover: Cover, score: Score, font: Font, metadata: str = "") -> str:
    """The cover as SVG; the same cover and score give the same text.

    Raises UsageError where the font lacks letters of the title.
    """
    palette = cover.palette
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {SIDE:.0f} {SIDE:.0f}" '
        f'width="{SIDE:.0f}" height="{SIDE:.0f}">',
        f"<title>{escape(cover.title)}</title>",
        metadata,
        f'<rect width="{SIDE:.0f}" height="{SIDE:.0f}" fill="{palette.paper}"/>',
        BACKDROPS[cover.backdrop](profile(score), palette),
    ]
    x, y, side = EMBLEM
    if cover.emblem:
        scale = side / cover.pixels
        if cover.backdrop != "rings":
            parts.append(
                f'<circle cx="{x}" cy="{y}" r="{side * 0.66:.1f}" fill="{palette.paper}"/>'
            )
        parts.append(
            f'<path transform="translate({x - side / 2:.1f},{y - side / 2:.1f}) '
            f'scale({scale:.4f})" fill="{palette.first}" fill-rule="evenodd" d="{cover.emblem}"/>'
        )
    wide = SIDE - 2 * MARGIN
    lines = fitted_lines(font, cover.title, wide, 84.0, 34.0, 2)
    place = SIDE - MARGIN - (44 if cover.artist else 0)
    for line in reversed(lines):
        parts.append(_lettered(line.path, place, palette.text))
        place -= line.size * 1.14
    if cover.artist:
        (line,) = fitted_lines(font, cover.artist, wide, 32.0, 22.0, 1)
        parts.append(_lettered(line.path, SIDE - MARGIN + 6, palette.text))
    parts.append("</svg>\n")
    return "".join(parts)


def _lettered(path: str, baseline: float, colour: str) -> str:
    return f'<path transform="translate({MARGIN:.1f},{baseline:.1f})" fill="{colour}" d="{path}"/>'
