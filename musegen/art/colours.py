"""Colours: OKLCH to sRGB, contrast, and the palette of a piece."""

from __future__ import annotations

import math
from dataclasses import dataclass

from musegen.art.mood import Mood, PaletteRule

__all__ = ["LEAST_CONTRAST", "Palette", "contrast", "oklch", "palette_of"]

LEAST_CONTRAST = 4.5
"""Of text against what lies behind it (WCAG 2.2, criterion 1.4.3)."""


def oklch(lightness: float, chroma: float, hue: float) -> str:
    """A colour as `#rrggbb`; chroma is taken back as far as sRGB cannot show it.

    Matrices: Björn Ottosson, "A perceptual color space for image processing", 2020.
    """
    for step in range(21):
        rgb = _linear(lightness, chroma * (1 - step / 20), hue)
        if all(-1e-3 <= one <= 1 + 1e-3 for one in rgb):
            break
    return "#" + "".join(f"{round(255 * _encoded(min(max(one, 0), 1))):02x}" for one in rgb)


def _linear(lightness: float, chroma: float, hue: float) -> tuple[float, float, float]:
    a, b = (chroma * f(math.radians(hue)) for f in (math.cos, math.sin))
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    return (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )


def _encoded(value: float) -> float:
    return 12.92 * value if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055


def _luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """From 1 to 21 (WCAG 2.2)."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


GOOD_CONTRAST = 8.0
"""What palettes aim at."""


@dataclass(frozen=True)
class Palette:
    """The colours of a cover."""

    paper: str
    """Behind everything, and behind the text."""
    text: str
    """At least `LEAST_CONTRAST` against the paper."""
    first: str
    """Of the emblem: at least 3 against the paper (WCAG 2.2, criterion 1.4.11)."""
    second: str
    third: str


def palette_of(mood: Mood, rule: PaletteRule) -> Palette:
    """The colours that the rule gives to a piece."""
    minor = mood.minor > 0.5
    fifths = (mood.tonic * 7) % 12
    hue = rule.hue + rule.turn * fifths + (rule.minor_hue if minor else 0.0)
    pace = min(max((mood.tempo - 60) / 100, 0.0), 1.0)
    chroma = rule.chroma + pace * (rule.fast_chroma - rule.chroma)
    apart = rule.spread + min(mood.tension / 0.5, 1.0) * (rule.tense_spread - rule.spread)
    light = rule.minor_lightness if minor else rule.lightness
    dark_paper = light < 0.6
    paper = oklch(light, 0.4 * chroma, hue)
    text = _against(paper, hue, 0.02, GOOD_CONTRAST, upward=dark_paper)
    first = _against(paper, hue + apart, max(chroma, 0.09) * 1.3, 3.0, upward=dark_paper)
    second = oklch(light + (0.16 if dark_paper else -0.16), chroma, hue)
    third = oklch(light + (0.09 if dark_paper else -0.09), chroma, hue + apart / 2)
    return Palette(paper, text, first, second, third)


def _against(paper: str, hue: float, chroma: float, least: float, upward: bool) -> str:
    """The colour nearest to the middle that stands out from the paper by `least`."""
    steps = range(50, 101) if upward else range(60, -1, -1)
    for step in steps:
        colour = oklch(step / 100, chroma, hue)
        if contrast(colour, paper) >= least + 0.3:
            return colour
    return "#ffffff" if upward else "#000000"
