from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from musegen.data.shards import CorpusFacts, ShardSet, ShardWriter
from musegen.errors import DataError


def write(folder: Path, pieces: list[np.ndarray], **changes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    writer = ShardWriter(folder, 4, **changes)
    for index, rows in enumerate(pieces):
        writer.add(
            rows,
            name=f"piece {index} é",
            corpus="mine",
            style="piano",
            notes=len(rows),
            group=f"g{index}",
            split="valid" if index % 4 == 3 else "train",
            key="D major",
        )
    writer.close(
        name="mine",
        tokenizer="events",
        field_names=("a", "b", "c", "d"),
        field_sizes=(500, 500, 500, 500),
        corpora={"mine": CorpusFacts(2.0, (-1, 1), (1.0, 1.0))},
        may_ship=True,
    )
    return folder


@pytest.fixture
def pieces() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 500, (n, 4)).astype(np.uint16) for n in (5, 1, 40, 17, 30, 2, 9)]


def test_pieces_come_back(tmp_path: Path, pieces: list[np.ndarray]) -> None:
    shards = ShardSet.open(write(tmp_path / "s", pieces, shard_bytes=300))
    shards.verify()
    assert len(shards.split("train")) == 6
    assert len(shards.split("valid")) == 1
    assert shards.split("test") == ()
    assert sorted(shard.file for shard in shards.shards)[:2] == ["train-00000.bin",
                                                                  "train-00001.bin"]  # fmt: skip
    for piece, rows in zip(shards.pieces, pieces, strict=True):
        np.testing.assert_array_equal(shards.rows(piece), rows)
    assert shards.corpora["mine"] == CorpusFacts(2.0, (-1, 1), (1.0, 1.0))
    assert shards.pieces[0].name == "piece 0 é"
    assert shards.may_ship


def test_rows_are_mapped_and_read_only(tmp_path: Path, pieces: list[np.ndarray]) -> None:
    shards = ShardSet.open(write(tmp_path / "s", pieces))
    first, third = shards.rows(shards.pieces[0]), shards.rows(shards.pieces[2])
    assert first.dtype == np.uint16 and not first.flags.owndata
    assert isinstance(first.base, np.ndarray)
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 1
    again = pickle.loads(pickle.dumps(shards))  # a data-loading process gets one this way
    np.testing.assert_array_equal(again.rows(again.pieces[2]), third)


def test_equal_pieces_make_equal_bytes(tmp_path: Path, pieces: list[np.ndarray]) -> None:
    one, two = write(tmp_path / "1", pieces), write(tmp_path / "2", pieces)
    for path in one.iterdir():
        assert path.read_bytes() == (two / path.name).read_bytes()


def _edit(folder: Path, change) -> None:
    path = folder / "index.json"
    data = json.loads(path.read_text("utf-8"))
    change(data)
    path.write_text(json.dumps(data), "utf-8")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.update(version=99), "version 99"),
        (lambda d: d.pop("pieces"), "damaged"),
        (lambda d: d["pieces"][0].pop("offset"), "damaged"),
        (lambda d: d["pieces"][0].update(offset=-1), "outside"),
        (lambda d: d["pieces"][0].update(length=10**9), "outside"),
        (lambda d: d["pieces"][0].update(shard="nothing.bin"), "outside"),
        (lambda d: d["shards"][0].update(file="../train-00000.bin"), "missing"),
        (lambda d: d["shards"][0].update(rows=1), "bytes"),
        (lambda d: d.update(field_names=[]), "do not agree"),
        (lambda d: d["corpora"]["mine"].pop("tempo"), "damaged"),
    ],
)
def test_a_damaged_index_is_a_data_error(
    tmp_path: Path, pieces: list[np.ndarray], change, said: str
) -> None:
    folder = write(tmp_path / "s", pieces)
    _edit(folder, change)
    with pytest.raises(DataError, match=said):
        ShardSet.open(folder)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '"x"'])
def test_an_index_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(DataError, match="damaged"):
        ShardSet.open(tmp_path)


def test_a_folder_without_shards(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="musegen data build"):
        ShardSet.open(tmp_path / "nowhere")


def test_changed_and_cut_files_are_found(tmp_path: Path, pieces: list[np.ndarray]) -> None:
    folder = write(tmp_path / "s", pieces)
    file = folder / "train-00000.bin"
    data = bytearray(file.read_bytes())
    data[5] ^= 1
    file.write_bytes(data)
    shards = ShardSet.open(folder)
    with pytest.raises(DataError, match="checksum"):
        shards.verify()
    file.write_bytes(data[:-2])
    with pytest.raises(DataError, match="bytes"):
        ShardSet.open(folder)
    file.unlink()
    with pytest.raises(DataError, match="missing"):
        ShardSet.open(folder)


def test_a_piece_of_the_wrong_shape_is_refused(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, 4)
    with pytest.raises(DataError, match="shape"):
        writer.add(np.zeros((3, 2), np.uint16), name="x", split="train")


def test_training_data_need_numpy_alone() -> None:
    code = (
        "import sys, musegen.data.batches, musegen.data.shards, musegen.tokens.tokenizer\n"
        "from musegen.tokens.tokenizer import load_tokenizer; load_tokenizer('events')\n"
        "bad = {'torch', 'miditok', 'symusic', 'music21', 'pretty_midi', 'mido', 'tokenizers'}\n"
        "print(sorted(bad & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
