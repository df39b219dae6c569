"""A trained image model, ready: pictures from words, styles, noise and other pictures.

```
model = ImageModel.from_pretrained("icons")
pictures = model.sample([model.request(style="outlined", words=["music"])] * 6, random_seed=7)
```
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from importlib import import_module
from typing import Any

import numpy as np

from musegen import assets
from musegen.config import nearest
from musegen.errors import CheckpointError, UsageError
from musegen.models.registry import GENERATORS
from musegen.training.folder import read_checkpoint, read_config

__all__ = ["ImageModel"]

BATCH = 16
"""Pictures side by side: always so many, for sums of floats depend on it."""


class ImageModel:
    """An image model that was loaded once."""

    def __init__(
        self, network: Any, family: str, ids: Mapping[str, Any], folder: str, weights: str
    ) -> None:
        """`ids` is what `tokenizer.json` says; `weights` the sha256 of the weights' file."""
        self.network, self.family, self.folder, self.weights = network, family, folder, weights
        self.size: int = int(ids["size"])
        self.styles: tuple[str, ...] = tuple(ids["styles"])
        self.words: tuple[str, ...] = tuple(ids["words"])

    @classmethod
    def from_pretrained(
        cls, name_or_folder: str | os.PathLike[str] = "icons", device: str = "auto"
    ) -> ImageModel:
        """Loads an installed model by name, or a folder that `train` wrote.

        Raises:
            CheckpointError: there is none, it is damaged, or draws no pictures.
            DeviceError: the device is not there.
        """
        from musegen.training.checkpoint import load_model
        from musegen.training.device import resolve_device

        folder = assets.weights_path(name_or_folder)
        checkpoint = read_checkpoint(folder)
        read_config(checkpoint, GENERATORS)  # says what is wrong with a family or setting
        kind = GENERATORS[checkpoint.family]
        if kind.writes != "images":
            raise CheckpointError(
                f"{folder} holds a {checkpoint.family}, which writes {kind.writes} and not images: "
                "name an image model (`musegen image train` makes one)"
            )
        network = load_model(folder, GENERATORS, resolve_device(device))[0]
        try:
            return cls(
                network,
                checkpoint.family,
                checkpoint.tokenizer,
                str(folder),
                checkpoint.weights_hash,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{folder}/tokenizer.json says no styles and words") from error

    # --- Requests ------------------------------------------------------------------------------

    def style_id(self, style: str) -> int:
        """Its number; 0 for none. Raises UsageError with the nearest."""
        if not style:
            return 0
        if style not in self.styles:
            raise UsageError(f"style '{style}': {_near(style, self.styles)}")
        return 1 + self.styles.index(style)

    def word_ids(self, words: Sequence[str]) -> tuple[int, ...]:
        """Their numbers. Raises UsageError for a word outside the vocabulary, with the nearest."""
        found = []
        for word in words:
            plain = word.strip().lower()
            if plain not in self.words:
                raise UsageError(
                    f"word '{plain}' is none of the model's; {_near(plain, self.words)}"
                )
            found.append(1 + self.words.index(plain))
        return tuple(found)

    def request(self, *, style: str = "", words: Sequence[str] = (), **more: Any) -> Any:
        """One picture that is asked for, as the model's family takes it.

        Args:
            style: a name of `styles`, or none.
            words: of `words`.
            more: what the family knows besides: `guidance`, `steps`, `start`, `strength`, `mask`,
                `noise`, ...; what is None is left out.

        Raises:
            UsageError: an unknown style or word, or what this family cannot be asked.
        """
        module, _, name = GENERATORS[self.family].request.partition(":")
        kind = getattr(import_module(module), name)
        known = {item.name for item in fields(kind)}
        given = {key: value for key, value in more.items() if value is not None}
        for key in given:
            if key not in known:
                raise UsageError(f"a {self.family} cannot be asked for {key}")
        return kind(style=self.style_id(style), words=self.word_ids(words), **given)

    # --- Pictures ------------------------------------------------------------------------------

    def sample(
        self,
        requests: Sequence[Any],
        *,
        random_seed: int = 0,
        first_sample: int = 0,
        on_progress: Callable[[float, float | None, str], None] | None = None,
    ) -> np.ndarray:
        """Pictures (N, S, S) uint8, 255 for white; Ctrl-C keeps those that are finished.

        The same seed draws the same picture whatever else is asked for beside it.

        Raises:
            UsageError: requests that the family refuses.
            KeyboardInterrupt: before the first was finished.
        """
        from musegen.sampling.draw import Draw
        from musegen.sampling.engines.torch import one_thread
        from musegen.sampling.sampler import sample

        made: list[np.ndarray] = []
        total = len(requests)
        draw = Draw(random_seed)
        with one_thread():
            for first in range(0, len(requests), BATCH):
                batch = list(requests[first : first + BATCH])
                count = len(batch)
                batch += [batch[-1]] * (BATCH - count)
                got = sample(
                    self.network, batch, draw.shifted(first_sample + first), batch_size=BATCH
                )
                if got.interrupted:
                    if not made:
                        raise KeyboardInterrupt
                    break
                made += got.results[:count]
                if on_progress is not None:
                    on_progress(len(made), total, f"{len(made)} of {total} pictures")
        greys = np.stack(made)[:, 0]
        return np.clip(np.rint((greys + 1) * 127.5), 0, 255).astype(np.uint8)


def _near(name: str, known: Sequence[str]) -> str:
    """A hint: the nearest, or all of a few, or some of many."""
    hint = nearest(name, known)
    if len(known) <= 12 or hint.startswith("did you mean"):
        return hint
    return f"it knows {', '.join(known[:8])}, ... (`musegen models show` lists all)"
