"""Small sets of pictures, and the smallest image model, for the tests of images."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from musegen.data.image_cards import ImageCard, ImageSplit, Package
from musegen.data.image_set import ImageSet, build_images
from musegen.provenance import file_sha256

SHAPES = {
    "circle": '<circle cx="12" cy="12" r="{r}"/>',
    "square": '<rect x="{a}" y="{a}" width="{r}" height="{r}"/>',
    "bar": '<rect x="2" y="{a}" width="20" height="{b}"/>',
    "post": '<rect x="{a}" y="2" width="{b}" height="20"/>',
}


def svgs(style: str) -> dict[str, str]:
    """Drawings by name: four shapes in eight sizes, filled or as lines."""
    look = 'fill="none" stroke="black" stroke-width="2"' if style == "line" else 'fill="black"'
    found = {}
    for shape, form in SHAPES.items():
        for size in range(8):
            numbers = {"r": 3 + size, "a": 2 + size, "b": 2 + size}
            inner = form.format(**numbers)
            found[f"{shape}-{'abcdefgh'[size]}x"] = (
                '<svg xmlns="http://www.w3.org/2000/svg" width="24" height="24" '
                f'viewBox="0 0 24 24"><g {look}>{inner}</g></svg>'
            )
    return found


def archive(folder: Path, name: str = "shapes-1.0.0.tgz") -> Path:
    """An npm package of drawings in two styles, with words."""
    files = {
        f"icons/{style}/{glyph}.svg": svg
        for style in ("line", "full")
        for glyph, svg in svgs(style).items()
    }
    files["icons/full/brand-mark.svg"] = svgs("full")["bar-ax"]
    words = {glyph: {"category": "Shapes", "tags": ["round"]} for glyph in svgs("line")}
    files["tags.json"] = json.dumps({g: w for g, w in words.items() if g.startswith("circle")})
    with tarfile.open(folder / name, "w:gz") as tar:
        for path, text in files.items():
            info = tarfile.TarInfo(f"package/{path}")
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
    return folder / name


def card(path: Path, **more) -> ImageCard:
    """The card of such an archive."""
    package = Package(
        file=path.name,
        sha256=file_sha256(path),
        source="made here",
        licence="none",
        styles={"icons/line": "line", "icons/full": "full"},
        words="tags.json",
    )
    given = {"exclude": ("*/brand-*",), "common_words": 4, "split": ImageSplit(0.2, 0.1)} | more
    return ImageCard("shapes", "Shapes", "Made here.", "none", True, packages=(package,), **given)


def shapes(folder: Path, size: int = 8) -> ImageSet:
    """A built set."""
    return build_images(card(archive(folder)), folder / "set", folder, size)


def photo(path: Path, seed: int, size: tuple[int, int] = (20, 12), mode: str = "RGB") -> Path:
    """A picture file of noise with a gradient."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).convert(mode).save(path)
    return path
