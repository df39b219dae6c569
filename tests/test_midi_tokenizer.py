"""Flat ids: equal to MidiTok's, there and back, in windows, moved, and merged."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musegen.errors import TokenError
from musegen.music.score import Meter, Score, Tempo, Track, note_array
from musegen.tokens.midi_tokenizer import MidiTokenizer
from musegen.tokens.remi import RemiVocabulary
from musegen.tokens.remi_encoder import MAX_BARS, Parts, write_ids
from musegen.tokens.tokenizer import PieceInfo, load_tokenizer, tokenizer_from_dict


@pytest.fixture(scope="module")
def remi() -> MidiTokenizer:
    tokenizer = load_tokenizer("remi")
    assert isinstance(tokenizer, MidiTokenizer)
    return tokenizer


def random_score(seed: int, notes: int = 60, ppq: int = 480, meters=((4, 4),)) -> Score:
    """Three tracks, one of drums, two of one program; tempi anywhere, a meter every two bars."""
    rng = np.random.default_rng(seed)
    changes, tick = [], 0
    for numerator, denominator in meters:
        changes.append(Meter(tick, numerator, denominator))
        tick += 2 * 4 * ppq * numerator // denominator
    end = max(tick, 4 * ppq)

    def part() -> np.ndarray:
        return note_array(
            zip(
                rng.integers(0, end, notes).tolist(),
                rng.integers(1, 5 * ppq, notes).tolist(),
                rng.integers(0, 128, notes).tolist(),
                rng.integers(1, 128, notes).tolist(),
                strict=True,
            )
        )

    tempos = [Tempo(int(t), int(rng.integers(150_000, 2_000_000))) for t in rng.integers(0, end, 4)]
    return Score(
        ppq=ppq,
        tracks=(
            Track(part(), program=40),
            Track(part(), is_drum=True),
            Track(part(), program=40),
            Track(part(), program=0),
        ),
        tempos=tuple(tempos),
        meters=tuple(changes),
    )


def reference_ids(remi: MidiTokenizer, score: Score) -> list[int]:
    from musegen.music.export import to_symusic

    return remi.reference(to_symusic(score)).ids


def words(remi: MidiTokenizer, rows: np.ndarray) -> list[str]:
    return [remi.vocabulary.tokens[id_] for id_ in np.asarray(rows).reshape(-1).tolist()]


# --- MidiTok's ids --------------------------------------------------------------------------------


def test_the_vocabulary_is_miditoks(remi):
    assert remi.reference.pad_token_id == 0
    assert remi.vocabulary.bos == remi.reference["BOS_None"]
    assert remi.reference.time_division == remi.vocabulary.ppq == 48
    assert remi.field_sizes == (len(remi.reference.vocab),)


def test_a_bar_by_hand(remi):
    score = Score(
        ppq=96,
        tracks=(
            Track(note_array([(0, 96, 60, 127), (0, 48, 64, 64)]), program=0),
            Track(note_array([(48, 10, 36, 100)]), is_drum=True),
        ),
        tempos=(Tempo(0, 500_000),),
        meters=(Meter(0, 3, 4),),
    )
    assert words(remi, remi.encode(score).rows) == [
        "Bar_None", "TimeSig_3/4", "Position_0", "Tempo_120.0",
        "Program_0", "Pitch_60", "Velocity_127", "Duration_1.0.12",
        "Program_0", "Pitch_64", "Velocity_63", "Duration_0.6.12",
        "Position_6", "Program_-1", "PitchDrum_36", "Velocity_99", "Duration_0.1.12",
    ]  # fmt: skip


SOME_METERS = [(4, 4), (3, 4), (6, 8), (7, 8), (5, 16), (2, 2), (12, 8), (1, 4), (3, 2)]


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    notes=st.integers(1, 80),
    ppq=st.sampled_from([480, 96, 24, 12, 48, 220, 1024, 384]),
    meters=st.lists(st.sampled_from(SOME_METERS), min_size=1, max_size=4),
)
def test_ids_equal_miditoks_on_random_scores(remi, seed, notes, ppq, meters):
    score = random_score(seed, notes, ppq, meters)
    assert remi.encode(score).rows[:, 0].tolist() == reference_ids(remi, score)


def test_columns_from_symusic_give_the_same_ids(remi):
    from musegen.music.export import to_symusic

    score = random_score(7, meters=((6, 8), (4, 4)))
    theirs = write_ids(Parts.from_symusic(to_symusic(score)), remi.vocabulary)
    assert np.array_equal(theirs.ids, remi.encode(score).rows[:, 0])


def test_meters_that_miditok_drops_are_left_out_by_the_encoder_too(remi):
    score = random_score(3).replace(meters=(Meter(0, 4, 4), Meter(1921, 3, 4), Meter(5000, 31, 32)))
    laid = write_ids(Parts.from_score(score), remi.vocabulary)
    assert laid.ids.tolist() == reference_ids(remi, score)


@pytest.mark.data
def test_ids_and_notes_equal_miditoks_on_real_files(remi, shared_data):
    """A dozen files of every corpus, as symusic reads them, both ways."""
    import symusic

    compared = 0
    for archive in sorted((shared_data / "clean").glob("*.tar.xz")):
        taken = 0
        with tarfile.open(archive, "r|xz") as members:
            for member in members:
                if taken >= 12:
                    break
                if not member.name.lower().endswith((".mid", ".midi")) or member.size > 40_000:
                    continue  # MidiTok takes a second for a symphony
                content = members.extractfile(member)
                assert content is not None
                try:
                    score = symusic.Score.from_midi(content.read())
                except (RuntimeError, ValueError):
                    continue  # reading is midi.py's business
                theirs = remi.reference(score).ids
                ours = write_ids(Parts.from_symusic(score), remi.vocabulary).ids
                assert ours.tolist() == theirs, f"{archive.name}: {member.name}"
                if taken < 3:
                    assert sounds(remi.decode(ours)) == symusic_sounds(
                        remi.reference.decode(theirs)
                    )
                taken += 1
        compared += taken
    assert compared >= 100


def sounds(score: Score) -> list[tuple[int, ...]]:
    return sorted(
        (-1 if track.is_drum else track.program, *note) for track in score.tracks for note in track
    )


def symusic_sounds(score) -> list[tuple[int, ...]]:
    return sorted(
        (-1 if t.is_drum else t.program, n.time, n.duration, n.pitch, n.velocity)
        for t in score.tracks
        for n in t.notes
    )


# --- There and back -------------------------------------------------------------------------------


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1),
    meters=st.lists(st.sampled_from(SOME_METERS), min_size=1, max_size=4),
)
def test_decoding_equals_miditoks(remi, seed, meters):
    ids = remi.encode(random_score(seed, 30, 480, meters)).rows[:, 0]
    ours, theirs = remi.decode(ids), remi.reference.decode(ids.tolist())
    assert sounds(ours) == symusic_sounds(theirs)
    assert [tuple(m) for m in ours.meters] == [
        (m.time, m.numerator, m.denominator) for m in theirs.time_signatures
    ]
    assert [t.tick for t in ours.tempos] == [t.time for t in theirs.tempos]


@settings(max_examples=60)
@given(ids=st.lists(st.integers(0, 863), min_size=1, max_size=120))
def test_any_ids_decode_and_as_miditok_does(remi, ids):
    score = remi.decode(np.array(ids, dtype=np.uint16))
    for track in score.tracks:
        assert np.all(track.notes["duration_tick"] > 0)
    assert sounds(score) == symusic_sounds(remi.reference.decode(list(ids)))


def test_a_score_on_the_grid_comes_back_whole(remi):
    score = Score(
        ppq=48,
        tracks=(
            Track(note_array([(0, 48, 60, 63), (96, 16, 67, 127)]), program=0),
            Track(note_array([(12, 4, 36, 99)]), is_drum=True),
        ),
        tempos=(Tempo(0, 500_000), Tempo(96, 1_000_000)),
        meters=(Meter(0, 2, 4), Meter(96, 6, 8)),
        length_tick=240,
    )
    encoding = remi.encode(score)
    assert remi.decode(encoding.rows) == score
    assert encoding.loss.lines() == ()


def test_the_account_of_losses(remi):
    score = Score(
        ppq=480,
        tracks=(
            Track(note_array([(0, 480, 60, 63), (3, 480, 60, 63), (500, 480, 64, 63)]), program=0),
            Track(note_array([(0, 480, 60, 63)]), program=0),
        ),
        tempos=(Tempo(0, 500_000), Tempo(7, 300_000)),
    )
    loss = remi.encode(score).loss
    assert (loss.notes_in, loss.notes_out, loss.notes_merged, loss.notes_dropped) == (4, 2, 2, 0)
    assert loss.onset_error_max_q == pytest.approx(20 / 480)
    assert loss.onset_error_mean_q == pytest.approx((20 + 3) / 480 / 4)
    assert loss.tempo_changes_moved == 1
    assert any("same program" in line for line in loss.lines())


def test_cut_bars_and_strange_meters_keep_their_barlines(remi):
    """A pickup written as a cut bar, and a meter without id: each bar's notes stay in their bar."""
    score = Score(
        ppq=480,
        tracks=(Track(note_array([(0, 240, 60, 63), (480, 240, 62, 63), (2400, 9, 64, 63)])),),
        meters=(Meter(0, 4, 4), Meter(480, 4, 4), Meter(2400, 16, 32)),
    )
    encoding = remi.encode(score)
    decoded = remi.decode(encoding.rows)
    assert [tuple(m) for m in decoded.meters] == [(0, 1, 4), (48, 4, 4), (240, 2, 4)]
    assert decoded.tracks[0].notes["start_tick"].tolist() == [0, 48, 240]
    odd = score.replace(meters=(Meter(0, 21, 16),))
    assert "21/16" in remi.encode(odd).loss.lines()[-1]


