"""The U-Net of pictures: what it is told, how it is sampled."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from musegen.errors import ConfigError, UsageError
from musegen.models.diffusion import Diffusion, DiffusionRequest
from musegen.models.image_config import DiffusionConfig
from musegen.models.image_layers import Conditions
from musegen.sampling.draw import Draw
from musegen.sampling.sampler import sample

CONFIG = DiffusionConfig(8, 3, 5, width=8, multiples=(1, 2), attention=4, embedding=16)
CHAIN = replace(CONFIG, process="ddpm", prediction="v", chain=40)


def made(config=CONFIG, scale=0.2):
    """One whose parts say something: fresh ones begin at 0."""
    torch.manual_seed(0)
    model = Diffusion(config)
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and not module.weight.any():
            nn.init.normal_(module.weight, std=scale)
    return model.eval()


def pictures(model, requests, seed=0, **options):
    return np.stack(sample(model, requests, Draw(seed), **options).results)


def test_a_fresh_head_says_nothing_and_later_both_signs():
    fresh = Diffusion(CONFIG)
    x, t = torch.randn(2, 1, 8, 8), torch.rand(2)
    none = torch.zeros(2, dtype=torch.long), torch.zeros(2, 3, dtype=torch.long)
    assert not fresh.net(x, t, *none).any()
    said = made().net(x, t, *none)
    assert said.min() < 0 < said.max()  # a ReLU head could not say negative noise
    kinds = {type(module) for module in fresh.modules()}
    assert nn.GroupNorm in kinds and nn.BatchNorm2d not in kinds


def test_what_is_not_told_adds_nothing():
    told = Conditions(3, 5, 16)
    nothing = told(torch.zeros(2, dtype=torch.long), torch.zeros(2, 4, dtype=torch.long))
    assert not nothing.any()
    one = told(torch.tensor([2]), torch.tensor([[1, 0]]))
    same = told(torch.tensor([2]), torch.tensor([[0, 1]]))
    torch.testing.assert_close(one, same)


@pytest.mark.parametrize("config", [CONFIG, CHAIN, replace(CHAIN, prediction="eps")])
def test_the_same_seed_draws_the_same(config):
    model = made(config)
    requests = [DiffusionRequest(style=1, words=(2, 3), steps=3)] * 3
    first, again = pictures(model, requests), pictures(model, requests)
    assert first.shape == (3, 1, 8, 8) and np.array_equal(first, again)
    assert np.abs(first).max() <= 1
    assert not np.array_equal(first, pictures(model, requests, seed=1))
    alone = pictures(model, requests[:1])
    np.testing.assert_allclose(alone[0], first[0], atol=1e-5)


def test_heun_evaluates_twice_a_step_but_the_last():
    model = made()
    draw = Draw(0)
    with model.sampling():
        state = model.begin([DiffusionRequest(steps=5)], draw)
        while not model.done(state):
            state = model.step(state, draw)
    assert state.evaluations == 9


def test_heun_follows_a_field_that_is_known():
    """Of dx/dt = x Heun's error falls with the square of the steps, Euler's with the steps."""
    model = made()
    model.net.forward = lambda x, t, style, words: x
    start = np.full((1, 8, 8), 0.3)
    wanted = 0.3 * np.exp(1)
    gaps = [
        abs(pictures(model, [DiffusionRequest(steps=steps, noise=start)])[0, 0, 0, 0] - wanted)
        for steps in (8, 16)
    ]
    assert gaps[1] < gaps[0] and gaps[0] < 0.03


def test_guidance_says_it_louder():
    model = made()
    plain = DiffusionRequest(style=1, steps=2)
    base = pictures(model, [plain])
    assert np.array_equal(base, pictures(model, [replace(plain, guidance=1.0)]))
    untold = pictures(model, [DiffusionRequest(steps=2)])
    np.testing.assert_allclose(pictures(model, [replace(plain, guidance=0.0)]), untold, atol=1e-5)
    assert not np.allclose(base, pictures(model, [replace(plain, guidance=3.0)]))


@pytest.mark.parametrize("config", [CONFIG, CHAIN])
def test_a_little_strength_stays_near_the_picture(config):
    model = made(config, scale=0.02)
    given = np.clip(np.random.default_rng(0).standard_normal((1, 8, 8)), -1, 1)
    near, far = (
        np.abs(pictures(model, [DiffusionRequest(start=given, strength=s, steps=4)])[0] - given)
        for s in (0.05, 1.0)
    )
    assert near.mean() < 0.5 * far.mean()


@pytest.mark.parametrize("config", [CONFIG, CHAIN])
def test_a_mask_leaves_the_rest_alone(config):
    model = made(config)
    given = np.clip(np.random.default_rng(0).standard_normal((1, 8, 8)), -1, 1).astype(np.float32)
    mask = np.zeros((1, 8, 8), bool)
    mask[:, 2:5, 2:5] = True
    (filled,) = pictures(model, [DiffusionRequest(start=given, mask=mask, steps=4)])
    np.testing.assert_allclose(filled[~mask], given[~mask], atol=1e-4)
    assert not np.allclose(filled[mask], given[mask])


@pytest.mark.parametrize(
    ("requests", "message"),
    [
        ([], "nothing was asked"),
        ([DiffusionRequest(steps=0)], "at least 1"),
        ([DiffusionRequest(strength=0.5)], "no picture to go on from"),
        ([DiffusionRequest(steps=2), DiffusionRequest(steps=3)], "must agree"),
        ([DiffusionRequest(start=np.zeros((1, 8, 8))), DiffusionRequest()], "all requests"),
    ],
)
def test_requests_that_cannot_be(requests, message):
    with pytest.raises(UsageError, match=message):
        made().begin(requests, Draw(0))


def test_settings_can_be_changed_one_by_one():
    changed = replace(replace(CONFIG, process="ddpm"), prediction="eps")
    assert CONFIG.says == "velocity" and replace(CONFIG, process="ddpm").says == "v"
    assert changed.says == "eps"


def test_guidance_of_a_model_without_conditions():
    model = made(replace(CONFIG, styles=0, words=0))
    assert pictures(model, [DiffusionRequest(steps=1)]).shape == (1, 1, 8, 8)
    with pytest.raises(UsageError, match="without conditions"):
        pictures(model, [DiffusionRequest(guidance=2.0)])


@pytest.mark.parametrize(
    "settings",
    [
        {"process": "ddpm", "prediction": "velocity"},
        {"prediction": "eps"},
        {"size": 24},
        {"multiples": (1, 2, 2, 2, 2)},
        {"width": 12},
        {"dropout": 1.0},
        {"words": -1},
    ],
)
def test_settings_that_cannot_be(settings):
    with pytest.raises(ConfigError):
        replace(CONFIG, **settings)
