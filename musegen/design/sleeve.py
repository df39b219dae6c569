"""Sleeves and posters: title, artist, emblem and a strip of the music, laid out on a page.

A layout is 13 numbers. What must hold: nothing overlaps, nothing comes near the edge, no letter is
too small to print, text stands out from the paper by 4.5 to 1 (WCAG 2.2). What is minimised is a
sum of four faults that books on layout name: imbalance, edges that nearly align, too much or too
little white, and a title that does not lead. The finer judge renders each part alone and looks at
pixels.

Lengths are in millimetres from the trimmed page's upper left corner, y downward.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

import numpy as np

from musegen.art.colours import LEAST_CONTRAST, Palette, contrast
from musegen.art.lettering import Font, Line
from musegen.design.base import Constraint, Evaluation
from musegen.errors import UsageError

__all__ = ["PAGES", "Box", "Layout", "Page", "Sleeve", "Text", "Wishes"]

POINT_MM = 25.4 / 72

LEADING = 1.16
"""From one baseline to the next, in sizes."""


INSET = 1.06
"""What lies at the margin is so many margins from the edge: a search asks for a little more than
the margin."""


@dataclass(frozen=True)
class Page:
    """What is printed on, after trimming."""

    name: str
    width_mm: float
    height_mm: float
    bleed_mm: float = 3.0
    """How far the paper's colour goes beyond the edge, for a cut that is a little off."""


PAGES = {
    page.name: page
    for page in (
        Page("sleeve", 315.0, 315.0),
        Page("cd", 120.0, 120.0),
        Page("poster", 420.0, 594.0),
        Page("flyer", 148.0, 210.0),
    )
}
"""By name: a 12-inch sleeve, a CD's booklet, A2, A5."""


@dataclass(frozen=True)
class Wishes:
    """What must hold."""

    margin_share: float = 0.045
    """Least distance of everything from the edge, as a share of the short side."""
    gap_share: float = 0.02
    """Least distance of two parts, as a share of the short side."""
    smallest_pt: float = 9.0
    """Least size of type."""
    contrast: float = LEAST_CONTRAST
    """Least contrast of text, 1 to 21."""

    def __post_init__(self) -> None:
        """Cross checks. Raises UsageError, which names the two that contradict each other."""
        if not 0 <= self.margin_share < 0.5 or not 0 <= self.gap_share < 0.5:
            raise UsageError("margin and gap: 0 up to half of the page's short side")
        if 2 * self.margin_share + self.gap_share > 0.6:
            raise UsageError(
                f"margin {self.margin_share:.0%} and gap {self.gap_share:.0%} contradict each "
                "other: together they leave no room for an emblem; make one of them smaller"
            )
        if not 1 <= self.contrast <= 21:
            raise UsageError(f"contrast {self.contrast:g}: 1 to 21")
        if not 1 <= self.smallest_pt <= 200:
            raise UsageError(f"smallest type {self.smallest_pt:g} pt: 1 to 200")


@dataclass(frozen=True)
class Box:
    """A rectangle on the page."""

    left_mm: float
    top_mm: float
    width_mm: float
    height_mm: float

    @property
    def right_mm(self) -> float:
        return self.left_mm + self.width_mm

    @property
    def bottom_mm(self) -> float:
        return self.top_mm + self.height_mm

    @property
    def area_mm2(self) -> float:
        return self.width_mm * self.height_mm

    @property
    def centre_mm(self) -> tuple[float, float]:
        return self.left_mm + self.width_mm / 2, self.top_mm + self.height_mm / 2

    def gap_mm(self, other: Box) -> float:
        """The distance of two boxes along the axis where it is larger; negative: they overlap."""
        across = max(other.left_mm - self.right_mm, self.left_mm - other.right_mm)
        down = max(other.top_mm - self.bottom_mm, self.top_mm - other.bottom_mm)
        return max(across, down)


@dataclass(frozen=True)
class Text:
    """A block of lines."""

    lines: tuple[str, ...]
    size_mm: float
    """Of the type: an em."""
    box: Box
    first_mm: float
    """From the top of the box, which is that of the ink, to the first baseline."""
    anchor: float
    """0 for lines that are flush left, 0.5 centred, 1 flush right."""


