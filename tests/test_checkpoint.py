from __future__ import annotations

import json
import struct

import numpy as np
import pytest
import torch

from musegen import __version__
from musegen.errors import CheckpointError, OutputError
from musegen.models.registry import GENERATORS, family_named
from musegen.models.transformer import Transformer, TransformerConfig
from musegen.training.checkpoint import load_model, save_model, write_folder
from musegen.training.folder import read_checkpoint

CONFIG = TransformerConfig(
    field_sizes=(9, 7), channels=(("a", 3),), width=16, layers=1, heads=2, context=8
)
TOKENIZER = {"name": "tiny", "fields": ["x", "y"]}
SUMMARY = {"step": 3, "validation": {"nats_per_note": 1.5}, "data": "points"}


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Transformer(CONFIG)


@pytest.fixture
def folder(model, tmp_path):
    save_model(tmp_path / "m", "transformer", model, TOKENIZER, "# A card\n", SUMMARY)
    return tmp_path / "m"


def test_there_and_back(model, tmp_path):
    save_model(tmp_path, "transformer", model, TOKENIZER, "# Card", SUMMARY, storage="fp32")
    back, said = load_model(tmp_path, GENERATORS)
    assert back.config == CONFIG and not back.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, back.state_dict()[name])
    assert said.family == "transformer" and said.musegen_version == __version__
    assert said.tokenizer == TOKENIZER and said.card == "# Card"
    assert said.summary["validation"] == {"nats_per_note": 1.5}
    assert len(said.weights_hash) == 64
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"config.toml", "model.safetensors", "tokenizer.json", "README.md"}


def test_a_card_that_names_a_path_of_no_utf8(model, tmp_path):
    save_model(tmp_path, "transformer", model, TOKENIZER, "in \udcff", SUMMARY)
    assert load_model(tmp_path, GENERATORS)[1].card == r"in \udcff"


def test_bf16_is_half_the_bytes_and_loads_as_float32(model, folder, tmp_path):
    save_model(tmp_path / "w", "transformer", model, TOKENIZER, "", SUMMARY, storage="fp32")
    sizes = [(each / "model.safetensors").stat().st_size for each in (folder, tmp_path / "w")]
    assert sizes[0] < 0.6 * sizes[1]
    back, _ = load_model(folder, GENERATORS)
    for name, tensor in back.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, model.state_dict()[name].bfloat16().float())


def test_the_same_model_is_the_same_bytes(model, folder, tmp_path):
    save_model(tmp_path / "n", "transformer", model, TOKENIZER, "# A card\n", SUMMARY)
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / "n" / path.name).read_bytes()


def test_writing_again_keeps_what_else_is_there(model, folder):
    (folder / "log.jsonl").write_text("{}\n")
    save_model(folder, "transformer", model, TOKENIZER, "# Another", SUMMARY)
    assert (folder / "log.jsonl").exists() and read_checkpoint(folder).card == "# Another"


def refuse(folder, words):
    with pytest.raises(CheckpointError, match=words) as caught:
        load_model(folder, GENERATORS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["config.toml", "model.safetensors", "tokenizer.json"])
def test_a_missing_file(folder, name):
    (folder / name).unlink()
    refuse(folder, f"{name} is missing")


def test_no_folder(tmp_path):
    refuse(tmp_path / "none", "no such model folder")


def edit(folder, old, new):
    path = folder / "config.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("format = 1", "format = 2", "format 2 of model folders, this version reads 1"),
        ("format = 1", 'format = "x"', "not a musegen model"),
        ("[musegen]", "[other]", "not a musegen model"),
        ('family = "transformer"', 'family = "oracle"', "unknown family 'oracle'; known are"),
        ('family = "transformer"', "family = 3", "family or the table"),
        ("width = 16", "widht = 16", "unknown setting 'widht'; did you mean 'width'"),
        ("width = 16", "width = 15", "width = 15"),
        ("width = 16", 'width = "x"', "whole number"),
        ("width = 16", "width = 32", "shape"),
        ("width = 16", "width = 1600000000", "shape|no such model"),
        ("layers = 1", "layers = 2", "missing"),
        ("layers = 1", "layers = 1000000000", "layers"),
        ("context = 8", "context = 1000000000", "context"),
        ("field_sizes = [9, 7]", "field_sizes = [9, 99999999999999999999]", "no such model|shape"),
        ("[model]", "[model", "cannot be read as TOML"),
    ],
)
def test_settings_that_lie(folder, old, new, words):
    edit(folder, old, new)
    refuse(folder, words)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 7,
        b"\xff" * 64,
        struct.pack("<Q", 2**40) + b"{}",
        struct.pack("<Q", 2) + b"[]",
    ],
)
def test_weights_that_are_no_safetensors(folder, content):
    (folder / "model.safetensors").write_bytes(content)
    refuse(folder, "damaged, or not safetensors")


def test_weights_cut_short_or_lying_about_their_size(folder):
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])
    refuse(folder, "damaged")
    size = struct.unpack("<Q", whole[:8])[0]
    header = json.loads(whole[8 : 8 + size])
    next(each for name, each in header.items() if name != "__metadata__")["data_offsets"][1] = 2**50
    lying = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(lying)) + lying + whole[8 + size :])
    refuse(folder, "damaged")


def test_a_pickle_is_not_opened(folder):
    torch.save({"a": torch.zeros(1)}, folder / "model.safetensors")
    refuse(folder, "damaged, or not safetensors")


def test_weights_of_another_model(folder):
    other = Transformer(TransformerConfig(field_sizes=(9,), width=16, layers=1, heads=2))
    from musegen.training.checkpoint import weight_bytes

    (folder / "model.safetensors").write_bytes(weight_bytes(other.state_dict(), "fp32"))
    refuse(folder, "is missing")


def test_weights_that_are_not_finite(model, folder):
    model.model.norm.weight.data[0] = np.inf
    save_model(folder, "transformer", model, TOKENIZER, "", SUMMARY)
    refuse(folder, "not finite")


@pytest.mark.parametrize("content", [b"", b"[1]", b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_tokenizer(folder, content):
    (folder / "tokenizer.json").write_bytes(content)
    refuse(folder, "tokenizer.json")


def test_a_file_far_too_large_is_not_read(folder):
    with (folder / "tokenizer.json").open("r+b") as file:
        file.truncate(2**40)  # a hole, no bytes on the disk
    refuse(folder, "larger than 64 MB")


def test_an_output_that_cannot_be_written(model, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        save_model(tmp_path / "file", "transformer", model, {}, "", {})
    with pytest.raises(OutputError, match="cannot be written"):
        write_folder(tmp_path / "file" / "last", lambda fresh: None)


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    target = tmp_path / "last"
    write_folder(target, lambda fresh: (fresh / "a").write_text("1"))
    write_folder(target, lambda fresh: (fresh / "b").write_text("2"))
    assert [path.name for path in target.iterdir()] == ["b"]

    def full(fresh):
        (fresh / "c").write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match="No space left"):
        write_folder(target, full)
    assert [path.name for path in tmp_path.iterdir()] == ["last"]
    assert [path.name for path in target.iterdir()] == ["b"]


def test_families_by_name():
    assert family_named("transformer").preset("tiny")["layers"] >= 1
    from musegen.errors import UsageError

    with pytest.raises(UsageError, match="did you mean 'transformer'"):
        family_named("transfomer")
    with pytest.raises(UsageError, match="no preset 'smal'"):
        family_named("transformer").preset("smal")
