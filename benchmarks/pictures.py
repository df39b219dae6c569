"""Families of image models at one budget: FD-small with floors, precision, recall, copies, speed.

    python benchmarks/pictures.py --data SET --minutes 5 --features glyph-features --out FOLDER

SET is a folder of `musegen.data.image_set` (`musegen image train` makes one in DIR/data). Each
family is trained for so many minutes of a core on the one trainer, at its registered settings, and
drawn from; `--only` names some; with `--out` models stay there, and a contact sheet of each.
Without `--data`, a few steps on drawn shapes, and a feature net of a few (no figures to keep).
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench import arguments, report

from musegen import pictures
from musegen.image_model import ImageModel
from musegen.picture_files import contact_sheet, png_bytes
from musegen.picture_report import FEATURES, evaluate

FAMILIES: dict[str, tuple[str, list[str], dict[str, Any]]] = {
    "flow matching": ("diffusion", [], {"steps": 5}),
    "ddpm, v, cosine": (
        "diffusion",
        ["model.process=ddpm", "model.prediction=v"],
        {"steps": 9},
    ),
    "ddpm, eps, linear": (
        "diffusion",
        ["model.process=ddpm", "model.prediction=eps", "model.schedule=linear"],
        {"steps": 9},
    ),
    "gan, nonsaturating": ("gan", ["model.loss=nonsaturating"], {}),
    "gan, wgan": ("gan", ["model.loss=wgan"], {}),
    "gan, wgan_gp": ("gan", ["model.loss=wgan_gp"], {}),
    "gan, relativistic": ("gan", ["model.loss=relativistic"], {}),
    "image_vae": ("image_vae", [], {}),
}
"""By name: the family, its settings, and what its requests ask. Nine evaluations of the network in
both kinds of diffusion."""


def drawn_shapes(folder: Path) -> Path:
    """A small set of circles and squares."""
    from PIL import Image, ImageDraw

    rng = np.random.default_rng(0)
    for number in range(120):
        kind = ("round", "square")[number % 2]
        image = Image.new("L", (16, 16), 255)
        size, left, top = rng.integers(4, 10), *rng.integers(0, 7, 2)
        box = [int(left), int(top), int(left + size), int(top + size)]
        pen = ImageDraw.Draw(image)
        (pen.ellipse if kind == "round" else pen.rectangle)(box, fill=0)
        path = folder / kind / f"one-{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    return pictures.open_images(folder, folder / "set", size=16).folder


def main() -> int:
    """Trains, draws, measures."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--minutes", type=float, default=5.0, help="of training, each family")
    parser.add_argument("--features", default=FEATURES)
    parser.add_argument("--num", type=int, default=496, help="pictures that are measured")
    parser.add_argument("--only", nargs="+", default=list(FAMILIES), choices=FAMILIES)
    parser.add_argument("--out", type=Path, default=None, help="where models and sheets stay")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        out = asked.out or Path(temporary) / "models"
        data, features, steps, num = asked.data, asked.features, None, asked.num
        if data is None or asked.quick:
            steps, num = 4, 32
        if data is None:
            data = drawn_shapes(Path(temporary) / "shapes")
            features = Path(temporary) / "features"
            small = {"max_steps": 4, "overrides": ["model.width=8", "data.batch_size=8"]}
            pictures.train(data, features, family="image_features", **small)
        for name in asked.only:
            family, settings, request = FAMILIES[name]
            folder = out / name.replace(", ", "_").replace(" ", "_")
            if not (folder / "config.toml").exists():
                pictures.train(
                    data,
                    folder,
                    family=family,
                    overrides=[*settings, "training.validate_every=200"],
                    max_steps=steps,
                    max_minutes=None if steps else asked.minutes,
                    seed=1,
                )
            model = ImageModel.from_pretrained(folder, "cpu")
            found = evaluate(data, model, num=num, features=features, **request)
            made, held = found["made"], found["held out"]
            rows.append(
                {
                    "family": name,
                    "parameters": sum(p.numel() for p in model.network.parameters()),
                    "FD-small": round(found["fd_small"]["made"], 2),
                    "precision": round(made["precision"], 3),
                    "recall": round(made["recall"], 3),
                    "density": round(made["density"], 3),
                    "coverage": round(made["coverage"], 3),
                    "copies": round(made["copies"], 3),
                    "style": round(made["style_accuracy"], 3),
                    "a second": round(found["pictures_per_second"] or 0.0, 1),
                    "bits a dim": round(found["validation"].get("bits_per_dim", float("nan")), 3),
                }
            )
            print(rows[-1], flush=True)
            if asked.out is not None:
                requests = [model.request(style=style, **request) for style in model.styles]
                sheet = contact_sheet(list(model.sample(requests * 4)), len(model.styles))
                (out / f"{folder.name}.png").write_bytes(png_bytes(sheet, {}, 3))
    floors = {name: round(value, 3) for name, value in found["fd_small"].items() if name != "made"}
    print(f"floors of FD-small: {floors}; held out: {held}")
    best = min(row["FD-small"] for row in rows)
    ratios = {"4.5 over the best FD-small": 4.5 / max(best, 1e-9)}
    goals = {"4.5 over the best FD-small": 0.0 if steps else 1.0}
    return 0 if report("pictures", rows, ratios, goals) else 1


if __name__ == "__main__":
    sys.exit(main())
