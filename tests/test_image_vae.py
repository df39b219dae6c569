"""The autoencoder of pictures: its likelihood, its bound, its prior."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

from musegen.data.image_batches import as_floats
from musegen.errors import ConfigError, UsageError
from musegen.models.image_vae import ImageVae, ImageVaeRequest, kl_to_standard, log_probability
from musegen.models.image_vae_config import ImageVaeConfig
from musegen.models.registry import GENERATORS
from musegen.sampling.draw import Draw
from musegen.sampling.sampler import sample
from musegen.training.checkpoint import load_model, save_model
from musegen.training.config import TrainerConfig
from musegen.training.trainer import Trainer

CONFIG = ImageVaeConfig(8, 3, 5, latent=4, width=8, embedding=8)


class Pictures:
    """Pictures of two greys; a batch is a function of its number."""

    def __init__(self, rows=8):
        self.rows = rows

    def batch(self, index):
        rng = np.random.default_rng(index)
        greys = np.full((self.rows, 8, 8), 255, np.uint8)
        greys[:, :, :4] = rng.integers(0, 200, (self.rows, 1, 1))
        style, words = rng.integers(0, 4, self.rows), rng.integers(0, 6, (self.rows, 2))
        return {"images": as_floats(greys), "style": style, "words": words}

    def batches(self):
        return [self.batch(1000), self.batch(1001)]


def tensors(rows=8, index=0):
    return {key: torch.as_tensor(array) for key, array in Pictures(rows).batch(index).items()}


def made(config=CONFIG, seed=0):
    """One whose parts say something: fresh ones begin at 0, so that the head is middle grey."""
    torch.manual_seed(seed)
    model = ImageVae(config)
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and not module.weight.any():
            nn.init.normal_(module.weight, std=0.2)
    return model


def pictures(model, requests, seed=0, **options):
    return np.stack(sample(model, requests, Draw(seed), **options).results)


# --- The likelihood -----------------------------------------------------------------------------

LEVELS = torch.as_tensor(as_floats(np.arange(256, dtype=np.uint8).reshape(1, 16, 16))).flatten()


@pytest.mark.parametrize("mean", [-3.0, -1.0, 0.0031, 0.5, 1.0, 1.2])
@pytest.mark.parametrize("log_scale", [-7.0, -4.0, -1.0, 2.0])
def test_the_levels_sum_to_1(mean, log_scale):
    each = log_probability(LEVELS, torch.tensor(mean), torch.tensor(log_scale))
    assert torch.isfinite(each).all()
    assert float(each.double().exp().sum()) == pytest.approx(1, abs=1e-4)


def test_a_level_is_the_logistic_between_its_borders():
    """And not the density at its centre, which is no probability: it rises above 1."""
    grey, mean, log_scale = LEVELS[100].double(), 0.1, -1.0
    borders = torch.stack((grey + 1 / 255, grey - 1 / 255))
    high, low = torch.sigmoid((borders - mean) * math.exp(-log_scale))
    ours = log_probability(LEVELS[100], torch.tensor(mean), torch.tensor(log_scale))
    # borders halfway between centres that are 2 / 255 apart
    assert float(ours) == pytest.approx(float(torch.log(high - low)), abs=1e-4)
    least = log_probability(LEVELS, LEVELS, torch.full((256,), -7.0))
    assert (least <= 0).all()


def test_gradients_are_finite_far_away():
    mean = torch.tensor([-50.0, 0.0, 50.0], requires_grad=True)
    log_scale = torch.full((3,), -7.0, requires_grad=True)
    log_probability(torch.tensor([1.0, 0.0, -1.0]), mean, log_scale).sum().backward()
    assert torch.isfinite(mean.grad).all() and torch.isfinite(log_scale.grad).all()
    assert mean.grad[0] > 0 > mean.grad[2]


# --- The bound ----------------------------------------------------------------------------------


def test_the_kl_is_that_of_q_from_the_prior():
    torch.manual_seed(0)
    mean, log_var = torch.randn(6, 4), torch.randn(6, 4)
    one, two = Normal(mean, (0.5 * log_var).exp()), Normal(torch.zeros(6, 4), torch.ones(6, 4))
    ours = kl_to_standard(mean, log_var)
    torch.testing.assert_close(ours, kl_divergence(one, two).sum(1))
    assert not torch.allclose(ours, kl_divergence(two, one).sum(1))
    assert (ours >= 0).all() and not kl_to_standard(0 * mean, 0 * log_var).any()


def test_the_loss_falls_as_the_reconstruction_gets_better(monkeypatch):
    """The sign of the bound: of the same posterior, better means are less."""
    model, batch = made(), tensors()

    def loss(off):
        def said(z, style, words):
            return batch["images"] + off, torch.full_like(batch["images"], -3.0)

        monkeypatch.setattr(model.decoder, "forward", said)
        torch.manual_seed(1)
        return float(model.loss(batch).value.detach())

    assert loss(0.0) < loss(0.1) < loss(0.4)


def test_bits_are_of_the_whole_bound_whatever_beta_is():
    batch = tensors()
    found = []
    for beta in (0.0, 1.0, 4.0):
        model = made(replace(CONFIG, beta=beta))
        torch.manual_seed(2)
        loss = model.loss(batch)
        bits, kl = (float(a / b) for a, b in (loss.metrics["bits_per_dim"], loss.metrics["kl"]))
        assert kl > 0
        wanted = bits + (beta - 1) * kl / (64 * math.log(2))
        assert float(loss.value.detach()) == pytest.approx(wanted, rel=1e-5)
        found.append(bits)
    assert found == pytest.approx([found[0]] * 3)


def test_untaught_it_needs_about_as_many_bits_as_a_wide_logistic():
    """8 bits a pixel would be no knowledge at all; a bug of scale would show here."""
    torch.manual_seed(0)
    loss = ImageVae(CONFIG).loss(tensors())
    total, count = loss.metrics["bits_per_dim"]
    assert 1.5 < float(total / count) < 12


# --- The family ---------------------------------------------------------------------------------


def test_it_trains_and_draws_the_same_again(tmp_path):
    settings = {**GENERATORS["image_vae"].training, "steps": 30, "precision": "fp32"}
    model = made()
    result = Trainer(model, TrainerConfig(**settings), Pictures(), Pictures(), device="cpu").fit()
    first, last = result.first_validation, result.last_validation
    assert last["bits_per_dim"] < 0.9 * first["bits_per_dim"]
    assert last["kl"] >= 0 and 0 <= last["active"] <= 1
    requests = [ImageVaeRequest(style=1, words=(2, 3))] * 3
    drawn = pictures(model, requests)
    assert drawn.shape == (3, 1, 8, 8) and drawn.dtype == np.float32 and np.abs(drawn).max() <= 1
    assert np.array_equal(drawn, pictures(model, requests))
    assert not np.array_equal(drawn, pictures(model, requests, seed=1))
    np.testing.assert_allclose(pictures(model, requests, batch_size=1), drawn, atol=1e-5)
    save_model(tmp_path, "image_vae", model, {}, "", {}, storage="fp32")
    back, _ = load_model(tmp_path, GENERATORS)
    assert np.array_equal(drawn, pictures(back, requests))


def test_new_pictures_come_from_the_prior(monkeypatch):
    """Not from q(z|x): the encoder is not asked, and the latents are N(0, I)."""
    model = made()
    state = model.begin([ImageVaeRequest()] * 500, Draw(0))
    assert state.noise.shape == (500, 4)
    assert abs(float(state.noise.mean())) < 0.1 and abs(float(state.noise.std()) - 1) < 0.1
    mean, log_var = model.encode(tensors()["images"] * 0 + 1)
    assert mean.shape == log_var.shape == (8, 4)

    def asked(images):
        raise AssertionError("the encoder was asked")

    monkeypatch.setattr(model.encoder, "forward", asked)
    drawn = pictures(model, [ImageVaeRequest()] * 2)
    assert not np.allclose(drawn[0], drawn[1])


def test_a_latent_that_is_given_is_taken():
    model = made().eval()
    batch = tensors()
    with torch.no_grad():
        mean, _ = model.encode(batch["images"])
        wanted = model.decoder(mean, 0 * batch["style"], 0 * batch["words"])[0].clamp(-1, 1)
    requests = [ImageVaeRequest(latent=row.numpy()) for row in mean]
    np.testing.assert_allclose(pictures(model, requests), wanted.numpy(), atol=1e-5)
    plain, styled, worded = pictures(
        model,
        [
            ImageVaeRequest(style, words, np.ones(4))
            for style, words in ((0, ()), (2, ()), (0, (4,)))
        ],
    )
    assert not np.allclose(plain, styled) and not np.allclose(plain, worded)


def test_a_collapse_is_said():
    model = made()
    assert "collapse" in model.alarms({"active": 0.0})[0]
    assert not model.alarms({"active": 0.5}) and not model.alarms({})
    same = {key: tensor[:1].expand(4, *tensor.shape[1:]) for key, tensor in tensors().items()}
    assert float(model.loss(same).metrics["active"][0]) == 0


def test_finishing_early_gives_nothing():
    model = made()
    assert model.finish(model.begin([ImageVaeRequest()], Draw(0))) == []
    assert model.noise_of() == ("latent", (4,)) and model.monitor() == "bits_per_dim"


@pytest.mark.parametrize(
    ("requests", "message"),
    [
        ([], "nothing was asked"),
        ([ImageVaeRequest(latent=np.zeros(5))], "takes 4 floats"),
        ([ImageVaeRequest(latent=np.full(4, np.inf))], "4 finite"),
        ([ImageVaeRequest(style=4)], "has 3"),
        ([ImageVaeRequest(words=(-1,))], "has 5"),
    ],
)
def test_requests_that_cannot_be(requests, message):
    with pytest.raises(UsageError, match=message):
        made().begin(requests, Draw(0))


@pytest.mark.parametrize(
    "settings",
    [{"size": 12}, {"width": 4}, {"latent": 0}, {"embedding": 0}, {"beta": -1.0}, {"words": -1}],
)
def test_settings_that_cannot_be(settings):
    with pytest.raises(ConfigError):
        replace(CONFIG, **settings)
