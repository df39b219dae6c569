"""Processes between pictures and noise: schedule maths, no weights.

`Ddpm` adds noise step by step (Ho et al. 2020, "DDPM"); `Flow` goes in a straight line (Lipman et
al. 2023; Liu et al. 2023). Both say what x_t is, what a network is to predict, and how one goes
back; they know nothing of networks.

Letters: x_0 a clean picture, x_t a noisy one, eps standard normal noise, all (B, ...); t (B,).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from musegen.errors import ConfigError

__all__ = ["Ddpm", "Flow", "cosine_betas", "linear_betas"]


def linear_betas(steps: int) -> Tensor:
    """(T,) float64, from 1e-4 to 0.02 at 1000 steps, scaled for others (DDPM, section 4)."""
    scale = 1000 / steps
    return torch.linspace(1e-4 * scale, min(0.02 * scale, 0.999), steps, dtype=torch.float64)


def cosine_betas(steps: int, offset: float = 0.008) -> Tensor:
    """(T,) float64: abar_t = f(t) / f(0), f(t) = cos^2((t/T + s)/(1 + s) pi/2).

    Nichol & Dhariwal 2021, equation 17; no beta is above 0.999.
    """
    t = torch.arange(steps + 1, dtype=torch.float64) / steps
    f = torch.cos((t + offset) / (1 + offset) * math.pi / 2) ** 2
    return (1 - f[1:] / f[:-1]).clamp(max=0.999)


def _spread(values: Tensor, like: Tensor) -> Tensor:
    """(B,) as (B, 1, 1, ...), to be multiplied with `like`, in its type."""
    return values.to(like.dtype).view(-1, *[1] * (like.dim() - 1))


@dataclass(frozen=True, eq=False)
class Ddpm:
    """The chain q(x_t | x_{t-1}) = N(sqrt(1 - beta_t) x_{t-1}, beta_t I), t from 1 to T."""

    betas: Tensor
    """(T,) float64; beta_t is betas[t - 1]."""

    @classmethod
    def of(cls, schedule: str, steps: int) -> Ddpm:
        """`linear` or `cosine`. Raises ConfigError."""
        known = {"linear": linear_betas, "cosine": cosine_betas}
        if schedule not in known or steps < 2:
            raise ConfigError(
                f"schedule '{schedule}' of {steps} steps: linear or cosine, 2 or more"
            )
        return cls(known[schedule](steps))

    @property
    def steps(self) -> int:
        """T."""
        return len(self.betas)

    def kept(self, t: Tensor) -> Tensor:
        """abar_t = product of 1 - beta_s over s <= t: (B,) float64; abar_0 is 1."""
        product = torch.cat((torch.ones(1, dtype=torch.float64), (1 - self.betas).cumprod(0)))
        return product.to(t.device)[t]

    def next(self, x: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """x_t from x_{t-1}: sqrt(1 - beta_t) x_{t-1} + sqrt(beta_t) eps (DDPM, equation 2)."""
        beta = _spread(self.betas.to(t.device)[t - 1], x)
        return (1 - beta).sqrt() * x + beta.sqrt() * eps

    def noised(self, x: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """x_t from x_0: sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps (equation 4)."""
        kept = _spread(self.kept(t), x)
        return kept.sqrt() * x + (1 - kept).sqrt() * eps

    def posterior(self, clean: Tensor, noisy: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (B, ...) and variance (B,) of q(x_{t-1} | x_t, x_0) (equations 6 and 7)."""
        beta = self.betas.to(t.device)[t - 1]
        now, before = self.kept(t), self.kept(t - 1)
        of_clean = before.sqrt() * beta / (1 - now)
        of_noisy = (1 - beta).sqrt() * (1 - before) / (1 - now)
        mean = _spread(of_clean, clean) * clean + _spread(of_noisy, noisy) * noisy
        return mean, beta * (1 - before) / (1 - now)

    def target(self, clean: Tensor, t: Tensor, eps: Tensor, prediction: str) -> Tensor:
        """What the network is to say: `eps`, `x0`, or `v` = sqrt(abar) eps - sqrt(1 - abar) x_0.

        v: Salimans & Ho 2022, appendix D.
        """
        if prediction == "eps":
            return eps
        if prediction == "x0":
            return clean
        kept = _spread(self.kept(t), clean)
        return kept.sqrt() * eps - (1 - kept).sqrt() * clean

    def clean(self, said: Tensor, noisy: Tensor, t: Tensor, prediction: str) -> Tensor:
        """x_0 by what the network says of x_t."""
        kept = _spread(self.kept(t), noisy)
        if prediction == "x0":
            return said
        if prediction == "eps":
            return (noisy - (1 - kept).sqrt() * said) / kept.sqrt()
        return kept.sqrt() * noisy - (1 - kept).sqrt() * said

    def ddim(
        self, clean: Tensor, noisy: Tensor, t: Tensor, before: Tensor, eta: float, eps: Tensor
    ) -> Tensor:
        """x_{before} from x_t and a guess of x_0 (Song et al. 2021, equations 12 and 16).

        At eta 0 no noise is added; at eta 1, with before = t - 1, it is the step of DDPM.
        """
        now, then = self.kept(t), self.kept(before)
        variance = eta**2 * (1 - then) / (1 - now) * (1 - now / then)
        said = (noisy - _spread(now.sqrt(), noisy) * clean) / _spread((1 - now).sqrt(), noisy)
        along = (1 - then - variance).clamp(min=0).sqrt()
        return (
            _spread(then.sqrt(), clean) * clean
            + _spread(along, said) * said
            + _spread(variance.sqrt(), eps) * eps
        )


class Flow:
    """Straight lines x_t = (1 - t) eps + t x_0, t from 0, noise, to 1, the picture.

    The network says the velocity dx/dt = x_0 - eps, whose mean is the field that is integrated
    (Lipman et al. 2023, equation 23 with sigma_min = 0).
    """

    @staticmethod
    def noised(x: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """x_t from a picture and noise."""
        at = _spread(t, x)
        return (1 - at) * eps + at * x

    @staticmethod
    def target(clean: Tensor, eps: Tensor) -> Tensor:
        """The velocity."""
        return clean - eps

    @staticmethod
    def times(count: int, device: torch.device) -> Tensor:
        """(count,) of training: a logistic of normal numbers, most in the middle.

        Esser et al. 2024, section 3.1: at the ends there is little to be learnt.
        """
        return torch.sigmoid(torch.randn(count, device=device))

    @staticmethod
    def clean(velocity: Tensor, noisy: Tensor, t: Tensor) -> Tensor:
        """x_0 by what the network says of x_t."""
        return noisy + (1 - _spread(t, noisy)) * velocity
