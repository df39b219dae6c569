"""Pictures to train on: archives and folders, near copies, splits, batches."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from musegen.assets import image_cards
from musegen.data.drawings import read_picture, words_of
from musegen.data.image_batches import ImageBatches, ImageChanges, ValidImages, as_floats
from musegen.data.image_cards import load_image_card
from musegen.data.image_set import ImageSet, build_images, near_groups
from musegen.errors import ConfigError, DataError, UsageError

from .drawn import archive, card, photo, shapes


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return shapes(tmp_path_factory.mktemp("images"))


def test_the_cards_that_come_along():
    assert set(image_cards()) == {"icons", "image_folder"}
    icons = load_image_card("icons")
    assert [package.licence for package in icons.packages] == ["Apache-2.0", "MIT", "ISC"]
    assert all(len(package.sha256) == 64 for package in icons.packages) and icons.may_ship
    assert "npm pack" in icons.get and not load_image_card("image_folder").packages
    with pytest.raises(DataError, match="icons"):
        load_image_card("icon")


def test_a_set_of_drawings(built):
    assert built.styles == ("full", "line") and built.size == 8
    assert sum(built.counts.values()) + built.report["copies"] == built.report["read"] == 64
    assert {"circle", "square", "round", "shapes"} <= set(built.words) and built.may_ship
    for split in ("train", "valid", "test"):
        pictures, style, words = (built.array(split, kind) for kind in ("", "style", "words"))
        names = built.names(split)
        assert len(names) == len(pictures) == len(style) == len(words)
        assert not any("brand" in name for name in names)
        for name, kind, told in zip(names, style, words, strict=True):
            assert built.styles[kind - 1] in name
            said = {built.words[number - 1] for number in told if number}
            assert (name.split("/")[-1].split("-")[0] in said) and (
                ("round" in said) == ("circle" in name)
            )
    full = built.array("train")[built.array("train", "style") == 1]
    line = built.array("train")[built.array("train", "style") == 2]
    assert full.mean() < line.mean()  # black ink on white


def test_what_is_alike_is_in_one_split(built):
    glyphs = {split: {n.split("/")[-1] for n in built.names(split)} for split in built.counts}
    assert not glyphs["train"] & (glyphs["valid"] | glyphs["test"])
    assert all(built.counts.values())
    every = {split: built.array(split).reshape(built.counts[split], -1) / 255 for split in glyphs}
    for held_out in ("valid", "test"):
        for one in every[held_out]:
            assert np.abs(every["train"] - one).mean(1).min() >= 0.04


def test_copies_are_left_out_and_what_resembles_is_grouped():
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 256, (2, 8, 8), dtype=np.uint8)
    near = np.clip(one.astype(int) + 6, 0, 255).astype(np.uint8)  # 6/255 = 0.024
    kept, group = near_groups(np.stack([one, one, near, other, other]), ["a", "b", "c", "d", "e"])
    assert kept.tolist() == [0, 2, 3]
    assert len({group[0], group[1], group[2]}) == 1 and group[3] == group[4] != group[0]
    _, named = near_groups(np.stack([one, other]), ["same", "same"])
    assert named[0] == named[1]


def test_building_is_refused_with_what_to_do(tmp_path, built):
    path = archive(tmp_path)
    with pytest.raises(DataError, match="is not there; in that folder"):
        build_images(card(path), tmp_path / "a", tmp_path / "elsewhere")
    asked = card(path)
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(DataError, match="not the archive"):
        build_images(asked, tmp_path / "a", tmp_path)
    with pytest.raises(UsageError, match="8, 16, 32"):
        build_images(asked, tmp_path / "a", tmp_path, 30)
    with pytest.raises(UsageError, match="exists"):
        build_images(asked, built.folder, tmp_path)
    assert not list(tmp_path.glob(".a.*"))


def test_a_folder_of_pictures(tmp_path):
    for seed in range(12):
        photo(tmp_path / "in" / ("cats" if seed % 2 else "dogs") / f"one-{seed}.png", seed)
    (tmp_path / "in" / "broken.png").write_bytes(b"no picture")
    (tmp_path / "in" / "notes.txt").write_text("not read")
    made = build_images(load_image_card("image_folder"), tmp_path / "set", tmp_path / "in", 8)
    assert made.styles == ("cats", "dogs") and made.words == ("one",) and not made.may_ship
    assert len(made.report["skipped"]) == 1 and "broken.png" in made.report["skipped"][0]
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="no pictures"):
        build_images(load_image_card("image_folder"), tmp_path / "b", empty, 8)
    photo(empty / "one.png", 0)
    with pytest.raises(DataError, match="at least 8"):
        build_images(load_image_card("image_folder"), tmp_path / "b", empty, 8)
    with pytest.raises(DataError, match="no folder"):
        build_images(load_image_card("image_folder"), tmp_path / "b", tmp_path / "no", 8)


def test_pictures_of_every_kind(tmp_path):
    clear = np.zeros((10, 10, 4), np.uint8)
    clear[:5, :, 3] = 255
    Image.fromarray(clear).save(tmp_path / "clear.png")
    got = read_picture(tmp_path / "clear.png", 8)
    assert got[0, 0] < 40 and got[-1, 0] == 255  # what is transparent is paper
    deep = (np.arange(100).reshape(10, 10) * 650).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    got = read_picture(tmp_path / "deep.png", 8)
    assert got[0, 0] < 30 and got[-1, -1] > 220
    wide = np.zeros((8, 32, 3), np.uint8)
    wide[:, 12:20] = 255
    Image.fromarray(wide).save(tmp_path / "wide.png")
    assert read_picture(tmp_path / "wide.png", 8).min() == 255  # its middle
    with pytest.raises(DataError, match="no picture"):
        read_picture(tmp_path / "none.png", 8)


def test_words():
    assert words_of("night_bus-2") == ("bus", "night")
    told = {"category": "Vehicles", "tags": ["public transport", "x"]}
    assert words_of("bus", told) == ("bus", "public", "transport", "vehicles")
    assert words_of("a-b", ["Wheel"]) == ("wheel",)


def test_a_damaged_set(tmp_path, built):
    with pytest.raises(DataError, match="no set of pictures"):
        ImageSet.open(tmp_path)
    (tmp_path / "index.json").write_text('{"kind": "images"}')
    with pytest.raises(DataError, match="damaged"):
        ImageSet.open(tmp_path)


def test_batches_depend_on_seed_and_number_alone(built):
    one = ImageBatches(built, 6, seed=3)
    batch = one.batch(4)
    assert batch["images"].shape == (6, 1, 8, 8) and batch["images"].dtype == np.float32
    assert batch["images"].min() >= -1 and batch["images"].max() <= 1
    again = ImageBatches(built, 6, seed=3).batch(4)
    assert all(np.array_equal(batch[name], again[name]) for name in batch)
    parts = [ImageBatches(built, 6, seed=3, rank=r, world=2).batch(4) for r in (0, 1)]
    for name in batch:
        np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), batch[name])
    with pytest.raises(UsageError, match="cannot be shared"):
        ImageBatches(built, 5, world=2)


def test_each_condition_is_sometimes_not_told(built):
    batches = [ImageBatches(built, 32, seed=1).batch(index) for index in range(8)]
    style = np.concatenate([batch["style"] for batch in batches])
    words = np.concatenate([batch["words"] for batch in batches])
    assert 0.15 < (style == 0).mean() < 0.45
    nothing = (style == 0) & ~words.any(1)
    assert 0.08 < nothing.mean() < 0.3
    held = next(ValidImages(built, 4).batches())
    assert (held["style"] > 0).all() and held["words"].any(1).all()


def test_changes_keep_what_a_picture_is():
    image = np.full((8, 8), 255, np.uint8)
    image[1:3, 1:4] = 0
    rng = np.random.default_rng(0)
    assert ImageChanges().of(image, rng) is image
    ink = {int((ImageChanges(flip=True, turn=True).of(image, rng) == 0).sum()) for _ in range(9)}
    assert ink == {6}
    moved = {ImageChanges(shift=1).of(image, rng).tobytes() for _ in range(40)}
    assert len(moved) == 9
    assert ImageChanges(zoom=0.5).of(image, rng).shape == (8, 8)
    with pytest.raises(ConfigError):
        ImageChanges(zoom=0.9)


def test_floats():
    assert as_floats(np.array([[0, 255]], np.uint8)).tolist() == [[[-1.0, 1.0]]]
