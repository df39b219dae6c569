"""Bars like given ones: latents of cells, what the transformer is told, `compose(like=...)`."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import musegen
from musegen.bar_model import BarModel
from musegen.data.batches import TrainBatches, ValidBatches
from musegen.data.cell_latents import STEPS, CellLatents, write_cell_latents
from musegen.errors import CheckpointError, ConfigError, DataError, MidiError, UsageError
from musegen.guide import Advance
from musegen.likeness import cell_latents
from musegen.models.registry import GENERATORS
from musegen.models.transformer import Transformer
from musegen.music.piece import Piece
from musegen.provenance import Provenance
from musegen.sampling.engines.guided import GuidedEngine
from musegen.sampling.engines.torch import TorchEngine
from musegen.tokens.grid import Grid
from musegen.tokens.tokenizer import load_tokenizer
from musegen.tokens.vocabulary import TRACK
from musegen.tokens.wishes import Controls, Like
from musegen.training.run import RunConfig

from .bar_songs import random_network, shards_of, song

Z = 32  # of the smallest autoencoder: 4 slots of 8


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("events")


@pytest.fixture(scope="module")
def encoder(tokenizer):
    return BarModel(random_network(tokenizer), tokenizer, weights="f" * 64)


@pytest.fixture(scope="module")
def shards(tmp_path_factory, tokenizer):
    songs = [(song(), "train"), (song(program=24, drums=False), "train"), (song(4), "valid")]
    return shards_of(tmp_path_factory.mktemp("shards"), tokenizer, songs)


@pytest.fixture
def table(tmp_path, shards, tokenizer, encoder):
    def encode(rows):
        return cell_latents(encoder, Grid.from_rows(rows, tokenizer.vocabulary)).reshape(-1, Z)

    write_cell_latents(shards, tmp_path, encode, Z, "f" * 64)
    return CellLatents(shards, tmp_path, Z, "f" * 64)


def small(tokenizer, **settings):
    run = RunConfig.of(GENERATORS["transformer"], "tiny", tokenizer)
    shape = {"width": 32, "layers": 2, "heads": 4, "latent": Z, "latent_hidden": 16, "dropout": 0.0}
    torch.manual_seed(1)
    return Transformer(replace(run.model, **shape | settings))


# --- Latents of cells -----------------------------------------------------------------------------


def test_a_cell_has_the_latent_of_its_bar_by_itself(tokenizer, encoder):
    grid = encoder.grid(song())
    found = cell_latents(encoder, grid)
    for bar, track in ((0, 0), (3, 1), (5, 2)):
        alone = grid.part(bar, bar + 1, np.array([track]))
        np.testing.assert_allclose(found[bar, track], encoder.encode(alone)[1][0], atol=1e-5)


def test_a_cell_too_long_for_the_model_is_told_nothing(tokenizer, encoder, monkeypatch):
    grid = encoder.grid(song())
    monkeypatch.setattr("musegen.likeness._longest", lambda model: 3)
    found = cell_latents(encoder, grid)
    busy = grid.counts > 3
    assert busy.any() and not found[busy].any() and found[~busy].any(axis=1).all()


def test_the_table_has_a_row_for_each_cell(shards, table, tokenizer, encoder):
    for piece in shards.split("train"):
        rows = shards.rows(piece)
        expected = cell_latents(encoder, Grid.from_rows(rows, tokenizer.vocabulary))
        got = table.of(piece).astype(float) / STEPS
        assert len(got) == np.count_nonzero(rows[:, 0] == TRACK)
        np.testing.assert_allclose(got, np.clip(expected.reshape(-1, Z), -4, 3.97), atol=0.51 / 32)


def test_an_interrupted_table_goes_on_where_it_stopped(tmp_path, shards, tokenizer):
    asked = []

    def encode(rows):
        asked.append(len(rows))
        if len(asked) == 2:
            raise KeyboardInterrupt
        cells = np.count_nonzero(rows[:, 0] == TRACK)
        return np.full((cells, Z), len(rows) / 1000)

    with pytest.raises(KeyboardInterrupt):
        write_cell_latents(shards, tmp_path, encode, Z, "a")
    with open(next(tmp_path.glob("*.part")), "ab") as file:
        file.write(b"half a row")
    write_cell_latents(shards, tmp_path, encode, Z, "a")
    assert len(asked) == 4  # one piece was whole, one was begun twice, one is held out
    assert not list(tmp_path.glob("*.part"))
    made = CellLatents(shards, tmp_path, Z, "a")
    for piece in shards.split("train"):
        wanted = round(len(shards.rows(piece)) / 1000 * STEPS)
        assert (made.of(piece) == wanted).all()


def test_a_table_of_others_is_refused(tmp_path, shards, table):
    with pytest.raises(DataError, match="does not hold the latents"):
        CellLatents(shards, table.folder, Z, "other")
    with pytest.raises(DataError, match="other shards or another model"):
        write_cell_latents(shards, table.folder, lambda rows: rows, Z, "other")
    (table.folder / "train-00000.latents").write_bytes(b"torn")
    with pytest.raises(DataError, match="not whole"):
        CellLatents(shards, table.folder, Z, "f" * 64).of(shards.split("train")[0])


# --- Batches --------------------------------------------------------------------------------------


def test_batches_tell_each_row_its_own_cell(shards, table, tokenizer):
    held_out = next(ValidBatches(shards, tokenizer, 2, 256, latents=table).batches())
    piece = shards.split("valid")[0]
    latents, rows = held_out["latents"][0], held_out["rows"][0]
    cell = np.cumsum(rows[:, 0] == TRACK) - 1
    kinds = rows[:, 0]
    inside = (kinds == TRACK) | (rows[:, 1] > 0) & (rows[:, 3] > 0)
    np.testing.assert_array_equal(latents[inside], table.of(piece)[cell[inside]] / np.float32(32))
    assert not latents[~inside].any()


def test_training_tells_some_cells_and_does_not_augment(shards, table, tokenizer):
    batches = TrainBatches(shards, tokenizer, 4, 128, latents=table)
    assert not batches.augment
    shares = []
    for index in range(6):
        batch = batches.batch(index)
        inside = (batch["rows"][..., 0] == TRACK) & (batch["segments"] > 0)
        shares.append(batch["latents"].any(-1)[inside].mean())
        assert not batch["latents"][batch["segments"] == 0].any()
    assert 0.2 < np.mean(shares) < 0.8
    again = TrainBatches(shards, tokenizer, 4, 128, latents=table).batch(5)
    assert all(np.array_equal(again[name], batch[name]) for name in batch)
    assert "latents" not in TrainBatches(shards, tokenizer, 4, 128).batch(0)


def test_a_preset_without_cells_is_refused(shards, table, tokenizer, monkeypatch):
    batches = ValidBatches(shards, tokenizer, 2, 256, latents=table)
    windows = tokenizer.windows
    monkeypatch.setattr(
        tokenizer, "windows", lambda *given: [replace(s, cells=None) for s in windows(*given)]
    )
    with pytest.raises(DataError, match="has cells"):
        next(batches.batches())


# --- The transformer ------------------------------------------------------------------------------


def test_a_fresh_one_says_what_it_said_without(shards, table, tokenizer):
    made = {
        name: torch.as_tensor(array)
        for name, array in next(
            ValidBatches(shards, tokenizer, 2, 256, latents=table).batches()
        ).items()
    }
    model = small(tokenizer).eval()
    untold = {name: tensor for name, tensor in made.items() if name != "latents"}
    for one, other in zip(model(made), model(untold), strict=True):
        assert torch.equal(one, other)
    torch.nn.init.normal_(model.like.out.weight)
    assert not torch.equal(model(made)[0], model(untold)[0])
    silent = {**made, "latents": torch.zeros_like(made["latents"])}
    assert torch.equal(model(silent)[0], model(untold)[0])


def test_latent_only_trains_what_reads_latents(tokenizer):
    (player,) = small(tokenizer, latent_only=True).players()
    assert [name for name, _ in player.module.named_parameters()] == ["up.weight", "out.weight"]
    (player,) = small(tokenizer).players()
    assert player.name == "model"
    with pytest.raises(ConfigError, match="nothing to train"):
        small(tokenizer, latent=0, latent_hidden=0, latent_only=True)


def test_the_shapes_are_those_of_the_tensors(tokenizer):
    for hidden in (0, 16):
        model = small(tokenizer, latent_hidden=hidden)
        found = {n: tuple(t.shape) for n, t in model.state_dict().items() if n.startswith("like")}
        assert found == model.config.latent_shapes


def test_engines_add_vectors_where_they_are_told(tokenizer):
    model = small(tokenizer).eval()
    rng = np.random.default_rng(0)
    rows = rng.integers(1, 40, (6, 4))
    channels = np.zeros((6, len(tokenizer.channels)), dtype=int)
    places = np.arange(6.0)[:, None].repeat(2, 1)
    vectors = rng.standard_normal((6, 32))
    told = Advance(rows, channels, places, True, vectors)
    plain = Advance(rows, channels, places, True)
    chosen = np.zeros((2, 0), dtype=int)
    engine = TorchEngine(model)
    engine.open(2)
    engine.extend({0: told, 1: plain})
    both = engine.logits([0, 1], 0, chosen)
    assert not np.allclose(both[0], both[1])
    stepwise = TorchEngine(model)
    stepwise.open(1)
    stepwise.extend({0: replace(told.part(0, 4), restart=True)})
    stepwise.extend({0: told.part(4, 6)})
    np.testing.assert_array_equal(stepwise.logits([0], 0, chosen[:1])[0], both[0])
    guided = GuidedEngine(TorchEngine(model), [], 2.0)
    guided.open(1)
    guided.extend({0: told})
    sharper = guided.logits([0], 0, chosen[:1])[0]
    np.testing.assert_allclose(sharper, 2 * both[0] - both[1], atol=1e-9)
    # A restart keeps only rows that were told the same.
    engine.extend({0: Advance(rows, channels, places, True, vectors * 2)})
    assert not np.allclose(engine.logits([0], 0, chosen[:1])[0], both[0])


# --- What is asked --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "like", "tracks", "bars"),
    [
        ("riff.mid@5-6", Like("riff.mid", 5, 6), (), (0, 0)),
        ("riff.mid@5", Like("riff.mid", 5, 5), (), (0, 0)),
        ("a/b@home/riff.mid@5-6@bass", Like("a/b@home/riff.mid", 5, 6), ("bass",), (0, 0)),
        ("riff.mid@5@2,bass:9-12", Like("riff.mid", 5, 5), ("2", "bass"), (9, 12)),
        ("riff.mid@5-6:9-12", Like("riff.mid", 5, 6), (), (9, 12)),
    ],
)
def test_the_words(text, like, tracks, bars):
    (wish,) = Controls(like=(text,)).wishes()
    assert wish.value == like and wish.scope.tracks == tracks
    assert (wish.scope.first_bar, wish.scope.last_bar) == bars
    told = Controls(like=(text,)).without_folders().like[0]
    assert told == text.replace("a/b@home/", "")


@pytest.mark.parametrize("text", ["riff.mid", "@5", "riff.mid@0", "riff.mid@6-5", "riff.mid@bass"])
def test_words_that_are_refused(text):
    with pytest.raises(UsageError, match=r"say for example riff\.mid@5-6"):
        Controls(like=(text,)).wishes()


# --- Composing ------------------------------------------------------------------------------------


@pytest.fixture
def riff(tmp_path):
    path = tmp_path / "riff.mid"
    Piece(song()).save(path)
    return path


def written(**options):
    given = {"instruments": ["piano", "bass"], "bars": 4, "random_seed": 3, "tempo": 100}
    return musegen.compose(**given | options)


def test_bars_like_those_of_a_file(riff):
    free, alike = written(), written(like=f"{riff}@1-2")
    line = next(line for line in alike.info["controls"] if line["control"] == "like")
    assert line["holds"] is None and "riff.mid@1-2" in line["asked"]
    assert "onsets shared" in line["measured"]
    assert alike.to_bytes() != free.to_bytes()
    origin = Provenance.of(alike.score)
    assert origin.options["like"] == ["riff.mid@1-2"] and list(origin.likes) == ["riff.mid"]
    assert "/" not in json.dumps(origin.options)
    made = musegen.api.remake(origin, riff.parent)
    assert made.to_bytes() == alike.to_bytes()
    Piece(song(5)).save(riff)
    with pytest.raises(MidiError, match="has changed"):
        musegen.api.remake(origin, riff.parent)


def test_a_name_that_begins_with_another_and_an_at(tmp_path):
    for name, bars in (("x", 6), ("x@1.mid", 5)):
        (tmp_path / name).write_bytes(Piece(song(bars)).to_bytes())
    alike = written(like=[f"{tmp_path}/x@1@piano", f"{tmp_path}/x@1.mid@2@bass"])
    made = musegen.api.remake(Provenance.of(alike.score), tmp_path)
    assert made.to_bytes() == alike.to_bytes()


def test_guidance_is_for_it_too(riff):
    one = written(like=f"{riff}@1-2", guidance=2.0)
    assert not any("changes nothing" in text for text in one.info["warnings"])
    assert one.to_bytes() != written(like=f"{riff}@1-2").to_bytes()


def test_only_the_cells_in_scope_are_told(riff):
    free, alike = written(), written(like=f"{riff}@1@bass:3-4")
    for track in (0, 1):
        ticks = 2 * 4 * 480
        early = [
            [
                tuple(note)[:4]
                for note in piece.score.tracks[track].notes.tolist()
                if note[0] < ticks
            ]
            for piece in (free, alike)
        ]
        assert early[0] == early[1]
    late = [
        piece.score.tracks[1].notes[["start_tick", "pitch"]].tolist() for piece in (free, alike)
    ]
    assert late[0] != late[1]
    (line,) = [line for line in alike.info["controls"] if line["control"] == "like"]
    assert (line["track"], line["bars"]) == (alike.score.tracks[1].name, "3-4")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"like": "{}@7"}, UsageError, "the file has 6 bars"),
        ({"like": "{}@1-60"}, UsageError, "the file has 6 bars"),
        ({"like": "{}@1", "time_signature": "3/4"}, UsageError, "is in 4/4, and the bar to write"),
        ({"like": "{}x@1"}, MidiError, "riff.midx"),
        ({"like": "{}@1@flute"}, UsageError, "flute"),
    ],
)
def test_what_cannot_be(riff, options, error, message):
    with pytest.raises(error, match=message):
        written(**{name: value.format(riff) for name, value in options.items()})


def test_a_kind_of_track_that_the_file_lacks(tmp_path):
    path = tmp_path / "tune.mid"
    Piece(song(drums=False)).save(path)
    piece = written(like=f"{path}@1-2", instruments=["piano", "drums"])
    assert any("no drums in it" in text for text in piece.info["warnings"])
    with pytest.raises(UsageError, match="no drums in it"):
        written(like=f"{path}@1-2@drums", instruments=["piano", "drums"])


def test_a_model_without_latents_says_so(riff, monkeypatch):
    model = musegen.Model.from_pretrained("default")
    model.config = replace(model.config, latent=0, latent_only=False)
    with pytest.raises(CheckpointError, match="cannot be told of bars"):
        written(like=f"{riff}@1-2", model=model)


def test_another_autoencoder_is_refused(riff):
    model = musegen.Model.from_pretrained("default")
    model.config = replace(model.config, latent_of="0" * 64)
    with pytest.raises(CheckpointError, match="another autoencoder"):
        written(like=f"{riff}@1-2", model=model)


def test_a_trained_model_gets_what_reads_latents_anew(tmp_path, tokenizer):
    from musegen.training.checkpoint import save_model
    from musegen.training.initial import initial

    model = small(tokenizer)
    torch.nn.init.normal_(model.like.out.weight)
    save_model(tmp_path / "m", "transformer", model, tokenizer.to_dict(), "", {}, storage="fp32")
    config = RunConfig.of(GENERATORS["transformer"], "tiny", tokenizer)
    for settings, kept in (([], True), (["model.latent_hidden=8"], False)):
        _, network = initial(config, settings, "transformer", GENERATORS, str(tmp_path / "m"))
        assert bool(network.like.out.weight.any()) is kept
        table = network.model.embed_tokens.weight
        assert torch.equal(table, model.model.embed_tokens.weight)
