"""The pieces of a folder of shards as columns: a million of them open at once, read when asked for.

Two files beside `index.json`:

- `pieces.bin`: one record of `RECORD` a piece, in the order of the build; what is a word is a
  number into the lists of `index.json`;
- `names.bin`: the texts, UTF-8, one after another, where the records point.

Both are mapped, so that opening costs no time and all processes share one copy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from musegen.data.listing import Lazy
from musegen.errors import DataError

PIECES_FILE = "pieces.bin"
NAMES_FILE = "names.bin"

RECORD = np.dtype(
    [
        ("offset", "<u4"), ("length", "<u4"), ("notes", "<u4"), ("shard", "<u4"),
        ("style", "<u4"), ("corpus", "<u2"), ("split", "u1"), ("key", "u1"),
        ("name", "<u8"), ("group", "<u8"), ("name_bytes", "<u4"), ("group_bytes", "<u4"),
    ]
)  # fmt: skip
"""48 bytes: numbers, numbers of words, and where the texts lie in `names.bin`."""

WORDS = ("shard", "style", "corpus", "split", "key")
"""The columns that hold the number of a word."""


@dataclass(frozen=True)
class ShardPiece:
    """Where a piece lies and what is known of it."""

    name: str
    """Path below the corpus's folder, without suffix."""
    corpus: str
    style: str
    """Words, separated by spaces; may be empty."""
    shard: str
    """File name."""
    offset: int
    """First row in the shard."""
    length: int
    """Rows."""
    notes: int
    group: str
    """Pieces of one group are in one split."""
    split: str
    key: str
    """An estimate, such as `D major`; empty for drums alone."""


class PieceTable(Lazy[ShardPiece]):
    """The pieces of a build, or of a split: a sequence that makes a `ShardPiece` when asked."""

    def __init__(
        self,
        load: Callable[[], tuple[np.ndarray, np.ndarray]],
        words: Mapping[str, Sequence[str]],
        chosen: np.ndarray | None = None,
    ) -> None:
        """`load` gives records and texts, again in each process; `chosen`: numbers of records."""
        self._load, self.words, self._chosen = load, words, chosen
        self._loaded: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def _arrays(self) -> tuple[np.ndarray, np.ndarray]:
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded

    def column(self, name: str) -> np.ndarray:
        """A column of `RECORD` for these pieces; words as numbers into `words[name]`."""
        column = self._arrays[0][name]
        return column if self._chosen is None else column[self._chosen]

    def __len__(self) -> int:
        return len(self._arrays[0]) if self._chosen is None else len(self._chosen)

    def _at(self, index: int) -> ShardPiece:
        number = index if self._chosen is None else int(self._chosen[index])
        return self._piece(self._arrays[0][number])

    def __iter__(self) -> Iterator[ShardPiece]:
        return (self[index] for index in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PieceTable):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_loaded": None}  # a process maps for itself

    def _piece(self, record: np.void) -> ShardPiece:
        words = {name: self.words[name][int(record[name])] for name in WORDS}
        return ShardPiece(
            name=self._text(int(record["name"]), int(record["name_bytes"])),
            group=self._text(int(record["group"]), int(record["group_bytes"])),
            offset=int(record["offset"]),
            length=int(record["length"]),
            notes=int(record["notes"]),
            **words,
        )

    def _text(self, start: int, count: int) -> str:
        return self._arrays[1][start : start + count].tobytes().decode("utf-8")

    def of_split(self, name: str) -> PieceTable:
        """The pieces of a split, in the same order."""
        names = list(self.words["split"])
        number = names.index(name) if name in names else len(names)
        places = np.flatnonzero(self.column("split") == number)
        if self._chosen is not None:
            places = self._chosen[places]
        return PieceTable(self._load, self.words, places)

    def only(self, numbers: Sequence[int]) -> PieceTable:
        """Some of these pieces, by their places here."""
        places = np.asarray(numbers, dtype=np.int64)
        if self._chosen is not None:
            places = self._chosen[places]
        return PieceTable(self._load, self.words, places)

    def check(self, shard_rows: Sequence[int], where: Path) -> None:
        """Raises DataError where a record points outside its shard, the words or the texts."""
        records, texts = self._arrays
        for name in WORDS:
            if len(records) and int(records[name].max()) >= len(self.words[name]):
                raise DataError(
                    f"{where} is damaged (a {name} that is not listed); build the shards again"
                )
        bad = records["length"] < 1
        ends = records["offset"].astype(np.int64) + records["length"]
        bad |= ends > np.asarray(shard_rows, np.int64)[records["shard"]]
        for name in ("name", "group"):
            bad |= records[name] + records[f"{name}_bytes"] > len(texts)
        if bad.any():
            number = int(bad.argmax())
            raise DataError(f"{where}: piece {number} lies outside; build the shards again")


