"""Pictures: the image models on the trainer and the sampler of the music.

```
train("icons", "my_model", source="archives/")
pictures = sample(style="outlined", words=["night", "train"], num=6)
```
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from musegen import __version__
from musegen.assets import weights_path
from musegen.atomic import write_whole
from musegen.config import from_dict, to_dict
from musegen.errors import UsageError
from musegen.image_model import ImageModel
from musegen.models.registry import GENERATORS, Family, family_named
from musegen.picture_files import png_bytes
from musegen.provenance import file_sha256
from musegen.training.folder import read_checkpoint

__all__ = [
    "Picture",
    "as_picture",
    "edit",
    "facts_of",
    "interpolate",
    "open_images",
    "sample",
    "train",
]

OnProgress = Callable[[float, float | None, str], None]


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture, and how it was made."""

    pixels: np.ndarray
    """(S, S) uint8, 255 for white."""
    facts: Mapping[str, Any] = field(default_factory=dict)

    def save(self, path: str | os.PathLike[str], scale: int = 1) -> Path:
        """Writes a PNG that says how it was made; `scale` makes each pixel a square of so many."""
        write_whole(Path(path), png_bytes(self.pixels, self.facts, scale))
        return Path(path)


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
    lora: int = 0,
    features: str | os.PathLike[str] | None = None,
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
        lora: rank of adapters, which then are all that is trained of the model named by `init`.
        features: for a stylizer, the model that describes pictures to it; glyph-features.
        source: where a card's archives lie.
        on_progress: called as `on_progress(done, total, text)`.

    Returns:
        A summary, as `musegen.api.train` does.
    """
    from musegen.data.image_batches import ImageBatches, ImageChanges, ValidImages
    from musegen.fitting import Prepared, adapted, fitted
    from musegen.training.card import image_card
    from musegen.training.config import TrainerConfig
    from musegen.training.distributed import Processes, joined
    from musegen.training.folder import check_out
    from musegen.training.initial import initial
    from musegen.training.run import ImageBatchConfig, RunConfig

    out = Path(out)
    notes: list[str] = []

    def prepared(processes: Processes) -> Prepared:
        kind = family_named(family)
        if kind.batches != "images":
            raise UsageError(f"a {family} writes {kind.writes}: train it with `musegen train`")
        check_out(out, resume)
        images = open_images(
            data, out / "data", source=source, size=pixels, on_progress=on_progress
        )
        if init is not None:
            images, unknown = _spoken(images, init)
            notes.extend(unknown)
        shape = {"size": images.size, "styles": len(images.styles), "words": len(images.words)}
        eyes = _eyes(kind, features)
        if eyes is not None:
            shape |= {"width": eyes.config.width}
        training = {**kind.training, "seed": seed, "steps": max_steps or 0}
        config = RunConfig(
            model=from_dict(kind.config, {**kind.preset(size), **shape}),
            training=TrainerConfig(**training, minutes=max_minutes or 0.0),
            data=ImageBatchConfig(),
        )
        config, network = initial(config, overrides, family, GENERATORS, init)
        if eyes is not None and init is None:
            network.see_with(eyes)  # type: ignore[operator]  # of families that name features
        network = adapted(network, lora, init)
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
            base=str(init) if lora else "",
        )

    with joined(device, False) as processes:
        told = fitted(
            lambda: prepared(processes), out, processes, resume=resume, on_progress=on_progress
        )
    left_out = open_images(data, out / "data").report.get("skipped", ())
    return {**told, "notes": [*told["notes"], *notes, *(f"left out: {one}" for one in left_out)]}


def _spoken(images: Any, init: str | os.PathLike[str]) -> tuple[Any, list[str]]:
    """An `ImageSet` in the styles and words of the model that training begins with, and what it
    has not.
    """
    known = read_checkpoint(weights_path(init)).tokenizer
    styles, words = known.get("styles", ()), known.get("words", ())
    told = []
    for kind, own, theirs in (("styles", images.styles, styles), ("words", images.words, words)):
        if lacking := [name for name in own if name not in theirs]:
            some = ", ".join(lacking[:5]) + (", ..." if len(lacking) > 5 else "")
            told.append(f"{kind} that {init} does not know are not told of the pictures: {some}")
    return images.spoken(styles, words), told


def _eyes(kind: Family, features: str | os.PathLike[str] | None) -> Any:
    """The model that a family sees with, None for most. Raises UsageError for another kind."""
    if not kind.features:
        if features is not None:
            raise UsageError(f"a {kind.name} sees with no other model: leave out --features")
        return None
    from musegen.training.checkpoint import load_model

    eyes, checkpoint = load_model(weights_path(features or kind.features), GENERATORS)
    if GENERATORS[checkpoint.family].writes != "features":
        raise UsageError(f"{features} is a {checkpoint.family}: name a model of features")
    return eyes


# --- Drawing --------------------------------------------------------------------------------------


def sample(
    *,
    model: str | os.PathLike[str] | ImageModel = "icons",
    style: str = "",
    words: Sequence[str] = (),
    num: int = 1,
    guidance: float | None = None,
    steps: int | None = None,
    like: str | os.PathLike[str] | None = None,
    strength: float | None = None,
    random_seed: int = 0,
    first_sample: int = 0,
    on_progress: OnProgress | None = None,
) -> list[Picture]:
    """Draws pictures.

    Args:
        model: a name of `musegen models`, a folder, or a loaded `ImageModel`.
        style, words: what is asked for; what the model knows is in `ImageModel.styles`, `.words`.
        num: how many.
        guidance: how loudly style and words are told; 1 as trained.
        steps: of the solver; more are slower and finer.
        like: a PNG or JPEG to go on from, and `strength`, above 0 to 1, how far from it (0.6).
        random_seed, first_sample: as in `musegen.compose`.
        on_progress: called as `on_progress(done, total, text)`.

    Raises:
        UsageError: an unknown style or word, or what the model's family cannot be asked.
        CheckpointError, DataError: the model, or the picture, cannot be read.
    """
    used = _loaded(model)
    if num < 1:
        raise UsageError(f"num {num}: ask for 1 picture or more")
    if strength is not None and like is None:
        raise UsageError(f"strength {strength:g}: there is no picture to go on from; say --like")
    options = {"style": style, "words": list(words), "guidance": guidance, "steps": steps}
    start = None
    if like is not None:
        start, strength = as_picture(like, used.size), 0.6 if strength is None else strength
        options |= {"like": Path(like).name, "like_sha256": file_sha256(Path(like))}
    options |= {"strength": strength}
    request = used.request(
        style=style, words=words, guidance=guidance, steps=steps, start=start, strength=strength
    )
    made = used.sample(
        [request] * num,
        random_seed=random_seed,
        first_sample=first_sample,
        on_progress=on_progress,
    )
    facts = facts_of(used.folder, used.weights, "sample", random_seed, options)
    return [Picture(one, facts | {"sample": first_sample + k}) for k, one in enumerate(made)]


def interpolate(
    *,
    model: str | os.PathLike[str] | ImageModel = "icons",
    style: str = "",
    words: Sequence[str] = (),
    steps: int = 8,
    guidance: float | None = None,
    random_seed: int = 0,
    to_seed: int | None = None,
    on_progress: OnProgress | None = None,
) -> list[Picture]:
    """The way from the picture of one random seed to that of another, the next by default.

    The noise that each begins with goes along the great arc (`musegen.bar_model.slerp`): what lies
    between is as long as noise is. Raises as `sample`.
    """
    from musegen.bar_model import slerp
    from musegen.sampling.draw import Draw

    used = _loaded(model)
    if not 2 <= steps <= 256:
        raise UsageError(f"{steps} steps: 2 to 256; the two ends are 2 already")
    other = random_seed + 1 if to_seed is None else to_seed
    name, shape = used.network.noise_of()
    ends = [Draw(seed).noise(shape, [0])[0] for seed in (random_seed, other)]
    flat = [end.reshape(-1) for end in ends]
    requests = [
        used.request(
            style=style,
            words=words,
            guidance=guidance,
            **{name: slerp(flat[0], flat[1], k / (steps - 1)).reshape(shape)},
        )
        for k in range(steps)
    ]
    made = used.sample(requests, random_seed=random_seed, on_progress=on_progress)
    options = {"style": style, "words": list(words), "guidance": guidance, "steps": steps}
    facts = facts_of(
        used.folder, used.weights, "interpolate", random_seed, options | {"to_seed": other}
    )
    return [Picture(one, facts | {"sample": k}) for k, one in enumerate(made)]


def edit(
    picture: str | os.PathLike[str],
    box: tuple[int, int, int, int],
    *,
    model: str | os.PathLike[str] | ImageModel = "icons",
    style: str = "",
    words: Sequence[str] = (),
    num: int = 1,
    guidance: float | None = None,
    steps: int | None = None,
    random_seed: int = 0,
    on_progress: OnProgress | None = None,
) -> list[Picture]:
    """Draws a part of a picture anew; the rest stays as it is at the model's size.

    Args:
        picture: a PNG or JPEG.
        box: left, top, right, bottom of the part, in pixels of the model's size.
        model, style, words, num, guidance, steps, random_seed, on_progress: as in `sample`.

    Raises as `sample`; UsageError for a box outside the picture.
    """
    used = _loaded(model)
    left, top, right, bottom = box
    if not (0 <= left < right <= used.size and 0 <= top < bottom <= used.size):
        raise UsageError(f"box {box}: left, top, right, bottom within 0 to {used.size}")
    mask = np.zeros((1, used.size, used.size), dtype=bool)
    mask[:, top:bottom, left:right] = True
    start = as_picture(picture, used.size)
    request = used.request(
        style=style, words=words, guidance=guidance, steps=steps, start=start, mask=mask
    )
    made = used.sample([request] * num, random_seed=random_seed, on_progress=on_progress)
    kept = np.clip(np.rint((start[0] + 1) * 127.5), 0, 255).astype(np.uint8)
    options: dict[str, Any] = {"style": style, "words": list(words), "guidance": guidance}
    options |= {"steps": steps, "box": list(box), "of": Path(picture).name}
    options |= {"of_sha256": file_sha256(Path(picture))}
    facts = facts_of(used.folder, used.weights, "edit", random_seed, options)
    return [
        Picture(np.where(mask[0], one, kept), facts | {"sample": k}) for k, one in enumerate(made)
    ]


def _loaded(model: str | os.PathLike[str] | ImageModel) -> ImageModel:
    return model if isinstance(model, ImageModel) else ImageModel.from_pretrained(model)


def as_picture(path: str | os.PathLike[str], size: int) -> np.ndarray:
    """A PNG or JPEG as models take it, (1, S, S) float32 from -1 to 1. Raises DataError."""
    from musegen.data.drawings import read_picture
    from musegen.data.image_batches import as_floats

    return as_floats(read_picture(Path(path), size))


def facts_of(
    folder: str | os.PathLike[str], weights: str, verb: str, seed: int, options: Mapping[str, Any]
) -> dict[str, Any]:
    """What a picture says of how it was made."""
    told = {name: value for name, value in options.items() if value not in (None, "", [])}
    return {
        "version": __version__,
        "verb": f"image {verb}",
        "model": Path(folder).name,
        "weights": weights,
        "random_seed": seed,
        "options": told,
    }
