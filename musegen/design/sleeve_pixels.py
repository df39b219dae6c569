"""The finer judge of layouts: each part is rendered alone, and pixels are looked at.

It knows nothing of boxes: letters with accents, the real ink of an emblem and what really lies
behind the text are what counts.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from musegen.art.colours import contrast
from musegen.design.base import Constraint
from musegen.design.sleeve_files import drawn_parts, page_svg, rendered
from musegen.picture_files import pixels_of

if TYPE_CHECKING:
    from musegen.design.sleeve import Layout, Sleeve

__all__ = ["seen_constraints"]

SHORT = 400
"""Pixels of the page's short side."""


def _seen(layout: Layout, inner: str, width: int) -> np.ndarray:
    """The trimmed page with these parts alone, (H, W, 3) uint8."""
    return pixels_of(rendered(page_svg(layout, inner, bleed=False), width))


def seen_constraints(sleeve: Sleeve, layout: Layout) -> tuple[Constraint, ...]:
    """The constraints of a layout as its pixels show them."""
    from musegen.design.sleeve import POINT_MM

    page, wishes = layout.page, sleeve.wishes
    short_mm = min(page.width_mm, page.height_mm)
    width = round(SHORT * page.width_mm / short_mm)
    per_mm = width / page.width_mm
    parts = drawn_parts(sleeve, layout)
    paper = parts.pop("paper")
    bare = _seen(layout, paper, width)
    masks = {}
    for name, part in parts.items():
        shown = _seen(layout, paper + part, width)
        masks[name] = (shown != bare).any(2)
    found = []
    for name, mask in masks.items():
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if len(rows):
            high, wide = mask.shape
            sides = (rows[0], columns[0], high - 1 - rows[-1], wide - 1 - columns[-1])
            inside = (min(sides) + 0.5) / per_mm
        else:
            inside = 0.0
        limit = wishes.margin_share * short_mm
        found.append(Constraint(f"{name}_margin_mm", float(inside), limit, 0.05 * short_mm, True))
    gap = wishes.gap_share * short_mm
    for (name, mask), (other_name, other) in combinations(masks.items(), 2):
        distance = _apart(mask, other) / per_mm
        found.append(Constraint(f"{name}_to_{other_name}_mm", distance, gap, 0.1 * short_mm, True))
    behind = _seen(layout, paper + parts["strip"] + parts["emblem"], width)
    letters = _seen(layout, "".join((paper, *parts.values())), width)
    least = 21.0
    for name in ("title", "artist"):
        if name in masks:
            text = layout.title if name == "title" else layout.artist
            size = text.size_mm / POINT_MM if text is not None else 0.0
            found.append(
                Constraint(f"{name}_pt", size, wishes.smallest_pt, wishes.smallest_pt, True)
            )
            mask = masks[name]
            # Edges of letters are mixed with the paper: the middle of the letters counts, as ink.
            ink = max(
                (_hex(one) for one in letters[mask]),
                key=lambda one: contrast(one, layout.paper),
                default=layout.paper,
            )
            for colour in {_hex(one) for one in behind[mask]}:
                least = min(least, contrast(ink, colour))
    found.append(Constraint("text_contrast", least, wishes.contrast, 1.0, True))
    return tuple(found)


def _hex(pixel: np.ndarray) -> str:
    return "#" + bytes(pixel.tolist()).hex()


def _apart(one: np.ndarray, other: np.ndarray) -> float:
    """The least distance of two masks in pixels, along the axis where it is larger."""
    first, second = (np.argwhere(_edge(mask)) for mask in (one, other))
    if not len(first) or not len(second):
        return float(max(one.shape))
    if (one & other).any():
        return -1.0
    nearest = np.inf
    for block in np.array_split(first, max(1, len(first) // 256)):
        apart = np.abs(block[:, None] - second[None]).max(2)
        nearest = min(nearest, float(apart.min()))
    return nearest - 0.5


def _edge(mask: np.ndarray) -> np.ndarray:
    """The pixels of a mask that touch what is not of it."""
    inner = np.pad(mask, 1)
    full = inner[:-2, 1:-1] & inner[2:, 1:-1] & inner[1:-1, :-2] & inner[1:-1, 2:]
    return mask & ~full
