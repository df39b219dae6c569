"""Interpolating, varying, morphing and averaging bars, with random weights."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from cli import main

from musegen.bar_model import BarModel
from musegen.errors import CheckpointError, MidiError, UsageError
from musegen.idea_origin import IdeaOrigin, origin_of
from musegen.ideas import average, interpolate, morph, parse_range, remake, vary
from musegen.music.check import check_midi
from musegen.music.piece import Piece
from musegen.music.score import Meter, Score, Track, note_array
from musegen.tokens.tokenizer import load_tokenizer
from musegen.training.checkpoint import save_model

from .bar_songs import random_network, song


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("events")


@pytest.fixture(scope="module")
def network(tokenizer):
    return random_network(tokenizer)


@pytest.fixture(scope="module")
def model(network, tokenizer):
    return BarModel(network, tokenizer, "random")


def same_notes(one: Score, other: Score) -> bool:
    return [t.notes.tolist() for t in one.tracks] == [t.notes.tolist() for t in other.tracks]


@pytest.mark.parametrize(
    ("text", "found"), [("5-8", (5, 8)), ("5", (5, 5)), (" 2 - 3 ", (2, 3)), ("7-7", (7, 7))]
)
def test_ranges_of_bars(text, found):
    assert parse_range(text) == found


@pytest.mark.parametrize("text", ["", "x", "4-2", "0-3", "1.5-2", "-3", "3-", "1-2-3"])
def test_what_is_no_range_is_said(text):
    with pytest.raises(UsageError, match="bars"):
        parse_range(text)


def test_a_way_begins_and_ends_with_the_real_bars(model):
    one, other = song(6), song(6, program=40)
    pieces = interpolate(one, other, bars_a="1-2", bars_b="3-4", steps=5, model=model)
    assert len(pieces) == 5
    first, last = pieces[0].score, pieces[-1].score
    tune = first.tracks[0].notes
    assert tune["pitch"].tolist() == [60 + i % 7 for i in range(8)]
    assert tune["start_tick"].tolist() == [480 * i for i in range(8)]
    # The other's tune is on a violin: silent in the first piece, there in the last.
    programs = [track.program for track in first.tracks]
    assert programs == [0, 33, 40, 0] and [t.is_drum for t in first.tracks] == [False] * 3 + [True]
    assert [len(track) for track in first.tracks] == [8, 2, 0, 8]
    assert [len(track) for track in last.tracks] == [0, 2, 8, 8]
    assert last.tracks[2].notes["pitch"].tolist() == [60 + i % 7 for i in range(8, 16)]
    assert any("silent" in note for note in pieces[0].notes)
    for piece in pieces:
        assert len(piece.score.bars()) <= 2
        assert piece.score.tempos[0].tempo_us == 600_000 and piece.score.keys[0].fifths == 2
        assert [track.name for track in piece.score.tracks] == ["Tune", "Low", "Tune", "Kit"]
        assert check_midi(piece.to_bytes()) == []


def test_the_same_seed_gives_the_same_bytes(model):
    options = {"bars_a": "1-2", "bars_b": "3-4", "steps": 4, "model": model, "temperature": 1.0}
    make = [
        [p.to_bytes() for p in interpolate(song(), song(), random_seed=seed, **options)]
        for seed in (1, 1, 2)
    ]
    assert make[0] == make[1] != make[2]


def test_sections_of_unlike_length_are_stretched(model):
    pieces = interpolate(song(), song(), bars_a="1-4", bars_b="5-6", steps=3, model=model)
    assert any("2 bars for 4: stretched" in note for note in pieces[0].notes)
    last = pieces[-1].score.tracks[0].notes["pitch"].tolist()
    own = song().tracks[0].notes["pitch"].tolist()
    assert last == own[16:20] * 2 + own[20:24] * 2


def test_a_variation_leaves_the_rest_alone(model):
    score = song(6)
    pieces = vary(score, bars="3-4", amount=0.8, num=3, model=model, temperature=1.0)
    assert len({piece.to_bytes() for piece in pieces}) == 3
    for piece in pieces:
        made = piece.score
        assert (made.tempos, made.meters, made.keys) == (score.tempos, score.meters, score.keys)
        assert made.markers == score.markers
        assert check_midi(piece.to_bytes()) == []
        for before, after in zip(score.tracks, made.tracks, strict=True):
            assert (before.name, before.program) == (after.name, after.program)
            for own in (lambda n: n < 3840, lambda n: n >= 7680):
                one = before.notes[own(before.notes["start_tick"])]
                two = after.notes[own(after.notes["start_tick"])]
                assert one.tolist() == two.tolist()
            inner = after.notes[(after.notes["start_tick"] >= 3840)]
            inner = inner[inner["start_tick"] < 7680]
            ends = inner["start_tick"] + inner["duration_tick"]
            assert ends.max(initial=0) <= 7680
    assert not same_notes(pieces[0].score, score)


def test_no_amount_changes_nothing(model):
    score = song(4)
    (piece,) = vary(score, bars="2-3", amount=0.0, model=model)
    assert same_notes(piece.score, score)


def test_morphing_says_what_was_asked_and_what_came(model):
    score = song(4)
    piece = morph(score, bars="1-4", density=1, model=model)
    told = piece.info
    assert told["before"]["density"] == pytest.approx((4 + 1 + 4) / 4)
    assert told["asked"]["density"] == pytest.approx(told["before"]["density"] + 1)
    assert told["asked"]["rhythm"] == told["before"]["rhythm"] == 1.0
    # The nearest of what was tried, the bars as the model gives them back among them.
    count = piece.score.num_notes / 16
    assert told["measured"]["density"] == pytest.approx(count, abs=0.01)


def test_the_average_is_as_long_as_the_longest(model):
    piece = average([song(4), song(2), song(3)], model=model)
    assert len(piece.score.bars()) <= 4
    assert check_midi(piece.to_bytes()) == []
    origin = origin_of(piece.score)
    assert isinstance(origin, IdeaOrigin) and origin.verb == "average" and len(origin.sources) == 3


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (lambda m: interpolate(song(), song(numerator=3), steps=3, model=m), "4/4 on one side"),
        (lambda m: interpolate(song(), song(), steps=1, model=m), "2 to 256"),
        (lambda m: interpolate(song(), song(), bars_a="5-9", model=m), "has 6 bars, not 9"),
        (lambda m: vary(song(), amount=1.5, model=m), "0 .as it is. to 1"),
        (lambda m: vary(song(), num=0, model=m), "1 to 1000"),
        (lambda m: vary(song(70), model=m), "more than 64"),
        (lambda m: vary(Score(), model=m), "has no notes"),
        (lambda m: morph(song(), model=m), "nothing is asked"),
        (lambda m: average([song()], model=m), "two pieces at least"),
        (lambda m: average([song(), song()], bars=["1"], model=m), "1 ranges of bars for 2"),
        (lambda m: average([song(), song(numerator=3)], model=m), "other meters"),
    ],
)
def test_what_cannot_be_done_is_said(act, said, model):
    with pytest.raises((UsageError, MidiError), match=said):
        act(model)


def test_empty_bars_and_meters_that_the_model_lacks(model):
    late = song(2)
    gap = late.replace(
        tracks=tuple(
            Track(
                note_array([(n[0] + 7680, *list(n)[1:]) for n in track.notes.tolist()]),
                program=track.program,
                is_drum=track.is_drum,
            )
            for track in late.tracks
        )
    )
    with pytest.raises(UsageError, match=r"bars 1-3 .* are empty"):
        vary(gap, bars="1-3", model=model)
    odd = song(4).replace(meters=(Meter(0, 31, 32),))
    with pytest.raises(UsageError, match="31/32, which the model has not"):
        vary(odd, bars="1", model=model)


def test_drums_alone_and_pitched_tracks_alone(model):
    kit = song(4)
    drums = kit.replace(tracks=(kit.tracks[2],))
    with pytest.raises(UsageError, match="nothing in common"):
        interpolate(drums, song(4, drums=False), steps=3, model=model)


def test_the_verbs_write_files(network, tokenizer, tmp_path, capsys):
    folder = tmp_path / "weights"
    save_model(folder, "bar_vae", network, tokenizer.to_dict(), "card", {})
    for name, score in (("a", song(4)), ("b", song(4, program=40))):
        Piece.of(score).save(tmp_path / f"{name}.mid")
    a, b, out = str(tmp_path / "a.mid"), str(tmp_path / "b.mid"), str(tmp_path / "out")
    model = ["--model", str(folder)]
    way = ["interpolate", a, b, "--bars-a", "1-2", "--bars-b", "1-2", "--steps", "3"]
    assert main.run([*way, "--out", out, *model, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert len(told["files"]) == len(told["notes"]) == 3 and told["random_seed"] == 0
    assert Piece.load(told["files"][0]).score.num_notes == 8 + 2 + 8
    assert main.run(["vary", a, "--bars", "2", "--num", "2", "--out", out, *model]) == 0
    told = capsys.readouterr()
    assert len(told.out.split()) == 2 and "random seed 0" in told.err
    assert main.run(["morph", a, "--density", "1", "--out", f"{out}/m.mid", *model]) == 0
    assert "asked" in capsys.readouterr().err
    assert main.run(["average", a, b, "--out", f"{out}/mean.mid", *model]) == 0
    assert (tmp_path / "out" / "mean.mid").is_file()
    capsys.readouterr()
    assert main.run(["vary", a, "--bars", "3-1", "--out", out, *model]) == 2
    told = capsys.readouterr()
    assert told.err.count("\n") == 1 and "not before the first" in told.err
    assert main.run(["interpolate", a, str(tmp_path / "none.mid"), *model]) == 1
    assert np.isfinite(network.config.beta)


def test_compose_refuses_an_autoencoder_of_bars_in_one_line(tmp_path, capsys):
    assert main.run(["compose", "--model", "bars", "--bars", "2", "--out", str(tmp_path)]) == 1
    told = capsys.readouterr().err
    assert "writes bars and not pieces" in told and "internal error" not in told


# --- Some tracks ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bars", "changed"),
    [
        ("2-3@Low", [1]),
        ("2-3@tune, kit", [0, 2]),
        ("@2", [1]),
        ("2@drums", [2]),
        ("2-3", [0, 1, 2]),
    ],
)
def test_bars_of_some_tracks_leave_the_others(model, bars, changed):
    source = song(5)
    made = vary(source, bars=bars, amount=1.0, random_seed=3, model=model)[0].score
    for index, (old, new) in enumerate(zip(source.tracks, made.tracks, strict=True)):
        assert (old.notes.tolist() != new.notes.tolist()) == (index in changed)


@pytest.mark.parametrize("bars", ["2@oboe", "2@", "2@,", "@", "1.5@Low", "9@Low"])
def test_tracks_that_are_not_there_are_said(model, bars):
    with pytest.raises(UsageError):
        vary(song(5), bars=bars, model=model)


def test_a_way_between_single_tracks(model):
    way = interpolate(
        song(4), song(4, program=40), bars_a="1@Tune", bars_b="2@Low", steps=3, model=model
    )
    assert [len(piece.score.tracks) for piece in way] == [2, 2, 2]


# --- Bettered latents -----------------------------------------------------------------------------


def test_bettered_latents_cost_less_bar_by_bar_and_are_the_same_again(model):
    grid = model.grid(song(3))
    plain, better = (model.encode(grid, refine=steps)[1] for steps in (0, 8))
    assert (better == model.encode(grid, refine=8)[1]).all() and (better != plain).any()
    assert np.allclose(better[1], model.encode(grid, [1], refine=8)[1][0], atol=1e-4)
    batch = model._batch(grid, range(3))
    weights, beta = model.network.field_weights, model.config.beta

    def costs(z: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            inputs = model.network.decoder_batch(batch, torch.tensor(z, dtype=torch.float32))
            logits = model.network.decoder.field_logits(inputs)
        targets, found = inputs["targets"].flatten(0, 1), 0.5 * beta * np.square(z).sum(1)
        bars = batch["bars"].flatten().numpy()
        for field, each in enumerate(logits):
            chance = torch.log_softmax(each, -1).gather(1, targets[:, field, None])[:, 0]
            nats = -chance.numpy() * (targets[:, field].numpy() > 0) * weights[field].item()
            for bar in range(3):
                found[bar] += nats[bars == bar + 1].sum()
        return found

    assert (costs(better) < costs(plain)).all()


# --- Latents of bars that follow ----------------------------------------------------------------


def test_latents_that_follow_are_of_the_prior_of_sections(model):
    size = model.config.latent
    before = np.random.default_rng(0).standard_normal((3, size))
    one, two = model.draw(4, before, seed=1), model.draw(4, before, seed=1)
    assert one.shape == (4, size) and (one == two).all()
    assert (model.draw(4, before, seed=2) != one).any()
    assert (model.draw(4, before + 1.0, seed=1) != one).any()
    # The mean of many draws is that of the mixture.
    with torch.no_grad():
        shares, mean, log_var = model.network.prior(torch.tensor(before[None], dtype=torch.float32))
    shares = shares[0, -1].exp()[:, None]
    wanted = (shares * mean[0, -1]).sum(0).numpy()
    second = (shares * (mean[0, -1].square() + log_var[0, -1].exp())).sum(0).numpy()
    draws = np.stack([model.draw(1, before, seed=seed)[0] for seed in range(400)])
    spread = np.sqrt(second - wanted**2)
    assert (np.abs(draws.mean(0) - wanted) < 4 * spread / 20 + 1e-3).all()
    assert np.allclose(draws.std(0), spread, rtol=0.25)


def test_the_first_of_all_is_a_draw_of_the_plain_prior_and_sections_may_be_long(model):
    drawn = np.stack([model.draw(1, seed=seed)[0] for seed in range(300)])
    assert abs(drawn.mean()) < 0.05 and abs(drawn.std() - 1) < 0.05
    assert np.isfinite(model.draw(2 * model.config.section + 3)).all()
    for bars, before in ((0, None), (1, np.zeros((2, 3))), (1, np.zeros(model.config.latent))):
        with pytest.raises(UsageError, match="ask for 1 or more"):
            model.draw(bars, before)


# --- How a file was made --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def here(network, tokenizer, tmp_path_factory):
    """A folder with a model and two files."""
    folder = tmp_path_factory.mktemp("made")
    save_model(folder / "mine", "bar_vae", network, tokenizer.to_dict(), "card", {})
    Piece.of(song(6)).save(folder / "a.mid")
    Piece.of(song(6, program=40)).save(folder / "b.mid")
    return folder


VERBS = [
    ["interpolate", "a.mid", "b.mid", "--bars-a", "1-2", "--bars-b", "3", "--steps", "4"],
    ["vary", "a.mid", "--bars", "2-3", "--amount", "0.7", "--num", "2", "--random-seed", "5"],
    ["morph", "a.mid", "--bars", "2", "--density", "1", "--rhythm-intensity", "-1"],
    ["average", "a.mid", "b.mid", "--bars", "1-2", "--bars", "3-4", "--random-seed", "3"],
]


@pytest.mark.parametrize("words", VERBS, ids=lambda words: words[0])
def test_why_makes_the_same_bytes_and_its_command_too(here, monkeypatch, capsys, words):
    monkeypatch.chdir(here)
    verb = words[0]
    assert main.run([*words, "--model", "mine", "--out", f"{verb}/"]) == 0
    made = sorted((here / verb).glob("*.mid"))[-2:]
    for path in made:
        capsys.readouterr()
        assert main.run(["midi", "why", str(path), "--rerun", "--json", "--model", "mine"]) == 0
        facts = json.loads(capsys.readouterr().out)
        assert facts["same"] and facts["verb"] == verb
        again = facts["command"].split()[1:]
        assert main.run([*again, "--out", f"{verb}-again/"]) == 0
        found = [p.read_bytes() for p in (here / f"{verb}-again").glob("*.mid")]
        assert path.read_bytes() in found
    assert main.run(["midi", "why", str(made[0]), "--model", "mine"]) == 0
    assert "command      musegen " + verb in capsys.readouterr().out
    again = ["midi", "why", str(made[0]), "--rerun", "--model", "mine", "--seed-midi", "a.mid"]
    assert main.run(again) == 2
    assert "--seed-midi is for composed files" in capsys.readouterr().err


def test_what_cannot_be_made_again_says_so(here, monkeypatch, tmp_path, model):
    monkeypatch.chdir(here)
    used = BarModel.from_pretrained("mine", "cpu")
    piece = vary("a.mid", bars="2", model=used)[0]
    origin = origin_of(piece.score)
    assert isinstance(origin, IdeaOrigin)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MidiError, match=r"a\.mid.*not found"):
        remake(origin, tmp_path, model=here / "mine")
    Piece.of(song(5)).save(tmp_path / "a.mid")
    with pytest.raises(MidiError, match="has changed"):
        remake(origin, tmp_path, model=here / "mine")
    with pytest.raises(CheckpointError, match="other weights"):
        remake(origin, here, model="bars")
    unnamed = origin_of(vary(song(6), bars="2", model=model)[0].score)
    assert isinstance(unnamed, IdeaOrigin)
    with pytest.raises(MidiError, match="no file"):
        remake(unnamed, here, model=here / "mine")


def test_bars_that_were_not_named_are_in_the_command(here, monkeypatch, model):
    monkeypatch.chdir(here)
    piece = average(["a.mid", "b.mid"], bars=["2-3", None], model=model)
    command = origin_of(piece.score).command()
    assert "--bars 2-3 --bars 1-6" in command


@pytest.mark.parametrize("steps", [{"density": float("nan")}, {"polyphony": float("inf")}])
def test_steps_that_are_no_number_are_said(model, steps):
    with pytest.raises(UsageError, match="finite number"):
        morph(song(4), model=model, **steps)


@pytest.mark.parametrize(
    "change",
    [
        {"verb": "compose"},
        {"options": {"amount": "x"}},
        {"options": {"model": "y"}},
        {"model": "../y"},
        {"sources": [["../a.mid", "0"]]},
        {"random_seed": -1},
        {"more": 1},
    ],
)
def test_words_that_are_not_ours_are_refused(model, change):
    score = vary(song(6), bars="2", model=model)[0].score
    facts = json.loads(score.comments[-1].text.removeprefix("musegen ")) | change
    text = score.comments[-1]._replace(text="musegen " + json.dumps(facts))
    with pytest.raises(MidiError, match="damaged"):
        origin_of(score.replace(comments=(text,)))


def test_what_reading_mended_is_told(tmp_path, model):
    path = tmp_path / "cut.mid"
    data = Piece(song()).to_bytes()
    path.write_bytes(data[:-30])  # its last track ends too early
    (varied,) = vary(path, bars="1-2", amount=0.5, model=model)
    morphed = morph(path, bars="1-2", density=1, model=model)
    for piece in (varied, morphed, *interpolate(path, song(), steps=2, model=model)):
        assert any("cut.mid" in note for note in piece.notes)


def test_no_more_than_all_beats_are_asked_for(model):
    piece = morph(song(), bars="1-2", rhythm=9, model=model)
    assert piece.info["asked"]["rhythm"] == 1.0
