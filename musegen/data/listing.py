"""Long lists that are small in memory: the files below a folder, and what is made of each."""

from __future__ import annotations

import bisect
import os
from abc import abstractmethod
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Generic, TypeVar, overload

from musegen.errors import DataError

T = TypeVar("T")


class Lazy(Sequence[T], Generic[T]):
    """A sequence that makes each of its elements when it is asked for."""

    @abstractmethod
    def _at(self, index: int) -> T:
        """Element `index`, which is from 0 to `len(self) - 1`."""

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[T, ...]: ...
    def __getitem__(self, index: int | slice) -> T | tuple[T, ...]:
        if isinstance(index, slice):
            return tuple(self._at(one) for one in range(*index.indices(len(self))))
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return self._at(index % len(self))


class Names(Lazy[str]):
    """File names, each as its bytes in one block: about 60 bytes a file instead of 500."""

    def __init__(self, names: Iterable[str]) -> None:
        self._block, self._ends = bytearray(), array("q")
        for name in names:
            self._block += os.fsencode(name)
            self._ends.append(len(self._block))

    def __len__(self) -> int:
        return len(self._ends)

    def _at(self, index: int) -> str:
        start = self._ends[index - 1] if index else 0
        return os.fsdecode(bytes(self._block[start : self._ends[index]]))


class Made(Lazy[T]):
    """What a function makes of each element of another sequence."""

    def __init__(self, source: Sequence[str], make: Callable[[str], T]) -> None:
        self._source, self._make = source, make

    def __len__(self) -> int:
        return len(self._source)

    def _at(self, index: int) -> T:
        return self._make(self._source[index])


class Joined(Lazy[T]):
    """Sequences one after another, or the elements of them whose numbers are `chosen`."""

    def __init__(self, parts: Iterable[Sequence[T]], chosen: Sequence[int] | None = None) -> None:
        self._parts = tuple(parts)
        self._ends = list(accumulate(len(part) for part in self._parts))
        whole = range(self._ends[-1] if self._ends else 0)
        self._chosen: Sequence[int] = whole if chosen is None else chosen

    def __len__(self) -> int:
        return len(self._chosen)

    def _at(self, index: int) -> T:
        number = self._chosen[index]
        part = bisect.bisect_right(self._ends, number)
        return self._parts[part][number - (self._ends[part - 1] if part else 0)]


def walk(root: Path) -> Iterator[str]:
    """All files below `root` by their path below it, sorted, `/` between folders; no hidden ones.

    One folder at a time is in memory. Links to folders are not followed.

    Raises:
        DataError: a folder cannot be read.
    """
    yield from _walk(os.fspath(root), "")


def _walk(folder: str, prefix: str) -> Iterator[str]:
    found: list[tuple[str, bool]] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if not entry.is_dir():
                    found.append((entry.name, False))
                elif not entry.is_symlink():
                    # With its slash: then names sort as whole paths do.
                    found.append((f"{entry.name}/", True))
    except OSError as error:
        raise DataError(
            f"the folder {folder} cannot be read: {error.strerror or error}; "
            "see who may read it, or move it away"
        ) from None
    for name, is_folder in sorted(found):
        if is_folder:
            yield from _walk(os.path.join(folder, name[:-1]), prefix + name)
        else:
            yield prefix + name
