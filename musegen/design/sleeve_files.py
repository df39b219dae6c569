"""A layout as SVG, PNG and PDF; the same layout and facts give the same bytes."""

from __future__ import annotations

import datetime
import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from musegen.errors import OutputError
from musegen.picture_files import pixels_of, png_bytes, source_type, svg_metadata

if TYPE_CHECKING:
    from musegen.design.sleeve import Layout, Sleeve, Text

__all__ = ["DOTS_PER_INCH", "drawn_parts", "files", "page_svg", "rendered"]

DOTS_PER_INCH = 300.0
MOST_DOTS = 6000
"""Pixels of the longer side of a PNG: a poster of A2 has fewer than 300 an inch."""


def drawn_parts(sleeve: Sleeve, layout: Layout) -> dict[str, str]:
    """Each part of a page as SVG, in millimetres of the trimmed page, from back to front."""
    page, bleed = layout.page, layout.page.bleed_mm
    parts = {
        "paper": f'<rect x="{-bleed:g}" y="{-bleed:g}" width="{page.width_mm + 2 * bleed:g}" '
        f'height="{page.height_mm + 2 * bleed:g}" fill="{layout.paper}"/>',
        "strip": _strip(sleeve, layout),
        "emblem": _emblem(sleeve, layout),
        "title": _lettered(sleeve, layout.title, layout.ink),
    }
    if layout.artist is not None:
        parts["artist"] = _lettered(sleeve, layout.artist, layout.ink)
    return parts


def _strip(sleeve: Sleeve, layout: Layout) -> str:
    """A column a part of the piece, as high as it is full."""
    box, count = layout.strip, len(sleeve.profile)
    wide = box.width_mm / count
    columns = []
    for index, (full, _) in enumerate(sleeve.profile.tolist()):
        tall = box.height_mm * (0.08 + 0.92 * full)
        columns.append(
            f'<rect x="{box.left_mm + (index + 0.15) * wide:.2f}" '
            f'y="{box.bottom_mm - tall:.2f}" width="{0.7 * wide:.2f}" height="{tall:.2f}"/>'
        )
    return f'<g fill="{layout.quiet}">{"".join(columns)}</g>'


def _emblem(sleeve: Sleeve, layout: Layout) -> str:
    """The traced drawing, or three rings of the music where there is none."""
    box = layout.emblem
    if not sleeve.emblem_path:
        x, y = box.centre_mm
        rings = [
            f'<circle cx="{x:.2f}" cy="{y:.2f}" r="{box.width_mm * radius:.2f}"/>'
            for radius in (0.47, 0.31, 0.15)
        ]
        pen = box.width_mm * 0.06
        return (
            f'<g fill="none" stroke="{layout.accent}" stroke-width="{pen:.2f}">{"".join(rings)}</g>'
        )
    scale = box.width_mm / sleeve.emblem_units
    return (
        f'<path transform="translate({box.left_mm:.3f},{box.top_mm:.3f}) scale({scale:.5f})" '
        f'fill="{layout.accent}" fill-rule="evenodd" d="{sleeve.emblem_path}"/>'
    )


def _lettered(sleeve: Sleeve, text: Text, colour: str) -> str:
    """Lines as outlines."""
    from musegen.design.sleeve import LEADING

    lines = []
    for number, words in enumerate(text.lines):
        line = sleeve.font.line(words, text.size_mm)
        left = text.box.left_mm + text.anchor * (text.box.width_mm - line.width)
        baseline = text.box.top_mm + text.first_mm + LEADING * number * text.size_mm
        lines.append(f'<path transform="translate({left:.3f},{baseline:.3f})" d="{line.path}"/>')
    return f'<g fill="{colour}">{"".join(lines)}</g>'


def page_svg(layout: Layout, inner: str, about: str = "", bleed: bool = True) -> str:
    """A page around drawn parts; without `bleed` it ends at the trimmed edge.

    `about` goes before them: a title and metadata.
    """
    page = layout.page
    edge = page.bleed_mm if bleed else 0.0
    wide, tall = page.width_mm + 2 * edge, page.height_mm + 2 * edge
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{-edge:g} {-edge:g} {wide:g} {tall:g}" '
        f'width="{wide:g}mm" height="{tall:g}mm">{about}{inner}</svg>\n'
    )


def rendered(svg: str, width: int) -> bytes:
    """An SVG as PNG, `width` pixels wide. Raises OutputError without resvg-py."""
    try:
        from resvg_py import svg_to_bytes
    except ImportError:
        raise OutputError('PNG needs resvg-py: pip install "musegen[image]"') from None
    return bytes(svg_to_bytes(svg_string=svg, width=width, dpi=96))


def files(sleeve: Sleeve, layout: Layout, facts: Mapping[str, Any]) -> dict[str, bytes]:
    """By suffix. Raises OutputError where a library is not installed."""
    inner = "".join(drawn_parts(sleeve, layout).values())
    about = f"<title>{escape(sleeve.title)}</title>{svg_metadata(facts)}"
    svg = page_svg(layout, inner, about)
    page = layout.page
    per_mm = min(DOTS_PER_INCH / 25.4, MOST_DOTS / max(page.width_mm, page.height_mm))
    trimmed = page_svg(layout, inner, bleed=False)
    picture = pixels_of(rendered(trimmed, round(page.width_mm * per_mm)))
    return {
        ".svg": svg.encode(),
        ".png": png_bytes(picture, facts),
        ".pdf": _pdf(layout, page_svg(layout, inner), sleeve.title, facts),
    }


def _pdf(layout: Layout, svg: str, title: str, facts: Mapping[str, Any]) -> bytes:
    """A PDF of the page with its bleed, and a trim box where it is cut."""
    try:
        from fpdf import FPDF
        from fpdf.svg import SVGObject
    except ImportError:
        raise OutputError('PDF needs fpdf2: pip install "musegen[design]"') from None
    page, edge = layout.page, layout.page.bleed_mm
    wide, tall = page.width_mm + 2 * edge, page.height_mm + 2 * edge
    pdf = FPDF(unit="mm", format=(wide, tall))
    pdf.set_creation_date(datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC))
    pdf.set_title(title)
    pdf.set_creator(f"musegen {facts.get('version', '')}".strip())
    pdf.set_keywords(f"{source_type(facts)}; random seed {facts.get('random_seed', '')}")
    pdf.set_auto_page_break(False)
    pdf.set_margin(0)
    pdf.add_page()
    SVGObject(svg).draw_to_page(pdf, 0, 0)
    point = 72 / 25.4
    cut = [edge * point, edge * point, (wide - edge) * point, (tall - edge) * point]
    # Written as every attribute of a page is, though fpdf2 names no trim box of its own.
    pdf.pages[1].trim_box = f"[{' '.join(f'{one:.2f}' for one in cut)}]"  # type: ignore[attr-defined]
    file = io.BytesIO()
    pdf.output(file)
    return file.getvalue()