@dataclass(frozen=True)
class Layout:
    """A page, laid out."""

    page: Page
    emblem: Box
    strip: Box
    title: Text
    artist: Text | None
    paper: str
    ink: str
    accent: str
    """Of the emblem."""
    quiet: str
    """Of the strip."""

    def parts(self) -> dict[str, Box]:
        """Everything that is on the page."""
        found = {"emblem": self.emblem, "strip": self.strip, "title": self.title.box}
        return found | ({"artist": self.artist.box} if self.artist is not None else {})


# (name, lowest, highest); lengths are shares of the short side, places shares of the room there is
NUMBERS = (
    ("emblem_side", 0.25, 0.8),
    ("emblem_x", 0.0, 1.0),
    ("emblem_y", 0.0, 1.0),
    ("title_size", 0.03, 0.17),
    ("title_x", 0.0, 1.0),
    ("title_y", 0.0, 1.0),
    ("title_lines", 1.0, 3.99),
    ("artist_size", 0.012, 0.06),
    ("artist_x", 0.0, 1.0),
    ("artist_y", 0.0, 1.0),
    ("strip_y", 0.0, 1.0),
    ("strip_height", 0.02, 0.2),
    ("tone", 0.0, 3.99),
)


def broken_into(words: Sequence[str], count: int) -> tuple[str, ...]:
    """Words in at most `count` lines, the longest of which is as short as can be."""
    count = max(1, min(count, len(words)))
    best: tuple[int, tuple[str, ...]] | None = None
    for cuts in combinations(range(1, len(words)), count - 1):
        ends = (0, *cuts, len(words))
        lines = tuple(" ".join(words[a:b]) for a, b in pairwise(ends))
        longest = max(map(len, lines))
        if best is None or longest < best[0]:
            best = (longest, lines)
    return best[1] if best is not None else ("",)


