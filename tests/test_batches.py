from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from musegen.data.augment import augmented
from musegen.data.batches import TrainBatches, ValidBatches
from musegen.data.prefetch import Prefetch
from musegen.data.shards import CorpusFacts, ShardSet, ShardWriter
from musegen.errors import DataError, UsageError
from musegen.music.ranges import instrument_range
from musegen.music.score import Score, Track, note_array
from musegen.tokens.controls import CELL_CONTROLS, GIVEN
from musegen.tokens.tokenizer import DocumentMix, Tokenizer, load_tokenizer

SHAPES = {
    "rows": ("F", np.int64),
    "targets": ("F", np.int64),
    "channels": ("C", np.int64),
    "coordinates": ("A", np.float32),
    "segments": ("", np.int64),
    "weights": ("", np.float32),
    "notes": ("", np.bool_),
}


def piece(seed: int, bars: int) -> Score:
    rng = np.random.default_rng(seed)
    count = bars * 8
    melody = [(i * 240, 240, int(p), 80) for i, p in enumerate(rng.integers(57, 90, count))]
    beats = [(i * 480, 120, 36 + 2 * (i % 2), 90) for i in range(bars * 4)]
    return Score(
        tracks=(
            Track(notes=note_array(melody), program=40),
            Track(notes=note_array(beats), is_drum=True),
        )
    )


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load_tokenizer("events")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> ShardSet:
    folder: Path = tmp_path_factory.mktemp("shards")
    writer = ShardWriter(folder, len(tokenizer.field_names))
    for index in range(24):
        rows = tokenizer.encode(piece(index, 2 + 3 * (index % 6))).rows
        writer.add(
            rows,
            name=f"{index}",
            corpus="quiet" if index % 2 else "loud",
            style="piano",
            notes=tokenizer.num_notes(rows),
            group=f"{index}",
            split="valid" if index % 4 == 3 else "train",
            key="",
        )
    writer.close(
        name="mine",
        tokenizer=tokenizer.name,
        field_names=tokenizer.field_names,
        field_sizes=tokenizer.field_sizes,
        corpora={"loud": CorpusFacts(1.0), "quiet": CorpusFacts(0.5, (0, 0), (1.0, 1.0))},
        may_ship=True,
    )
    return ShardSet.open(folder)


def equal(one: dict, two: dict) -> bool:
    return one.keys() == two.keys() and all(np.array_equal(one[k], two[k]) for k in one)


def check(batch: dict, tokenizer: Tokenizer, batch_size: int, length: int) -> None:
    """The batch is of the shapes, and every document of it is whole."""
    sizes = {"F": len(tokenizer.field_names), "C": len(tokenizer.channels)}
    sizes["A"] = len(tokenizer.axes)
    assert batch.keys() == SHAPES.keys()
    for name, (last, dtype) in SHAPES.items():
        shape = (batch_size, length, *((sizes[last],) if last else ()))
        assert batch[name].shape == shape and batch[name].dtype == dtype, name
    for field, size in enumerate(tokenizer.field_sizes):
        assert batch["rows"][..., field].max() < size and batch["rows"].min() >= 0
    for channel, spec in enumerate(tokenizer.channels):
        assert batch["channels"][..., channel].max() < spec.size
    for row in range(batch_size):
        segments = batch["segments"][row]
        used = np.flatnonzero(segments)
        assert np.array_equal(used, np.arange(len(used)))  # padding only at the end
        assert set(np.diff(segments[used]).tolist()) <= {0, 1}
        assert not batch["rows"][row, len(used) :].any()
        assert not batch["targets"][row, len(used) :].any()
        assert not batch["weights"][row, len(used) :].any()
        for number in range(1, segments.max() + 1):
            here = np.flatnonzero(segments == number)
            # Each position predicts the next one of its own document.
            np.testing.assert_array_equal(
                batch["targets"][row, here[:-1]], batch["rows"][row, here[1:]]
            )
        np.testing.assert_array_equal(
            batch["notes"][row, used], tokenizer.note_rows(batch["targets"][row, used])
        )


