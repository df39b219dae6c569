"""A score as a picture: a piano roll in SVG or PNG, for notebooks and reports."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from musegen.errors import OutputError, UsageError
from musegen.music.score import Score

# Okabe and Ito's colours, told apart also by the colour-blind, each legible on white and on black.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#7A68C2", "#8A8D00")

MAX_NOTES = 20_000
"""Notes that are drawn; a notebook grows slow with more."""
_LEGEND_WIDTH, _LINE = 160, 18

# A browser knows what sans-serif is; resvg takes it for Arial, and draws no text where that lacks.
_FONTS = "sans-serif, Arial, Helvetica, DejaVu Sans, Liberation Sans, Noto Sans, FreeSans, Segoe UI"

Stretches = Sequence[tuple[int, int, int]]
"""Stretches of tracks, each (track counted from 0, start_tick, end_tick)."""


def svg_roll(
    score: Score,
    *,
    width: int = 900,
    height: int = 260,
    title: str = "",
    stretches: Stretches = (),
) -> str:
    """The score as one `<svg>` element: time to the right, pitch upward, a colour a track.

    The same score gives the same text. `width` and `height` are pixels of the roll; the names of
    the tracks stand to its right. Beyond `MAX_NOTES` notes the rest is left out, and said so.
    `stretches` are shaded, each over the pitches of its track and in its colour: what was written
    anew, say. Raises `UsageError` for a stretch of a track that is not there.
    """
    bars = score.bars()
    end = max(1, bars[-1].end_tick if bars else 1)
    pitches = [track.notes["pitch"] for track in score.tracks if len(track)]
    low = min((int(column.min()) for column in pitches), default=60) - 1
    high = max((int(column.max()) for column in pitches), default=71) + 1
    row = height / (high - low + 1)
    title = title or score.title
    label = title or "piano roll"
    legend_rows = min(len(score.tracks), height // _LINE)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{_text(label)}"'
        f' viewBox="0 0 {width + _LEGEND_WIDTH} {height}" width="{width + _LEGEND_WIDTH}"'
        f' style="max-width:100%;height:auto" font-family="{_FONTS}" font-size="12">',
        f"<title>{_text(label)}</title>",
        f'<rect width="{width}" height="{height}" fill="#808080" fill-opacity="0.08"/>',
    ]
    # At most about a barline each 6 pixels, and a number each 40.
    every = max(1, round(len(bars) * 6 / width))
    numbered = every * max(1, -(-len(bars) * 40 // (width * every)))
    for index in range(0, len(bars), every):
        x = bars[index].start_tick * width / end
        parts.append(f'<path d="M{x:.1f} 0V{height}" stroke="#808080" stroke-opacity="0.35"/>')
        if index % numbered == 0:
            parts.append(f'<text x="{x + 3:.1f}" y="12" fill="#808080">{index + 1}</text>')
    for index, start, stop in stretches:
        if not 0 <= index < len(score.tracks):
            raise UsageError(f"no track {index} to shade; the score has {len(score.tracks)}")
        column = score.tracks[index].notes["pitch"]
        top, bottom = (int(column.max()), int(column.min())) if len(column) else (high, low)
        x, stop_x = (min(max(0, tick), end) * width / end for tick in (start, stop))
        parts.append(
            f'<rect x="{x:.1f}" y="{(high - top) * row:.1f}" width="{max(0.0, stop_x - x):.1f}"'
            f' height="{(top - bottom + 1) * row:.1f}" fill="{COLOURS[index % len(COLOURS)]}"'
            f' fill-opacity="0.16"/>'
        )
    drawn = 0
    for index, track in enumerate(score.tracks):
        notes = track.notes[: max(0, MAX_NOTES - drawn)]
        drawn += len(notes)
        parts.append(f'<g fill="{COLOURS[index % len(COLOURS)]}">')
        for start, duration, pitch, velocity in notes.tolist():
            x, length = start * width / end, max(1.0, duration * width / end - 0.4)
            y = (high - pitch) * row
            opacity = 0.45 + 0.55 * velocity / 127
            parts.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{length:.1f}" height="{row:.1f}"'
                f' fill-opacity="{opacity:.2f}"/>'
            )
        parts.append("</g>")
    for marker in score.markers:
        x = min(marker.tick, end) * width / end
        parts.append(
            f'<path d="M{x:.1f} 0V{height}" stroke="#D55E00" stroke-dasharray="4 3"/>'
            f'<text x="{x + 3:.1f}" y="{height - 4}" fill="#D55E00">{_text(marker.text)}</text>'
        )
    for index, track in enumerate(score.tracks[:legend_rows]):
        y = index * _LINE
        colour = COLOURS[index % len(COLOURS)]
        rest = len(score.tracks) - legend_rows
        more = f" (+{rest} more)" if rest and index == legend_rows - 1 else ""
        parts.append(
            f'<rect x="{width + 8}" y="{y + 4}" width="10" height="10" fill="{colour}"/>'
            f'<text x="{width + 24}" y="{y + 13}" fill="#808080">{_text(track.name)}{more}</text>'
        )
    if score.num_notes > MAX_NOTES:
        parts.append(
            f'<text x="{width - 4}" y="{height - 4}" text-anchor="end" fill="#808080">'
            f"the first {MAX_NOTES:,} of {score.num_notes:,} notes</text>"
        )
    parts.append("</svg>")
    return "".join(parts)


def roll_png(
    score: Score,
    *,
    width: int = 900,
    height: int = 260,
    title: str = "",
    stretches: Stretches = (),
    scale: float = 2.0,
) -> bytes:
    """The picture of `svg_roll` as a PNG file on white, `scale` pixels a pixel of it.

    Its text is drawn in a font of the system, so it differs a little between systems.

    Raises `OutputError` where resvg-py is not installed, or cannot draw the picture.
    """
    try:
        from resvg_py import svg_to_bytes
    except ImportError:
        raise OutputError(
            'PNG needs resvg-py, which is not installed: pip install "musegen[png]", or take SVG'
        ) from None
    svg = svg_roll(score, width=width, height=height, title=title, stretches=stretches)
    try:
        return bytes(svg_to_bytes(svg_string=svg, background="#ffffff", zoom=scale))
    except ValueError as error:
        raise OutputError(f"resvg cannot draw the roll: {error}") from None


def _text(text: str) -> str:
    """Escaped, on one line, without what XML forbids, at most 60 characters."""
    plain = "".join(char if char.isprintable() else " " for char in text)
    return escape(plain if len(plain) <= 60 else plain[:59] + "…")
