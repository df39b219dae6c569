"""Runs jobs in spawned processes, results in order, and survives a job that kills its process."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace

from musegen.data.parts import Job, Part, process

AHEAD = 4
"""Jobs handed out beyond one a worker: enough to keep all busy, few enough to bound memory."""


FEW = 64
"""So many items a process, at least, before another process is worth its start."""


def sensible_workers(items: int, wanted: int | None) -> int:
    """How many processes to use: as `wanted`; for None one a core, fewer for few items."""
    if wanted is not None:
        return max(1, wanted)
    return max(1, min(os.cpu_count() or 1, items // FEW))


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Processes started inside do not run the user's script again.

    They need nothing of it, and a script without `if __name__ == "__main__":` would start the whole
    work once more in each of them.
    """
    main = sys.modules["__main__"]
    kept: dict[str, object] = {}
    kept.update((name, vars(main)[name]) for name in ("__spec__", "__file__") if name in vars(main))
    main.__spec__ = None
    main.__dict__.pop("__file__", None)
    try:
        yield
    finally:
        main.__dict__.update(kept)


def _submit(pool: ProcessPoolExecutor, job: Job) -> Future[Part]:
    with _without_main():  # a pool starts its processes as jobs come
        return pool.submit(process, job)


def _begin_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that was killed closes nothing, and its workers would wait for jobs for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _pool(workers: int) -> ProcessPoolExecutor:
    # spawn: the parent may hold threads (torch, a notebook's kernel) that a fork would tear.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_begin_worker)


def run(jobs: Sequence[Job], workers: int) -> Iterator[Part]:
    """The part of each job, in order, whatever the number of processes.

    A job whose process dies is tried again item by item; the item that kills its reader once more
    is written down as unreadable.
    """
    if workers <= 1:
        yield from map(process, jobs)
        return
    start = 0
    while start < len(jobs):
        pool = _pool(workers)
        pending: list[Future[Part]] = []
        submitted = start
        try:
            while start < len(jobs):
                while submitted < len(jobs) and len(pending) < workers + AHEAD:
                    pending.append(_submit(pool, jobs[submitted]))
                    submitted += 1
                part = pending[0].result()
                pending.pop(0)
                start += 1
                yield part
        except BrokenProcessPool:
            # Which of the running jobs did it is not said: the first one is tried by itself.
            yield _alone(jobs[start])
            start += 1
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _try(job: Job) -> Part | None:
    with _pool(1) as pool:
        try:
            return _submit(pool, job).result()
        except BrokenProcessPool:
            return None


def _alone(job: Job) -> Part:
    part = _try(job)
    if part is not None:
        return part
    bad = tuple(i for i, item in enumerate(job.items) if _try(replace(job, items=(item,))) is None)
    return process(replace(job, crashed=bad or tuple(range(len(job.items)))))
