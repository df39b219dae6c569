"""The prior of sections: what a bar's latent may be, given those of the bars before it.

The first bar of a section is drawn from N(0, I); each further one from a mixture of Gaussians whose
numbers a small causal transformer says. It is trained on latents that the encoder has drawn, which
learn nothing from it.

Letters: S sections, P bars of a section, Z numbers of a latent, D width, K components.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musegen.models.attention import Rotation, Segments
from musegen.models.layers import Block, RMSNorm

__all__ = ["SectionPrior", "log_normal"]

_NARROWEST = -6.0
"""Least log variance of a component."""


def log_normal(z: Tensor, mean: Tensor | float = 0.0, log_var: Tensor | float = 0.0) -> Tensor:
    """The density log N(z; mean, exp(log_var)), summed over the last dimension."""
    spread = torch.as_tensor(log_var, dtype=z.dtype, device=z.device)
    each = (z - mean).square() * torch.exp(-spread) + spread + math.log(2 * math.pi)
    return -0.5 * each.sum(-1)


class SectionPrior(nn.Module):
    """p(z of bar t | z of bars before t)."""

    def __init__(
        self,
        latent: int,
        width: int,
        layers: int,
        heads: int,
        hidden: int,
        components: int,
        eps: float,
        theta: float,
    ) -> None:
        super().__init__()
        self.latent, self.components = latent, components
        self.inward = nn.Linear(latent, width, bias=False)
        self.rotation = Rotation(width // heads, (0,), (1.0,), theta)
        self.layers = nn.ModuleList(Block(width, heads, 1, hidden, eps, 0.0) for _ in range(layers))
        self.norm = RMSNorm(width, eps)
        self.outward = nn.Linear(width, components * (2 * latent + 2))
        self.outward.is_output = True  # type: ignore[assignment]

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Latents (S, P, Z) -> of the bar behind each: log shares, means, log variances.

        (S, P, K), (S, P, K, Z), (S, P, K, Z). A component's mean is a share of the bar before it
        and something of its own: bars are repeated often.
        """
        sections, bars = z.shape[:2]
        x = self.inward(z).to(self.norm.weight.dtype)  # states are sums: in full precision
        places = torch.arange(bars, device=z.device, dtype=torch.float32)
        turning = self.rotation(places[None, :, None].expand(sections, bars, 1))
        added: Tensor | None = None
        for layer in self.layers:
            x, added = layer(x, added, turning, Segments(None, None))
        state = self.norm(x) if added is None else self.norm.after(x, added)[1]
        out = self.outward(state).float().view(sections, bars, self.components, -1)
        shares, keep, own, spread = out.split((1, 1, self.latent, self.latent), dim=-1)
        mean = torch.sigmoid(keep) * z[:, :, None] + own
        log_var = _NARROWEST + F.softplus(spread - _NARROWEST)
        return torch.log_softmax(shares[..., 0], dim=-1), mean, log_var

    def log_density(self, z: Tensor) -> Tensor:
        """Of sections (S, P, Z): (S, P), log p(z of each bar | those before it), in nats."""
        shares, mean, log_var = self(z[:, :-1])
        each = log_normal(z[:, 1:, None], mean, log_var) + shares
        return torch.cat((log_normal(z[:, :1]), torch.logsumexp(each, dim=-1)), dim=1)
