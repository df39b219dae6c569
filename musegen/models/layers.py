"""The parts of a transformer, one idea each; parameter names are those of Llama.

Letters: B batch, T rows, D width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musegen.models.attention import Segments, attend
from musegen.models.fused import add_norm, gate, norm

__all__ = ["Attention", "Block", "FeedForward", "Likeness", "RMSNorm", "working_dtype"]


def working_dtype(x: Tensor) -> torch.dtype:
    """What matrix products compute in: autocast's type where it is on, else that of x."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


class RMSNorm(nn.Module):
    """x / rms(x) * weight over the last dimension (arXiv 1910.07467)."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D), in the working type."""
        return norm(x, self.weight, self.eps, working_dtype(x))

    def after(self, x: Tensor, added: Tensor) -> tuple[Tensor, Tensor]:
        """The sum of both, and its norm in the working type."""
        return add_norm(x, added, self.weight, self.eps, working_dtype(x))


class Attention(nn.Module):
    """Grouped-query attention (arXiv 2305.13245) with rotary positions."""

    def __init__(self, width: int, heads: int, kv_heads: int) -> None:
        super().__init__()
        size = width // heads
        self.heads, self.kv_heads = heads, kv_heads
        self.q_proj = nn.Linear(width, heads * size, bias=False)
        self.k_proj = nn.Linear(width, kv_heads * size, bias=False)
        self.v_proj = nn.Linear(width, kv_heads * size, bias=False)
        self.o_proj = nn.Linear(heads * size, width, bias=False)

    def forward(self, x: Tensor, turning: tuple[Tensor, Tensor], segments: Segments) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        weight = torch.cat((self.q_proj.weight, self.k_proj.weight, self.v_proj.weight))
        mixed = F.linear(x, weight)
        return self.o_proj(attend(mixed, self.heads, self.kv_heads, turning, segments))


class FeedForward(nn.Module):
    """SwiGLU: down(silu(gate x) * up x) (arXiv 2002.05202)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, hidden, bias=False)
        self.up_proj = nn.Linear(width, hidden, bias=False)
        self.down_proj = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        weight = torch.cat((self.gate_proj.weight, self.up_proj.weight))
        return self.down_proj(gate(F.linear(x, weight)))


class Block(nn.Module):
    """Attention, then feed-forward; each reads a normalised state and adds to the state."""

    def __init__(
        self, width: int, heads: int, kv_heads: int, hidden: int, eps: float, dropout: float
    ) -> None:
        super().__init__()
        self.self_attn = Attention(width, heads, kv_heads)
        self.mlp = FeedForward(width, hidden)
        self.input_layernorm = RMSNorm(width, eps)
        self.post_attention_layernorm = RMSNorm(width, eps)
        self.dropout = dropout

    def forward(
        self,
        x: Tensor,
        added: Tensor | None,
        turning: tuple[Tensor, Tensor],
        segments: Segments,
    ) -> tuple[Tensor, Tensor]:
        """State (B, T, D) and what the block before wants added to it -> the same two."""
        if added is None:
            normed = self.input_layernorm(x)
        else:
            x, normed = self.input_layernorm.after(x, added)
        added = self._drop(self.self_attn(normed, turning, segments))
        x, normed = self.post_attention_layernorm.after(x, added)
        return x, self._drop(self.mlp(normed))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x


class Likeness(nn.Module):
    """Latents of bars to what is added to the embeddings of a cell's rows; 0 stays 0.

    It begins at 0, so that a model that gets one says at first what it said without.
    """

    def __init__(self, latent: int, hidden: int, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(latent, hidden, bias=False) if hidden else None
        self.out = nn.Linear(hidden or latent, width, bias=False)

    def forward(self, latents: Tensor) -> Tensor:
        """(..., Z) -> (..., D): `W2 tanh(W1 z)`, or `W z` without hidden numbers."""
        return self.out(latents if self.up is None else torch.tanh(self.up(latents)))
