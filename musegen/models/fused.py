"""Chains of elementwise arithmetic with their derivatives written out, for the CPU.

Each is one node of the graph and runs over pieces of the rows that stay in the cache of a core;
operation by operation, these chains took a third of a step. Elsewhere the plain chains are used.

Letters: N rows, D width, J hidden width of the feed-forward part.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["add_norm", "gate", "norm"]

PIECE = 1024
"""Rows in a piece: 1024 x 192 floats are 0.8 MB."""


def add_norm(
    x: Tensor, y: Tensor, weight: Tensor, eps: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """The sum x + y, and its RMSNorm in `dtype`: the state goes on, the other is read."""
    if x.device.type != "cpu":
        total = x + y
        return total, F.rms_norm(total, weight.shape, weight, eps).to(dtype)
    return _AddNorm.apply(x, y, weight, eps, dtype)


def norm(x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
    """The RMSNorm of x in `dtype`."""
    if x.device.type != "cpu":
        return F.rms_norm(x, weight.shape, weight, eps).to(dtype)
    return _AddNorm.apply(x, None, weight, eps, dtype)[1]


def gate(x: Tensor) -> Tensor:
    """silu(first half) * second half of the last dimension: (..., 2 J) -> (..., J)."""
    if x.device.type != "cpu":
        first, second = x.chunk(2, dim=-1)
        return F.silu(first) * second
    return _Gate.apply(x)


class _AddNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, y: Tensor | None, weight: Tensor, eps: float, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        width = x.shape[-1]
        rows = x.reshape(-1, width)
        total = rows if y is None else torch.empty_like(rows)
        out = torch.empty(rows.shape, dtype=dtype)
        scales = torch.empty(len(rows), 1, dtype=x.dtype)
        added = None if y is None else y.reshape(-1, width)
        for start in range(0, len(rows), PIECE):
            piece = slice(start, start + PIECE)
            part = total[piece]
            if added is not None:
                torch.add(rows[piece], added[piece], out=part)
            mean = torch.linalg.vector_norm(part, dim=1, keepdim=True).square_().div_(width)
            scale = mean.add_(eps).rsqrt_()
            scales[piece] = scale
            out[piece] = (part * scale).mul_(weight)
        ctx.save_for_backward(total, scales, weight)
        ctx.added = None if y is None else y.dtype
        if y is None:
            ctx.mark_non_differentiable()
            return x.view_as(x), out.view(x.shape)
        return total.view(x.shape), out.view(x.shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        total, scales, weight = ctx.saved_tensors
        grad_total, grad_out = grads
        shape, width = grad_out.shape, grad_out.shape[-1]
        further = None if grad_total is None else grad_total.reshape(-1, width)
        outer = grad_out.reshape(-1, width)
        grad = torch.empty_like(total)
        grad_y = None if ctx.added is None else torch.empty(total.shape, dtype=ctx.added)
        grad_weight = torch.zeros_like(weight)
        for start in range(0, len(total), PIECE):
            piece = slice(start, start + PIECE)
            scale = scales[piece]
            unit = total[piece] * scale
            inner = outer[piece].to(total.dtype)
            product = inner * unit
            grad_weight += product.sum(0)
            along = torch.mv(product, weight).div_(-width)[:, None]
            part = grad[piece]
            torch.mul(inner, weight, out=part)
            part.addcmul_(unit, along).mul_(scale)
            if further is not None:
                part += further[piece]
            if grad_y is not None:
                grad_y[piece] = part
        return (
            grad.view(shape),
            None if grad_y is None else grad_y.view(shape),
            grad_weight,
            None,
            None,
        )


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        half = rows.shape[1] // 2
        out = torch.empty(len(rows), half, dtype=x.dtype)
        for start in range(0, len(rows), PIECE // 4):
            piece = slice(start, start + PIECE // 4)
            torch.mul(F.silu(rows[piece, :half]), rows[piece, half:], out=out[piece])
        ctx.save_for_backward(rows)
        return out.view(*x.shape[:-1], half)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (rows,) = ctx.saved_tensors
        half = rows.shape[1] // 2
        outer = grads[0].reshape(-1, half)
        grad = torch.empty_like(rows)
        for start in range(0, len(rows), PIECE // 4):
            piece = slice(start, start + PIECE // 4)
            first, second, up = rows[piece, :half], rows[piece, half:], outer[piece]
            torch.mul(F.silu(first), up, out=grad[piece, half:])
            grad[piece, :half] = torch.ops.aten.silu_backward(up * second, first)
        return grad.view(*grads[0].shape[:-1], 2 * half)
