"""Lead sheets from scores, bands from lead sheets, and shards with both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import musegen
from musegen.data.arrange import arrange, with_arrangements
from musegen.data.arranger import COMFORT, Drumming, arranged
from musegen.data.band_styles import STYLES
from musegen.data.lead_sheets import BAR, KINDS, UNIT, LeadSheet, lead_sheet
from musegen.data.shards import CorpusFacts, ShardSet, ShardWriter
from musegen.errors import DataError, UsageError
from musegen.music.midi import read_midi
from musegen.music.ranges import instrument_range
from musegen.music.score import Meter, Score, Track, note_array
from musegen.tokens.tokenizer import load_tokenizer

PROGRESSION = ((0, "major"), (9, "minor"), (5, "major"), (7, "dominant"))
TUNE = (72, 76, 77, 74)


def hymn(bars: int = 12, pickup: bool = False) -> Score:
    """A tune in quarters over block chords, a chord a bar; with a quarter before the first bar."""
    begin = 480 if pickup else 0
    tune, chords = [(0, 480, 67, 80)] if pickup else [], []
    for bar in range(bars):
        root, kind = PROGRESSION[bar % 4]
        at = begin + 1920 * bar
        tune += [(at + 480 * beat, 480, TUNE[bar % 4] + 2 * (beat % 2), 80) for beat in range(4)]
        chords += [(at, 1920, 48 + root % 12, 70)]
        chords += [(at, 1920, 60 + (root + step) % 12, 70) for step in KINDS[kind]]
    meters = (Meter(0, 1, 4), Meter(480, 4, 4)) if pickup else (Meter(0, 4, 4),)
    return Score(
        tracks=(Track(note_array(tune), program=0), Track(note_array(chords), program=0)),
        meters=meters,
    )


def drumming(bars: int = 8) -> Drumming:
    """Kick and snare; the last bar is a fill."""
    plain = np.array([(0, 3, 36, 100), (12, 3, 38, 90), (24, 3, 36, 100), (36, 3, 38, 90)])
    fill = np.array([(place, 3, 45, 80) for place in range(0, 48, 3)])
    return Drumming("drummer", 100.0, (*(plain,) * (bars - 1), fill))


def sheet(bars: int = 8) -> LeadSheet:
    found = lead_sheet(hymn(bars))
    assert found is not None
    return found


def test_a_lead_sheet_has_the_tune_and_the_chords() -> None:
    found = lead_sheet(hymn(13))
    assert found is not None and found.bars == 12
    assert found.chords == tuple(PROGRESSION[half // 2 % 4] for half in range(24))
    assert found.tune[:5, 0].tolist() == [0, UNIT, 2 * UNIT, 3 * UNIT, BAR]
    assert found.tune[:4, 2].tolist() == [72, 74, 72, 74]
    assert set(found.tune[:, 1].tolist()) == {UNIT}


def test_a_pickup_is_before_the_first_bar() -> None:
    found = lead_sheet(hymn(8, pickup=True))
    assert found is not None and found.bars == 8
    assert found.tune[0].tolist() == [0, UNIT, 72]
    assert found.chords[0] == PROGRESSION[0]


@pytest.mark.parametrize(
    "score",
    [
        hymn(6),  # too short
        hymn(12).replace(meters=(Meter(0, 3, 4),)),
        Score(tracks=(hymn(12).tracks[1],), meters=(Meter(0, 4, 4),)),  # chords alone
        Score(tracks=(hymn(12).tracks[0],), meters=(Meter(0, 4, 4),)),  # no chord has a third
        Score(),
    ],
)
def test_no_lead_sheet_where_there_is_none(score: Score) -> None:
    assert lead_sheet(score) is None


@pytest.mark.parametrize("name", list(STYLES))
def test_a_band_plays_in_range_and_on_the_bars(name: str) -> None:
    style = STYLES[name]
    for seed in range(6):
        score = arranged(sheet(), style, drumming(), np.random.default_rng(seed))
        bars = score.bars()
        assert len(bars) == 4 + 2 * 8 + 1
        assert {(bar.numerator, bar.denominator) for bar in bars} == {(4, 4)}
        low, high = style.tempo_bpm
        assert low - 0.1 <= 6e7 / score.tempos[0].tempo_us <= high + 0.1
        for track in score.tracks:
            pitch = track.notes["pitch"]
            if track.is_drum:
                assert set(pitch.tolist()) <= {36, 38, 45, 49}
                continue
            bottom, top = instrument_range(track.program)
            assert bottom <= pitch.min() and pitch.max() <= top
            # No note of a pitch begins while another of it sounds.
            order = np.lexsort((track.notes["start_tick"], pitch))
            notes = track.notes[order]
            same = notes["pitch"][1:] == notes["pitch"][:-1]
            ends = notes["start_tick"][:-1] + notes["duration_tick"][:-1]
            assert np.all((ends <= notes["start_tick"][1:])[same])


@pytest.mark.parametrize("name", [name for name in STYLES if name != "salsa"])
def test_the_bass_has_the_roots_on_the_first_beats(name: str) -> None:
    style, chords = STYLES[name], sheet().chords
    score = arranged(sheet(), style, drumming(), np.random.default_rng(3))
    (bass,) = [track for track in score.tracks if track.program in style.bass_programs]
    first = bass.notes[bass.notes["start_tick"] % 1920 == 0]
    roots = [root for root, _ in chords[-8::2] + chords[::2] * 2 + chords[-1:]]
    assert len(first) == len(roots)
    moved = (first["pitch"].astype(int) - np.array(roots)) % 12
    assert len(set(moved.tolist())) == 1  # all are transposed alike
    low, high = COMFORT["bass"]
    assert low <= first["pitch"].min() and first["pitch"].max() <= high


def test_swing_is_late_and_straight_is_not() -> None:
    """Where the style swings, off-beat eighths are at two thirds of the beat, never at its half."""
    eighths = LeadSheet(
        "x",
        np.array([(place, 6, 72) for place in range(0, 8 * BAR, 6)]),
        tuple(PROGRESSION[place // 2 % 4] for place in range(16)),
    )

    def places(name: str) -> set[int]:
        score = arranged(eighths, STYLES[name], drumming(), np.random.default_rng(0))
        tune = next(track for track in score.tracks if track.program in STYLES[name].lead_programs)
        return set((tune.notes["start_tick"] % 480 // 40).tolist())

    assert places("swing") == {0, 8}
    assert places("pop") == {0, 6}


def test_patterns_stay_and_sections_end_with_a_fill() -> None:
    score = arranged(sheet(), STYLES["rock"], drumming(), np.random.default_rng(1))
    (drums,) = [track for track in score.tracks if track.is_drum]
    bar = drums.notes["start_tick"] // 1920
    busy = [index for index in range(20) if np.count_nonzero(bar == index) > 8]
    assert {3, 11, 19} <= set(busy)
    kick = [
        tuple((drums.notes["start_tick"][bar == index] % 1920).tolist())
        for index in range(20)
        if index not in busy
    ]
    assert len(set(kick)) == 1


def test_the_same_draws_give_the_same_score() -> None:
    make = [
        arranged(sheet(), STYLES["funk"], drumming(), np.random.default_rng(seed))
        for seed in (5, 5, 6)
    ]
    assert make[0] == make[1] and make[0] != make[2]


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Two hymns to train on and one held out, a drummer of rock and one of jazz."""
    tokenizer = load_tokenizer("events")
    folder = tmp_path / "shards"
    folder.mkdir()
    writer = ShardWriter(folder, 4)
    beat = [
        (1920 * bar + int(place) * 40, 120, int(pitch), int(strength))
        for bar in range(9)
        for place, _, pitch, strength in drumming().bars[0]
    ]
    drums = Score(tracks=(Track(note_array(beat), is_drum=True),), meters=(Meter(0, 4, 4),))
    pieces = [("openhymnal", "one", "train", hymn(12)), ("openhymnal", "two", "train", hymn(8))]
    pieces += [("openhymnal", "held", "valid", hymn(16))]
    for name in ("d1/1_rock_100_beat_4-4", "d1/2_rock-fill_100_fill_4-4", "d1/3_jazz_120_beat_4-4"):
        pieces.append(("groove", f"drummer1_session1_{name[3:]}", "train", drums))
    for corpus, name, split, score in pieces:
        rows = tokenizer.encode(score).rows
        writer.add(
            rows,
            name=name,
            corpus=corpus,
            style="",
            notes=tokenizer.num_notes(rows),
            group=name,
            split=split,
            key="",
        )
    writer.close(
        name="clean",
        tokenizer="events",
        field_names=tokenizer.field_names,
        field_sizes=tokenizer.field_sizes,
        corpora={"openhymnal": CorpusFacts(2.0), "groove": CorpusFacts(0.5)},
        may_ship=True,
    )
    tokenizer.save(folder / "tokenizer.json")
    return folder


