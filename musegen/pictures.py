"""Pictures: the image models on the trainer and the sampler of the music.

```
train("icons", "my_model", source="archives/")
pictures = sample(style="outlined", words=["night", "train"], num=6)
```
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from musegen.config import from_dict, to_dict
from musegen.errors import UsageError
from musegen.models.registry import GENERATORS, family_named

__all__ = ["open_images", "train"]

OnProgress = Callable[[float, float | None, str], None]


def open_images(
    data: str | os.PathLike[str],
    out: Path,
    *,
    source: str | os.PathLike[str] | None = None,
    size: int = 32,
    on_progress: OnProgress | None = None,
) -> Any:
    """An `ImageSet`: a folder of one, or one made in `out` of a card or of a folder of pictures."""
    from musegen.data.image_cards import load_image_card
    from musegen.data.image_set import ImageSet, build_images

    folder = Path(data)
    if (folder / "index.json").is_file():
        return ImageSet.open(folder)
    if (out / "index.json").is_file():
        return ImageSet.open(out)
    if folder.is_dir():
        return build_images(load_image_card("image_folder"), out, folder, size, on_progress)
    card = load_image_card(str(data))
    if source is None:
        raise UsageError(f"say with --source where the files of {card.name} lie: {card.get}")
    return build_images(card, out, Path(source), size, on_progress)


def train(
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    family: str = "diffusion",
    size: str = "small",
    pixels: int = 32,
    overrides: Iterable[str] = (),
    max_steps: int | None = None,
    max_minutes: float | None = None,
    init: str | os.PathLike[str] | None = None,
    resume: bool = False,
    device: str = "auto",
    seed: int = 0,
    source: str | os.PathLike[str] | None = None,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Trains an image model on a card, a folder of pictures, or a built set.

    Args:
        data: a card's name, a folder of PNG and JPEG files, or a folder of `open_images`.
        out: the checkpoint's folder.
        family: an entry of the registry that writes images.
        size: `tiny`, `small` or `base`.
        pixels: of a side, where the set is made now.
        overrides, max_steps, max_minutes, init, resume, device, seed: as in `musegen.api.train`.
        source: where a card's archives lie.
        on_progress: called as `on_progress(done, total, text)`.

    Returns:
        A summary, as `musegen.api.train` does.
    """
    from musegen.data.image_batches import ImageBatches, ImageChanges, ValidImages
    from musegen.fitting import Prepared, fitted
    from musegen.training.card import image_card
    from musegen.training.config import TrainerConfig
    from musegen.training.distributed import Processes, joined
    from musegen.training.folder import check_out
    from musegen.training.initial import initial
    from musegen.training.run import ImageBatchConfig, RunConfig

    out = Path(out)

    def prepared(processes: Processes) -> Prepared:
        kind = family_named(family)
        if kind.writes != "images":
            raise UsageError(f"a {family} writes {kind.writes}: train it with `musegen train`")
        check_out(out, resume)
        images = open_images(
            data, out / "data", source=source, size=pixels, on_progress=on_progress
        )
        shape = {"size": images.size, "styles": len(images.styles), "words": len(images.words)}
        training = {**kind.training, "seed": seed, "steps": max_steps or 0}
        config = RunConfig(
            model=from_dict(kind.config, {**kind.preset(size), **shape}),
            training=TrainerConfig(**training, minutes=max_minutes or 0.0),
            data=ImageBatchConfig(),
        )
        config, network = initial(config, overrides, family, GENERATORS, init)
        own = config.data
        changes = ImageChanges(own.flip, own.turn, own.shift, own.zoom)
        ranks = {"rank": processes.rank, "world": processes.size}
        return Prepared(
            family,
            network,
            config,
            ImageBatches(images, own.batch_size, seed=seed, changes=changes, **ranks),
            ValidImages(images, own.batch_size, max_batches=own.validation_batches),
            ids=images.to_dict(),
            name=images.name,
            settings={
                "batch_size": own.batch_size,
                "changes": to_dict(changes),
                "data": images.digest[:16],
            },
            card=lambda name, summary: image_card(name, images, summary),
        )

    with joined(device, False) as processes:
        run = processes.first(lambda: prepared(processes))
        return fitted(run, out, processes, resume=resume, on_progress=on_progress)