def test_scores_that_cannot_be_encoded(remi):
    with pytest.raises(TokenError, match="no notes"):
        remi.encode(Score())
    far = Score(ppq=1, tracks=(Track(note_array([(5 * MAX_BARS, 1, 60, 60)])),))
    with pytest.raises(TokenError, match="bars"):
        remi.encode(far)


def test_ids_that_are_not_of_the_preset(remi):
    with pytest.raises(TokenError, match="864"):
        remi.decode(np.array([864]))
    with pytest.raises(TokenError, match="shape"):
        remi.decode(np.zeros((3, 4), dtype=np.int64))
    assert remi.decode(np.zeros(0, dtype=np.uint16)).num_notes == 0


# --- Training windows -----------------------------------------------------------------------------


def test_windows_begin_at_a_barline_with_the_tempo_in_force(remi):
    score = random_score(5, 200, 480, SOME_METERS * 3)
    rows = remi.encode(score).rows
    v, rng = remi.vocabulary, np.random.default_rng(0)
    for _ in range(30):
        sample = remi.sample(rows, 128, rng, PieceInfo())
        ids = sample.rows[:, 0]
        assert len(ids) <= 128
        assert sample.channels.shape == (len(ids), 0)
        assert sample.coordinates[:, 0].tolist() == list(range(len(ids)))
        start = 1 if ids[0] == v.bos else 0
        kinds = [str(kind) for kind in v.kinds[ids[start : start + 4]]]
        assert kinds == ["Bar", "TimeSig", "Position", "Tempo"]
    again = remi.sample(rows, 128, np.random.default_rng(9), PieceInfo())
    same = remi.sample(rows, 128, np.random.default_rng(9), PieceInfo())
    assert np.array_equal(again.rows, same.rows)


