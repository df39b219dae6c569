"""Image models on the shared trainer and sampler, and the verbs that draw."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from musegen import pictures
from musegen.cli.main import run
from musegen.errors import CheckpointError, DataError, UsageError
from musegen.image_model import ImageModel
from musegen.picture_files import SOURCE_TYPE, contact_sheet, origin_of_picture, png_bytes

from .drawn import archive, card, photo, shapes

TINY = ["model.width=8", "model.multiples=[1, 2]", "model.embedding=16", "data.batch_size=8"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The smallest model of shapes, after a few steps."""
    folder = tmp_path_factory.mktemp("model")
    built = shapes(folder)
    out = folder / "tiny"
    summary = pictures.train(built.folder, out, max_steps=6, overrides=TINY)
    assert summary["step"] == 6 and summary["best"] < summary["first_validation"]["error"]
    return out


@pytest.fixture(scope="module")
def model(trained):
    return ImageModel.from_pretrained(trained)


def test_the_checkpoint_is_that_of_every_family(trained, model):
    names = {path.name for path in trained.iterdir()}
    assert {"config.toml", "model.safetensors", "tokenizer.json", "README.md", "last"} <= names
    assert model.styles == ("full", "line") and "circle" in model.words and model.size == 8
    card_text = (trained / "README.md").read_text()
    assert "Styles: full, line" in card_text and "see the data card" in card_text


def test_training_goes_on_and_begins_from_another(tmp_path, trained):
    built = trained.parent / "set"
    again = pictures.train(built, trained, max_steps=6, overrides=TINY, resume=True)
    assert again["step"] == 6
    tuned = pictures.train(built, tmp_path / "tuned", max_steps=2, init=trained, overrides=TINY[3:])
    assert tuned["first_validation"]["error"] == pytest.approx(again["best"], rel=0.02)
    with pytest.raises(UsageError, match="train it with `musegen train`"):
        pictures.train(built, tmp_path / "x", family="transformer")
    with pytest.raises(UsageError, match="--source"):
        pictures.train("icons", tmp_path / "x")


def test_training_on_a_folder_of_pictures(tmp_path):
    for seed in range(24):
        photo(tmp_path / "mine" / f"tree-{seed}.png", seed)
    (tmp_path / "mine" / "broken.png").write_bytes(b"no picture")
    out = tmp_path / "out"
    told = pictures.train(tmp_path / "mine", out, pixels=8, max_steps=2, overrides=TINY)
    assert len(told["notes"]) == 1 and "broken.png" in told["notes"][0]
    assert "your own use" in (out / "README.md").read_text()
    assert ImageModel.from_pretrained(out).styles == ("plain",)


def test_twenty_pictures_of_ones_own_tune_a_model(tmp_path, trained):
    """Their styles and words are the model's where it has them, and some are held out."""
    for seed in range(20):
        photo(tmp_path / "mine" / ("full" if seed < 8 else "sketch") / f"circle-{seed}.png", seed)
    out = tmp_path / "tuned"
    told = pictures.train(tmp_path / "mine", out, init=trained, pixels=8, max_steps=2, lora=2)
    assert any("styles that" in note and "sketch" in note for note in told["notes"])
    tuned = ImageModel.from_pretrained(out)
    assert (tuned.styles, tuned.words) == (
        ("full", "line"),
        ImageModel.from_pretrained(trained).words,
    )
    built = pictures.open_images(out / "data", out / "data")
    assert built.counts["valid"] >= 2 and sum(built.counts.values()) == 20
    spoken = built.spoken(tuned.styles, tuned.words)
    assert set(spoken.array("train", "style").tolist()) == {0, 1}
    circle = 1 + tuned.words.index("circle")
    assert (spoken.array("train", "words") == circle).any(1).all()


def test_the_same_seed_draws_the_same_whatever_is_beside_it(model):
    made = pictures.sample(model=model, style="full", words=["circle"], num=3, random_seed=5)
    again = pictures.sample(model=model, style="full", words=["circle"], num=20, random_seed=5)
    for one, other in zip(made, again, strict=False):
        assert np.array_equal(one.pixels, other.pixels)
    alone = pictures.sample(
        model=model, style="full", words=["circle"], random_seed=5, first_sample=2
    )
    assert np.array_equal(alone[0].pixels, made[2].pixels)
    assert made[0].pixels.shape == (8, 8) and made[0].pixels.dtype == np.uint8


def test_the_ends_of_a_way_are_the_pictures_of_their_seeds(model):
    way = pictures.interpolate(model=model, style="line", steps=4, random_seed=7, to_seed=9)
    for seed, end in ((7, way[0]), (9, way[-1])):
        (one,) = pictures.sample(model=model, style="line", random_seed=seed)
        assert np.abs(one.pixels.astype(int) - end.pixels).max() <= 1
    with pytest.raises(UsageError, match="2 to 256"):
        pictures.interpolate(model=model, steps=1)


