"""The style of one picture on the content of another.

```
made = stylize("emblem.png", "woodcut.jpg", strength=0.8)
made[0].save("styled.png")
```
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from musegen.assets import weights_path
from musegen.errors import CheckpointError, UsageError
from musegen.models.registry import GENERATORS
from musegen.pictures import Picture, as_picture, facts_of
from musegen.provenance import file_sha256

__all__ = ["MODEL", "SIZES", "stylize"]

OnProgress = Callable[[float, float | None, str], None]

MODEL = "glyph-styles"
"""The stylizer that comes with musegen."""

SIZES = (16, 512)
"""Pixels of a side, least and most; a multiple of `SIZE_STEP`."""

SIZE_STEP = 16


def stylize(
    content: str | os.PathLike[str],
    style: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str] = MODEL,
    method: str = "gatys",
    strength: float = 0.8,
    size: int = 64,
    steps: int | None = None,
    num: int = 1,
    random_seed: int = 0,
    on_progress: OnProgress | None = None,
) -> list[Picture]:
    """Draws the content of one picture in the style of another, in greys.

    Args:
        content, style: PNG or JPEG files; what is not square is cut to its middle.
        model: a stylizer, by name or folder.
        method: `gatys`, which moves the pixels themselves, or `adain`, one pass through a network.
        strength: from 0, the content, to 1, all style.
        size: of a side, in pixels; a multiple of 16. The work grows with its square.
        steps: of `gatys`, 10 iterations each (10).
        num: how many; they begin with other noise.
        random_seed: the same seed gives the same bytes.
        on_progress: called as `on_progress(done, total, text)`.

    Raises:
        UsageError: an unknown method, or what is out of its range.
        DataError, CheckpointError: a picture, or the model, cannot be read.
    """
    if not SIZES[0] <= size <= SIZES[1] or size % SIZE_STEP:
        raise UsageError(f"size {size}: {SIZES[0]} to {SIZES[1]}, and a multiple of {SIZE_STEP}")
    if num < 1:
        raise UsageError(f"num {num}: ask for 1 picture or more")
    if steps is not None and method != "gatys":
        raise UsageError(f"steps {steps}: only gatys has steps")
    network, checkpoint = _loaded(model)
    from musegen.models.stylizer import StyleRequest
    from musegen.sampling.draw import Draw
    from musegen.sampling.engines.torch import one_thread
    from musegen.sampling.sampler import sample

    request = StyleRequest(
        content=as_picture(content, size),
        style=as_picture(style, size),
        strength=strength,
        method=method,  # type: ignore[arg-type]  # begin() says what there is
        **({} if steps is None else {"steps": steps}),
    )
    total = num * (request.steps if method == "gatys" else 1)
    made: list[np.ndarray] = []
    done = 0

    def stepped(_: int) -> None:
        nonlocal done
        done += 1
        if on_progress is not None:
            on_progress(done, total, f"picture {len(made) + 1} of {num}")

    draw = Draw(random_seed)
    with one_thread():
        for number in range(num):
            got = sample(network, [request], draw.shifted(number), on_step=stepped)
            if got.interrupted:
                if not made:
                    raise KeyboardInterrupt
                break
            made += got.results
    options: dict[str, Any] = {
        "content": Path(content).name,
        "content_sha256": file_sha256(Path(content)),
    }
    options |= {"style": Path(style).name, "style_sha256": file_sha256(Path(style))}
    options |= {"method": method, "strength": strength, "size": size, "steps": steps}
    facts = facts_of(checkpoint.folder, checkpoint.weights_hash, "stylize", random_seed, options)
    return [
        Picture(
            np.clip(np.rint((one[0] + 1) * 127.5), 0, 255).astype(np.uint8), facts | {"sample": k}
        )
        for k, one in enumerate(made)
    ]


def _loaded(model: str | os.PathLike[str]) -> tuple[Any, Any]:
    """The network and what its folder says. Raises CheckpointError for another family."""
    from musegen.training.checkpoint import load_model
    from musegen.training.device import resolve_device

    folder = weights_path(model)
    network, checkpoint = load_model(folder, GENERATORS, resolve_device("cpu"))
    writes = GENERATORS[checkpoint.family].writes
    if writes != "transfers":
        raise CheckpointError(
            f"{folder} holds a {checkpoint.family}, which writes {writes}: name a stylizer "
            "(`musegen image train --family stylizer` makes one)"
        )
    return network, checkpoint