def test_validation_windows_hold_every_row_once(remi):
    rows = remi.encode(random_score(6, 200, 480, SOME_METERS)).rows
    windows = remi.windows(rows, 100, PieceInfo())
    weighed = np.concatenate([window.rows[window.weights > 0, 0] for window in windows])
    v = remi.vocabulary
    assert weighed.tolist() == [v.bos, *rows[:, 0].tolist(), v.eos]
    assert all(len(window.rows) <= 100 for window in windows)
    notes = sum(int(remi.note_rows(window.rows).sum()) for window in windows)
    assert notes == remi.num_notes(rows) == remi.decode(rows).num_notes


def test_transposing_moves_pitches_and_spares_drums(remi):
    score = Score(
        tracks=(
            Track(note_array([(0, 480, 60, 63)]), program=40),
            Track(note_array([(0, 480, 36, 63)]), is_drum=True),
        )
    )
    rows = remi.encode(score).rows
    moved = remi.decode(remi.transpose(rows, 3))
    assert {t.is_drum: t.notes["pitch"].tolist() for t in moved.tracks} == {False: [63], True: [36]}
    assert remi.transpose(rows, -6) is None  # below a violin's G string
    assert np.array_equal(remi.transpose(rows, 0), rows)


def test_stretching_the_tempo(remi):
    score = Score(tracks=(Track(note_array([(0, 480, 60, 63)])),), tempos=(Tempo(0, 500_000),))
    faster = remi.decode(remi.stretch_tempo(remi.encode(score).rows, 1.1))
    assert faster.tempos[0].tempo_us == pytest.approx(60e6 / 132)


