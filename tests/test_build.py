from __future__ import annotations

import errno
import itertools
import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from musegen.data import build as build_module
from musegen.data import parts
from musegen.data.build import build, open_or_build
from musegen.data.cards import SplitRule
from musegen.data.corpus import Item
from musegen.data.duplicates import (
    COMMON,
    connected,
    fingerprint,
    near_duplicates,
    resembling,
)
from musegen.data.shards import ShardSet
from musegen.data.splits import SPLITS, assign_splits, group_key, place_of
from musegen.errors import DataError, OutputError, TokenError
from musegen.music.midi import read_midi, write_midi
from musegen.music.ranges import INSTRUMENT_RANGES, instrument_range
from musegen.music.score import Score, Track, note_array
from musegen.tokens.tokenizer import load_tokenizer

SCALE = np.array([0, 2, 4, 5, 7, 9, 11, 12, 14, 16])


def tune(seed: int, notes: int = 64, *, ppq: int = 480, transpose: int = 0, **track) -> Score:
    """A random melody over a random bass, the same for one seed."""
    rng = np.random.default_rng(seed)
    gaps = rng.choice([1, 2, 2, 4], notes) * ppq // 4
    starts = np.concatenate(([0], np.cumsum(gaps)[:-1]))
    pitches = 60 + transpose + rng.choice(SCALE, notes)
    melody = [(int(s), int(g), int(p), 80) for s, g, p in zip(starts, gaps, pitches, strict=True)]
    roots = 40 + transpose + rng.choice(SCALE, notes // 4)
    bass = [(i * ppq * 2, ppq * 2, int(p), 70) for i, p in enumerate(roots)]
    return Score(
        ppq=ppq,
        tracks=(
            Track(notes=note_array(melody), **track),
            Track(notes=note_array(bass), program=32),
        ),
    )


def with_edits(score: Score, share: float) -> Score:
    """Another edition: some notes of each track moved by a semitone."""
    rng = np.random.default_rng(9)
    tracks = []
    for track in score.tracks:
        notes = track.notes.copy()
        notes["pitch"] += (rng.random(len(notes)) < share).astype(np.uint8)
        tracks.append(Track(notes=notes, program=track.program))
    return score.replace(tracks=tuple(tracks))


def folder_of(path: Path, scores: dict[str, Score]) -> Path:
    for name, score in scores.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        write_midi(score, path / name)
    return path


@pytest.fixture
def music(tmp_path: Path) -> Path:
    scores = {f"piece{seed:02d}.mid": tune(seed) for seed in range(20)}
    scores["sub/UPPER.MID"] = tune(30)
    scores["sub/copy.midi"] = tune(3)
    scores["sub/moved.mid"] = tune(4, transpose=5)
    scores["sub/finer.mid"] = tune(5, ppq=960)
    scores["sub/edition.mid"] = with_edits(tune(6, 200), 0.02)
    scores["piece06.mid"] = tune(6, 200)
    folder = folder_of(tmp_path / "music", scores)
    (folder / "broken.mid").write_bytes(b"MThd nothing that is music")
    (folder / "empty.mid").write_bytes(b"")
    write_midi(tune(40, 8), folder / "short.mid")
    (folder / "readme.txt").write_text("no music")
    (folder / ".hidden.mid").write_bytes(b"x")
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_folder_becomes_shards(music: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    out = tmp_path / "out" / "shards"
    report = build(music, out, on_progress=lambda done, total, _: seen.append((done, total)))
    shards = ShardSet.open(out)
    shards.verify()
    assert report.pieces == len(shards.pieces) == 22
    assert seen[-1] == (28, 28)
    reasons = {one["file"]: one["reason"] for one in report.skipped}
    assert set(reasons) == {"broken", "empty", "short"}
    assert all(reasons.values()) and "too short" in reasons["short"]
    assert str(tmp_path) not in (out / "build.json").read_text()
    copies = {one["file"]: one["of"] for one in report.duplicates}
    assert copies == {
        "sub/copy": "music/piece03",
        "sub/moved": "music/piece04",
        "sub/finer": "music/piece05",
    }
    names = {piece.name: piece for piece in shards.pieces}
    assert names["piece06"].split == names["sub/edition"].split
    assert names["piece06"].group == names["sub/edition"].group
    assert report.versions == 1
    assert {piece.split for piece in shards.pieces} == {"train", "valid"}
    assert json.loads((out / "build.json").read_text())["notes"] == report.notes
    assert [path.name for path in out.parent.iterdir()] == ["shards"]
    assert not report.may_ship  # nobody says what licence the folder has


def test_what_is_in_the_shards_is_what_the_tokenizer_writes(music: Path, tmp_path: Path) -> None:
    build(music, tmp_path / "shards")
    shards = ShardSet.open(tmp_path / "shards")
    tokenizer = load_tokenizer(shards.folder)
    assert tokenizer.to_dict() == load_tokenizer("events").to_dict()
    for piece in shards.pieces[:5]:
        score, _ = read_midi(music / f"{piece.name}.mid")
        np.testing.assert_array_equal(shards.rows(piece), tokenizer.encode(score).rows)
        assert piece.notes == score.num_notes
        assert piece.key


@pytest.mark.slow
def test_the_number_of_workers_changes_nothing(music: Path, tmp_path: Path) -> None:
    build(music, tmp_path / "one", workers=1)
    build(music, tmp_path / "two", workers=2)
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")


def test_a_killed_build_goes_on(music: Path, tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\n"
        "from musegen.data.build import build\n"
        "def kill(done, total, text):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "build(sys.argv[1], sys.argv[2], on_progress=kill)\n"
    )
    out = tmp_path / "shards"
    done = subprocess.run([sys.executable, "-c", code, str(music), str(out)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not out.exists()
    kept = list((tmp_path / ".shards.parts").glob("*.part"))
    assert len(kept) == 1
    times = kept[0].stat().st_mtime_ns
    reads: list[str] = []
    original = parts.read_item

    def counted(item: Item):
        reads.append(item.name)
        return original(item)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "read_item", counted)
        build(music, out)
    assert len(reads) == 28 - build_module.CHUNK and times
    build(music, tmp_path / "whole")
    assert files_of(out) == files_of(tmp_path / "whole")
    assert not (tmp_path / ".shards.parts").exists()


def test_a_script_needs_no_guard(music: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nfrom musegen.data.build import build\n"
        "print(build(sys.argv[1], sys.argv[2], workers=2).pieces)\n"
    )
    done = subprocess.run(
        [sys.executable, str(script), str(music), str(tmp_path / "shards")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "22\n" and done.stderr == ""


def test_shards_are_opened_or_built(music: Path, tmp_path: Path) -> None:
    out = tmp_path / "run" / "data"
    first = open_or_build(music, out)
    stamp = (out / "index.json").stat().st_mtime_ns
    assert open_or_build(music, out) == first == open_or_build(out, tmp_path / "unused")
    assert (out / "index.json").stat().st_mtime_ns == stamp
    write_midi(tune(77), music / "new.mid")
    assert len(open_or_build(music, out).pieces) == len(first.pieces) + 1
    (out / "index.json").write_text("")
    assert len(open_or_build(music, out).pieces) == len(first.pieces) + 1
    assert not (tmp_path / "unused").exists()


def test_a_damaged_or_foreign_part_is_made_again(music: Path, tmp_path: Path) -> None:
    build(music, tmp_path / "whole")
    folder = tmp_path / ".shards.parts"
    folder.mkdir()
    items = build_module.find_corpora(str(music)).corpora[0].items
    data = load_tokenizer("events").to_dict()
    job = parts.Job(items[: build_module.CHUNK], data, folder)
    (folder / parts.part_name(job)).write_bytes(b"PK half a part")
    build(music, tmp_path / "shards")
    assert files_of(tmp_path / "shards") == files_of(tmp_path / "whole")
    other = parts.Job(job.items, {**data, "name": "other"}, folder)
    assert parts.part_name(other) != parts.part_name(job)


def test_an_item_that_kills_its_reader_is_written_down(music: Path, tmp_path: Path) -> None:
    items = build_module.find_corpora(str(music)).corpora[0].items[:3]
    job = parts.Job(items, load_tokenizer("events").to_dict(), tmp_path, crashed=(1,))
    part = parts.process(job)
    assert [bool(result.reason) for result in part.results] == [True, True, False]
    assert part.results[1].reason == "the reader died on it"


def test_one_strange_file_does_not_end_the_build(
    music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = parts.read_item

    def strange(item: Item):
        if item.name == "piece01":
            raise RecursionError("deep")
        return original(item)

    monkeypatch.setattr(parts, "read_item", strange)
    report = build(music, tmp_path / "shards")
    assert {"corpus": "music", "file": "piece01", "reason": "unexpected RecursionError: deep"} in (
        report.skipped
    )


def test_old_shards_are_replaced_and_other_folders_are_not(music: Path, tmp_path: Path) -> None:
    out = tmp_path / "shards"
    build(music, out, max_files=4)
    first = files_of(out)
    report = build(music, out)
    assert files_of(out) != first and report.pieces > 4
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match="something else"):
        build(music, other)
    with pytest.raises(OutputError, match="is a file"):
        build(music, other / "thesis.txt")
    assert files_of(other) == {"thesis.txt": b"mine"}


def test_a_full_disk_leaves_nothing_half_written(
    music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args, **_facts):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("musegen.data.shards.ShardWriter.add", full)
        with pytest.raises(OutputError, match="No space left") as caught:
            build(music, tmp_path / "shards")
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".shards.parts", "music"]
    build(music, tmp_path / "shards")  # goes on from the parts
    assert not (tmp_path / ".shards.parts").exists()


def test_too_little_disk_is_said_before_anything_is_read(
    music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("musegen.data.room.free_disk", lambda _: 1000)
    with pytest.raises(OutputError, match=r"needs about \d+\.\d kB more in .*, 1.0 kB are free"):
        build(music, tmp_path / "shards")
    assert [path.name for path in tmp_path.iterdir()] == ["music"]


def test_a_disk_that_fills_up_is_said_and_the_parts_stay(
    music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        free = iter([10**9, 3000])
        patch.setattr("musegen.data.room.free_disk", lambda _: next(free))
        patch.setattr(build_module, "CHECK_DISK", 1)
        with pytest.raises(OutputError, match=r"3\.0 kB are free; .*what was read is kept"):
            build(music, tmp_path / "shards")
    assert len(list((tmp_path / ".shards.parts").glob("*.part"))) == 1
    build(music, tmp_path / "shards")
    build(music, tmp_path / "whole")
    assert files_of(tmp_path / "shards") == files_of(tmp_path / "whole")


def test_too_little_memory_is_said(
    music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("musegen.data.room.free_memory", lambda: 300 * 2**20)
        with pytest.raises(DataError, match=r"with 4 workers takes about 1\.3 GB of memory, 314"):
            build(music, tmp_path / "shards", workers=4)
        build(music, tmp_path / "shards", workers=1)

    def full(*_args, **_facts):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("musegen.data.last_pass.near_duplicates", full)
        with pytest.raises(OutputError, match=r"the memory is full; .*what was read is kept"):
            build(music, tmp_path / "shards")
    assert (tmp_path / ".shards.parts").is_dir()
    ShardSet.open(tmp_path / "shards").verify()  # those of before


def test_a_folder_that_cannot_be_read_is_a_data_error(
    music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("sub"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return scandir(path)

    monkeypatch.setattr("musegen.data.listing.os.scandir", refuse)
    with pytest.raises(DataError, match=r"folder .*sub cannot be read: Permission denied; see who"):
        build(music, tmp_path / "shards")


def test_a_file_that_is_gone_when_it_is_read_is_skipped(music: Path, tmp_path: Path) -> None:
    (music / "lost.mid").symlink_to(tmp_path / "nowhere.mid")
    report = build(music, tmp_path / "shards")
    reasons = {one["file"]: one["reason"] for one in report.skipped}
    assert "cannot be read" in reasons["lost"] and report.pieces == 22


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="kill -9")
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_build_that_is_killed_from_outside_goes_on(tmp_path: Path, workers: str) -> None:
    """kill -9 in the middle, of the parent: its workers end, and the result is the same."""
    music = folder_of(tmp_path / "music", {f"{seed:03d}.mid": tune(seed) for seed in range(300)})
    out, parts_folder = tmp_path / "shards", tmp_path / ".shards.parts"
    command = ["data", "build", str(music), "--out", str(out), "--workers", workers, "-q"]
    running = subprocess.Popen([sys.executable, "-m", "musegen", *command])
    until = time.monotonic() + 60
    while len(list(parts_folder.glob("*.part"))) < 3 and time.monotonic() < until:
        assert running.poll() is None
        time.sleep(0.005)
    children = children_of(running.pid)
    running.kill()
    assert running.wait() == -signal.SIGKILL
    assert 3 <= len(list(parts_folder.glob("*.part"))) < 19 and not out.exists()
    while any(map(alive, children)) and time.monotonic() < until:
        time.sleep(0.02)
    assert not any(map(alive, children)), "orphans"
    build(music, out, workers=2)
    build(music, tmp_path / "whole", workers=1)
    assert files_of(out) == files_of(tmp_path / "whole")
    assert not parts_folder.exists()


def children_of(pid: int) -> list[int]:
    done = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True)
    return [int(line) for line in done.stdout.split()]


def alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
def test_memory_does_not_grow_with_the_music(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four times as many files, and the peak of the build stays."""
    monkeypatch.setattr("musegen.data.spill.BUCKET", 5_000)
    monkeypatch.setattr("musegen.data.spill.HELD", 5_000)
    peaks = []
    for count in (20, 80):
        scores = {f"{seed:03d}.mid": tune(seed, 1500) for seed in range(count)}
        music = folder_of(tmp_path / f"{count}", scores)
        tracemalloc.start()
        build(music, tmp_path / "shards", workers=1)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0], peaks


def test_an_output_below_a_file_is_an_output_error(music: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        build(music, tmp_path / "file" / "shards")


@pytest.mark.skipif(sys.platform == "win32", reason="no file locks of this kind")
def test_two_builds_of_one_folder_do_not_meet(music: Path, tmp_path: Path) -> None:
    def second(_done: int, _total: int, _text: str) -> None:
        with pytest.raises(OutputError, match="another process"):
            build(music, tmp_path / "shards")

    build(music, tmp_path / "shards", on_progress=second)
    ShardSet.open(tmp_path / "shards").verify()


def test_nothing_to_build_is_a_data_error(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="holds no music"):
        build(empty, tmp_path / "shards")
    (empty / "bad.mid").write_bytes(b"no")
    with pytest.raises(DataError, match="none of the 1 files"):
        build(empty, tmp_path / "shards")
    with pytest.raises(DataError, match="no folder"):
        build(tmp_path / "nowhere", tmp_path / "shards")
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]
    with pytest.raises((TokenError, DataError, Exception), match="preset"):
        build(empty, tmp_path / "shards", preset="nothing")


def test_what_resembles_a_benchmark_stays_out_of_a_mix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten corpora of a tune each; one hymn is a test chorale in another key."""
    steps = []
    rng = np.random.default_rng(1)
    for pitch in rng.choice(SCALE, 40) + 60:
        steps += [[int(pitch), int(pitch) - 5, int(pitch) - 9, int(pitch) - 16]] * 4
    chorales = {"train": [], "valid": [], "test": [steps]}
    (tmp_path / "jsb").mkdir()
    (tmp_path / "jsb" / "jsb-chorales-16th.json").write_text(json.dumps(chorales))
    hymn = Score(
        tracks=(
            Track(
                notes=note_array(
                    (i * 480, 480, step[0] + 2, 80) for i, step in enumerate(steps[::4])
                )
            ),
        )
    )
    card = build_module.find_corpora.__globals__["load_card"]("clean")
    for seed, member in enumerate(card.members):
        folder_of(tmp_path / member.card, {"own.mid": tune(100 + seed)})
    folder_of(tmp_path / "openhymnal", {"Sleepers.mid": hymn})
    report = build("clean", tmp_path / "shards", source=tmp_path)
    assert [(one["file"], one["like"]) for one in report.resembling] == [
        ("Sleepers", "jsb/jsb-chorales-16th/test/000")
    ]
    assert report.pieces == 10
    assert any("by the card" in message for message in report.messages)
    (tmp_path / "jsb" / "jsb-chorales-16th.json").unlink()
    report = build("clean", tmp_path / "shards", source=tmp_path)
    assert report.pieces == 11 and any("nothing was left out" in m for m in report.messages)
    assert ShardSet.open(tmp_path / "shards").corpora["openhymnal"].weight == 3.0


def test_drums_are_mapped_where_the_card_says_so(tmp_path: Path) -> None:
    beats = [(i * 240, 120, (36, 58, 22)[i % 3], 90) for i in range(48)]
    drums = Score(tracks=(Track(notes=note_array(beats), is_drum=True),))
    folder_of(tmp_path / "groove", {"drummer1_session1_1.mid": drums})
    build("groove", tmp_path / "shards", source=tmp_path)
    shards = ShardSet.open(tmp_path / "shards")
    score = load_tokenizer(shards.folder).decode(shards.rows(shards.pieces[0]))
    assert set(score.tracks[0].notes["pitch"].tolist()) == {36, 43, 42}
    assert shards.pieces[0].key == ""


def test_max_files_are_spread_over_the_list(music: Path, tmp_path: Path) -> None:
    report = build(music, tmp_path / "shards", max_files=3)
    assert report.corpora["music"]["files"] == 3


# --- Fingerprints ---------------------------------------------------------------------------------


def test_the_exact_fingerprint_ignores_key_tempo_resolution_and_sound() -> None:
    mark = fingerprint(tune(1)).exact
    assert fingerprint(tune(1, transpose=-7)).exact == mark
    assert fingerprint(tune(1, ppq=96)).exact == mark
    assert fingerprint(tune(1, program=40)).exact == mark
    assert fingerprint(tune(2)).exact != mark
    assert fingerprint(with_edits(tune(1), 0.05)).exact != mark


def test_drums_do_not_transpose() -> None:
    beats = [(i * 240, 120, 36 + 2 * (i % 2), 90) for i in range(32)]
    low = Score(tracks=(Track(notes=note_array(beats), is_drum=True),))
    moved = [(start, length, pitch + 4, 90) for start, length, pitch, _ in beats]
    high = Score(tracks=(Track(notes=note_array(moved), is_drum=True),))
    assert fingerprint(low).exact != fingerprint(high).exact
    assert not len(fingerprint(low).grams) and not len(fingerprint(low).melody)


def test_versions_are_found_and_others_are_not(tmp_path: Path) -> None:
    scores = [tune(seed, 200) for seed in range(12)]
    scores.append(with_edits(tune(5, 200, transpose=3), 0.02))
    scores.append(tune(7, 100))  # the same beginning, half as long
    marks = [fingerprint(score).grams for score in scores]
    assert [(i, j) for i, j, _ in versions(marks, tmp_path)] == [(5, 12)]
    assert versions([], tmp_path) == [] == versions([marks[0][:0], marks[0]], tmp_path)


def versions(sketches: list[np.ndarray], folder: Path) -> list[tuple[int, int, float]]:
    found = list(near_duplicates(lambda: sketches, len(sketches), folder))
    assert not list(folder.iterdir())
    return found


def slow_versions(sketches: list[np.ndarray]) -> list[tuple[int, int, float]]:
    """What `near_duplicates` says of whole sketches, pair by pair."""
    values, counts = np.unique(np.concatenate(sketches), return_counts=True)
    own = [np.setdiff1d(sketch, values[counts > COMMON]) for sketch in sketches]
    found = []
    for i, j in itertools.combinations(range(len(own)), 2):
        smaller = min(len(own[i]), len(own[j]))
        shared = len(np.intersect1d(own[i], own[j]))
        if smaller >= 16 and shared >= 0.2 * 16 and shared >= 0.2 * smaller:
            found.append((i, j, shared / smaller))
    return found


@pytest.mark.parametrize("bucket", [10, 200, 4_000_000])
def test_versions_are_the_same_whatever_is_held_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bucket: int
) -> None:
    monkeypatch.setattr("musegen.data.spill.BUCKET", bucket)
    monkeypatch.setattr("musegen.data.spill.HELD", bucket)
    rng = np.random.default_rng(1)
    sketches = [np.unique(rng.integers(0, 2**63, 60, np.uint64)) for _ in range(70)]
    scale = rng.integers(0, 2**63, 5, np.uint64)  # a commonplace: in more than 48 of them
    sketches = [np.union1d(sketch, scale) for sketch in sketches]
    for new, old, count in ((1, 0, 30), (2, 0, 11), (9, 30, 60), (69, 9, 14), (40, 41, 9)):
        sketches[new] = np.union1d(sketches[new][count:], rng.choice(sketches[old], count, False))
    found = versions(sketches, tmp_path)
    assert found == slow_versions(sketches) and len(found) >= 4


def test_a_cut_sketch_still_finds_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("musegen.data.duplicates.TOTAL_GRAMS", 14 * 60)
    scores = [tune(seed, 400) for seed in range(13)]
    scores.append(with_edits(tune(5, 400), 0.01))
    marks = [fingerprint(score).grams for score in scores]
    pairs = versions(marks, tmp_path)
    assert [(i, j) for i, j, _ in pairs] == [(5, 13)]
    assert 0.5 < pairs[0][2] <= 1


def test_commonplaces_make_no_versions() -> None:
    scale = note_array((i * 240, 240, 40 + i, 80) for i in range(60))
    repeated = note_array((i * 240, 240, 60, 80) for i in range(60))
    for notes in (scale, repeated):
        assert not len(fingerprint(Score(tracks=(Track(notes=notes),))).grams)


def test_a_tune_is_known_under_other_harmony_and_rhythm() -> None:
    rng = np.random.default_rng(3)
    line = rng.choice(SCALE, 48) + 60
    plain = Score(tracks=(Track(notes=note_array((i * 480, 480, int(p), 80)
                                                 for i, p in enumerate(line))),))  # fmt: skip
    broken = [(i * 480, 240, int(p) + 2, 80) for i, p in enumerate(line)]
    broken += [(i * 480 + 240, 240, int(p) + 3, 80) for i, p in enumerate(line)]
    ornate = Score(tracks=(Track(notes=note_array(broken)),))
    melodies = [fingerprint(score).melody for score in (tune(50), plain)]
    assert resembling(melodies, [fingerprint(ornate).melody]) == {1: 0}
    assert resembling(melodies, []) == {}


def test_connected() -> None:
    assert connected(6, [(4, 5), (1, 4), (2, 3)]).tolist() == [0, 1, 2, 2, 1, 1]


# --- Splits ---------------------------------------------------------------------------------------


def items_of(groups: list[str], split: str = "") -> list[Item]:
    return [
        Item(Path("x"), f"{i}", "c", "midi", group, "", split) for i, group in enumerate(groups)
    ]


def named_splits(
    items: list[Item], rows: list[int], component: list[int], rules: dict[str, SplitRule]
) -> tuple[list[str], list[str]]:
    """The split and the group key of each item."""
    splits, keyed = assign_splits(items, rows, component, rules)
    return [SPLITS[split] for split in splits], [group_key(items[index]) for index in keyed]


def test_shares_are_kept_and_groups_hold_together() -> None:
    groups = [f"g{i // 2}" for i in range(2000)]
    rule = {"c": SplitRule(0.8, 0.1, 0.1)}
    component = [2 * (i // 2) for i in range(2000)]
    splits, keys = named_splits(items_of(groups), [10] * 2000, component, rule)
    assert 0.77 < splits.count("train") / 2000 < 0.83
    assert all(splits[i] == splits[i + 1] and keys[i] == keys[i + 1] for i in range(0, 2000, 2))
    fewer, _ = named_splits(items_of(groups[:100]), [10] * 100, component[:100], rule)
    assert fewer == splits[:100]  # more files move nobody


def test_a_small_corpus_gets_a_valid_group_and_keeps_its_largest_for_training() -> None:
    rule = {"c": SplitRule(0.9, 0.1, 0.0)}
    for count in range(2, 12):
        groups = [f"g{i}" for i in range(count)]
        rows = [1000] + [10] * (count - 1)
        splits, _ = named_splits(items_of(groups), rows, list(range(count)), rule)
        assert "valid" in splits and splits[0] == "train"
    alone, _ = named_splits(items_of(["g"]), [10], [0], {"c": SplitRule(0.0, 0.5, 0.5)})
    assert alone in (["valid"], ["test"])


def test_a_published_split_stays_as_it_is() -> None:
    items = items_of(["a"], "test") + items_of(["b"], "train") + items_of(["c"])
    splits, _ = named_splits(items, [1, 1, 1], [0, 0, 0], {"c": SplitRule()})
    assert splits == ["test", "train", "test"]


def test_place_is_a_number_of_the_name_alone() -> None:
    assert place_of("c/g") == place_of("c/g") != place_of("c/h")
    assert 0 <= place_of("") < 1


def test_every_program_has_a_range() -> None:
    assert len(INSTRUMENT_RANGES) == 128
    assert all(0 <= low < high <= 127 for low, high in INSTRUMENT_RANGES)
    assert instrument_range(40) == (55, 103)  # a violin's open G
    assert instrument_range(0) == (21, 108)
    assert instrument_range(128) == instrument_range(-1) == (0, 127)


def test_names_that_are_not_utf8(tmp_path):
    folder = tmp_path / os.fsdecode(b"alt\xfc")
    try:
        folder_of(folder, {os.fsdecode(b"F\xfcr Elise.mid"): tune(1), "b.mid": tune(2)})
    except OSError:
        # Not ours to change: macOS and some network disks refuse such names, so none can be met.
        pytest.skip("this file system takes UTF-8 names only")
    (folder / os.fsdecode(b"\xff.mid")).write_bytes(b"junk")
    report = build(folder, tmp_path / "shards", workers=1)
    assert (report.pieces, len(report.skipped)) == (2, 1)
    names = {piece.name for piece in ShardSet.open(tmp_path / "shards").pieces}
    assert names == {r"F\udcfcr Elise", "b"}
