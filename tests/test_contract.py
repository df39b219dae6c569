"""Every family of the registry, and the toys: trains, samples, reloads, repeats itself."""

from __future__ import annotations

import dataclasses
from functools import cache

import numpy as np
import pytest
import torch

from musegen.errors import GenerationError, UsageError
from musegen.guide import Advance, Guide, RowRequest
from musegen.models.bar_vae import BarRequest
from musegen.models.bar_vae_config import BarVaeConfig
from musegen.models.design_vae import DesignRequest
from musegen.models.design_vae_config import DesignVaeConfig
from musegen.models.diffusion import DiffusionRequest
from musegen.models.gan import GanRequest
from musegen.models.gan_config import GanConfig
from musegen.models.image_config import DiffusionConfig
from musegen.models.image_features_config import ImageFeaturesConfig
from musegen.models.image_vae import ImageVaeRequest
from musegen.models.image_vae_config import ImageVaeConfig
from musegen.models.registry import GENERATORS
from musegen.models.stylizer import StyleRequest
from musegen.models.stylizer_config import StylizerConfig
from musegen.models.transformer_config import TransformerConfig
from musegen.sampling.draw import Draw
from musegen.sampling.engines.torch import TorchEngine
from musegen.sampling.sampler import sample
from musegen.training.checkpoint import load_model, save_model
from musegen.training.config import TrainerConfig
from musegen.training.trainer import Trainer

from . import toy_families
from .toy_families import BlobConfig, Held, Points

FIELDS = (9, 6, 5)


class FreeGuide:
    """Allows everything; ends after some rows, which differ from sample to sample."""

    def __init__(self, config, rows):
        self.config, self.left, self.rows = config, rows, []

    def start(self):
        return self._advance([1] * len(self.config.field_sizes), True)

    def mask(self, field, chosen):
        allowed = np.ones(self.config.field_sizes[field], dtype=bool)
        allowed[0] = False
        return allowed

    def bias(self, field, chosen):
        return None

    def accept(self, row):
        self.rows.append(tuple(row))
        return self._advance(row, False) if len(self.rows) < self.left else None

    def result(self):
        return self.rows

    def _advance(self, row, restart):
        place = np.full((1, len(self.config.axes)), float(len(self.rows)))
        channels = np.array([[len(self.rows) % size for _, size in self.config.channels]])
        channels = channels.reshape(1, -1).astype(np.int64)
        return Advance(np.array([row]), channels, place, restart)


class Counting:
    """Rows that count upwards: there is something to learn."""

    def __init__(self, config):
        self.config = config

    def batch(self, index):
        rng = np.random.default_rng(index)
        config, length = self.config, 16
        start = rng.integers(0, 100, (4, 1))
        steps = start + np.arange(length + 1)
        rows = np.stack([steps % (size - 1) + 1 for size in config.field_sizes], -1)
        places = np.broadcast_to(np.arange(length, dtype=np.float32)[None, :, None], (4, length, 1))
        count = len(config.channels)
        return {
            "rows": rows[:, :-1],
            "targets": rows[:, 1:],
            "channels": np.zeros((4, length, count), np.int64),
            "coordinates": np.repeat(places, len(config.axes), axis=2),
            "segments": np.ones((4, length), np.int64),
            "weights": np.ones((4, length), np.float32),
            "notes": np.ones((4, length), bool),
        }

    def batches(self):
        return [self.batch(10_000)]


