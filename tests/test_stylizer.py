"""Style on content: the statistics, both ways of moving it, and the verb."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from musegen import pictures, styling
from musegen.cli.main import run
from musegen.errors import CheckpointError, ConfigError, DataError, UsageError
from musegen.models.image_features import ImageFeatures
from musegen.models.image_features_config import ImageFeaturesConfig
from musegen.models.stylizer import (
    StyleRequest,
    Stylizer,
    adain,
    gram,
    moments,
    pixel_objective,
)
from musegen.models.stylizer_config import StylizerConfig
from musegen.picture_files import origin_of_picture, pixels_of
from musegen.sampling.draw import Draw
from musegen.sampling.sampler import sample

from .drawn import photo, shapes

CONFIG = StylizerConfig(size=16, width=8)


def stripes(side=16, period=4, across=False):
    places = np.arange(side)
    one = np.where(places // (period // 2) % 2, 1.0, -1.0).astype(np.float32)
    picture = np.repeat(one[:, None], side, axis=1)
    return (picture.T if across else picture)[None].copy()


def disc(side=16):
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    return np.where(x**2 + y**2 < (side / 3) ** 2, -1.0, 1.0).astype(np.float32)[None]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(3)
    return Stylizer(CONFIG)


def made(model, seed=1, **request):
    given = {"content": disc(), "style": stripes(), **request}
    return sample(model, [StyleRequest(**given)], Draw(seed=seed)).results[0]


def test_the_gram_matrix_by_hand():
    maps = torch.tensor([[[[1.0, 2.0]], [[3.0, -1.0]]]])  # two channels, two places
    assert torch.equal(gram(maps), torch.tensor([[[2.5, 0.5], [0.5, 5.0]]]))
    # Over places, not summed: a picture laid beside itself has the same.
    assert torch.equal(gram(torch.cat((maps, maps), dim=3)), gram(maps))
    # Where things are does not matter: that is what makes it style.
    assert torch.equal(gram(maps.flip(3)), gram(maps))


def test_adain_has_the_moments_of_the_style():
    torch.manual_seed(0)
    content, style = torch.randn(2, 3, 8, 8), 5 + 3 * torch.randn(2, 3, 6, 6)
    mixed = adain(content, style)
    for one, other in zip(moments(mixed), moments(style), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
    # The common wrong form takes the moments of all channels together.
    assert not torch.allclose(mixed.std((2, 3)), style.std().expand(2, 3), rtol=1e-2)
    torch.testing.assert_close(adain(content, content), content, rtol=1e-4, atol=1e-4)


def test_half_means_half():
    torch.manual_seed(0)
    content, style, other = (torch.randn(1, 4, 8, 8) for _ in range(3))
    grams = [gram(style)]
    at = [pixel_objective([other], content, grams, s).item() for s in (0.0, 0.5, 1.0)]
    assert at[1] == pytest.approx((at[0] + at[2]) / 2)
    assert pixel_objective([content], content, grams, 0.0).item() == 0
    assert pixel_objective([style], content, grams, 1.0).item() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("method", ["gatys", "adain"])
def test_style_moves_with_strength(model, method):
    """Strength 0 keeps the content's map; more of it brings the statistics nearer to the style."""
    seen = model.encoder.maps(torch.from_numpy(stripes()[None]))
    wanted = [gram(one) for one in seen]

    def distance(picture):
        maps = model.encoder.maps(torch.from_numpy(picture[None]))
        return pixel_objective(maps, seen[-1], wanted, 1.0).item()

    found = [made(model, method=method, strength=s, variation=0.0) for s in (0.0, 0.5, 1.0)]
    assert not np.array_equal(found[0], found[2])
    if method == "gatys":  # an untrained decoder draws no style
        assert distance(found[2]) < 0.2 * distance(found[0])
        assert np.abs(found[0] - disc()).mean() < 0.2
        assert distance(found[2]) <= distance(found[1]) + 1e-3


