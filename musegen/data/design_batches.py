"""Designs as batches: what an autoencoder of designs trains on.

A table is a folder with `index.json` (what the numbers are), `numbers.npy` (M, N) and
`conditions.npy` (M, C), float32 as they are. In batches both are centred and in spreads of the
training designs. Every tenth design is held out.

Letters: M designs, N numbers of one, C of the request that it answers.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from musegen.errors import DataError, UsageError

__all__ = ["DesignBatches", "DesignTable", "HeldDesigns", "write_table"]

HELD = 10
"""One design of so many is held out."""

FEWEST = 50


@dataclass(frozen=True, eq=False)
class DesignTable:
    """A folder that `write_table` wrote."""

    folder: Path
    kind: str
    numbers: np.ndarray
    conditions: np.ndarray
    about: Mapping[str, Any]
    """What the kind of design says of how they were made."""

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> DesignTable:
        """Raises DataError: no such folder, or a damaged one."""
        path = Path(folder)
        try:
            index = json.loads((path / "index.json").read_text("utf-8"))
            if index["format"] != 1 or index["kind"] != "designs":
                raise ValueError("it is of another kind or version")
            numbers, conditions = (
                np.load(path / f"{name}.npy", allow_pickle=False)
                for name in ("numbers", "conditions")
            )
            if not len(numbers) == len(conditions) == index["count"]:
                raise ValueError("the arrays are of other lengths")
            return cls(path, str(index["design"]), numbers, conditions, dict(index["about"]))
        except FileNotFoundError:
            raise DataError(f"{folder} holds no table of designs (no index.json)") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{folder} is damaged ({error}); make it again") from None

    @property
    def digest(self) -> str:
        """sha256 over all numbers."""
        return hashlib.sha256(self.numbers.tobytes() + self.conditions.tobytes()).hexdigest()

    def held(self) -> np.ndarray:
        """(M,) whether each is held out."""
        return np.arange(len(self.numbers)) % HELD == HELD - 1

    def scales(self) -> dict[str, list[list[float]]]:
        """Of numbers and conditions: middle and spread of the training designs."""
        kept = ~self.held()
        found = {}
        for name, array in (("numbers", self.numbers), ("conditions", self.conditions)):
            own = array[kept].astype(np.float64)
            spread = own.std(0)
            spread = np.where(spread > 1e-9, spread, 1.0)
            found[name] = [own.mean(0).tolist(), spread.tolist()]
        return found

    def to_dict(self) -> dict[str, Any]:
        """What the numbers of a model mean: for its checkpoint."""
        about = dict(self.about)
        return {"kind": "designs", "format": 1, "design": self.kind, "about": about} | self.scales()

    def scaled(self) -> tuple[np.ndarray, np.ndarray]:
        """Numbers and conditions, centred and in spreads, float32."""
        scales = self.scales()
        return tuple(  # type: ignore[return-value]  # two of them
            ((array - np.array(scales[name][0])) / np.array(scales[name][1])).astype(np.float32)
            for name, array in (("numbers", self.numbers), ("conditions", self.conditions))
        )


def write_table(
    folder: str | Path,
    kind: str,
    numbers: np.ndarray,
    conditions: np.ndarray,
    about: Mapping[str, Any],
) -> DesignTable:
    """Writes a table. Raises UsageError where the folder exists, DataError for too few designs."""
    out = Path(folder)
    if out.exists():
        raise UsageError(f"{out} exists; choose another folder, or remove it")
    if len(numbers) < FEWEST:
        raise DataError(f"{len(numbers)} designs; at least {FEWEST} are needed")
    out.parent.mkdir(parents=True, exist_ok=True)
    own = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        np.save(own / "numbers.npy", numbers.astype(np.float32))
        np.save(own / "conditions.npy", conditions.astype(np.float32))
        index = {"kind": "designs", "format": 1, "design": kind, "count": len(numbers)}
        text = json.dumps(index | {"about": dict(about)}, indent=1, sort_keys=True)
        (own / "index.json").write_text(text + "\n", "utf-8")
        own.rename(out)
    finally:
        shutil.rmtree(own, ignore_errors=True)
    return DesignTable.open(out)


class DesignBatches:
    """An endless stream of training batches."""

    def __init__(
        self, table: DesignTable, batch_size: int, *, seed: int = 0, rank: int = 0, world: int = 1
    ) -> None:
        """`batch_size` counts the designs of all processes."""
        if batch_size < 1 or batch_size % world or not 0 <= rank < world:
            raise UsageError(f"{batch_size} designs cannot be shared by {world} processes")
        numbers, conditions = table.scaled()
        kept = ~table.held()
        self.numbers, self.conditions = numbers[kept], conditions[kept]
        self.batch_size, self.seed, self.rank, self.world = batch_size, seed, rank, world
        self.length = numbers.shape[1]

    def batch(self, index: int) -> dict[str, np.ndarray]:
        """Batch `index` (0, 1, 2, ...): the designs of this process."""
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, index])))
        chosen = rng.integers(len(self.numbers), size=self.batch_size)[self.rank :: self.world]
        return {"numbers": self.numbers[chosen], "conditions": self.conditions[chosen]}


class HeldDesigns:
    """The same batches each time: the designs that are held out."""

    def __init__(self, table: DesignTable, batch_size: int, *, max_batches: int = 8) -> None:
        numbers, conditions = table.scaled()
        held = table.held()
        self.numbers, self.conditions = numbers[held], conditions[held]
        self.batch_size, self.max_batches = batch_size, max_batches

    def batches(self) -> Iterator[dict[str, np.ndarray]]:
        """The batches in the same order."""
        starts = range(0, len(self.numbers), self.batch_size)
        for start in starts[: self.max_batches]:
            rows = slice(start, start + self.batch_size)
            yield {"numbers": self.numbers[rows], "conditions": self.conditions[rows]}
