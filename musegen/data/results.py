"""What reading made of each file of a build, as columns: some 50 bytes a file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from musegen.data.corpus import Item
from musegen.data.parts import ItemResult, Part

RECORD = np.dtype(
    [
        ("exact", "<u8", 2), ("group", "<u8"), ("corpus", "<u4"), ("rows", "<u4"),
        ("notes", "<u4"), ("merged", "<u4"), ("dropped", "<u4"), ("key", "u1"), ("fate", "u1"),
    ]
)  # fmt: skip

USABLE, SKIPPED, COPY, LIKE = range(4)
"""Fates: read, not readable, the same as another, resembling a benchmark's piece."""


class Results:
    """What became of the files of a build; arrays are read from the parts when asked for."""

    def __init__(self, items: Sequence[Item], own: int, folder: Path) -> None:
        """`items`: the first `own` are to become shards, the others are a benchmark's."""
        self.items, self.own, self.folder = items, own, folder
        self.records = np.zeros(len(items), RECORD)
        self.reasons: dict[int, str] = {}
        self.other: dict[int, int] = {}
        """Of copies, which file they are copies of; of those that resemble, which benchmark's."""
        self.corpora: dict[str, int] = {}
        self.keys: dict[str, int] = {"": 0}
        self._parts: list[tuple[str, int]] = []  # file name, first item
        self.count = 0
        """Files read so far."""
        self.bytes = 0
        """Of the parts so far."""

    def add(self, items: Sequence[Item], part: Part) -> None:
        """Takes in the next part, of these items."""
        self._parts.append((part.path.name, self.count))
        self.bytes += part.path.stat().st_size
        for item, result in zip(items, part.results, strict=True):
            self._add(item, result)

    def _add(self, item: Item, result: ItemResult) -> None:
        record = self.records[self.count]
        record["corpus"] = self.corpora.setdefault(item.corpus, len(self.corpora))
        if result.reason:
            record["fate"] = SKIPPED
            self.reasons[self.count] = result.reason
        else:
            # By hash: two of a million groups are one with a probability of 1 to 30 million.
            group = hashlib.blake2b(f"{item.corpus}/{item.group}".encode(), digest_size=8)
            record["group"] = int.from_bytes(group.digest(), "little")
            record["exact"] = np.frombuffer(bytes.fromhex(result.exact), "<u8")
            record["key"] = self.keys.setdefault(result.key, len(self.keys))
            for name in ("rows", "notes"):
                record[name] = getattr(result, name)
            record["merged"], record["dropped"] = result.notes_merged, result.notes_dropped
        self.count += 1

    def usable(self) -> np.ndarray:
        """Numbers of the files that are still to become shards, ascending."""
        return np.flatnonzero(self.records["fate"][: self.own] == USABLE)

    def benchmark(self) -> np.ndarray:
        """Numbers of the benchmark's files that could be read, ascending."""
        return self.own + np.flatnonzero(self.records["fate"][self.own :] == USABLE)

    def fates(self, fate: int) -> list[int]:
        """Numbers of the files of this fate, ascending; none of the benchmark's."""
        return np.flatnonzero(self.records["fate"][: self.own] == fate).tolist()

    def of_corpus(self, name: str) -> np.ndarray:
        """The records of a corpus."""
        own = self.records[: self.own]
        return own[own["corpus"] == self.corpora.get(name, -1)]

    def arrays(self, name: str, chosen: np.ndarray) -> Iterator[np.ndarray]:
        """`rows`, `grams` or `melody` of the files of ascending numbers; one part at a time."""
        starts = np.array([first for _, first in self._parts], np.int64)
        owners = np.searchsorted(starts, chosen, "right") - 1
        loaded, arrays = -1, []
        for number, owner in zip(chosen.tolist(), owners.tolist(), strict=True):
            file, first = self._parts[owner]
            if owner != loaded:
                arrays, loaded = Part(self.folder / file, ()).arrays(name), owner
            yield arrays[number - first]

    def drop_copies(self) -> None:
        """Keeps the first of each set of equal pieces (also transposed)."""
        numbers = self.usable()
        exact = self.records["exact"][numbers]
        order = np.lexsort((numbers, exact[:, 1], exact[:, 0]))
        exact, numbers = exact[order], numbers[order]
        same = np.concatenate(([False], (exact[1:] == exact[:-1]).all(axis=1)))[: len(numbers)]
        firsts = numbers[np.maximum.accumulate(np.where(same, 0, np.arange(len(numbers))))]
        self._leave_out(numbers[same], firsts[same], COPY)

    def drop_resembling(
        self, found: dict[int, int], numbers: np.ndarray, benchmark: np.ndarray
    ) -> None:
        """Leaves out what resembles a benchmark: places in `numbers` -> places in `benchmark`."""
        places = np.array(list(found.items()), np.int64).reshape(-1, 2)
        self._leave_out(numbers[places[:, 0]], benchmark[places[:, 1]], LIKE)

    def _leave_out(self, numbers: np.ndarray, others: np.ndarray, fate: int) -> None:
        self.records["fate"][numbers] = fate
        self.other.update(zip(numbers.tolist(), others.tolist(), strict=True))

    def group_links(self, numbers: np.ndarray) -> Iterator[tuple[int, int]]:
        """Places in `numbers` that belong to one group: each with the group's first."""
        _, first, inverse = np.unique(
            self.records["group"][numbers], return_index=True, return_inverse=True
        )
        firsts = first[inverse]
        for place in np.flatnonzero(firsts != np.arange(len(numbers))).tolist():
            yield int(firsts[place]), place
