"""Batches of pictures.

A batch is a dict of numpy arrays (B batch, S pixels of a side, W words):

| key | shape | what |
| --- | --- | --- |
| images | (B, 1, S, S) float32 | from -1, black, to 1, white |
| style | (B,) int64 | 1.. of the set's styles; 0 is not told |
| words | (B, W) int64 | 1.. of the set's words; 0 is none |

`batch(index)` depends on the seed and the index alone, as for music (batches.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from musegen.data.image_set import ImageSet
from musegen.errors import ConfigError, DataError, UsageError

__all__ = ["ImageBatches", "ImageChanges", "ValidImages", "as_floats"]

UNTOLD, STYLE_UNTOLD, WORD_UNTOLD = 0.15, 0.15, 0.3
"""Shares of the pictures told nothing, of the others not told their style, of words not told: so
that each condition is optional, and guidance is possible (Ho & Salimans 2022)."""


@dataclass(frozen=True)
class ImageChanges:
    """What may be done to a picture in training and keeps what it is; all off at first."""

    flip: bool = False
    """Mirror it, left for right."""
    turn: bool = False
    """Turn it by quarters."""
    shift: int = 0
    """Move it by up to so many pixels; what comes in is white."""
    zoom: float = 0.0
    """Cut out a part of up to this share less of a side, as large as the whole again."""

    def __post_init__(self) -> None:
        """Raises ConfigError."""
        if not 0 <= self.shift <= 64 or not 0 <= self.zoom <= 0.5:
            raise ConfigError(
                f"shift = {self.shift}, zoom = {self.zoom}: 0 to 64 pixels, and 0 to 0.5"
            )

    def of(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A picture (S, S) as it may be changed."""
        size = len(image)
        if self.flip and rng.random() < 0.5:
            image = image[:, ::-1]
        if self.turn:
            image = np.rot90(image, int(rng.integers(4)))
        if self.zoom:
            part = max(1, round(size * (1 - rng.random() * self.zoom)))
            top, left = rng.integers(0, size - part + 1, 2)
            chosen = (np.arange(size) * part) // size
            image = image[top + chosen][:, left + chosen]
        if self.shift:
            down, right = rng.integers(-self.shift, self.shift + 1, 2)
            framed = np.pad(image, self.shift, constant_values=255)
            top, left = self.shift - down, self.shift - right
            image = framed[top : top + size, left : left + size]
        return image


def as_floats(images: np.ndarray) -> np.ndarray:
    """Greys (..., S, S) uint8 -> (..., 1, S, S) float32 from -1 to 1."""
    return (images.astype(np.float32) / 127.5 - 1.0)[..., None, :, :]


class ImageBatches:
    """An endless stream of training batches."""

    def __init__(
        self,
        images: ImageSet,
        batch_size: int,
        *,
        seed: int = 0,
        changes: ImageChanges = ImageChanges(),
        rank: int = 0,
        world: int = 1,
    ) -> None:
        """`batch_size` counts the pictures of all processes, as in `TrainBatches`."""
        if batch_size < 1 or batch_size % world or not 0 <= rank < world:
            raise UsageError(f"{batch_size} pictures cannot be shared by {world} processes")
        if not images.counts.get("train"):
            raise DataError(f"{images.folder} has no training pictures")
        self.images, self.batch_size, self.seed, self.changes = images, batch_size, seed, changes
        self.rank, self.world = rank, world
        self.length = images.size

    def batch(self, index: int) -> dict[str, np.ndarray]:
        """Batch `index` (0, 1, 2, ...): the pictures of this process."""
        pictures, styles, words = (
            self.images.array("train", kind) for kind in ("", "style", "words")
        )
        count, local = len(pictures), self.batch_size // self.world
        chosen, told, shown = [], [], []
        for row in range(local):
            number = index * self.batch_size + self.rank * local + row
            rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, number])))
            one = int(rng.integers(count))
            chosen.append(self.changes.of(np.asarray(pictures[one]), rng))
            style, own = int(styles[one]), np.array(words[one])
            if rng.random() < UNTOLD:
                style, own = 0, np.zeros_like(own)
            if rng.random() < STYLE_UNTOLD:
                style = 0
            own[rng.random(len(own)) < WORD_UNTOLD] = 0
            told.append(style)
            shown.append(own)
        return {
            "images": as_floats(np.stack(chosen)),
            "style": np.array(told, dtype=np.int64),
            "words": np.stack(shown),
        }


class ValidImages:
    """The same batches each time: held-out pictures with all that is known of them.

    They are shuffled once: a set lies style after style, and a batch of one style would be no
    sample of the set, nor would the first batches.
    """

    def __init__(
        self, images: ImageSet, batch_size: int, *, max_batches: int = 8, split: str = "valid"
    ) -> None:
        """Raises DataError where nothing is held out."""
        if not images.counts.get(split):
            raise DataError(
                f"{images.folder} holds out no {split} pictures: more pictures are needed"
            )
        self.images, self.batch_size, self.split = images, batch_size, split
        self.max_batches = max_batches

    def batches(self) -> Iterator[dict[str, np.ndarray]]:
        """The batches in the same order."""
        arrays = [self.images.array(self.split, kind) for kind in ("", "style", "words")]
        order = np.random.default_rng(0).permutation(len(arrays[0]))
        starts = range(0, len(order), self.batch_size)
        for start in starts[: self.max_batches]:
            chosen = order[start : start + self.batch_size]
            pictures, style, words = (np.array(array[chosen]) for array in arrays)
            yield {"images": as_floats(pictures), "style": style, "words": words}
