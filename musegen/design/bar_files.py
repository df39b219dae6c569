"""A bar as files: a drawing with dimensions, its profile for a machine, its sound, its numbers."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from musegen.art.lettering import Font
from musegen.design.modal import Voice, struck
from musegen.music.audio import wav_bytes
from musegen.picture_files import svg_metadata

if TYPE_CHECKING:
    from musegen.design.bar import Bar, BarShape

__all__ = ["files", "node_places_m", "voice_of"]

RATE = 44_100

STRIKE = 0.5
"""Where a bar is struck, as a share of its length."""


def node_places_m(bar: Bar, made: BarShape) -> tuple[float, float]:
    """Where the first mode stands still, from one end: there the cord goes."""
    modes = made.modes(120, 1)
    shape, places = modes.shapes[0], modes.places_m
    crossings = np.flatnonzero(np.diff(np.sign(shape)))
    found = []
    for k in (crossings[0], crossings[-1]):
        share = shape[k] / (shape[k] - shape[k + 1])
        found.append(float(places[k] + share * (places[k + 1] - places[k])))
    return found[0], found[1]


def voice_of(bar: Bar, made: BarShape) -> Voice:
    """What it sounds like when it is struck near its middle."""
    modes = made.modes(120, 3)
    place = np.searchsorted(modes.places_m, (STRIKE - 0.02) * made.length_m)
    gains = np.abs(modes.shapes[:, place])
    gains = np.maximum(gains / gains[0], 0.02)
    frequencies = modes.frequencies_hz.tolist()
    return Voice(
        tuple(frequencies),
        tuple(bar.material.decay_s(one) for one in frequencies),
        tuple(gains.tolist()),
    )


def files(bar: Bar, made: BarShape, facts: Mapping[str, Any]) -> dict[str, bytes]:
    """By suffix; the same bar and facts give the same bytes."""
    stroke = struck(voice_of(bar, made), RATE)
    whole = np.rint(32000 * stroke / np.abs(stroke).max()).astype(np.int16)
    found = {
        ".svg": _svg(bar, made, facts).encode(),
        ".wav": wav_bytes(np.stack((whole, whole), 1), 0, RATE),
        ".json": (json.dumps(_told(bar, made, facts), indent=1, sort_keys=True) + "\n").encode(),
    }
    drawing = _dxf(bar, made)
    return found | ({".dxf": drawing} if drawing is not None else {})


def _told(bar: Bar, made: BarShape, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Everything a maker, or `musegen play-on`, needs to know."""
    from musegen.design.bar import cents, note_text

    coarse, fine = bar.partials(made), bar.partials(made, fine=True)
    voice = voice_of(bar, made)
    first, last = node_places_m(bar, made)
    places = np.linspace(0, 1, 41)
    return {
        "note": note_text(bar.note),
        "pitch": bar.note,
        "wanted_hz": np.round(bar.wanted_hz, 4).tolist(),
        "partials_hz": {"60 elements": coarse.round(4).tolist(), "240": fine.round(4).tolist()},
        "errors_cents": [round(cents(a, b), 3) for a, b in zip(fine, bar.wanted_hz, strict=True)],
        "length_mm": round(1000 * made.length_m, 3),
        "width_mm": round(1000 * made.width_m, 3),
        "mass_g": round(1000 * made.mass_kg, 2),
        "cord_mm": [round(1000 * first, 2), round(1000 * last, 2)],
        "material": bar.material.title,
        "profile_mm": [
            [round(1000 * place * made.length_m / 2, 3), round(1000 * thick, 3)]
            for place, thick in zip(places.tolist(), made.thickness_m(places).tolist(), strict=True)
        ],
        "voice": {
            "partials_hz": list(voice.partials_hz),
            "decays_s": list(voice.decays_s),
            "gains": list(voice.gains),
        },
        "made": dict(facts),
    }


