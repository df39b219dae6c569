"""Several processes that train one model together, as torchrun starts them.

```
torchrun --nproc-per-node 2 -m musegen train ...
```

Each process computes its share of the rows of a batch; what they exchange is here: gradients
(DistributedDataParallel; where they share the model too, musegen/training/sharding.py), sums of
metrics, and decisions (when to stop, how many steps) that all must take alike, or one would wait
for the others for ever. Decisions go between the hosts (gloo) also where gradients go between GPUs
(nccl), so that no step waits for the device.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from musegen.errors import DeviceError, MusegenError, TrainingError, UsageError
from musegen.models.base import Batch, Loss, Player
from musegen.training.device import resolve_device
from musegen.training.sharding import shard

__all__ = ["Processes", "SharedLoss", "joined"]

PATIENCE = timedelta(days=1)
"""How long a process waits for the others: the first one may be building the data."""

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """Who trains together; by default one process alone, for which nothing here costs anything."""

    rank: int = 0
    size: int = 1
    device: str = "auto"
    """Where this process computes."""
    sharded: bool = False
    """Whether each holds a part of the model, and not all of it."""

    @property
    def main(self) -> bool:
        """Whether this is the one process that writes files and speaks."""
        return self.rank == 0

    def agree(self, *values: float) -> list[float]:
        """The largest of each value over all processes, the same in each of them."""
        if self.size == 1:
            return list(values)
        highest = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(highest, op=dist.ReduceOp.MAX)
        return highest.tolist()

    def gather(self, value: T) -> list[T]:
        """What each process holds, in the order of their ranks, in each of them."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value)
        return found

    def total(self, value: Tensor) -> Tensor:
        """The sum of a tensor over all processes, on its device."""
        if self.size > 1:
            value = value.clone()
            dist.all_reduce(value)
        return value

    def first(self, work: Callable[[], T]) -> T:
        """Does `work` in the first process, and when that is done, in the others.

        For what must not be done by several at once. Where it fails in the first process, its
        error is raised there, and the others end without a word.
        """
        if self.size == 1:
            return work()
        failure: Exception | None = None
        if self.main:
            try:
                done = work()
            except Exception as error:
                failure = error
        failed = any(self.gather(failure is not None))
        if failure is not None:
            raise failure
        if failed:
            raise SystemExit(1)
        return done if self.main else work()


@contextmanager
def joined(device: str = "auto", sharded: bool = False) -> Iterator[Processes]:
    """Within, this process is one of those that torchrun started; without torchrun, it is alone.

    Raises DeviceError: the device is not there, or not for each process. UsageError: one process
    alone has nobody to share a model with.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        if sharded:
            raise UsageError(
                "--shard shares a model among several processes and this is one: "
                "torchrun --nproc-per-node 2 -m musegen train ... starts two"
            )
        yield Processes(device=device)
        return
    where = _device(device)
    cuda = where.type == "cuda"
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if cuda else "gloo",
        timeout=PATIENCE,
        device_id=where if cuda else None,
    )
    try:
        processes = Processes(dist.get_rank(), size, str(where), sharded)
        yield processes
        # In this order, or processes now and then crash at exit: all have come here; the model's
        # hooks are gone; the group ends.
        processes.agree(0.0)
        gc.collect()
    except RuntimeError as error:
        if isinstance(error, MusegenError) or not _is_torn(error):
            raise
        raise TrainingError("another process ended; what it says tells why") from error
    finally:
        dist.destroy_process_group()


def _device(name: str) -> torch.device:
    """The device of this process: of several GPUs, the one of its number on this machine."""
    where = resolve_device(name)
    if where.type == "mps":
        raise DeviceError("several processes cannot share the device mps; use --device cpu")
    if where.type != "cuda":
        return where
    here, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if here >= count:
        wanted = os.environ.get("LOCAL_WORLD_SIZE", "several")
        raise DeviceError(
            f"{wanted} processes need a GPU each, {count} found; "
            f"give torchrun --nproc-per-node {count}, or train with --device cpu"
        )
    where = torch.device("cuda", here)
    torch.cuda.set_device(where)
    return where


def _is_torn(error: RuntimeError) -> bool:
    """Whether the connection to another process broke."""
    return isinstance(error, dist.DistError) or "gloo" in str(error).lower()


class _LossModule(nn.Module):
    """A player as a module whose forward is its loss: what DDP and FSDP hook into."""

    def __init__(self, player: Player) -> None:
        super().__init__()
        self.module = player.module
        self.loss = player.loss

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor | None, Any]:
        loss = self.loss(batch)
        return loss.value, loss.weight, loss.metrics


class SharedLoss:
    """A player's loss; its backward leaves the mean of all processes' gradients.

    With one process it is the player's own loss. Where the processes are `sharded`, it replaces the
    player's parameters by their parts; `parts` are the modules that gather their weights together.
    """

    def __init__(
        self,
        player: Player,
        processes: Processes,
        parts: Sequence[nn.Module] = (),
        device: torch.device | None = None,
    ) -> None:
        self._module: nn.Module | None = None
        self._loss = player.loss
        self._sharded = processes.sharded
        if processes.size == 1:
            return
        module = _LossModule(player)
        if self._sharded:
            shard(module, parts, device or torch.device("cpu"), processes.size)
            self._module = module
            return
        kept = set(module.state_dict()) - {name for name, _ in module.named_parameters()}
        self._module = nn.parallel.DistributedDataParallel(
            module,
            forward_sync_buffers=bool(kept),  # those that only the settings decide are equal
            gradient_as_bucket_view=True,
        )

    def __call__(self, batch: Batch) -> Loss:
        """The loss of this process's rows."""
        if self._module is None:
            return self._loss(batch)
        value, weight, metrics = self._module(batch)
        return Loss(value, metrics, weight)

    def held_out(self, batch: Batch) -> Loss:
        """The loss without an exchange of gradients; those who share a model must all ask."""
        return self(batch) if self._sharded else self._loss(batch)

    def exchanging(self, now: bool) -> AbstractContextManager[None]:
        """Around forward and backward: whether gradients are exchanged, or kept for later.

        Those of a model that is shared out always are: kept whole they would not fit.
        """
        if self._module is None or now or self._sharded:
            return nullcontext()
        return self._module.no_sync()  # type: ignore[operator]
