"""Style transfer in numbers: how much of the content is kept, how far the style has moved.

    python benchmarks/styles.py --data SET --num 32 --plots FOLDER

Pairs of held-out pictures of a set (musegen.data.image_set): the content of one, the style of one
of another style. Two distances, by the maps of the stylizer's own encoder: `content`, of the
deepest map, in variances of the content's (0: kept), and `style`, of the Gram matrices, as a share
of the style's (0: moved). The rows `as it was` and `the style's picture` are the ends: a transfer
is to lie nearer to both than they do to each other. Without `--data`, drawn shapes.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench import arguments, report
from pictures import drawn_shapes

from musegen.assets import weights_path
from musegen.data.image_batches import as_floats
from musegen.data.image_set import ImageSet
from musegen.models.registry import GENERATORS
from musegen.models.stylizer import StyleRequest, Stylizer, gram, pixel_objective
from musegen.picture_files import contact_sheet, png_bytes
from musegen.sampling.draw import Draw
from musegen.sampling.sampler import sample
from musegen.styling import MODEL
from musegen.training.checkpoint import load_model

STRENGTHS = (0.2, 0.5, 0.8, 0.95)


def pairs(images: ImageSet, num: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Held-out pictures (1, S, S), two by two, of unlike styles where there are several."""
    split = "test" if images.counts.get("test", 0) >= 2 else "train"
    pictures, styles = images.array(split), images.array(split, "style")
    rng = np.random.default_rng(0)
    found = []
    while len(found) < num:
        one, other = rng.choice(len(pictures), 2, replace=False)
        if styles[one] != styles[other] or len(set(styles.tolist())) == 1:
            found.append((as_floats(pictures[one]), as_floats(pictures[other])))
    return found


@torch.no_grad()
def distances(model: Stylizer, made: np.ndarray, content: np.ndarray, style: np.ndarray) -> Any:
    """Of content and of style; see above."""
    maps, seen, wanted = (
        model.encoder.maps(torch.from_numpy(np.ascontiguousarray(one))[None])
        for one in (made, content, style)
    )
    grams = [gram(one) for one in wanted]
    return [float(pixel_objective(maps, seen[-1], grams, share)) for share in (0.0, 1.0)]


def main() -> int:
    """Moves styles, measures, draws."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--num", type=int, default=32, help="pairs")
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--plots", type=Path, default=None, help="where a sheet goes")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    num = 3 if asked.quick or asked.data is None else asked.num
    with tempfile.TemporaryDirectory() as temporary:
        data = asked.data if asked.data is not None else drawn_shapes(Path(temporary) / "shapes")
        given = pairs(ImageSet.open(data), num)
    loaded: Any = load_model(weights_path(asked.model), GENERATORS)[0]
    rows = []

    def row(name: str, strength: float, made: list[np.ndarray], spent_s: float) -> None:
        found = [distances(loaded, one, *pair) for one, pair in zip(made, given, strict=True)]
        content, style = np.median(found, axis=0).tolist()
        told = {"method": name, "strength": strength, "content": round(content, 3)}
        rows.append(told | {"style": round(style, 3), "s a picture": round(spent_s / num, 3)})
        print(rows[-1], flush=True)

    row("as it was", 0.0, [content for content, _ in given], 0.0)
    row("the style's picture", 1.0, [style for _, style in given], 0.0)
    drawn: list[list[np.ndarray]] = [[content for content, _ in given]]
    for method in ("gatys", "adain"):
        for strength in STRENGTHS:
            requests = [
                StyleRequest(content, style, strength=strength, method=method)  # type: ignore[arg-type]
                for content, style in given
            ]
            begun_s = time.perf_counter()
            made = sample(loaded, requests, Draw(seed=1), batch_size=8).results
            row(method, strength, made, time.perf_counter() - begun_s)
            drawn.append(made)
    drawn.append([style for _, style in given])
    if asked.plots is not None:
        asked.plots.mkdir(parents=True, exist_ok=True)
        tiles = [
            np.rint((one[k][0] + 1) * 127.5).astype(np.uint8)
            for k in range(min(num, 8))
            for one in drawn
        ]
        sheet = contact_sheet(tiles, len(drawn))
        (asked.plots / "styles.png").write_bytes(png_bytes(sheet, {}, 2))
    ends, at = rows[:2], {(one["method"], one["strength"]): one for one in rows}
    ratios = {
        f"{method}: {part} of the far end against ours": ends[end][part]
        / max(at[method, 0.8][part], 1e-9)
        for method in ("gatys", "adain")
        for part, end in (("content", 1), ("style", 0))
    }
    return 0 if report("styles", rows, ratios, dict.fromkeys(ratios, 1.0)) else 1


if __name__ == "__main__":
    sys.exit(main())
