"""The road from end to end, on a small untrained model: the rules hold whatever the weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import musegen
from musegen.api import remake
from musegen.config import from_dict
from musegen.errors import CheckpointError, DeviceError, MidiError, OutputError, UsageError
from musegen.models.registry import GENERATORS
from musegen.music.check import check_midi
from musegen.music.score import Key, Meter, Score, Tempo, Text, Track, note_array
from musegen.provenance import Provenance
from musegen.tokens.tokenizer import load_tokenizer
from musegen.training.run import RunConfig

SHAPE = {"width": 32, "layers": 1, "heads": 2, "kv_heads": 2, "context": 256}


def write_model(folder: Path, preset: str = "events", seed: int = 0) -> Path:
    """A model with random weights that ends cells soon, as trained ones do."""
    import torch

    from musegen.training.checkpoint import save_model

    tokenizer = load_tokenizer(preset)
    family = GENERATORS["transformer"]
    settings = {**RunConfig.of(family, "tiny", tokenizer).model.__dict__, **SHAPE}
    torch.manual_seed(seed)
    network = family.model_class()(from_dict(family.config, settings))
    save_model(folder, "transformer", network, tokenizer.to_dict(), "# untrained\n", {})
    return folder


@pytest.fixture(scope="module", params=["events", "performance", "remi"])
def model(request, tmp_path_factory) -> musegen.Model:
    folder = write_model(tmp_path_factory.mktemp("weights") / "untrained", request.param)
    return musegen.Model.from_pretrained(folder, device="cpu")


def seed_score() -> Score:
    melody = [(360 * step, 300, 62 + step % 7, 80) for step in range(16)]
    bass = [(1440 * bar, 1400, 38, 70) for bar in range(4)]
    drums = [(720 * step, 100, 36, 90) for step in range(8)]
    return Score(
        ppq=480,
        tracks=(
            Track(note_array(melody), program=40, name="Fiddle"),
            Track(note_array(bass), program=32, name="Double bass"),
            Track(note_array(drums), is_drum=True, name="Kit"),
        ),
        tempos=(Tempo(0, 600_000), Tempo(2880, 550_000)),
        meters=(Meter(0, 3, 4),),
        keys=(Key(0, 2, False),),
        title="Seed",
    )


def test_a_continuation_keeps_the_seed(model):
    seed = seed_score()
    piece = musegen.compose(seed, bars=3, model=model, random_seed=1)
    score = piece.score
    assert len(score.bars()) == 4 + 3
    seam = 4 * 1440
    for before, after in zip(seed.tracks, score.tracks, strict=True):
        assert (before.name, before.program, before.is_drum) == (
            after.name,
            after.program,
            after.is_drum,
        )
        assert np.array_equal(after.notes[after.notes["start_tick"] < seam], before.notes)
    assert score.tempos == seed.tempos
    assert score.meters == seed.meters
    assert score.keys == seed.keys
    assert [tuple(marker) for marker in score.markers] == [(seam, "Generated")]
    assert check_midi(piece.to_bytes()) == []
    assert piece.info["bars"] == 3
    assert piece.info["seed"] == 1
    assert piece.info["notes"] == score.num_notes - seed.num_notes


def test_from_nothing_in_words(model):
    piece = musegen.compose(
        bars=2,
        instruments=["piano", "bass", "drums"],
        tempo=96,
        time_signature="6/8",
        key="E minor",
        model=model,
        random_seed=2,
    )
    score = piece.score
    assert [(track.program, track.is_drum) for track in score.tracks] == [
        (0, False),
        (33, False),
        (0, True),
    ]
    assert score.meters == (Meter(0, 6, 8),)
    assert score.tempos == (Tempo(0, 625_000),)
    assert score.keys == (Key(0, 1, True),)
    assert len(score.bars()) == 2
    assert check_midi(piece.to_bytes()) == []


def test_the_same_seed_gives_the_same_bytes_whatever_the_batch(model):
    def bytes_of(batch_size: int) -> list[bytes]:
        pieces = musegen.compose(
            seed_score(), bars=1, num=3, model=model, random_seed=7, batch_size=batch_size
        )
        return [piece.to_bytes() for piece in pieces]

    together = bytes_of(8)
    assert together == bytes_of(1)
    assert len(set(together)) == 3


def test_what_follows_the_last_bar_of_a_seed_makes_way(model):
    """A meter, a tempo or a marker there would change the new bars, or their number."""
    plain = seed_score()
    late = plain.replace(
        meters=(*plain.meters, Meter(9000, 5, 4)),
        tempos=(*plain.tempos, Tempo(9000, 300_000)),
        markers=(Text(99_000, "off"),),
    )
    piece = musegen.compose(late, bars=3, model=model, random_seed=1)
    assert any("after the last bar" in text for text in piece.info["warnings"])
    same = musegen.compose(plain, bars=3, model=model, random_seed=1).score
    assert piece.score.replace(comments=()) == same.replace(comments=())  # the hashes differ


def test_the_same_seed_gives_the_same_bytes_on_two_threads(model):
    import torch

    def composed() -> bytes:
        return musegen.compose(seed_score(), bars=2, model=model, random_seed=8).to_bytes()

    before = torch.get_num_threads()
    one = composed()
    try:
        torch.set_num_threads(2)
        assert composed() == one
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("meter", [(13, 4), (3, 32)])
def test_a_meter_that_the_preset_lacks_is_mapped_and_told(model, meter):
    seed = Score(
        tracks=(Track(note_array([(0, 200, 60, 80), (240, 200, 62, 80)])),),
        meters=(Meter(0, *meter),),
    )
    piece = musegen.compose(seed, bars=2, model=model, random_seed=1)
    if piece.score.meters[-1][1:] != meter:
        assert any(f"{meter[0]}/{meter[1]}" in warning for warning in piece.info["warnings"])
    else:
        assert model.tokenizer.meter_for(*meter) == meter
    assert len(piece.score.bars()) == len(seed.bars()) + 2
    assert check_midi(piece.to_bytes()) == []


def test_a_key_asked_for_is_written_at_the_seam(model):
    piece = musegen.compose(seed_score(), bars=1, key="G minor", model=model, random_seed=1)
    assert [tuple(key) for key in piece.score.keys] == [(0, 2, False), (4 * 1440, -2, True)]
    same = musegen.compose(seed_score(), bars=1, key="D major", model=model, random_seed=1)
    assert same.score.keys == seed_score().keys


def test_part_of_a_seed(model):
    piece = musegen.compose(seed_score(), seed_bars=2, bars=1, model=model, random_seed=3)
    seed_notes = seed_score().tracks[0].notes
    kept = piece.score.tracks[0].notes
    assert len(piece.score.bars()) == 3
    assert np.array_equal(
        kept[kept["start_tick"] < 2880]["pitch"],
        seed_notes[seed_notes["start_tick"] < 2880]["pitch"],
    )


def test_a_chosen_instrument_goes_on_alone(model):
    piece = musegen.compose(seed_score(), bars=2, instruments=["violin"], model=model)
    since = [track.notes["start_tick"].max(initial=0) >= 4 * 1440 for track in piece.score.tracks]
    assert since == [True, False, False]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"bars": 0}, "bars 0"),
        ({"bars": 5000}, "bars 5000"),
        ({"seed_bars": 2}, "without a seed"),
        ({"instruments": ["pianoo"]}, "piano"),
        ({"instruments": []}, "at least one"),
        ({"instruments": ["drums", "drums"]}, "one drum kit"),
        ({"instruments": ["piano"] * 16}, "16 melodic"),
        ({"tempo": 0}, "tempo 0"),
        ({"time_signature": "4/5"}, "4/5"),
        ({"key": "H dur"}, "key"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": float("inf")}, "temperature"),
        ({"temperature": 1e-310}, "temperature"),
        ({"top_p": 0}, "top-p"),
        ({"min_p": 2}, "min-p"),
        ({"top_k": -1}, "top-k"),
        ({"num": 0}, "num 0"),
        ({"random_seed": -1}, "random seed"),
    ],
)
def test_what_makes_no_sense_is_refused_before_sampling(model, options, says):
    with pytest.raises(UsageError, match=says):
        musegen.compose(model=model, **options)


def test_more_seed_bars_than_there_are(model):
    with pytest.raises(UsageError, match="the seed has 4"):
        musegen.compose(seed_score(), seed_bars=9, model=model)


def test_a_seed_without_notes(model):
    with pytest.raises(MidiError, match="no notes"):
        musegen.compose(Score(tracks=(Track(),)), model=model)


def test_a_missing_model_and_device(tmp_path):
    with pytest.raises(CheckpointError):
        musegen.compose(model=tmp_path / "nowhere")
    folder = write_model(tmp_path / "model")
    import torch

    if not torch.cuda.is_available():
        with pytest.raises(DeviceError):
            musegen.Model.from_pretrained(folder, device="cuda")


def test_progress_is_told(model):
    told: list[tuple[float, float | None, str]] = []
    musegen.compose(bars=2, model=model, on_progress=lambda *values: told.append(values))
    assert told[-1][:2] == (2, 2)


def test_bars_are_handed_over_as_they_are_finished(model):
    told: list[tuple[int, int, int]] = []
    pieces = musegen.compose(
        bars=3,
        num=2,
        model=model,
        random_seed=6,
        on_bar=lambda sample, bar, notes: told.append((sample, bar, len(notes))),
    )
    for index, piece in enumerate(pieces):
        own = [(bar, notes) for sample, bar, notes in told if sample == index]
        assert [bar for bar, _ in own] == [0, 1, 2]
        assert sum(notes for _, notes in own) == piece.info["notes"]


def test_ctrl_c_keeps_the_finished_bars(model):
    def interrupt(done: float, total: float | None, text: str) -> None:
        if done >= 2:
            raise KeyboardInterrupt

    piece = musegen.compose(bars=8, model=model, random_seed=4, on_progress=interrupt)
    assert piece.info["interrupted"]
    assert 2 <= piece.info["bars"] < 8
    assert check_midi(piece.to_bytes()) == []


def test_train_then_compose(tmp_path):
    songs = tmp_path / "songs"
    songs.mkdir()
    rng = np.random.default_rng(0)
    for number in range(12):
        notes = [
            (240 * step, 240, int(pitch), 80) for step, pitch in enumerate(rng.integers(55, 80, 96))
        ]
        musegen.Piece.of(Score(tracks=(Track(note_array(notes)),))).save(
            songs / f"song{number}.mid"
        )
    options = {
        "size": "tiny",
        "max_steps": 12,
        "overrides": [
            "model.width=32",
            "model.layers=1",
            "model.heads=2",
            "model.context=128",
            "data.batch_size=2",
            "training.validate_every=6",
        ],
        "device": "cpu",
        "workers": 1,
    }
    summary = musegen.train(songs, tmp_path / "model", **options)
    assert summary["step"] == 12
    assert (
        summary["last_validation"]["nats_per_note"] < summary["first_validation"]["nats_per_note"]
    )
    piece = musegen.compose(songs / "song0.mid", bars=1, model=tmp_path / "model", random_seed=1)
    assert check_midi(piece.to_bytes()) == []
    finer = {**options, "max_steps": 1, "overrides": ["training.learning_rate=1e-9"]}
    other = musegen.train(songs, tmp_path / "finer", init=tmp_path / "model", **finer)
    best = summary["best"]  # that training begins where this one was best, but for bf16
    assert other["first_validation"]["nats_per_note"] == pytest.approx(best, rel=1e-2)
    changed = {**options, "overrides": ["model.width=64"]}
    with pytest.raises(UsageError, match="change the model's shape"):
        musegen.train(songs, tmp_path / "wide", init=tmp_path / "model", **changed)
    with pytest.raises(UsageError, match="another preset"):
        musegen.train(songs, tmp_path / "flat", init=tmp_path / "model", preset="remi", **finer)
    with pytest.raises(OutputError, match="--resume"):  # nothing that was trained is lost
        musegen.train(songs, tmp_path / "model", **options)
    with pytest.raises(UsageError, match="built as events"):
        musegen.train(tmp_path / "model" / "data", tmp_path / "other", preset="remi", **options)
    (songs / "song3.mid").unlink()  # the run does not go on over other music
    with pytest.raises(CheckpointError, match="data"):
        musegen.train(songs, tmp_path / "model", resume=True, **options)


@pytest.mark.parametrize(
    ("engine", "precision"), [("onnx", "int8"), ("onnx", "fp32"), ("torch", "fp64")]
)
def test_each_engine_composes_and_says_so(engine, precision, tmp_path):
    folder = write_model(tmp_path / "weights")
    model = musegen.Model.from_pretrained(folder, "cpu", engine, precision)
    assert (model.engine, model.precision, model.device) == (engine, precision, "cpu")
    options = {"bars": 2, "instruments": ["piano", "bass"], "random_seed": 5}
    pieces = model.compose(num=3, batch_size=3, **options)
    assert [piece.to_bytes() for piece in pieces] == [
        model.compose(first_sample=number, **options).to_bytes() for number in range(3)
    ]
    origin = Provenance.of(pieces[0].score)
    assert (origin.engine, origin.precision) == (engine, precision)
    again = remake(origin, model=folder)
    assert again.to_bytes() == pieces[0].to_bytes()


def test_a_file_from_before_the_engines_is_made_again(tmp_path):
    folder = write_model(tmp_path / "weights")
    options = {"bars": 1, "instruments": ["piano"], "random_seed": 5}
    piece = musegen.Model.from_pretrained(folder, "cpu", "torch").compose(**options)
    assert "engine" not in piece.score.comments[-1].text
    assert remake(Provenance.of(piece.score), model=folder).to_bytes() == piece.to_bytes()


def test_an_engine_on_the_wrong_device_is_refused(tmp_path):
    folder = write_model(tmp_path / "weights")
    with pytest.raises(UsageError, match="bf16 is for a GPU"):
        musegen.Model.from_pretrained(folder, "auto", "torch", "bf16")
    with pytest.raises(UsageError, match="unknown engine"):
        musegen.compose(bars=1, instruments=["piano"], model=folder, engine="fast")
    damaged = folder / "model.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"model\.safetensors: damaged"):
        musegen.Model.from_pretrained(folder)