class CountingBars(Counting):
    """Bars of rows that count upwards from one of a few places: what a latent can tell."""

    def batch(self, index):
        rng = np.random.default_rng(index)
        config, count, length = self.config, 6, 5
        lead, size = config.lead, config.lead + length
        shape = (count // 2, 2 * size)  # two bars in a row of the batch
        steps = rng.integers(0, 4, (count, 1)) + np.arange(length + 1)
        steps = np.stack([steps % (each - 1) + 1 for each in config.field_sizes], -1)
        rows = np.zeros((count, size, len(config.field_sizes)), np.int16)
        targets = rows.copy()
        rows[:, lead:], targets[:, lead:] = steps[:, :-1], steps[:, 1:]
        places = np.broadcast_to(np.arange(size, dtype=np.float32)[None, :, None], (count, size, 1))
        bars = np.repeat(1 + np.arange(count), size).reshape(shape)
        return {
            "rows": rows.reshape(*shape, -1),
            "targets": targets.reshape(*shape, -1),
            "channels": np.zeros((*shape, len(config.channels)), np.int16),
            "coordinates": np.repeat(places, len(config.axes), axis=2).reshape(*shape, -1),
            "segments": np.tile(np.repeat([1, 2], size), (count // 2, 1)),
            "weights": (targets[..., 0] > 0).astype(np.float32).reshape(shape),
            "notes": (targets[..., 0] > 0).reshape(shape),
            "bars": bars,
            "starts": np.arange(count) * size,
            "cells": np.arange(count),
            "places": np.ones((1, count), bool),
            "attributes": rng.standard_normal((count, config.attributes)).astype(np.float32),
        }


class LedGuide(FreeGuide):
    """Begins with the empty rows of a bar's latent."""

    def start(self):
        one, lead = super().start(), self.config.lead
        return Advance(
            np.pad(one.rows, ((lead, 0), (0, 0))),
            np.pad(one.channels, ((lead, 0), (0, 0))),
            np.pad(one.coordinates, ((lead, 0), (0, 0))),
            True,
        )


@dataclasses.dataclass
class Case:
    """What a family needs to be put through the contract."""

    family: str
    config: object
    source: object
    held: object
    request: object
    """From (model, number of the sample) to a request; those of a batch share one engine."""
    steps: int = 20
    registry: dict = dataclasses.field(default_factory=lambda: dict(GENERATORS))
    training: dict = dataclasses.field(default_factory=dict)
    """Settings of the trainer that are not those of the others."""


def rows_case(**settings):
    config = TransformerConfig(
        **{"field_sizes": FIELDS, "width": 32, "layers": 2, "heads": 4, "context": 32, **settings}
    )

    def request(model, number, engines={}):  # noqa: B006 - one engine for each model
        engine = engines.setdefault(id(model), (model, TorchEngine(model)))[1]
        return RowRequest(FreeGuide(config, 4 + number % 5), engine)

    return Case("transformer", config, Counting(config), Counting(config), request)


def bars_case(**settings):
    sizes = {"width": 32, "encoder_layers": 1, "decoder_layers": 1, "prior_layers": 1, "heads": 4}
    given = {"slots": 2, "slot_width": 4, "longest": 32, "context": 32, "section": 6, **settings}
    config = BarVaeConfig(field_sizes=FIELDS, field_names=("a", "b", "c"), **sizes, **given)

    def request(model, number, engines={}):  # noqa: B006 - one engine for each model
        engine = engines.setdefault(id(model), (model, TorchEngine(model.decoder)))[1]
        latent = None if number % 2 else np.full(config.latent, 0.5)
        return BarRequest(LedGuide(config, 4 + number % 5), engine, latent)

    return Case("bar_vae", config, CountingBars(config), CountingBars(config), request)


def toys():
    return {
        name: dataclasses.replace(family, model=f"{toy_families.__name__}:{name.capitalize()}")
        for name, family in toy_families.TOYS.items()
    }


def toy_case(name, steps=20):
    return Case(name, BlobConfig(), Points(), Held(), lambda model, number: None, steps, toys())


class Gradients:
    """Pictures that grow lighter in one of two directions: the style says in which."""

    def __init__(self, size=8, seed=0):
        self.size, self.seed = size, seed

    def batch(self, index):
        rng = np.random.default_rng([self.seed, index])
        style = rng.integers(1, 3, 8)
        ramp = np.linspace(-1, 1, self.size, dtype=np.float32)
        down = np.repeat(ramp[:, None], self.size, axis=1)
        images = np.stack([down if one == 1 else down.T for one in style])[:, None]
        words = rng.integers(0, 4, (8, 3))
        return {"images": images, "style": style, "words": words}

    def batches(self):
        return [self.batch(10_000)]


def images_case(family, config, request, steps=20, **training):
    def asked(model, number):
        return request(style=number % 3, words=(1, 2)[: number % 3])

    return Case(family, config, Gradients(), Gradients(), asked, steps, training=training)


def stylizer_case():
    config = StylizerConfig(size=8, styles=2, words=3, width=8, depth=1)
    pictures = Gradients().batch(0)["images"]

    def asked(model, number):
        method = ("gatys", "adain")[number % 2]
        return StyleRequest(pictures[number], pictures[-1], method=method, steps=2)

    return Case("stylizer", config, Gradients(), Gradients(), asked)


class Shapes:
    """Designs of four numbers, which follow from two that are told and one that is not."""

    def batch(self, index):
        rng = np.random.default_rng(index)
        told, own = rng.standard_normal((32, 2)), rng.standard_normal((32, 1))
        numbers = np.concatenate((told, own, told[:, :1] - own), 1).astype(np.float32)
        return {"numbers": numbers, "conditions": told.astype(np.float32)}

    def batches(self):
        return [self.batch(10_000)]


def designs_case():
    config = DesignVaeConfig(numbers=4, conditions=2, latent=2, width=16)

    def asked(model, number):
        return DesignRequest(np.array([number / 4, -0.5]))

    return Case("design_vae", config, Shapes(), Shapes(), asked)


IMAGES = {"size": 8, "styles": 2, "words": 3}
UNET = DiffusionConfig(**IMAGES, width=8, multiples=(1, 2), attention=4, embedding=16)
CHAIN = dataclasses.replace(UNET, process="ddpm", prediction="v", chain=50)

CASES = {
    "transformer": rows_case(channels=(("a", 3),), axes=("index", "time")),
    "transformer, layer": rows_case(field_heads="layer"),
    "transformer, relative": rows_case(relative_heads=True),
    "transformer, flat": rows_case(field_sizes=(12,)),
    "bar_vae": bars_case(channels=(("a", 3),), axes=("index", "time"), word_dropout=0.1),
    "diffusion": images_case("diffusion", UNET, DiffusionRequest),
    "diffusion, ddpm": images_case("diffusion", CHAIN, DiffusionRequest),
    "gan": images_case(
        "gan",
        GanConfig(**IMAGES, width=8, noise=8),
        GanRequest,
        100,
        optimizer="adamw",
        learning_rate=0.003,
        betas=(0.0, 0.9),
        clip=0.0,
    ),
    "image_vae": images_case(
        "image_vae", ImageVaeConfig(**IMAGES, width=8, latent=4), ImageVaeRequest
    ),
    "image_features": images_case(
        "image_features", ImageFeaturesConfig(**IMAGES, width=8, features=8), None
    ),
    "stylizer": stylizer_case(),
    "design_vae": designs_case(),
    "blob": toy_case("blob"),
    "duel": toy_case("duel", 100),  # the critic must know something before the maker learns
}
"""A family of the registry needs an entry of its name here; a test says so."""

ROWS = (TransformerConfig, BarVaeConfig)
"""Settings of families whose samples are rows."""


def test_every_family_is_here():
    assert set(GENERATORS) <= {case.family for case in CASES.values()}
    assert set(GENERATORS) <= set(CASES)
    for name, family in GENERATORS.items():
        assert family.name == name and family.description
        assert {"tiny", "small", "base"} <= set(family.presets)


def trained(case):
    torch.manual_seed(0)
    model = case.registry[case.family].model_class()(case.config)
    settings = {"learning_rate": 0.02, "warmup_steps": 2, "precision": "fp32"} | case.training
    config = TrainerConfig(steps=case.steps, validate_every=0, **settings)
    result = Trainer(model, config, case.source, case.held, device="cpu").fit()
    return model, result


@cache
def case_named(name):
    case = CASES[name]
    case.model, case.result = trained(case)
    return case


@pytest.fixture(params=CASES, ids=list(CASES))
def case(request):
    """Every family, trained once."""
    return case_named(request.param)


DRAWING = [name for name, one in CASES.items() if one.registry[one.family].writes != "features"]


@pytest.fixture(params=DRAWING, ids=DRAWING)
def drawing(request):
    """Every family that there are samples of: what describes pictures makes none."""
    return case_named(request.param)


def flat(samples):
    return [np.asarray(result, dtype=float).ravel().tolist() for result in samples.results]


def sampled(case, model, *, seed=7, count=6, batch_size=4):
    requests = [case.request(model, number) for number in range(count)]
    return sample(model, requests, Draw(seed=seed), batch_size=batch_size)


def test_the_loss_falls(case):
    monitor = case.model.monitor()
    first, last = case.result.first_validation, case.result.last_validation
    assert last[monitor] < 0.95 * first[monitor]


def test_it_samples(drawing):
    samples = sampled(drawing, drawing.model)
    assert len(samples.results) == 6 and samples.steps > 0 and not samples.interrupted
    if isinstance(drawing.config, ROWS):
        assert [len(rows) for rows in samples.results] == [4, 5, 6, 7, 8, 4]
        for rows in samples.results:
            rows = np.array(rows)
            assert (rows >= 1).all() and (rows < np.array(drawing.config.field_sizes)).all()


def test_the_same_seed_gives_the_same_output(drawing):
    one = flat(sampled(drawing, drawing.model))
    assert one == flat(sampled(drawing, drawing.model))
    assert one != flat(sampled(drawing, drawing.model, seed=8))


def test_a_sample_does_not_depend_on_its_batch(drawing):
    whole = flat(sampled(drawing, drawing.model, batch_size=6))
    for size in (1, 2):
        found = flat(sampled(drawing, drawing.model, batch_size=size))
        for one, two in zip(whole, found, strict=True):
            # pictures and toys are computed in float32; rows are drawn from rounded logits
            tolerance = 0 if isinstance(drawing.config, ROWS) else 1e-5
            np.testing.assert_allclose(one, two, rtol=0, atol=tolerance)


def test_it_reloads_to_the_same_output(drawing, tmp_path):
    save_model(tmp_path, drawing.family, drawing.model, {}, "", {}, storage="fp32")
    back, _ = load_model(tmp_path, drawing.registry)
    assert flat(sampled(drawing, back)) == flat(sampled(drawing, drawing.model))


def test_what_draws_nothing_says_so(tmp_path):
    """It reloads as the others do, to the same weights, and refuses to be drawn from."""
    (name,) = set(CASES) - set(DRAWING)
    case = case_named(name)
    save_model(tmp_path, case.family, case.model, {}, "", {}, storage="fp32")
    back, _ = load_model(tmp_path, case.registry)
    state = case.model.state_dict()
    assert all(torch.equal(tensor, state[key]) for key, tensor in back.state_dict().items())
    with pytest.raises(TypeError, match=r"does not define begin"):
        sample(back, [None], Draw(seed=1))


def test_the_free_guide_is_a_guide():
    assert isinstance(FreeGuide(CASES["transformer"].config, 3), Guide)


def test_rules_that_leave_nothing_are_said():
    case = CASES["transformer"]
    torch.manual_seed(0)
    model = case.registry[case.family].model_class()(case.config)
    requests = [case.request(model, number) for number in range(2)]
    guide = requests[1].guide
    guide.mask = lambda field, chosen: np.zeros(FIELDS[field], bool)
    with pytest.raises(GenerationError, match="sample 1: the rules leave nothing for field 0"):
        sample(model, requests, Draw(seed=1), batch_size=2)


def test_requests_of_a_batch_share_an_engine():
    case = CASES["transformer"]
    model = case.registry[case.family].model_class()(case.config)
    one, two = (RowRequest(FreeGuide(case.config, 3), TorchEngine(model)) for _ in range(2))
    with pytest.raises(UsageError, match="share one engine"):
        model.begin([one, two], Draw())
    with pytest.raises(UsageError, match="nothing was asked for"):
        model.begin([], Draw())


def test_finishing_early_gives_what_is_there():
    case = CASES["transformer"]
    model = case.registry[case.family].model_class()(case.config)
    requests = [case.request(model, number) for number in range(3)]
    asked = []
    samples = sample(model, requests, Draw(seed=1), stop=lambda: len(asked) == 2 or asked.append(1))
    assert samples.interrupted and [len(rows) for rows in samples.results] == [3, 3, 3]