def test_batches_have_the_shapes_and_whole_documents(
    shards: ShardSet, tokenizer: Tokenizer
) -> None:
    source = TrainBatches(shards, tokenizer, 4, 192, seed=3)
    filled, packed = [], 0
    for index in range(12):
        batch = source.batch(index)
        check(batch, tokenizer, 4, 192)
        filled.append((batch["segments"] > 0).mean())
        packed = max(packed, batch["segments"].max())
    assert np.mean(filled) > 0.85
    assert packed > 1


def test_a_batch_depends_on_seed_and_index_alone(shards: ShardSet, tokenizer: Tokenizer) -> None:
    one = TrainBatches(shards, tokenizer, 4, 96, seed=3)
    two = TrainBatches(shards, tokenizer, 4, 96, seed=3)
    for index in (7, 0, 3):  # in any order
        assert equal(one.batch(index), two.batch(index))
    assert not equal(one.batch(0), one.batch(1))
    assert not equal(one.batch(0), TrainBatches(shards, tokenizer, 4, 96, seed=4).batch(0))


def test_processes_share_one_stream(shards: ShardSet, tokenizer: Tokenizer) -> None:
    whole = TrainBatches(shards, tokenizer, 4, 96, seed=3).batch(5)
    halves = [
        TrainBatches(shards, tokenizer, 4, 96, seed=3, rank=rank, world=2).batch(5)
        for rank in range(2)
    ]
    for name in whole:
        np.testing.assert_array_equal(whole[name], np.concatenate([half[name] for half in halves]))


def test_corpora_are_drawn_by_weight(shards: ShardSet, tokenizer: Tokenizer) -> None:
    def share(**options) -> float:
        source = TrainBatches(shards, tokenizer, 1, 32, seed=1, augment=False, **options)
        drawn: list[str] = []
        rng = np.random.default_rng(0)
        for value in rng.random(2000):
            chosen = int(np.searchsorted(source._cumulative, value, "right"))
            drawn.append(source.pieces[chosen].corpus)
        return drawn.count("loud") / len(drawn)

    by_size = {
        name: sum(p.length for p in shards.split("train") if p.corpus == name)
        for name in ("loud", "quiet")
    }
    wanted = by_size["loud"] / (by_size["loud"] + 0.5 * by_size["quiet"])
    assert abs(share() - wanted) < 0.04
    assert share(weights={"quiet": 0.0}) == 1.0


def test_validation_is_the_same_each_time_and_bounded(
    shards: ShardSet, tokenizer: Tokenizer
) -> None:
    source = ValidBatches(shards, tokenizer, 4, 128, max_batches=100)
    first = list(source.batches())
    for batch in first:
        check(batch, tokenizer, 4, 128)
    again = list(ValidBatches(shards, tokenizer, 4, 128, max_batches=100).batches())
    assert len(first) == len(again) and all(map(equal, first, again))
    assert all(map(equal, first, source.batches()))
    notes = sum(int(batch["notes"].sum()) for batch in first)
    assert notes == sum(p.notes for p in shards.split("valid"))  # every note once
    few = list(ValidBatches(shards, tokenizer, 2, 64, max_batches=1).batches())
    assert len(few) == 1


def test_transposition_keeps_ranges_and_never_moves_drums(tokenizer: Tokenizer) -> None:
    rows = tokenizer.encode(piece(1, 8)).rows
    low, high = instrument_range(40)
    before = tokenizer.decode(rows)
    moved = set()
    for seed in range(40):
        rng = np.random.default_rng(seed)
        score = tokenizer.decode(augmented(rows, tokenizer, CorpusFacts(1.0, (-5, 6)), rng))
        violin, drums = score.tracks
        np.testing.assert_array_equal(drums.notes["pitch"], before.tracks[1].notes["pitch"])
        shift = violin.notes["pitch"].astype(int) - before.tracks[0].notes["pitch"]
        assert len(set(shift.tolist())) == 1
        moved.add(int(shift[0]))
        assert violin.notes["pitch"].min() >= low and violin.notes["pitch"].max() <= high
    # The melody goes down to 57 at least, and a violin to 55: far down is impossible.
    assert min(moved) >= -2 and len(moved) > 4


