"""The latents of all cells of a folder of shards: what a transformer is told of bars to be like.

Beside each shard `NAME.bin` lies `NAME.latents`: int8 (cells, Z), one row for each TRACK row of the
shard in the order of these, so that a piece's cells are those that its own rows name; and one
`latents.json` that says of which shards and by which model they are. Values are in steps of 1 /
STEPS. Only numpy is needed to read them: training does not load the model that made them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from musegen.data.shards import ShardPiece, ShardSet
from musegen.errors import DataError
from musegen.tokens.vocabulary import TRACK

__all__ = ["STEPS", "CellLatents", "write_cell_latents"]

STEPS = 32
"""Steps of one unit: int8 then reaches from -4 to 3.97, and draws of N(0, I) lie within."""

INDEX_FILE = "latents.json"


def write_cell_latents(
    shards: ShardSet,
    out: Path,
    encode: Callable[[np.ndarray], np.ndarray],
    size: int,
    made_by: str,
    on_progress: Callable[[int, int, str], None] | None = None,
    splits: Sequence[str] = ("train", "valid", "test"),
) -> None:
    """Writes the latents of every piece's cells into a folder.

    Args:
        shards: whose cells; of an events preset.
        out: the folder, made where it lacks. Shards that have their file in it are left out, so
            that what was interrupted goes on there.
        encode: a piece's rows (T, 4) -> (cells, Z) float; a row of zeros where there is none.
        size: Z.
        made_by: sha256 of the weights of what encodes.
        on_progress: called as `on_progress(done, pieces, name)`.
        splits: whose cells.
    """
    facts = _facts(shards, size, made_by)
    out.mkdir(parents=True, exist_ok=True)
    index = out / INDEX_FILE
    if index.exists() and json.loads(index.read_text("utf-8")) != facts:
        raise DataError(f"{out} holds latents of other shards or another model; remove it")
    index.write_text(json.dumps(facts, indent=1) + "\n", "utf-8")
    pieces = [piece for split in splits for piece in shards.split(split)]
    by_shard: dict[str, list[ShardPiece]] = {}
    for piece in pieces:
        by_shard.setdefault(piece.shard, []).append(piece)
    done = 0
    for name, held in by_shard.items():
        path = out / _file(name)
        if path.exists():
            done += len(held)
            continue
        temporary = path.with_suffix(".part")
        with open(temporary, "ab") as file:
            written = file.tell() // size  # cells of an interrupted run
            for piece in sorted(held, key=lambda one: one.offset):
                done += 1
                rows = shards.rows(piece)
                cells = int(np.count_nonzero(rows[:, 0] == TRACK))
                if written >= cells:
                    written -= cells
                    continue
                if written or file.tell() % size:  # of a piece that was not whole
                    file.truncate(file.tell() - file.tell() % size - written * size)
                    file.seek(0, 2)
                    written = 0
                latents = encode(rows)
                if latents.shape != (cells, size):
                    raise DataError(f"{piece.name}: latents {latents.shape}, not {(cells, size)}")
                file.write(np.clip(np.rint(latents * STEPS), -128, 127).astype(np.int8).tobytes())
                if on_progress is not None:
                    on_progress(done, len(pieces), piece.name)
        temporary.replace(path)


class CellLatents:
    """The latents in a folder that `write_cell_latents` filled, mapped when they are asked for."""

    def __init__(self, shards: ShardSet, folder: Path, size: int, made_by: str) -> None:
        """Raises DataError where they are of other shards, or by another model."""
        index = folder / INDEX_FILE
        if not index.is_file() or json.loads(index.read_text("utf-8")) != _facts(
            shards, size, made_by
        ):
            raise DataError(f"{folder} does not hold the latents of {shards.folder}; remove it")
        self.shards, self.folder, self.size, self.made_by = shards, folder, size, made_by
        self._mapped: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def of(self, piece: ShardPiece) -> np.ndarray:
        """(cells, Z) int8, in steps of 1 / STEPS; cells in the order bar x track."""
        table, before = self._shard(piece)
        first, last = before[piece.offset], before[piece.offset + piece.length]
        return table[first:last]

    def _shard(self, piece: ShardPiece) -> tuple[np.ndarray, np.ndarray]:
        """A shard's latents, and before each of its rows the number of TRACK rows (rows + 1,)."""
        if piece.shard not in self._mapped:
            rows = self.shards.shard_rows(piece.shard)
            before = np.concatenate(([0], np.cumsum(rows[:, 0] == TRACK, dtype=np.int64)))
            path = self.folder / _file(piece.shard)
            if not path.is_file() or path.stat().st_size != before[-1] * self.size:
                raise DataError(f"{path} is not whole; remove {self.folder} and make it again")
            table = np.memmap(path, np.int8, "r", shape=(int(before[-1]), self.size))
            self._mapped[piece.shard] = table, before
        return self._mapped[piece.shard]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_mapped": {}}  # a process maps for itself


def _file(shard: str) -> str:
    return f"{Path(shard).stem}.latents"


def _facts(shards: ShardSet, size: int, made_by: str) -> dict[str, Any]:
    return {"shards": shards.digest(), "size": size, "steps": STEPS, "made_by": made_by}
