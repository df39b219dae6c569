"""Numbers that do not fit in memory, kept in files by their last bits until all are there.

Equal numbers come to lie in the same file, so that each file can be sorted and counted by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import numpy as np

BUCKET = 1_000_000
"""Records a file is meant to hold: some 80 MB while it is sorted."""

HELD = 2**19
"""Records gathered before they are written."""

MOST_FILES = 512


class Spill:
    """Records of one dtype whose field `by` (uint64) says where they belong."""

    def __init__(self, folder: Path, name: str, dtype: np.dtype, by: str, expected: int) -> None:
        """`expected`: records in all, at most; the number of files follows from it."""
        bits = 0
        while (expected >> bits) > BUCKET and 2**bits < MOST_FILES:
            bits += 1
        self.dtype, self._by, self._mask = dtype, by, np.uint64(2**bits - 1)
        self._paths = [folder / f"{name}-{number:03d}.spill" for number in range(2**bits)]
        for path in self._paths:
            path.write_bytes(b"")
        self._held: list[np.ndarray] = []
        self._count = 0

    def add(self, records: np.ndarray) -> None:
        """Puts records away; those of one file keep their order."""
        self._held.append(records)
        self._count += len(records)
        if self._count >= HELD:
            self._write()

    def _write(self) -> None:
        records = np.concatenate([*self._held, np.empty(0, self.dtype)])
        self._held, self._count = [], 0
        places = (records[self._by] & self._mask).astype(np.uint16)
        records = records[np.argsort(places, kind="stable")]
        ends = np.cumsum(np.bincount(places, minlength=len(self._paths))).tolist()
        for path, start, end in zip(self._paths, [0, *ends], ends, strict=False):
            if end > start:
                with open(path, "ab") as file:  # one at a time: systems allow few open files
                    file.write(records[start:end].tobytes())

    def buckets(self) -> Iterator[np.ndarray]:
        """The records of each file; it is gone when the next one is asked for."""
        self._write()
        for path in self._paths:
            records = np.fromfile(path, self.dtype)
            path.unlink()
            yield records

    def __enter__(self) -> Spill:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        for path in self._paths:
            path.unlink(missing_ok=True)
