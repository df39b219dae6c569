"""A model of pictures tuned on twenty of an artist's: the whole of it, or low-rank adapters.

    python benchmarks/finetune.py --data SET --steps 300

The artist is made: pictures of the held-out split of SET (musegen.data.image_set), white on a black
disc, a style that the model does not know. Twenty of them train, others are what drawn pictures are
compared with: FD-small before and after, with the floor (two halves of what is compared with), and
the share of copies of the twenty. `best step` is where the held-out error was lowest, which is what
is kept; `last error` is what training on would have given. Without `--data`, a few steps on shapes.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench import arguments, report
from pictures import drawn_shapes

from musegen import pictures
from musegen.assets import weights_path
from musegen.data.image_batches import as_floats
from musegen.data.image_set import ImageSet
from musegen.evaluation.image_metrics import copies, frechet
from musegen.image_model import ImageModel
from musegen.models.image_features import described
from musegen.models.registry import GENERATORS
from musegen.picture_files import contact_sheet, png_bytes
from musegen.picture_report import FEATURES
from musegen.training.checkpoint import load_model

TWENTY = 20


def by_the_artist(images: np.ndarray) -> np.ndarray:
    """(N, S, S) uint8, white on a black disc."""
    side = images.shape[-1]
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    smaller = np.full_like(images, 255)
    edge = side // 8
    index = np.linspace(0, side - 1, side - 2 * edge).round().astype(int)
    smaller[:, edge:-edge, edge:-edge] = images[:, index][:, :, index]
    return np.where(x**2 + y**2 <= (side / 2) ** 2, 255 - smaller, 255).astype(np.uint8)


def main() -> int:
    """Tunes both ways, draws, measures."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--num", type=int, default=256, help="pictures that are drawn")
    parser.add_argument("--out", type=Path, default=None, help="where models and sheets stay")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        out = asked.out or Path(temporary) / "out"
        data, base, features, steps, num = asked.data, "icons", FEATURES, asked.steps, asked.num
        if data is None:
            data, base, features = drawn_shapes(out / "shapes"), out / "base", out / "features"
            few: dict[str, Any] = {"max_steps": 4, "overrides": ["model.width=8"]}
            pictures.train(data, base, **few)
            pictures.train(data, features, family="image_features", **few)
        if asked.data is None or asked.quick:
            steps, num = 4, 32
        images = ImageSet.open(data)
        split = "test" if images.counts.get("test", 0) > 100 else "train"
        theirs = by_the_artist(np.array(images.array(split)))
        order = np.random.default_rng(0).permutation(len(theirs))
        twenty, others = theirs[order[:TWENTY]], theirs[order[TWENTY:]]
        folder = out / "artist"
        folder.mkdir(parents=True, exist_ok=True)
        for number, one in enumerate(twenty):
            (folder / f"picture-{number}.png").write_bytes(png_bytes(one, {}))
        eyes: Any = load_model(weights_path(features), GENERATORS)[0]

        def seen(given: np.ndarray) -> np.ndarray:
            return described(eyes, torch.from_numpy(as_floats(given)))[0].numpy()

        half = len(others) // 2
        wanted, floor = seen(others), frechet(seen(others[:half]), seen(others[half:]))

        def row(name: str, where: str | Path, told: dict[str, Any]) -> None:
            model = ImageModel.from_pretrained(where, "cpu")
            made = np.asarray(model.sample([model.request()] * num, random_seed=1))
            found = {"model": name, "FD-small": round(frechet(seen(made), wanted), 1)}
            rows.append(found | {"copies": round(copies(made, twenty)[1], 3)} | told)
            print(rows[-1], flush=True)
            sheet = contact_sheet(list(made[:32]), 8)
            (out / f"{name.replace(' ', '-')}.png").write_bytes(png_bytes(sheet, {}, 3))

        row("as it was", base, {})
        for name, lora in (("whole", 0), ("adapters of rank 8", 8)):
            where = out / name.replace(" ", "-")
            settings = [f"training.validate_every={max(1, steps // 20)}", "data.batch_size=16"]
            settings += [
                "training.learning_rate=" + ("1e-3" if lora else "3e-4"),
                "training.ema=0.98",
            ]
            told = pictures.train(
                folder, where, init=base, lora=lora, pixels=images.size, max_steps=steps,
                overrides=settings, seed=1,
            )  # fmt: skip
            log = [json.loads(line) for line in (where / "log.jsonl").read_text().splitlines()]
            errors = [line["validation"]["error"] for line in log if "validation" in line]
            size = sum(file.stat().st_size for file in where.glob("adapter*.safetensors"))
            size = size or (where / "model.safetensors").stat().st_size
            row(
                name,
                where,
                {
                    "first error": round(errors[0], 4),
                    "best error": round(min(errors), 4),
                    "best step": told["best_step"],
                    "last error": round(errors[-1], 4),
                    "MB": round(size / 1e6, 2),
                },
            )
        sheet = contact_sheet(list(twenty), 10)
        (out / "twenty.png").write_bytes(png_bytes(sheet, {}, 3))
    print(f"floor of FD-small, halves of {len(others)} of the artist's others: {floor:.1f}")
    before, whole, adapters = (one["FD-small"] for one in rows)
    ratios = {"before over whole": before / whole, "before over adapters": before / adapters}
    goals = dict.fromkeys(ratios, 0.0 if steps < 10 else 1.0)
    return 0 if report("finetune", rows, ratios, goals) else 1


if __name__ == "__main__":
    sys.exit(main())
