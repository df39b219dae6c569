"""What made pictures are measured by, on made data whose answers are known."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from musegen import pictures
from musegen.cli.main import run
from musegen.errors import CheckpointError, UsageError
from musegen.evaluation.image_metrics import copies, frechet, neighbours
from musegen.models.image_features import ImageFeatures, contrast_loss, described, views
from musegen.models.image_features_config import ImageFeaturesConfig
from musegen.picture_report import evaluate, pictures_markdown

from .test_pictures import trained  # noqa: F401


def test_frechet_of_gaussians_is_the_closed_form():
    rng = np.random.default_rng(0)
    mix = rng.standard_normal((3, 3))
    one = rng.standard_normal((40_000, 3))
    other = one @ mix + [1.0, -2.0, 0.5]
    assert frechet(one, one) == pytest.approx(0, abs=1e-9)
    assert frechet(one, one + [3.0, 0.0, 4.0]) == pytest.approx(25)
    assert frechet(one, 2 * one) == pytest.approx(np.trace(np.cov(one.T)), abs=0.01)
    # of N(0, I) and N(m, A A'): |m|^2 + tr(I + A A' - 2 (A A')^(1/2)), of which the root's trace
    # is the sum of the singular values of A
    values = np.linalg.svd(mix, compute_uv=False)
    wanted = 5.25 + ((values - 1) ** 2).sum()
    assert frechet(one, other) == pytest.approx(wanted, rel=0.05)
    assert frechet(one, other) == pytest.approx(frechet(other, one))


def test_neighbours_by_hand():
    line = np.arange(10.0)[:, None]
    same = neighbours(line, line, k=2)
    assert same["precision"] == same["recall"] == same["coverage"] == 1
    far = neighbours(line, line + 100, k=2)
    assert far == {"precision": 0.0, "recall": 0.0, "density": 0.0, "coverage": 0.0}
    one_place = neighbours(line, np.full((10, 1), 4.0), k=1)
    assert one_place["precision"] == 1 and one_place["recall"] == 0.1
    # the surroundings of 3, 4 and 5 reach 4: three of them, over k = 1; and those three are covered
    assert one_place["density"] == pytest.approx(3) and one_place["coverage"] == pytest.approx(0.3)


def test_copies_are_found():
    rng = np.random.default_rng(0)
    training = rng.integers(0, 256, (60, 8, 8), dtype=np.uint8)
    near = np.clip(training[:5].astype(int) + 3, 0, 255).astype(np.uint8)
    apart, rate = copies(np.concatenate((training[:5], near)), training)
    assert rate == 1 and (apart[:5] == 0).all() and (apart[5:] > 0).all() and apart.max() < 0.013
    _, other = copies(rng.integers(0, 256, (20, 8, 8), dtype=np.uint8), training)
    assert other == 0


def test_views_keep_what_a_picture_is_and_white_comes_in():
    images = torch.full((4, 1, 16, 16), -1.0)
    one, other = (views(images, torch.Generator().manual_seed(s)) for s in (0, 1))
    assert one.shape == images.shape and not torch.equal(one, other)
    assert one.min() >= -1 and one.max() <= 1.0001
    assert (one < -0.9).float().mean() > 0.4 and (one > 0.9).any()
    same = views(images, torch.Generator().manual_seed(0))
    assert torch.equal(one, same)


def test_contrast_is_least_where_partners_are_alike():
    rng = torch.Generator().manual_seed(0)
    one = torch.randn(8, 16, generator=rng)
    alike, apart = contrast_loss(one, one, 0.2), contrast_loss(one, one.flip(0), 0.2)
    assert alike < apart
    assert contrast_loss(one, one, 0.05) < 0.01


def test_features_are_of_each_picture_alone():
    torch.manual_seed(0)
    model = ImageFeatures(ImageFeaturesConfig(8, 2, 3, width=8, features=6)).eval()
    images = torch.rand(5, 1, 8, 8) * 2 - 1
    features, styles = described(model, images, batch_size=2)
    assert features.shape == (5, 6) and set(styles.tolist()) <= {1, 2}
    torch.testing.assert_close(features, model.features(images))
    assert [one.shape[-1] for one in model.maps(images)] == [8, 4]


@pytest.fixture(scope="module")
def features(trained, tmp_path_factory):  # noqa: F811
    out = tmp_path_factory.mktemp("features") / "net"
    settings = ["model.width=8", "model.features=8", "data.batch_size=8"]
    pictures.train(
        trained.parent / "set", out, family="image_features", max_steps=4, overrides=settings
    )
    return out


def test_a_report(trained, features):  # noqa: F811
    found = evaluate(trained.parent / "set", trained, num=24, features=features, steps=2)
    assert found == evaluate(
        trained.parent / "set", trained, num=24, features=features, steps=2
    ) | {"pictures_per_second": found["pictures_per_second"]}
    floors = found["fd_small"]
    assert floors["made"] > floors["training, in halves"] >= 0
    for kind in ("made", "held out"):
        for name in ("precision", "recall", "coverage", "copies", "style_accuracy"):
            assert 0 <= found[kind][name] <= 1
    text = pictures_markdown(found)
    assert "never set it beside an FID" in text and "| precision |" in text
    with pytest.raises(UsageError, match="20 pictures"):
        evaluate(trained.parent / "set", trained, num=3, features=features)
    with pytest.raises(CheckpointError, match="describes no pictures"):
        evaluate(trained.parent / "set", trained, num=24, features=trained)


def test_the_verb(trained, features, tmp_path, capsys, monkeypatch):  # noqa: F811
    monkeypatch.setattr(
        "musegen.picture_report.evaluate.__kwdefaults__",
        {**evaluate.__kwdefaults__, "features": features},
    )
    words = ["evaluate", "--data", str(trained.parent / "set"), "--model", str(trained)]
    assert run([*words, "--num", "20", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num"] == 20
    assert run([*words, "--tasks", "infill"]) == 2
    assert "a model of images has no --tasks" in capsys.readouterr().err
    assert run([*words, "--source", str(tmp_path)]) == 2
    assert "DIR/data" in capsys.readouterr().err
    words[2] = str(tmp_path / "none")
    assert run(words) == 1
    assert "makes one in DIR/data" in capsys.readouterr().err
