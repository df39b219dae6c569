"""Processes between pictures and noise: the schedule maths against closed forms.

Where a wrong form circulates, it stands beside ours and fails.
"""

from __future__ import annotations

import math

import pytest
import torch

from musegen.errors import ConfigError
from musegen.models.image_layers import time_features
from musegen.models.processes import Ddpm, Flow, cosine_betas, linear_betas

STEPS = 50


@pytest.fixture(params=["linear", "cosine"])
def chain(request):
    return Ddpm.of(request.param, STEPS)


def at(t, count=4):
    return torch.full((count,), t)


def normal(count=4, seed=0):
    return torch.randn(count, 1, 2, 2, generator=torch.Generator().manual_seed(seed)).double()


def test_schedules():
    assert linear_betas(1000)[0] == pytest.approx(1e-4)
    assert linear_betas(1000)[-1] == pytest.approx(0.02)
    cosine = cosine_betas(1000)
    kept = (1 - cosine).cumprod(0)
    wanted = math.cos((0.5 + 0.008) / 1.008 * math.pi / 2) ** 2
    wanted /= math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    assert kept[499] == pytest.approx(wanted, rel=1e-9)
    assert cosine.max() <= 0.999
    for steps in (50, 200, 1000):  # whatever their number, little is left of the picture
        assert Ddpm.of("linear", steps).kept(at(steps, 1)) < 1e-3
    with pytest.raises(ConfigError, match="linear or cosine"):
        Ddpm.of("square", 10)


def test_a_step_keeps_the_variance_and_the_wrong_one_does_not(chain):
    x, eps, t = torch.tensor(1.0), torch.tensor(1.0), 20
    beta = chain.betas[t - 1].item()
    ours = chain.next(x.view(1, 1), at(t, 1), torch.zeros(1, 1)).item() ** 2
    ours += chain.next(torch.zeros(1, 1), at(t, 1), eps.view(1, 1)).item() ** 2
    assert ours == pytest.approx(1.0)
    # "x_(t-1) = sqrt(1 - b) x_t + sqrt(b) eps" runs backward in time: it adds noise to what has
    # some, and from x_T never comes to a picture.
    wrong = normal(1)
    for step in range(STEPS, 0, -1):
        wrong = (1 - chain.betas[step - 1]).sqrt() * wrong
    assert wrong.abs().max() < 0.2 and beta > 0


def test_the_marginal_is_that_of_the_steps(chain):
    """q(x_t | x_0): mean and variance after t single steps."""
    mean, variance = torch.ones(1, 1, dtype=torch.float64), 0.0
    for t in range(1, STEPS + 1):
        mean = chain.next(mean, at(t, 1), torch.zeros(1, 1, dtype=torch.float64))
        variance = (1 - chain.betas[t - 1].item()) * variance + chain.betas[t - 1].item()
        zero = torch.zeros(1, 1, dtype=torch.float64)
        ours = chain.noised(torch.ones(1, 1).double(), at(t, 1), zero)
        assert ours.item() == pytest.approx(mean.item(), rel=1e-9)
        noise = chain.noised(zero, at(t, 1), torch.ones(1, 1).double())
        assert noise.item() ** 2 == pytest.approx(variance, rel=1e-9)
    # "q(x_T | x_0) = product of the steps" is the joint: as a variance it is far from the marginal.
    product = torch.prod(chain.betas).item()
    assert abs(product - variance) > 0.9


def test_the_posterior_is_bayes(chain):
    """q(x_(t-1) | x_t, x_0) against the product of two Gaussians."""
    for t in (2, 7, STEPS):
        clean, noisy = normal(seed=1), normal(seed=2)
        beta, before = chain.betas[t - 1], chain.kept(at(t - 1, 1))[0]
        prior_mean, prior_var = before.sqrt() * clean, 1 - before
        slope = (1 - beta).sqrt()
        precision = 1 / prior_var + slope**2 / beta
        wanted = (prior_mean / prior_var + slope * noisy / beta) / precision
        mean, variance = chain.posterior(clean, noisy, at(t))
        torch.testing.assert_close(mean, wanted)
        torch.testing.assert_close(variance, (1 / precision).expand(4))
    _, first = chain.posterior(clean, noisy, at(1))
    assert first.abs().max() == 0  # the last step back adds nothing


@pytest.mark.parametrize("prediction", ["eps", "v", "x0"])
def test_what_is_said_leads_back_to_the_picture(chain, prediction):
    clean, eps, t = normal(seed=3), normal(seed=4), at(20)
    said = chain.target(clean, t, eps, prediction)
    noisy = chain.noised(clean, t, eps)
    torch.testing.assert_close(chain.clean(said, noisy, t, prediction), clean)


def test_ddim_at_eta_1_is_ddpm(chain):
    clean, noisy, eps = normal(seed=5), normal(seed=6), normal(seed=7)
    for t in (2, 10, 40):
        mean, variance = chain.posterior(clean, noisy, at(t))
        wanted = mean + variance.sqrt().view(-1, 1, 1, 1) * eps
        ours = chain.ddim(clean, noisy, at(t), at(t - 1), 1.0, eps)
        torch.testing.assert_close(ours, wanted)


def test_ddim_at_eta_0_stays_on_its_line(chain):
    clean, eps = normal(seed=8), normal(seed=9)
    noisy = chain.noised(clean, at(40), eps)
    for before in (25, 3, 0):
        step = chain.ddim(clean, noisy, at(40), at(before), 0.0, normal(seed=1))
        torch.testing.assert_close(step, chain.noised(clean, at(before), eps))


def test_flow_goes_in_a_straight_line():
    clean, eps = normal(seed=1), normal(seed=2)
    zero, one = torch.zeros(4).double(), torch.ones(4).double()
    torch.testing.assert_close(Flow.noised(clean, zero, eps), eps)
    torch.testing.assert_close(Flow.noised(clean, one, eps), clean)
    t = torch.full((4,), 0.3).double()
    noisy = Flow.noised(clean, t, eps)
    velocity = Flow.target(clean, eps)
    torch.testing.assert_close(noisy + 0.7 * velocity, clean)
    torch.testing.assert_close(Flow.clean(velocity, noisy, t), clean)
    times = Flow.times(4000, torch.device("cpu"))
    assert times.min() > 0 and times.max() < 1 and abs(times.mean() - 0.5) < 0.02


def test_times_are_told_by_waves():
    """A plain integer into a linear layer: near times differ by a thousandth of their size."""
    t = torch.tensor([0.500, 0.501])
    ours = time_features(t, 64)
    assert (ours[0] - ours[1]).norm() / ours[0].norm() > 0.1
    plain = t * 1000
    assert (plain[0] - plain[1]).abs() / plain[0] < 0.01
    assert ours.shape == (2, 64) and ours.abs().max() <= 1
