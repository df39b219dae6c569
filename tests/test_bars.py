"""Bars as documents: their layout, their batches, the rules of writing one, and the way back."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from musegen.bar_model import BarModel, joined_grid, slerp
from musegen.data.bar_batches import BarBatches, ValidBars
from musegen.errors import CheckpointError, TokenError, UsageError
from musegen.models.bar_vae import BarVae
from musegen.music.score import Score, Track, note_array
from musegen.tokens.bars import BarGuide, BarShape, bar_documents, measure_bars, sections
from musegen.tokens.grid import Grid
from musegen.tokens.tokenizer import load_tokenizer
from musegen.tokens.vocabulary import BAR, END, FIRST_POSITION, TEMPO, TRACK
from musegen.training.checkpoint import save_model

from .bar_songs import LEAD, config_of, shards_of


def piece(seed, bars):
    rng = np.random.default_rng(seed)
    melody = [
        (i * 240, 240 * int(rng.integers(1, 4)), int(rng.integers(57, 90)), 80)
        for i in range(bars * 8)
        if rng.random() < 0.8
    ]
    beats = [(i * 480, 120, 36 + 2 * (i % 2), 90) for i in range(bars * 4)]
    bass = [(i * 1920, 1920, int(rng.integers(30, 50)), 70) for i in range(0, bars, 2)]
    return Score(
        tracks=(
            Track(notes=note_array(melody), program=40),
            Track(notes=note_array(bass), program=32),
            Track(notes=note_array(beats), is_drum=True),
        )
    )


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("events")


@pytest.fixture(scope="module")
def grid(tokenizer):
    return Grid.from_rows(tokenizer.encode(piece(1, 6)).rows, tokenizer.vocabulary)


@pytest.fixture(scope="module")
def shards(tmp_path_factory, tokenizer):
    folder: Path = tmp_path_factory.mktemp("shards")
    songs = [(piece(k, 3 + 4 * (k % 5)), "valid" if k % 4 == 3 else "train") for k in range(12)]
    return shards_of(folder, tokenizer, songs)


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(0)
    network = BarVae(config_of(tokenizer)).eval()
    for parameter in network.decoder.parameters():  # logits far from flat
        parameter.data.mul_(3.0)
    return BarModel(network, tokenizer)


# --- Documents -----------------------------------------------------------------------------------


def test_documents_hold_the_rows_of_the_piece(tokenizer, grid):
    documents = bar_documents(grid, tokenizer.vocabulary, LEAD)
    plain = grid.rows(tokenizer.vocabulary).astype(np.int64)[1:-1]
    body = documents.coordinates[:, 0] >= LEAD
    assert np.array_equal(documents.rows[body], plain[plain[:, 0] != TEMPO])
    assert not documents.rows[~body].any()
    assert np.array_equal(np.bincount(documents.bar), documents.sizes)
    starts = np.flatnonzero(documents.coordinates[:, 0] == LEAD)
    assert (documents.rows[starts, 0] == BAR).all() and len(starts) == grid.num_bars


def test_targets_are_notes_and_one_end_a_cell(tokenizer, grid):
    documents = bar_documents(grid, tokenizer.vocabulary, LEAD)
    targets = documents.targets
    assert np.count_nonzero(targets[:, 0] >= FIRST_POSITION) == len(grid.notes)
    assert np.count_nonzero(targets[:, 0] == END) == grid.num_bars * grid.num_tracks
    assert not targets[targets[:, 0] == END, 1:].any()
    before = documents.rows[targets[:, 0] > 0, 0]
    assert ((before == TRACK) | (before >= FIRST_POSITION)).all()


def played(guide, cells):
    """The advances of a guide that is given these notes."""
    advances = [guide.start()]
    for cell, rows in enumerate(cells):
        for row in rows.tolist():
            chosen = []
            for field, value in enumerate(row):
                assert guide.mask(field, chosen)[value], (cell, row, field)
                chosen.append(value)
            advances.append(guide.accept(row))
        end = [END, 0, 0, 0]
        assert guide.mask(0, [])[END]
        advances.append(guide.accept(end))
    return advances


@pytest.mark.parametrize("told", [False, True])
def test_the_guide_lays_out_what_training_saw(tokenizer, grid, told):
    vocabulary = tokenizer.vocabulary
    for bar in range(grid.num_bars):
        part = grid.part(bar, bar + 1, np.arange(grid.num_tracks))
        cells = [part.cell(0, track) for track in range(part.num_tracks)]
        shape = BarShape(
            int(part.meters[0]),
            int(part.tempos[0]),
            tuple(part.programs.tolist()),
            tuple(part.instances.tolist()),
            key=3 if told else 0,
            notes=tuple(len(cell) for cell in cells) if told else (),
        )
        guide = BarGuide(vocabulary, shape, LEAD, 128, in_range=False)
        advances = played(guide, cells)
        assert advances[-1] is None and advances[0].restart
        expected = bar_documents(part, vocabulary, LEAD, guide._told(), guide._piece())
        for name in ("rows", "channels", "coordinates"):
            found = np.concatenate([getattr(advance, name) for advance in advances[:-1]])
            assert np.array_equal(found, getattr(expected, name)), name
        assert all(np.array_equal(a, b) for a, b in zip(guide.result(), cells, strict=True))


def test_attributes(tokenizer):
    vocabulary = tokenizer.vocabulary
    notes = [(0, 480, 60, 80), (0, 960, 64, 80), (1440, 240, 60, 80), (1680, 240, 62, 80)]
    score = Score(tracks=(Track(notes=note_array(notes)),))
    found = measure_bars(Grid.from_rows(tokenizer.encode(score).rows, vocabulary), vocabulary)
    # four notes in four quarters; onsets in beats 1 and 4; 2, 1, 0 and 2 notes sound
    assert found.tolist() == [[1.0, 0.5, 1.25]]


# --- Batches -------------------------------------------------------------------------------------


def batches(shards, tokenizer, **options):
    given = {"lead": LEAD, "section": 6, "longest": 48, **options}
    return BarBatches(shards, tokenizer, 8, 64, **given)


def test_batches_hold_whole_bars(shards, tokenizer):
    source = batches(shards, tokenizer)
    for index in range(5):
        batch = source.batch(index)
        count = len(batch["starts"])
        bars, rows = batch["bars"].ravel(), batch["rows"].reshape(-1, 4)
        assert set(np.unique(bars)) <= set(range(count + 1)) and bars.max() == count
        assert (bars[batch["starts"]] == 1 + np.arange(count)).all()
        assert (rows[batch["starts"] + LEAD, 0] == BAR).all()
        assert not rows[batch["starts"]].any()
        assert batch["places"].sum() == count == len(batch["cells"]) == len(batch["attributes"])
        assert len(np.unique(batch["cells"])) == count
        assert (np.diff(batch["places"].astype(int), axis=1) <= 0).all()  # no gap in a section
        filled = batch["segments"] > 0
        assert np.array_equal(filled, batch["bars"] > 0)
        assert filled.mean() > 0.6
        for row in range(8):
            ids = batch["bars"][row][filled[row]]
            assert np.array_equal(batch["segments"][row][filled[row]], ids - ids[0] + 1)
        ends = batch["targets"][..., 0] == END
        tracks = batch["rows"][..., 0] == TRACK
        assert ends.sum() == tracks.sum()


def equal(one, two):
    return one.keys() == two.keys() and all(np.array_equal(one[k], two[k]) for k in one)


def test_a_batch_is_a_function_of_its_number(shards, tokenizer):
    source = batches(shards, tokenizer)
    assert equal(source.batch(3), batches(shards, tokenizer).batch(3))
    assert not equal(source.batch(3), source.batch(4))


def test_processes_share_the_groups_of_a_batch(shards, tokenizer):
    given = {"lead": LEAD, "section": 6, "longest": 48}
    whole = BarBatches(shards, tokenizer, 16, 64, **given).batch(2)
    for rank in range(2):
        part = BarBatches(shards, tokenizer, 16, 64, rank=rank, world=2, **given).batch(2)
        assert np.array_equal(part["rows"], whole["rows"][8 * rank : 8 * rank + 8])
    with pytest.raises(UsageError, match="take a multiple of 16"):
        BarBatches(shards, tokenizer, 8, 64, rank=0, world=2, **given)


def test_held_out_batches_are_the_same_each_time(shards, tokenizer):
    options = {"lead": LEAD, "section": 6, "longest": 48, "max_batches": 2}
    source = ValidBars(shards, tokenizer, 8, 64, **options)
    one, two = list(source.batches()), list(source.batches())
    assert len(one) == len(two) >= 1 and all(map(equal, one, two))
    assert not any(batch["channels"][..., 8:].any() for batch in one)  # nothing is told


def test_flat_presets_have_no_bars(shards):
    with pytest.raises(UsageError, match="rows of the events presets, not 'remi'"):
        pytest.importorskip("miditok")
        BarBatches(shards, load_tokenizer("remi"), 8, 64, lead=4, section=6, longest=48)


# --- The model -----------------------------------------------------------------------------------


def test_sections(tokenizer):
    rows = tokenizer.encode(piece(2, 5)).rows
    bounds = sections(rows)
    assert len(bounds) == 6 and (rows[bounds[:-1], 0] == BAR).all() and rows[bounds[-1], 0] == END


def test_a_latent_depends_on_its_bar_alone(model, grid):
    _, whole = model.encode(grid)
    assert whole.shape == (grid.num_bars, model.config.latent)
    for bar in (0, 3):
        _, one = model.encode(grid, [bar])
        np.testing.assert_allclose(one[0], whole[bar], atol=1e-5)
    _, drawn = model.encode(grid, [0], sample_seed=1)
    assert np.abs(drawn - whole[:1]).max() > 0.01


@pytest.mark.parametrize("temperature", [0.0, 1.0, 2.0])
def test_whatever_the_weights_a_bar_is_valid(model, temperature):
    shapes = [
        BarShape(meter, 12, programs, (0,) * len(programs))
        for meter in (3, 4, 40, 70)
        for programs in ((0,), (40, 128), (0, 33, 48, 128))
    ]
    bars = model.decode(shapes, temperature=temperature, seed=5, in_range=True)
    for shape, notes in zip(shapes, bars, strict=True):
        assert len(notes) == len(shape.programs)
        for cell in notes:
            order = [(row[0], row[1]) for row in cell.tolist()]
            assert order == sorted(set(order))
            units = model.tokenizer.vocabulary.bar_units[shape.meter]
            assert all(head - FIRST_POSITION < units for head, _ in order)
        rows = joined_grid([shape], [notes]).rows(model.tokenizer.vocabulary)
        score = model.tokenizer.decode(rows)
        assert score.num_notes == sum(len(cell) for cell in notes)


def test_the_engine_computes_what_training_does(model, grid, tokenizer):
    """Logits of the decoder in training, against those of the engine that samples."""
    from musegen.data.bar_batches import packed
    from musegen.models.bar_vae import BarRequest
    from musegen.sampling.draw import Draw
    from musegen.sampling.engines.torch import TorchEngine

    network, vocabulary = model.network, tokenizer.vocabulary
    shapes, z = model.encode(grid, [2])
    part = grid.part(2, 3, np.arange(grid.num_tracks))
    documents = bar_documents(part, vocabulary, LEAD)
    arrays = packed(tokenizer, documents, measure_bars(part, vocabulary), 64, 6)
    batch = {name: torch.as_tensor(array) for name, array in arrays.items()}
    with torch.no_grad():
        inputs = network.decoder_batch(batch, torch.as_tensor(z, dtype=torch.float32))
        expected = [each[0].numpy() for each in network.decoder(inputs)]
    engine = TorchEngine(network.decoder)
    guide = BarGuide(vocabulary, shapes[0], LEAD, engine.max_positions, in_range=False)
    state = network.begin([BarRequest(guide, engine, z[0])], Draw())
    led, place = state.guides[0], LEAD + 1
    for track in range(part.num_tracks):
        for row in [*part.cell(0, track).tolist(), [END, 0, 0, 0]]:
            if row[0] != END:
                for field in range(4):
                    found = engine.logits([0], field, np.array([row[:field]], dtype=np.int64))[0]
                    np.testing.assert_allclose(found, expected[field][place], atol=2e-3)
            advance = led.accept(row)
            if advance is not None:
                engine.extend({0: advance})
            place += 1


def test_slerp():
    rng = np.random.default_rng(0)
    one, two = rng.standard_normal((2, 64))
    assert np.allclose(slerp(one, two, 0.0), one) and np.allclose(slerp(one, two, 1.0), two)
    middle = slerp(one, two, 0.5)
    lengths = np.linalg.norm(one), np.linalg.norm(two)
    assert np.isclose(np.linalg.norm(middle), np.mean(lengths))
    assert np.allclose(slerp(one, one, 0.3), one)
    assert np.allclose(slerp(one, -one, 0.25), 0.5 * one)


def test_interpolation_begins_and_ends_at_the_bars(model, grid):
    _, z = model.encode(grid, [0, 1])
    path = model.interpolate(z[0], z[1], 5)
    assert path.shape == (5, model.config.latent)
    assert np.allclose(path[0], z[0]) and np.allclose(path[-1], z[1])
    with pytest.raises(UsageError, match="the two ends are 2 already"):
        model.interpolate(z[0], z[1], 1)


def test_bad_input_is_said(model, grid, tokenizer):
    with pytest.raises(UsageError, match="there is no bar 7: the piece has 6"):
        model.encode(grid, [6])
    crowd = BarShape(3, 3, (0,) * 130, tuple(range(8)) + (7,) * 122)
    with pytest.raises(TokenError, match="does not fit the 128 positions"):
        BarGuide(tokenizer.vocabulary, crowd, LEAD, 128)
    with pytest.raises(TokenError, match="a bar without tracks"):
        BarGuide(tokenizer.vocabulary, BarShape(3, 3, (), ()), LEAD, 128)
    with pytest.raises(UsageError, match="1 latents for 2 bars"):
        model.decode([BarShape(3, 3, (0,), (0,))] * 2, np.zeros((1, 32)))
    with pytest.raises(UsageError, match="this model's have 32 finite numbers"):
        model.decode([BarShape(3, 3, (0,), (0,))], np.zeros((1, 31)))
    notes = [(i * 80, 30, 30 + j, 80) for i in range(20) for j in range(9)]
    dense = Score(tracks=(Track(notes=note_array(notes)),))
    with pytest.raises(TokenError, match="and the model holds 128; take fewer tracks"):
        model.encode(dense)


def test_it_loads_from_a_folder(model, grid, tmp_path):
    save_model(tmp_path, "bar_vae", model.network, model.tokenizer.to_dict(), "", {}, "fp32")
    back = BarModel.from_pretrained(tmp_path, "cpu")
    assert np.array_equal(back.encode(grid)[1], model.encode(grid)[1])
    with pytest.raises(CheckpointError, match="holds a transformer, and this needs a bar_vae"):
        BarModel.from_pretrained("default", "cpu")


def test_a_collapse_is_told(model):
    assert model.network.alarms({"active": 0.3}) == ()
    (alarm,) = model.network.alarms({"active": 0.05})
    assert "posterior collapse" in alarm and "model.beta" in alarm


def test_the_loops_know_nothing_of_autoencoders():
    root = Path(__file__).resolve().parents[1]
    loops = [*root.glob("musegen/training/*.py"), *root.glob("musegen/sampling/**/*.py")]
    for path in [
        *loops,
        root / "musegen/models/autoregressive.py",
        root / "musegen/models/base.py",
    ]:
        text = path.read_text("utf-8").replace("autoencoders or critics", "")
        assert not re.search(r"\bvae\b|bar_vae|autoencoder|latent", text, re.I), path