class PieceWriter:
    """Appends pieces to `pieces.bin` and `names.bin`; nothing of them stays in memory but words."""

    def __init__(self, folder: Path) -> None:
        self.count = 0
        self._words: dict[str, dict[str, int]] = {name: {} for name in WORDS}
        self._files: tuple[BinaryIO, BinaryIO] = (
            open(folder / PIECES_FILE, "wb"),  # noqa: SIM115
            open(folder / NAMES_FILE, "wb"),  # noqa: SIM115
        )
        self._at = 0

    def add(self, piece: ShardPiece) -> None:
        """Appends a piece."""
        record = np.zeros((), RECORD)
        for name in ("offset", "length", "notes"):
            record[name] = getattr(piece, name)
        for name, numbers in self._words.items():
            record[name] = numbers.setdefault(getattr(piece, name), len(numbers))
        for name in ("name", "group"):
            text = getattr(piece, name).encode("utf-8")
            record[name], record[f"{name}_bytes"] = self._at, len(text)
            self._files[1].write(text)
            self._at += len(text)
        self._files[0].write(record.tobytes())
        self.count += 1

    @property
    def words(self) -> dict[str, list[str]]:
        """What the numbers of words mean."""
        return {name: list(numbers) for name, numbers in self._words.items()}

    def close(self) -> None:
        """Closes the files."""
        for file in self._files:
            file.close()


@dataclass(frozen=True)
class MappedPieces:
    """Maps the two files of a folder; what a `PieceTable` of version 2 loads from."""

    folder: Path
    count: int

    def __call__(self) -> tuple[np.ndarray, np.ndarray]:
        records = mapped(
            self.folder / PIECES_FILE, np.dtype(np.uint8), self.count * RECORD.itemsize
        )
        return records.view(RECORD), mapped(self.folder / NAMES_FILE, np.dtype(np.uint8))


@dataclass(frozen=True)
class HeldPieces:
    """Records in memory: of the shards of version 1, whose pieces are in `index.json`."""

    records: np.ndarray
    texts: np.ndarray

    def __call__(self) -> tuple[np.ndarray, np.ndarray]:
        return self.records, self.texts


def held_table(listed: Sequence[Mapping[str, Any]]) -> PieceTable:
    """The table of pieces that are listed as in version 1.

    Raises:
        KeyError, ValueError, TypeError, OverflowError: they are not so listed.
    """
    words: dict[str, dict[str, int]] = {name: {} for name in WORDS}
    records, texts, at = np.zeros(len(listed), RECORD), bytearray(), 0
    for record, values in zip(records, listed, strict=True):
        for name in ("offset", "length", "notes"):
            record[name] = int(values[name])
        for name, numbers in words.items():
            record[name] = numbers.setdefault(str(values[name]), len(numbers))
        for name in ("name", "group"):
            text = str(values[name]).encode("utf-8")
            record[name], record[f"{name}_bytes"] = at, len(text)
            texts += text
            at += len(text)
    lists = {name: list(numbers) for name, numbers in words.items()}
    return PieceTable(HeldPieces(records, np.frombuffer(bytes(texts), np.uint8)), lists)


def mapped(path: Path, dtype: np.dtype, count: int | None = None) -> np.ndarray:
    """A file as a read-only array that all processes share; empty files too.

    Raises:
        DataError: it is missing, cannot be read, or does not hold `count` numbers.
    """
    try:
        size = path.stat().st_size
        if count is not None and size != count * dtype.itemsize:
            raise DataError(
                f"{path} has {size} bytes, not {count * dtype.itemsize}; build the shards again"
            )
        if not size:
            return np.empty(0, dtype)
        return np.memmap(path, dtype=dtype, mode="r").view(np.ndarray)
    except FileNotFoundError:
        raise DataError(f"{path} is missing; build the shards again") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"{path} cannot be read: {reason}; see who may read it, or build the shards again"
        ) from None
