"""Contending networks: each loss beside the form that is wrong, and the family as a whole."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from musegen.errors import ConfigError, UsageError
from musegen.models.gan import (
    Critic,
    Gan,
    GanRequest,
    Generator,
    clip_weights,
    critic_objective,
    energy_distance,
    generator_objective,
    gradient_norms,
    nonsaturating_critic,
    nonsaturating_generator,
    relativistic,
    squared_gradient,
    wasserstein,
)
from musegen.models.gan_config import LOSSES, GanConfig
from musegen.models.registry import GENERATORS
from musegen.sampling.draw import Draw
from musegen.sampling.sampler import sample
from musegen.training.checkpoint import load_model, save_model
from musegen.training.config import TrainerConfig
from musegen.training.trainer import Trainer

CONFIG = GanConfig(8, 3, 5, loss="nonsaturating", noise=6, width=8, embedding=4)


class Pictures:
    """Pictures of half a side, dark or light by style; a batch is a function of its number."""

    def __init__(self, size=8, rows=6):
        self.size, self.rows = size, rows

    def batch(self, index):
        rng = np.random.default_rng(index)
        style = rng.integers(0, 4, self.rows)
        images = np.full((self.rows, 1, self.size, self.size), 0.8, np.float32)
        images[..., : self.size // 2] = (style / 2 - 1)[:, None, None, None]
        words = rng.integers(0, 6, (self.rows, 2))
        return {"images": images, "style": style, "words": words}

    def batches(self):
        return [self.batch(1000), self.batch(1001)]


def tensors(size=8, rows=6, index=0):
    return {key: torch.as_tensor(array) for key, array in Pictures(size, rows).batch(index).items()}


def made(config=CONFIG, seed=0):
    torch.manual_seed(seed)
    return Gan(config)


def pictures(model, requests, seed=0, **options):
    return np.stack(sample(model, requests, Draw(seed), **options).results)


def largest(module):
    return max(float(parameter.detach().abs().max()) for parameter in module.parameters())


def trained(config, steps=10):
    settings = {**GENERATORS["gan"].training, "steps": steps, "precision": "fp32"}
    model = made(config)
    run = Trainer(model, TrainerConfig(**settings), Pictures(), Pictures(), device="cpu")
    return model, run.fit()


# --- Losses -----------------------------------------------------------------------------------


def test_the_generator_learns_where_the_critic_is_sure():
    """-log D(G(z)) has the gradient -1 there; log(1 - D(G(z))), minimised, has none."""
    sure = torch.full((4,), -20.0, requires_grad=True)
    (ours,) = torch.autograd.grad(nonsaturating_generator(sure), sure)
    (wrong,) = torch.autograd.grad(torch.log(1 - torch.sigmoid(sure)).mean(), sure)
    torch.testing.assert_close(ours, torch.full((4,), -0.25))
    assert wrong.abs().max() < 1e-6


def test_the_critic_labels_real_ones_1():
    real, fake = torch.tensor([2.0, -1.0]), torch.tensor([0.5, -3.0])
    of = F.binary_cross_entropy_with_logits
    wanted = of(real, torch.ones(2)) + of(fake, torch.zeros(2))
    torch.testing.assert_close(nonsaturating_critic(real, fake), wanted)
    twice = of(real.sigmoid(), torch.ones(2)) + of(fake.sigmoid(), torch.zeros(2))
    assert (wanted - twice).abs() > 0.05  # a sigmoid in the critic and another in the loss
    best = torch.full((2,), 50.0)
    assert nonsaturating_critic(best, -best) < 1e-6
    assert of(best.sigmoid(), torch.ones(2)) + of((-best).sigmoid(), torch.zeros(2)) > 1


def test_a_critic_says_logits_of_both_signs_one_a_picture():
    torch.manual_seed(0)
    critic = Critic(CONFIG)
    said = critic(
        100 * torch.randn(32, 1, 8, 8),
        torch.zeros(32, dtype=torch.long),
        torch.zeros(32, 2, dtype=torch.long),
    )
    assert said.shape == (32,)  # not a map
    assert said.min() < 0 and said.max() > 1  # not through a sigmoid
    kinds = {type(module) for module in Gan(CONFIG).modules()}
    assert not kinds & {nn.Sigmoid, nn.BatchNorm2d, nn.BatchNorm1d}
    assert not {type(module) for module in critic.modules()} & {nn.GroupNorm, nn.LayerNorm}


def test_the_wasserstein_critic_puts_real_ones_above():
    real, fake = torch.tensor([3.0, 1.0]), torch.tensor([0.0, -2.0])
    assert wasserstein(real, fake) == -3.0
    assert relativistic(real, fake) < relativistic(fake, real)
    pairs = F.softplus(fake - real).mean()
    torch.testing.assert_close(relativistic(real, fake), pairs)
    # only differences count: a wrong one, of each side alone, would change
    torch.testing.assert_close(relativistic(real + 7, fake + 7), pairs)


def test_gradients_of_critics_that_are_known():
    points, others = torch.randn(5, 3), torch.randn(5, 3)
    slope = torch.tensor([1.0, 2.0, 2.0])
    norms = gradient_norms(lambda x: x @ slope, points, others, torch.rand(5))
    torch.testing.assert_close(norms, torch.full((5,), 3.0))
    ends = gradient_norms(lambda x: x.square().sum(1) / 2, points, others, torch.ones(5))
    torch.testing.assert_close(ends, points.norm(dim=1))  # share 1 is the real ones
    real = points.requires_grad_(True)
    squares = squared_gradient(real.square().sum(1) / 2, real)
    torch.testing.assert_close(squares, points.square().sum(1))  # not the norm, and none minus 1


def test_penalties_reach_the_weights():
    """Without create_graph they would be constants."""
    for kind in ("wgan_gp", "relativistic"):
        torch.manual_seed(0)
        critic = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1), nn.Flatten(0))
        real, fake = torch.randn(6, 2), torch.randn(6, 2)
        gradients = []
        for penalty in (0.0, 5.0):
            torch.manual_seed(1)
            value, _ = critic_objective(kind, critic, real, fake, penalty)
            gradients.append(torch.autograd.grad(value, critic[0].weight)[0])
        assert not torch.allclose(*gradients)


def test_the_penalty_brings_the_gradient_to_1():
    """The critic of wgan_gp obeys: from much too steep, and from much too flat."""
    for scale in (0.05, 20.0):
        torch.manual_seed(0)
        critic = nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1), nn.Flatten(0))
        with torch.no_grad():
            critic[2].weight.mul_(scale)
        optimizer = torch.optim.Adam(critic.parameters(), lr=0.02, betas=(0.0, 0.9))
        seen = []
        for _ in range(80):
            real, fake = torch.randn(64, 2) + 1, torch.randn(64, 2)
            value, metrics = critic_objective("wgan_gp", critic, real, fake, 10.0)
            total, count = metrics["gradient_norm"]
            seen.append(float(total / count))
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
        assert abs(seen[0] - 1) > 0.5 and abs(seen[-1] - 1) < 0.25


def test_weights_are_clipped_for_training_only():
    model = made(replace(CONFIG, loss="wgan", clip=0.02))
    before = [parameter.clone() for parameter in model.critic.parameters()]
    model.eval().critic_loss(tensors())
    assert all(map(torch.equal, before, model.critic.parameters()))
    model.train().generator_loss(tensors())
    assert largest(model.critic) <= 0.02
    free = made()
    free.critic_loss(tensors())
    assert largest(free.critic) > 0.02
    clip_weights(free.critic, 0.05)
    assert largest(free.critic) == pytest.approx(0.05)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_critic_teaches_the_generator_nothing(loss):
    model = made(replace(CONFIG, loss=loss))
    model.critic_loss(tensors()).value.backward()
    assert all(p.grad is None for p in model.generator.parameters())
    assert any(p.grad is not None and p.grad.any() for p in model.critic.parameters())
    model.generator_loss(tensors()).value.backward()
    assert any(p.grad is not None and p.grad.any() for p in model.generator.parameters())


@pytest.mark.parametrize("loss", LOSSES)
def test_the_two_pull_against_each_other(loss):
    """What the generator gains by, a higher logit of what it made, the critic loses by."""

    def critic(points):
        return points.sum(1)

    real, fake = torch.tensor([[0.3], [1.0]]), torch.tensor([[0.1], [-0.4]])
    fake.requires_grad_(True)
    (up,) = torch.autograd.grad(generator_objective(loss, critic, real, fake), fake)
    assert (up < 0).all()  # less by higher logits
    values = [critic_objective(loss, critic, real, fake + off)[0].item() for off in (0.0, 0.5)]
    assert values[0] < values[1]
    weight = torch.ones((), requires_grad=True)
    value, metrics = critic_objective(loss, lambda points: weight * critic(points), real, fake)
    value.backward()
    assert fake.grad is None and weight.grad != 0  # nothing goes back to who made it
    assert metrics["ranked"][0] == 2


def test_the_distance_sees_collapse():
    torch.manual_seed(0)
    rows, others = torch.randn(200, 4), torch.randn(200, 4)
    assert abs(energy_distance(rows, others)) < 0.05
    mean_only = rows.mean(0).expand(200, -1)  # one picture: the mean is right
    assert energy_distance(rows, mean_only) > 0.5
    assert energy_distance(rows, others + 1) > 0.5


# --- The networks -----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [8, 32, 64])
def test_the_generator_doubles_from_4_pixels(size):
    generator = Generator(replace(CONFIG, size=size))
    sides = []
    generator.norm.register_forward_hook(lambda module, given, out: sides.append(out.shape[-1]))
    for stage in generator.stages:
        stage.register_forward_hook(lambda module, given, out: sides.append(out.shape[-1]))
    none = torch.zeros(2, dtype=torch.long), torch.zeros(2, 1, dtype=torch.long)
    images = generator(torch.randn(2, 6), *none)
    assert images.shape == (2, 1, size, size) and images.abs().max() <= 1
    assert sides == [4 * 2**k for k in range(len(sides))] and sides[-1] == size
    assert Critic(replace(CONFIG, size=size))(images, *none).shape == (2,)


def test_noise_is_standard_normal():
    model = made()
    torch.manual_seed(0)
    noise = model.noise(4000, torch.device("cpu"))
    assert noise.shape == (4000, 6) and noise.is_floating_point()
    assert noise.mean().abs() < 0.02 and (noise.std() - 1).abs() < 0.02 and noise.min() < -3
    state = model.begin([GanRequest()] * 500, Draw(0))
    assert state.noise.shape == (500, 6) and state.noise.dtype == torch.float32
    assert abs(float(state.noise.mean())) < 0.05 and abs(float(state.noise.std()) - 1) < 0.05


def test_conditions_are_heard():
    model = made()
    noise = np.zeros(6)
    plain, styled, worded = pictures(
        model,
        [GanRequest(0, (), noise), GanRequest(2, (), noise), GanRequest(0, (1, 4), noise)],
    )
    assert not np.allclose(plain, styled) and not np.allclose(plain, worded)
    batch = tensors()
    told = model.critic(batch["images"], batch["style"], batch["words"])
    untold = model.critic(batch["images"], 0 * batch["style"], 0 * batch["words"])
    assert not torch.allclose(told, untold)


# --- The family -------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_trains_and_draws_the_same_again(loss, tmp_path):
    model, result = trained(replace(CONFIG, loss=loss))
    found = result.last_validation
    assert model.monitor() in found and all(np.isfinite(list(found.values())))
    assert ("critic/gradient_norm" in found) == (loss == "wgan_gp")
    assert result.best is not None and "critic/ranked" in found
    requests = [GanRequest(style=1, words=(2, 3))] * 3
    first = pictures(model, requests)
    assert first.shape == (3, 1, 8, 8) and first.dtype == np.float32 and np.abs(first).max() <= 1
    assert np.array_equal(first, pictures(model, requests))
    assert not np.array_equal(first, pictures(model, requests, seed=1))
    np.testing.assert_allclose(pictures(model, requests, batch_size=1), first, atol=1e-5)
    save_model(tmp_path, "gan", model, {}, "", {}, storage="fp32")
    back, _ = load_model(tmp_path, GENERATORS)
    assert np.array_equal(first, pictures(back, requests))


def test_the_pictures_come_near():
    settings = {"steps": 80, "learning_rate": 2e-3, "validate_every": 0, "precision": "fp32"}
    config = TrainerConfig(**{**GENERATORS["gan"].training, **settings, "ema": 0.9})
    run = Trainer(made(), config, Pictures(rows=16), Pictures(rows=32), device="cpu")
    result = run.fit()
    key = "generator/distance"
    assert result.last_validation[key] < 0.75 * result.first_validation[key]


def test_the_players_of_each_loss():
    for loss, steps, autocast in (
        ("nonsaturating", 1, True),
        ("wgan", 5, True),
        ("wgan_gp", 5, False),
        ("relativistic", 1, False),
    ):
        critic, generator = made(replace(CONFIG, loss=loss)).players()
        assert (critic.name, critic.steps, critic.autocast) == ("critic", steps, autocast)
        assert (generator.name, generator.steps) == ("generator", 1)
    assert replace(CONFIG, loss="wgan_gp").penalty_weight == 10
    assert replace(CONFIG, size=64, loss="relativistic").penalty_weight == pytest.approx(4.0)


def test_finishing_early_gives_nothing():
    model = made()
    assert model.finish(model.begin([GanRequest()], Draw(0))) == []
    assert model.noise_of() == ("noise", (6,))


@pytest.mark.parametrize(
    ("requests", "message"),
    [
        ([], "nothing was asked"),
        ([GanRequest(noise=np.arange(6))], "floats"),
        ([GanRequest(noise=np.zeros(5))], "6 floats"),
        ([GanRequest(noise=np.full(6, np.nan))], "finite"),
        ([GanRequest(style=4)], "has 3"),
        ([GanRequest(words=(6,))], "has 5"),
    ],
)
def test_requests_that_cannot_be(requests, message):
    with pytest.raises(UsageError, match=message):
        made().begin(requests, Draw(0))


@pytest.mark.parametrize(
    "settings",
    [
        {"loss": "hinge"},
        {"size": 12},
        {"size": 4},
        {"width": 12},
        {"noise": 0},
        {"embedding": 0},
        {"critic_steps": -1},
        {"penalty": -1.0, "loss": "wgan_gp"},
        {"penalty": 1.0},
        {"clip": 0.0},
        {"styles": -1},
    ],
)
def test_settings_that_cannot_be(settings):
    with pytest.raises(ConfigError):
        replace(CONFIG, **settings)
