from __future__ import annotations

import json
import pickle
import subprocess
import sys
from dataclasses import asdict
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
    assert len(shards.split("test")) == 0
    train = shards.split("train")
    some = train.only([4, 1])
    assert [piece.name for piece in some] == [train[4].name, train[1].name]
    assert list(some.only([1])) == [train[1]] and len(train.only([])) == 0
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
    # Nothing on disk is pickled; but multiprocessing hands objects to its processes this way, and a
    # process that loads data must map the shards for itself.
    again = pickle.loads(pickle.dumps(shards))
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
        (lambda d: d.update(pieces=6), "bytes, not"),
        (lambda d: d.update(pieces="many"), "damaged"),
        (lambda d: d["words"].pop("key"), "damaged"),
        (lambda d: d["words"].update(corpus=[]), "not listed"),
        (lambda d: d["words"].update(shard=["nothing.bin"] * 2), "outside"),
        (lambda d: d.pop("tables"), "damaged"),
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
    writer.abandon()


def as_version_1(folder: Path) -> Path:
    """The same shards as musegen wrote them before there was a table of pieces."""
    path = folder / "index.json"
    data = json.loads(path.read_text("utf-8"))
    data |= {"version": 1, "pieces": [asdict(piece) for piece in ShardSet.open(folder).pieces]}
    for name in data.pop("tables"):
        (folder / name).unlink()
    del data["words"]
    path.write_text(json.dumps(data), "utf-8")
    return folder


def test_shards_of_version_1_are_read(tmp_path: Path, pieces: list[np.ndarray]) -> None:
    new = ShardSet.open(write(tmp_path / "new", pieces, shard_bytes=300))
    old = ShardSet.open(as_version_1(write(tmp_path / "old", pieces, shard_bytes=300)))
    old.verify()
    assert tuple(old.pieces) == tuple(new.pieces) and old.digest() == new.digest()
    assert tuple(old.split("valid")) == tuple(new.split("valid"))
    for piece, rows in zip(pickle.loads(pickle.dumps(old)).pieces, pieces, strict=True):
        np.testing.assert_array_equal(old.rows(piece), rows)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d["pieces"][0].pop("offset"), "damaged"),
        (lambda d: d["pieces"][0].update(offset=-1), "damaged"),
        (lambda d: d["pieces"][0].update(length=10**9), "outside"),
        (lambda d: d["pieces"][0].update(shard="nothing.bin"), "outside"),
        (lambda d: d.update(pieces=7), "damaged"),
    ],
)
def test_a_damaged_index_of_version_1(
    tmp_path: Path, pieces: list[np.ndarray], change, said: str
) -> None:
    folder = as_version_1(write(tmp_path / "s", pieces))
    _edit(folder, change)
    with pytest.raises(DataError, match=said):
        ShardSet.open(folder)


@pytest.mark.parametrize("name", ["pieces.bin", "names.bin"])
def test_a_damaged_table_of_pieces(tmp_path: Path, pieces: list[np.ndarray], name: str) -> None:
    path = write(tmp_path / "s", pieces) / name
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(DataError, match=r"outside|checksum"):
        ShardSet.open(path.parent).verify()
    path.write_bytes(data[:-1])
    with pytest.raises(DataError, match="build the shards again"):
        ShardSet.open(path.parent)
    path.unlink()
    with pytest.raises(DataError, match="missing"):
        ShardSet.open(path.parent)


def test_a_file_that_may_not_be_read_is_a_data_error(
    tmp_path: Path, pieces: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = ShardSet.open(write(tmp_path / "s", pieces))

    def refused(*_args, **_facts):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", refused)
        with pytest.raises(DataError, match=r"train-00000.bin cannot be read: Permission denied"):
            shards.verify()
    monkeypatch.setattr("numpy.memmap", refused)
    with pytest.raises(DataError, match="Permission denied"):
        shards.rows(shards.pieces[0])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_processes_share_the_rows(tmp_path: Path) -> None:
    """What a process reads of the shards is the file's pages, not memory of its own."""
    rows = np.ones((4_000_000, 4), np.uint16)  # 32 MB
    folder = write(tmp_path / "s", [rows, rows[:5]])
    code = (
        "import sys, numpy\n"
        "from musegen.data.shards import ShardSet\n"
        "def memory():\n"
        "    lines = dict(line.split(':', 1) for line in open('/proc/self/status'))\n"
        "    return [int(lines[name].split()[0]) >> 10 for name in ('RssAnon', 'RssFile')]\n"
        "shards = ShardSet.open(sys.argv[1])\n"
        "before = memory()\n"
        "print(sum(int(shards.rows(piece)[::256].sum()) for piece in shards.pieces))\n"
        "print(*(b - a for a, b in zip(before, memory())), flush=True)\n"
        "input()\n"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(folder)], text=True,
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(2)
    ]  # fmt: skip
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == str(4 * 15_625 + 4)
        own, shared = map(int, process.stdout.readline().split())
        assert own < 8 and shared >= 28, "megabytes of its own, and of the file"
    for process in running:
        process.communicate("\n")
        assert process.returncode == 0


def test_training_data_need_numpy_alone() -> None:
    code = (
        "import sys, musegen.data.batches, musegen.data.shards, musegen.tokens.tokenizer\n"
        "from musegen.tokens.tokenizer import load_tokenizer; load_tokenizer('events')\n"
        "bad = {'torch', 'miditok', 'symusic', 'music21', 'pretty_midi', 'mido', 'tokenizers'}\n"
        "print(sorted(bad & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