def test_training_leaves_the_encoder_alone(tmp_path):
    built = shapes(tmp_path)
    features = tmp_path / "features"
    few = ["model.width=8", "data.batch_size=8"]
    pictures.train(
        built.folder, features, family="image_features", max_steps=2, overrides=few, seed=4
    )
    out = tmp_path / "stylizer"
    told = pictures.train(
        built.folder,
        out,
        family="stylizer",
        features=features,
        max_steps=8,
        overrides=["model.depth=1", "data.batch_size=8"],
    )
    assert told["best"] < told["first_validation"]["distance"]
    from musegen.models.registry import GENERATORS
    from musegen.training.checkpoint import load_model

    one, other = (load_model(folder, GENERATORS)[0] for folder in (features, out))
    known = one.state_dict()
    for name, tensor in other.encoder.state_dict().items():
        assert torch.equal(tensor, known[name]), name
    content, style = tmp_path / "a.png", tmp_path / "b.png"
    photo(content, 1)
    photo(style, 2)
    (drawn,) = styling.stylize(content, style, model=out, method="adain", size=16)
    assert drawn.pixels.shape == (16, 16) and drawn.facts["verb"] == "image stylize"
    with pytest.raises(UsageError, match="leave out --features"):
        pictures.train(built.folder, tmp_path / "x", features=features)
    with pytest.raises(UsageError, match="name a model of features"):
        pictures.train(built.folder, tmp_path / "x", family="stylizer", features=out)
    with pytest.raises(CheckpointError, match="which writes transfers"):
        pictures.sample(model=out)


def test_features_of_another_width_are_refused(model):
    with pytest.raises(UsageError, match=r"set model\.width"):
        model.see_with(ImageFeatures(ImageFeaturesConfig(size=16, width=16)))


@pytest.mark.parametrize(
    ("settings", "text"),
    [({"width": 12}, "width"), ({"depth": 4}, "depth"), ({"style_weight": 0}, "style_weight")],
)
def test_shapes_that_cannot_be(settings, text):
    with pytest.raises(ConfigError, match=text):
        StylizerConfig(**{"size": 16, **settings})


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        ({"method": "magic"}, "method 'magic'"),
        ({"strength": 1.5}, "strength"),
        ({"steps": 0}, "at least 1"),
        ({"content": disc(10)}, "content of shape"),
        ({"style": disc()[0]}, "style of shape"),
    ],
)
def test_requests_that_cannot_be(model, request_, text):
    with pytest.raises(UsageError, match=text):
        made(model, **request_)


# --- The verb -------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path):
    photo(tmp_path / "a.png", 1)
    photo(tmp_path / "b.jpg", 2)
    return tmp_path / "a.png", tmp_path / "b.jpg"


def test_the_verb_draws_with_what_is_installed(files, tmp_path, capsys):
    content, style = map(str, files)
    asked = ["image", "stylize", content, "--like", style, "--size", "16", "--steps", "2"]
    assert run([*asked, "--num", "2", "--out", str(tmp_path / "o"), "--json", "--quiet"]) == 0
    told = json.loads(capsys.readouterr().out)["files"]
    assert len(told) == 2 and told[0]["model"] == "glyph-styles"
    first, second = (Path(one["path"]).read_bytes() for one in told)
    assert pixels_of(first).shape[:2] == (64, 64)  # 16 pixels, each a square of 4
    assert not np.array_equal(pixels_of(first), pixels_of(second))
    assert run([*asked, "--out", str(tmp_path / "again.png"), "--quiet"]) == 0
    assert (tmp_path / "again.png").read_bytes() == first
    origin = origin_of_picture(tmp_path / "again.png")
    assert origin["options"]["style"] == "b.jpg" and origin["options"]["strength"] == 0.8


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (["--size", "20"], "multiple of 16"),
        (["--size", "1024"], "16 to 512"),
        (["--method", "adain", "--steps", "3"], "only gatys has steps"),
        (["--model", "icons"], "name a stylizer"),
        (["--like", "none.png"], "none.png"),
    ],
)
def test_bad_input_is_one_line(files, tmp_path, capsys, more, text):
    asked = ["image", "stylize", str(files[0]), "--like", str(files[1]), "--out", str(tmp_path)]
    assert run([*asked, *more]) in (1, 2)
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1 and text in told[0]


def test_errors_of_the_facade(files):
    with pytest.raises(UsageError, match="1 picture or more"):
        styling.stylize(*files, num=0)
    with pytest.raises(CheckpointError):
        styling.stylize(*files, model="nowhere")
    with pytest.raises(DataError):
        styling.stylize(files[0], files[0].parent)
