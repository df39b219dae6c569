"""Runs jobs in spawned processes, results in order, and survives a job that kills its process."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace

from musegen.data.parts import Job, Part, process
from musegen.data.spawned import spawned_pool, submit

AHEAD = 4
"""Jobs handed out beyond one a worker: enough to keep all busy, few enough to bound memory."""


FEW = 64
"""So many items a process, at least, before another process is worth its start."""


def sensible_workers(items: int, wanted: int | None) -> int:
    """How many processes to use: as `wanted`; for None one a core, fewer for few items."""
    if wanted is not None:
        return max(1, wanted)
    return max(1, min(os.cpu_count() or 1, items // FEW))


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
        pool = spawned_pool(workers)
        pending: list[Future[Part]] = []
        submitted = start
        try:
            while start < len(jobs):
                while submitted < len(jobs) and len(pending) < workers + AHEAD:
                    pending.append(submit(pool, process, jobs[submitted]))
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
    with spawned_pool(1) as pool:
        try:
            return submit(pool, process, job).result()
        except BrokenProcessPool:
            return None


def _alone(job: Job) -> Part:
    part = _try(job)
    if part is not None:
        return part
    bad = tuple(i for i, item in enumerate(job.items) if _try(replace(job, items=(item,))) is None)
    return process(replace(job, crashed=bad or tuple(range(len(job.items)))))