class Sleeve:
    """The kind of design, with a request: what is to stand on which page."""

    name = "sleeve"
    objective = "layout_faults"

    def __init__(
        self,
        title: str,
        palette: Palette,
        profile: np.ndarray,
        *,
        artist: str = "",
        emblem: tuple[str, int] = ("", 1),
        page: str = "sleeve",
        font: Font | None = None,
        wishes: Wishes = Wishes(),
        look: int | None = None,
    ) -> None:
        """`emblem` is the data of an SVG path in a square of so many units.

        `look` keeps a search to one of twelve looks, so that proposals are unlike each other: tone
        of the paper, size of the emblem, title above or below. None: all of them are open.

        `profile` (P, 2) is that of `musegen.art.cover.profile`. Raises UsageError: no such page, an
        empty title, or a font that lacks letters.
        """
        if page not in PAGES:
            raise UsageError(f"page '{page}': there are {', '.join(PAGES)}")
        if not title.strip():
            raise UsageError("the title is empty; give one with --title")
        self.title, self.artist, self.palette = title.strip(), artist.strip(), palette
        self.page, self.wishes, self.profile = PAGES[page], wishes, profile
        self.emblem_path, self.emblem_units = emblem
        self.font = font if font is not None else Font()
        if lacking := self.font.missing(title + artist):
            raise UsageError(
                f"the font {self.font.path.name} lacks {lacking!r}; name another: --font"
            )
        self.bounds = self._bounds(look)
        self.start: np.ndarray | None = None
        self._short_mm = min(self.page.width_mm, self.page.height_mm)
        self._margin_mm = wishes.margin_share * self._short_mm
        self._measured: dict[str, Line] = {}
        words = self.title.split()
        self._broken = [broken_into(words, count) for count in (1, 2, 3)]
        self._papers = self._tones()

    @staticmethod
    def _bounds(look: int | None) -> np.ndarray:
        """(13, 2)."""
        at = {name: (low, high) for name, low, high in NUMBERS}
        if look is not None:
            low, high = at["emblem_side"]
            third = (high - low) / 3
            size, tone = (2, 1, 0)[look % 3], look % 4
            at["emblem_side"] = (low + size * third, low + (size + 1) * third)
            at["tone"] = (float(tone), tone + 0.99)
            at["title_y"] = (0.55, 1.0) if look % 2 == 0 else (0.0, 0.45)
        return np.array(list(at.values()))

    def _tones(self) -> list[tuple[str, str]]:
        """(paper, ink) of each tone: the palette's colours, with the ink that stands out more."""
        own = self.palette
        papers = (own.paper, own.third, own.second, own.text)
        inks = (own.text, own.paper, own.first)
        return [(paper, max(inks, key=lambda ink: contrast(ink, paper))) for paper in papers]

    def _line(self, text: str) -> Line:
        """A line of size 1,000: all of its measures grow with the size."""
        if text not in self._measured:
            self._measured[text] = self.font.line(text, 1000.0)
        return self._measured[text]

    def _block(self, lines: tuple[str, ...], size_mm: float, x: float, y: float) -> Text:
        """Lines at shares of the room that they leave within the margins."""
        drawn, scale = [self._line(line) for line in lines], size_mm / 1000
        wide = scale * max(line.width for line in drawn)
        first = scale * drawn[0].ascent
        tall = first + scale * drawn[-1].descent + LEADING * (len(lines) - 1) * size_mm
        left, top = self._place(wide, tall, x, y)
        anchor = 0.0 if x < 1 / 3 else 0.5 if x < 2 / 3 else 1.0
        return Text(lines, size_mm, Box(left, top, wide, tall), first, anchor)

    def _place(self, wide: float, tall: float, x: float, y: float) -> tuple[float, float]:
        margin = INSET * self._margin_mm
        return (
            margin + x * (self.page.width_mm - 2 * margin - wide),
            margin + y * (self.page.height_mm - 2 * margin - tall),
        )

    def decode(self, numbers: np.ndarray) -> Layout:
        """(13,) -> a layout."""
        at = dict(zip((name for name, _, _ in NUMBERS), numbers.tolist(), strict=True))
        short = self._short_mm
        side = at["emblem_side"] * short
        left, top = self._place(side, side, at["emblem_x"], at["emblem_y"])
        tall = at["strip_height"] * short
        wide = self.page.width_mm - 2 * INSET * self._margin_mm
        strip_left, strip_top = self._place(wide, tall, 0.0, at["strip_y"])
        lines = self._broken[int(at["title_lines"]) - 1]
        title = self._block(lines, at["title_size"] * short, at["title_x"], at["title_y"])
        artist = None
        if self.artist:
            size = at["artist_size"] * short
            artist = self._block((self.artist,), size, at["artist_x"], at["artist_y"])
        paper, ink = self._papers[int(at["tone"])]
        others = [self.palette.first, self.palette.second, self.palette.third, self.palette.paper]
        accent = max(others[:2] + others[3:], key=lambda one: contrast(one, paper))
        quiet = max(others[1:3] + others[3:], key=lambda one: min(contrast(one, paper), 2.0))
        return Layout(
            page=self.page,
            emblem=Box(left, top, side, side),
            strip=Box(strip_left, strip_top, wide, tall),
            title=title,
            artist=artist,
            paper=paper,
            ink=ink,
            accent=accent,
            quiet=quiet,
        )

    # --- What is good about a layout -----------------------------------------------------------

    def evaluate(self, made: Layout, fine: bool = False) -> Evaluation:
        """By boxes, or `fine`, by the pixels of the page (which needs resvg-py)."""
        if fine:
            from musegen.design.sleeve_pixels import seen_constraints

            constraints = seen_constraints(self, made)
        else:
            constraints = self._constraints(made)
        return Evaluation(self._faults(made), constraints, self._features(made))

    def _constraints(self, made: Layout) -> tuple[Constraint, ...]:
        short, wishes = self._short_mm, self.wishes
        gap = wishes.gap_share * short
        found = [
            Constraint("text_contrast", contrast(made.ink, made.paper), wishes.contrast, 1.0, True)
        ]
        for name, text in (("title", made.title), ("artist", made.artist)):
            if text is not None:
                size = text.size_mm / POINT_MM
                found.append(
                    Constraint(f"{name}_pt", size, wishes.smallest_pt, wishes.smallest_pt, True)
                )
        for name, box in made.parts().items():
            inside = min(
                box.left_mm,
                box.top_mm,
                self.page.width_mm - box.right_mm,
                self.page.height_mm - box.bottom_mm,
            )
            margin = self._margin_mm
            found.append(Constraint(f"{name}_margin_mm", inside, margin, 0.05 * short, True))
        for (name, box), (other_name, other) in combinations(made.parts().items(), 2):
            distance = box.gap_mm(other)
            found.append(Constraint(f"{name}_to_{other_name}_mm", distance, gap, 0.1 * short, True))
        return tuple(found)

    def _faults(self, made: Layout) -> float:
        """The sum of four faults, 0 for none."""
        page, short = self.page, self._short_mm
        parts = made.parts()
        # Balance: the weighted middle of what is printed, from the page's middle.
        weights = {"emblem": 1.0, "strip": 0.5, "title": 1.2, "artist": 0.8}
        masses = np.array([box.area_mm2 * weights[name] for name, box in parts.items()])
        middles = np.array([box.centre_mm for box in parts.values()])
        middle = masses @ middles / masses.sum()
        off = middle - (page.width_mm / 2, page.height_mm / 2)
        imbalance = float(np.hypot(*off)) / short
        # Alignment: two parts share an edge or an axis; lines have the edge they are flush with.
        misses = []
        for one, other in combinations(self._edges(made), 2):
            apart = [abs(one[kind] - other[kind]) for kind in one.keys() & other.keys()]
            misses.append(min(1.0, 8 * min(apart, default=short) / short))
        misaligned = float(np.mean(misses))
        # White: what is printed covers about two fifths of the page.
        covered = sum(box.area_mm2 for box in parts.values()) / (page.width_mm * page.height_mm)
        crowded = abs(covered - 0.4) / 0.4
        # Order: the title is three to five times as large as the artist's name, and near to it.
        order = 0.0
        if made.artist is not None:
            ratio = made.title.size_mm / made.artist.size_mm
            order = max(0.0, 1 - ratio / 3) + max(0.0, 1 - 5 / ratio)
            away = max(0.0, made.title.box.gap_mm(made.artist.box)) / short
            order += 0.5 * min(1.0, 3 * max(0.0, away - self.wishes.gap_share))
        # A title is read from afar: half a page wide at least.
        order += max(0.0, 0.55 - made.title.box.width_mm / page.width_mm)
        return imbalance + 0.6 * misaligned + 0.5 * crowded + order

    def _edges(self, made: Layout) -> list[dict[str, float]]:
        """Where each part but the strip, which is as wide as the page, can be aligned."""
        found = []
        for name, box in made.parts().items():
            if name == "strip":
                continue
            own = {"left": box.left_mm, "middle": box.centre_mm[0], "right": box.right_mm}
            text = {"title": made.title, "artist": made.artist}.get(name)
            if text is not None and len(text.lines) > 1:
                flush = ("left", "middle", "right")[round(2 * text.anchor)]
                own = {flush: own[flush]}
            found.append(own)
        return found

    def _features(self, made: Layout) -> dict[str, float]:
        """What a designer may like or not, -1 to 1."""
        short, page = self._short_mm, self.page
        covered = sum(box.area_mm2 for box in made.parts().values())
        title, emblem = made.title, made.emblem
        return {
            "emblem_large": 2 * (emblem.width_mm / short - 0.25) / 0.55 - 1,
            "emblem_low": 2 * emblem.centre_mm[1] / page.height_mm - 1,
            "title_large": 2 * (title.size_mm / short - 0.03) / 0.14 - 1,
            "title_low": 2 * title.box.centre_mm[1] / page.height_mm - 1,
            "flush": 2 * abs(title.anchor - 0.5) * 2 - 1,
            "lines": float(len(title.lines) - 2),
            "white": 1 - 2 * min(1.0, covered / (page.width_mm * page.height_mm)),
            "dark": 1 - 2 * (contrast(made.paper, "#000000") - 1) / 20,
            "strip_tall": 2 * (made.strip.height_mm / short - 0.02) / 0.18 - 1,
        }

    # --- Files -----------------------------------------------------------------------------------

    def export(self, made: Layout, facts: Mapping[str, Any]) -> dict[str, bytes]:
        """`.svg`, `.png` (300 dots an inch, trimmed) and `.pdf` (with bleed and trim box)."""
        from musegen.design.sleeve_files import files

        return files(self, made, facts)