def test_a_picture_is_gone_on_from_and_edited(tmp_path, model):
    path = photo(tmp_path / "a.png", 1, (8, 8), "L")
    given = np.asarray(Image.open(path))
    (near,) = pictures.sample(model=model, like=path, strength=0.02)
    assert np.abs(near.pixels.astype(int) - given).mean() < 30
    assert near.facts["options"]["like"] == "a.png"
    (edited,) = pictures.edit(path, (2, 2, 6, 5), model=model)
    kept = np.ones((8, 8), bool)
    kept[2:5, 2:6] = False
    assert np.array_equal(edited.pixels[kept], given[kept])
    for box in ((0, 0, 9, 4), (4, 4, 4, 8), (-1, 0, 2, 2)):
        with pytest.raises(UsageError, match="left, top, right, bottom"):
            pictures.edit(path, box, model=model)
    with pytest.raises(DataError, match="no picture"):
        pictures.sample(model=model, like=tmp_path / "none.png")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"style": "fulll"}, "full"),
        ({"words": ["circel"]}, "did you mean 'circle'"),
        ({"num": 0}, "1 picture or more"),
        ({"strength": 0.5}, "say --like"),
        ({"steps": 0}, "at least 1"),
    ],
)
def test_what_cannot_be_asked(model, options, message):
    with pytest.raises(UsageError, match=message):
        pictures.sample(model=model, **options)


def test_another_kind_of_model_is_refused(model):
    with pytest.raises(CheckpointError, match="writes pieces and not images"):
        ImageModel.from_pretrained("default")
    with pytest.raises(UsageError, match="cannot be asked for flavour"):
        model.request(flavour="sweet")


def test_files_say_how_they_were_made(tmp_path, model):
    (one,) = pictures.sample(model=model, style="line", random_seed=3)
    path = one.save(tmp_path / "one.png", scale=4)
    facts = origin_of_picture(path)
    assert facts["weights"] == model.weights and facts["random_seed"] == 3
    assert facts["options"]["style"] == "line" and "/" not in json.dumps(facts)
    assert SOURCE_TYPE.encode() in path.read_bytes()
    opened = np.asarray(Image.open(path))
    assert opened.shape == (32, 32) and np.array_equal(opened[::4, ::4], one.pixels)
    assert path.read_bytes() == one.save(tmp_path / "two.png", scale=4).read_bytes()
    plain = tmp_path / "plain.png"
    Image.fromarray(one.pixels).save(plain)
    with pytest.raises(UsageError, match="does not say"):
        origin_of_picture(plain)


def test_a_contact_sheet():
    sheet = contact_sheet([np.zeros((4, 4), np.uint8)] * 5, columns=3, gap=1)
    assert sheet.shape == (11, 16) and (sheet == 0).sum() == 5 * 16
    assert png_bytes(sheet, {})[:4] == b"\x89PNG"
    with pytest.raises(UsageError):
        contact_sheet([])


def test_the_verbs(tmp_path, trained, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    named = ["--model", str(trained)]
    assert run(["image", "sample", "--num", "2", "--style", "full", "--json", *named]) == 0
    files = json.loads(capsys.readouterr().out)["files"]
    assert [file["sample"] for file in files] == [0, 1]
    assert all(origin_of_picture(tmp_path / file["path"]) for file in files)
    assert run(["image", "interpolate", "--steps", "3", "--sheet", "--out", "way.png", *named]) == 0
    assert (tmp_path / "way.png").is_file()
    box = ["--box", "0,0,4,4"]
    assert run(["image", "edit", "way.png", *box, "--out", "e.png", *named]) == 0
    before = (tmp_path / "e.png").read_bytes()
    assert run(["image", "edit", "way.png", *box, "--out", "e.png", *named]) == 0
    assert (tmp_path / "e.png").read_bytes() == before
    capsys.readouterr()
    for words, code, message in (
        (["image", "sample", "--style", "ful", *named], 2, "did you mean 'full'"),
        (["image", "sample", "--out", "-", *named], 2, "name a file or a folder"),
        (["image", "sample", "--out", "a.jpg", *named], 2, ".jpg is no format"),
        (["image", "edit", "way.png", "--box", "1,2", *named], 2, "left,top,right,bottom"),
        (["image", "sample", "--model", "bars"], 1, "writes bars and not images"),
    ):
        assert run(words) == code
        captured = capsys.readouterr()
        assert message in captured.err and len(captured.err.splitlines()) == 1


def test_training_from_the_command_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = archive(tmp_path)
    monkeypatch.setattr("musegen.data.image_cards.load_image_card", lambda name: card(path))
    words = ["image", "train", "--data", "shapes", "--source", str(tmp_path), "--out", "m"]
    words += ["--pixels", "8", "--max-steps", "2", "--json"]
    assert run([*words, *(part for setting in TINY for part in ("--set", setting))]) == 0
    assert json.loads(capsys.readouterr().out)["step"] == 2
    assert run(["image", "train", "--data", "none", "--out", "n", "--max-steps", "1"]) in (1, 2)