def test_augmentation_changes_loudness_within_bounds(tokenizer: Tokenizer) -> None:
    rows = tokenizer.encode(piece(2, 4)).rows
    facts = CorpusFacts(1.0, (0, 0), (1.0, 1.0), velocity=16)
    moved = [
        augmented(rows, tokenizer, facts, np.random.default_rng(seed))[:, 2].astype(int)
        - rows[:, 2]
        for seed in range(20)
    ]
    most = 16 / (128 / tokenizer.vocabulary.velocities)
    assert {np.sign(change).sum() > 0 for change in moved} == {True, False}
    assert max(np.abs(change).max() for change in moved) <= most


def test_augmentation_changes_tempo_within_bounds(tokenizer: Tokenizer) -> None:
    rows = tokenizer.encode(piece(1, 8)).rows
    facts = CorpusFacts(1.0, (0, 0), (0.5, 2.0))
    tempi = {
        tokenizer.decode(augmented(rows, tokenizer, facts, np.random.default_rng(seed)))
        .tempos[0]
        .tempo_us
        for seed in range(20)
    }
    assert len(tempi) > 5
    assert 240_000 < min(tempi) < 500_000 < max(tempi) < 1_050_000
    still = CorpusFacts(1.0, (0, 0), (1.0, 1.0))
    assert augmented(rows, tokenizer, still, np.random.default_rng(0)) is rows


def test_prefetching_gives_the_same_batches(shards: ShardSet, tokenizer: Tokenizer) -> None:
    source = TrainBatches(shards, tokenizer, 2, 64, seed=3)
    threads = threading.active_count()
    with Prefetch(source, 2, depth=2) as ahead:
        for index in (2, 3, 4, 9, 10, 1):
            assert equal(ahead.batch(index), source.batch(index))
    assert threading.active_count() == threads
    assert equal(ahead.batch(4), source.batch(4))  # goes on after it was closed
    ahead.close()


def test_an_error_in_the_thread_reaches_who_asks() -> None:
    class Broken:
        def batch(self, index: int) -> dict:
            raise DataError(f"no batch {index}")

    with Prefetch(Broken()) as ahead, pytest.raises(DataError, match="no batch 0"):
        ahead.batch(0)


def test_what_makes_no_sense_is_said(shards: ShardSet, tokenizer: Tokenizer) -> None:
    with pytest.raises(UsageError, match="shared by 3"):
        TrainBatches(shards, tokenizer, 4, 96, world=3)
    with pytest.raises(UsageError, match="at least"):
        TrainBatches(shards, tokenizer, 0, 96)
    with pytest.raises(UsageError, match="lowd"):
        TrainBatches(shards, tokenizer, 4, 96, weights={"lowd": 1.0})
    with pytest.raises(UsageError, match="above 0"):
        TrainBatches(shards, tokenizer, 4, 96, weights={"loud": 0.0, "quiet": 0.0})
    with pytest.raises(UsageError, match="max_batches"):
        ValidBatches(shards, tokenizer, 4, 96, max_batches=0)
    with pytest.raises(DataError, match="no test pieces"):
        ValidBatches(shards, tokenizer, 4, 96, split="test")
    with pytest.raises(DataError, match="another tokenizer"):
        TrainBatches(shards, load_tokenizer("performance"), 4, 96)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_the_mix_says_what_is_given_and_what_is_told(shards, tokenizer, share):
    names = [channel.name for channel in tokenizer.channels]
    controls = [names.index(name) for name in CELL_CONTROLS]

    def channels(mix: DocumentMix) -> np.ndarray:
        """The channels of a hundred documents."""
        return TrainBatches(shards, tokenizer, 100, 256, seed=3, mix=mix).batch(0)["channels"]

    masked = channels(DocumentMix(masked=share, told=0.0))
    assert (masked[..., names.index("given")] == GIVEN).any() == (share > 0)
    assert not masked[..., controls].any()
    told = channels(DocumentMix(masked=0.0, told=share))
    assert (told[..., controls].any(axis=(0, 1)) == (share > 0)).all()
    assert not (told[..., names.index("given")] == GIVEN).any()
