"""Shards: encoded pieces in memory-mapped files, with an index and checksums.

A folder of shards holds

- `train-00000.bin`, `valid-00000.bin`, ...: rows of little-endian uint16, C order, shape (rows, F),
  pieces one after another, none torn over two files;
- `index.json`: the format's version, fields, files with sha256, the words of the table of pieces;
- `pieces.bin`, `names.bin`: the table of pieces (piece_table.py);
- `tokenizer.json`: what the ids mean;  `build.json`: how they were made.

Only numpy and the standard library: the machine that trains needs nothing else to read them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from musegen.data.piece_table import (
    NAMES_FILE,
    PIECES_FILE,
    WORDS,
    MappedPieces,
    PieceTable,
    PieceWriter,
    ShardPiece,
    held_table,
    mapped,
)
from musegen.errors import DataError

FORMAT_VERSION = 2
"""Of `index.json`; raised when old readers would misread new shards. 1 had the pieces in it."""

SHARD_BYTES = 256 * 2**20
"""A shard is closed when the next piece would take it above this."""

ROW_DTYPE = np.dtype("<u2")

INDEX_FILE = "index.json"
TOKENIZER_FILE = "tokenizer.json"
REPORT_FILE = "build.json"


@dataclass(frozen=True)
class Shard:
    """One file of rows."""

    file: str
    rows: int
    sha256: str


@dataclass(frozen=True)
class CorpusFacts:
    """What batches need to know of a corpus."""

    weight: float = 1.0
    transpose: tuple[int, int] = (-5, 6)
    tempo: tuple[float, float] = (0.9, 1.1)
    velocity: int = 0
    drum_jitter: float = 0.0
    programs: float = 0.0


@dataclass(frozen=True)
class ShardSet:
    """An opened folder of shards. Make one with `ShardSet.open`."""

    folder: Path
    name: str
    """Of the card or folder that they were built from."""
    tokenizer_name: str
    field_names: tuple[str, ...]
    field_sizes: tuple[int, ...]
    shards: tuple[Shard, ...]
    pieces: PieceTable
    corpora: Mapping[str, CorpusFacts]
    may_ship: bool
    """Whether every corpus allows that weights trained on it ship in the package."""
    tables: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    """sha256 of the files of the table of pieces; none of shards of version 1."""
    _maps: dict[str, np.ndarray] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def open(cls, folder: str | Path) -> ShardSet:
        """Opens a folder of shards.

        Raises:
            DataError: not such a folder, another version, or a file of the wrong size.
        """
        folder = Path(folder)
        path = folder / INDEX_FILE
        if not path.is_file():
            raise DataError(
                f"{folder} holds no shards (no {INDEX_FILE}); make them with `musegen data build`"
            )
        try:
            data = json.loads(path.read_text("utf-8"))
            version = data["version"]
        except OSError as error:
            raise DataError(
                f"{path} cannot be read: {error.strerror or error}; see who may read it"
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} is damaged ({error}); build the shards again") from None
        if version not in (1, FORMAT_VERSION):
            raise DataError(
                f"{path} is of version {version}, this musegen reads {FORMAT_VERSION}; build again"
            )
        try:
            fields = tuple(str(name) for name in data["field_names"])
            shards = tuple(
                Shard(str(s["file"]), int(s["rows"]), str(s["sha256"])) for s in data["shards"]
            )
            if version == 1:
                pieces, tables = held_table(data["pieces"]), {}
            else:
                pieces = PieceTable(MappedPieces(folder, int(data["pieces"])), _words(data))
                tables = {str(name): str(value) for name, value in data["tables"].items()}
            shard_set = cls(
                folder=folder,
                name=str(data.get("name", folder.name)),
                tokenizer_name=str(data["tokenizer"]),
                field_names=fields,
                field_sizes=tuple(int(size) for size in data["field_sizes"]),
                shards=shards,
                pieces=pieces,
                corpora={name: _facts(facts) for name, facts in data["corpora"].items()},
                may_ship=bool(data.get("may_ship", False)),
                tables=tables,
            )
        except (KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
            raise DataError(f"{path} is damaged ({error!r}); build the shards again") from None
        shard_set._check_sizes()
        return shard_set

    def _check_sizes(self) -> None:
        width = len(self.field_names)
        if width < 1 or len(self.field_sizes) != width:
            raise DataError(f"{self.folder / INDEX_FILE}: field names and sizes do not agree")
        for shard in self.shards:
            path = self.folder / shard.file
            if Path(shard.file).name != shard.file or not path.is_file():
                raise DataError(f"{path} is missing; build the shards again")
            size, wanted = path.stat().st_size, shard.rows * width * ROW_DTYPE.itemsize
            if size != wanted:
                raise DataError(f"{path} has {size} bytes, not {wanted}; build the shards again")
        rows = {shard.file: shard.rows for shard in self.shards}
        listed = [rows.get(name, -1) for name in self.pieces.words["shard"]]
        self.pieces.check(listed, self.folder / INDEX_FILE)

    def verify(self) -> None:
        """Reads every file and compares its sha256. Raises DataError at the first difference."""
        files = [(shard.file, shard.sha256) for shard in self.shards]
        for name, wanted in [*files, *self.tables.items()]:
            path = self.folder / name
            try:
                with open(path, "rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                raise DataError(
                    f"{path} cannot be read: {error.strerror or error}; "
                    "see who may read it, or build the shards again"
                ) from None
            if digest != wanted:
                raise DataError(f"{path} differs from its checksum; build the shards again")

    def digest(self) -> str:
        """Of all rows, by the checksums of the shards: 16 hexadecimal digits."""
        sums = "".join(f"{shard.file} {shard.sha256}\n" for shard in self.shards)
        return hashlib.sha256(sums.encode()).hexdigest()[:16]

    def tokenizer_file(self) -> Path:
        """The file that says what the ids mean."""
        return self.folder / TOKENIZER_FILE

    def split(self, name: str) -> PieceTable:
        """The pieces of `train`, `valid` or `test`; may be empty."""
        return self.pieces.of_split(name)

    def rows(self, piece: ShardPiece) -> np.ndarray:
        """A piece's rows, (length, F) uint16, read-only, mapped from the file without a copy."""
        return self.shard_rows(piece.shard)[piece.offset : piece.offset + piece.length]

    def shard_rows(self, name: str) -> np.ndarray:
        """All rows of a shard, (rows, F) uint16, mapped as in `rows`."""
        rows = self._maps.get(name)
        if rows is None:
            rows = mapped(self.folder / name, ROW_DTYPE).reshape(-1, len(self.field_names))
            self._maps[name] = rows
        return rows

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": {}}  # a process maps for itself