def outline_mm(made: BarShape, places: int = 161) -> np.ndarray:
    """(P, 2): the side of the bar, the flat top at 0 and the arch below, y downward."""
    half = np.linspace(0, 1, places // 2 + 1)
    depth = 1000 * made.thickness_m(half)
    x = 500 * made.length_m * half
    under = np.concatenate(
        (np.stack((x, depth), 1), np.stack((1000 * made.length_m - x, depth), 1)[-2::-1])
    )
    top = np.array([[1000 * made.length_m, 0.0], [0.0, 0.0]])
    return np.concatenate((under, top))


def _svg(bar: Bar, made: BarShape, facts: Mapping[str, Any]) -> str:
    """Side and top with dimensions in millimetres, and a table of the partials."""
    from musegen.design.bar import cents, note_text

    long, wide = 1000 * made.length_m, 1000 * made.width_m
    end, thin = 1000 * made.end_m, 1000 * made.thinnest_m
    margin = max(24.0, 0.1 * long)
    unit = margin / 6  # of the type
    plan = end + 3 * unit
    high = plan + wide + 9 * unit
    side = " ".join(f"{x:.2f},{y:.2f}" for x, y in outline_mm(made).tolist())
    first, last = (1000 * one for one in node_places_m(bar, made))
    fine = bar.partials(made, fine=True)
    lines = [
        f"{note_text(bar.note)}, {bar.material.title}, {1000 * made.mass_kg:.0f} g",
        *(
            f"partial {k}: {found:.2f} Hz (wanted {wanted:.2f}, {cents(found, wanted):+.1f} cents)"
            for k, (found, wanted) in enumerate(zip(fine, bar.wanted_hz, strict=True), 1)
        ),
    ]
    pen = f'stroke="#000000" stroke-width="{unit / 14:.3f}" fill="none"'
    parts = [
        f'<path d="M{side}Z" stroke="#000000" stroke-width="{unit / 14:.3f}" fill="#dddddd"/>',
        f'<rect x="0" y="{plan:.2f}" width="{long:.2f}" height="{wide:.2f}" {pen}/>',
    ]
    for x in (first, last):
        dash = f'stroke-dasharray="{unit / 3:.2f}"'
        parts.append(f'<path d="M{x:.2f},{plan:.2f} V{plan + wide:.2f}" {dash} {pen}/>')

    font = Font()

    def text(x: float, y: float, words: str, anchor: float = 0.5) -> str:
        line = font.line(words, unit)
        return (
            f'<path transform="translate({x - anchor * line.width:.2f},{y:.2f})" d="{line.path}"/>'
        )

    below = plan + wide + 1.5 * unit
    parts += [
        text(long / 2, -unit / 2, f"{long:.1f}"),
        text(-unit / 2, end / 2 + unit / 3, f"{end:.1f}", 1.0),
        text(long / 2, thin + 1.3 * unit, f"{1000 * made.thickness_m(np.array([1.0]))[0]:.1f}"),
        text(-unit / 2, plan + wide / 2, f"{wide:.0f}", 1.0),
        text(first, below, f"{first:.1f}"),
        text(last, below, f"{last:.1f}"),
        *(text(0, below + (k + 1.6) * 1.3 * unit, line, 0.0) for k, line in enumerate(lines)),
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{-margin:.2f} {-2 * unit:.2f} '
        f'{long + 2 * margin:.2f} {high + 2 * unit:.2f}" width="{long + 2 * margin:.2f}mm" '
        f'height="{high + 2 * unit:.2f}mm">{svg_metadata(facts)}'
        f'<rect x="{-margin:.2f}" y="{-2 * unit:.2f}" width="100%" height="100%" fill="#ffffff"/>'
        f"{''.join(parts)}</svg>\n"
    )


def _dxf(bar: Bar, made: BarShape) -> bytes | None:
    """The side as a closed line in millimetres, with the cord's places; None without ezdxf."""
    try:
        import ezdxf
        from ezdxf import units
    except ImportError:
        return None
    before = ezdxf.options.write_fixed_meta_data_for_testing
    ezdxf.options.write_fixed_meta_data_for_testing = True  # else times and random names are in it
    try:
        document = ezdxf.new("R2010", units=units.MM)
        space = document.modelspace()
        points = [(x, -y) for x, y in outline_mm(made).tolist()]
        space.add_lwpolyline(points, close=True)
        for place in node_places_m(bar, made):
            space.add_line((1000 * place, 0), (1000 * place, -1000 * made.end_m))
        text = io.StringIO()
        document.write(text)
    finally:
        ezdxf.options.write_fixed_meta_data_for_testing = before
    return text.getvalue().encode()
