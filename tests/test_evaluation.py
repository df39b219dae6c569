"""An evaluation from end to end, on a small untrained model and two dozen little pieces."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import musegen
from musegen.cli.main import run
from musegen.config import from_dict
from musegen.data.build import build
from musegen.data.shards import ShardSet
from musegen.errors import DataError, UsageError
from musegen.evaluation.asked import measured_controls, role_ranges
from musegen.evaluation.comparison import Figures, closer, result_of
from musegen.evaluation.excerpts import excerpts
from musegen.evaluation.generation import generate
from musegen.evaluation.likelihood import (
    HeldOutDocuments,
    baseline_nats,
    difference,
    network_nats,
    summarise,
)
from musegen.evaluation.markdown import to_markdown
from musegen.evaluation.originality import build_index
from musegen.evaluation.report import Report
from musegen.evaluation.run import BASELINE, named
from musegen.evaluation.tasks import LEAD_BARS, TASKS, check_tasks, request_of
from musegen.evaluation.validity import opens, same_notes, unchanged
from musegen.models.registry import GENERATORS
from musegen.music.midi import write_midi
from musegen.music.piece import Piece
from musegen.music.score import Meter, Score, Track, note_array
from musegen.tokens.tokenizer import Tokenizer, load_tokenizer
from musegen.training.checkpoint import save_model
from musegen.training.run import RunConfig

SHAPE = {"width": 32, "layers": 1, "heads": 2, "kv_heads": 2, "context": 256}


def song(seed: int, bars: int = 20) -> Score:
    """A melody, a bass and drums, in 4/4 or 3/4."""
    rng = np.random.default_rng(seed)
    beats = 3 + seed % 2
    melody, bass, drums = [], [], []
    for beat in range(bars * beats):
        at = 480 * beat
        melody.append((at, 240, 60 + int(rng.choice([0, 2, 4, 5, 7, 9, 11, 12])), 80))
        melody.append((at + 240, 240, 60 + int(rng.choice([0, 2, 4, 5, 7, 9, 11, 12])), 70))
        if beat % beats == 0:
            bass.append((at, 480 * beats, 36 + int(rng.choice([0, 5, 7])), 90))
        drums.append((at, 60, 36 if beat % 2 else 38, 100))
    tracks = (
        Track(note_array(melody), program=0, name="Piano"),
        Track(note_array(bass), program=33, name="Bass"),
        Track(note_array(drums), is_drum=True, name="Drums"),
    )
    return Score(ppq=480, tracks=tracks, meters=(Meter(0, beats, 4),))


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    folder = tmp_path_factory.mktemp("evaluation")
    (folder / "music").mkdir()
    for seed in range(48):
        write_midi(song(seed), folder / "music" / f"{seed:02d}.mid")
    build(folder / "music", folder / "shards", workers=1)
    return ShardSet.open(folder / "shards")


@pytest.fixture(scope="module")
def tokenizer(shards: ShardSet) -> Tokenizer:
    return load_tokenizer(shards.tokenizer_file())


def write_model(folder: Path, preset: str = "events", seed: int = 0) -> Path:
    tokenizer = load_tokenizer(preset)
    family = GENERATORS["transformer"]
    settings = {**RunConfig.of(family, "tiny", tokenizer).model.__dict__, **SHAPE}
    torch.manual_seed(seed)
    network = family.model_class()(from_dict(family.config, settings))
    save_model(folder, "transformer", network, tokenizer.to_dict(), "# untrained\n", {})
    return folder


@pytest.fixture(scope="module")
def model(
    shards: ShardSet, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory
) -> musegen.Model:
    folder = write_model(tmp_path_factory.mktemp("weights") / "untrained")
    build_index(shards, tokenizer).save(folder)
    return musegen.Model.from_pretrained(folder, device="cpu")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("weights") / "other", seed=1)


@pytest.fixture(scope="module")
def report(shards: ShardSet, model: musegen.Model, other: Path) -> Report:
    return musegen.evaluate(shards.folder, model, num=2, bars=4, against=[other])


# --- Likelihood ----------------------------------------------------------------------------------


def test_nats_are_those_of_the_training_loss(shards, tokenizer, model):
    documents = HeldOutDocuments.of(shards, ("valid",), tokenizer, tokenizer, 256)
    found = summarise("it", network_nats(model.network, documents, tokenizer))
    from musegen.data.batches import ValidBatches

    sums = np.zeros(2)
    for batch in ValidBatches(shards, tokenizer, 4, 256, max_batches=1000).batches():
        tensors = {key: torch.as_tensor(value) for key, value in batch.items()}
        with torch.inference_mode():
            loss = model.network.loss(tensors)
        sums += [float(value) for value in loss.metrics["nats_per_note"]]
    assert found.notes == sums[1]
    assert found.per_note.value == pytest.approx(sums[0] / sums[1], rel=1e-4)


def test_fields_add_up_and_groups_are_parts(shards, tokenizer, model):
    documents = HeldOutDocuments.of(shards, ("valid", "test"), tokenizer, tokenizer, 256)
    rows = network_nats(model.network, documents, tokenizer)
    found = summarise("it", rows)
    assert sum(f.value for f in found.by_field.values()) == pytest.approx(found.per_note.value)
    assert set(found.by_split) == {piece.split for piece in documents.pieces}
    assert set(found.by_instrument) == {"Piano", "Bass", "Drums"}
    assert found.per_note.low <= found.per_note.value <= found.per_note.high
    assert found.per_note.pieces == len(documents.pieces)
    # Notes of the classes are all notes; their nats are what notes alone cost.
    notes = {name: int(((rows.program // 8 == n) & rows.is_note).sum()) for name, n in
             (("Piano", 0), ("Bass", 4), ("Drums", 16))}  # fmt: skip
    assert sum(notes.values()) == found.notes
    total = sum(found.by_instrument[name].value * count for name, count in notes.items())
    assert total == pytest.approx(rows.nats[rows.is_note].sum())


def test_the_baseline_scores_the_same_rows(shards, tokenizer, model):
    documents = HeldOutDocuments.of(shards, ("valid",), tokenizer, tokenizer, 256)
    mine = network_nats(model.network, documents, tokenizer)
    counted = baseline_nats(shards, documents, tokenizer, 256)
    assert counted is not None and counted.nats.shape == mine.nats.shape
    assert ((counted.nats > 0) == (mine.nats > 0)).all()
    gap = difference(mine, counted)
    assert gap is not None and gap.value > 0, "an untrained model is worse than counting"
    assert summarise("", mine).per_note.value - summarise("", counted).per_note.value == (
        pytest.approx(gap.value)
    )


def test_another_preset_reads_the_same_pieces(shards, tokenizer, tmp_path):
    flat = musegen.Model.from_pretrained(write_model(tmp_path / "flat", "remi"), device="cpu")
    documents = HeldOutDocuments.of(shards, ("valid",), tokenizer, flat.tokenizer, 256)
    found = summarise("flat", network_nats(flat.network, documents, flat.tokenizer))
    assert [piece.split for piece in documents.pieces] == ["valid"] * len(documents.pieces)
    assert found.notes > 0 and not found.by_instrument


# --- Excerpts and requests -----------------------------------------------------------------------


def test_excerpts_do_not_overlap_and_pieces_come_in_turn(shards, tokenizer):
    found = excerpts(shards, ("valid", "test"), tokenizer, 1000, 4)
    assert len({(e.name, e.first_bar) for e in found}) == len(found)
    pieces = len({e.name for e in found})
    assert len({e.name for e in found[:pieces]}) == pieces, "one of each before a second"
    spans = sorted((e.name, e.first_bar) for e in found)
    assert all(b[1] - a[1] >= 4 for a, b in itertools.pairwise(spans) if a[0] == b[0])
    assert all(len(e.score.bars()) == 4 and opens(Piece(e.score)) for e in found)
    again = excerpts(shards, ("valid", "test"), tokenizer, 1000, 4)
    assert [(e.name, e.first_bar) for e in again] == [(e.name, e.first_bar) for e in found]
    other = excerpts(shards, ("valid", "test"), tokenizer, 1000, 4, seed=1)
    assert [e.name for e in other] != [e.name for e in found]
    assert excerpts(shards, ("valid",), tokenizer, 5, 1000) == []


@pytest.mark.parametrize("task", ["continue", "fill", "accompany", "compose"])
def test_reference_and_result_are_of_the_same_place(task, shards, tokenizer, model):
    bars = 8
    length = bars + LEAD_BARS if task == "continue" else bars
    excerpt = excerpts(shards, ("valid", "test"), tokenizer, 1, length)[0]
    request = request_of(task, excerpt, bars)
    assert request is not None
    piece = model.compose(request.seed, random_seed=1, **request.options)
    music = request.written(piece)
    assert len(music.bars()) == len(request.reference.bars()) == request.bars
    assert music.num_notes == piece.info["notes"]
    # What is given and the reference together are the excerpt.
    outside = request.seed.num_notes if request.seed is not None else 0
    if task == "fill":
        assert request.reference.tracks[0].program in {t.program for t in excerpt.score.tracks}
        assert outside == excerpt.score.num_notes
    else:
        assert outside + request.reference.num_notes == excerpt.score.num_notes


def test_a_human_who_answers_is_within_every_interval(shards, tokenizer):
    """The reference as the result: no gap anywhere, and all of the curves agree."""
    chosen = excerpts(shards, ("valid", "test"), tokenizer, 4, 8)
    requests = [request_of("compose", excerpt, 8) for excerpt in chosen]

    def human(seed, random_seed, **options):
        score = requests[random_seed].reference
        spans = [(i, 0, score.bars()[-1].end_tick) for i in range(len(score.tracks))]
        info = {"interrupted": False, "bars": 8, "notes": score.num_notes, "stretches": spans}
        return Piece(score, info={**info, "controls": []})

    outcomes, stopped = generate(requests, human)
    assert not stopped
    result = result_of("compose", 8, outcomes, Figures.of("compose", outcomes))
    assert set(result.validity.values()) == {1.0} and not result.failures
    for each in result.music:
        assert each.within and each.gap is not None
        assert (each.gap.value, each.gap.low, each.gap.high) == (0, 0, 0)
    assert [curve.error for curve in result.curves] == [0, 0]
    figures = Figures.of("compose", outcomes)
    columns = {name: column.copy() for name, column in figures.columns.items()}
    columns["density"][1] += [1, 2, 1, 2]
    found = closer(figures, replace(figures, columns=columns))
    assert found["density"].value == pytest.approx(-1.5)
    assert found["density"].low == pytest.approx(-2) and found["density"].high < -0.9
    assert found["polyphony"].value == found["polyphony"].high == 0


def test_what_fails_counts(shards, tokenizer, model):
    chosen = excerpts(shards, ("valid", "test"), tokenizer, 4, 4)
    requests = [request_of("compose", excerpt, 4) for excerpt in chosen]

    def sometimes(seed, random_seed, **options):
        if random_seed % 2:
            raise UsageError("no")
        return model.compose(seed, random_seed=random_seed, **options)

    outcomes, _ = generate(requests, sometimes)
    result = result_of("compose", 4, outcomes, Figures.of("compose", outcomes))
    assert (result.asked, result.done) == (4, 2)
    assert set(result.validity.values()) == {0.5}
    assert len(result.failures) == 2 and "no" in result.failures[0]


def test_what_was_changed_is_seen(shards, tokenizer, model):
    excerpt = excerpts(shards, ("valid", "test"), tokenizer, 1, 8)[0]
    request = request_of("fill", excerpt, 8)
    piece = model.compose(request.seed, random_seed=1, **request.options)
    spans = piece.info["stretches"]
    assert opens(piece) and unchanged(piece.score, request.seed, spans)
    track = piece.score.tracks[0]
    notes = track.notes.copy()
    notes["start_tick"][0] += 1
    moved = piece.score.replace(tracks=(replace(track, notes=notes), *piece.score.tracks[1:]))
    assert not unchanged(moved, request.seed, spans) and not same_notes(moved, piece.score)


# --- Controls ------------------------------------------------------------------------------------


def test_controls_are_measured_on_the_notes():
    notes = note_array([(0, 480, 60, 80), (0, 480, 64, 90), (480, 240, 62, 100)])
    assert measured_controls(Track(notes), 2, 480) == {
        "density": 1.5,
        "polyphony": 1.5,
        "loudness": 90.0,
        "length": pytest.approx(400 / 480),
        "register": 62.0,
    }
    assert measured_controls(Track(), 2, 480) == {"density": 0.0}
    assert set(measured_controls(Track(notes, is_drum=True), 1, 480)) == {
        "density",
        "polyphony",
        "loudness",
    }


def test_ranges_are_of_roles():
    found = role_ranges([song(seed) for seed in range(4)])
    low, high = found["piano", "register"]
    assert 60 < low < high < 72
    assert ("piano", "density") in found and ("bass", "density") not in found  # always one a bar


# --- The whole -----------------------------------------------------------------------------------


def test_the_report_holds_every_task(report, shards):
    assert [result.task for result in report.model.tasks] == [
        task for task in TASKS if task not in ("likelihood", "controls")
    ]
    assert report.likelihood is not None
    assert [each.name for each in report.likelihood.baselines] == [BASELINE, "other"]
    assert set(report.likelihood.differences) == {BASELINE, "other"}
    assert [model.name for model in report.models] == ["untrained", "other"]
    for model in report.models:
        for result in model.tasks:
            assert result.asked == result.done == 2
            assert set(result.validity.values()) == {1.0}, result.failures
        rules = [line for line in model.controls if line.holds is not None]
        assert {line.control for line in rules} >= {"density", "scale", "chords", "lock", "grid"}
        assert all(line.holds == 1.0 for line in rules)
    assert set(report.model.tasks[0].closer) == {"other"} and not report.against[0].tasks[0].closer
    assert report.model.tasks[0].originality is not None
    assert report.against[0].tasks[0].originality is None, "it has no index"
    assert any("no index" in note for note in report.notes)
    assert not report.interrupted
    names = {each.name for each in report.model.tasks[0].music}
    assert {"key_correlation", "drum_pattern_correlation", "bar_similarity"} <= names


def test_the_same_evaluation_gives_the_same_json(report, shards, model, other):
    again = musegen.evaluate(shards.folder, model, num=2, bars=4, against=[other])
    assert again.to_json() == report.to_json()
    assert "seconds" not in report.to_json() and "notes_per_s" not in report.to_json()
    assert "notes_per_s" in report.to_json(timing=True)
    other_seed = musegen.evaluate(
        shards.folder, model, tasks=["compose"], num=2, bars=4, random_seed=1
    )
    assert other_seed.model.tasks[0].music != report.model.tasks[-1].music


def test_json_is_plain(report):
    data = json.loads(report.to_json())
    assert data["model"]["name"] == "untrained" and data["num"] == 2
    music = data["model"]["tasks"][0]["music"]
    assert {"held_out", "generated", "shuffled", "gap", "within"} <= set(music[0])

    def numbers(value):
        if isinstance(value, dict):
            for item in value.values():
                yield from numbers(item)
        elif isinstance(value, list):
            for item in value:
                yield from numbers(item)
        elif isinstance(value, float):
            yield value

    found = list(numbers(data))
    assert len(found) > 500 and all(math.isfinite(value) for value in found)


def test_markdown_names_everything(report):
    text = to_markdown(report)
    for word in ("Evaluation of untrained", "5-gram", "## Continue, other", "bars shuffled",
                 "below 0: closer", "## Asked against measured", "Longest run"):  # fmt: skip
        assert word in text
    assert "a second." not in text
    assert "a second." in to_markdown(report, timing=True)
    for line in text.splitlines():
        assert not line.startswith("|") or line.endswith("|")


def test_ctrl_c_keeps_what_is_finished(shards, model):
    def interrupt(done: float, total: float | None, text: str) -> None:
        if "compose" in text and ": 2 of 3" in text:
            raise KeyboardInterrupt

    found = musegen.evaluate(
        shards.folder, model, tasks=["fill", "compose"], num=3, bars=4, on_progress=interrupt
    )
    assert found.interrupted
    assert [(result.task, result.asked) for result in found.model.tasks] == [
        ("fill", 3),
        ("compose", 2),
    ]
    assert "Interrupted" in to_markdown(found)


def test_fewer_excerpts_than_asked_are_told(shards, model):
    found = musegen.evaluate(shards.folder, model, tasks=["compose"], num=500, bars=20)
    assert 0 < found.model.tasks[0].asked < 500
    assert any("500 were asked for" in note for note in found.notes)


def test_data_of_other_training_is_told(report, shards, model, tmp_path):
    assert not any("other data" in note for note in report.notes)
    (tmp_path / "music").mkdir()
    for seed in range(100, 130):
        write_midi(song(seed), tmp_path / "music" / f"{seed}.mid")
    found = musegen.evaluate(tmp_path / "music", model, tasks=["compose"], num=1, bars=2, workers=1)
    assert any("untrained was trained on other data" in note for note in found.notes)


def test_names_are_told_apart(model):
    assert [subject.name for subject in named([model, model])] == ["untrained", "untrained #2"]


def test_tasks_by_name():
    assert check_tasks(["compose", "fill", "fill"]) == ("fill", "compose")
    with pytest.raises(UsageError, match="did you mean 'accompany'"):
        check_tasks(["acompany"])
    with pytest.raises(UsageError, match="no task given"):
        check_tasks([])


def test_what_makes_no_sense_is_refused(shards, model, tmp_path):
    with pytest.raises(UsageError, match="num 0"):
        musegen.evaluate(shards.folder, model, num=0)
    with pytest.raises(UsageError, match="no split 'tests'; did you mean 'test'"):
        musegen.evaluate(shards.folder, model, splits=["tests"])
    flat = write_model(tmp_path / "flat", "remi")
    with pytest.raises(UsageError, match="built as events, flat speaks another preset"):
        musegen.evaluate(shards.folder, flat)
    (tmp_path / "few").mkdir()
    write_midi(song(0), tmp_path / "few" / "one.mid")
    with pytest.raises(DataError, match="no held-out piece"):
        musegen.evaluate(tmp_path / "few", model)


def test_the_command(shards, model, tmp_path, capsys):
    folder, out = str(model.checkpoint.folder), tmp_path / "report.json"
    common = ["evaluate", "--data", str(shards.folder), "--model", folder, "--num", "2"]
    common += ["--bars", "4", "--tasks", "compose"]
    assert run([*common, "--out", str(out), "--plots", str(tmp_path / "plots")]) == 0
    printed = capsys.readouterr()
    assert "random seed 0" in printed.err
    names = [Path(line).name for line in printed.out.splitlines()]
    assert names[0] == "report.json" and "compose-bar_similarity.png" in names
    assert all((tmp_path / "plots" / name).stat().st_size > 1000 for name in names[1:])
    assert json.loads(out.read_text("utf-8"))["model"]["tasks"][0]["asked"] == 2
    assert run([*common, "--quiet"]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("# Evaluation of untrained") and not printed.err


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        ("--tasks composse", 2, "did you mean 'compose'"),
        ("--json --markdown", 2, "not both"),
        ("--out {tmp}", 1, "is a folder"),
        ("--out {tmp}/nowhere/report.md", 1, "no such folder"),
        ("--against nobody", 1, "nobody"),
        ("--num 0", 2, "num"),
    ],
)
def test_wrong_commands_are_one_line(options, code, says, shards, model, tmp_path, capsys):
    command = ["evaluate", "--data", str(shards.folder), "--model", str(model.checkpoint.folder)]
    assert run([*command, *options.format(tmp=tmp_path).split()]) == code
    error = capsys.readouterr().err.splitlines()
    assert says in error[-1] and "Traceback" not in "".join(error)
