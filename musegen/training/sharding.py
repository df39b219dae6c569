"""A model whose weights, gradients and optimisers are shared out among the processes (FSDP2).

`torch.distributed.fsdp.fully_shard` turns each parameter into a DTensor, of which a process holds
its part; a block gathers its weights when it computes and lets go of them afterwards. The rest of
the package sees whole tensors: what is written is put together first (`whole`), what is read is
taken apart (`like`), so that a checkpoint does not tell how it was trained. Tensors that are not
shared out pass through all of this as they are.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["is_shared", "like", "local", "shard", "together", "whole"]


def shard(root: nn.Module, parts: Iterable[nn.Module], device: torch.device, size: int) -> None:
    """Shares the parameters of `root` among `size` processes, in place, those of a part together.

    `root` is the module that is called: what gathers the weights hangs on its forward, and on
    that of each part.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (size,))
    for part in parts:
        fully_shard(part, mesh=mesh)
    # The root too lets go of its weights after each forward: held-out losses have no backward, and
    # weights that stayed gathered would not see what changes their parts (the running mean).
    fully_shard(root, mesh=mesh, reshard_after_forward=True)
    # Our blocks give views, and nothing works in place on them.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view")


def is_shared(tensor: Tensor) -> bool:
    """Whether this process holds a part only: it is a DTensor."""
    # Asked by name: importing torch.distributed.tensor takes time, and one process has none.
    return hasattr(tensor, "to_local")


def local(tensor: Tensor) -> Tensor:
    """The part that this process holds; it shares memory with the tensor."""
    shared: Any = tensor
    return shared.to_local() if is_shared(tensor) else tensor


def together(tensor: Tensor) -> Tensor:
    """The tensor put together, on its device; all processes must ask for it."""
    shared: Any = tensor
    return shared.full_tensor() if is_shared(tensor) else tensor


def whole(tensors: Mapping[str, Tensor], keep: bool) -> dict[str, Tensor]:
    """All tensors put together, on the CPU; nothing where not `keep`.

    All processes must ask for the same ones. One tensor at a time is whole on the device.
    """
    found = {}
    for name, tensor in tensors.items():
        complete = together(tensor.detach())
        if keep:
            found[name] = complete.cpu()
    return found


def like(reference: Tensor, complete: Tensor) -> Tensor:
    """A whole tensor, shared out as `reference` is: no process needs the others for it."""
    if not is_shared(reference):
        return complete
    from torch.distributed.tensor import distribute_tensor

    shared: Any = reference
    complete = complete.to(reference.device)
    return distribute_tensor(complete, shared.device_mesh, shared.placements, src_data_rank=None)
