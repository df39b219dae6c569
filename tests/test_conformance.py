"""Our examples, and real and broken files of the world (those need the shared data)."""

from __future__ import annotations

import random
import runpy
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest

from musegen.errors import MidiError
from musegen.music.check import check_midi
from musegen.music.midi import read_midi, write_midi
from musegen.music.score import Score

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.mark.parametrize("name", ["morning_waltz.mid", "night_bus.mid", "evening_hymn.mid"])
def test_examples_are_what_their_script_makes(name):
    make = runpy.run_path(str(EXAMPLES / "make_examples.py"))["EXAMPLES"][name]
    data = (EXAMPLES / name).read_bytes()
    assert data == write_midi(make()) and len(data) < 5000
    assert check_midi(data) == []
    score, report = read_midi(data)
    assert report.notes == () and len(score.bars()) == 8 and score.title and score.keys


def unpacked(archive: Path, folder: Path, count: int | None = None) -> list[Path]:
    """The MIDI files of an archive, or `count` of them, always the same ones."""
    with tarfile.open(archive) as tar:
        members = [member for member in tar.getmembers() if member.name.endswith(".mid")]
        members.sort(key=lambda member: member.name)
        if count is not None:
            members = random.Random(4).sample(members, min(count, len(members)))
        tar.extractall(folder, members, filter="data")
    return [folder / member.name for member in members]


def assert_comes_back(path: Path) -> Score:
    score, _ = read_midi(path)
    data = write_midi(score, ports=True)
    again, _ = read_midi(data)
    assert again == score, path.name
    assert write_midi(again, ports=True) == data, path.name
    defects = [defect for defect in check_midi(data) if defect.code != "ppq"]
    assert defects == [], path.name
    return score


@pytest.mark.data
def test_odd_and_broken_files(shared_data, tmp_path):
    paths = unpacked(shared_data / "benchmarks" / "conformance.tar.xz", tmp_path)
    assert len(paths) > 100
    refused = set()
    for path in paths:
        began = time.perf_counter()
        try:
            assert_comes_back(path)
        except MidiError as error:
            assert str(path) in str(error)
            refused.add(path.name)
        check_midi(path)
        assert time.perf_counter() - began < 10
    assert {name.split("__")[1] for name in refused} == {
        "test-empty-file.mid",
        "test-not-a-midi-file.mid",
    }


CORPORA = (
    "freedoom",
    "mutopia",
    "openhymnal",
    "openscore_lieder",
    "openscore_orchestra",
    "openscore_stringquartets",
    "chopin_nifc",
    "groove",
)


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("corpus", CORPORA)
def test_real_files_come_back(shared_data, tmp_path, corpus):
    for path in unpacked(shared_data / "clean" / f"{corpus}.tar.xz", tmp_path, 12):
        assert_comes_back(path)


def onsets(rows) -> np.ndarray:
    """Sorted, distinct (tick, pitch) pairs: what every reader must agree on."""
    return np.unique(np.array(sorted(rows), dtype=np.int64).reshape(-1, 2), axis=0)


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("corpus", CORPORA)
def test_symusic_and_mido_hear_the_same(shared_data, tmp_path, corpus):
    import mido
    import symusic

    for path in unpacked(shared_data / "clean" / f"{corpus}.tar.xz", tmp_path, 6):
        ours, _ = read_midi(path)
        mine = onsets((note[0], note[2]) for track in ours.tracks for note in track)
        theirs = symusic.Score(path)
        heard = onsets((note.time, note.pitch) for track in theirs.tracks for note in track.notes)
        # Notes without length: symusic keeps them, we drop those that are no drums.
        missing = set(map(tuple, heard)) - set(map(tuple, mine))
        short = {(n.time, n.pitch) for t in theirs.tracks for n in t.notes if n.duration < 1}
        assert missing <= short, path.name
        struck = set()
        for track in mido.MidiFile(path, clip=True).tracks:
            tick = 0
            for message in track:
                tick += message.time
                if message.type == "note_on" and message.velocity:
                    struck.add((tick, message.note))
        assert set(map(tuple, mine)) <= struck, path.name
        tempi = {tempo.time: tempo.mspq for tempo in theirs.tempos}  # the last one at a tick
        assert set(tempi.items()) <= {tuple(tempo) for tempo in ours.tempos}, path.name
