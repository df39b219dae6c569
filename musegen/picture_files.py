"""Pictures as files, which say how they were made.

A PNG holds an XMP packet with IPTC's DigitalSourceType, which is `trainedAlgorithmicMedia` where a
trained model made it, else `algorithmicMedia` (a bar, rings on a sleeve), and a text
`musegen` with a JSON object: version, model and the hash of its weights, random seed, number of the
sample, options. An SVG has both in its `<metadata>`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np

from musegen.errors import OutputError, UsageError

__all__ = [
    "contact_sheet",
    "origin_of_picture",
    "pixels_of",
    "png_bytes",
    "source_type",
    "svg_metadata",
    "xmp",
]

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
UNTRAINED_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/algorithmicMedia"

_XMP = (
    '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
    'rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
    'xmlns:dc="http://purl.org/dc/elements/1.1/" '
    'Iptc4xmpExt:DigitalSourceType="%s"><dc:description><rdf:Alt>'
    '<rdf:li xml:lang="x-default">%s</rdf:li></rdf:Alt></dc:description></rdf:Description>'
    '</rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
)


def xmp(facts: Mapping[str, Any]) -> str:
    """The XMP packet of a picture; its facts name the `model`, if one made it."""
    return _XMP % (source_type(facts), escape(_text(facts)))


def source_type(facts: Mapping[str, Any]) -> str:
    """IPTC's DigitalSourceType of what these facts are of."""
    return SOURCE_TYPE if facts.get("model") else UNTRAINED_TYPE


def _text(facts: Mapping[str, Any]) -> str:
    return json.dumps(facts, ensure_ascii=True, sort_keys=True, allow_nan=False)


def svg_metadata(facts: Mapping[str, Any]) -> str:
    """The `<metadata>` element of an SVG."""
    packet = xmp(facts)
    inner = packet[packet.index("<x:xmpmeta") : packet.index("<?xpacket end")]
    return f"<metadata>{inner}</metadata>"


def _pillow() -> Any:
    try:
        from PIL import Image, PngImagePlugin
    except ImportError:
        raise OutputError('pictures need Pillow: pip install "musegen[image]"') from None
    return Image, PngImagePlugin


def png_bytes(picture: np.ndarray, facts: Mapping[str, Any], scale: int = 1) -> bytes:
    """A picture (S, S) or (S, S, 3) uint8 as PNG; the same picture and facts, the same bytes.

    `scale` makes each pixel a square of so many.
    """
    image_of, png = _pillow()
    info = png.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", xmp(facts))
    info.add_text("musegen", _text(facts))
    enlarged = np.repeat(np.repeat(picture, scale, axis=0), scale, axis=1)
    file = io.BytesIO()
    image_of.fromarray(enlarged).save(file, "PNG", pnginfo=info, optimize=False, compress_level=6)
    return file.getvalue()


def pixels_of(png: bytes) -> np.ndarray:
    """The pixels of a PNG file, (S, S, 3) uint8."""
    image_of, _ = _pillow()
    with image_of.open(io.BytesIO(png)) as opened:
        return np.asarray(opened.convert("RGB"))


def origin_of_picture(path: Path) -> dict[str, Any]:
    """What a PNG of ours says of how it was made. Raises UsageError for another file."""
    image_of, _ = _pillow()
    try:
        with image_of.open(path) as opened:
            return dict(json.loads(opened.text["musegen"]))
    except (OSError, AttributeError, KeyError, ValueError, TypeError):
        raise UsageError(
            f"{path}: it does not say how it was made; musegen did not draw it"
        ) from None


def contact_sheet(pictures: Sequence[np.ndarray], columns: int = 0, gap: int = 2) -> np.ndarray:
    """Pictures (S, S) or (S, S, 3) side by side in rows, as one picture."""
    if not len(pictures):
        raise UsageError("no pictures: give one at least")
    columns = columns or max(1, round(len(pictures) ** 0.5))
    rows = -(-len(pictures) // columns)
    high, wide = pictures[0].shape[:2]
    shape = (rows * (high + gap) + gap, columns * (wide + gap) + gap, *pictures[0].shape[2:])
    sheet = np.full(shape, 200, dtype=np.uint8)
    for number, picture in enumerate(pictures):
        top, left = divmod(number, columns)
        top, left = gap + top * (high + gap), gap + left * (wide + gap)
        sheet[top : top + high, left : left + wide] = picture
    return sheet
