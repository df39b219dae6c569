"""Batches made ahead, in a thread or in processes of their own, while the model is busy."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from musegen.data.batches import Batch, Source
from musegen.data.spawned import spawned_pool, submit

__all__ = ["Prefetch"]


class Prefetch:
    """A source that makes the next batches while the model is busy.

    `batch(index)` gives exactly what `source.batch(index)` gives, also with several workers, of
    which each makes whole batches; it is quick when indices are asked for one after another, from
    `start` on. Close it, or use it in a `with`.
    """

    def __init__(
        self,
        source: Source,
        start: int = 0,
        depth: int = 4,
        *,
        workers: int = 0,
        prepare: Callable[[Batch], Any] | None = None,
    ) -> None:
        """Begins at once.

        Args:
            source: makes the batches; it is copied to each worker.
            start: number of the first batch that will be asked for.
            depth: how many are made ahead.
            workers: processes that make them; 0: a thread of this process does.
            prepare: done to each batch ahead, in this process (copying it to pinned memory).
        """
        self.source, self.workers = source, workers
        self.depth = max(depth, 2 * workers)
        self._prepare = prepare
        self._pool: ProcessPoolExecutor | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._begin(start)

    def _begin(self, start: int) -> None:
        self._end()
        if self.workers and self._pool is None:
            self._pool = spawned_pool(self.workers, _take, self.source)
        self._next = start
        self._stop = threading.Event()
        self._queue: queue.Queue[Batch | BaseException] = queue.Queue(self.depth)
        self._thread = threading.Thread(
            target=self._work, args=(start, self._queue, self._stop), daemon=True
        )
        self._thread.start()

    def _work(self, start: int, out: queue.Queue, stop: threading.Event) -> None:
        batches = self._made(start)
        while not stop.is_set():
            made: Batch | BaseException
            try:
                made = next(batches)
                if self._prepare is not None:
                    made = self._prepare(made)
            except BaseException as error:  # handed to the thread that asks
                made = error
            while not stop.is_set():
                try:
                    out.put(made, timeout=0.1)
                    break
                except queue.Full:
                    continue
            if isinstance(made, BaseException):
                return
        batches.close()

    def _made(self, index: int) -> Generator[Batch, None, None]:
        """Batches from `index` on, in order."""
        pending: deque[Future[Batch]] = deque()
        pool = self._pool
        try:
            while pool is not None:
                while len(pending) < self.depth:
                    pending.append(submit(pool, _batch, index + len(pending)))
                yield pending.popleft().result()
                index += 1
        except BrokenProcessPool:
            pass  # a worker was killed: it costs speed, not the run
        finally:
            for future in pending:
                future.cancel()
        while True:
            yield self.source.batch(index)
            index += 1

    def batch(self, index: int) -> Any:
        """The batch of that index, from the queue when it is the next one."""
        if index != self._next or self._thread is None:
            self._begin(index)
        made = self._queue.get()
        if isinstance(made, BaseException):
            self.close()
            raise made
        self._next = index + 1
        return made

    def __enter__(self) -> Prefetch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _end(self) -> None:
        if self._thread is not None:
            self._stop.set()
            self._thread.join()
            self._thread = None

    def close(self) -> None:
        """Ends the thread and the workers."""
        self._end()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None


# -- in the workers ---------------------------------------------------------------------------

_sources: list[Source] = []
"""The one that this worker was given."""


def _take(source: Source) -> None:
    _sources[:] = [source]


def _batch(index: int) -> Batch:
    return _sources[0].batch(index)