def _words(data: Mapping[str, Any]) -> dict[str, list[str]]:
    listed: Mapping[str, list[Any]] = data["words"]
    return {name: [str(word) for word in listed[name]] for name in WORDS}


def _facts(data: Mapping[str, Any]) -> CorpusFacts:
    low, high = data["transpose"]
    slow, fast = data["tempo"]
    return CorpusFacts(
        float(data["weight"]),
        (int(low), int(high)),
        (float(slow), float(fast)),
        int(data.get("velocity", 0)),  # shards of before have none of these
        float(data.get("drum_jitter", 0.0)),
        float(data.get("programs", 0.0)),
    )


class ShardWriter:
    """Appends pieces to the shards of a folder; `close` writes the index.

    The folder is the builder's temporary one: it becomes visible by a rename when all is there.
    """

    def __init__(self, folder: Path, width: int, shard_bytes: int = SHARD_BYTES) -> None:
        self.folder = folder
        self.width = width
        self.shard_bytes = shard_bytes
        self.shards: list[Shard] = []
        self._pieces = PieceWriter(folder)
        self._open: dict[str, tuple[BinaryIO, Any, int, str]] = {}  # split: file, hash, rows, name
        self._count: dict[str, int] = {}

    def add(self, rows: np.ndarray, **facts: Any) -> ShardPiece:
        """Appends a piece of shape (T, F); `facts` are the other fields of `ShardPiece`."""
        if rows.ndim != 2 or rows.shape[1] != self.width or not len(rows):
            raise DataError(f"piece {facts.get('name')} has shape {rows.shape}")
        split = facts["split"]
        data = np.ascontiguousarray(rows, dtype=ROW_DTYPE).tobytes()
        state = self._open.get(split)
        width_bytes = self.width * ROW_DTYPE.itemsize
        if state is not None and state[2] * width_bytes + len(data) > self.shard_bytes:
            self._finish(split)
            state = None
        if state is None:
            number = self._count.get(split, 0)
            self._count[split] = number + 1
            name = f"{split}-{number:05d}.bin"
            state = (open(self.folder / name, "wb"), hashlib.sha256(), 0, name)  # noqa: SIM115
        file, digest, count, name = state
        file.write(data)
        digest.update(data)
        self._open[split] = (file, digest, count + len(rows), name)
        piece = ShardPiece(shard=name, offset=count, length=len(rows), **facts)
        self._pieces.add(piece)
        return piece

    def _finish(self, split: str) -> None:
        file, digest, rows, name = self._open.pop(split)
        file.close()
        self.shards.append(Shard(name, rows, digest.hexdigest()))

    def abandon(self) -> None:
        """Closes the files after an error."""
        self._pieces.close()
        for file, *_ in self._open.values():
            file.close()
        self._open.clear()

    def close(
        self,
        *,
        name: str,
        tokenizer: str,
        field_names: Iterable[str],
        field_sizes: Iterable[int],
        corpora: Mapping[str, CorpusFacts],
        may_ship: bool,
    ) -> None:
        """Closes the shards and writes `index.json`."""
        for split in sorted(self._open):
            self._finish(split)
        self._pieces.close()
        tables = {}
        for table in (PIECES_FILE, NAMES_FILE):
            with open(self.folder / table, "rb") as file:
                tables[table] = hashlib.file_digest(file, "sha256").hexdigest()
        index = {
            "version": FORMAT_VERSION,
            "name": name,
            "tokenizer": tokenizer,
            "field_names": list(field_names),
            "field_sizes": list(field_sizes),
            "may_ship": may_ship,
            "corpora": {name: asdict(facts) for name, facts in sorted(corpora.items())},
            "shards": [asdict(shard) for shard in sorted(self.shards, key=lambda s: s.file)],
            "pieces": self._pieces.count,
            "words": self._pieces.words,
            "tables": tables,
        }
        text = json.dumps(index, ensure_ascii=False, separators=(",", ":")) + "\n"
        (self.folder / INDEX_FILE).write_text(text, "utf-8")