def test_arrangements_are_beside_the_pieces(shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "more"
    made = arrange(
        shards, out, num=6, share=0.4, styles=["rock", "swing"], seed=1, midi=tmp_path / "midi"
    )
    assert (made.pieces, made.tunes, made.performances) == (6, 2, 2)
    assert made.by_style == {"rock": 3, "swing": 3}
    before, after = ShardSet.open(shards), ShardSet.open(out)
    after.verify()
    old = [piece for piece in after.pieces if piece.corpus != "arranged"]
    assert [piece.name for piece in old] == [piece.name for piece in before.pieces]
    for one, two in zip(before.pieces, old, strict=True):
        np.testing.assert_array_equal(before.rows(one), after.rows(two))
    new = [piece for piece in after.pieces if piece.corpus == "arranged"]
    assert {piece.split for piece in new} == {"train"}
    assert not any("held" in piece.name for piece in new)
    weigh = {
        name: sum(
            piece.length * facts.weight for piece in after.split("train") if piece.corpus == name
        )
        for name, facts in after.corpora.items()
    }
    assert weigh["arranged"] / sum(weigh.values()) == pytest.approx(0.4, abs=1e-6)
    score, _ = read_midi(tmp_path / "midi" / "swing_00001.mid")
    assert [track.is_drum for track in score.tracks].count(True) == 1


def test_the_same_seed_gives_the_same_shards(shards: Path, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("a", "b", "c")]
    for folder, seed in zip(folders, (1, 1, 2), strict=True):
        arrange(shards, folder, num=4, styles=["rock"], seed=seed)
    read = [b"".join(path.read_bytes() for path in sorted(folder.iterdir())) for folder in folders]
    assert read[0] == read[1] != read[2]


def test_a_training_makes_its_arrangements(shards: Path, tmp_path: Path) -> None:
    options = {
        "size": "tiny",
        "overrides": [
            "model.width=32",
            "model.layers=1",
            "model.heads=2",
            "model.context=128",
            "data.batch_size=2",
            "data.arrangements=7",
            "data.arranged_share=0.5",
            "training.validate_every=0",
        ],
        "device": "cpu",
    }
    # The drummers here play rock and jazz alone.
    with pytest.raises(DataError, match="no drumming in 4/4 for funk"):
        musegen.train(shards, tmp_path / "none", max_steps=2, **options)
    arrange(shards, tmp_path / "model" / "arranged", num=7, share=0.5, styles=["rock"])
    rich = ShardSet.open(tmp_path / "model" / "arranged")
    kept = with_arrangements(ShardSet.open(shards), tmp_path / "model" / "arranged", 7, 0.5, 0)
    assert kept.digest() == rich.digest() != ShardSet.open(shards).digest()
    assert with_arrangements(rich, tmp_path / "never", 7, 0.5, 0) is rich
    summary = musegen.train(rich.folder, tmp_path / "run", max_steps=2, **options)
    assert summary["step"] == 2


def test_what_cannot_be_arranged_is_said(shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(UsageError, match="style 'waltz': there are pop, rock"):
        arrange(shards, out, styles=["waltz"])
    with pytest.raises(UsageError, match="to a half"):
        arrange(shards, out, share=0.6)
    with pytest.raises(DataError, match="no drumming in 4/4 for funk"):
        arrange(shards, out, styles=["rock", "funk"])
    assert not out.exists()
    arrange(shards, out, num=2, styles=["rock"])
    with pytest.raises(UsageError, match="exists"):
        arrange(shards, out, num=2, styles=["rock"])
    with pytest.raises(UsageError, match="arrangements already"):
        arrange(out, tmp_path / "twice", num=2, styles=["rock"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "shards"]
