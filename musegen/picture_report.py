"""What an image model draws, measured beside held-out pictures."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from musegen.errors import CheckpointError, UsageError
from musegen.image_model import BATCH, ImageModel
from musegen.models.registry import GENERATORS

__all__ = ["evaluate", "pictures_markdown"]

OnProgress = Callable[[float, float | None, str], None]

FEATURES = "glyph-features"
"""The network that pictures are measured with; it comes with musegen."""


def evaluate(
    data: str | os.PathLike[str],
    model: str | os.PathLike[str] | ImageModel = "icons",
    *,
    num: int = 500,
    features: str | os.PathLike[str] = FEATURES,
    random_seed: int = 0,
    on_progress: OnProgress | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Draws pictures in the styles of the held-out ones, and measures both.

    Args:
        data: a folder of `musegen.data.image_set`, of the model's size.
        model: what draws.
        num: pictures that are drawn; at least 20.
        features: the network that describes them.
        random_seed: of what is drawn.
        on_progress: called as `on_progress(done, total, text)`.
        **options: of each request, as `steps` and `guidance`.

    Returns:
        `fd_small` with its floors (half of the training set against the other, held-out against
        training), `precision`, `recall`, `density`, `coverage` of the made and of the held-out
        pictures, `copies` of both, `style_accuracy` of both, `pictures_per_second`, and what the
        checkpoint's validation says.

    Raises:
        UsageError, DataError, CheckpointError: what cannot be measured.
    """
    from musegen.data.image_set import ImageSet
    from musegen.evaluation.image_metrics import copies, frechet, neighbours

    used = model if isinstance(model, ImageModel) else ImageModel.from_pretrained(model)
    images = ImageSet.open(os.fspath(data))
    if images.size != used.size or images.styles != used.styles:
        raise UsageError(
            f"{images.folder} holds pictures of {images.size} pixels in other styles than the "
            f"model's, or of another size ({used.size})"
        )
    if num < 20:
        raise UsageError(f"num {num}: 20 pictures at least")
    described = _describer(features, used.size, used.styles)
    rng = np.random.default_rng(random_seed)
    held = [
        np.concatenate([images.array(split, kind) for split in ("valid", "test")])
        for kind in ("", "style")
    ]
    training, styles = images.array("train"), images.array("train", "style")
    asked = styles[rng.integers(len(styles), size=num)] if used.styles else np.zeros(num, int)
    requests = [
        used.request(style=used.styles[style - 1] if style else "", **options)
        for style in asked.tolist()
    ]
    start = time.process_time()
    made = used.sample(requests, random_seed=random_seed, on_progress=on_progress)
    seconds = time.process_time() - start
    order = rng.permutation(len(training))
    halves = [described(np.asarray(training)[part])[0] for part in np.array_split(order, 2)]
    known = np.concatenate(halves)
    of_held, held_style = described(held[0])
    of_made, made_style = described(made)
    few = known[rng.permutation(len(known))[: 4 * num]]
    return {
        "model": os.path.basename(used.folder),
        "weights": used.weights,
        "family": used.family,
        "data": images.name,
        "num": len(made),
        "random_seed": random_seed,
        "options": options,
        "fd_small": {
            "made": frechet(known, of_made),
            "held out": frechet(known, of_held),
            "training, in halves": frechet(*halves),
        },
        "made": neighbours(few, of_made)
        | {
            "copies": copies(made, np.asarray(training))[1],
            "style_accuracy": float((made_style == asked[: len(made)]).mean()),
        },
        "held out": neighbours(few, of_held[rng.permutation(len(of_held))[:num]])
        | {
            "copies": copies(held[0], np.asarray(training))[1],
            "style_accuracy": float((held_style == held[1]).mean()),
        },
        "pictures_per_second": len(made) / seconds if len(made) % BATCH == 0 else None,
        "validation": _validation(used),
    }


def _describer(
    features: str | os.PathLike[str], size: int, styles: tuple[str, ...]
) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Pictures (N, S, S) uint8 to features (N, D) and likeliest styles (N,), from 1."""
    import torch

    from musegen.assets import weights_path
    from musegen.data.image_batches import as_floats
    from musegen.models.image_features import ImageFeatures, described
    from musegen.training.checkpoint import load_model

    network, checkpoint = load_model(weights_path(features), GENERATORS)
    if not isinstance(network, ImageFeatures):
        raise CheckpointError(f"{features} is a {checkpoint.family} and describes no pictures")
    if network.config.size != size or tuple(checkpoint.tokenizer["styles"]) != styles:
        raise CheckpointError(
            f"{features} describes pictures of {network.config.size} pixels in styles "
            f"{', '.join(checkpoint.tokenizer['styles'])}; train one on this set: "
            "musegen image train --family image_features"
        )

    def describe(pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = described(network, torch.as_tensor(as_floats(pictures)))
        return found[0].numpy(), found[1].numpy()

    return describe


def _validation(model: ImageModel) -> dict[str, float]:
    """What the checkpoint says of held-out pictures."""
    from pathlib import Path

    from musegen.config import read_toml

    told = read_toml(Path(model.folder) / "config.toml").get("training", {}).get("validation", {})
    return {name: value for name, value in told.items() if isinstance(value, float)}


def pictures_markdown(found: dict[str, Any]) -> str:
    """The report as Markdown."""
    rows = [
        f"| {name} | {found['made'][name]:.3f} | {found['held out'][name]:.3f} |"
        for name in found["made"]
    ]
    floors = found["fd_small"]
    validation = ", ".join(f"{k} {v:.4f}" for k, v in found["validation"].items())
    speed = found["pictures_per_second"]
    lines = [
        f"# {found['model']} ({found['family']}) on {found['data']}",
        "",
        f"{found['num']} pictures, random seed {found['random_seed']}, {found['options'] or ''}",
        "",
        "| FD-small, against the training set | |",
        "| --- | ---: |",
        *(f"| {name} | {value:.3f} |" for name, value in floors.items()),
        "",
        "FD-small is a Frechet distance on a small network of our own: never set it beside an FID.",
        "",
        "| | made | held out |",
        "| --- | ---: | ---: |",
        *rows,
        "",
        f"Of the checkpoint's own validation: {validation or 'nothing'}.",
        *([f"{speed:.2f} pictures a second of one core."] if speed else []),
        "",
    ]
    return "\n".join(lines)