# --- Merges, JSON ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def merged(remi) -> MidiTokenizer:
    pieces = [remi.encode(random_score(seed, 40)).rows for seed in range(4)]
    return remi.train_bpe(pieces, 1000)


def test_merged_ids_equal_miditoks_and_mean_the_same(remi, merged):
    score = random_score(1, 40)
    plain, short = remi.encode(score).rows, merged.encode(score).rows
    assert merged.name == "remi-bpe" and merged.has_merges
    assert len(short) < len(plain)
    assert short[:, 0].tolist() == reference_ids(merged, score)
    assert merged.decode(short) == remi.decode(plain)
    assert merged.num_notes(short) == remi.num_notes(plain)
    assert 0 < np.count_nonzero(merged.note_rows(short)) <= len(short)
    faster = merged.decode(merged.stretch_tempo(short, 1.5))
    assert faster == remi.decode(remi.stretch_tempo(plain, 1.5)) != remi.decode(plain)


def test_merged_windows(remi, merged):
    rows = merged.encode(random_score(2, 90, 480, SOME_METERS)).rows
    sample = merged.sample(rows, 60, np.random.default_rng(1), PieceInfo())
    assert len(sample.rows) <= 60
    windows = merged.windows(rows, 60, PieceInfo())
    notes = sum(merged.num_notes(window.rows) for window in windows)
    assert notes == merged.num_notes(rows)


def test_merges_survive_json(merged, tmp_path):
    merged.save(tmp_path / "tokenizer.json")
    again = load_tokenizer(tmp_path)
    score = random_score(8, 20)
    assert np.array_equal(again.encode(score).rows, merged.encode(score).rows)
    assert again.to_dict() == merged.to_dict()


def test_learning_merges_refuses_nonsense(remi, merged):
    with pytest.raises(TokenError, match="vocab_size"):
        remi.train_bpe([], 100)
    with pytest.raises(TokenError, match="no pieces"):
        remi.train_bpe([], 1000)
    with pytest.raises(TokenError, match="merges already"):
        merged.train_bpe([], 2000)


def test_the_preset_survives_json_and_is_made_from_its_configuration(remi):
    assert tokenizer_from_dict(remi.to_dict()).to_dict() == remi.to_dict()
    assert MidiTokenizer.from_config("remi", remi.config).to_dict() == remi.to_dict()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"format": 2}, "format"),
        ({"config": []}, "object"),
        ({"vocabulary": [1, 2]}, "strings"),
        ({"vocabulary": ["PAD_None", "Bar_None"]}, "not a REMI vocabulary"),
        ({"config": {"use_tempos": False}}, "use_"),
        ({"trained": {}, "expansions": [[9999]]}, "merges"),
    ],
)
def test_damaged_presets_are_refused(remi, change, match):
    with pytest.raises(TokenError, match=match):
        tokenizer_from_dict({**remi.to_dict(), **change})


def test_another_miditok_is_noticed(remi):
    tokens = list(remi.vocabulary.tokens)
    tokens[4], tokens[5] = tokens[5], tokens[4]
    with pytest.raises(TokenError, match="other ids"):
        MidiTokenizer("remi", remi.config, tokens).reference  # noqa: B018


def test_vocabularies_that_cannot_be_written():
    with pytest.raises(TokenError, match="each once"):
        RemiVocabulary(["PAD_None", "PAD_None"])


def test_encoding_loads_neither_miditok_nor_torch():
    code = (
        "import sys; from musegen.tokens.tokenizer import load_tokenizer;"
        "from musegen.music.score import Score, Track, note_array;"
        "t = load_tokenizer('remi');"
        "r = t.encode(Score(tracks=(Track(note_array([(0, 480, 60, 60)])),))).rows;"
        "t.decode(r);"
        "print(*[m for m in ('miditok', 'symusic', 'torch') if m in sys.modules])"
    )
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""
