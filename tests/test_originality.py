from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from musegen.assets import weights_path
from musegen.data.build import build
from musegen.data.grams import GRAM
from musegen.data.shards import ShardSet
from musegen.errors import CheckpointError, DataError
from musegen.evaluation.originality import (
    INDEX_FILE,
    OriginalityIndex,
    build_index,
    excerpts_of,
)
from musegen.music.midi import write_midi
from musegen.music.score import Score, Track, note_array
from musegen.tokens.tokenizer import Tokenizer, load_tokenizer


def melody(seed: int, notes: int = 150, ppq: int = 480) -> Score:
    """Random intervals and rhythms within two octaves."""
    rng = np.random.default_rng(seed)
    starts = np.cumsum(rng.choice([ppq // 4, ppq // 2, ppq], notes))
    pitches = 60 + rng.integers(-12, 13, notes)
    rows = zip(starts.tolist(), pitches.tolist(), strict=True)
    return Score(tracks=(Track(notes=note_array((s, ppq // 4, p, 80) for s, p in rows)),), ppq=ppq)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    folder = tmp_path_factory.mktemp("originality")
    (folder / "music").mkdir()
    for seed in range(40):
        write_midi(melody(seed), folder / "music" / f"{seed:02d}.mid")
    build(folder / "music", folder / "shards", workers=1)
    return ShardSet.open(folder / "shards")


@pytest.fixture(scope="module")
def tokenizer(shards: ShardSet) -> Tokenizer:
    return load_tokenizer(shards.tokenizer_file())


@pytest.fixture(scope="module")
def index(shards: ShardSet, tokenizer: Tokenizer) -> OriginalityIndex:
    return build_index(shards, tokenizer)


def shifted(score: Score, semitones: int) -> Score:
    tracks = []
    for track in score.tracks:
        notes = track.notes.copy()
        notes["pitch"] = notes["pitch"].astype(int) + semitones
        tracks.append(replace(track, notes=notes))
    return replace(score, tracks=tuple(tracks))


def test_a_training_piece_is_caught_in_another_key(index, shards, tokenizer) -> None:
    for piece in shards.split("train")[:5]:
        score = tokenizer.decode(shards.rows(piece))
        for semitones in (0, -7):
            found = index.check(shifted(score, semitones))
            assert found.unusual and found.title == f"{piece.corpus}/{piece.name}"
            assert 140 <= found.notes <= 150 and found.measured == 150
            assert found.title in found.line() and f"{found.notes} notes" in found.line()


def test_a_borrowed_phrase_is_told_by_its_length(index) -> None:
    source = {title.split("/")[1] for title in index.titles}
    seed = int(min(source))
    mine, theirs = melody(1000), melody(seed)
    notes = mine.tracks[0].notes.copy()
    notes["pitch"][40:80] = theirs.tracks[0].notes["pitch"][10:50]
    steps = np.diff(theirs.tracks[0].notes["start_tick"][10:50].astype(np.int64))
    gaps = np.diff(notes["start_tick"].astype(np.int64), prepend=0)
    gaps[41:80] = steps
    notes["start_tick"] = np.cumsum(gaps)
    found = index.check(replace(mine, tracks=(replace(mine.tracks[0], notes=notes),)))
    assert found.unusual and found.title == f"music/{seed:02d}"
    assert 40 - 2 * index.table.window < found.notes <= 41


def test_other_music_is_not_caught(index) -> None:
    for seed in range(100, 110):
        found = index.check(melody(seed))
        assert not found.unusual and found.notes <= found.typical
        assert "in a row as" not in found.line()


def test_drums_are_not_looked_at(index) -> None:
    drums = replace(melody(0).tracks[0], is_drum=True)
    assert index.check(Score(tracks=(drums,))) is None
    assert index.check(Score()) is None


def test_a_file_gives_the_same_answers(index, tmp_path: Path) -> None:
    assert OriginalityIndex.open(tmp_path) is None
    assert index.save(tmp_path) == tmp_path / INDEX_FILE
    again = OriginalityIndex.open(tmp_path)
    assert again is not None and again.source == index.source
    for seed in (0, 3, 100):
        assert again.check(melody(seed)) == index.check(melody(seed))
    assert again.check(melody(0)).to_dict()["measured"] == 150


def test_the_usual_run_grows_with_the_music(index) -> None:
    usual = [index.usual(notes) for notes in (1, 32, 40, 100, 128, 10**6)]
    assert usual == sorted(usual) and usual[0] == index.typical[0]
    assert usual[-1] == index.typical[-1] and usual[0] >= GRAM + index.table.window


@pytest.mark.parametrize("cut", [0, 4, 100, 5000, -3])
def test_damaged_files_are_refused(index, tmp_path: Path, cut: int) -> None:
    path = index.save(tmp_path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(CheckpointError, match="musegen data index"):
        OriginalityIndex.open(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"titles": ()},
        {"sizes": np.array([64, 32])},
        {"sizes": np.empty(0, np.int64)},
        {"typical": np.array([1, 2])},
    ],
)
def test_columns_that_do_not_agree_are_refused(index, tmp_path: Path, change: dict) -> None:
    replace(index, **change).save(tmp_path)
    with pytest.raises(CheckpointError, match="damaged"):
        OriginalityIndex.open(tmp_path)


def test_a_table_that_is_not_whole_is_refused(index, tmp_path: Path) -> None:
    table = replace(index.table, tails=index.table.tails[:-1], pieces=index.table.pieces[:-1])
    replace(index, table=table).save(tmp_path)
    with pytest.raises(CheckpointError, match="not whole"):
        OriginalityIndex.open(tmp_path)


def test_without_held_out_music_there_is_no_measure(shards, tokenizer) -> None:
    with pytest.raises(DataError, match="held-out"):
        build_index(replace(shards, pieces=shards.split("train")), tokenizer)
    with pytest.raises(DataError, match="training piece"):
        build_index(replace(shards, pieces=shards.split("valid")), tokenizer)


def test_excerpts_do_not_overlap() -> None:
    score = melody(7, notes=1000)
    parts = list(excerpts_of(score, 100))
    assert [len(part.tracks[0]) for part in parts] == [100] * 4
    starts = np.concatenate([part.tracks[0].notes["start_tick"] for part in parts])
    assert (np.diff(starts.astype(np.int64)) > 0).all()
    assert starts[0] == score.tracks[0].notes["start_tick"][0]
    assert list(excerpts_of(score, 1001)) == [] and list(excerpts_of(Score(), 32)) == []


def test_neither_torch_nor_miditok_is_loaded() -> None:
    code = (
        "import sys, musegen.evaluation.originality\n"
        "assert not {'torch', 'miditok', 'symusic', 'music21'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_default_model_comes_with_its_index() -> None:
    folder = weights_path("default")
    assert (folder / INDEX_FILE).stat().st_size <= 3_000_000
    index = OriginalityIndex.open(folder)
    assert index is not None and len(index.titles) > 2000
    assert index.sizes[0] == 32 and index.excerpts.min() >= 20
    for seed in range(5):
        found = index.check(melody(seed, notes=300))
        assert not found.unusual and found.measured == 300
