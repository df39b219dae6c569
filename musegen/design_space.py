"""Latent spaces of designs, on the trainer and the sampler of the music.

```
train(table, "bars-latent", max_minutes=2)
found = search(design, space=LatentSpace.from_pretrained("bars-latent", design))
```
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from musegen.assets import weights_path
from musegen.config import from_dict
from musegen.errors import CheckpointError, UsageError
from musegen.models.registry import GENERATORS, family_named

__all__ = ["LatentSpace", "train"]

OnProgress = Callable[[float, float | None, str], None]

FAMILY = "design_vae"


def train(
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    size: str = "small",
    overrides: Iterable[str] = (),
    max_steps: int | None = None,
    max_minutes: float | None = None,
    resume: bool = False,
    device: str = "auto",
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Trains an autoencoder on a table of designs (`musegen.data.design_batches.write_table`).

    Args:
        data: the table's folder.
        out: the checkpoint's folder.
        size: `tiny`, `small` or `base`.
        overrides, max_steps, max_minutes, resume, device, seed: as in `musegen.api.train`.
        on_progress: called as `on_progress(done, total, text)`.

    Returns:
        A summary, as `musegen.api.train` does.
    """
    from musegen.data.design_batches import DesignBatches, DesignTable, HeldDesigns
    from musegen.fitting import Prepared, fitted
    from musegen.training.card import design_card
    from musegen.training.config import TrainerConfig
    from musegen.training.distributed import Processes, joined
    from musegen.training.folder import check_out
    from musegen.training.initial import initial
    from musegen.training.run import DesignBatchConfig, RunConfig

    out = Path(out)

    def prepared(processes: Processes) -> Prepared:
        check_out(out, resume)
        kind, table = family_named(FAMILY), DesignTable.open(data)
        shape = {"numbers": table.numbers.shape[1], "conditions": table.conditions.shape[1]}
        training = {**kind.training, "seed": seed, "steps": max_steps or 0}
        config = RunConfig(
            model=from_dict(kind.config, {**kind.preset(size), **shape}),
            training=TrainerConfig(**training, minutes=max_minutes or 0.0),
            data=DesignBatchConfig(),
        )
        config, network = initial(config, overrides, FAMILY, GENERATORS, None)
        own = config.data
        ranks = {"rank": processes.rank, "world": processes.size}
        return Prepared(
            FAMILY,
            network,
            config,
            DesignBatches(table, own.batch_size, seed=seed, **ranks),
            HeldDesigns(table, own.batch_size, max_batches=own.validation_batches),
            ids=table.to_dict(),
            name=table.kind,
            settings={"batch_size": own.batch_size, "data": table.digest[:16]},
            card=lambda name, summary: design_card(name, table, summary),
        )

    with joined(device, False) as processes:
        return fitted(
            lambda: prepared(processes), out, processes, resume=resume, on_progress=on_progress
        )


class LatentSpace:
    """A `Space` of designs (musegen/design/base.py): points of a trained autoencoder's latent."""

    bounded, step = False, 0.7

    def __init__(
        self,
        network: Any,
        ids: Mapping[str, Any],
        bounds: np.ndarray,
        conditions: np.ndarray,
        folder: str,
    ) -> None:
        """`ids` is what `tokenizer.json` says; `conditions` (C,) what the designs are to answer."""
        self.network, self.folder = network, folder
        self.size: int = network.config.latent
        self.start = np.zeros(self.size)
        self.low, self.high = np.asarray(bounds, dtype=np.float64).T
        self.middle, self.spread = (np.array(row) for row in ids["numbers"])
        middle, spread = (np.array(row) for row in ids["conditions"])
        self.conditions = (np.asarray(conditions, dtype=np.float64) - middle) / spread
        if len(self.low) != network.config.numbers:
            raise UsageError(
                f"{folder} makes designs of {network.config.numbers} numbers, and these have "
                f"{len(self.low)}"
            )

    @classmethod
    def from_pretrained(
        cls, name_or_folder: str | os.PathLike[str], design: Any, conditions: Iterable[float] = ()
    ) -> LatentSpace:
        """Loads what `train` wrote, for a design with a request.

        Raises:
            CheckpointError: there is none, or it is of another family.
            UsageError: it was trained on another kind of design.
        """
        from musegen.training.checkpoint import load_model

        folder = weights_path(name_or_folder)
        network, checkpoint = load_model(folder, GENERATORS)
        if checkpoint.family != FAMILY:
            raise CheckpointError(f"{folder} holds a {checkpoint.family}, not a latent of designs")
        ids = checkpoint.tokenizer
        if ids.get("design") != design.name:
            raise UsageError(f"{folder} was trained on {ids.get('design')}, not on {design.name}")
        return cls(network, ids, design.bounds, np.array([*conditions]), str(folder))

    def numbers(self, points: np.ndarray) -> np.ndarray:
        """(P, Z) -> (P, N), within the bounds; drawn by the one sampler."""
        from musegen.models.design_vae import DesignRequest
        from musegen.sampling.draw import Draw
        from musegen.sampling.engines.torch import one_thread
        from musegen.sampling.sampler import sample

        requests = [DesignRequest(self.conditions, np.asarray(one, np.float64)) for one in points]
        with one_thread():
            got = sample(self.network, requests, Draw(0), batch_size=max(1, len(requests)))
        if got.interrupted:
            raise KeyboardInterrupt
        made = np.stack(got.results).astype(np.float64) * self.spread + self.middle
        return np.clip(made, self.low, self.high)
